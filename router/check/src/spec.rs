//! What is to be checked: probes with their parameters, when they are made, and the services they judge.

use core::net::SocketAddr;
use core::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use uvs_director::Duration;
use uvs_director::spec::ServiceKey;

use crate::net::{Echo, Target};
use crate::program::User;
use crate::weight::Admin;

/// What one probe does. Two that are equal are made once, and their result is told to all that asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeSpec {
    /// What is asked and expected.
    pub kind: Kind,
    /// Whom.
    pub target: Target,
    /// When.
    pub schedule: Schedule,
}

/// When a probe is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// From the start of one probe to the start of the next; more than 0.
    pub interval: Duration,
    /// The same while a check is on its way up or down; at most `interval`.
    pub fast: Duration,
    /// The same while it is down.
    pub down: Duration,
    /// The whole probe has to be over after this; more than 0.
    pub timeout: Duration,
    /// By how much of it an interval is made shorter or longer at random, in per cent, 0 to 50.
    pub jitter: u8,
}

impl Schedule {
    /// Every `interval`, whatever the state, with the usual jitter.
    pub const fn every(interval: Duration, timeout: Duration) -> Self {
        Self { interval, fast: interval, down: interval, timeout, jitter: 5 }
    }
}

/// What a probe asks, and what it expects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A TCP connection, and maybe a word on it.
    Tcp(Talk),
    /// HTTP or HTTPS.
    Http(Box<Http>),
    /// The health service of gRPC.
    Grpc(Box<Grpc>),
    /// A datagram, and maybe its answer.
    Udp(Talk),
    /// A question to a name server.
    Dns(Box<Dns>),
    /// An ICMP echo.
    Ping(Echo),
    /// A program.
    Exec(Arc<Exec>),
    /// HAProxy's agent: a line that says weight and state.
    Agent {
        /// What is sent first; may be empty.
        send: Vec<u8>,
    },
    /// A file on this host.
    File(FileCheck),
    /// What the data path sees of the connections of clients; the probe ends an inhibition.
    Passive(Passive),
}

impl Kind {
    /// The word for it in a configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Http(http) if http.tls.is_some() => "https",
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
            Self::Udp(_) => "udp",
            Self::Dns(_) => "dns",
            Self::Ping(_) => "ping",
            Self::Exec(_) => "exec",
            Self::Agent { .. } => "agent",
            Self::File(_) => "file",
            Self::Passive(_) => "passive",
        }
    }

    /// How it speaks TLS, if it does.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Http(http) => http.tls.as_ref(),
            Self::Grpc(grpc) => grpc.tls.as_ref(),
            Self::Passive(passive) => passive.confirm.tls(),
            _ => None,
        }
    }
}

/// What is said, and what has to be heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Talk {
    /// What is sent; empty: nothing over TCP, an empty datagram over UDP.
    pub send: Vec<u8>,
    /// What the answer has to hold; `None`: any answer will do over UDP where one is wanted, and none over TCP.
    pub expect: Option<Pattern>,
    /// Over UDP: whether silence until the deadline is a failure, too. With an `expect` it always is.
    pub answer: bool,
}

/// What an answer is searched for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// These bytes, anywhere.
    Bytes(Vec<u8>),
    /// A regular expression, over bytes.
    Regex(String),
}

/// A request over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Http {
    /// The method, such as GET.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The Host header; `None`: address and port.
    pub host: Option<String>,
    /// The statuses that are a success; the first range that it is in counts.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body has to hold.
    pub body: Option<Pattern>,
    /// Which HTTP is spoken.
    pub version: HttpVersion,
    /// How TLS is spoken below it; `None`: it is not.
    pub tls: Option<Tls>,
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/2 or HTTP/1.1, whichever the server picks (ALPN); without TLS HTTP/1.1.
    #[default]
    Any,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

/// The health service of gRPC (grpc.health.v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grpc {
    /// The service that is asked about; empty: the server as a whole.
    pub service: String,
    /// The host that the request names (`:authority`); `None`: address and port.
    pub host: Option<String>,
    /// How TLS is spoken below it; `None`: it is not.
    pub tls: Option<Tls>,
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dns {
    /// The name that is asked for.
    pub name: String,
    /// The type of records, by its number.
    pub record: u16,
    /// The codes of responses that are a success, by their numbers.
    pub codes: Vec<u8>,
    /// What the data of one of the records has to be, as in a zone file, or where it is an expression, to hold.
    pub expect: Option<Pattern>,
    /// Whether it is asked over TCP at once.
    pub tcp: bool,
}

/// How TLS is spoken, and which certificate will do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The name that the server is asked for (SNI) and that its certificate has to have; `None`: the host that the
    /// request names, or else the address that is asked.
    pub sni: Option<String>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// A file of certificates in PEM, one of which it has to come from or be; `None`: those that the host trusts.
    pub ca: Option<PathBuf>,
    /// So long before it expires that is told.
    pub expiry_warning: Duration,
}

