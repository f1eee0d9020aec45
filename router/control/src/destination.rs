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
    Drain {},
    /// It serves again, as far as everything else goes.
    Undrain {},
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
