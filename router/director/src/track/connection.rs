//! One tracked connection, or a persistence template.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::{Address, Packet};

use crate::base::record::ConnectionId;
use crate::base::spec::{Forwarding, Protocol};
use crate::base::time::{Duration, Instant, Timeout};
use crate::base::view::Origin;
use crate::track::cached::Cached;
use crate::track::class::{Class, USED};
use crate::track::control::Control;
use crate::track::destination::{Counted, Destination};
use crate::track::feedback::AskedAt;
use crate::track::ftp::Ftp;
use crate::track::past::Past;
use crate::track::queued::Neighbours;
use crate::track::sctp::SctpState;
use crate::track::tcp::TcpState;
use crate::track::wheel::Links;

/// What a new entry lives for until its first packet has set its state.
const NEW_TIMEOUT: Duration = Duration::from_secs(3);

/// Template entries of firewall-mark services carry this protocol (`IP` in listings).
pub(crate) const PROTOCOL_IP: u8 = 0;

/// What a request carries: protocol, client, and the address it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) client: Address,
    pub(crate) virtual_addr: Address,
    pub(crate) client_port: u16,
    pub(crate) virtual_port: u16,
    pub(crate) protocol: u8,
    /// Templates and connections never answer for one another.
    pub(crate) template: bool,
    /// FTP has announced it, and the client's port, here 0, is not known before its first packet.
    pub(crate) announced: bool,
}

impl RequestKey {
    /// The connection that a packet belongs to as a request.
    pub(crate) fn of(packet: &Packet) -> Self {
        Self {
            client: packet.src,
            virtual_addr: packet.dst,
            client_port: packet.src_port,
            virtual_port: packet.dst_port,
            protocol: packet.protocol,
            template: false,
            announced: false,
        }
    }

    /// The connection that a packet of ours to its client belongs to.
    pub(crate) fn answered_by(packet: &Packet) -> Self {
        Self::between((packet.dst, packet.dst_port), (packet.src, packet.src_port), packet.protocol)
    }

    /// The connection of a client to an address that it asked for.
    pub(crate) fn between(client: (Address, u16), asked_for: (Address, u16), protocol: u8) -> Self {
        Self {
            client: client.0,
            virtual_addr: asked_for.0,
            client_port: client.1,
            virtual_port: asked_for.1,
            protocol,
            template: false,
            announced: false,
        }
    }
}

impl From<&RequestKey> for ConnectionId {
    fn from(key: &RequestKey) -> Self {
        Self {
            protocol: key.protocol,
            client: (key.client, key.client_port),
            asked_for: (key.virtual_addr, key.virtual_port),
            template: key.template,
            announced: key.announced,
        }
    }
}

impl From<&ConnectionId> for RequestKey {
    fn from(id: &ConnectionId) -> Self {
        let ConnectionId { protocol, client, asked_for, template, announced } = *id;
        Self { template, announced, ..Self::between(client, asked_for, protocol) }
    }
}

/// What a reply carries: protocol, the destination it comes from, and the client it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReplyKey {
    pub(crate) destination: Address,
    pub(crate) client: Address,
    pub(crate) destination_port: u16,
    pub(crate) client_port: u16,
    pub(crate) protocol: u8,
}

impl ReplyKey {
    /// The connection that a packet belongs to as a reply.
    pub(crate) fn of(packet: &Packet) -> Self {
        Self::between((packet.src, packet.src_port), (packet.dst, packet.dst_port), packet.protocol)
    }

    /// The connection that a packet of ours to its destination belongs to.
    pub(crate) fn answering(packet: &Packet) -> Self {
        Self::between((packet.dst, packet.dst_port), (packet.src, packet.src_port), packet.protocol)
    }

    /// The connection of a client with a destination.
    pub(crate) fn between(destination: (Address, u16), client: (Address, u16), protocol: u8) -> Self {
        Self {
            destination: destination.0,
            client: client.0,
            destination_port: destination.1,
            client_port: client.1,
            protocol,
        }
    }
}

/// A connection entry.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) request: RequestKey,
    pub(crate) destination_addr: Address,
    pub(crate) destination_port: u16,
    pub(crate) forwarding: Forwarding,
    /// A number whose meaning depends on the protocol.
    pub(crate) state: u8,
    /// No packet from the destination was seen.
    pub(crate) no_output: bool,
    pub(crate) counted: Counted,
    /// How it came to be, and whether it is an invalid template.
    pub(crate) past: Past,
    /// Packets from the client; beyond some few it does not matter how many.
    pub(crate) in_packets: u8,
    /// From a packet to silence; the deadline moves with each packet.
    pub(crate) timeout: Timeout,
    pub(crate) expires_at: Instant,
    /// Since when a destination is waited for, while it is and somebody wants to know.
    pub(crate) asked_at: Option<AskedAt>,
    pub(crate) destination: Arc<Destination>,
    /// Of a template: its own; of a connection: the template's that placed it, or the FTP control connection's that
    /// announced it.
    pub(crate) control: Option<Arc<Control>>,
    /// Of an FTP control connection.
    pub(crate) ftp: Option<Box<Ftp>>,
    /// The table's: its place on the timer wheel, and in the queue of embryonic connections, if it is one.
    pub(crate) links: Links,
    pub(crate) queued: Neighbours,
    /// Whether its packets pass by in the flow cache.
    pub(crate) cached: Cached,
    /// Under what the table counts it, and in which of its queues it is.
    pub(crate) tallied: Tallied,
    pub(crate) class: Class,
}

