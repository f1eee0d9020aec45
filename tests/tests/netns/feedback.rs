//! Least response time on real traffic: a real server that answers late gets few connections.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use uvs_lab::Host;
use uvs_lab::topology::{Method, Plan};

use crate::peer::Talk;
use crate::stage::{Stage, skip, turn};

/// Lets each connection's first SYN be lost on its way in, so that the kernel answers the one that the client sends
/// after a second.
const LATE: &str = "table ip late {
    set seen { type ipv4_addr . inet_service; flags dynamic, timeout; timeout 20s; }
    chain input {
        type filter hook input priority 0;
        tcp flags & (syn | ack) == syn ip saddr . tcp sport @seen accept
        tcp flags & (syn | ack) == syn add @seen { ip saddr . tcp sport } drop
    }
}";

/// Makes a host answer late; false: this machine cannot.
fn delay(host: &Host) -> bool {
    let mut nft = Command::new("nft");
    nft.arg("-f").arg("-").stdin(Stdio::piped());
    let done = host.exec(nft).and_then(|mut nft| {
        nft.feed(LATE)?;
        nft.wait(Duration::from_secs(10))
    });
    done.is_ok_and(|status| status.success())
}

/// Clients that come four at a time; how many connections each real server got.
fn serve(stage: &Stage) -> Vec<usize> {
    const EACH: usize = 40;
    let service = stage.topology.service;
    stage
        .client()
        .run(|| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(move || {
                        for _ in 0..EACH {
                            let mut talk = Talk::open(service).unwrap();
                            talk.say(b"how long did that take?").unwrap();
                        }
                    });
                }
            });
        })
        .unwrap();
    let shares = stage.shares();
    assert_eq!(shares.iter().sum::<usize>(), 4 * EACH, "none is lost");
    shares
}

#[test]
fn a_real_server_that_answers_late_gets_few_connections() {
    let Some(_turn) = turn() else { return };
    let plan = Plan { scheduler: "lrt".to_owned(), ..Plan::default() };
    let mut stage = Stage::with(Method::Nat, &plan);
    let late = 1;
    if !delay(&stage.topology.real_servers[late].host) {
        skip("nft, and a kernel with nf_tables");
        return;
    }
    let shares = serve(&stage);
    println!("{shares:?}, number {late} answers after a second");
    let others = shares.iter().sum::<usize>() - shares[late];
    // It is tried by each client at a time at most, and then not for some half-lives.
    assert!(shares[late] >= 1 && shares[late] * 8 < others, "{shares:?}");
    let service = format!("tcp {}", stage.topology.service);
    let labels = [("service", service.as_str())];
    let mut read = |name: &str| stage.director().metric(name, &labels);
    // Each connection but the last ones was told of, those of the late one twice.
    let events = read("uvs_scheduler_events_total");
    assert!(events >= shares.iter().sum::<usize>() as u64 - 4, "{events} events");
    assert_eq!(read("uvs_scheduler_failures_total") + read("uvs_service_events_lost_total"), 0);
}
