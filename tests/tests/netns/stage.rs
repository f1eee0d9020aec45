//! A network with its director and servers, and what is asked of them.

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use uvs_lab::director::{Decapsulator, Director};
use uvs_lab::topology::{Method, Plan, Topology};
use uvs_lab::{Host, privilege};

use crate::attach::without_bridge;
use crate::peer::Peer;

/// How long whatever should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Where NAT's real servers listen: on another port than the service.
pub(crate) const NAT_PORT: u16 = 8080;

/// The right to run, one test at a time; `None`: the test is skipped, which was said.
pub(crate) fn turn() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if !privilege::has_capabilities().unwrap() {
        skip("root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW)");
        return None;
    }
    if let Err(error) = privilege::check_tun() {
        skip(&format!("root and /dev/net/tun: {error}"));
        return None;
    }
    // A test that failed has nothing of what the next one uses.
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Says that a test is skipped for want of `what`, or fails where that must not be.
pub(crate) fn skip(what: &str) {
    assert!(
        std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(),
        "UVS_REQUIRE_ROOT_TESTS is set; missing: {what}"
    );
    println!("skipped: needs {what}");
}

/// The binary of this tree.
pub(crate) fn uvs() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| uvs_lab::build_uvs(env!("CARGO")).unwrap()).clone()
}

/// Asks `ready` until it answers, and fails the test when it has not after [`SOON`].
pub(crate) fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ready() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A network in which everything runs.
pub(crate) struct Stage {
    director: Running,
    /// The servers, in the order of the real servers.
    pub(crate) peers: Vec<Peer>,
    /// `uvs realserver` of each real server (TUN).
    pub(crate) decapsulators: Vec<Decapsulator>,
    pub(crate) topology: Topology,
}

impl Stage {
    /// The network of a method with three real servers under rr, as `uvs demo` has it.
    pub(crate) fn of(method: Method) -> Self {
        Self::with(method, &Plan::default())
    }

    pub(crate) fn with(method: Method, plan: &Plan) -> Self {
        let topology = topology(method, plan);
        let config = topology.config.clone();
        Self::on(topology, &config)
    }

    /// Starts everything on a network that is there, the director last.
    pub(crate) fn on(topology: Topology, config: &str) -> Self {
        let peers: Vec<Peer> =
            topology.real_servers.iter().map(|server| Peer::start(&server.host, server.listen)).collect();
        let decapsulators = match topology.method {
            Method::Tunnel => topology
                .real_servers
                .iter()
                .map(|server| Decapsulator::start(server, &uvs()).unwrap())
                .collect(),
            Method::Nat | Method::Direct => Vec::new(),
        };
        let director = Running::start(&topology.director, config);
        Self { director, peers, decapsulators, topology }
    }

    /// The first client.
    pub(crate) fn client(&self) -> &Host {
        &self.topology.clients[0].host
    }

    pub(crate) fn director(&mut self) -> &mut Running {
        &mut self.director
    }

    /// The number of the real server that has a connection from that address.
    pub(crate) fn server_of(&self, client: std::net::SocketAddr) -> usize {
        eventually("a real server has the connection", || {
            self.peers.iter().position(|peer| peer.clients().contains(&client))
        })
    }

    /// How many TCP connections each real server has got so far.
    pub(crate) fn shares(&self) -> Vec<usize> {
        self.peers.iter().map(|peer| peer.clients().len()).collect()
    }
}

/// The network of `method`; with NAT the real servers listen on another port than the service.
pub(crate) fn topology(method: Method, plan: &Plan) -> Topology {
    let mut plan = plan.clone();
    if method == Method::Nat {
        plan.real_port = NAT_PORT;
    }
    Topology::build(method, &plan).unwrap()
}

/// `config` with the keys of `UVS_TEST_MODE` for each interface that does not say itself.
pub(crate) fn in_mode(config: &str) -> String {
    let mode = std::env::var("UVS_TEST_MODE").unwrap_or_default();
    with_keys(config, &mode)
}

/// `config` with `keys`, as in `queues=2,offload=off`, for each interface, unless it has them. `attach=tcx` takes the
/// place of bridges.
pub(crate) fn with_keys(config: &str, keys: &str) -> String {
    let mut with = config.to_owned();
    for (key, value) in keys.split(',').filter_map(|pair| pair.trim().split_once('=')) {
        if (key, value) == ("attach", "tcx") {
            if config.contains("\nbridge = ") && !config.contains("\naccelerate = ") {
                with = without_bridge(&with);
            }
            continue;
        }
        if config.contains(&format!("\n{key} = ")) {
            continue;
        }
        let value = if value.parse::<u16>().is_ok() { value.to_owned() } else { format!("{value:?}") };
        // The kernel itself routes into a TUN device.
        let devices: &[&str] = if key == "accelerate" { &["tap"] } else { &["tap", "tun"] };
        for device in devices {
            let device = format!("\ndevice = \"{device}\"\n");
            with = with.replace(&device, &format!("{device}{key} = {value}\n"));
        }
    }
    with
}

/// A running `uvs run` with its config file. It prints what it knows when the test fails.
pub(crate) struct Running {
    /// `None` once it was stopped.
    director: Option<Director>,
    host: Host,
    folder: TempDir,
}

