//! The virtual routers of this node, as they are configured.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::wire::{ADDRESSES_MAX, ChecksumForm, Family, Interval, OWNER, Password, TTL, Version};

/// What a virtual router is known by: everything else of it may change while it keeps its state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Name of the interface.
    pub interface: Arc<str>,
    /// IPv4 or IPv6.
    pub family: Family,
    /// 1 to 255.
    pub vrid: u8,
}

/// One virtual router (keepalived's `vrrp_instance`).
#[derive(Clone, Debug, PartialEq)]
pub struct RouterPlan {
    /// What people call it. It is no part of its [`Key`].
    pub name: Arc<str>,
    /// The interface that it advertises on.
    pub interface: Arc<str>,
    /// 1 to 255.
    pub vrid: u8,
    /// What it sends, and the only version that it takes.
    pub version: Version,
    /// 1 to 254, or 255 for the owner of the addresses, whose priority follows nothing.
    pub priority: u8,
    /// How often it advertises while Active.
    pub interval: Interval,
    /// What it sends from: the primary address of the interface, over IPv6 its link-local one. It tells the family.
    pub source: IpAddr,
    /// The virtual addresses that are advertised, 1 to 255, of the family of `source`.
    pub addresses: Vec<IpAddr>,
    /// Addresses of either family that move with the others and are not advertised (`virtual_ipaddress_excluded`).
    pub unadvertised: Vec<IpAddr>,
    /// Whether it takes over from an Active router of a lower priority.
    pub preempt: bool,
    /// How long it waits before it does, from the first advertisement of a lower priority on. Zero: until
    /// Active_Down_Interval is over, as the RFC has it.
    pub preempt_delay: Duration,
    /// Whom it sends to; nobody: the group.
    pub peers: Vec<IpAddr>,
    /// The lowest TTL that is taken: 255, or less for peers behind routers.
    pub ttl_min: u8,
    /// Version 2 alone.
    pub password: Option<Password>,
    /// What it sends over IPv4 in version 3. Both forms are taken.
    pub checksum: ChecksumForm,
    /// How often addresses are announced.
    pub announce: AnnouncePlan,
    /// What its priority follows.
    pub track: Vec<TrackPlan>,
}

/// How often gratuitous ARP or unsolicited neighbour advertisements are sent after a takeover. The defaults are
/// keepalived's, but for `refresh`, which it has off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncePlan {
    /// How many of them for each address, 1 to 255 (`garp_master_repeat`).
    pub repeat: u8,
    /// Between two of them; zero: all at once (`garp_interval`).
    pub gap: Duration,
    /// A second round comes so long after the first; zero: none does (`garp_master_delay`).
    pub delay: Duration,
    /// One comes so often as long as it is Active; zero: none does (`garp_master_refresh`).
    pub refresh: Duration,
}

impl Default for AnnouncePlan {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { repeat: 5, gap: Duration::ZERO, delay: seconds(5), refresh: seconds(60) }
    }
}

/// Something that priority follows: a link, a script, the checks of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackPlan {
    /// The name by which its state is told.
    pub name: Arc<str>,
    /// -253 to 253. Above zero it is added while that is up, below zero while that is down. Zero: while that is down,
    /// this node takes no part (keepalived's FAULT).
    pub weight: i16,
    /// Down counts as up, and up as down.
    pub reverse: bool,
    /// What it counts for until its state is told.
    pub presumed_up: bool,
}

impl TrackPlan {
    /// While that is down, this node takes no part; until its state is told, it counts as up.
    pub fn fault(name: &str) -> Self {
        Self { name: name.into(), weight: 0, reverse: false, presumed_up: true }
    }
}

/// Virtual routers that are Active together or not at all (`vrrp_sync_group`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// What people call it, and what it is known by.
    pub name: Arc<str>,
    /// Names of virtual routers. The first one decides where priorities are the same on two nodes: addresses of the
    /// others could say otherwise.
    pub members: Vec<Arc<str>>,
    /// What the priority of all of them follows, beside what its members have.
    pub track: Vec<TrackPlan>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Virtual routers.
    pub routers: Vec<RouterPlan>,
    /// Sync groups. A virtual router is in one at most.
    pub groups: Vec<GroupPlan>,
}

/// What is wrong with a plan: of which virtual router or group, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of}: {what}")]
pub struct PlanError {
    /// Name of the virtual router or group.
    pub of: Arc<str>,
    /// What is wrong, and how to mend it.
    pub what: String,
}

/// Priorities that weights can lead to.
pub(crate) const WEIGHED: core::ops::RangeInclusive<u8> = 1..=254;
/// keepalived's bound of a weight, either side of zero.
const WEIGHT_MAX: u16 = 253;
/// keepalived's bound of `preempt_delay`.
const PREEMPT_DELAY_MAX: Duration = Duration::from_secs(1000);

impl RouterPlan {
    /// IPv4 or IPv6.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// What it is known by.
    pub fn key(&self) -> Key {
        Key { interface: Arc::clone(&self.interface), family: self.family(), vrid: self.vrid }
    }

    /// Whether its priority is that of the owner of the addresses.
    pub fn is_owner(&self) -> bool {
        self.priority == OWNER
    }

