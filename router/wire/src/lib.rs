//! Views of packet headers, checksums and segmentation for a director; no I/O and no allocation.
//!
//! ```text
//! frame            ethernet, arp, vnet      what surrounds or precedes an IP packet
//! IP packet        packet                   parsed once, used by everyone below
//!                  ipv4, ipv6, tcp, udp, sctp, icmp, ndp, mld
//! packet in packet gre, gue
//! in-place edits   rewrite, checksum        checksums follow the edit
//! one to many      fragment, segment
//! ```
//!
//! Two tiers: *views* read packets that are forwarded (what is not meant to change stays), and small
//! `Repr` structs and `emit` functions write packets that the director originates.
//!
//! Invariants: parsing never panics, whatever the bytes; edits are incremental, so that a checksum that
//! was wrong on the way in is wrong on the way out; functions that write into a caller's buffer name the
//! size they need and panic when the buffer is smaller, since that is a mistake of the program.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod fragment;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod rewrite;
pub mod sctp;
pub mod segment;
pub mod tcp;
pub mod udp;
pub mod vnet;

mod address;
mod error;
mod field;
mod packet;
mod protocol;
#[cfg(test)]
mod testing;

pub use address::Address;
pub use error::ParseError;
pub use packet::Packet;
