//! What the director does for whoever speaks VRRP for it: it hears and sends advertisements, and answers for addresses
//! or does not.
//!
//! ```text
//!   receive_advertisement() <-- queue <-- protocol 112      send_advertisement(packet) --> Verdict
//!   withhold(addresses)     --> Snapshot, replaced whole: nobody finds them here any more
//!   announce_some(addresses) --> gratuitous ARP, unsolicited advertisements
//! ```

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::Arc;

use uvs_wire::Address;

use crate::base::frame::Frame;
use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::base::time::Instant;
use crate::base::verdict::Verdict;
use crate::director::Director;
use crate::director::error::ApplyError;
use crate::net::adverts::Adverts;
use crate::net::messages;
use crate::path::adverts;
use crate::scene::outbox::Outbox;

impl Director {
    /// Lets somebody hear advertisements of VRRP routers, once [`Self::hear_advertisements`] says so. `wake` is called,
    /// by whatever thread it is, when something waits for [`Self::receive_advertisement`] that was not there before.
    #[must_use]
    pub fn with_advertisements(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.tables.adverts = Adverts::new(Box::new(wake));
        self
    }

    /// Whether advertisements of VRRP routers (protocol 112) are kept for [`Self::receive_advertisement`], or are what
    /// nobody takes, as in the beginning.
    pub fn hear_advertisements(&self, on: bool) {
        self.tables.adverts.hear(on);
    }

    /// The advertisement that waits longest: where it came in, and the IP packet, of which nothing but its IP header
    /// was looked at.
    pub fn receive_advertisement(&self) -> Option<(PortId, Box<[u8]>)> {
        self.tables.adverts.take()
    }

    /// Sends an advertisement, a whole IP packet from an address of the director: to a group out of `port`, to a peer
    /// by the way that leads there. What becomes of the frame is for the caller, as with [`Self::handle`].
    pub fn send_advertisement(
        &self,
        port: PortId,
        packet: &mut Frame,
        now: Instant,
        out: &mut Outbox,
    ) -> Verdict {
        let Outbox { lane, held, .. } = out;
        let snapshot = self.tables.snapshot.hold(held, &mut lane.memo);
        let (Ok(verdict) | Err(verdict)) = adverts::send((&self.tables, snapshot), lane, port, packet, now);
        if let Verdict::Drop(reason) = verdict {
            self.tables.drops.count(reason);
        }
        verdict
    }

    /// Has exactly these addresses withheld from now on: whichever of them interfaces are given, or will be, is not the
    /// director's. It does not answer for them (ARP, neighbour discovery, ping), delivers nothing to services there,
    /// and forwards packets to them as to those of others. None are withheld in the beginning.
    ///
    /// Waits for no change that makes a scheduler.
    ///
    /// # Errors
    /// [`ApplyError::Invalid`]; then all is as it was.
    pub fn withhold(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), ApplyError> {
        let withheld: HashSet<Address> = addresses.into_iter().map(Address::from).collect();
        let control = &*lock(&self.control);
        let before = Arc::clone(&self.tables.snapshot.load().network);
        if **before.withheld() == withheld {
            return Ok(());
        }
        let network = before.withholding(Arc::new(withheld)).map_err(ApplyError::Invalid)?;
        let network = Arc::new(network);
        self.tables.servers.relink(&network);
        self.replace(|snapshot| snapshot.network = network);
        self.tables.neighbors.outdate_memos();
        self.look_for_local(control);
        // What passes in the kernel goes to a director that answers for its address no more.
        self.tables.withdraw_flows(None);
        Ok(())
    }

    /// The addresses that are withheld, in no order.
    pub fn withheld(&self) -> Vec<IpAddr> {
        self.tables.snapshot.load().network.withheld().iter().map(|addr| addr.to_ip()).collect()
    }

    /// Tells switches, on each link with IPv6, that advertisements are listened to (MLD).
    pub fn join_advertisements(&self, out: &mut Outbox) {
        messages::join_vrrp(&self.tables.snapshot.load().network, &mut out.lane);
    }

    /// Announces addresses of ours, each on the link that it was given to (gratuitous ARP, unsolicited neighbour
    /// advertisements). Those that are withheld, or nobody's, are left out.
    pub fn announce_some(&self, addresses: &[IpAddr], out: &mut Outbox) {
        messages::announce_some(&self.tables.snapshot.load().network, addresses, &mut out.lane);
    }
}
