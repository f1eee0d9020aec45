//! Pings over the host's sockets: ICMP sockets for datagrams where `ping_group_range` allows them, raw ones else.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Protocol, Socket, Type};
use tokio::net::UdpSocket;
use uvs_wire::checksum::Sum;

use super::system::{bind, not_begun, open, tell_errors};
use super::{Echo, Failure, Local, Remote, Target};

/// ICMP type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// The largest IPv4 header, which raw sockets hand over as well.
const IPV4_HEADER: usize = 60;

/// The identifiers of raw pings: the kernel has none for them.
static IDENTIFIER: AtomicU16 = AtomicU16::new(1);

/// Sends one echo request and waits for its reply.
pub(super) async fn ping(target: &Target, echo: Echo) -> Result<(), Failure> {
    let v4 = target.address.is_ipv4();
    let protocol = if v4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let (socket, raw) = match open(target, Type::DGRAM, protocol) {
        Ok(socket) => (socket, false),
        Err(Local::NotPermitted(why)) => match open(target, Type::RAW, protocol) {
            Ok(socket) => (socket, true),
            Err(Local::NotPermitted(_)) => {
                let how = "pings need CAP_NET_RAW, or a group within sysctl net.ipv4.ping_group_range";
                return Err(Local::NotPermitted(format!("{how} ({why})")).into());
            }
            Err(other) => return Err(other.into()),
        },
        Err(other) => return Err(other.into()),
    };
    let local = |error| Failure::from(Local::of(&error, target.source, target.address));
    tell_errors(&socket, target.address).map_err(local)?;
    if echo.do_not_fragment {
        forbid_fragments(&socket, v4).map_err(local)?;
    }
    bind(&socket, target)?;
    socket.connect(&socket2::SockAddr::from(target.addr())).map_err(|error| not_begun(&error, target))?;

    let identifier = IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    let sequence = identifier ^ 0x5a5a;
    let request = request(v4, identifier, sequence, echo.payload.min(Echo::MAX));
    // What tokio calls a UDP socket is one that is sent to and received from, which is all that matters here.
    let socket = UdpSocket::from_std(socket.into()).map_err(local)?;
    socket.send(&request).await.map_err(|error| not_begun(&error, target))?;

    let mut buffer = vec![0; IPV4_HEADER + request.len()];
    loop {
        let len = socket.recv(&mut buffer).await.map_err(|error| Remote::from(&error))?;
        let mut message = buffer.get(..len).unwrap_or_default();
        if raw && v4 {
            let header = message.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            message = message.get(header..).unwrap_or_default();
        }
        let known = raw.then_some(identifier);
        if is_reply(message, v4, known, &request) {
            return Ok(());
        }
    }
}

/// Forbids fragments, whatever the kernel has learned of the path: who checks a path wants to be told anew.
fn forbid_fragments(socket: &Socket, v4: bool) -> io::Result<()> {
    if v4 {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    } else {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}

/// An echo request. The kernel puts an identifier of its own into what is not raw, and the checksum into ICMPv6.
fn request(v4: bool, identifier: u16, sequence: u16, payload: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + usize::from(payload));
    bytes.extend([if v4 { 8 } else { 128 }, 0, 0, 0]);
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((0..payload).map(|at| b'a' + u8::try_from(at % 26).unwrap_or(0)));
    if v4 {
        let sum = Sum::new().add_bytes(&bytes).finish();
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Whether it is the reply to that request. A ping to an address of this host brings the request in, too.
fn is_reply(message: &[u8], v4: bool, identifier: Option<u16>, request: &[u8]) -> bool {
    let kind = if v4 { 0 } else { 129 };
    message.len() == request.len()
        && message.first() == Some(&kind)
        && identifier.is_none_or(|identifier| message.get(4..6) == Some(&identifier.to_be_bytes()[..]))
        && message.get(6..) == request.get(6..)
}