impl Default for Tls {
    fn default() -> Self {
        Self { sni: None, verify: true, ca: None, expiry_warning: Duration::from_secs(14 * 86_400) }
    }
}

/// A program that judges: exit status 0 is a success, 1 a failure (MISC_CHECK of keepalived).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exec {
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// Whom it is run as; `None`: as the director.
    pub user: Option<User>,
    /// Whether exit statuses from 2 are a success that sets the weight to the status less 2 (`misc_dynamic`).
    pub dynamic: bool,
    /// What it is told of whom it checks, in its environment.
    pub environment: Vec<(String, String)>,
}

/// A file that judges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileCheck {
    /// Its path.
    pub path: PathBuf,
    /// What the number in it means.
    pub meaning: FileMeaning,
}

/// What the number in a watched file means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FileMeaning {
    /// 0 is a success, anything else a failure; without a file it is a success (FILE_CHECK with weight 0, ldirectord's
    /// `maintenancedir`).
    #[default]
    Failed,
    /// It is the weight.
    Weight,
}

/// When what the data path sees makes a destination go out of service, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Passive {
    /// So many failures in a row, without a success in between; at least 1.
    pub failures: u32,
    /// For how long the first inhibition lasts; each that follows soon after doubles.
    pub inhibit: Duration,
    /// The longest that one lasts.
    pub inhibit_max: Duration,
    /// What has to succeed for one to end.
    pub confirm: Box<Kind>,
}

/// All that is to be checked.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Each service once.
    pub services: Vec<ServicePlan>,
    /// [`Policy::drain`] of services that are not in the configuration.
    pub drain: Option<Duration>,
}

/// A service and how it is judged.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// Its name.
    pub key: ServiceKey,
    /// How much has to be in service for it to have its quorum.
    pub quorum: Quorum,
    /// How its destinations come and go.
    pub policy: Policy,
    /// Whether it has a quorum at all, and is spoken of; else its destinations only have weights.
    pub judged: bool,
    /// Each destination once, the backups among them.
    pub destinations: Vec<DestinationPlan>,
}

/// How destinations of a service come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether a destination is in service before its first result.
    pub start_up: bool,
    /// For how long a weight grows to its full size after a recovery; zero: it is full at once.
    pub slow_start: Duration,
    /// The half-life of the penalty for going down (RFC 2439); zero: flaps are not damped.
    pub damping: Duration,
    /// What happens to connections of one that goes down.
    pub on_down: OnDown,
    /// How long connections of one go on that loses its weight; `None`: for as long as they can.
    pub drain: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            start_up: false,
            slow_start: Duration::ZERO,
            damping: Duration::from_secs(60),
            on_down: OnDown::default(),
            drain: None,
        }
    }
}

/// What happens to the connections of a destination that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDown {
    /// They go on for as long as they can.
    #[default]
    Quiesce,
    /// They go on until the deadline.
    Drain(Duration),
    /// They end, both ends of TCP with a reset, once the deadline is over.
    Reset(Duration),
}

/// How much has to be in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The sum of weights, or the share of all weights, that is the quorum.
    pub least: Amount,
    /// How far above it has to be to be regained, and how far below to be lost.
    pub hysteresis: Amount,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { least: Amount::Weight(1), hysteresis: Amount::Weight(0) }
    }
}

/// A sum of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// As it is.
    Weight(u64),
    /// A share of the weights of all destinations that are no backups, in per cent, rounded up.
    Percent(u8),
}

impl Amount {
    /// What it is where all weigh `total`.
    pub const fn of(self, total: u64) -> u64 {
        match self {
            Self::Weight(weight) => weight,
            Self::Percent(percent) => (total.saturating_mul(percent as u64)).div_ceil(100),
        }
    }
}

/// A destination and its checks.
#[derive(Clone, Debug)]
pub struct DestinationPlan {
    /// Its name within the service.
    pub addr: SocketAddr,
    /// The weight that the configuration gives it; `None`: it is not in there.
    pub weight: Option<u32>,
    /// The weight that `uvs adm` has given it since.
    pub adm: Option<u32>,
    /// What people want of it.
    pub admin: Admin,
    /// Whether it serves only while the quorum is lost.
    pub backup: bool,
    /// Whether it served before it was checked at all: then it goes on until a check has failed, whatever
    /// [`Policy::start_up`] says.
    pub serves: bool,
    /// All have to be up for it to be in service; without any it always is.
    pub checks: Vec<CheckPlan>,
}

/// A check of a destination. Its name, its destination and its probe are its identity: where they stay, it keeps its
/// state.
#[derive(Clone, Debug)]
pub struct CheckPlan {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What is done.
    pub probe: Arc<ProbeSpec>,
    /// So many successes in a row bring it up; at least 1.
    pub rise: u32,
    /// So many failures in a row bring it down; at least 1.
    pub fall: u32,
    /// What one that cannot be made is taken for.
    pub unmade: Unmade,
}

/// What a check that cannot be made is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmade {
    /// What it was before.
    #[default]
    Keep,
    /// Down.
    Down,
}
