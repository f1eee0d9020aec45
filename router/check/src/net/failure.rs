//! Why there is no connection: what is wrong here, and what is wrong there.

use core::net::IpAddr;
use std::io;

use thiserror::Error;

/// Why a probe has no connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// It cannot be made here, which says nothing of the server.
    #[error("{0}")]
    Local(#[from] Local),
    /// It was made, and failed.
    #[error("{0}")]
    Remote(#[from] Remote),
}

/// Why a probe cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Local {
    /// No route leads to the target.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// There is no address of the target's family to send from.
    #[error("no address of its own to reach {0} from")]
    NoAddress(IpAddr),
    /// The source that is asked for is not an address of this network.
    #[error("{0} is not an address to send from")]
    NotOurs(IpAddr),
    /// Source and target are not of one family.
    #[error("{from} cannot reach {to}: one is IPv4, the other IPv6")]
    Family {
        /// The source that is asked for.
        from: IpAddr,
        /// The target.
        to: IpAddr,
    },
    /// All source ports are in use.
    #[error("no source port is left")]
    NoPort,
    /// The service or the destination that it is to go by does not exist.
    #[error("no destination {0} to go by")]
    NoDestination(core::net::SocketAddr),
    /// This network cannot send it the way that a service's packets go.
    #[error("via = \"service\" needs the director's own addresses")]
    NotThatWay,
    /// The packet is larger than what may leave here.
    #[error("its packet is larger than the MTU of the interface")]
    TooLarge,
    /// The process may not do this.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// Anything else, such as no file descriptors being left.
    #[error("{0}")]
    Other(String),
}

/// What became of a probe that was made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Remote {
    /// A TCP reset in answer to the SYN, or ICMP port unreachable.
    #[error("refused")]
    Refused,
    /// A reset on a connection that stood.
    #[error("reset")]
    Reset,
    /// The other end closed the connection before it had said what it should.
    #[error("closed")]
    Closed,
    /// ICMP host unreachable, or a neighbour that does not answer.
    #[error("host unreachable")]
    HostUnreachable,
    /// ICMP network unreachable.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// ICMP says that an administrator forbids it.
    #[error("administratively prohibited")]
    Prohibited,
    /// ICMP fragmentation needed, or packet too big: a link on the way takes no packet of that size.
    #[error("a link on the way takes no packet of that size")]
    TooBig,
    /// Nothing was heard for as long as this network tries.
    #[error("no answer")]
    NoAnswer,
    /// Anything else that a socket says.
    #[error("{0}")]
    Other(String),
}

impl From<&io::Error> for Remote {
    /// What an error of a socket says of the other end, on a connection that stands or was asked for.
    fn from(error: &io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Self::Reset,
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Self::Closed,
            ErrorKind::HostUnreachable => Self::HostUnreachable,
            ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            ErrorKind::PermissionDenied => Self::Prohibited,
            ErrorKind::TimedOut => Self::NoAnswer,
            _ if error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => Self::TooBig,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Local {
    /// What an error of a call that only concerns this host says, such as of `bind` or of `connect` before it waits.
    pub(crate) fn of(error: &io::Error, source: Option<IpAddr>, to: IpAddr) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::NetworkUnreachable => Self::NoRoute(to),
            ErrorKind::AddrNotAvailable => source.map_or(Self::NoPort, Self::NotOurs),
            ErrorKind::AddrInUse => Self::NoPort,
            ErrorKind::PermissionDenied => Self::NotPermitted(error.to_string()),
            _ if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => Self::NoAddress(to),
            _ if error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => Self::TooLarge,
            _ => Self::Other(error.to_string()),
        }
    }
}
