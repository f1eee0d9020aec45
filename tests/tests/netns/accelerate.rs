//! Established flows that pass in the kernel (`accelerate`): what the director still knows of them, and what happens to
//! them when things change.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use uvs_lab::director::Director;
use uvs_lab::topology::{Method, Plan};

use crate::attach::{Lab, V4, at, with_capabilities, without_bridge};
use crate::peer::{PATIENCE, Peer, Talk, ask_datagram, kind_of, stream_both_ways};
use crate::removal::Load;
use crate::stage::{NAT_PORT, Running, Stage, eventually, topology, turn, with_keys, with_weight, without};

const LENGTH: u64 = 10 << 20;
/// Nothing heard for this long is silence.
const SILENCE: Duration = Duration::from_millis(1500);

/// The network of a method whose established flows pass in the kernel.
fn stage(method: Method, plan: &Plan) -> Stage {
    let topology = topology(method, plan);
    let config = accelerated(&topology.config);
    Stage::on(topology, &config)
}

fn accelerated(config: &str) -> String {
    with_keys(&without_bridge(config), "accelerate=on")
}

/// Packets that passed in the kernel.
fn passed(running: &Running) -> u64 {
    running.metric("uvs_flow_cache_packets_total", &[])
}

/// Frames that the director itself has received.
fn received(running: &Running) -> u64 {
    running.metric("uvs_interface_frames_total", &[("direction", "receive")])
}

#[test]
fn a_stream_passes_by_the_director_and_is_counted() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let mut stage = stage(method, &Plan::default());
        let service = stage.topology.service;
        // The first connection may be the one that asks for MAC addresses.
        stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
        // A direction opens when nothing of it is left in userspace, or after a second: on a machine that is busy
        // enough a stream may be over by then, and so it is tried again.
        let mut tries = 0;
        let (seen, flown) = loop {
            let before = (received(stage.director()), passed(stage.director()));
            stage.client().run(|| stream_both_ways(service, 7, LENGTH, || ()).unwrap()).unwrap();
            tries += 1;
            let streams = eventually("the real server has compared all", || {
                let streams: Vec<_> = stage.peers.iter().flat_map(Peer::streams).collect();
                (streams.len() >= tries).then_some(streams)
            });
            assert!(streams.iter().all(Result::is_ok), "{method}: {streams:?}");
            let (seen, flown) = (received(stage.director()) - before.0, passed(stage.director()) - before.1);
            if seen < flown || tries == 5 {
                break (seen, flown);
            }
        };
        assert!(
            flown > 100 && seen < flown,
            "{method}: {flown} packets passed, the director received {seen}"
        );
        let [bytes_in, bytes_out] = ["in", "out"].map(|direction| bytes(&mut stage, direction));
        assert!(bytes_in > LENGTH, "{method}: {bytes_in} bytes in");
        assert_eq!(bytes_out > LENGTH, method == Method::Nat, "{method}: {bytes_out} bytes out");
        stage.client().run(|| ask_datagram(service, 1400).unwrap()).unwrap();
        eventually("nothing is active", || (active(&mut stage) == 0).then_some(()));
    }
}

fn bytes(stage: &mut Stage, direction: &str) -> u64 {
    stage.director().metric("uvs_bytes_total", &[("direction", direction)])
}

fn active(stage: &mut Stage) -> u64 {
    let service = format!("tcp {}", stage.topology.service);
    stage.director().metric("uvs_destination_active_connections", &[("service", &service)])
}

#[test]
fn a_connection_lives_while_its_packets_pass_and_ends_when_they_do_not() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    let config = accelerated(&topology.config) + "\n[timeouts]\ntcp = 3\n";
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let mut talk = stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    talk.say(b"first").unwrap();
    let (flown, before) = (passed(stage.director()), received(stage.director()));
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        talk.say(b"still here").unwrap();
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(active(&mut stage), 1, "it is alive");
    assert!(passed(stage.director()) > flown + 30, "its packets pass in the kernel");
    assert!(received(stage.director()) < before + 12, "and not by the director");
    eventually("it is forgotten in its time", || (active(&mut stage) == 0).then_some(()));
    eventually("so it is in the kernel", || {
        (stage.director().metric("uvs_flow_cache_flows", &[]) == 0).then_some(())
    });
    assert_eq!(stage.director().metric("uvs_connections", &[]), 0);
}

