//! `announce`: VIPs that are told to routers.

use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Nothing: how it stands is asked.
    Status {},
    /// Withdraws all VIPs, until `on` or the director's end.
    Off {},
    /// Announces again what is fit, at once.
    On {},
}

/// How it stands, after what was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The configuration has `[announce]`.
    pub configured: bool,
    /// Who has switched it off, if somebody has.
    #[serde(default)]
    pub off_by: Option<String>,
    /// The VIPs that are to be announced while they are fit.
    pub vips: Vec<Vip>,
}

/// One VIP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// Its address.
    pub vip: String,
    /// The device that its route leads into.
    pub device: String,
    /// Whether it is announced.
    pub announced: bool,
    /// For so long, in seconds.
    pub since_s: f64,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
