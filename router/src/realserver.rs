//! `uvs realserver`: the other end of IP tunnelling (LVS-TUN), for hosts without the kernel's `ipip` module.
//!
//! ```text
//!  director --- outer IP, protocol 4 ---> raw socket -> check -> TUN device -> this host's TCP/IP
//!                 inner IP to the VIP                              VIP          |
//!  client <------------------- reply, from the VIP, straight ------------------+
//! ```
//!
//! The kernel has checked the outer header and put fragments together before the raw socket sees a packet, and
//! checks the inner packet when it comes out of the TUN device, as from a wire. Only packets for a VIP pass: a
//! tunnel's end that takes everything would let anybody inject packets with any source into this host.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use uvs_device::net::{Net, read_sysctl, write_sysctl};
use uvs_device::{Device, DeviceError, DeviceSpec, Kind, Poller, Queue, StopHandle};
use uvs_director::spec::Prefix;
use uvs_director::{Frame, Offload};
use uvs_wire::checksum::{Edit, pseudo_header};
use uvs_wire::ipv4::Ipv4Header;
use uvs_wire::{Packet, tcp, udp};

/// The largest inner packet: what fits into the largest outer one behind its header.
const INNER_MTU: u32 = 65_535 - 20;
/// Packets taken from the socket before signals are looked at again.
const BUDGET: usize = 256;
/// Bytes that may wait in the socket; the kernel drops, and counts, what comes beyond.
const RECEIVE_BUFFER: usize = 4 << 20;

/// `uvs realserver`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
It needs /dev/net/tun, CAP_NET_ADMIN and CAP_NET_RAW in its network namespace, and what LVS-TUN always needs: a route
from here to the clients that does not lead through the director. SIGTERM and SIGINT end it and take everything back.

Example, on a realserver of `ipvsadm -a -t 192.0.2.10:80 -r 10.1.0.11 -i`:
  uvs realserver --vip 192.0.2.10 --bind 10.1.0.11")]
pub struct Args {
    /// Virtual IP address that this realserver serves; packets for others are dropped [may be repeated]
    #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
    pub vip: Vec<Ipv4Addr>,
    /// Name of the TUN device that the packets come out of
    #[arg(long, value_name = "NAME", default_value = "uvs-rs0")]
    pub device: String,
    /// Take only what was tunnelled to this address of ours, the RIP [default: any]
    #[arg(long, value_name = "RIP")]
    pub bind: Option<Ipv4Addr>,
    /// How the director tunnels
    #[arg(long, value_enum, default_value_t)]
    pub tunnel: Tunnel,
}

/// An encapsulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tunnel {
    /// IP in IP, protocol 4 (RFC 2003): ipvsadm's default for -i
    #[default]
    Ipip,
}

impl Tunnel {
    /// The protocol number in the outer header.
    const fn protocol(self) -> i32 {
        match self {
            Self::Ipip => 4,
        }
    }
}

/// Decapsulates until SIGTERM or SIGINT.
///
/// # Errors
/// A right is missing, the device's name is taken, or the kernel decapsulates already.
pub fn run(args: Args) -> Result<ExitCode> {
    crate::logging::init("info", crate::logging::LogFormat::Text)?;
    // Blocked before anything is set up, so that from here on they end the loop, not the process.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot receive signals")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    refuse_second_decapsulator(&runtime)?;
    let socket = open_socket(&args)?;
    let _taker = open_taker(&args)?;
    // Dropped, it takes the device, and the addresses on it, away.
    let device = open_device(&args.device)?;
    let_any_source_in(&args.device)?;
    hold_vips(&runtime, &args)?;
    drop(runtime);

    let vips: Vec<_> = args.vip.iter().map(Ipv4Addr::to_string).collect();
    let bound = args.bind.map(|rip| format!(" sent to {rip}")).unwrap_or_default();
    println!("uvs realserver: decapsulating IP in IP{bound} for {} into {}", vips.join(", "), args.device);
    let queue = device.queues().first().context("a device has at least one queue")?;
    let counters = pump(&socket, &signals, queue, &args.vip)?;
    println!("uvs realserver: {counters}");
    Ok(ExitCode::SUCCESS)
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    decapsulated: u64,
    not_for_vip: u64,
    malformed: u64,
    congested: u64,
    device_refused: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} decapsulated; dropped: {} not for a VIP, {} malformed, {} congested, {} refused by the device",
            self.decapsulated, self.not_for_vip, self.malformed, self.congested, self.device_refused
        )
    }
}

/// Why a packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drop {
    NotForVip,
    Malformed,
    /// The tunnel met congestion and the inner packet cannot say so (RFC 6040 section 4.2).
    Congested,
}

