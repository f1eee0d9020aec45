//! The direct attach: frames between the director's TAP devices and links of the host, without a bridge.
//!
//! ```text
//!   wire -- link (eth0) ---- the host's own stack, unharmed
//!             |      ^
//!        tcx programs (bpf/attach.bpf.c)
//!             v      |
//!           TAP (uvs0) ---- the director
//! ```
//! A frame to the director's MAC address goes to the TAP instead of the host, whether it comes from the wire or from
//! the host; one to everybody goes to both, as far as the director has a use for it; what the director writes goes out
//! over the link, or to the host. The link keeps its addresses.
//!
//! - [`Attachments`]: the programs on all links, kept there while links come and go.
//! - [`Cache`]: established flows, which the programs forward without the director (`accelerate`).
//! - [`AttachError`]: why it cannot be, and what to do about it.
//! - [`Decapsulator`]: on a real server, what unpacks tunnelled packets before its stack sees them (`bpf/decap.bpf.c`).
//!
//! Everything hangs on file descriptors of this process (links of BPF, a packet socket), so nothing is left behind
//! however it ends, but for a cache that is pinned ([`CachePlan::pin`]). CAP_BPF and CAP_NET_ADMIN are needed, for a
//! link that filters what it receives (not a veth) CAP_NET_RAW, too. No `unsafe` here: aya makes the system calls.

mod attachments;
#[cfg(test)]
mod btf;
mod cache;
mod capabilities;
mod decapsulator;
mod error;
mod membership;
mod pins;
mod program;

pub use attachments::{Attachments, Checked, Pair};
pub use cache::{Cache, CachePlan, CacheStatus};
pub use decapsulator::{DECAP_OBJECT, Decapsulated, Decapsulator, DecapsulatorError};
pub use error::AttachError;
pub use program::OBJECT;
