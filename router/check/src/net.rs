//! What probes are made over: a [`Network`] opens TCP connections and UDP sockets and sends pings.
//!
//! There are two: [`System`], the sockets of the host, and the director's own stack, which can send a probe the way
//! that a client's packet takes.

mod failure;
mod ping;
mod system;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::pin::Pin;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use uvs_director::spec::ServiceKey;

pub use failure::{Failure, Local, Remote};
pub use system::System;

/// Whither a probe goes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The address that answers: the destination's own, or the VIP where it goes [`Via::Service`].
    pub address: IpAddr,
    /// The port there. Pings have none, and 0 here.
    pub port: u16,
    /// The address it comes from; `None`: one of the director's own (DIP), of the target's family. Never a VIP, whose
    /// answers may go to another director.
    pub source: Option<IpAddr>,
    /// The firewall mark of what is sent (`SO_MARK`).
    pub mark: Option<u32>,
    /// Which way.
    pub via: Via,
}

impl Target {
    /// Straight to `addr`, from an address of the network's choice.
    pub const fn direct(addr: SocketAddr) -> Self {
        Self { address: addr.ip(), port: addr.port(), source: None, mark: None, via: Via::Direct }
    }

    /// Address and port.
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}", self.address)?,
            _ => write!(f, "{}", self.addr())?,
        }
        match &self.via {
            Via::Direct => Ok(()),
            Via::Service { destination, .. } => write!(f, " via {destination}"),
        }
    }
}

/// Which way a probe goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// As routes say.
    Direct,
    /// As a client's packet goes when the scheduler picks that destination: by its forwarding method, to the VIP.
    Service {
        /// The service. Of one that is a firewall mark, [`Target::address`] is the VIP that is asked for.
        service: ServiceKey,
        /// The destination, as it is named within the service.
        destination: SocketAddr,
    },
}

/// A ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// How many bytes follow the ICMP header, at most [`Echo::MAX`]. IP and ICMP header add 28 bytes (IPv4) or 48
    /// (IPv6).
    pub payload: u16,
    /// Whether routers may not fragment it (IPv4; those of IPv6 never do), nor the sender.
    pub do_not_fragment: bool,
}

impl Echo {
    /// The largest payload.
    pub const MAX: u16 = 65_507;
}

/// Comes out as a `T`, or as the reason why not. To drop it is to give up: nothing of it stays behind.
pub type Opening<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// Comes out as the end of one operation on a socket.
pub type Operation<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A TCP connection. To drop it is to close it; what was not read makes that a reset, as sockets do.
///
/// A reset by the peer is an error of the kind `ConnectionReset`.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A UDP socket that is connected: it sends to its target and hears nobody else.
///
/// ICMP port unreachable is an error of the kind `ConnectionRefused`, other unreachables are `HostUnreachable` and
/// `NetworkUnreachable`, from whichever operation comes next.
pub trait Datagrams: Send {
    /// Sends one datagram.
    fn send<'a>(&'a mut self, payload: &'a [u8]) -> Operation<'a, ()>;

    /// Waits for one datagram and says how long it is. What `buffer` has no room for is lost.
    fn receive<'a>(&'a mut self, buffer: &'a mut [u8]) -> Operation<'a, usize>;
}

/// What probes are made over.
///
/// Nothing here has a deadline of its own that would be shorter than a minute: who probes drops what takes too long.
pub trait Network: Send + Sync + 'static {
    /// Opens a TCP connection: it comes out once the handshake is done.
    ///
    /// # Errors
    ///
    /// [`Failure::Local`] when no SYN can be sent, [`Failure::Remote`] when it is refused, or an ICMP error says that
    /// it cannot arrive.
    fn tcp(&self, target: &Target) -> Opening<Box<dyn Stream>>;

    /// Asks whether a TCP port is open: it comes out once the other end has answered the SYN, and nothing is left of
    /// it. The handshake need not be ended for that; then a reset ends it, and no connection comes out of `accept`
    /// there.
    ///
    /// # Errors
    ///
    /// As of [`Network::tcp`].
    fn half_open(&self, target: &Target) -> Opening<()> {
        let opening = self.tcp(target);
        Box::pin(async move { opening.await.map(drop) })
    }

    /// Opens a UDP socket; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Local`], as there is nobody else to say anything.
    fn udp(&self, target: &Target) -> Opening<Box<dyn Datagrams>>;

    /// Sends one echo request and waits for the reply with its identifier, sequence number and payload.
    ///
    /// # Errors
    ///
    /// As of [`Network::tcp`].
    fn ping(&self, target: &Target, echo: Echo) -> Opening<()>;
}