fn pump(socket: &Socket, signals: &SignalFd, queue: &Queue, vips: &[Ipv4Addr]) -> Result<Counters> {
    // Signals come as readable events, so the handle is never pulled.
    let stop = StopHandle::new()?;
    let mut poller =
        Poller::new([std::os::fd::AsFd::as_fd(socket), std::os::fd::AsFd::as_fd(signals)], &stop)?;
    let mut counters = Counters::default();
    let mut packet = vec![0; 65_536];
    let mut frame = Frame::new();
    loop {
        poller.wait(None)?;
        if signals.read_signal().context("cannot read signals")?.is_some() {
            return Ok(counters);
        }
        for _ in 0..BUDGET {
            let mut socket = socket;
            let length = match socket.read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot receive tunnelled packets"),
            };
            let received = packet.get_mut(..length).unwrap_or_default();
            match decapsulate(received, vips) {
                Ok(inner) => {
                    frame.fill(inner);
                    frame.offload = left_to_the_receiver(inner);
                    match queue.send(&frame) {
                        Ok(_) => counters.decapsulated += 1,
                        Err(error) => {
                            tracing::debug!(%error, "the device refuses a packet");
                            counters.device_refused += 1;
                        }
                    }
                }
                Err(Drop::NotForVip) => counters.not_for_vip += 1,
                Err(Drop::Malformed) => counters.malformed += 1,
                Err(Drop::Congested) => counters.congested += 1,
            }
        }
    }
}

/// The inner packet of `outer`, an IPv4 packet as a raw socket hands it out, if it is for one of `vips`.
fn decapsulate<'p>(outer: &'p mut [u8], vips: &[Ipv4Addr]) -> Result<&'p [u8], Drop> {
    let header = Ipv4Header::parse(outer).map_err(|_| Drop::Malformed)?;
    let (outer_len, congestion) = (header.header_len(), header.tos() & ECN);
    let inner = outer.get_mut(outer_len..).ok_or(Drop::Malformed)?;
    let header = Ipv4Header::parse(inner).map_err(|_| Drop::Malformed)?;
    let length = usize::from(header.total_len());
    if length < header.header_len() || length > inner.len() {
        return Err(Drop::Malformed);
    }
    if !vips.contains(&header.dst()) {
        return Err(Drop::NotForVip);
    }
    if congestion == CONGESTION_EXPERIENCED {
        let (tos, checksum) = (header.tos(), header.checksum());
        if tos & ECN == 0 {
            return Err(Drop::Congested);
        }
        let first = inner.first().copied().ok_or(Drop::Malformed)?;
        let marked = tos | CONGESTION_EXPERIENCED;
        let checksum = Edit::new()
            .word(u16::from_be_bytes([first, tos]), u16::from_be_bytes([first, marked]))
            .apply(checksum)
            .to_be_bytes();
        for (at, byte) in [(1, marked), (10, checksum[0]), (11, checksum[1])] {
            *inner.get_mut(at).ok_or(Drop::Malformed)? = byte;
        }
    }
    // Beyond the length there may be padding.
    inner.get(..length).ok_or(Drop::Malformed)
}

/// The TUN device, which completes checksums if the kernel is not too old for that.
fn open_device(name: &str) -> Result<Device, DeviceError> {
    let spec = DeviceSpec {
        name: name.to_owned(),
        kind: Kind::Tun,
        mtu: INNER_MTU,
        queues: 1,
        offload: true,
        tunnel_trains: false,
    };
    match Device::open(&spec) {
        Err(DeviceError::NoOffload { .. }) => Device::open(&DeviceSpec { offload: false, ..spec }),
        opened => opened,
    }
}

/// Within one machine a packet may travel with the sum of its pseudo-header in place of a checksum: the sender's
/// kernel leaves the rest to a network card, and on a veth there is none. Where a packet goes through the stack the
/// kernel knows; a raw socket is not told, so such a packet is known by the sum. (A right checksum that happens to look
/// so is computed once more, to the same.)
fn left_to_the_receiver(inner: &[u8]) -> Offload {
    let Ok(packet) = Packet::parse(inner) else { return Offload::default() };
    let checksum_offset = match packet.protocol {
        tcp::PROTOCOL => 16,
        udp::PROTOCOL => 6,
        _ => return Offload::default(),
    };
    if packet.is_fragment() || !packet.has_ports() {
        return Offload::default();
    }
    let length = u32::try_from(packet.transport_len()).unwrap_or(u32::MAX);
    let pseudo = pseudo_header(packet.src, packet.dst, packet.protocol, length).fold().to_be_bytes();
    let field = usize::from(packet.header_len + checksum_offset);
    if inner.get(field..field + 2) != Some(&pseudo[..]) {
        return Offload::default();
    }
    Offload { needs_checksum: true, checksum_start: packet.header_len, checksum_offset, ..Offload::default() }
}

