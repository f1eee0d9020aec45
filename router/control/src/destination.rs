//! `destination`: what people want of one destination of a service, and how it stands.

use serde::{Deserialize, Serialize};

/// A question, or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// SERVICE/DESTINATION, such as `tcp/192.0.2.10:443/192.168.10.11:443`; shorter where it is clear.
    pub name: String,
    /// What is asked or ordered.
    pub ask: Ask,
}

/// What can be asked of a destination, and what can be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// How it stands.
    Look {},
    /// The same, and what each writer says of its weight.
    Explain {},
    /// No new connections go to it any more.
    Drain(Terms),
    /// It serves again, as far as everything else goes.
    Undrain {},
    /// It is to weigh that much until the next reload, as with `uvs adm -e`.
    Weight(u32),
}

/// How a drain ends. By default when the last connection has, and then nothing follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// After so many milliseconds, whatever is left: flows of UDP are forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Then both ends of what is left of TCP get a reset, too.
    pub reset: bool,
    /// What follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What follows a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It is removed from its service, as by `uvs adm -d`.
    Remove,
    /// It is in maintenance: it gets no connections, and is not checked.
    Maint,
    /// It serves again.
    Ready,
}

impl Then {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Maint => "maint",
            Self::Ready => "ready",
        }
    }
}

/// A drain under way, or over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Who wants it: `people`; `health`, by `on_down`; `weight`, one of 0; `removal`, whoever took it from its service.
    pub by: String,
    /// `waiting` for the end of connections, `ending` them, or `over`.
    pub phase: String,
    /// For how long, in seconds.
    pub age_s: f64,
    /// Seconds to the deadline; 0 when it is over, absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    /// Whether what is left of TCP is reset at the deadline.
    #[serde(default)]
    pub reset: bool,
    /// What follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// How many connections were left when they were last counted.
    pub open: u64,
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its service, as `status` names it.
    pub service: String,
    /// Its address and port.
    pub destination: String,
    /// Its whole name, as [`Request::name`] takes it.
    pub name: String,
    /// What it weighs.
    pub weight: u32,
    /// `ready`, `drain` or `maint`.
    pub admin: String,
    /// What is left of its connections.
    pub left: Left,
    /// The drain under way, or over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// To [`Ask::Explain`]: what each writer says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// To [`Ask::Explain`]: the writer with the last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_by: Option<String>,
}

/// Entries of the connection table that name a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Connections, and flows of UDP.
    pub open: u64,
    /// Connections that are over, and only wait for their last packets.
    pub ended: u64,
    /// Templates of persistence.
    pub templates: u64,
}

/// What one writer says of a weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// `file`, `adm`, `operator`, `agent`, `script`, `slow start`, `health` or `administrative state`.
    pub writer: String,
    /// What it says; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How long ago it began to say so, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// Whether it has the last word.
    pub decides: bool,
}
