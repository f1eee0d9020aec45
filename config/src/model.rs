//! What a file says, as plain structs: the readers return them, and everybody else reads them.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use uvs_check::program::User;
use uvs_check::spec::{Kind, Policy, Quorum, Schedule, Unmade};
use uvs_director::local::LocalLimits;
use uvs_director::spec::{
    DestinationSpec, InterfaceSpec, Limits, MacAddr, MarkRule, Options, Prefix, RouteSpec, ServiceKey,
    ServiceSpec, Timeouts,
};
use uvs_director::{Duration, PortId};
use uvs_ha::plan::Plan;

use crate::control::Control;
use crate::http::Http;
use crate::modules::{Folder, Modules};
use crate::problem::{Location, Problem};

/// The schedulers that come with uvs, by the names a service gives them.
pub const SHIPPED: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos", "swrr",
    "p2c", "chbl", "maglev", "lrt",
];

/// Those of them that exist as native code too, and can therefore stand in for a module that fails: all.
pub const NATIVE: &[&str] = SHIPPED;

/// The fallback that is none: connections are refused while the module fails.
pub const REFUSE: &str = "refuse";

/// What stands in for a module that fails where the config does not say.
pub const DEFAULT_FALLBACK: &str = "wlc";

/// The scheduler of a service that names none, as in ipvsadm.
pub const DEFAULT_SCHEDULER: &str = "wlc";

/// One file, parsed *and* valid: whatever is in here can be applied.
///
/// The keys of the file with unit, default and range are in `config/README.md`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file as the user named it.
    pub file: PathBuf,
    /// That file, and those that it includes, in the order in which they count.
    pub files: Vec<PathBuf>,
    /// These files with their texts, for [`Config::to_toml`].
    pub texts: Arc<[(PathBuf, String)]>,
    /// Where metrics are served over HTTP; `None`: nowhere. Port 0 takes any free port.
    pub metrics: Option<SocketAddr>,
    /// Of at most so many destinations there are metrics.
    pub metrics_destinations: u32,
    /// What else is served over HTTP.
    pub http: Http,
    /// Where the running director takes requests.
    pub control: Control,
    /// Bounds on what the director keeps. They hold from the start of the process: no [`Change`] sets them.
    pub limits: Limits,
    /// Connections, of each IP version, for which the flow cache in the kernel has room.
    pub flows: u32,
    /// Of these limits, those that the file does not set.
    pub unset: Unset,
    /// A folder in bpffs in which established flows outlive the director, for the next one.
    pub flow_pin: Option<PathBuf>,
    /// Where it is noted what is done to the host, for the next start to undo if this process is killed.
    pub host_record: Folder,
    /// Where connections outlive the director.
    pub kept_connections: Option<Kept>,
    /// The director as a host.
    pub local: Local,
    /// How long idle connections are kept.
    pub timeouts: Timeouts,
    /// How long connections of a destination that loses its weight, or is removed, go on, in services that do not say;
    /// `None`: for as long as they can, or not at all.
    pub drain: Option<Duration>,
    /// Behaviour, by the kernel's names.
    pub options: Options,
    /// The threads that carry frames.
    pub workers: Workers,
    /// How scheduler modules are looked after.
    pub modules: Modules,
    /// In the order of the file, which is that of their ports.
    pub interfaces: Vec<Interface>,
    /// Beside the connected subnets.
    pub routes: Vec<RouteSpec>,
    /// Static neighbours.
    pub neighbors: Vec<Neighbor>,
    /// Scheduler modules with a name of their own.
    pub schedulers: Vec<Scheduler>,
    /// Rules that give packets firewall marks; the first that matches counts.
    pub marks: Vec<MarkRule>,
    /// Checks with their names.
    pub checks: Vec<Check>,
    /// Programs that are told what happens.
    pub notify: Vec<Notify>,
    /// VIPs that are told to routers; `None`: none.
    pub announce: Option<Announce>,
    /// Virtual routers that this director takes part in.
    pub vrrp: Vrrp,
    /// Virtual services.
    pub services: Vec<Service>,
    /// What the author hardly meant, though it can be applied.
    pub warnings: Vec<Problem>,
}

