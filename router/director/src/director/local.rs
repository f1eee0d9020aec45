//! The director as a host: sockets of its own, whose packets go through the engine like any other.

use core::net::SocketAddr;

use crate::base::frame::Frame;
use crate::base::local::{Binding, LocalLimits, OpenError, Received, SocketSpec, Transport, Way};
use crate::base::spec::ServiceKey;
use crate::base::time::Instant;
use crate::base::verdict::Verdict;
use crate::director::Director;
use crate::net::local::Local;
use crate::path::local_out;
use crate::scene::outbox::Outbox;

impl Director {
    /// Lets the director have sockets of its own. `wake` is called, by whatever thread it is, when something waits for
    /// [`Self::receive_local`] that was not there before.
    #[must_use]
    pub fn with_local(mut self, limits: LocalLimits, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.tables.local = Local::new(limits, Box::new(wake));
        self
    }

    /// Gives a socket an address and a port, for as long as until [`Self::close_local`]. Its packets are in no
    /// connection table and no scheduler hears of them.
    ///
    /// # Errors
    /// Nothing leads there, or there is no port left.
    pub fn open_local(&self, spec: &SocketSpec, now: Instant) -> Result<Binding, OpenError> {
        local_out::open(&self.tables, &self.tables.snapshot.load(), spec, now)
    }

    /// Takes the port of a socket back: what comes for it from now on is refused.
    pub fn close_local(&self, transport: Transport, port: u16) {
        self.tables.local.close(transport, port);
    }

    /// The longest packet of a socket that takes its way whole, as far as is known by now. `None`: no such socket, or
    /// no way.
    pub fn local_mtu(&self, transport: Transport, port: u16, now: Instant) -> Option<u32> {
        local_out::mtu_of(&self.tables, &self.tables.snapshot.load(), (transport, port), now)
    }

    /// Sends an IP packet of a live socket, with complete checksums; what becomes of the frame is for the caller, as
    /// with [`Self::handle`].
    pub fn send_local(&self, packet: &mut Frame, now: Instant, out: &mut Outbox) -> Verdict {
        let Outbox { lane, held, .. } = out;
        let snapshot = self.tables.snapshot.hold(held, &mut lane.memo);
        let (Ok(verdict) | Err(verdict)) = local_out::send(&self.tables, snapshot, lane, packet, now);
        if let Verdict::Drop(reason) = verdict {
            self.tables.drops.count(reason);
        }
        verdict
    }

    /// What came for a socket, first in first.
    pub fn receive_local(&self) -> Option<Received> {
        self.tables.local.take()
    }

    /// The way that clients' packets take to a destination of a service. `None`: there is none of that name.
    pub fn way_to(&self, service: ServiceKey, destination: SocketAddr) -> Option<Way> {
        let snapshot = self.tables.snapshot.load();
        let found = snapshot.services.get(&service)?.find(destination)?;
        Some(Way::Destination { addr: found.addr.to_ip(), port: found.port, forwarding: found.forwarding() })
    }
}
