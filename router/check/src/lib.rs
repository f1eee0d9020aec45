//! Health checks of destinations.
//!
//! ```text
//!   net   what probes are made over: TCP, UDP and pings to a target (trait Network; System: the host's own sockets)
//! ```

#![forbid(unsafe_code)]

pub mod net;