/// Connections that outlive the director, for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file that they are in.
    pub file: PathBuf,
    /// How often they are written while it runs, for one that does not end as it should; `None`: in the end alone.
    pub every: Option<Duration>,
}

/// How the sockets of the director's own are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The ports that they have, and the packets that wait for them.
    pub limits: LocalLimits,
    /// What their buffers may take together.
    pub buffer_bytes: usize,
}

impl Default for Local {
    fn default() -> Self {
        Self { limits: LocalLimits::default(), buffer_bytes: 128 << 20 }
    }
}

/// Which limits the file does not set, among those that take memory: they hold their defaults, and may be lowered to
/// what there is memory for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unset {
    /// Entries of the connection table.
    pub connections: bool,
    /// Connections in the flow cache.
    pub flows: bool,
    /// Memory for fragments.
    pub fragment_bytes: bool,
    /// Which of them were lowered, to what and why, in words. The file says nothing of that: whoever lowers them writes
    /// it.
    pub lowered: Option<String>,
}

/// One interface of the director and how its device is set up.
#[derive(Clone, Debug)]
pub struct Interface {
    /// What the engine is told. The addresses are those of the file and the VIPs that lie in their subnets.
    pub spec: InterfaceSpec,
    /// How frames pass between its device and the workers.
    pub io: DeviceIo,
    /// The addresses of the file alone.
    pub own: Vec<Prefix>,
    /// The bridge a TAP is plugged into.
    pub bridge: Option<Bridge>,
    /// The link a TAP exchanges frames with directly, in place of a bridge.
    pub direct: Option<Direct>,
    /// Whether packets of established flows that come in over that link may pass in the kernel.
    pub accelerate: Accelerate,
    /// The host kernel's side of a TUN.
    pub host: Option<Host>,
    /// Where it stands.
    pub location: Location,
}

/// What frames look like between a device and the workers, and how many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceIo {
    /// Whether GSO packets and partial checksums pass the device.
    pub offload: OffloadWish,
    /// How many queues the device has, 1 to 256, each with a worker of its own; `None`: the director chooses.
    pub queues: Option<u16>,
}

/// Whether a device is to pass GSO packets and partial checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadWish {
    /// Where the kernel offers it.
    Auto,
    /// Or else the director does not start.
    On,
    /// Frames are single packets with complete checksums.
    Off,
}

/// Whether established flows are forwarded by the flow cache in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerate {
    /// All packets pass the director.
    Off,
    /// Where the kernel and the rights of the process allow it.
    Auto,
    /// Or else the director does not start.
    On,
}

/// The threads that carry frames, one for each queue of each device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// For how long a worker that found its queue empty looks again before it sleeps; 0 to 10 ms.
    pub busy_poll: Duration,
    /// The worker of queue n of each device runs on the n-th of these CPUs, beginning again where there are fewer.
    /// Empty: wherever the system puts it.
    pub cpus: Vec<u16>,
}

impl Default for Workers {
    fn default() -> Self {
        Self { busy_poll: Duration::from_micros(0), cpus: Vec::new() }
    }
}

/// A bridge of the kernel. It is made where it does not exist, and what was done to it is undone on exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Devices plugged into it beside the TAP.
    pub ports: Vec<String>,
}

/// `attach = "tcx"`: programs in the kernel carry frames between the TAP and a link; they go with the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The network card or veth of the host.
    pub link: String,
}

/// What the host's kernel is told about a TUN device; undone on exit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The kernel's own addresses on the device.
    pub addresses: Vec<Prefix>,
    /// What the kernel routes into the device.
    pub routes: Vec<Prefix>,
    /// Devices on which replies from destinations come in. Whatever comes in there goes by a table whose
    /// default route is the TUN device (`ip rule iif DEVICE`).
    pub replies_from: Vec<String>,
    /// Whether real servers may be processes of the host: what is sent from `addresses` goes to the director.
    pub local_servers: bool,
    /// Whether clients may be processes of the host: what comes in on `replies_from` for `addresses` goes to the
    /// director.
    pub local_clients: bool,
    /// Whether the kernel forwards (`ip_forward` = 1, `rp_filter` = 0, and with IPv6 `forwarding` = 1).
    pub forwarding: bool,
}

