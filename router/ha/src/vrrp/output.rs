//! What the state machine wants done, and what it tells.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use crate::wire::Interval;

/// State of a virtual router, the same for all of a sync group (RFC 9568, 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It takes no part: it has not started, is in maintenance, or something that it needs is down.
    Initialize,
    /// It listens to the Active router and is ready to take over.
    Backup,
    /// It has the addresses.
    Active,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
        })
    }
}

/// Why a state was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has been started, or configured.
    Started,
    /// The owner of the addresses does not wait.
    Owner,
    /// Nothing was heard for Active_Down_Interval.
    Silence,
    /// The Active router said that it leaves.
    PeerLeft {
        /// Which.
        from: IpAddr,
    },
    /// The Active router has a lower priority.
    Preempted {
        /// Which.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another router is Active and has a higher priority.
    HigherPriority {
        /// Which.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another router is Active and has the same priority and a higher address.
    HigherAddress {
        /// Which.
        from: IpAddr,
    },
    /// Something that it needs is down.
    Fault {
        /// What, by the name it is tracked under.
        tracked: Arc<str>,
    },
    /// What was down is up again.
    Recovered,
    /// Somebody asked for maintenance.
    Maintenance,
    /// Maintenance is over.
    MaintenanceOver,
    /// Somebody asked for another node to take over.
    Failover,
    /// This process, or its whole machine, stood still. Another may be Active by now.
    LateWake {
        /// For how long it did not get to run.
        slept: Duration,
    },
    /// Two groups that were in different states are one now.
    Regrouped,
    /// It is configured no more.
    Removed,
    /// The process ends.
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Owner => f.write_str("owner of the addresses"),
            Self::Silence => f.write_str("no advertisement from an Active router"),
            Self::PeerLeft { from } => write!(f, "{from} left"),
            Self::Preempted { from, priority } => write!(f, "{from} is Active with priority {priority}"),
            Self::HigherPriority { from, priority } => {
                write!(f, "{from} is Active with priority {priority}")
            }
            Self::HigherAddress { from } => {
                write!(f, "{from} is Active with the same priority and a higher address")
            }
            Self::Fault { tracked } => write!(f, "{tracked} is down"),
            Self::Recovered => f.write_str("what was down is up again"),
            Self::Maintenance => f.write_str("maintenance"),
            Self::MaintenanceOver => f.write_str("maintenance is over"),
            Self::Failover => f.write_str("failover was asked for"),
            Self::LateWake { slept } => write!(f, "it stood still for {} ms", slept.as_millis()),
            Self::Regrouped => f.write_str("grouped with one in another state"),
            Self::Removed => f.write_str("no longer configured"),
            Self::Stopped => f.write_str("the process ends"),
        }
    }
}

/// What is to be done, in the order in which it comes: after a takeover the advertisement goes first, so that the
/// former Active router lets go, then the addresses are taken, then announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message, protocol 112 and TTL 255.
    Send {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Out of which interface.
        interface: Arc<str>,
        /// Source address of the packet.
        from: IpAddr,
        /// The group, or a peer.
        to: IpAddr,
        /// What follows the IP header.
        message: Vec<u8>,
    },
    /// Answer for these addresses from now on. An address is answered for as long as any virtual router owns it.
    Own {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Which addresses.
        addresses: Vec<IpAddr>,
    },
    /// Answer for them no more.
    Disown {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Which addresses.
        addresses: Vec<IpAddr>,
    },
    /// Tell the link where they are, once each ([`crate::announce::frame`]).
    Announce {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Out of which interface.
        interface: Arc<str>,
        /// Which addresses.
        addresses: Vec<IpAddr>,
    },
    /// Run the programs that want to hear of it.
    Notify(Notification),
    /// Log it.
    Event(Event),
}

/// What `notify` programs are told. keepalived's scripts take it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Of a sync group, not of a virtual router.
    pub group: bool,
    /// Name of either.
    pub name: Arc<str>,
    /// What it is now.
    pub now: Told,
    /// Its priority now, 1 to 255.
    pub priority: u8,
    /// Why.
    pub reason: Reason,
}

/// The words that keepalived has for what a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// `MASTER`: Active.
    Master,
    /// `BACKUP`.
    Backup,
    /// `FAULT`: Initialize, for maintenance or for something that is down.
    Fault,
    /// `STOP`: the process ends.
    Stop,
    /// `DELETED`: it is configured no more.
    Deleted,
    /// `MASTER_RX_LOWER_PRI`: still Active, and another of a lower priority was so, too.
    MasterRxLowerPri,
}

impl Told {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
            Self::MasterRxLowerPri => "MASTER_RX_LOWER_PRI",
        }
    }
}

impl Notification {
    /// The four arguments that keepalived gives: `INSTANCE` or `GROUP`, the name, the word, the priority.
    pub fn arguments(&self) -> [String; 4] {
        let of = if self.group { "GROUP" } else { "INSTANCE" };
        [of.to_owned(), self.name.to_string(), self.now.word().to_owned(), self.priority.to_string()]
    }

    /// What is added to the environment: the reason, as text. keepalived adds nothing of a transition there.
    pub fn environment(&self) -> [(&'static str, String); 1] {
        [("UVS_HA_REASON", self.reason.to_string())]
    }
}

/// What happened that people want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state is another.
    Changed {
        /// Name of the sync group, or of the virtual router that is in none.
        name: Arc<str>,
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// Why.
        reason: Reason,
    },
    /// The priority is another, by what it follows.
    Priority {
        /// Name of the sync group, or of the virtual router that is in none.
        name: Arc<str>,
        /// Before.
        from: u8,
        /// Now, 1 to 254.
        to: u8,
    },
    /// Another router is Active although this one is, and has a lower priority. It was told so.
    Rival {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Which.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A router of the same VRID advertises other addresses. It is obeyed none the less.
    OtherAddresses {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Which.
        from: IpAddr,
        /// What it has and this one has not.
        theirs: Vec<IpAddr>,
        /// What this one has and it has not.
        ours: Vec<IpAddr>,
    },
    /// A router of the same VRID advertises another interval. In version 3 it is learned. In version 2 the RFC drops
    /// such advertisements and both would be Active; here the longer of both is used.
    OtherInterval {
        /// Name of the virtual router.
        router: Arc<str>,
        /// Which.
        from: IpAddr,
        /// Its interval.
        theirs: Interval,
        /// The one of this node.
        ours: Interval,
    },
    /// It would be Active if the snapshot of its peer were in.
    AwaitsSnapshot {
        /// Name of the sync group, or of the virtual router that is in none.
        name: Arc<str>,
    },
    /// The snapshot did not come in time: it is given up.
    SnapshotGivenUp,
}
