//! What the core tells.

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;

use uvs_director::spec::ServiceKey;
use uvs_director::{Duration, Instant};

use super::streak::Health;
use crate::spec::OnDown;
use crate::weight::Writer;

/// What a check says of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No result yet.
    Unchecked,
    /// It works.
    Up,
    /// It does not.
    Down,
    /// Nothing, for its probe cannot be made.
    Unmade,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unchecked, Self::Up, Self::Down, Self::Unmade];
}

impl From<Health> for State {
    fn from(health: Health) -> Self {
        match health {
            Health::Unchecked => Self::Unchecked,
            Health::Up => Self::Up,
            Health::Down => Self::Down,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unchecked => "unchecked",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unmade => "cannot be made",
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// Of which service.
    pub service: ServiceKey,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A check changed its state.
    Check {
        /// Of which destination.
        destination: SocketAddr,
        /// Its name.
        check: Arc<str>,
        /// From this state.
        from: State,
        /// To this one.
        to: State,
        /// Why, in words.
        reason: String,
    },
    /// A checker gave no result in time, and was given up.
    Overdue {
        /// Of which destination.
        destination: SocketAddr,
        /// Its name.
        check: Arc<str>,
    },
    /// The certificate of a server expires soon, or has expired. It is told once for each certificate.
    Certificate {
        /// Of which destination.
        destination: SocketAddr,
        /// Which check has seen it.
        check: Arc<str>,
        /// When it expires, in seconds since 1970.
        expires: i64,
    },
    /// A destination came into service or went out of it.
    Destination {
        /// Which.
        destination: SocketAddr,
        /// Whether it is in service now.
        in_service: bool,
        /// Why, in words.
        reason: String,
    },
    /// The checks of a destination are up, but it has gone down so often lately that it is held out of service.
    Held {
        /// Which.
        destination: SocketAddr,
        /// Until when, unless it goes down again.
        until: Instant,
    },
    /// The quorum was lost or regained.
    Quorum {
        /// Whether it is held now.
        held: bool,
        /// Whether that was not known before: first results have come.
        first: bool,
        /// The weight in service.
        weight: u64,
        /// That of all destinations that are no backups.
        of: u64,
    },
    /// The backups serve, or do so no longer.
    Backup {
        /// Whether they do now.
        serves: bool,
    },
}

/// A weight that the director is to give a destination from now on. Those that come out together belong together: the
/// ones that rise come first, so that there is no moment with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Of which service.
    pub service: ServiceKey,
    /// Which destination.
    pub destination: SocketAddr,
    /// The effective weight.
    pub weight: u32,
    /// Who had the last word on it.
    pub by: Writer,
    /// What its connections are to expect where it went down; `None` where it is 0 for another reason, or not 0.
    pub down: Option<OnDown>,
    /// Whether it is to have no new connections whatever its health (a weight of 0, or an agent that drains), where
    /// that has changed.
    pub quiesced: Option<bool>,
    /// How long the connections of one that is quiesced go on: see [`Policy`](crate::spec::Policy).
    pub drain: Option<Duration>,
}
