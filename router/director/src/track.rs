//! Connections: their states, their timers, the table that holds them, what they count.

pub(crate) mod connection;
pub(crate) mod sctp;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod tcp;
pub(crate) mod wheel;
