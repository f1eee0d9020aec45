//! Order: of a flow that enters the cache, leaves it and comes back while it is full of packets, none overtakes
//! another.
//!
//! ```text
//!   [ client: 10.0.0.2 ]--[ eth0 .. c0 (TAP) director, a thread a TAP, r0 (TAP) .. eth1 ]--[ server: 192.168.10.11 ]
//! ```

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use uvs_attach::{Attachments, CachePlan, OBJECT, Pair};
use uvs_device::{Device, DeviceSpec, Kind, Poller, StopHandle};
use uvs_director::flow_cache::FlowCache;
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{
    Change, DestinationSpec, Forwarding, InterfaceSpec, Limits, Link, MacAddr, Protocol, SchedulerSpec,
    ServiceKey, ServiceSpec, SourceCheck,
};
use uvs_director::{Director, Frame, Outbox, PortId, Verdict};
use uvs_lab::Host;
use uvs_lab::net::{End, connect};

use crate::lab::{SOON, alone, object};

const TAPS: [&str; 2] = ["c0", "r0"];
const CARDS: [&str; 2] = ["eth0", "eth1"];
const DIRECTOR: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 1, 1])];
const PEER: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 2]), MacAddr([2, 0, 0, 0, 1, 0x11])];
const ADDRESS: [&str; 2] = ["10.0.0.2", "192.168.10.11"];
const GATEWAY: [&str; 2] = ["10.0.0.1", "192.168.10.1"];
const VIP: &str = "10.0.0.100";
const PORT: u16 = 4000;
/// Datagrams that a flow begins with, as fast as a worker can just about keep up with.
const BURST: u32 = 1024;
const AT_ONCE: u32 = 16;
const PAUSE: Duration = Duration::from_micros(100);
const FLOWS: u16 = 30;
/// Queues of a TAP, and whether it offloads.
const TAPS_OF: [(u16, bool); 4] = [(1, false), (1, true), (2, false), (2, true)];
/// A server's answer to a burst is a burst.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Frames that a TAP holds for a worker, its `txqueuelen`. And those that a worker takes at once.
const QUEUED: usize = 2000;
const BATCH: usize = 64;
/// A worker that has too much to do takes so many frames, and rests for so long.
const WEARY_BATCH: usize = 16;
const WEARY_REST: Duration = Duration::from_millis(2);
/// What a stream has on its way at most: nothing is lost for want of room.
const WINDOW: usize = 64 << 10;
const STREAM: u64 = 300 << 20;

/// The director at work.
struct Routing {
    director: Arc<Director>,
    attachments: Attachments,
    peers: [Host; 2],
    stop: StopHandle,
    workers: Vec<JoinHandle<()>>,
    zero: Instant,
    /// The workers have too much to do.
    weary: Arc<AtomicBool>,
}

fn service(protocol: Protocol) -> ServiceKey {
    ServiceKey::new(protocol, SocketAddr::new(VIP.parse().unwrap(), PORT))
}

fn destination() -> DestinationSpec {
    DestinationSpec::new(SocketAddr::new(ADDRESS[1].parse().unwrap(), PORT), Forwarding::Nat)
}

impl Routing {
    async fn start(host: &Host, peers: [Host; 2], (queues, offload): (u16, bool)) -> Self {
        for side in 0..2 {
            let mac = MacAddr([0xfe, 0, 0, 0, u8::try_from(side).unwrap(), 9]);
            let peer = &peers[side];
            connect(End { host, name: CARDS[side], mac }, End { host: peer, name: "eth0", mac: PEER[side] })
                .unwrap();
            peer.net().add_address("eth0", format!("{}/24", ADDRESS[side]).parse().unwrap()).unwrap();
            peer.net().add_default_route(GATEWAY[side].parse().unwrap()).unwrap();
        }
        let taps: Arc<[Device]> = TAPS
            .iter()
            .zip(DIRECTOR)
            .map(|(name, mac)| {
                let kind = Kind::Tap { mac };
                let name = (*name).to_owned();
                Device::open(&DeviceSpec { name, kind, mtu: 1500, queues, offload, tunnel_gso: false })
                    .unwrap()
            })
            .collect();
        let pair = |side: usize| Pair {
            device: TAPS[side].to_owned(),
            mac: DIRECTOR[side],
            mtu: 1500,
            link: CARDS[side].to_owned(),
            port: PortId(u16::try_from(side).unwrap()),
            cached: true,
        };
        let (zero, plan) = (Instant::now(), CachePlan::new(1000, uvs_director::Instant::ZERO));
        let object = object("attach.bpf.o", OBJECT);
        let attachments =
            Attachments::with_object(vec![pair(0), pair(1)], Some(plan), &object).await.unwrap();
        let cache = Arc::clone(attachments.cache().unwrap()) as Arc<dyn FlowCache>;
        let director = Director::new(Limits::default(), 7, Arc::new(NativeOnly)).with_flow_cache(cache);
        let director = Arc::new(director);
        let stop = StopHandle::new().unwrap();
        let weary = Arc::<AtomicBool>::default();
        let mut routing = Self { director, attachments, peers, stop, workers: Vec::new(), zero, weary };
        routing.configure();
        for (side, queue) in (0..2).flat_map(|side| (0..usize::from(queues)).map(move |queue| (side, queue)))
        {
            let (director, taps, stop, weary) = (
                Arc::clone(&routing.director),
                Arc::clone(&taps),
                routing.stop.clone(),
                Arc::clone(&routing.weary),
            );
            routing
                .workers
                .push(thread::spawn(move || work(&director, &taps, (side, queue), &stop, (zero, &weary))));
        }
        routing
    }

