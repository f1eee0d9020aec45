//! From arguments to a [`Command`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use uvs_director::Duration;
use uvs_director::spec::{
    Change, DestinationSpec, Family, Forwarding, Persistence, PersistenceEngine, Protocol, SchedulerSpec,
    ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
};

use crate::address::{host_and_port, ipv4, number};
use crate::command::{Command, DaemonRole, DaemonSpec, Failure};
use crate::format::{Columns, Layout, scheduler_flags};
use crate::legal::{Given, GivenSet, TunnelKind, Verb};
use crate::options::{Name, Options};
use crate::settings;

/// A month: the longest timeout ipvsadm takes.
const TIMEOUT_MAX: i64 = 86_400 * 31;
/// `-p` without a value.
const PERSISTENCE_DEFAULT: Duration = Duration::from_secs(360);

/// Reads the arguments after the program's name.
///
/// None at all lists the table with names, as ipvsadm does. `--sysctl` in front is not ipvsadm's, but `sysctl`'s work.
///
/// # Errors
/// With ipvsadm's own text and exit status: 2 for a wrong combination or value, 255 for an unknown option.
pub fn parse(args: &[&str]) -> Result<Command, Failure> {
    if args.is_empty() {
        let layout = Layout { numeric: false, ..Layout::default() };
        return Ok(Command::List { service: None, layout });
    }
    if args[0] == settings::OPTION {
        return settings::parse(&args[1..]).map(Command::Settings);
    }
    let mut options = Options::new(args);
    let mut line = Line::default();
    let verb = match line.verb(options.next())? {
        First::Verb(verb) => verb,
        First::Done(command) => return Ok(command),
    };
    while let Some(option) = options.next() {
        let (name, value) =
            option.map_err(|bad| Failure::minus_one(format!("{}: {}", bad.word, bad.reason)))?;
        line.option(name, value)?;
    }
    line.finish(verb, options.leftover())
}

/// ipvsadm's answer when it cannot make out a command.
pub(crate) fn try_help() -> Failure {
    Failure::minus_one("Try `ipvsadm -h' or 'ipvsadm --help' for more information.")
}

enum First {
    Verb(Verb),
    Done(Command),
}

/// What was read so far. Order matters in places, as it does for ipvsadm (`-6` after `-f`, `-M` after `-t`).
struct Line {
    given: GivenSet,
    protocol: Protocol,
    family: Family,
    addr: IpAddr,
    port: u16,
    mark: u32,
    scheduler: String,
    scheduler_flags: Option<String>,
    persistence: Option<Duration>,
    prefix_len: u8,
    engine: Option<PersistenceEngine>,
    unknown_engine: bool,
    server: Option<(IpAddr, u16)>,
    method: Method,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel: TunnelKind,
    tunnel_port: u16,
    daemon: DaemonSpec,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Nat,
    Direct,
    Tunnel,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            given: GivenSet::default(),
            protocol: Protocol::Tcp,
            family: Family::V4,
            addr: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            mark: 0,
            scheduler: String::new(),
            scheduler_flags: None,
            persistence: None,
            prefix_len: 32,
            engine: None,
            unknown_engine: false,
            server: None,
            method: Method::Direct,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelKind::Ipip,
            tunnel_port: 0,
            daemon: DaemonSpec {
                role: DaemonRole::Master,
                interface: "eth0".to_owned(),
                sync_id: 0,
                max_len: 1472,
                group: Ipv4Addr::new(224, 0, 0, 81).into(),
                port: 8848,
                ttl: 1,
            },
        }
    }
}

type Next<'a> = Option<Result<(Name, Option<&'a str>), crate::options::BadOption>>;

impl Line {
    /// The first option has to be a command.
    fn verb(&mut self, first: Next<'_>) -> Result<First, Failure> {
        let Some(Ok((name, value))) = first else { return Err(try_help()) };
        let verb = match name {
            Name::AddService => Verb::AddService,
            Name::EditService => Verb::EditService,
            Name::DeleteService => Verb::DeleteService,
            Name::AddServer => Verb::AddServer,
            Name::EditServer => Verb::EditServer,
            Name::DeleteServer => Verb::DeleteServer,
            Name::Clear => Verb::Flush,
            Name::List | Name::ListToo => Verb::List,
            Name::Zero => Verb::Zero,
            Name::Set => Verb::Set,
            Name::Restore => Verb::Restore,
            Name::Save => Verb::Save,
            Name::StartDaemon => {
                self.daemon.role =
                    role(value).ok_or_else(|| Failure::usage("illegal start-daemon parameter specified"))?;
                Verb::StartDaemon
            }
            Name::StopDaemon => {
                self.daemon.role =
                    role(value).ok_or_else(|| Failure::usage("illegal start_daemon specified"))?;
                Verb::StopDaemon
            }
            Name::Help => return Ok(First::Done(Command::Help)),
            Name::Version => return Ok(First::Done(Command::Version)),
            _ => return Err(try_help()),
        };
        Ok(First::Verb(verb))
    }

