//! The host changes under a running director, which keeps it as it set it up, follows what it cannot keep, and tells.
//!
//! ```text
//!   client eth0 --- eth0 [ br-eth0 or tcx ] c0 [ director ] r0 [ br-eth1 or tcx ] eth1 --- eth0 rs1
//! ```

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_lab::topology::mac;

use crate::attach::{Lab, V4, at};
use crate::peer::{Peer, Talk};
use crate::stage::{NAT_PORT, Running, eventually, turn, with_keys};

/// How frames get between the cards and the director.
const MODES: [&str; 3] = ["bridge", "tcx", "tcx and the flow cache"];

/// The lab's config in one of the modes.
fn config(lab: &Lab, mode: &str) -> String {
    let config = lab.config();
    match mode {
        "bridge" => ["eth0", "eth1"].iter().fold(config, |config, card| {
            // What says how it is accelerated keeps its bridge in all of `UVS_TEST_MODE`.
            let bridge =
                format!("accelerate = \"off\"\nbridge = {{ name = \"br-{card}\", ports = [\"{card}\"] }}\n");
            config.replace(&format!("attach = \"tcx\"\nlink = \"{card}\"\n"), &bridge)
        }),
        "tcx" => with_keys(&config, "accelerate=off"),
        _ => with_keys(&config, "accelerate=on"),
    }
}

fn repairs(running: &Running) -> u64 {
    running.metric("uvs_interface_repairs_total", &[])
}

fn is(running: &Running, interface: &str, state: &str) -> bool {
    running.metric("uvs_interface_state", &[("interface", interface), ("state", state)]) == 1
}

/// Waits until a client gets through again, by a connection that was there and by a new one.
fn works(lab: &Lab, talk: &mut Talk, why: &str) {
    talk.say(why.as_bytes()).unwrap_or_else(|error| panic!("{why}: {error:#}"));
    let open = || Talk::open(at(V4.vip, 80)).and_then(|mut talk| talk.say(b"new"));
    lab.client.run(open).unwrap().unwrap_or_else(|error| panic!("{why}: {error:#}"));
}

/// Lays the cable between the client and the director's host anew.
fn lay_cable(lab: &Lab) {
    let end = |host, last| End { host, name: "eth0", mac: mac(1, last) };
    connect(end(&lab.client, 2), end(&lab.director, 9)).unwrap();
    lab.give(&lab.client, "eth0", V4.client);
}

#[test]
fn what_others_take_away_is_set_up_again() {
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let lab = Lab::new(&V4);
        let _server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
        let running = Running::start(&lab.director, &config(&lab, mode));
        let mut talk = lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap()).unwrap();
        let net = || lab.director.net();
        works(&lab, &mut talk, "at first");
        assert!(is(&running, "c0", "up") && is(&running, "r0", "up"), "{mode}");
        type Act<'a> = (&'a str, Box<dyn Fn() + 'a>);
        let mut acts: Vec<Act<'_>> = vec![
            ("a TAP is deleted, and the other interface goes on", Box::new(|| net().delete("r0").unwrap())),
            ("both are", Box::new(|| ["c0", "r0"].iter().for_each(|name| net().delete(name).unwrap()))),
            ("a TAP is down", Box::new(|| net().down("c0").unwrap())),
            ("a card is down", Box::new(|| net().down("eth1").unwrap())),
        ];
        if mode == "bridge" {
            acts.push(("a TAP is out of its bridge", Box::new(|| net().unplug("c0").unwrap())));
            acts.push(("so is a card", Box::new(|| net().unplug("eth1").unwrap())));
            acts.push(("a bridge is deleted", Box::new(|| net().delete("br-eth0").unwrap())));
            acts.push((
                "a bridge is made anew",
                Box::new(|| {
                    net().delete("br-eth1").unwrap();
                    // The director may have been faster.
                    let _ = net().add_bridge("br-eth1", mac(2, 77));
                }),
            ));
        }
        for (what, act) in acts {
            let before = repairs(&running);
            act();
            eventually(what, || (repairs(&running) > before).then_some(()));
            works(&lab, &mut talk, &format!("{mode}: {what}"));
            assert!(running.get().log().contains("set up again"), "{mode}: {what} is told");
        }
        lab.director.net().delete("eth0").unwrap();
        eventually("the loss of a card is shown", || is(&running, "c0", "degraded").then_some(()));
        assert!(is(&running, "r0", "up"), "{mode}: the other interface is as it was");
        lay_cable(&lab);
        eventually("its return is noticed", || is(&running, "c0", "up").then_some(()));
        works(&lab, &mut talk, &format!("{mode}: another card"));
    }
}

