//! Connections: their states, their timers, the table that holds them, what they count.

pub(crate) mod bypass;
pub(crate) mod cached;
pub(crate) mod class;
pub(crate) mod connection;
pub(crate) mod control;
pub(crate) mod destination;
pub(crate) mod feedback;
pub(crate) mod ftp;
pub(crate) mod log;
pub(crate) mod observed;
pub(crate) mod past;
pub(crate) mod queued;
pub(crate) mod response;
pub(crate) mod sctp;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod tcp;
pub(crate) mod wheel;
