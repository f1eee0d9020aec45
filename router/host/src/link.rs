//! What the sockets stand on.

use std::net::SocketAddr;

use uvs_director::local::{Binding, OpenError, Received, SocketSpec, Transport, Way};
use uvs_director::spec::ServiceKey;
use uvs_director::{DropReason, Frame, Instant};

/// The engine, as the host's sockets need it: a director and the devices that its frames leave through.
pub trait Link: Send + Sync {
    /// The time now.
    fn now(&self) -> Instant;

    /// Gives a socket its address and port.
    ///
    /// # Errors
    /// Why there is none.
    fn open(&self, spec: &SocketSpec) -> Result<Binding, OpenError>;

    /// Takes the port of a socket back.
    fn close(&self, transport: Transport, port: u16);

    /// The longest packet of that socket that takes its way whole, as far as is known by now. `None`: no such socket.
    fn mtu(&self, transport: Transport, port: u16, now: Instant) -> Option<u32>;

    /// The way that clients' packets take to a destination of a service. `None`: there is none of that name.
    fn way_to(&self, service: ServiceKey, destination: SocketAddr) -> Option<Way>;

    /// Sends an IP packet of a socket, which the frame is used up for.
    ///
    /// # Errors
    /// Why it goes no further. What waits for a neighbour was sent.
    fn send(&self, packet: &mut Frame, now: Instant) -> Result<(), DropReason>;

    /// What came, one at a time.
    fn receive(&self) -> Option<Received>;
}