    fn apply(&self, change: Change) {
        self.director.apply(change, uvs_director::Instant::ZERO + self.zero.elapsed()).unwrap();
    }

    fn configure(&self) {
        let port = |side: usize| PortId(u16::try_from(side).unwrap());
        let interface = |side: usize, addresses: &[&str]| InterfaceSpec {
            port: port(side),
            name: TAPS[side].to_owned(),
            link: Link::Ethernet(DIRECTOR[side]),
            mtu: 1500,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            source_check: SourceCheck::Loose,
        };
        self.apply(Change::SetNetwork {
            interfaces: vec![
                interface(0, &["10.0.0.1/24", "10.0.0.100/32"]),
                interface(1, &["192.168.10.1/24"]),
            ],
            routes: vec![],
        });
        for side in 0..2 {
            self.apply(Change::SetNeighbor {
                port: port(side),
                addr: ADDRESS[side].parse().unwrap(),
                mac: PEER[side],
            });
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            self.apply(Change::AddService(ServiceSpec::new(service(protocol), SchedulerSpec::named("wlc"))));
            self.apply(Change::AddDestination(service(protocol), destination()));
        }
    }

    /// Packets that passed in the kernel.
    fn passed(&self) -> u64 {
        self.attachments.cache().unwrap().status().packets
    }

    /// Withdraws all flows again and again until told to stop.
    fn unsettle(&self, every: Duration, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
        let (director, stop) = (Arc::clone(&self.director), Arc::clone(stop));
        thread::spawn(move || {
            let mut times = 0;
            while !stop.load(Relaxed) {
                thread::sleep(every);
                director.links_moved();
                times += 1;
            }
            times
        })
    }
}

impl Drop for Routing {
    fn drop(&mut self) {
        self.stop.stop();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Keeps the calling thread on a CPU: a sender that moves to another one may overtake itself in a veth, with or without
/// a cache.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu % thread::available_parallelism().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// What a worker of the binary does. It is not on the CPU of those whose packets it has.
fn work(
    director: &Director,
    taps: &[Device],
    (side, number): (usize, usize),
    stop: &StopHandle,
    (zero, weary): (Instant, &AtomicBool),
) {
    stay_on(1 - side);
    let queue = |port: PortId| &taps[usize::from(port.0)].queues()[number];
    let own = PortId(u16::try_from(side).unwrap());
    let mut poller = Poller::new([queue(own)], stop).unwrap();
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    while !poller.wait(None).unwrap().stopped() {
        let now = uvs_director::Instant::ZERO + zero.elapsed();
        director.catch_up(now, &mut out);
        let mut handled = 0;
        let is_weary = weary.load(Relaxed);
        let most = if is_weary { WEARY_BATCH } else { BATCH };
        while handled < most && queue(own).receive(&mut frame).unwrap() {
            handled += 1;
            if let Verdict::Transmit(port) = director.handle(own, &mut frame, now, &mut out) {
                // A queue that is full, as on a busy machine, loses what does not fit, and that in no other order.
                let _ = queue(port).send(&frame);
            }
            for (port, frame) in out.drain() {
                let _ = queue(port).send(&frame);
            }
        }
        director.sent(&mut out);
        if is_weary {
            thread::sleep(WEARY_REST);
        }
    }
}

fn with_routing(taps: (u16, bool), body: impl FnOnce(&Routing) + Send) {
    let hosts = ["host", "client", "server"].map(|name| Host::new(name).unwrap());
    let [host, client, server] = hosts;
    host.clone()
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            stay_on(0);
            runtime.block_on(async { body(&Routing::start(&host, [client, server], taps).await) });
        })
        .unwrap();
}

