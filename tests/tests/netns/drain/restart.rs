//! A rolling restart of all real servers, under load. `UVS_TEST_RATE` is how many connections a second that is, and
//! `UVS_TEST_TRANSFERS` how many transfers are under way meanwhile; a machine that others use too has a sample.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::*;

/// A short request is answered by so many bytes.
const SHORT: u32 = 64;
/// A transfer is a chunk of so many bytes...
const CHUNK: u32 = 16 << 10;
/// ...so often...
const CHUNKS: u32 = 40;
/// ...with so much time in between: two seconds and more.
const PAUSE: Duration = Duration::from_millis(50);
/// No exchange takes longer.
const WITHIN: Duration = Duration::from_secs(120);
/// Requests under way at once; a machine that is busier than that gets no more meanwhile.
const AT_ONCE: u64 = 1000;

/// A real server: who sends a length gets so many bytes, in chunks where those are many, and the end.
struct Server {
    stop: Arc<Notify>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(host: &Host, last: u8) -> Self {
        // A SYN that comes twice to a full queue gets two answers by cookies, and its client a reset.
        host.set_sysctl("net.ipv4.tcp_syncookies", "0").unwrap();
        host.set_sysctl("net.core.somaxconn", "4096").unwrap();
        let address = SocketAddr::from(([192, 168, 20, last], NAT_PORT));
        let (stop, served) = (Arc::new(Notify::new()), Arc::<AtomicU64>::default());
        let (until, count) = (Arc::clone(&stop), Arc::clone(&served));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = host.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await.unwrap();
                ready.send(()).unwrap();
                let accept = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        count.fetch_add(1, Relaxed);
                        // Who goes away is not missed here; the client says so if it was not him.
                        tokio::spawn(async move { drop(answer(stream).await) });
                    }
                };
                // All of it ends there, whoever is being answered.
                tokio::select! { () = accept => {}, () = until.notified() => {} }
            });
        });
        is_ready.recv().unwrap();
        Self { stop, served, thread: Some(thread.unwrap()) }
    }

    fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The byte at a place of any answer.
fn byte(at: usize) -> u8 {
    u8::try_from(at % 251).expect("less than 251")
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    let length = stream.read_u32().await?;
    let mut sent = 0;
    while sent < length {
        let size = (length - sent).min(CHUNK);
        let bytes: Vec<u8> = (sent..sent + size).map(|at| byte(at as usize)).collect();
        stream.write_all(&bytes).await?;
        sent += size;
        if sent < length {
            sleep(PAUSE).await;
        }
    }
    // The client closes last, so that it is the server that keeps the port for a while.
    stream.shutdown().await?;
    let _ = stream.read_u8().await;
    Ok(())
}

/// One exchange of a client, every byte of which is compared.
async fn exchange(length: u32) -> Result<()> {
    let mut stream = TcpStream::connect(SERVICE).await.context("it is not let in")?;
    let client = stream.local_addr()?;
    talk(&mut stream, length).await.with_context(|| client.to_string())
}

async fn talk(stream: &mut TcpStream, length: u32) -> Result<()> {
    stream.write_u32(length).await.context("it cannot ask")?;
    let mut heard = Vec::with_capacity(length as usize);
    stream
        .read_to_end(&mut heard)
        .await
        .with_context(|| format!("cut off at {} of {length}", heard.len()))?;
    ensure!(heard.len() == length as usize, "it ends at {} of {length}", heard.len());
    let wrong = heard.iter().enumerate().find(|(at, it)| **it != byte(*at));
    ensure!(wrong.is_none(), "a wrong byte: {wrong:?}");
    Ok(())
}

#[derive(Default)]
struct Count {
    stop: AtomicBool,
    under_way: AtomicU64,
    requests: AtomicU64,
    transfers: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Count {
    async fn one(self: Arc<Self>, length: u32) {
        self.under_way.fetch_add(1, Relaxed);
        let done = if length == SHORT { &self.requests } else { &self.transfers };
        match timeout(WITHIN, exchange(length)).await {
            Ok(Ok(())) => drop(done.fetch_add(1, Relaxed)),
            Ok(Err(error)) => self.failed.lock().unwrap().push(format!("{length} bytes: {error:#}")),
            Err(_) => self.failed.lock().unwrap().push(format!("{length} bytes: no end in time")),
        }
        self.under_way.fetch_sub(1, Relaxed);
    }
}

/// Clients, until it is stopped.
struct Storm {
    count: Arc<Count>,
    began: std::time::Instant,
    thread: JoinHandle<()>,
}

impl Storm {
    fn start(client: &Host, rate: u64, transfers: u64) -> Self {
        let count = Arc::<Count>::default();
        let of_all = Arc::clone(&count);
        let work = move || {
            // Each gets a port of its own for longer.
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "2048 65000").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(storm(of_all, rate, transfers));
        };
        Self { count, began: std::time::Instant::now(), thread: client.spawn(work).unwrap() }
    }

