//! UDP to one peer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;
use uvs_director::local::Transport;

use crate::core::Key;
use crate::error::Error;
use crate::host::{Host, Peer};
use crate::stack::{Buffers, Stack};

/// Length of a UDP header.
const HEADER_LEN: usize = 8;

/// Datagrams to and from one peer.
pub struct UdpSocket {
    host: Host,
    key: Key,
    peer: SocketAddr,
}

impl UdpSocket {
    /// A socket that speaks to `peer`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(host: &Host, peer: Peer, buffers: Buffers) -> Result<Self, Error> {
        let (key, _) = host.open(Transport::Udp, peer, true, buffers)?;
        Ok(Self { host: host.clone(), key, peer: peer.addr })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Stack) -> R) -> R {
        self.host.with(|core, now| {
            let stack = core.stack(self.key).expect("it is there for as long as its owner is");
            let result = act(stack);
            core.run(self.key, now);
            result
        })
    }

    /// Sends a datagram, in fragments if need be.
    ///
    /// # Errors
    /// It does not fit into the socket's buffer; or it is known by now that nothing arrives.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let port = self.peer.port();
        self.with(|stack| {
            let (to, room) = (stack.remote(), stack.room(HEADER_LEN));
            let too_long = Error::TooLong { len: bytes.len(), room };
            if bytes.len() > room {
                return Err(too_long);
            }
            // Each is on its way before the next: what is refused is larger than the buffer.
            let socket = stack.socket::<udp::Socket<'_>>();
            socket.send_slice(bytes, IpEndpoint::new(to, port)).map_err(|_| too_long)
        })?;
        self.with(|stack| stack.failure()).map_or(Ok(()), Err)
    }

    /// Waits for a datagram from the peer, and returns its length; what is longer than `buffer` is cut.
    ///
    /// # Errors
    /// What was sent does not arrive: nobody listens there, or nothing leads there.
    pub async fn receive(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    fn poll_receive(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize, Error>> {
        self.with(|stack| {
            let socket = stack.socket::<udp::Socket<'_>>();
            if let Ok((bytes, _)) = socket.recv() {
                let len = bytes.len().min(buffer.len());
                buffer[..len].copy_from_slice(&bytes[..len]);
                return Poll::Ready(Ok(len));
            }
            socket.register_recv_waker(cx.waker());
            if let Some(failure) = stack.failure() {
                return Poll::Ready(Err(failure));
            }
            stack.wait(cx.waker());
            Poll::Pending
        })
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.host.with(|core, now| core.close(self.key, now));
    }
}
