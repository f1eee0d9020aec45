//! Listening on a host's interfaces, and reading what was heard.
//!
//! One AF_PACKET socket hears all interfaces of a host, both ways. The kernel's time stamps come from one clock, so
//! what several hosts heard can be put in order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, IoSliceMut, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use uvs_director::spec::MacAddr;

use crate::host::Host;

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of `linux/if_arp.h`: frames with an Ethernet header.
const ETHERNET: [u16; 2] = [1, 772];
/// Enough for some hundred packets while nobody reads.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Hears what passes a host's interfaces from now on.
#[derive(Debug)]
pub struct Capture {
    host: Host,
    socket: OwnedFd,
}

/// One frame at one interface.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When, on the system's clock.
    pub at: Duration,
    /// On which host.
    pub host: String,
    /// On which of its interfaces.
    pub interface: String,
    /// Whether the host sent it (else it came in).
    pub sent: bool,
    /// Whether it begins with an Ethernet header (else with an IP header).
    pub ethernet: bool,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What a frame says, as far as a balancer cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination MAC address; `None` on a layer 3 device.
    pub macs: Option<(MacAddr, MacAddr)>,
    /// The outer header of a tunnelled packet (IP in IP).
    pub outer: Option<Ip>,
    /// The (inner) IP header.
    pub ip: Ip,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// What of TCP it is, such as `SYN` or `FIN+ACK`; `None`: UDP.
    pub tcp: Option<String>,
    /// Bytes of TCP or UDP payload.
    pub payload: usize,
}

/// The part of an IP header that a router looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Time to live (IPv6: hop limit).
    pub ttl: u8,
}

impl Capture {
    /// Starts to listen.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing.
    pub fn start(host: &Host) -> Result<Self> {
        let socket = host.run(|| -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            // Beyond the system's limit only root outside of user namespaces may go.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
            }
            Ok(socket)
        })?;
        Ok(Self {
            host: host.clone(),
            socket: socket.with_context(|| format!("cannot listen on host {}", host.name()))?,
        })
    }

    /// What was heard since the last call.
    ///
    /// # Errors
    /// The socket fails.
    pub fn take(&self) -> Result<Vec<Heard>> {
        let links: HashMap<usize, String> = self
            .host
            .net()
            .links()?
            .into_iter()
            .map(|link| Ok((usize::try_from(link.index)?, link.name)))
            .collect::<Result<_>>()?;
        let mut heard = Vec::new();
        let mut buffer = vec![0; 65_600];
        let mut control = cmsg_space!(TimeSpec);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let message = recvmsg::<LinkAddr>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            );
            let message = match message {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(heard),
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(errno).with_context(|| format!("cannot listen on host {}", self.host.name()));
                }
            };
            let at = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
                _ => None,
            });
            let (Some(at), Some(link)) = (at, message.address) else { continue };
            let length = message.bytes;
            heard.push(Heard {
                at,
                host: self.host.name().to_owned(),
                interface: links.get(&link.ifindex()).cloned().unwrap_or_else(|| "?".to_owned()),
                sent: link.pkttype() == OUTGOING,
                ethernet: ETHERNET.contains(&link.hatype()),
                bytes: buffer.get(..length).unwrap_or_default().to_vec(),
            });
        }
    }
}

impl Packet {
    /// Reads a frame; `None`: it is no TCP or UDP packet, in the clear or inside IP in IP.
    pub fn parse(heard: &Heard) -> Option<Self> {
        let slices = if heard.ethernet {
            SlicedPacket::from_ethernet(&heard.bytes)
        } else {
            SlicedPacket::from_ip(&heard.bytes)
        }
        .ok()?;
        let macs = match &slices.link {
            Some(LinkSlice::Ethernet2(header)) => {
                Some((MacAddr(header.source()), MacAddr(header.destination())))
            }
            _ => None,
        };
        let ip = Ip::of(slices.net.as_ref()?)?;
        if slices.transport.is_none() {
            // IP in IP: the payload of the outer packet is a packet again.
            let payload = slices.net.as_ref()?.ip_payload_ref()?;
            let inner = SlicedPacket::from_ip(payload.payload).ok()?;
            return Some(Self { macs, outer: Some(ip), ..Self::transport(&inner)? });
        }
        Some(Self { macs, ..Self::transport(&slices)? })
    }

    fn transport(slices: &SlicedPacket<'_>) -> Option<Self> {
        let ip = Ip::of(slices.net.as_ref()?)?;
        let (ports, tcp, payload) = match slices.transport.as_ref()? {
            TransportSlice::Udp(udp) => {
                ((udp.source_port(), udp.destination_port()), None, udp.payload().len())
            }
            TransportSlice::Tcp(tcp) => {
                let flags = [
                    (tcp.syn(), "SYN"),
                    (tcp.fin(), "FIN"),
                    (tcp.rst(), "RST"),
                    (tcp.psh(), "PSH"),
                    (tcp.ack(), "ACK"),
                ];
                let names: Vec<_> = flags.iter().filter_map(|(set, name)| set.then_some(*name)).collect();
                ((tcp.source_port(), tcp.destination_port()), Some(names.join("+")), tcp.payload().len())
            }
            _ => return None,
        };
        Some(Self { macs: None, outer: None, ip, ports, tcp, payload })
    }

    /// Source address and port.
    pub fn src(&self) -> SocketAddr {
        SocketAddr::new(self.ip.src, self.ports.0)
    }

    /// Destination address and port.
    pub fn dst(&self) -> SocketAddr {
        SocketAddr::new(self.ip.dst, self.ports.1)
    }
}

impl Ip {
    fn of(net: &NetSlice<'_>) -> Option<Self> {
        match net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                Some(Self {
                    src: header.source_addr().into(),
                    dst: header.destination_addr().into(),
                    ttl: header.ttl(),
                })
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                Some(Self {
                    src: header.source_addr().into(),
                    dst: header.destination_addr().into(),
                    ttl: header.hop_limit(),
                })
            }
            _ => None,
        }
    }
}

/// Writes frames to a file that tcpdump and Wireshark read (pcap, nanoseconds). Frames without an Ethernet header
/// get one of zeros.
///
/// # Errors
/// The file cannot be written.
pub fn write_pcap(path: &Path, heard: &[Heard]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 0x0004_0000, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in heard {
        let header: &[u8] = match (frame.ethernet, frame.bytes.first().map(|first| first >> 4)) {
            (true, _) => &[],
            (false, Some(6)) => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd],
            (false, _) => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00],
        };
        // The format holds 32 bits of each: the seconds wrap in 2106, and no frame is 4 GiB long.
        let seconds = u32::try_from(frame.at.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(header.len() + frame.bytes.len()).unwrap_or(u32::MAX);
        for word in [seconds, frame.at.subsec_nanos(), length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(header)?;
        file.write_all(&frame.bytes)?;
    }
    file.flush()
}