    fn option(&mut self, name: Name, value: Option<&str>) -> Result<(), Failure> {
        let text = value.unwrap_or_default();
        match name {
            Name::TcpService => self.service(Protocol::Tcp, text),
            Name::UdpService => self.service(Protocol::Udp, text),
            Name::SctpService => self.service(Protocol::Sctp, text),
            Name::MarkService => {
                self.given.add(Given::Service)?;
                self.family = Family::V4;
                self.protocol = Protocol::Tcp;
                self.mark = number(text, 1, i64::from(u32::MAX))
                    .and_then(|mark| u32::try_from(mark).ok())
                    .ok_or_else(|| Failure::usage(format!("invalid fwmark value `{text}' specified")))?;
                Ok(())
            }
            Name::Ipv6 => {
                if self.mark == 0 {
                    return Err(Failure::usage("-6 used before -f\n"));
                }
                self.family = Family::V6;
                self.prefix_len = 128;
                Ok(())
            }
            Name::Scheduler => {
                self.given.add(Given::Scheduler)?;
                text.clone_into(&mut self.scheduler);
                Ok(())
            }
            Name::SchedulerFlags => {
                self.given.add(Given::SchedulerFlags)?;
                self.scheduler_flags = Some(text.to_owned());
                Ok(())
            }
            Name::Engine => {
                self.given.add(Given::Engine)?;
                self.engine = (text == "sip").then_some(PersistenceEngine::Sip);
                self.unknown_engine = self.engine.is_none();
                Ok(())
            }
            Name::Persistent => {
                self.given.add(Given::Persistent)?;
                self.persistence = Some(match value {
                    Some(text) => timeout(text, 1)?,
                    None => PERSISTENCE_DEFAULT,
                });
                Ok(())
            }
            Name::Netmask => self.netmask(text),
            Name::OnePacket => self.given.add(Given::OnePacket),
            Name::RealServer => self.real_server(text),
            Name::Gatewaying => self.method(Method::Direct),
            Name::Ipip => self.method(Method::Tunnel),
            Name::Masquerading => self.method(Method::Nat),
            Name::Weight => {
                self.given.add(Given::Weight)?;
                self.weight = bounded(text, 0, i64::from(DestinationSpec::WEIGHT_MAX), "weight")?;
                Ok(())
            }
            Name::UpperThreshold => {
                self.given.add(Given::UpperThreshold)?;
                self.upper = bounded(text, 0, i64::from(i32::MAX), "u_threshold")?;
                Ok(())
            }
            Name::LowerThreshold => {
                self.given.add(Given::LowerThreshold)?;
                self.lower = bounded(text, 0, i64::from(i32::MAX), "l_threshold")?;
                Ok(())
            }
            Name::TunnelType | Name::TunnelPort => self.tunnel_option(name, text),
            Name::TunnelNoChecksum => self.given.add(Given::TunnelNoChecksum),
            Name::TunnelChecksum => self.given.add(Given::TunnelChecksum),
            Name::TunnelRemoteChecksum => self.given.add(Given::TunnelRemoteChecksum),
            Name::Connection => self.given.add(Given::Connection),
            Name::Numeric => self.given.add(Given::Numeric),
            Name::Timeout => self.given.add(Given::Timeout),
            Name::Daemon => self.given.add(Given::Daemon),
            Name::Stats => self.given.add(Given::Stats),
            Name::Rate => self.given.add(Given::Rate),
            Name::Exact => self.given.add(Given::Exact),
            Name::Thresholds => self.given.add(Given::Thresholds),
            Name::PersistentConn => self.given.add(Given::PersistentConn),
            Name::TunnelInfo => self.given.add(Given::TunnelInfo),
            Name::NoSort => self.given.add(Given::NoSort),
            Name::Sort => Ok(()),
            Name::SyncId
            | Name::SyncMaxLen
            | Name::MulticastInterface
            | Name::MulticastGroup
            | Name::MulticastPort
            | Name::MulticastTtl => self.daemon_option(name, text),
            Name::AddService
            | Name::EditService
            | Name::DeleteService
            | Name::Clear
            | Name::Restore
            | Name::Save
            | Name::AddServer
            | Name::EditServer
            | Name::DeleteServer
            | Name::List
            | Name::ListToo
            | Name::Zero
            | Name::Set
            | Name::StartDaemon
            | Name::StopDaemon
            | Name::Help
            | Name::Version => Err(second_command(name)),
        }
    }

