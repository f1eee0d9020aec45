//! The host's sockets against another stack, over wires that lose and reorder.

#![allow(clippy::unwrap_used, reason = "tests")]

mod core;
mod sockets;
mod wire;
