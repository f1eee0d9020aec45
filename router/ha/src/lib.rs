//! Failover between directors. No I/O and no clock: bytes and moments come in, and what is to be done goes out.
//!
//! ```text
//!   wire      VRRP advertisements, versions 2 and 3, to bytes and back
//!   timers    skew and Active_Down_Interval (RFC 9568, 6.1)
//!   plan      the virtual routers of this node, and what is wrong with a plan of them
//!   vrrp      the state machine: who is Active, and when (sans-IO)
//!   announce  frames that tell a link where addresses are now: gratuitous ARP and unsolicited NA
//!   sync      the IPVS sync protocol, version 1, to bytes and back
//! ```
//! Words are those of RFC 9568: virtual router, VRID, advertisement, Active and Backup. keepalived's MASTER is Active,
//! its instance a virtual router, and its FAULT is Initialize with a reason.

#![forbid(unsafe_code)]

pub mod announce;
pub mod plan;
pub mod sync;
pub mod timers;
pub mod vrrp;
pub mod wire;