/// The two bits of TOS that tell of congestion (RFC 3168), and the value that says there was.
const ECN: u8 = 0b11;
const CONGESTION_EXPERIENCED: u8 = 0b11;

fn open_socket(args: &Args) -> Result<Socket> {
    let protocol = Protocol::from(args.tunnel.protocol());
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(protocol)).map_err(|error| {
        let fix = match error.raw_os_error() {
            Some(1 | 13) => "\n  fix: run as root or with CAP_NET_RAW (in a container: --cap-add NET_RAW)",
            _ => "",
        };
        anyhow::anyhow!("cannot open a raw socket for IP in IP: {error}{fix}")
    })?;
    // The system's limit may be lower; then its value is used.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if let Some(rip) = args.bind {
        socket
            .bind(&SockAddr::from(SocketAddr::new(rip.into(), 0)))
            .with_context(|| format!("--bind {rip}: is it an address of this host?"))?;
    }
    Ok(socket)
}

/// A socket that takes every tunnelled packet and keeps none. To a packet that no raw socket takes, because the only one is full,
/// the kernel answers "protocol unreachable", and clients would give up where a lost packet is all they should notice.
fn open_taker(args: &Args) -> Result<Socket> {
    /// The BPF instruction `ret #k`: with 0, nothing is kept.
    const RETURN: u16 = 0x06;
    let taker = open_socket(args)?;
    taker.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).context("cannot attach a filter to a socket")?;
    Ok(taker)
}

/// Two ends of one tunnel would deliver every packet twice.
fn refuse_second_decapsulator(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let links = runtime.block_on(async { Net::new()?.links().await })?;
    if links.iter().any(|link| link.name == "tunl0" && link.up) {
        bail!(
            "tunl0 is up: this host's kernel decapsulates IP in IP itself\n  \
             fix: use that and do not start `uvs realserver`, or: ip link set tunl0 down"
        );
    }
    Ok(())
}

/// Turns the reverse path filter off for the device: clients' addresses are routed elsewhere.
fn let_any_source_in(device: &str) -> Result<()> {
    // The kernel takes the larger of the two values. 0 is off, 1 asks for a route back through this very device,
    // and 2 for a route back through any. The setting goes with the device.
    let all = read_sysctl("net/ipv4/conf/all/rp_filter").unwrap_or_default();
    let value = if all == "0" { "0" } else { "2" };
    let path = format!("net/ipv4/conf/{device}/rp_filter");
    if let Err(error) = write_sysctl(&path, value) {
        let now = read_sysctl(&path).unwrap_or_default();
        let strict = all.as_str().max(now.as_str()) == "1";
        if strict {
            bail!(
                "cannot set {path} to {value}: {error}; the kernel would drop what comes out of the tunnel\n  \
                 fix: make /proc/sys writable, or set net.ipv4.conf.all.rp_filter=2 from outside \
                 (in a container: --sysctl net.ipv4.conf.all.rp_filter=2)"
            );
        }
    }
    Ok(())
}

/// Gives the device those VIPs that this host does not have yet.
fn hold_vips(runtime: &tokio::runtime::Runtime, args: &Args) -> Result<()> {
    runtime.block_on(async {
        let net = Net::new()?;
        let here = net.addresses().await?;
        for &vip in &args.vip {
            if !here.iter().any(|(_, prefix)| prefix.addr() == IpAddr::V4(vip)) {
                net.add_address(&args.device, Prefix::host(vip.into())).await?;
                tracing::info!(%vip, device = args.device, "added the VIP");
            }
            let on_our_segment =
                here.iter().any(|(_, prefix)| prefix.prefix_len() < 32 && prefix.contains(vip.into()));
            if on_our_segment && answers_arp() {
                tracing::warn!(
                    %vip,
                    "this host is on the VIP's own subnet and answers ARP for it, so clients may bypass the \
                     director; fix: sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
                );
            }
        }
        Ok(())
    })
}

