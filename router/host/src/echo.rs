//! Ping: ICMP echo of either family.

use std::future::poll_fn;
use std::task::{Context, Poll};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpAddress,
};
use uvs_director::local::Transport;

use crate::core::Key;
use crate::error::Error;
use crate::host::{Host, Peer};
use crate::stack::{Buffers, Stack};

/// Length of the header of an echo message.
const HEADER_LEN: usize = 8;

/// Echo requests to one peer, and their replies.
pub struct Ping {
    host: Host,
    key: Key,
}

impl Ping {
    /// A socket that pings `peer`, whose port says nothing; by direct routing or through a tunnel the VIP at a
    /// destination.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(host: &Host, peer: Peer, may_fragment: bool, buffers: Buffers) -> Result<Self, Error> {
        let (key, _) = host.open(Transport::Echo, peer, may_fragment, buffers)?;
        Ok(Self { host: host.clone(), key })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Stack) -> R) -> R {
        self.host.with(|core, now| {
            let stack = core.stack(self.key).expect("it is there for as long as its owner is");
            let result = act(stack);
            core.run(self.key, now);
            result
        })
    }

    /// Sends an echo request with that number, and `data` behind it.
    ///
    /// # Errors
    /// It does not fit into one packet; or it is known by now that nothing arrives.
    pub fn send(&self, number: u16, data: &[u8]) -> Result<(), Error> {
        let ident = self.key.1;
        self.with(|stack| {
            let (to, room) = (stack.remote(), stack.room(HEADER_LEN));
            let too_long = Error::TooLong { len: data.len(), room };
            if data.len() > room {
                return Err(too_long);
            }
            let from = IpAddress::from(stack.binding.addr);
            let socket = stack.socket::<icmp::Socket<'_>>();
            let message = socket.send(HEADER_LEN + data.len(), to).map_err(|_| too_long)?;
            emit(message, (from, to), (ident, number), data);
            Ok(())
        })?;
        self.with(|stack| stack.failure()).map_or(Ok(()), Err)
    }

    /// Waits for a reply, and returns the number of its request and what it brought back.
    ///
    /// # Errors
    /// What was sent does not arrive.
    pub async fn receive(&self) -> Result<(u16, Vec<u8>), Error> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&self, cx: &Context<'_>) -> Poll<Result<(u16, Vec<u8>), Error>> {
        self.with(|stack| {
            let socket = stack.socket::<icmp::Socket<'_>>();
            while let Ok((message, from)) = socket.recv() {
                if let Some(reply) = reply(message, from) {
                    return Poll::Ready(Ok(reply));
                }
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

impl Drop for Ping {
    fn drop(&mut self) {
        self.host.with(|core, now| core.close(self.key, now));
    }
}

fn emit(message: &mut [u8], (from, to): (IpAddress, IpAddress), (ident, seq_no): (u16, u16), data: &[u8]) {
    let sums = ChecksumCapabilities::default();
    match (from, to) {
        (IpAddress::Ipv6(from), IpAddress::Ipv6(to)) => {
            let repr = Icmpv6Repr::EchoRequest { ident, seq_no, data };
            repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(message), &sums);
        }
        _ => {
            let repr = Icmpv4Repr::EchoRequest { ident, seq_no, data };
            repr.emit(&mut Icmpv4Packet::new_unchecked(message), &sums);
        }
    }
}

/// Number and data of an echo reply. Its checksum was looked at before it came here.
fn reply(message: &[u8], from: IpAddress) -> Option<(u16, Vec<u8>)> {
    match from {
        IpAddress::Ipv4(_) => {
            let packet = Icmpv4Packet::new_checked(message).ok()?;
            let is_reply = packet.msg_type() == Icmpv4Message::EchoReply;
            is_reply.then(|| (packet.echo_seq_no(), packet.data().to_vec()))
        }
        IpAddress::Ipv6(_) => {
            let packet = Icmpv6Packet::new_checked(message).ok()?;
            let is_reply = packet.msg_type() == Icmpv6Message::EchoReply;
            is_reply.then(|| (packet.echo_seq_no(), packet.payload().to_vec()))
        }
    }
}
