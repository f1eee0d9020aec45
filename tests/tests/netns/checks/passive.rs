//! What is seen of the connections of clients takes a server out of service that drops their SYNs, or resets them.

use std::process::Command;
use std::thread;
use std::time::Duration;

use uvs_lab::Host;

use super::{ONE, SERVICE, Scene, TWO, checked, listens};
use crate::peer::Talk;
use crate::stage::{SOON, eventually, turn};

/// A rule on a real server against what comes for its port.
fn drops(host: &Host, arguments: &[&str]) {
    let mut command = Command::new("nft");
    command.args(arguments);
    let status = host.exec(command).unwrap().wait(SOON).unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
}

/// Clients ask until the server weighs that; what becomes of them is all the same.
fn clients_until(scene: &Scene, destination: &str, weight: u64) {
    eventually(&format!("clients make {destination} weigh {weight}"), || {
        if scene.weight(destination) == weight {
            return Some(());
        }
        let ask = || {
            let asking: Vec<_> = (0..8).map(|_| thread::spawn(|| drop(Talk::open(SERVICE)))).collect();
            thread::sleep(Duration::from_millis(50));
            asking
        };
        // Those that hang are left to their own.
        drop(scene.hosts.client.run(ask).unwrap());
        None
    });
}

#[test]
fn a_server_that_drops_or_resets_what_clients_begin_goes_out_of_service() {
    let Some(_turn) = turn() else { return };
    let config = checked("").replace(
        "type = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"90ms\"\nrise = 2\nfall = 2\n",
        "type = \"passive\"\nfailures = 3\ninhibit = \"300ms\"\ninhibit_max = \"1s\"\ntimeout = \"500ms\"\n",
    );
    let mut scene = Scene::new(&config);
    scene.weighs(ONE, 1);
    scene.weighs(TWO, 1);
    scene.all_served(10);
    let passed = [("destination", ONE), ("check", "web"), ("outcome", "passed")];
    assert_eq!(scene.running.metric("uvs_check_results_total", &passed), 0, "nothing is probed");

    // Nobody listens: each SYN is answered by a reset.
    scene.peers[0] = None;
    clients_until(&scene, ONE, 0);
    scene.all_served(10);
    let log = scene.running.get().log();
    assert!(log.contains("connections in a row failed; tried again in"), "{log}");
    scene.peers[0] = listens(&scene.hosts.servers[0], 11);
    scene.weighs(ONE, 1);
    scene.all_served(10);

    // A firewall swallows them: clients send their SYN again after a second.
    let server = &scene.hosts.servers[0];
    drops(server, &["add", "table", "ip", "shut"]);
    drops(server, &["add chain ip shut in { type filter hook input priority 0; }"]);
    drops(server, &["add rule ip shut in tcp dport 8080 drop"]);
    clients_until(&scene, ONE, 0);
    scene.all_served(10);
    drops(server, &["delete", "table", "ip", "shut"]);
    scene.weighs(ONE, 1);
    scene.all_served(10);
}