impl Running {
    pub(crate) fn start(host: &Host, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("uvs.toml"), in_mode(config)).unwrap();
        let mut running = Self { director: None, host: host.clone(), folder };
        running.start_again();
        running
    }

    pub(crate) fn start_again(&mut self) {
        let file = self.folder.path().join("uvs.toml");
        self.director = Some(Director::start_with_file(&self.host, &uvs(), &file).unwrap());
    }

    pub(crate) fn get(&self) -> &Director {
        self.director.as_ref().expect("the director runs")
    }

    /// Its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("uvs.toml")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.director.as_mut().expect("the director runs").process().signal(signal).unwrap();
    }

    /// Ends it with a signal.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        let mut director = self.director.take().expect("the director runs");
        director.process().signal(signal).unwrap();
        director.process().wait(SOON).unwrap()
    }

    /// Waits until it ends on its own.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut director = self.director.take().expect("the director runs");
        director.process().wait(SOON).unwrap()
    }

    /// Puts another config in its place and waits until it is in force.
    pub(crate) fn reload(&mut self, config: &str) {
        let done = [("result", "done")];
        let before = self.metric("uvs_config_reloads_total", &done);
        let failed = self.metric("uvs_config_reloads_total", &[("result", "failed")]);
        fs::write(self.folder.path().join("uvs.toml"), in_mode(config)).unwrap();
        self.director.as_mut().expect("the director runs").process().signal(Signal::SIGHUP).unwrap();
        eventually("the reload is done", || {
            assert_eq!(self.metric("uvs_config_reloads_total", &[("result", "failed")]), failed);
            (self.metric("uvs_config_reloads_total", &done) > before).then_some(())
        });
    }

    /// The sum of the samples of a metric that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let page = self.get().metrics().unwrap();
        let has = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        page.lines()
            .filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| has(line))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Frames dropped for a reason.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        self.metric("uvs_drops_total", &[("reason", reason)])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(director) = self.director.as_ref().filter(|_| thread::panicking()) else { return };
        let say = |answer: anyhow::Result<String>| answer.unwrap_or_else(|error| format!("{error:#}\n"));
        let drops: String = say(director.metrics())
            .lines()
            .filter(|line| line.starts_with("uvs_drops_total") && !line.ends_with(" 0"))
            .map(|line| format!("{line}\n"))
            .collect();
        eprintln!("--- the director's log\n{}", director.log());
        eprintln!("--- its services\n{}", say(director.services()));
        eprintln!("--- its connections\n{}", say(director.connections()));
        eprintln!("--- what it dropped\n{drops}---");
    }
}

/// `config` without a real server, in all its services.
pub(crate) fn without(config: &str, server: &str) -> String {
    edit_destination(config, server, |_| String::new())
}

/// `config` with another weight for a real server, in all its services.
pub(crate) fn with_weight(config: &str, server: &str, weight: u32) -> String {
    edit_destination(config, server, |table| table.replace("weight = 1\n", &format!("weight = {weight}\n")))
}

/// A destination's table in the lab's configs: its heading and two lines, the address first.
fn edit_destination(config: &str, server: &str, edit: impl Fn(&str) -> String) -> String {
    let mut lines = config.split_inclusive('\n');
    let mut edited = String::new();
    while let Some(line) = lines.next() {
        if line != "[[service.destination]]\n" {
            edited.push_str(line);
            continue;
        }
        let table: String = std::iter::once(line).chain(lines.by_ref().take(2)).collect();
        let wanted = table.contains(&format!("address = \"{server}:"));
        edited.push_str(&if wanted { edit(&table) } else { table });
    }
    assert_ne!(edited, config, "{server} is a destination");
    edited
}

#[test]
fn a_mode_is_one_of_each_interface() {
    let config =
        "[[interface]]\nname = \"a\"\ndevice = \"tap\"\nmtu = 9\n\n[[interface]]\ndevice = \"tun\"\n";
    let want = "[[interface]]\nname = \"a\"\ndevice = \"tap\"\noffload = \"off\"\nqueues = 2\nmtu = 9\n\n\
        [[interface]]\ndevice = \"tun\"\noffload = \"off\"\nqueues = 2\n";
    assert_eq!(with_keys(config, "queues=2,offload=off"), want);
    assert_eq!(with_keys(config, ""), config);
    assert_eq!(with_keys(&format!("{config}queues = 1\n"), "queues=2"), format!("{config}queues = 1\n"));
}

#[test]
fn a_config_is_edited_where_it_should_be() {
    let config = "[metrics]\nlisten = \"x\"\n\n[[service]]\naddress = \"v:80\"\n\
        [[service.destination]]\naddress = \"a:1\"\nweight = 1\n\
        [[service.destination]]\naddress = \"b:1\"\nweight = 1\n\
        \n[[service]]\naddress = \"v:81\"\n\
        [[service.destination]]\naddress = \"b:1\"\nweight = 1\n";
    let removed = "[metrics]\nlisten = \"x\"\n\n[[service]]\naddress = \"v:80\"\n\
        [[service.destination]]\naddress = \"a:1\"\nweight = 1\n\
        \n[[service]]\naddress = \"v:81\"\n";
    assert_eq!(without(config, "b"), removed);
    assert_eq!(with_weight(config, "a", 0), config.replacen("weight = 1", "weight = 0", 1));
}