#[test]
fn a_removed_real_server_gets_nothing_more_and_a_quiesced_one_keeps_what_it_has() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let mut stage = stage(method, &Plan::default());
        let config = accelerated(&stage.topology.config);
        let service = stage.topology.service;
        let mut talks: Vec<Talk> =
            (0..6).map(|_| stage.client().run(|| Talk::open(service).unwrap()).unwrap()).collect();
        talks.iter_mut().for_each(|talk| talk.say(b"before").unwrap());
        let gone = talks[0].server.clone();
        let address = stage.topology.real_servers[number_of(&gone)].address.to_string();
        stage.director().reload(&with_weight(&config, &address, 0));
        talks.iter_mut().for_each(|talk| talk.say(b"quiesced").unwrap());
        stage.director().reload(&without(&config, &address));
        for talk in &mut talks {
            talk.send(b"after").unwrap();
            match (talk.server == gone, talk.hear(b"after", SILENCE)) {
                (true, Err(error)) => assert!(
                    matches!(kind_of(&error), Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
                    "{method}: {error:#}"
                ),
                (false, Ok(())) => {}
                (gone, result) => panic!("{method}: {}, gone: {gone}: {result:?}", talk.server),
            }
        }
        // It comes back, and with it the connections that have gone on trying.
        stage.director().reload(&config);
        for talk in talks.iter_mut().filter(|talk| talk.server == gone) {
            talk.hear(b"after", PATIENCE).unwrap();
            talk.say(b"again").unwrap();
        }
    }
}

fn number_of(server: &str) -> usize {
    server.strip_prefix("rs").unwrap().parse::<usize>().unwrap() - 1
}

#[test]
fn two_hundred_reloads_under_load_lose_and_misdeliver_nothing() {
    let Some(_turn) = turn() else { return };
    let mut stage = stage(Method::Nat, &Plan::default());
    let config = accelerated(&stage.topology.config);
    let service = stage.topology.service;
    let address = stage.topology.real_servers[1].address.to_string();
    let mut talk = stage.client().run(|| Talk::open(service).unwrap()).unwrap();
    let mut load = Load::start(stage.client(), service);
    for number in 0..200_u32 {
        let config =
            if number % 2 == 0 { with_weight(&config, &address, 2 + number) } else { config.clone() };
        stage.director().reload(&config);
        talk.say(&number.to_be_bytes()).unwrap();
    }
    load.go_on(10);
    for one in load.end() {
        one.result.unwrap();
    }
    assert!(passed(stage.director()) > 400);
}

#[test]
fn what_has_no_room_passes_the_director() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    let config = accelerated(&topology.config) + "\n[limits]\nflows = 4\n";
    let mut stage = Stage::on(topology, &config);
    let service = stage.topology.service;
    let mut talks: Vec<Talk> =
        (0..30).map(|_| stage.client().run(|| Talk::open(service).unwrap()).unwrap()).collect();
    for round in 0..3_u8 {
        talks.iter_mut().for_each(|talk| talk.say(&[round; 100]).unwrap());
    }
    assert!(stage.director().metric("uvs_flow_cache_refused_total", &[]) > 0);
    let flows = stage.director().metric("uvs_flow_cache_flows", &[]);
    assert!((2..=8).contains(&flows), "{flows} flows are placed where there is room for 8");
    assert_eq!(active(&mut stage), 30);
    drop(talks);
    eventually("there is room again", || {
        (stage.director().metric("uvs_flow_cache_flows", &[]) == 0).then_some(())
    });
    stage.client().run(|| stream_both_ways(service, 7, LENGTH, || ()).unwrap()).unwrap();
    assert!(passed(stage.director()) > 100);
}

/// Maps of the flow cache in the kernel.
fn maps() -> usize {
    aya::maps::loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| {
            ["flows4", "flows6", "next_hops", "tallies"].contains(&map.name_as_str().unwrap_or_default())
        })
        .count()
}

