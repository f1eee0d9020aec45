//! TUN and TAP devices, and the host's links, addresses, routes and rules around them.
//!
//! ```text
//!   host::HostState   bridges, addresses, routes, rules, sysctls; undone when it ends
//!   Device            one TUN or TAP device; gone when it is dropped
//!     `- Queue        receive and send frames, never blocking
//!   Poller            sleeps until a queue has frames, or StopHandle::stop
//! ```
//!
//! The packet path (`Queue`, `Poller`) is for plain threads and does not know tokio; `net` and `host` talk
//! rtnetlink and are async. All of it acts in the network namespace of the calling thread.
//!
//! `unsafe` is used for requests to the TUN/TAP driver (`requests`), and nowhere else.

mod device;
mod error;
pub mod host;
pub mod net;
mod poller;
mod queue;
mod requests;
mod tunnel;
mod virtio;

pub use device::{Device, DeviceSpec, Kind, MTU_MIN, QUEUES_MAX};
pub use error::DeviceError;
pub use poller::{Poller, Ready, StopHandle};
pub use queue::Queue;
