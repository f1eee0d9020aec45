//! The director as a host: TCP, UDP and ping from its own addresses, through the engine, as tokio streams.
//!
//! ```text
//!   TcpStream, UdpSocket, Ping          what checks hold              (tcp, udp, echo; network: uvs-check's Network)
//!        |  ^
//!   Host (handle), Driver (task)        wakes when packets or deadlines come      (host)
//!        |  ^
//!   Core > Stack, Stack, ...            sans-IO: one smoltcp stack for each socket   (core, stack, cable)
//!        |  ^
//!   Link                                the engine: open, send, receive              (link)
//! ```
//! Each socket has a smoltcp stack of its own, which holds nothing but that socket and its address. So the director
//! may have any number of addresses, a packet finds its socket by its port at once, however many there are, and each
//! socket has the MTU of its own way. Routes, neighbours, fragments and tunnels are the engine's.
//!
//! Nothing is polled without need: a stack runs when a packet came for it, when its owner did something, or when one of
//! its timers is due. What is dropped ends at once: TCP with a reset, and the port is free.

#![forbid(unsafe_code)]

mod cable;
mod core;
mod echo;
mod error;
mod host;
mod link;
mod network;
mod stack;
mod tcp;
mod udp;

pub use crate::core::{Core, Key, Usage};
pub use echo::Ping;
pub use error::Error;
pub use host::{Driver, Host, Peer};
pub use link::Link;
pub use stack::{Buffers, Stack};
pub use tcp::TcpStream;
pub use udp::UdpSocket;

#[cfg(test)]
mod tests;