/// A neighbour that is never asked for and never expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// On which interface, always a TAP.
    pub port: PortId,
    /// Its IP address.
    pub addr: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
}

/// A module with a name of its own. The file exists and is readable; what is in it is for the caller to judge.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// What services call it.
    pub name: String,
    /// The component and what stands in for it.
    pub module: Module,
    /// What the SHA-256 of its file has to be.
    pub sha256: Option<[u8; 32]>,
    /// Given to it by services without `options` of their own.
    pub options: String,
    /// Where it stands.
    pub location: Location,
}

/// A component file that schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its absolute path.
    pub path: PathBuf,
    /// The native scheduler (of [`NATIVE`]) that picks when the module fails, or [`REFUSE`].
    pub fallback: String,
    /// The largest file that is taken for it, in MiB, where that is not the usual.
    pub module_mib: Option<u32>,
    /// How many times the usual fuel its calls get.
    pub fuel: u32,
}

impl Module {
    /// The component in `path` with the defaults.
    pub fn new(path: PathBuf) -> Self {
        Self { path, fallback: DEFAULT_FALLBACK.to_owned(), module_mib: None, fuel: 1 }
    }
}

/// A scheduler on trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its name, as in [`SchedulerSpec`](uvs_director::spec::SchedulerSpec).
    pub scheduler: String,
    /// The component behind that name; `None` for a shipped scheduler.
    pub module: Option<Module>,
    /// The share of new connections that it places, in per cent; `None`: none, it is a shadow.
    pub percent: Option<u8>,
    /// Where it stands.
    pub location: Location,
}

/// A virtual service with its destinations.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the engine is told. The scheduler's name is one of [`SHIPPED`], that of a [`Scheduler`], or the
    /// absolute path of a component.
    pub spec: ServiceSpec,
    /// The component behind that name; `None` for a shipped scheduler.
    pub module: Option<Module>,
    /// What is tried beside its scheduler.
    pub trial: Option<Trial>,
    /// In the order of the file, the backups last.
    pub destinations: Vec<DestinationSpec>,
    /// How their health is judged; `None`: nobody asks.
    pub health: Option<Health>,
    /// How long connections of a destination that loses its weight, or is removed, go on, before both ends get a
    /// reset; `None`: for as long as they can, or not at all.
    pub drain: Option<Duration>,
    /// Where it stands.
    pub location: Location,
    /// Where its scheduler is named (the service itself if it names none).
    pub scheduler_location: Location,
}

/// A check with a name, as services use it.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name.
    pub name: Arc<str>,
    /// What it asks and expects. Programs have placeholders.
    pub kind: Kind,
    /// The port it asks; `None`: the destination's.
    pub port: Option<u16>,
    /// The address it asks from; `None`: one of the director's own.
    pub source: Option<IpAddr>,
    /// The firewall mark of what it sends.
    pub mark: Option<u32>,
    /// When.
    pub schedule: Schedule,
    /// So many successes in a row bring it up.
    pub rise: u32,
    /// So many failures in a row bring it down.
    pub fall: u32,
    /// What it is taken for while it cannot be made.
    pub unmade: Unmade,
    /// Of a passive check: the check whose probe confirms it; `None`: a connection does.
    pub confirm: Option<Arc<str>>,
    /// Where it stands.
    pub location: Location,
}

/// A program that is run when something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Its name.
    pub name: Arc<str>,
    /// The program by its absolute path, and its arguments, with placeholders.
    pub command: Vec<String>,
    /// Whom it is run as; `None`: as the director.
    pub user: Option<User>,
    /// What it is told of; each is one of [`NOTIFY_EVENTS`](crate::NOTIFY_EVENTS).
    pub events: Vec<&'static str>,
    /// Of which services, where the event is of one; empty: of all.
    pub services: Vec<ServiceKey>,
    /// Of which destinations, where the event is of one; empty: of all.
    pub destinations: Vec<SocketAddr>,
    /// A run is over after this.
    pub timeout: Duration,
}