/// What came late: after one that was sent later.
fn late(numbers: &[u32]) -> usize {
    let mut highest = None;
    numbers
        .iter()
        .filter(|&&number| {
            highest.replace(highest.map_or(number, |it: u32| it.max(number))).is_some_and(|it| number < it)
        })
        .count()
}

fn socket(host: &Host, address: SocketAddr) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).unwrap();
    setsockopt(&socket, sockopt::SndBufForce, &RECEIVE_BUFFER).unwrap();
    socket
}

/// Sends what a flow begins with.
fn burst(send: impl Fn(u32)) {
    for number in 0..BURST {
        send(number);
        if number % AT_ONCE == AT_ONCE - 1 {
            let until = Instant::now() + PAUSE;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
}

/// A UDP server: to the first datagram of a client it answers a burst, to those that want it with what they say.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeMap<SocketAddr, Vec<u32>>>>,
}

impl Server {
    fn start(host: &Host, answers_all: bool) -> Self {
        let socket = socket(host, SocketAddr::new(ADDRESS[1].parse().unwrap(), PORT));
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            stay_on(1);
            let mut heard = BTreeMap::<SocketAddr, Vec<u32>>::new();
            let mut bytes = [0; 2000];
            while !stopped.load(Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut bytes) else { continue };
                let numbers = heard.entry(client).or_default();
                if answers_all {
                    let _ = socket.send_to(&bytes[..length], client);
                } else if numbers.is_empty() {
                    burst(|number| drop(socket.send_to(&number.to_be_bytes(), client)));
                }
                numbers.push(u32::from_be_bytes(bytes[..4].try_into().unwrap()));
            }
            heard
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) -> BTreeMap<SocketAddr, Vec<u32>> {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// All numbers that come to a socket until it is silent for a moment.
fn hear(socket: &UdpSocket) -> Vec<u32> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut heard, mut bytes) = (Vec::new(), [0; 2000]);
    while socket.recv(&mut bytes).is_ok() {
        heard.push(u32::from_be_bytes(bytes[..4].try_into().unwrap()));
    }
    heard
}

/// Flows of a run: `UVS_TEST_FLOWS` says how many, if it is set.
fn flows() -> u16 {
    std::env::var("UVS_TEST_FLOWS").map_or(FLOWS, |it| it.parse().unwrap())
}

/// A client whose port is no other's: of 60 ports that the kernel draws two are the same now and then, and the second
/// flow between the same ends would look as if the first began again.
fn client(routing: &Routing, number: u16) -> UdpSocket {
    let socket = socket(&routing.peers[0], SocketAddr::new(ADDRESS[0].parse().unwrap(), PORT + number));
    routing.peers[0].run(|| socket.connect((VIP, PORT)).unwrap()).unwrap();
    socket
}

#[test]
fn a_flow_that_begins_with_a_burst_stays_in_order_both_ways() {
    alone(|| {
        stay_on(0);
        for taps in TAPS_OF {
            with_routing(taps, |routing| {
                let server = Server::start(&routing.peers[1], false);
                let mut answers = Vec::new();
                for number in 0..flows() {
                    let client = client(routing, number);
                    burst(|number| assert_eq!(client.send(&number.to_be_bytes()).unwrap(), 4));
                    answers.push(hear(&client));
                }
                let asked = server.end();
                let count = |flows: &[&Vec<u32>]| flows.iter().filter(|flow| late(flow) > 0).count();
                let (asked, answers): (Vec<_>, Vec<_>) = (asked.values().collect(), answers.iter().collect());
                let full =
                    |flows: &[&Vec<u32>]| flows.iter().filter(|flow| flow.len() == BURST as usize).count();
                let most = usize::from(flows() / 2);
                assert!(full(&asked) > most && full(&answers) > most, "most of it arrives");
                assert_eq!((count(&asked), count(&answers)), (0, 0), "of {} flows, {taps:?}", flows());
                assert!(routing.passed() > u64::from(BURST), "some pass in the kernel: {}", routing.passed());
            });
        }
    });
}