/// A protocol and one of its states, as an index; 0 is none: of templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tallied(u8);

impl Tallied {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::UDP as usize + 1;
    const TCP: u8 = 1;
    const SCTP: u8 = 12;
    const UDP: u8 = 26;

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }

    fn of(connection: &Connection) -> Self {
        if connection.request.template {
            return Self::default();
        }
        match Protocol::from_number(connection.request.protocol) {
            Some(Protocol::Tcp) => Self(Self::TCP + TcpState::from_number(connection.state).number()),
            Some(Protocol::Sctp) => Self(Self::SCTP + SctpState::from_number(connection.state).number()),
            Some(Protocol::Udp) => Self(Self::UDP),
            None => Self::default(),
        }
    }

    /// All but none, with protocol and name of the state.
    pub(crate) fn all() -> impl Iterator<Item = (Self, Protocol, &'static str)> {
        let tcp = TcpState::ALL.into_iter();
        let sctp = SctpState::ALL.into_iter();
        tcp.map(|it| (Self(Self::TCP + it.number()), Protocol::Tcp, it.name()))
            .chain(sctp.map(|it| (Self(Self::SCTP + it.number()), Protocol::Sctp, it.name())))
            .chain([(Self(Self::UDP), Protocol::Udp, UDP_STATE)])
    }
}

const _: () = assert!(Tallied::SCTP as usize == Tallied::TCP as usize + TcpState::ALL.len());
const _: () = assert!(Tallied::UDP as usize == Tallied::SCTP as usize + SctpState::ALL.len());

/// The only state of UDP in listings.
const UDP_STATE: &str = "UDP";
/// What the state of a UDP connection is once a destination has answered on it; before that it is 0.
pub(crate) const UDP_ANSWERED: u8 = 1;

impl Connection {
    /// A connection that begins: in no state yet, and for a moment only until its first packet sets one.
    #[inline(always)]
    pub(crate) fn new(
        request: RequestKey,
        destination: Arc<Destination>,
        port: u16,
        control: Option<Arc<Control>>,
        now: Instant,
    ) -> Self {
        let forwarding = destination.forwarding();
        Self {
            request,
            destination_addr: destination.addr,
            destination_port: port,
            forwarding,
            state: TcpState::None.number(),
            no_output: true,
            past: Past::new(Origin::Scheduled),
            counted: Counted::Inactive,
            in_packets: 0,
            timeout: NEW_TIMEOUT.into(),
            expires_at: now + NEW_TIMEOUT,
            asked_at: None,
            destination,
            control,
            ftp: None,
            links: Links::default(),
            queued: Neighbours::default(),
            cached: Cached::default(),
            tallied: Tallied::default(),
            class: Class::default(),
        }
    }

    /// The same, or a template, that lives for `timeout` from now on.
    pub(crate) fn lasting(self, timeout: Duration, now: Instant) -> Self {
        Self { timeout: timeout.into(), expires_at: now + timeout, ..self }
    }

    /// Lets go of what it held, once it has left the table.
    pub(crate) fn release(self) {
        self.destination.detach(self.counted);
        self.release_control();
    }

    pub(crate) fn reply_key(&self) -> ReplyKey {
        ReplyKey::between(
            (self.destination_addr, self.destination_port),
            (self.request.client, self.request.client_port),
            self.request.protocol,
        )
    }

    /// What it is to somebody who looks for room, as it stands now.
    #[inline]
    pub(crate) fn class_now(&self) -> Class {
        if self.request.template {
            let assured = self.control.as_ref().is_some_and(|control| control.assured.load(Relaxed));
            return if assured { Class::ConfirmedTemplate } else { Class::Template };
        }
        if self.is_embryonic() {
            return Class::HalfOpen;
        }
        if self.is_over() {
            return Class::Ended;
        }
        let (is_closing, is_open) = match Protocol::from_number(self.request.protocol) {
            Some(Protocol::Tcp) => {
                let state = TcpState::from_number(self.state);
                (matches!(state, TcpState::FinWait | TcpState::CloseWait), state == TcpState::Established)
            }
            Some(Protocol::Sctp) => {
                let state = SctpState::from_number(self.state);
                (state.is_closing(), state == SctpState::Established)
            }
            // That a destination answers does not say that the client is who it says.
            Some(Protocol::Udp) | None => (false, false),
        };
        match (is_closing, is_open && !self.no_output) {
            (true, _) => Class::Closing,
            (false, true) => Class::Established,
            (false, false) if self.in_packets < USED => Class::Claimed,
            (false, false) => Class::OneSided,
        }
    }