    fn service(&mut self, protocol: Protocol, text: &str) -> Result<(), Failure> {
        self.given.add(Given::Service)?;
        self.protocol = protocol;
        let (addr, port) = host_and_port(text, protocol)
            .ok_or_else(|| Failure::usage("illegal virtual server address[:port] specified"))?;
        self.addr = addr;
        self.family = Family::of(addr);
        self.port = port.unwrap_or(0);
        if addr.is_ipv6() {
            self.prefix_len = 128;
        }
        Ok(())
    }

    fn real_server(&mut self, text: &str) -> Result<(), Failure> {
        self.given.add(Given::Server)?;
        let (addr, port) = host_and_port(text, self.protocol)
            .ok_or_else(|| Failure::usage("illegal real server address[:port] specified"))?;
        self.server = Some((addr, port.unwrap_or(self.port)));
        Ok(())
    }

    fn netmask(&mut self, text: &str) -> Result<(), Failure> {
        self.given.add(Given::Netmask)?;
        match self.family {
            Family::V4 => {
                // The kernel would take any bits; a mask with holes has no prefix length and is refused here.
                let mask =
                    ipv4(text).filter(|mask| mask.to_bits().leading_ones() == mask.to_bits().count_ones());
                let mask =
                    mask.ok_or_else(|| Failure::usage("illegal virtual server persistent mask specified"))?;
                self.prefix_len = u8::try_from(mask.to_bits().leading_ones()).expect("at most 32");
            }
            Family::V6 => {
                self.prefix_len = number(text, 1, 128)
                    .and_then(|len| u8::try_from(len).ok())
                    .ok_or_else(|| Failure::usage("illegal ipv6 netmask specified"))?;
            }
        }
        Ok(())
    }

    fn method(&mut self, method: Method) -> Result<(), Failure> {
        self.given.add(Given::Forward)?;
        self.method = method;
        Ok(())
    }

    fn tunnel_option(&mut self, name: Name, text: &str) -> Result<(), Failure> {
        if name == Name::TunnelType {
            self.given.add(Given::TunnelType)?;
            self.tunnel = match text {
                "ipip" => TunnelKind::Ipip,
                "gue" => TunnelKind::Gue,
                "gre" => TunnelKind::Gre,
                _ => return Err(Failure::usage("illegal tunnel type specified")),
            };
        } else {
            self.given.add(Given::TunnelPort)?;
            self.tunnel_port = bounded(text, 1, 65_535, "tunnel port")?;
        }
        Ok(())
    }

    fn daemon_option(&mut self, name: Name, text: &str) -> Result<(), Failure> {
        match name {
            Name::SyncId => {
                self.given.add(Given::SyncId)?;
                self.daemon.sync_id = bounded(text, 0, 255, "syncid")?;
            }
            Name::SyncMaxLen => {
                self.given.add(Given::SyncMaxLen)?;
                // What fits behind the IP and UDP headers.
                self.daemon.max_len = bounded(text, 1, 65_535 - 20 - 8, "sync-maxlen")?;
            }
            Name::MulticastGroup => {
                self.given.add(Given::MulticastGroup)?;
                let family = if text.contains(':') { "IPv6" } else { "IPv4" };
                let group = match family {
                    "IPv6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
                    _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
                };
                self.daemon.group = group
                    .filter(IpAddr::is_multicast)
                    .ok_or_else(|| Failure::usage(format!("invalid {family} mcast-group `{text}'")))?;
            }
            Name::MulticastPort => {
                self.given.add(Given::MulticastPort)?;
                self.daemon.port = bounded(text, 1, 65_535, "mcast-port")?;
            }
            Name::MulticastTtl => {
                self.given.add(Given::MulticastTtl)?;
                self.daemon.ttl = bounded(text, 1, 255, "mcast-ttl")?;
            }
            _ => {
                self.given.add(Given::MulticastInterface)?;
                text.clone_into(&mut self.daemon.interface);
            }
        }
        Ok(())
    }

