//! The network around the director: interfaces, routes, neighbours.

pub(crate) mod discovery;
pub(crate) mod neighbor;
pub(crate) mod network;
pub(crate) mod path_mtu;
