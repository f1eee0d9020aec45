//! What goes wrong with a socket.

use std::io;

use uvs_director::DropReason;
use uvs_director::local::{Failure, OpenError};

/// Why a socket could not be made, or what ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no way there, or no port left.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The buffers of all sockets together take as much memory as they may.
    #[error("the sockets' buffers take the {0} bytes that they may")]
    Memory(usize),
    /// A reset answered the first packet.
    #[error("connection refused")]
    Refused,
    /// A reset ended it.
    #[error("connection reset by peer")]
    Reset,
    /// A packet does not arrive.
    #[error("{0}")]
    Failed(Failure),
    /// The director itself dropped it.
    #[error("not sent: {0}")]
    Dropped(DropReason),
    /// A datagram that does not fit into one packet.
    #[error("a datagram of {len} bytes does not fit: {room} do")]
    TooLong {
        /// What was to be sent.
        len: usize,
        /// What can be.
        room: usize,
    },
    /// It was shut down before.
    #[error("the connection was shut down for sending")]
    ShutDown,
}

impl Error {
    /// Nothing was found out about the peer: the socket could not be made here.
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Memory(_) | Self::TooLong { .. } | Self::ShutDown)
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            Self::Open(OpenError::NoRoute(_)) | Self::Failed(Failure::NetUnreachable) => {
                io::ErrorKind::NetworkUnreachable
            }
            Self::Open(OpenError::NoPorts | OpenError::PortsInUse(_)) => io::ErrorKind::AddrInUse,
            Self::Open(_) => io::ErrorKind::AddrNotAvailable,
            Self::Memory(_) => io::ErrorKind::OutOfMemory,
            Self::Refused | Self::Failed(Failure::PortUnreachable) => io::ErrorKind::ConnectionRefused,
            Self::Reset => io::ErrorKind::ConnectionReset,
            Self::Failed(_) | Self::Dropped(_) => io::ErrorKind::HostUnreachable,
            Self::TooLong { .. } => io::ErrorKind::InvalidInput,
            Self::ShutDown => io::ErrorKind::BrokenPipe,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