    fn finish(self, verb: Verb, leftover: &[&str]) -> Result<Command, Failure> {
        let mut leftover = leftover.iter();
        let mut timers = [None; 3];
        if verb == Verb::Set {
            for timer in &mut timers {
                let text = leftover
                    .next()
                    .ok_or_else(|| Failure::usage("--set option requires 3 timeout values"))?;
                *timer = Some(timeout(text, 0)?).filter(|timer| !timer.is_zero());
            }
        }
        if let Some(text) = leftover.next() {
            return Err(Failure::usage(format!("unexpected argument {text}")));
        }
        let flags = match &self.scheduler_flags {
            Some(text) if !text.is_empty() => parse_flags(self.scheduler_name(), text)?,
            _ => String::new(),
        };
        verb.check(self.given)?;
        Ok(match verb {
            Verb::AddService => Command::Change(Change::AddService(self.service_spec(flags)?)),
            Verb::EditService => Command::Change(Change::EditService(self.service_spec(flags)?)),
            Verb::DeleteService => Command::Change(Change::RemoveService(self.key())),
            Verb::Flush => Command::Change(Change::Flush),
            Verb::AddServer => Command::Change(Change::AddDestination(self.key(), self.destination()?)),
            Verb::EditServer => Command::Change(Change::EditDestination(self.key(), self.destination()?)),
            Verb::DeleteServer => Command::Change(Change::RemoveDestination(self.key(), self.server_addr())),
            Verb::Zero => {
                let service = self.given.has(Given::Service).then(|| self.key());
                Command::Change(Change::ZeroCounters(service))
            }
            Verb::Set => {
                let [tcp, tcp_fin, udp] = timers;
                Command::SetTimeouts { tcp, tcp_fin, udp }
            }
            Verb::StartDaemon => Command::StartDaemon(self.daemon),
            Verb::StopDaemon => Command::StopDaemon(self.daemon.role),
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save(Layout { columns: Columns::Rules, ..self.layout() }),
            Verb::List => self.list()?,
        })
    }

    fn list(&self) -> Result<Command, Failure> {
        let given = self.given;
        let no_table = given.has_any(&[Given::Connection, Given::Timeout, Given::Daemon]);
        if (no_table && given.has_any(&[Given::Stats, Given::Rate, Given::Thresholds]))
            || (given.has_any(&[Given::Timeout, Given::Daemon]) && given.has(Given::PersistentConn))
        {
            return Err(Failure::usage("options conflicts in the list command"));
        }
        Ok(if given.has(Given::Connection) {
            let persistent_conn = given.has(Given::PersistentConn);
            Command::ListConnections { numeric: given.has(Given::Numeric), persistent_conn }
        } else if given.has(Given::Timeout) {
            Command::ListTimeouts
        } else if given.has(Given::Daemon) {
            Command::ListDaemons
        } else {
            let service = given.has(Given::Service).then(|| self.key());
            Command::List { service, layout: self.layout() }
        })
    }

    /// Of several kinds of columns the first in ipvsadm's order wins.
    fn layout(&self) -> Layout {
        let columns = [
            (Given::Stats, Columns::Stats),
            (Given::Rate, Columns::Rate),
            (Given::Thresholds, Columns::Thresholds),
            (Given::PersistentConn, Columns::PersistentConnections),
            (Given::TunnelInfo, Columns::TunnelInfo),
        ];
        Layout {
            numeric: self.given.has(Given::Numeric),
            sorted: !self.given.has(Given::NoSort),
            exact: self.given.has(Given::Exact),
            columns: columns
                .into_iter()
                .find(|(option, _)| self.given.has(*option))
                .map_or(Columns::Plain, |(_, columns)| columns),
        }
    }

    fn key(&self) -> ServiceKey {
        match self.mark {
            0 => ServiceKey::new(self.protocol, SocketAddr::new(self.addr, self.port)),
            mark => ServiceKey::Mark { mark, family: self.family },
        }
    }

    fn scheduler_name(&self) -> &str {
        if self.scheduler.is_empty() { "wlc" } else { &self.scheduler }
    }

