//! One node, and what was seen of all of them.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use uvs_director::Instant;
use uvs_ha::vrrp::Vrrp;
use uvs_ha::wire::{Interval, OWNER};

/// By what the priority of a node falls while what it follows is down.
pub(crate) const WEIGHT: i16 = -60;

pub(crate) struct Node {
    pub(crate) vrrp: Option<Vrrp>,
    pub(crate) configured: u8,
    pub(crate) interval: Interval,
    pub(crate) preempt: bool,
    pub(crate) preempt_delay: Duration,
    pub(crate) sources: Vec<IpAddr>,
    /// Whether it has been given one address more.
    pub(crate) reloaded: bool,
    pub(crate) weighed: bool,
    pub(crate) unplugged: bool,
    pub(crate) maintained: bool,
    /// Until when it waits for a snapshot.
    pub(crate) awaits: Instant,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) dead_until: Option<Instant>,
    /// What its clock is ahead of time.
    pub(crate) ahead: i128,
    /// Its clock was set back since it last looked: it cannot know how much time has passed.
    pub(crate) misled: bool,
    pub(crate) inbox: VecDeque<(usize, usize, Rc<[u8]>)>,
    pub(crate) owns: Vec<BTreeSet<IpAddr>>,
    /// The tick that counts; those before were moved.
    pub(crate) stamp: u64,
    /// Since when nothing that matters has happened to it.
    pub(crate) undisturbed: Instant,
    /// After a pause: it takes no addresses until then.
    pub(crate) listens_until: Option<Instant>,
}

impl Node {
    pub(crate) fn is_owner(&self) -> bool {
        self.configured == OWNER
    }

    /// What it should advertise.
    pub(crate) fn priority(&self) -> u8 {
        match self.configured {
            OWNER => OWNER,
            configured if self.weighed => {
                u8::try_from((i16::from(configured) + WEIGHT).clamp(1, 254)).unwrap()
            }
            configured => configured,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.vrrp.is_some() && self.paused_until.is_none()
    }

    /// Whether it runs and nothing speaks against its being Active.
    pub(crate) fn may_own(&self, now: Instant) -> bool {
        self.runs() && !self.unplugged && !self.maintained && now >= self.awaits
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) faults: u64,
    pub(crate) takeovers: u64,
    /// Times that two had the same addresses.
    pub(crate) overlaps: u64,
    /// Owners that slept for too long.
    pub(crate) late_wakes: u64,
    pub(crate) longest_two: Duration,
    pub(crate) longest_none: Duration,
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.lost += other.lost;
        self.faults += other.faults;
        self.takeovers += other.takeovers;
        self.overlaps += other.overlaps;
        self.late_wakes += other.late_wakes;
        self.longest_two = self.longest_two.max(other.longest_two);
        self.longest_none = self.longest_none.max(other.longest_none);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} lost, {} faults, {} takeovers, {} times two owners (longest {:?}), {} owners that slept \
             too long, longest without an owner {:?}",
            self.messages,
            self.lost,
            self.faults,
            self.takeovers,
            self.overlaps,
            self.longest_two,
            self.late_wakes,
            self.longest_none
        )
    }
}