#[test]
fn a_flow_that_is_withdrawn_and_placed_again_stays_in_order_both_ways() {
    alone(|| {
        stay_on(0);
        for taps in [(1, false), (2, false)] {
            with_routing(taps, |routing| {
                let server = Server::start(&routing.peers[1], true);
                let stop = Arc::<AtomicBool>::default();
                let unsettled = routing.unsettle(Duration::from_millis(20), &stop);
                let client = client(routing, 0);
                let receiver = client.try_clone().unwrap();
                let hearing = thread::spawn(move || hear(&receiver));
                let (end, mut number) = (Instant::now() + Duration::from_secs(3), 0_u32);
                while Instant::now() < end {
                    for _ in 0..32 {
                        client.send(&number.to_be_bytes()).unwrap();
                        number += 1;
                    }
                    thread::sleep(Duration::from_micros(300));
                }
                stop.store(true, Relaxed);
                let (times, answers, asked) =
                    (unsettled.join().unwrap(), hearing.join().unwrap(), server.end());
                let asked = asked.values().next().unwrap();
                assert!(times > 10 && asked.len() > 1000, "{times} changes, {} datagrams", asked.len());
                assert_eq!((late(asked), late(&answers)), (0, 0), "of {} and {}", asked.len(), answers.len());
                let passed = routing.passed();
                assert!(
                    passed > asked.len() as u64 / 10,
                    "{passed} of {} passed in the kernel",
                    asked.len() + answers.len()
                );
            });
        }
    });
}

/// A worker that is never done with a flow: there is no moment at which it could enter the cache in order. After a
/// second it does all the same, and overtakes what waits at the worker then, no more, and not again.
#[test]
fn a_flow_that_is_never_quiet_is_out_of_order_once_and_by_no_more_than_a_queue() {
    alone(|| {
        stay_on(0);
        with_routing((1, false), |routing| {
            routing.weary.store(true, Relaxed);
            let server = Server::start(&routing.peers[1], false);
            let client = client(routing, 0);
            let (end, mut number) = (Instant::now() + 6 * SOON, 0_u32);
            // More than the worker takes, until a good deal has passed in the kernel.
            while routing.passed() < 5 * QUEUED as u64 {
                assert!(Instant::now() < end, "{} of {number} passed in the kernel", routing.passed());
                for _ in 0..WEARY_BATCH + 4 {
                    // A queue of the client's own that is full loses a datagram, and that in no other order.
                    let _ = client.send(&number.to_be_bytes());
                    number += 1;
                }
                thread::sleep(WEARY_REST);
            }
            // What is left at the worker.
            routing.weary.store(false, Relaxed);
            thread::sleep(Duration::from_millis(200));
            let heard = server.end();
            let heard = heard.values().next().unwrap();
            assert!(late(heard) <= QUEUED + BATCH, "{} of {} came late", late(heard), heard.len());
        });
    });
}

/// Segments that came out of order to a host, and those that it sent again.
fn disorder(host: &Host) -> (u64, u64) {
    let read = |file: &str, name: &str| -> u64 {
        let text =
            host.run(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap()).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        let pair = rows.chunks(2).find(|pair| pair[0].split_whitespace().any(|word| word == name)).unwrap();
        let at = pair[0].split_whitespace().position(|word| word == name).unwrap();
        pair[1].split_whitespace().nth(at).unwrap().parse().unwrap()
    };
    (read("netstat", "TCPOFOQueue"), read("snmp", "RetransSegs"))
}

#[test]
fn a_stream_that_is_withdrawn_and_placed_again_stays_in_order() {
    alone(|| {
        stay_on(0);
        for taps in TAPS_OF {
            with_routing(taps, |routing| {
                let at = SocketAddr::new(ADDRESS[1].parse().unwrap(), PORT);
                let listener = routing.peers[1].run(|| TcpListener::bind(at).unwrap()).unwrap();
                setsockopt(&listener, sockopt::RcvBufForce, &RECEIVE_BUFFER).unwrap();
                let sink = thread::spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    let (mut bytes, mut total) = (vec![0; 1 << 20], 0_u64);
                    loop {
                        match stream.read(&mut bytes).unwrap() {
                            0 => return total,
                            length => total += length as u64,
                        }
                    }
                });
                let stop = Arc::<AtomicBool>::default();
                let unsettled = routing.unsettle(Duration::from_millis(10), &stop);
                let mut stream = routing.peers[0]
                    .run(|| {
                        TcpStream::connect_timeout(&SocketAddr::new(VIP.parse().unwrap(), PORT), SOON)
                            .unwrap()
                    })
                    .unwrap();
                setsockopt(&stream, sockopt::SndBuf, &WINDOW).unwrap();
                let chunk = vec![7; 1 << 20];
                for _ in 0..STREAM >> 20 {
                    stream.write_all(&chunk).unwrap();
                }
                drop(stream);
                assert_eq!(sink.join().unwrap(), STREAM);
                stop.store(true, Relaxed);
                let times = unsettled.join().unwrap();
                let (late, again) = (disorder(&routing.peers[1]).0, disorder(&routing.peers[0]).1);
                assert!(times > 5 && routing.passed() > 1000, "{times} changes, {} passed", routing.passed());
                assert!(
                    late == 0,
                    "{taps:?}: {late} segments late after {times} changes, {again} sent again"
                );
            });
        }
    });
}