    fn check(&self) -> Result<(), String> {
        let family = self.family();
        if self.interface.is_empty() {
            return Err("it has no interface; name the one that its peers are on".into());
        }
        if self.vrid == 0 {
            return Err("VRID 0 does not exist; use 1 to 255, the same on all nodes".into());
        }
        if self.priority == 0 {
            return Err("priority 0 means that a node leaves; use 1 to 254, or 255 for the owner".into());
        }
        if self.version == Version::V2 && family == Family::V6 {
            return Err("version 2 knows no IPv6; use version 3".into());
        }
        if !self.interval.fits(self.version) {
            let range = match self.version {
                Version::V2 => "version 2 has whole seconds, 1 s to 255 s",
                Version::V3 => "version 3 has 10 ms to 40.95 s",
            };
            return Err(format!(
                "an interval of {:?} cannot be advertised; {range}",
                self.interval.duration()
            ));
        }
        if self.password.is_some() && self.version == Version::V3 {
            return Err("version 3 has no passwords; leave it out".into());
        }
        if self.addresses.is_empty() || self.addresses.len() > ADDRESSES_MAX {
            let count = self.addresses.len();
            return Err(format!(
                "{count} addresses cannot be advertised; give 1 to 255, the rest as unadvertised ones"
            ));
        }
        if let Some(other) = self.addresses.iter().find(|ip| Family::of(**ip) != family) {
            return Err(format!(
                "{other} is not {family}, which its source {} is; give it as an unadvertised one",
                self.source
            ));
        }
        let all = || self.addresses.iter().chain(&self.unadvertised);
        if let Some(bad) = all().find(|ip| !is_host(**ip)) {
            return Err(format!("{bad} is no address that a host can have"));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = all().find(|ip| !seen.insert(**ip)) {
            return Err(format!("{twice} stands there twice"));
        }
        if !is_host(self.source) {
            return Err(format!("{} is no address that it could advertise from", self.source));
        }
        let stray = |ip: &&IpAddr| Family::of(**ip) != family || !is_host(**ip) || **ip == self.source;
        if let Some(peer) = self.peers.iter().find(stray) {
            return Err(format!(
                "{peer} is no peer of {}; give addresses of other nodes, {family}",
                self.source
            ));
        }
        if self.peers.is_empty() && self.ttl_min != TTL {
            return Err("a lowest TTL is for unicast peers; to the group it is always 255".into());
        }
        if self.preempt_delay > PREEMPT_DELAY_MAX {
            return Err(format!("a preemption delay of {:?} is longer than 1000 s", self.preempt_delay));
        }
        if self.announce.repeat == 0 {
            return Err(
                "without an announcement nobody learns of a takeover; repeat it 1 to 255 times".into()
            );
        }
        check_tracks(&self.track)
    }
}

fn is_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast)
}

fn check_tracks(tracks: &[TrackPlan]) -> Result<(), String> {
    match tracks.iter().find(|track| track.weight.unsigned_abs() > WEIGHT_MAX) {
        Some(TrackPlan { name, weight, .. }) => {
            Err(format!("weight {weight} of {name} is out of range; use -253 to 253"))
        }
        None => Ok(()),
    }
}

impl Plan {
    /// Checks that all of it can be done.
    ///
    /// # Errors
    /// The first thing that cannot.
    pub fn check(&self) -> Result<(), PlanError> {
        let error = |of: &Arc<str>, what: String| PlanError { of: Arc::clone(of), what };
        let mut by_name: HashMap<&str, &RouterPlan> = HashMap::new();
        let mut keys: HashMap<Key, &Arc<str>> = HashMap::new();
        for router in &self.routers {
            router.check().map_err(|what| error(&router.name, what))?;
            if by_name.insert(&router.name, router).is_some() {
                return Err(error(&router.name, "this name stands there twice; give each its own".into()));
            }
            if let Some(other) = keys.insert(router.key(), &router.name) {
                let Key { interface, family, vrid } = router.key();
                let what =
                    format!("{other} has VRID {vrid} over {family} on {interface}, too; use another VRID");
                return Err(error(&router.name, what));
            }
        }
        let mut grouped: HashMap<&str, &Arc<str>> = HashMap::new();
        let mut names = HashSet::new();
        for group in &self.groups {
            let error = |what: String| error(&group.name, what);
            check_tracks(&group.track).map_err(error)?;
            if !names.insert(&group.name) {
                return Err(error("this name stands there twice; give each group its own".into()));
            }
            if group.members.is_empty() {
                return Err(error("it has no members; name virtual routers, or leave it out".into()));
            }
            let mut priority = None;
            for member in &group.members {
                let Some(router) = by_name.get(&**member) else {
                    return Err(error(format!("there is no virtual router {member}")));
                };
                if let Some(other) = grouped.insert(member, &group.name) {
                    return Err(error(format!("{member} is in {other} already; a virtual router is in one")));
                }
                if *priority.get_or_insert(router.priority) != router.priority {
                    return Err(error(format!(
                        "{member} has another priority than the members before it; the group would be Active on one \
                         node by some of them and on another by the rest: give all the same"
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
