//! A drain's deadline by each forwarding method, through the director and through the flow cache in the kernel.

use uvs_lab::topology::{Method, Plan};

use super::*;
use crate::attach::without_bridge;
use crate::stage::{Stage, topology, with_keys};

/// Established connections at a port, as the kernel of a host sees them.
fn established(host: &Host, port: u16) -> usize {
    let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap()).unwrap();
    let local = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|it| it.ends_with(&local)) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_ours).count()
}

fn both_ends_are_reset(method: Method, accelerated: bool) {
    let case = format!("{method}, accelerated: {accelerated}");
    let topology = topology(method, &Plan::default());
    let config = match accelerated {
        true => with_keys(&without_bridge(&topology.config), "accelerate=on"),
        false => topology.config.clone(),
    };
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let open = || stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    let mut talks: Vec<Talk> = (0..6).map(|_| open()).collect();
    let passed = |running: &Running| running.metric("uvs_flow_cache_packets_total", &[]);
    if accelerated {
        // A direction opens when nothing of it is left in userspace, or after a second.
        let before = passed(stage.director());
        eventually("packets pass in the kernel", || {
            talks.iter_mut().for_each(|talk| talk.say(b"hello").unwrap());
            (passed(stage.director()) > before + 24).then_some(())
        });
    }
    let server = &stage.topology.real_servers[0];
    let (host, port) = (server.host.clone(), server.listen.port());
    let name = format!("tcp/{service}/{}:{port}", server.address);
    let ours = |talk: &Talk| talk.server == "rs1";
    assert!(talks.iter().any(ours) && established(&host, port) > 0, "{case}");
    let output = Command::new(uvs())
        .args(["drain", &name, "--deadline", "500ms", "--reset", "--socket"])
        .arg(stage.director().get().socket())
        .output()
        .unwrap();
    assert!(output.status.success(), "{case}: {output:?}");
    for talk in &mut talks {
        if ours(talk) {
            let error = talk.hear(b"?", Duration::from_secs(20)).unwrap_err();
            assert_eq!(kind_of(&error), Some(std::io::ErrorKind::ConnectionReset), "{case}: {error:#}");
        } else {
            talk.say(b"it goes on").unwrap();
        }
    }
    eventually("the server has lost them, too", || (established(&host, port) == 0).then_some(()));
}

#[test]
fn at_the_deadline_both_ends_are_reset_by_each_method() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        both_ends_are_reset(method, false);
    }
}

#[test]
fn at_the_deadline_both_ends_are_reset_that_speak_by_the_flow_cache() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        both_ends_are_reset(method, true);
    }
}