    fn requests(&self) -> u64 {
        self.count.requests.load(Relaxed)
    }

    fn transfers(&self) -> u64 {
        self.count.transfers.load(Relaxed)
    }

    /// So many requests and transfers more have ended well, or some did not.
    fn goes_on(&self, requests: u64, transfers: u64) {
        let (before, long) = (self.requests(), self.transfers());
        let deadline = std::time::Instant::now() + 2 * WITHIN;
        while self.requests() < before + requests || self.transfers() < long + transfers {
            assert_eq!(*self.count.failed.lock().unwrap(), Vec::<String>::new());
            assert!(std::time::Instant::now() < deadline, "the load goes on");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it with what is under way. Nothing has failed.
    fn ends_unharmed(self) {
        let took = self.began.elapsed();
        let (requests, transfers) = (self.requests(), self.transfers());
        self.count.stop.store(true, Relaxed);
        self.thread.join().unwrap();
        let failed = self.count.failed.lock().unwrap();
        println!(
            "{requests} requests ({:.0} a second) and {transfers} transfers, {} failed",
            requests as f64 / took.as_secs_f64(),
            failed.len()
        );
        let first: Vec<_> = failed.iter().take(10).collect();
        assert!(failed.is_empty(), "{} of {requests} and {transfers}: {first:#?}", failed.len());
    }
}

async fn storm(count: Arc<Count>, rate: u64, transfers: u64) {
    let long: Vec<_> = (0..transfers)
        .map(|_| {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                while !count.stop.load(Relaxed) {
                    Arc::clone(&count).one(CHUNK * CHUNKS).await;
                }
            })
        })
        .collect();
    let (began, mut made) = (Instant::now(), 0_u128);
    let mut ticks = interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !count.stop.load(Relaxed) {
        ticks.tick().await;
        let due = began.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        while made < due {
            made += 1;
            if count.under_way.load(Relaxed) < AT_ONCE + transfers {
                tokio::spawn(Arc::clone(&count).one(SHORT));
            }
        }
    }
    for one in long {
        one.await.unwrap();
    }
    while count.under_way.load(Relaxed) > 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// As docs/drain.md has it: 0 requests fail.
#[test]
fn all_servers_are_restarted_under_transfers_and_new_connections_and_none_fails() {
    let Some(_turn) = turn() else { return };
    let (rate, transfers) = (number("UVS_TEST_RATE", 50), number("UVS_TEST_TRANSFERS", 10));
    let hosts = hosts();
    let mut servers = [(0, 11), (1, 12)].map(|(at, last)| Some(Server::start(&hosts.servers[at], last)));
    let served = |server: &Option<Server>| server.as_ref().unwrap().served();
    let scene = Scene { running: Running::start(&hosts.director, &config()), hosts, peers: None };
    let storm = Storm::start(&scene.hosts.client, rate, transfers);
    storm.goes_on(rate, transfers);
    for (at, last) in [(0, 11), (1, 12)] {
        let name = format!("tcp/10.0.0.100:80/192.168.20.{last}:8080");
        scene.says(&["drain", &name, "--deadline", "5m", "--reset"]);
        let before = served(&servers[at]);
        storm.goes_on(rate, 1);
        assert_eq!(served(&servers[at]), before, "it gets no more");
        // What is left of it ends with it, as of a process that is killed.
        servers[at] = None;
        storm.goes_on(rate, 1);
        servers[at] = Some(Server::start(&scene.hosts.servers[at], last));
        scene.says(&["undrain", &name]);
        scene.says(&["wait", &name, "--up", "--timeout", "20s"]);
        storm.goes_on(rate, transfers);
        let deadline = std::time::Instant::now() + 2 * WITHIN;
        while served(&servers[at]) == 0 {
            assert!(std::time::Instant::now() < deadline, "it serves again");
            storm.goes_on(1, 0);
        }
    }
    storm.ends_unharmed();
}
