//! The sockets of the host: for what runs beside the director, and for probes of the host's own network.

use core::net::{IpAddr, SocketAddr};
use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

use super::{
    Datagrams, Echo, Failure, Local, Network, Opening, Operation, Remote, Stream, Target, Via, ping,
};

/// The network of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Network for System {
    fn tcp(&self, target: &Target) -> Opening<Box<dyn Stream>> {
        let target = target.clone();
        Box::pin(async move {
            let socket = open(&target, Type::STREAM, Protocol::TCP)?;
            // What TLS and HTTP/2 say in small pieces is not to wait for the server's delayed acknowledgements.
            socket.set_tcp_nodelay(true).map_err(|error| Local::of(&error, target.source, target.address))?;
            bind(&socket, &target)?;
            match socket.connect(&target.addr().into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
                Err(error) => return Err(not_begun(&error, &target)),
            }
            let local = |error| Local::of(&error, target.source, target.address);
            let stream = TcpStream::from_std(socket.into()).map_err(local)?;
            stream.writable().await.map_err(local)?;
            match stream.take_error().map_err(local)? {
                None => Ok(Box::new(stream) as Box<dyn Stream>),
                Some(error) => Err(Remote::from(&error).into()),
            }
        })
    }

    fn udp(&self, target: &Target) -> Opening<Box<dyn Datagrams>> {
        let target = target.clone();
        Box::pin(async move {
            let socket = open(&target, Type::DGRAM, Protocol::UDP)?;
            tell_errors(&socket, target.address).map_err(|error| Local::Other(error.to_string()))?;
            bind(&socket, &target)?;
            socket.connect(&target.addr().into()).map_err(|error| not_begun(&error, &target))?;
            let socket = UdpSocket::from_std(socket.into())
                .map_err(|error| Local::of(&error, target.source, target.address))?;
            Ok(Box::new(socket) as Box<dyn Datagrams>)
        })
    }

    fn ping(&self, target: &Target, echo: Echo) -> Opening<()> {
        let target = target.clone();
        Box::pin(async move { ping::ping(&target, echo).await })
    }
}

impl Datagrams for UdpSocket {
    fn send<'a>(&'a mut self, payload: &'a [u8]) -> Operation<'a, ()> {
        Box::pin(async move { Self::send(self, payload).await.map(drop) })
    }

    fn receive<'a>(&'a mut self, buffer: &'a mut [u8]) -> Operation<'a, usize> {
        Box::pin(self.recv(buffer))
    }
}

/// A socket that does not block, with the mark that is asked for.
pub(super) fn open(target: &Target, kind: Type, protocol: Protocol) -> Result<Socket, Local> {
    if target.via != Via::Direct {
        return Err(Local::NotThatWay);
    }
    if let Some(from) = target.source.filter(|source| source.is_ipv4() != target.address.is_ipv4()) {
        return Err(Local::Family { from, to: target.address });
    }
    let domain = if target.address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let local = |error| Local::of(&error, target.source, target.address);
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol)).map_err(local)?;
    if let Some(mark) = target.mark {
        socket.set_mark(mark).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Local::NotPermitted(format!("a mark needs CAP_NET_ADMIN ({error})"))
            }
            _ => local(error),
        })?;
    }
    Ok(socket)
}

/// Binds to the source that is asked for.
pub(super) fn bind(socket: &Socket, target: &Target) -> Result<(), Local> {
    let Some(source) = target.source else { return Ok(()) };
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .map_err(|error| Local::of(&error, target.source, target.address))
}

/// Has ICMP errors that are not final told, too, such as host unreachable.
pub(super) fn tell_errors(socket: &Socket, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// What `connect` says at once. Routes that exist to say "unreachable" or "prohibited" speak of the target: whoever set
/// them (a routing daemon, say) knows that it is gone.
pub(super) fn not_begun(error: &io::Error, target: &Target) -> Failure {
    match error.kind() {
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset => Remote::from(error).into(),
        _ => Local::of(error, target.source, target.address).into(),
    }
}