#[test]
fn however_it_ends_no_map_is_left_and_no_packet_goes_astray() {
    let Some(_turn) = turn() else { return };
    let before = maps();
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let mut running = Running::start(&lab.director, &with_keys(&lab.config(), "accelerate=on"));
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        lab.exercise(&lab.client, V4.client, &server);
        assert!(passed(&running) > 100);
        assert!(maps() > before);
        let mut talk = lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap()).unwrap();
        talk.say(b"before").unwrap();
        running.stop(signal);
        eventually("the kernel has taken the maps away", || (maps() == before).then_some(()));
        talk.send(b"to nobody").unwrap();
        assert!(talk.hear(b"to nobody", SILENCE).is_err(), "nobody forwards it");
        running.start_again();
    }
    drop(running);
    drop(server);
}

#[test]
fn flows_move_with_a_card_that_goes_and_comes_back() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let running = Running::start(&lab.director, &with_keys(&lab.config(), "accelerate=on"));
    lab.exercise(&lab.client, V4.client, &server);
    for _ in 0..3 {
        let flown = passed(&running);
        lab.replace_card(&running);
        lab.exercise(&lab.client, V4.client, &server);
        assert!(passed(&running) > flown + 100, "what is opened afterwards passes in the kernel again");
    }
    // A link that only blinks: what is open goes on.
    let mut talk = lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap()).unwrap();
    for round in 0..5_u8 {
        talk.say(&[round]).unwrap();
        lab.director.net().down("eth1").unwrap();
        talk.send(b"meanwhile").unwrap();
        lab.director.net().up("eth1").unwrap();
        talk.hear(b"meanwhile", PATIENCE).unwrap();
    }
    lab.exercise(&lab.client, V4.client, &server);
}

#[test]
fn a_neighbour_with_another_card_gets_its_packets_there() {
    let Some(_turn) = turn() else { return };
    let lab = Lab::new(&V4);
    let _server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let running = Running::start(&lab.director, &with_keys(&lab.config(), "accelerate=on"));
    let mut talk = lab.client.run(|| Talk::open(at(V4.vip, 80)).unwrap()).unwrap();
    talk.say(b"before").unwrap();
    let flown = passed(&running);
    lab.real_server.net().set_mac("eth0", uvs_lab::topology::mac(2, 0x77)).unwrap();
    // It tells the link, as hosts do that are given an address.
    lab.real_server.set_sysctl("net.ipv4.conf.eth0.arp_notify", "1").unwrap();
    lab.real_server.net().down("eth0").unwrap();
    lab.real_server.net().up("eth0").unwrap();
    lab.real_server.net().add_default_route(V4.director[1].parse().unwrap()).unwrap();
    talk.say(b"after").unwrap();
    talk.say(b"and on").unwrap();
    eventually("its packets pass in the kernel again", || {
        talk.say(b"more").unwrap();
        (passed(&running) > flown + 4).then_some(())
    });
}

/// A verifier that knows CAP_PERFMON forgives more, and root has it.
#[test]
fn cap_bpf_and_cap_net_admin_are_enough_for_it() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let uvs = with_capabilities(&folder, "-all,+net_admin,+bpf");
    let lab = Lab::new(&V4);
    let server = Peer::start(&lab.real_server, at(V4.real_server, NAT_PORT));
    let config = with_keys(&lab.config(), "accelerate=on");
    let director = Director::start(&lab.director, &uvs, &config).unwrap();
    lab.exercise(&lab.client, V4.client, &server);
    let page = director.metrics().unwrap();
    let line = page.lines().find(|line| line.starts_with("uvs_flow_cache_packets_total ")).unwrap();
    assert!(line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() > 100, "{line}");
    assert!(director.stop().unwrap().success());
}

#[test]
fn where_it_cannot_be_had_auto_goes_on_without_and_says_so() {
    let Some(_turn) = turn() else { return };
    let topology = topology(Method::Nat, &Plan::default());
    let config = with_keys(&topology.config, "accelerate=auto");
    let mut stage = Stage::on(topology, &config);
    let service: SocketAddr = stage.topology.service;
    stage.client().run(|| Talk::open(service).unwrap().say(b"hello").unwrap()).unwrap();
    let log = stage.director().get().log();
    assert!(log.contains("not accelerated: it has no link of its own (attach = \"tcx\")"), "{log}");
    assert_eq!(passed(stage.director()), 0);
}

/// A bpffs of a test's own, with a folder for pins.
struct Bpffs(tempfile::TempDir);