/// Whether some interface answers ARP for addresses of other interfaces (`arp_ignore` is 0 for it and for all).
fn answers_arp() -> bool {
    let ignores = |which: &str| {
        read_sysctl(&format!("net/ipv4/conf/{which}/arp_ignore")).is_ok_and(|value| value != "0")
    };
    if ignores("all") {
        return false;
    }
    let Ok(interfaces) = fs::read_dir("/proc/sys/net/ipv4/conf") else { return false };
    interfaces
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !["all", "default", "lo"].contains(&name.as_str()))
        .any(|name| !ignores(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_wire::ipv4::header_checksum_ok;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    /// A header with a right checksum in front of `payload`.
    fn packet(tos: u8, protocol: u8, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[0] = 0x45;
        bytes[1] = tos;
        bytes[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        bytes[8] = 64;
        bytes[9] = protocol;
        bytes[12..16].copy_from_slice(&[10, 0, 0, 2]);
        bytes[16..20].copy_from_slice(&dst.octets());
        uvs_wire::ipv4::fill_checksum(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn tunnelled(outer_tos: u8, inner: &[u8]) -> Vec<u8> {
        packet(outer_tos, 4, Ipv4Addr::new(10, 1, 0, 11), inner)
    }

    #[test]
    fn packets_for_a_vip_come_out_as_they_went_in() {
        let inner = packet(0, 17, VIP, b"hello");
        assert_eq!(decapsulate(&mut tunnelled(0, &inner), &[VIP]), Ok(inner.as_slice()));
        let mut padded = inner.clone();
        padded.extend_from_slice(&[0; 7]);
        assert_eq!(decapsulate(&mut tunnelled(0, &padded), &[VIP]), Ok(inner.as_slice()), "padding is cut");
    }

    #[test]
    fn a_checksum_that_was_left_to_the_receiver_is_known_by_its_sum() {
        let datagram = |checksum: u16| {
            let mut bytes = vec![0, 7, 0, 9, 0, 12, 0, 0, b'd', b'a', b't', b'a'];
            bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
            packet(0, 17, VIP, &bytes)
        };
        let whole = datagram(0);
        let parsed = Packet::parse(&whole).unwrap();
        let partial = pseudo_header(parsed.src, parsed.dst, 17, 12).fold();
        let complete = uvs_wire::checksum::transport(&whole, &parsed).finish();
        let left = left_to_the_receiver(&datagram(partial));
        assert_eq!((left.needs_checksum, left.checksum_start, left.checksum_offset), (true, 20, 6));
        let mut frame = Frame::from_bytes(&datagram(partial));
        frame.offload = left;
        frame.complete_checksum();
        assert_eq!(frame.bytes(), datagram(complete), "what is completed is right");
        for (bytes, why) in [(datagram(complete), "complete"), (datagram(0), "none"), (datagram(1), "wrong")]
        {
            assert_eq!(left_to_the_receiver(&bytes), Offload::default(), "{why}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        let inner = packet(0, 17, VIP, b"hello");
        let other = packet(0, 17, Ipv4Addr::new(10, 0, 0, 1), b"hello");
        let mut version_6 = inner.clone();
        version_6[0] = 0x65;
        let mut too_long = inner.clone();
        too_long[3] += 1;
        let mut too_short = inner.clone();
        too_short[3] = 19;
        let cases: [(&[u8], Drop, &str); 6] = [
            (&other, Drop::NotForVip, "for another address of this host"),
            (&version_6, Drop::Malformed, "not IPv4"),
            (&too_long, Drop::Malformed, "longer than the outer packet"),
            (&too_short, Drop::Malformed, "shorter than its header"),
            (&inner[..19], Drop::Malformed, "cut in the header"),
            (&[], Drop::Malformed, "nothing inside"),
        ];
        for (inner, want, why) in cases {
            assert_eq!(decapsulate(&mut tunnelled(0, inner), &[VIP]), Err(want), "{why}");
        }
        assert_eq!(decapsulate(&mut [0x45; 12], &[VIP]), Err(Drop::Malformed), "cut outer header");
    }

    #[test]
    fn congestion_in_the_tunnel_reaches_the_inner_packet() {
        // (inner ECN, outer ECN, inner ECN afterwards): RFC 6040, figure 4, as far as CE goes.
        let cases = [
            (0b00, 0b00, Ok(0b00)),
            (0b00, 0b11, Err(Drop::Congested)),
            (0b10, 0b11, Ok(0b11)),
            (0b01, 0b11, Ok(0b11)),
            (0b11, 0b11, Ok(0b11)),
            (0b10, 0b10, Ok(0b10)),
        ];
        for (inner, outer, want) in cases {
            let mut bytes = tunnelled(outer, &packet(0x20 | inner, 6, VIP, b"data"));
            let got = decapsulate(&mut bytes, &[VIP]).map(|inner| {
                assert!(header_checksum_ok(&inner[..20]), "the checksum follows");
                assert_eq!(inner[1] & !ECN, 0x20, "DSCP stays");
                inner[1] & ECN
            });
            assert_eq!(got, want, "inner {inner:02b}, outer {outer:02b}");
        }
    }
}
