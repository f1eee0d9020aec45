//! Probes against servers on the loopback that do all that servers do.

use core::net::SocketAddr;
use core::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uvs_check::net::{Echo, System, Target};
use uvs_check::outcome::{Outcome, Verdict};
use uvs_check::probe::Prober;
use uvs_check::spec::{Kind, Pattern, ProbeSpec, Schedule, Talk};
use uvs_director::Duration;

mod probe_tests {
    mod agent;
    mod dns;
    mod exec;
    mod file;
    mod grpc;
    mod http;
    mod https;
    mod tcp;
    mod udp;
}

const TIMEOUT: Duration = Duration::from_millis(400);

fn prober() -> Prober {
    Prober::new(Arc::new(System))
}

async fn probe(kind: Kind, addr: SocketAddr) -> Verdict {
    outcome(kind, addr).await.verdict
}

async fn outcome(kind: Kind, addr: SocketAddr) -> Outcome {
    let schedule = Schedule::every(Duration::from_secs(1), TIMEOUT);
    let spec = ProbeSpec { kind, target: Target::direct(addr), schedule };
    let began = Instant::now();
    let outcome = prober().probe(&spec).await;
    // Whatever the server does; more than the timeout only as far as this machine is slow.
    assert!(began.elapsed() < TIMEOUT * 5, "it took {:?}", began.elapsed());
    outcome
}

/// As long as anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a server that answers, whenever it gets to that.
async fn patient(kind: Kind, addr: SocketAddr) -> Outcome {
    let schedule = Schedule::every(PATIENCE, PATIENCE);
    prober().probe(&ProbeSpec { kind, target: Target::direct(addr), schedule }).await
}

/// Of a server that does what ends in `reason`, which is nothing in particular where that is not sure.
async fn ends(kind: Kind, addr: SocketAddr, reason: &str) -> Verdict {
    match reason.is_empty() || reason.starts_with("no end") {
        true => probe(kind, addr).await,
        false => patient(kind, addr).await.verdict,
    }
}

fn passes(verdict: &Verdict, text: &str) {
    assert!(matches!(verdict, Verdict::Pass(found) if found.contains(text)), "{text:?} in {verdict:?}");
}

fn fails(verdict: &Verdict, text: &str) {
    assert!(matches!(verdict, Verdict::Fail(found) if found.contains(text)), "{text:?} in {verdict:?}");
}

fn unmade(verdict: &Verdict, text: &str) {
    assert!(matches!(verdict, Verdict::Unmade(found) if found.contains(text)), "{text:?} in {verdict:?}");
}

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that does that with each connection.
async fn server(serve: impl Fn(TcpStream) -> Served + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let addr = listener.local_addr().expect("it has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

/// One that hears a request and says that, and then does `end`.
async fn says(pieces: &'static [&'static [u8]], end: End) -> SocketAddr {
    server(move |mut stream| {
        Box::pin(async move {
            let mut request = [0; 1024];
            if end != End::SpeaksFirst {
                let _ = stream.read(&mut request).await;
            }
            for piece in pieces {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            match end {
                End::Closes => {}
                End::Resets => stream.set_zero_linger().expect("linger can be set"),
                End::Holds | End::SpeaksFirst => tokio::time::sleep(Duration::from_secs(60)).await,
                End::Repeats => {
                    let last = pieces.last().copied().unwrap_or_default();
                    while stream.write_all(last).await.is_ok() {}
                }
                End::Dribbles => {
                    while stream.write_all(b"a").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                }
            }
        })
    })
    .await
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Closes,
    Resets,
    Holds,
    SpeaksFirst,
    /// The last piece, for ever.
    Repeats,
    /// A byte now and then.
    Dribbles,
}

#[tokio::test]
async fn a_ping_is_answered_and_silence_is_not() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let kind = Kind::Ping(Echo { payload: 56, do_not_fragment: false });
    match probe(kind, local).await {
        Verdict::Unmade(why) => {
            assert!(std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(), "{why}");
            println!("skipped: {why}");
        }
        verdict => passes(&verdict, "replied"),
    }
}