    fn service_spec(&self, flags: String) -> Result<ServiceSpec, Failure> {
        let one_packet = self.given.has(Given::OnePacket);
        if self.mark == 0 && self.port == 0 && self.persistence.is_none() {
            return Err(Failure::usage("Zero port specified for non-persistent service"));
        }
        if one_packet && self.mark == 0 && self.protocol != Protocol::Udp {
            return Err(Failure::usage("One-Packet Scheduling is only for UDP virtual services"));
        }
        if self.unknown_engine {
            return Err(Failure::minus_one(crate::execute::SCHEDULER_NOT_FOUND));
        }
        Ok(ServiceSpec {
            key: self.key(),
            scheduler: SchedulerSpec { name: self.scheduler_name().to_owned(), options: flags },
            persistence: self.persistence.map(|timeout| Persistence {
                timeout,
                prefix_len: self.prefix_len,
                engine: self.engine,
            }),
            one_packet,
            sloppy_tcp: false,
        })
    }

    fn server_addr(&self) -> SocketAddr {
        let (addr, port) = self.server.expect("the command was checked to have a server");
        SocketAddr::new(addr, port)
    }

    fn destination(&self) -> Result<DestinationSpec, Failure> {
        let mut addr = self.server_addr();
        // Without rewriting there is no port mapping; only a mark says nothing about ports.
        if self.mark == 0 && self.method != Method::Nat {
            addr.set_port(self.port);
        }
        if Family::of(addr.ip()) != self.family && self.method != Method::Tunnel {
            let message = "Different address family is allowed only for tunneling servers";
            return Err(Failure::usage(message));
        }
        let tunnel_options = [
            Given::TunnelType,
            Given::TunnelPort,
            Given::TunnelNoChecksum,
            Given::TunnelChecksum,
            Given::TunnelRemoteChecksum,
        ];
        if self.given.has_any(&tunnel_options) && self.method != Method::Tunnel {
            return Err(Failure::usage("Tunnel options conflict with forward method"));
        }
        self.tunnel.check(self.given)?;
        Ok(DestinationSpec {
            addr,
            forwarding: match self.method {
                Method::Nat => Forwarding::Nat,
                Method::Direct => Forwarding::Direct,
                Method::Tunnel => Forwarding::Tunnel(self.tunnel_spec()),
            },
            weight: self.weight,
            upper_threshold: self.upper,
            lower_threshold: self.lower,
        })
    }

    fn tunnel_spec(&self) -> Tunnel {
        let full = self.given.has(Given::TunnelChecksum);
        match self.tunnel {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gre => Tunnel::Gre { checksum: full },
            TunnelKind::Gue => Tunnel::Gue {
                port: self.tunnel_port,
                checksum: if self.given.has(Given::TunnelRemoteChecksum) {
                    TunnelChecksum::Remote
                } else if full {
                    TunnelChecksum::Full
                } else {
                    TunnelChecksum::None
                },
            },
        }
    }
}

fn role(text: Option<&str>) -> Option<DaemonRole> {
    match text? {
        "master" => Some(DaemonRole::Master),
        "backup" => Some(DaemonRole::Backup),
        _ => None,
    }
}

/// A command among the options. ipvsadm has no word for it but that of an option it does not know.
fn second_command(name: Name) -> Failure {
    Failure::usage(format!("invalid option `--{}'", name.long()))
}

fn timeout(text: &str, min: i64) -> Result<Duration, Failure> {
    number(text, min, TIMEOUT_MAX)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
        .ok_or_else(|| Failure::usage(format!("invalid timeout value `{text}' specified")))
}

fn bounded<T: TryFrom<i64>>(text: &str, min: i64, max: i64, what: &str) -> Result<T, Failure> {
    number(text, min, max)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Failure::usage(format!("illegal {what} specified")))
}

/// The flags of `-b` in ipvsadm's order of printing, by the scheduler's names for them.
fn parse_flags(scheduler: &str, text: &str) -> Result<String, Failure> {
    let names = scheduler_flags(scheduler);
    let mut set = [false; 3];
    for flag in text.split(',').filter(|flag| !flag.is_empty()) {
        let plain = scheduler_flags("").iter().position(|name| *name == flag);
        if let Some(position) = plain.or_else(|| names.iter().position(|name| *name == flag)) {
            set[position] = true;
        } else if ["sh", "mh"].iter().any(|other| scheduler_flags(other).contains(&flag)) {
            return Err(Failure::usage(format!("incompatible scheduler flag `{flag}'")));
        } else {
            return Err(Failure::usage(format!("invalid scheduler flag `{flag}'")));
        }
    }
    let chosen: Vec<&str> = names.iter().zip(set).filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    Ok(chosen.join(","))
}