    /// Whether only its client's packets have been seen, and no others are expected here.
    #[inline]
    pub(crate) fn is_one_way(&self) -> bool {
        self.no_output && self.no_output_expected()
    }

    /// How the next packet gets to the destination: by the method it began with, in a tunnel of the kind that the
    /// destination takes now.
    #[inline]
    pub(crate) fn forwarding_now(&self) -> Forwarding {
        match self.forwarding {
            Forwarding::Tunnel(_) => Forwarding::Tunnel(self.destination.tunnel()),
            method => method,
        }
    }

    /// Whether replies pass by: direct routing and tunnelling.
    pub(crate) fn no_output_expected(&self) -> bool {
        self.forwarding != Forwarding::Nat
    }

    /// Whether replies pass the director and are translated by it.
    pub(crate) fn translates_replies(&self) -> bool {
        self.forwarding == Forwarding::Nat && !self.request.template
    }

    /// Whether it is a connection of which nobody knows yet that both ends want it: one whose handshake is not done,
    /// and with UDP one on which no destination has answered.
    #[inline]
    pub(crate) fn is_embryonic(&self) -> bool {
        !self.request.template
            && match Protocol::from_number(self.request.protocol) {
                Some(Protocol::Tcp) => TcpState::from_number(self.state).is_embryonic(),
                Some(Protocol::Sctp) => SctpState::from_number(self.state).is_embryonic(),
                // Without NAT answers do not pass by, and nobody can tell.
                Some(Protocol::Udp) => self.translates_replies() && self.state != UDP_ANSWERED,
                None => false,
            }
    }

    /// Moves the deadline to a timeout after `now`. Returns the one before if it has come nearer, which the wheel has
    /// to know: see [`Shard::nearer`](crate::track::table::Shard::nearer).
    #[inline]
    pub(crate) fn touch(&mut self, now: Instant) -> Option<Instant> {
        let deadline = now + self.timeout;
        let before = core::mem::replace(&mut self.expires_at, deadline);
        (deadline < before).then_some(before)
    }

    /// Moves the deadline to where packets that passed in the flow cache put it.
    pub(crate) fn take_over(&mut self, deadline: Instant) {
        if self.went_on(deadline) {
            self.in_packets = u8::MAX;
        }
        self.expires_at = self.expires_at.max(deadline);
    }

    /// Whether packets passed in the flow cache after the last one that was counted here, when `deadline` says where
    /// the cache puts its end. How many they were nobody knows, and beyond some few it does not matter.
    pub(crate) fn went_on(&self, deadline: Instant) -> bool {
        /// The cache tells the time of a packet that is counted here as well somewhat later.
        const SLACK: Duration = Duration::from_secs(1);
        deadline > self.expires_at + SLACK
    }

    /// Whether nothing but stray packets is to be expected of it.
    pub(crate) fn is_over(&self) -> bool {
        match Protocol::from_number(self.request.protocol) {
            Some(Protocol::Tcp) => TcpState::from_number(self.state).is_over(),
            Some(Protocol::Sctp) => SctpState::from_number(self.state) == SctpState::Closed,
            Some(Protocol::Udp) | None => false,
        }
    }

    /// What it is counted under from now on, and what it was until now.
    #[inline]
    pub(crate) fn retally(&mut self) -> (Tallied, Tallied) {
        let now = Tallied::of(self);
        (core::mem::replace(&mut self.tallied, now), now)
    }

    /// What it knows about entries that hang on it.
    pub(crate) fn controls(&self) -> Option<&Control> {
        match &self.ftp {
            Some(ftp) => Some(&ftp.control),
            None => self.control.as_deref().filter(|_| self.request.template),
        }
    }

    /// Tells the entry it hangs on, if any, that it left the table.
    pub(crate) fn release_control(&self) {
        if let Some(control) = &self.control
            && !self.request.template
        {
            control.controlled.fetch_sub(1, Relaxed);
        }
    }

    /// The state's name in listings.
    pub(crate) fn state_name(&self) -> &'static str {
        if self.request.template {
            let assured = self.control.as_ref().is_some_and(|c| c.assured.load(Relaxed));
            return if assured { "ASSURED" } else { "NONE" };
        }
        match Protocol::from_number(self.request.protocol) {
            Some(Protocol::Tcp) => TcpState::from_number(self.state).name(),
            Some(Protocol::Udp) => UDP_STATE,
            Some(Protocol::Sctp) => SctpState::from_number(self.state).name(),
            None => "NONE",
        }
    }
}
