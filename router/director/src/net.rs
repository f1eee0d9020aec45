//! The network around the director: interfaces, routes, neighbours.

pub(crate) mod adverts;
pub(crate) mod conflicts;
pub(crate) mod error_limit;
pub(crate) mod lane;
pub(crate) mod local;
pub(crate) mod memo;
pub(crate) mod messages;
pub(crate) mod neighbor;
pub(crate) mod network;
pub(crate) mod path_mtu;
pub(crate) mod reassembly;
pub(crate) mod servers;
pub(crate) mod talks;
