//! Which options go with which command, and with which type of tunnel.

use crate::command::Failure;

/// Options by the names ipvsadm calls them in its messages, in the order in which it checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Given {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    MulticastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    MulticastGroup,
    MulticastPort,
    MulticastTtl,
    SyncMaxLen,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
}

use Given::{
    Connection, Daemon, Engine, Exact, Forward, LowerThreshold, MulticastGroup, MulticastInterface,
    MulticastPort, MulticastTtl, Netmask, NoSort, Numeric, OnePacket, Persistent, PersistentConn, Rate,
    Scheduler, SchedulerFlags, Server, Service, Stats, SyncId, SyncMaxLen, Thresholds, Timeout,
    TunnelChecksum, TunnelInfo, TunnelNoChecksum, TunnelPort, TunnelRemoteChecksum, TunnelType,
    UpperThreshold, Weight,
};

const ALL: [Given; 34] = [
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    MulticastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    MulticastGroup,
    MulticastPort,
    MulticastTtl,
    SyncMaxLen,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemoteChecksum,
];

impl Given {
    const fn name(self) -> &'static str {
        match self {
            Numeric => "numeric",
            Connection => "connection",
            Service => "service-address",
            Scheduler => "scheduler",
            Persistent => "persistent",
            Netmask => "netmask",
            Server => "real-server",
            Forward => "forwarding-method",
            Weight => "weight",
            UpperThreshold => "u-threshold",
            LowerThreshold => "l-threshold",
            MulticastInterface => "mcast-interface",
            Timeout => "timeout",
            Daemon => "daemon",
            Stats => "stats",
            Rate => "rate",
            Thresholds => "thresholds",
            PersistentConn => "persistent-conn",
            NoSort => "nosort",
            SyncId => "syncid",
            Exact => "exact",
            OnePacket => "ops",
            Engine => "pe",
            SchedulerFlags => "sched-flags",
            MulticastGroup => "mcast-group",
            MulticastPort => "mcast-port",
            MulticastTtl => "mcast-ttl",
            SyncMaxLen => "sync-maxlen",
            TunnelInfo => "tun-info",
            TunnelType => "tun-type",
            TunnelPort => "tun-port",
            TunnelNoChecksum => "tun-nocsum",
            TunnelChecksum => "tun-csum",
            TunnelRemoteChecksum => "tun-remcsum",
        }
    }
}

/// The options that were given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GivenSet(u64);

impl GivenSet {
    pub(crate) const fn has(self, option: Given) -> bool {
        self.0 & (1 << option as u32) != 0
    }

    pub(crate) fn has_any(self, options: &[Given]) -> bool {
        options.iter().any(|&option| self.has(option))
    }

    /// Notes an option.
    ///
    /// # Errors
    /// When it was given before.
    pub(crate) fn add(&mut self, option: Given) -> Result<(), Failure> {
        if self.has(option) {
            return Err(Failure::usage(format!("multiple '{}' options specified", option.name())));
        }
        self.0 |= 1 << option as u32;
        Ok(())
    }
}

/// Commands by the names ipvsadm calls them in its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
}

/// What a command (or a type of tunnel) makes of options: those it needs, those it takes, those of which it takes
/// one. Every other one is illegal.
struct Rule {
    name: &'static str,
    needs: &'static [Given],
    takes: &'static [Given],
    one_of: &'static [Given],
}

impl Verb {
    const fn rule(self) -> Rule {
        const SERVICE: &[Given] = &[Scheduler, Persistent, Netmask, OnePacket, Engine, SchedulerFlags];
        const SERVER: &[Given] = &[
            Forward,
            Weight,
            UpperThreshold,
            LowerThreshold,
            TunnelType,
            TunnelPort,
            TunnelNoChecksum,
            TunnelChecksum,
            TunnelRemoteChecksum,
        ];
        const LIST: &[Given] = &[Numeric, Stats, Rate, Thresholds, PersistentConn, NoSort, Exact, TunnelInfo];
        const DAEMON: &[Given] =
            &[MulticastInterface, SyncId, MulticastGroup, MulticastPort, MulticastTtl, SyncMaxLen];
        const NONE: &[Given] = &[];
        let (name, needs, takes, one_of): (_, &'static [Given], &'static [Given], &'static [Given]) =
            match self {
                Self::AddService => ("add-service", &[Service], SERVICE, NONE),
                Self::EditService => ("edit-service", &[Service], SERVICE, NONE),
                Self::DeleteService => ("delete-service", &[Service], NONE, NONE),
                Self::Flush => ("flush", NONE, NONE, NONE),
                Self::List => ("list", NONE, LIST, &[Connection, Service, Timeout, Daemon]),
                Self::AddServer => ("add-server", &[Service, Server], SERVER, NONE),
                Self::DeleteServer => ("delete-server", &[Service, Server], NONE, NONE),
                Self::EditServer => ("edit-server", &[Service, Server], SERVER, NONE),
                Self::Set => ("set", NONE, NONE, NONE),
                Self::StartDaemon => ("start-daemon", NONE, DAEMON, NONE),
                Self::StopDaemon => ("stop-daemon", NONE, &[SyncId], NONE),
                Self::Restore => ("restore", NONE, NONE, NONE),
                Self::Save => ("save", NONE, &[Numeric], NONE),
                Self::Zero => ("zero", NONE, &[Service], NONE),
            };
        Rule { name, needs, takes, one_of }
    }

    /// Whether the options go with the command.
    ///
    /// # Errors
    /// The first that does not, or that is missing.
    pub(crate) fn check(self, given: GivenSet) -> Result<(), Failure> {
        self.rule().check(&ALL, given, "command")
    }
}

/// A type of tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TunnelKind {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl TunnelKind {
    /// Whether the tunnel options go with the type.
    ///
    /// # Errors
    /// The first that does not, or that is missing.
    pub(crate) fn check(self, given: GivenSet) -> Result<(), Failure> {
        const CHECKED: [Given; 4] = [TunnelPort, TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum];
        let rule = match self {
            Self::Ipip => Rule { name: "ipip", needs: &[], takes: &[], one_of: &[] },
            Self::Gue => Rule {
                name: "gue",
                needs: &[TunnelPort],
                takes: &[],
                one_of: &[TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum],
            },
            Self::Gre => {
                Rule { name: "gre", needs: &[], takes: &[], one_of: &[TunnelNoChecksum, TunnelChecksum] }
            }
        };
        rule.check(&CHECKED, given, "tunnel type")
    }
}

impl Rule {
    fn check(&self, options: &[Given], given: GivenSet, what: &str) -> Result<(), Failure> {
        let rule = self.name;
        let mut chosen: Option<Given> = None;
        for &option in options {
            let name = option.name();
            if !given.has(option) {
                if self.needs.contains(&option) {
                    let message = format!("You need to supply the '{name}' option for the '{rule}' {what}");
                    return Err(Failure::usage(message));
                }
            } else if self.one_of.contains(&option) {
                if let Some(chosen) = chosen {
                    let chosen = chosen.name();
                    return Err(Failure::usage(format!(
                        "The option '{name}' conflicts with the '{chosen}' option in the '{rule}' {what}"
                    )));
                }
                chosen = Some(option);
            } else if !self.needs.contains(&option) && !self.takes.contains(&option) {
                return Err(Failure::usage(format!("Illegal '{name}' option with the '{rule}' {what}")));
            }
        }
        Ok(())
    }
}