/// VIPs that are told to routers, by routes of the host's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Those; empty: all of services by address.
    pub vips: Vec<IpAddr>,
    /// While what.
    pub keeps: AnnounceWhile,
    /// The protocol number of the routes (`rtm_protocol`), by which a routing daemon knows them.
    pub protocol: u8,
    /// The table that they are in; 254 is main.
    pub table: u32,
    /// Their metric.
    pub metric: u32,
    /// A VIP that was withdrawn has to be fit for so long before it is announced again.
    pub hold: Duration,
    /// For so long the director goes on after its last VIPs were withdrawn, before it ends.
    pub linger: Duration,
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            vips: Vec::new(),
            keeps: AnnounceWhile::Any,
            protocol: 199,
            table: 254,
            metric: 50,
            hold: Duration::from_secs(5),
            linger: Duration::from_secs(2),
        }
    }
}

/// What has to hold for a VIP to be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceWhile {
    /// One of its services takes new connections.
    Any,
    /// All of them do.
    All,
    /// Nothing: the director is there.
    Always,
}

/// Virtual routers of VRRP, and what their priorities follow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vrrp {
    /// Valid as it is.
    pub plan: Plan,
    /// All virtual addresses, each with the interface of its virtual router.
    pub addresses: Vec<(IpAddr, PortId)>,
    /// What priorities may follow, by the names that the plan has for it.
    pub tracked: Vec<Tracked>,
    /// Programs that priorities may follow.
    pub scripts: Vec<TrackScript>,
}

/// Something that priorities may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// As in [`TrackPlan::name`](uvs_ha::plan::TrackPlan::name).
    pub name: Arc<str>,
    /// What it is.
    pub what: TrackedWhat,
}

/// What priorities may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackedWhat {
    /// Whether the links of an interface carry something.
    Interface(PortId),
    /// Whether a service has its quorum.
    Service(ServiceKey),
    /// What a [`TrackScript`] of that name says.
    Script(Arc<str>),
}

/// A program that says whether all is well (`vrrp_script` of keepalived).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackScript {
    /// Its name.
    pub name: Arc<str>,
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// Whom it is run as; `None`: as the director.
    pub user: Option<User>,
    /// From the beginning of one run to that of the next.
    pub interval: Duration,
    /// A run is over after this, and has failed.
    pub timeout: Duration,
    /// So many successes in a row bring it up.
    pub rise: u32,
    /// So many failures in a row bring it down.
    pub fall: u32,
    /// It counts as failed until it has succeeded.
    pub init_fail: bool,
}

/// How the health of a service's destinations is judged.
#[derive(Clone, Debug)]
pub struct Health {
    /// The checks of destinations without their own, as indexes into [`Config::checks`].
    pub checks: Vec<usize>,
    /// How much has to be in service.
    pub quorum: Quorum,
    /// How destinations come and go.
    pub policy: Policy,
    /// Which way checks go.
    pub via: CheckVia,
    /// Those of the service's destinations that serve only while the quorum is lost.
    pub backups: Vec<SocketAddr>,
    /// What destinations have otherwise than the checks say.
    pub overrides: HashMap<SocketAddr, Override>,
    /// Where the checks are named.
    pub location: Location,
}

impl Health {
    /// The checks of one destination, as indexes into [`Config::checks`].
    pub fn checks_of(&self, destination: SocketAddr) -> &[usize] {
        let own = self.overrides.get(&destination).and_then(|own| own.checks.as_deref());
        own.unwrap_or(&self.checks)
    }

    /// All that any destination may have, as indexes into [`Config::checks`].
    pub fn all_checks(&self) -> BTreeSet<usize> {
        let own = self.overrides.values().filter_map(|own| own.checks.as_deref()).flatten();
        self.checks.iter().chain(own).copied().collect()
    }
}

/// Which way the checks of a service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckVia {
    /// To the destination's own address.
    #[default]
    Direct,
    /// As the packets of clients: by the destination's forwarding method, to the VIP.
    Service,
}

/// What a destination has otherwise than its checks say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Its checks in place of the service's, as indexes into [`Config::checks`]; empty: it has none, and never goes
    /// down.
    pub checks: Option<Vec<usize>>,
    /// The port.
    pub port: Option<u16>,
    /// The host that is asked for over HTTP.
    pub host: Option<String>,
    /// The path that is asked for over HTTP.
    pub path: Option<String>,
}