impl Bpffs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        Self(folder)
    }

    fn pin(&self) -> String {
        format!("\n[flow_cache]\npin = \"{}/uvs\"\n", self.0.path().display())
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.0.path().join("uvs")).map_or(0, Iterator::count)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn pinned_flows_go_on_without_a_director_and_are_taken_over() {
    let Some(_turn) = turn() else { return };
    for method in Method::ALL {
        let (before, bpffs) = (maps(), Bpffs::new());
        let topology = topology(method, &Plan::default());
        let config = accelerated(&topology.config) + &bpffs.pin();
        let mut stage = Stage::on(topology, &config);
        let service = stage.topology.service;
        let mut talks: Vec<Talk> =
            (0..6).map(|_| stage.client().run(|| Talk::open(service).unwrap()).unwrap()).collect();
        // The first ones asked for MAC addresses; the next segment of each finds its place.
        for round in 0..2_u8 {
            talks.iter_mut().for_each(|talk| talk.say(&[round]).unwrap());
        }
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            stage.director().stop(signal);
            for talk in &mut talks {
                talk.say(b"nobody decides").unwrap();
            }
            stage.director().start_again();
            let log = stage.director().get().log();
            assert!(log.contains("found=6 adopted=6"), "{method}, after {signal}:\n{log}");
            assert_eq!(active(&mut stage), 6, "{method}");
            for talk in &mut talks {
                talk.say(b"as ever").unwrap();
                talk.say(b"and in the kernel again").unwrap();
            }
            assert_eq!(stage.shares().iter().sum::<usize>(), 6, "nobody was asked to begin anew");
            // Their places are open once nothing of theirs is left in userspace.
            eventually("they pass in the kernel", || {
                talks.iter_mut().for_each(|talk| talk.say(b"and again").unwrap());
                (passed(stage.director()) > 6).then_some(())
            });
        }
        drop(talks);
        eventually("their ends are seen", || (active(&mut stage) == 0).then_some(()));
        stage.director().stop(Signal::SIGTERM);
        assert!(bpffs.files() > 2, "flows and programs are pinned");
        drop(bpffs);
        eventually("with the folder all goes", || (maps() == before).then_some(()));
    }
}

/// The folder may be somebody else's, too; and a director that does not start leaves no program that leads nowhere.
#[test]
fn pins_of_others_stay_and_a_start_that_fails_leaves_none() {
    let Some(_turn) = turn() else { return };
    let bpffs = Bpffs::new();
    let topology = topology(Method::Nat, &Plan::default());
    let config = accelerated(&topology.config) + &bpffs.pin();
    let mut running = Running::start(&topology.director, &config);
    let ours = bpffs.files();
    let file = |name: &str| bpffs.0.path().join("uvs").join(name);
    // A map of another program, and a link that this configuration no longer has.
    let mut any = std::fs::read_dir(file("")).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let map = any.find(|path| path.to_string_lossy().contains("flows4-")).unwrap();
    let map = aya::maps::MapData::from_pin(map).unwrap();
    map.pin(file("somebody_elses")).unwrap();
    map.pin(file("link_ingress-gone0")).unwrap();
    running.stop(Signal::SIGTERM);
    running.start_again();
    assert_eq!(bpffs.files(), ours + 1);
    assert!(file("somebody_elses").exists());
    running.stop(Signal::SIGTERM);

    let fresh = Bpffs::new();
    let broken = accelerated(&topology.config).replace("link = \"eth1\"", "link = \"none9\"") + &fresh.pin();
    let before = maps();
    Director::start(&topology.director, &crate::stage::uvs(), &broken).unwrap_err();
    assert_eq!(fresh.files(), 0);
    eventually("its maps are gone", || (maps() == before).then_some(()));
}

#[test]
fn a_folder_for_pins_that_is_none_is_refused() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let topology = topology(Method::Nat, &Plan::default());
    let pin = format!("\n[flow_cache]\npin = \"{}/uvs\"\n", folder.path().display());
    let config = accelerated(&topology.config) + &pin;
    let error = Director::start(&topology.director, &crate::stage::uvs(), &config).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("it is not in a bpffs; mount one (mount -t bpf bpf /sys/fs/bpf)"), "{text}");
    assert!(!folder.path().join("uvs").exists());
}
