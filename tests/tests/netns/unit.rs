//! The director as the unit of the Debian package runs it: as a user of its own, with the capabilities that the unit
//! names and no others.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use uvs_lab::Host;
use uvs_lab::director::{Decapsulator, Director};
use uvs_lab::topology::{Method, Plan};

use crate::attach::without_bridge;
use crate::layer3;
use crate::lifecycle::Shape;
use crate::peer::{Peer, Talk, stream_both_ways};
use crate::stage::{NAT_PORT, eventually, in_mode, topology, turn, uvs, with_keys};

/// Nobody has this number.
const USER: u32 = 61_184;
const STRANGER: u32 = 61_185;
const LENGTH: u64 = 4 << 20;

fn unit() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/package/uvs.service");
    fs::read_to_string(file).unwrap()
}

/// What the unit says of a setting.
fn says(setting: &str) -> BTreeSet<String> {
    let unit = unit();
    let values = unit.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// A folder that everybody may read, with the program, where the director's user has folders of his own.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        fs::set_permissions(sandbox.folder.path(), Permissions::from_mode(0o755)).unwrap();
        let program = sandbox.at("program");
        // The folders that it was built in are root's alone, perhaps.
        fs::hard_link(uvs(), &program).or_else(|_| fs::copy(uvs(), &program).map(drop)).unwrap();
        for name in ["state", "cache"] {
            fs::create_dir(sandbox.at(name)).unwrap();
            chown(sandbox.at(name), Some(USER), Some(USER)).unwrap();
        }
        let capabilities = says("AmbientCapabilities");
        let names = capabilities.iter().map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase());
        let set: String = names.map(|name| format!(",+{name}")).collect();
        // Udev lets everybody open the device file; this host may have none that did so.
        let text = format!(
            "#!/bin/sh\nexport STATE_DIRECTORY={state} CACHE_DIRECTORY={cache}\n\
             exec unshare --mount sh -c 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && \
             exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs --pdeathsig KILL \
             --bounding-set=-all{set} --inh-caps=-all{set} --ambient-caps=-all{set} {program} \"$@\"' uvs \"$@\"\n",
            state = sandbox.at("state").display(),
            cache = sandbox.at("cache").display(),
            program = program.display(),
        );
        fs::write(sandbox.script(), text).unwrap();
        fs::set_permissions(sandbox.script(), Permissions::from_mode(0o755)).unwrap();
        sandbox
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self) -> PathBuf {
        self.at("uvs")
    }

    fn file(&self) -> PathBuf {
        self.at("uvs.toml")
    }

    fn write(&self, config: &str) {
        fs::write(self.file(), config).unwrap();
        fs::set_permissions(self.file(), Permissions::from_mode(0o644)).unwrap();
    }

    fn start(&self, host: &Host, config: &str) -> Director {
        self.write(config);
        Director::start_with_file(host, &self.script(), &self.file()).unwrap()
    }

    /// `uvs status` of a user who is in that group, too.
    fn status(&self, director: &Director, group: u32) -> Output {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &STRANGER.to_string(), "--regid", &STRANGER.to_string()]);
        command.args(["--groups", &group.to_string()]).arg(self.at("program"));
        command.args(["status", "--socket"]).arg(director.socket()).output().unwrap()
    }
}

/// A check of TCP's service by a program, which tells what capabilities it has.
fn checked(config: &str) -> String {
    let check = "[[check]]\nname = \"rights\"\ntype = \"exec\"\n\
                 command = [\"/bin/grep\", \"-E\", \"Uid|CapPrm|CapEff|CapAmb\", \"/proc/self/status\"]\n\
                 interval = \"500ms\"\n\n[[service]]\nchecks = [\"rights\"]";
    config.replacen("[[service]]", check, 1)
}

fn reload(sandbox: &Sandbox, director: &mut Director, config: &str) {
    sandbox.write(config);
    director.process().signal(Signal::SIGHUP).unwrap();
    eventually("the reload is done", || {
        let page = director.metrics().unwrap();
        assert!(page.contains("uvs_config_reloads_total{result=\"failed\"} 0"), "{}", director.log());
        page.contains("uvs_config_reloads_total{result=\"done\"} 1").then_some(())
    });
}

