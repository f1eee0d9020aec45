//! The host as what health checks are made over: [`Network`] of uvs-check.

use std::io;
use std::net::SocketAddr;

use uvs_check::net::{
    Datagrams, Echo, Failure, Local, Network, Opening, Operation, Remote, Stream, Target, Via,
};
use uvs_director::DropReason;
use uvs_director::local::{self, OpenError, Way};

use crate::echo::Ping;
use crate::error::Error;
use crate::host::{Host, Peer};
use crate::stack::Buffers;
use crate::udp::UdpSocket;

/// What echo requests of one ping are numbered with: there is one.
const NUMBER: u16 = 1;

impl Host {
    /// Whom a target means.
    fn peer(&self, target: &Target) -> Result<Peer, Local> {
        if let Some(from) = target.source.filter(|from| from.is_ipv4() != target.address.is_ipv4()) {
            return Err(Local::Family { from, to: target.address });
        }
        if target.mark.is_some() {
            return Err(Local::Other("the director's own packets carry no firewall mark".into()));
        }
        let way = match &target.via {
            Via::Direct => Way::Direct,
            Via::Service { service, destination } => {
                self.way_to(*service, *destination).ok_or(Local::NoDestination(*destination))?
            }
        };
        Ok(Peer { addr: target.addr(), way, source: target.source })
    }
}

impl Network for Host {
    fn tcp(&self, target: &Target) -> Opening<Box<dyn Stream>> {
        let (host, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let peer = host.peer(&target)?;
            let stream = host.connect(peer, Buffers::default()).await.map_err(failure)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn half_open(&self, target: &Target) -> Opening<()> {
        let (host, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let peer = host.peer(&target)?;
            host.half_open(peer, Buffers::default()).await.map_err(failure)
        })
    }

    fn udp(&self, target: &Target) -> Opening<Box<dyn Datagrams>> {
        let (host, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let peer = host.peer(&target)?;
            let socket = UdpSocket::open(&host, peer, Buffers::default()).map_err(failure)?;
            Ok(Box::new(socket) as Box<dyn Datagrams>)
        })
    }

    fn ping(&self, target: &Target, echo: Echo) -> Opening<()> {
        let (host, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let peer = Peer { addr: SocketAddr::new(target.address, 0), ..host.peer(&target)? };
            let payload: Vec<u8> = (0..=u8::MAX).cycle().take(usize::from(echo.payload)).collect();
            let room = payload.len() + 64;
            let buffers = Buffers { receive: room, send: room };
            let ping = Ping::open(&host, peer, !echo.do_not_fragment, buffers).map_err(failure)?;
            ping.send(NUMBER, &payload).map_err(failure)?;
            loop {
                let (number, heard) = ping.receive().await.map_err(failure)?;
                if number == NUMBER && heard == payload {
                    return Ok(());
                }
            }
        })
    }
}

impl Datagrams for UdpSocket {
    fn send<'a>(&'a mut self, payload: &'a [u8]) -> Operation<'a, ()> {
        Box::pin(async move { Self::send(self, payload).map_err(io::Error::from) })
    }

    fn receive<'a>(&'a mut self, buffer: &'a mut [u8]) -> Operation<'a, usize> {
        Box::pin(async move { Self::receive(self, buffer).await.map_err(io::Error::from) })
    }
}

/// What an error says to a check: that there is no probe, or what is wrong with the server.
fn failure(error: Error) -> Failure {
    match error {
        Error::Open(why) => Failure::Local(match why {
            OpenError::NoRoute(to) => Local::NoRoute(to),
            OpenError::NoAddress(to) => Local::NoAddress(to),
            OpenError::NotOurs(from) => Local::NotOurs(from),
            OpenError::PortsInUse(_) => Local::NoPort,
            other @ (OpenError::NoPorts | OpenError::OwnAddress(_) | OpenError::NoWay { .. }) => {
                Local::Other(other.to_string())
            }
        }),
        Error::TooLong { .. } | Error::Dropped(DropReason::FragmentationNeeded) => {
            Failure::Local(Local::TooLarge)
        }
        Error::Dropped(_) | Error::Memory(_) | Error::ShutDown => {
            Failure::Local(Local::Other(error.to_string()))
        }
        Error::Refused => Failure::Remote(Remote::Refused),
        Error::Reset => Failure::Remote(Remote::Reset),
        Error::Failed(why) => Failure::Remote(match why {
            local::Failure::PortUnreachable => Remote::Refused,
            local::Failure::NoNeighbor | local::Failure::HostUnreachable => Remote::HostUnreachable,
            local::Failure::NetUnreachable => Remote::NetworkUnreachable,
            local::Failure::Prohibited => Remote::Prohibited,
            local::Failure::TooBig { .. } => Remote::TooBig,
            other @ (local::Failure::ProtocolUnreachable | local::Failure::TtlExceeded) => {
                Remote::Other(other.to_string())
            }
        }),
    }
}
