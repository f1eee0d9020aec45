//! `ha`: the virtual routers of this director, and what people want of them.

use serde::{Deserialize, Serialize};

/// A question, or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How they stand.
    Status {},
    /// Another director is to take over: of one group or virtual router, or of all that are active here.
    Failover(Whose),
    /// They take no part until that is taken back.
    Maint(Maint),
}

/// Which sync group or virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Whose {
    /// Its name; of a virtual router in a group the whole group is meant. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maint {
    /// As [`Whose::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It begins, or is over.
    pub on: bool,
}

/// How they stand, after what was ordered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Sync groups, and virtual routers that are in none.
    pub groups: Vec<Group>,
    /// Advertisements for no virtual router of this director.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Refused>,
}

/// A sync group, or a virtual router that is in none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it is a sync group.
    pub sync_group: bool,
    /// `active`, `backup`, or `initialize` while it takes no part.
    pub state: String,
    /// For how long, in seconds.
    pub since_s: f64,
    /// Why it is in that state.
    pub reason: String,
    /// What it advertises, or would.
    pub priority: u8,
    /// What the configuration says.
    pub configured_priority: u8,
    /// What is down of that without which it takes no part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// People have it in maintenance.
    pub maintenance: bool,
    /// People had another director take over: it takes the addresses back only when nobody has them.
    pub yielded: bool,
    /// Its members.
    pub routers: Vec<Router>,
}

/// A virtual router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// The interface that it advertises on.
    pub interface: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Its VRID.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// What it advertises from.
    pub source: String,
    /// Whom it sends to; none: the group.
    pub peers: Vec<String>,
    /// Virtual addresses that are advertised.
    pub addresses: Vec<String>,
    /// Those that move with them.
    pub excluded_addresses: Vec<String>,
    /// Whether it takes over from an active router of a lower priority.
    pub preempt: bool,
    /// Its own interval, in seconds.
    pub advert_int_s: f64,
    /// How long it hears nothing before it takes over, in seconds.
    pub down_interval_s: f64,
    /// Of a backup: in how many seconds it takes over if it hears nothing until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_over_in_s: Option<f64>,
    /// The last advertisement of each sender, the latest first.
    pub heard: Vec<Heard>,
    /// Advertisements of the latest sender that did not come since.
    pub missed: u64,
    /// What was counted.
    pub counts: Counts,
    /// Advertisements that were not taken, by reason.
    pub refused: Vec<Refused>,
}

/// An advertisement of another router.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// Who sent it.
    pub from: String,
    /// Its priority; 0: it leaves.
    pub priority: u8,
    /// Its interval, in seconds.
    pub advert_int_s: f64,
    /// How long ago, in seconds.
    pub age_s: f64,
}

/// What was counted of a virtual router, since it was first configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Advertisements sent, each peer's counted.
    pub sent: u64,
    /// Of these with priority 0.
    pub sent_leaving: u64,
    /// Advertisements taken.
    pub received: u64,
    /// Of these with priority 0.
    pub received_leaving: u64,
    /// Those with other addresses than this director's.
    pub other_addresses: u64,
    /// Those with another interval.
    pub other_interval: u64,
    /// Those of another active router, while this one was active, too.
    pub rivals: u64,
    /// Times that it became active.
    pub takeovers: u64,
    /// Announcements of addresses.
    pub announced: u64,
}

/// How many advertisements were not taken for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
}