/// It is that user, with these capabilities; whom it starts has none of them, and its group may speak to it.
fn has_few_rights(sandbox: &Sandbox, director: &Director) {
    let status = fs::read_to_string(format!("/proc/{}/status", director.id())).unwrap();
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n")), "{status}");
    let numbers = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39)];
    let wanted = says("AmbientCapabilities");
    let bits: u64 = wanted.iter().map(|name| 1 << numbers.iter().find(|(it, _)| it == name).unwrap().1).sum();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t{bits:016x}\n")), "{set} is {bits:x}: {status}");
    }
    assert!(
        status.contains("CapAmb:\t0000000000000000\n") && status.contains("NoNewPrivs:\t1\n"),
        "{status}"
    );
    let text = eventually("a program has told its rights", || {
        let text = String::from_utf8(sandbox.status(director, USER).stdout).unwrap();
        text.contains("CapEff").then_some(text)
    });
    let told = text.lines().find(|line| line.contains("CapEff")).unwrap();
    assert!(told.contains(&USER.to_string()) && told.matches("0000000000000000").count() == 3, "{told}");
    let refused = sandbox.status(director, STRANGER);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("may not be used"), "{refused:?}");
}

fn is_served(client: &Host, service: SocketAddr) {
    let talk = || Talk::open(service).and_then(|mut talk| talk.say(b"hello"));
    eventually("a server is in service", || client.run(talk).unwrap().ok());
    client.run(|| stream_both_ways(service, 7, LENGTH, || ()).unwrap()).unwrap();
}

#[test]
fn the_unit_names_one_user_and_what_he_needs() {
    let set = says("AmbientCapabilities");
    assert_eq!(set, says("CapabilityBoundingSet"), "nobody else has more");
    assert_eq!(set, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"].map(str::to_owned).into());
    assert_eq!(says("User"), ["uvs".to_owned()].into());
    assert_eq!(says("NoNewPrivileges"), ["yes".to_owned()].into());
    // Else a record of what was done to the host would be gone with a director that was killed.
    assert_eq!(says("RuntimeDirectory"), ["uvs".to_owned()].into());
    assert_eq!(says("RuntimeDirectoryPreserve"), ["yes".to_owned()].into());
    let install =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/package/debian/postinst"));
    assert!(install.unwrap().contains("adduser --system --group"), "the package makes the user");
}

#[test]
fn every_method_works_for_a_user_of_its_own() {
    let Some(_turn) = turn() else { return };
    let sandbox = Sandbox::new();
    for method in Method::ALL {
        for accelerated in [false, true] {
            let topology = topology(method, &Plan::default());
            let config = match accelerated {
                true => with_keys(&without_bridge(&topology.config), "accelerate=on"),
                false => in_mode(&topology.config),
            };
            let config = checked(&config);
            let peers: Vec<Peer> =
                topology.real_servers.iter().map(|server| Peer::start(&server.host, server.listen)).collect();
            let _decapsulators: Vec<Decapsulator> = match method {
                Method::Tunnel => {
                    let start = |server| Decapsulator::start(server, &uvs()).unwrap();
                    topology.real_servers.iter().map(start).collect()
                }
                Method::Nat | Method::Direct => Vec::new(),
            };
            let before = Shape::of(&topology.director);
            let mut director = sandbox.start(&topology.director, &config);
            let client = &topology.clients[0].host;
            is_served(client, topology.service);
            has_few_rights(&sandbox, &director);
            let other = config.replacen("weight = 1\n", "weight = 3\n", 1);
            assert_ne!(other, config);
            reload(&sandbox, &mut director, &other);
            is_served(client, topology.service);
            if accelerated {
                let page = director.metrics().unwrap();
                let passed = page.lines().find_map(|line| line.strip_prefix("uvs_flow_cache_packets_total "));
                assert!(
                    passed.unwrap().parse::<u64>().unwrap() > 0,
                    "{method}: nothing passed in the kernel"
                );
            }
            let streams: Vec<_> = peers.iter().flat_map(Peer::streams).collect();
            assert!(streams.iter().all(Result::is_ok), "{method}: {streams:?}");
            assert!(director.stop().unwrap().success());
            assert_eq!(Shape::of(&topology.director), before, "{method}: the host is as it was");
        }
    }
}

/// The settings of the kernel as a router are written, and taken back, with CAP_NET_ADMIN alone.
#[test]
fn a_tun_device_works_for_a_user_of_its_own() {
    let Some(_turn) = turn() else { return };
    let sandbox = Sandbox::new();
    let layer3::Hosts { client, director: host, servers: [one, two], .. } = &layer3::hosts();
    host.set_sysctl("net.ipv4.ip_forward", "0").unwrap();
    let _peers = [(one, 11), (two, 12)]
        .map(|(host, last)| Peer::start(host, SocketAddr::from(([192, 168, 20, last], NAT_PORT))));
    let before = Shape::of(host);
    let director = sandbox.start(host, &checked(&in_mode(&layer3::config())));
    is_served(client, (Ipv4Addr::new(10, 0, 0, 100), 80).into());
    has_few_rights(&sandbox, &director);
    assert_eq!(host.sysctl("net.ipv4.ip_forward").unwrap().as_deref(), Some("1"));
    assert!(director.stop().unwrap().success());
    assert_eq!(Shape::of(host), before, "the host is as it was");
}