/// Takes everything of one connection, and answers with how many bytes that was.
fn sink(host: &Host, address: SocketAddr) -> JoinHandle<()> {
    let listener = host.run(|| TcpListener::bind(address)).unwrap().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut buffer, mut sum) = (vec![0; 1 << 16], 0);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                read => sum += read as u64,
            }
        }
        stream.write_all(&sum.to_be_bytes()).unwrap();
    })
}

/// Sends so many bytes to the service, and `halfway` does something in between.
fn upload(lab: &Lab, length: usize, halfway: impl FnOnce() + Send) -> u64 {
    lab.client
        .run(|| {
            let mut stream = TcpStream::connect(at(V4.vip, 80)).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&vec![7; length / 2]).unwrap();
            halfway();
            stream.write_all(&vec![7; length - length / 2]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut sum = [0; 8];
            stream.read_exact(&mut sum).unwrap();
            u64::from_be_bytes(sum)
        })
        .unwrap()
}

/// A link that takes less than the interface: path MTU discovery has to find out, whichever way frames take.
#[test]
fn the_mtu_of_a_link_is_followed() {
    const LENGTH: usize = 3 << 20;
    let Some(_turn) = turn() else { return };
    for mode in MODES {
        let lab = Lab::new(&V4);
        // From the start: the server's own card takes more, so the client is not told by it.
        lab.director.net().set_mtu("eth1", 1450).unwrap();
        let running = Running::start(&lab.director, &config(&lab, mode));
        let mtu = || running.metric("uvs_interface_mtu_bytes", &[("interface", "r0")]);
        assert_eq!(mtu(), 1450, "{mode}: known when it is ready");
        let server = sink(&lab.real_server, at(V4.real_server, NAT_PORT));
        assert_eq!(upload(&lab, LENGTH, || ()), LENGTH as u64, "{mode}: from the start");
        server.join().unwrap();

        let server = sink(&lab.real_server, at(V4.real_server, NAT_PORT));
        let narrow = || {
            lab.director.net().set_mtu("eth1", 1300).unwrap();
            eventually("it is noticed", || (mtu() == 1300).then_some(()));
        };
        assert_eq!(upload(&lab, LENGTH, narrow), LENGTH as u64, "{mode}: lowered meanwhile");
        server.join().unwrap();
        lab.director.net().set_mtu("eth1", 9000).unwrap();
        eventually("it never exceeds that of the interface", || (mtu() == 1500).then_some(()));
    }
}

#[test]
fn what_a_full_queue_loses_is_counted() {
    const DATAGRAMS: u64 = 4000;
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let _server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let mut running = Running::start(&lab.director, &config(&lab, "bridge"));
    let lost = |running: &Running| {
        let labels = [("interface", "c0"), ("device", "c0"), ("role", "device"), ("direction", "receive")];
        running.metric("uvs_device_dropped_total", &labels)
    };
    // So that the client knows the way.
    lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap().say(b"hello").unwrap()).unwrap();
    assert_eq!(lost(&running), 0);
    running.signal(Signal::SIGSTOP);
    lab.client
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..DATAGRAMS {
                socket.send_to(&[0; 100], at(V4.vip, 80)).unwrap();
            }
        })
        .unwrap();
    running.signal(Signal::SIGCONT);
    let lost =
        eventually("what the TAP had no room for is counted", || Some(lost(&running)).filter(|&it| it > 0));
    let read =
        || running.metric("uvs_interface_frames_total", &[("interface", "c0"), ("direction", "receive")]);
    eventually("every datagram is in a counter", || (read() + lost >= DATAGRAMS).then_some(()));
    assert!(lost < DATAGRAMS, "{lost} of {DATAGRAMS}");
}

/// A name of a host's network namespace, as `ip netns` gives one. Dropped, it is taken away, as by `ip netns del`.
struct Name(PathBuf);

impl Name {
    fn give(host: &Host) -> Self {
        let path = PathBuf::from(format!("/run/netns/uvs-test-{}", std::process::id()));
        fs::create_dir_all("/run/netns").unwrap();
        File::create(&path).unwrap();
        let source = format!("/proc/self/fd/{}", host.as_fd().as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self(path)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&self.0).unwrap();
    }
}

#[test]
fn a_deleted_namespace_is_told_and_is_the_end_when_no_link_is_left() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let _server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let name = Name::give(&lab.director);
    let mut running = Running::start(&lab.director, &config(&lab, "bridge"));
    let mut talk = lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap()).unwrap();
    drop(name);
    eventually("it is told", || running.get().log().contains("was deleted; nothing but").then_some(()));
    works(&lab, &mut talk, "what has links goes on");
    for card in ["eth0", "eth1"] {
        lab.director.net().delete(card).unwrap();
    }
    assert!(!running.wait().success(), "a supervisor is to notice");
}
