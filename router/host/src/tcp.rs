//! TCP as a tokio stream.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uvs_director::local::Transport;

use crate::core::Key;
use crate::error::Error;
use crate::host::{Host, Peer};
use crate::stack::{Buffers, Stack};

/// A connection of the director's own. Dropped before both sides have ended it, it is reset.
pub struct TcpStream {
    host: Host,
    key: Key,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Host {
    /// Connects to `peer` that way. It is up to the caller to stop waiting: nobody may answer at all.
    ///
    /// # Errors
    /// The connection was refused, cannot be made, or a router says that it leads nowhere.
    pub async fn connect(&self, peer: Peer, buffers: Buffers) -> Result<TcpStream, Error> {
        let (key, local) = self.open(Transport::Tcp, peer, false, buffers)?;
        // From here on it is closed with the stream.
        let stream = TcpStream { host: self.clone(), key, local, peer: peer.addr };
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    /// Asks whether the port of `peer` is open: the SYN-ACK is answered with a reset. The handshake is never ended, so
    /// that nobody there has to accept, read and close a connection, as with HAProxy's checks that only connect.
    ///
    /// # Errors
    /// As of [`Host::connect`].
    pub async fn half_open(&self, peer: Peer, buffers: Buffers) -> Result<(), Error> {
        let (key, local) =
            self.open_with(Transport::Tcp, peer, false, buffers, |stack| stack.is_half_open = true)?;
        let stream = TcpStream { host: self.clone(), key, local, peer: peer.addr };
        poll_fn(|cx| stream.poll_connected(cx)).await
    }
}

impl TcpStream {
    /// The director's address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whom it speaks to: a VIP, if it goes by way of a destination.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// What was found out last about packets of it that do not arrive, though it goes on trying.
    pub fn trouble(&self) -> Option<Error> {
        self.look(|stack| stack.failure())
    }

    /// Looks at the socket, of which nothing changes that its peer is to hear of.
    fn look<R>(&self, look: impl FnOnce(&mut Stack) -> R) -> R {
        self.host
            .with(|core, _| look(core.stack(self.key).expect("it is there for as long as its stream is")))
    }

    /// Does something to the socket, which then sends what it has to.
    fn with<R>(&self, act: impl FnOnce(&mut Stack) -> R) -> R {
        self.host.with(|core, now| {
            let stack = core.stack(self.key).expect("it is there for as long as its stream is");
            let result = act(stack);
            core.run(self.key, now);
            result
        })
    }

    fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.look(|stack| {
            let failure = stack.failure();
            let socket = stack.tcp();
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(failure.unwrap_or(Error::Refused))),
                _ => Poll::Ready(Ok(())),
            }
        })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.host.with(|core, now| {
            let stack = core.stack(self.key).expect("it is there for as long as its stream is");
            let socket = stack.tcp();
            let read = socket.recv(|bytes| {
                let len = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..len]);
                (len, len)
            });
            match read {
                Ok(0) => {
                    socket.register_recv_waker(cx.waker());
                    Poll::Pending
                }
                Ok(_) => {
                    // There is room again, which the peer is told.
                    core.run(self.key, now);
                    Poll::Ready(Ok(()))
                }
                Err(RecvError::Finished) => Poll::Ready(Ok(())),
                Err(RecvError::InvalidState) => Poll::Ready(Err(Error::Reset.into())),
            }
        })
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.with(|stack| {
            let socket = stack.tcp();
            match socket.send_slice(bytes) {
                Ok(0) => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                Ok(len) => Poll::Ready(Ok(len)),
                Err(_) if socket.state() == State::Closed => Poll::Ready(Err(Error::Reset.into())),
                Err(_) => Poll::Ready(Err(Error::ShutDown.into())),
            }
        })
    }

    /// What was written is on its way at once.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more follows what was written; does not wait for it to be acknowledged.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stack| stack.tcp().close());
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.host.with(|core, now| core.close(self.key, now));
    }
}
