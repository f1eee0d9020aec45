//! `uvs realserver`: the other end of IP tunnelling (LVS-TUN), for hosts without the kernel's `ipip` module.
//!
//! ```text
//!  director --- outer IP, protocol 4 ---> tcx program: check, strip ----------> this host's TCP/IP
//!               or 41, inner IP to VIP        | what it leaves                 VIP    |     ^
//!                                             `-> raw socket -> check -> TUN device --|-----'
//!  client <------------------- reply, from the VIP, straight -------------------------'
//! ```
//!
//! The program (`uvs_attach::Decapsulator`) takes what is whole and plain, GSO packets unsplit, where the kernel and
//! the rights of the process allow that. The raw socket gets the rest, or all: the kernel has checked the outer header
//! and put fragments together before, and checks the inner packet when it comes out of the TUN device, as from a wire.
//! Only packets for a VIP pass: a tunnel's end that takes everything would let anybody inject packets with any source
//! into this host.

mod inner;
mod kernel;
mod receive;

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use uvs_attach::Decapsulator;
use uvs_device::net::{Net, read_sysctl, write_sysctl};
use uvs_device::{Device, DeviceError, DeviceSpec, Kind};
use uvs_director::spec::Prefix;

/// The largest inner packet: what fits into the largest outer one behind its header.
const INNER_MTU: u32 = 65_535 - 20;
/// `uvs realserver`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
It needs /dev/net/tun, CAP_NET_ADMIN and CAP_NET_RAW in its network namespace, and what LVS-TUN always needs: a route
from here to the clients that does not lead through the director. With CAP_BPF, too, and on Linux 6.6 or later, packets
are unpacked in the kernel, which is many times as fast. SIGTERM and SIGINT end it and take everything back.

Example, on a realserver of `ipvsadm -a -t 192.0.2.10:80 -r 10.1.0.11 -i`:
  uvs realserver --vip 192.0.2.10 --bind 10.1.0.11")]
pub struct Args {
    /// Virtual IP address that this realserver serves; packets for others are dropped [may be repeated]
    #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
    pub vip: Vec<IpAddr>,
    /// Name of the TUN device that the packets come out of
    #[arg(long, value_name = "NAME", default_value = "uvs-rs0")]
    pub device: String,
    /// Take only what was tunnelled to this address of ours, the RIP [default: any; may be repeated]
    #[arg(long, value_name = "RIP", value_delimiter = ',')]
    pub bind: Vec<IpAddr>,
    /// How the director tunnels
    #[arg(long, value_enum, default_value_t)]
    pub tunnel: Tunnel,
    /// Where packets are unpacked
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub decapsulate: Decapsulate,
}

/// An encapsulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473), IPv4 and IPv6 in either: ipvsadm's default for -i
    #[default]
    Ipip,
}

/// Where packets are unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Decapsulate {
    /// In the kernel where that can be, else in userspace; the log says what is missing
    #[default]
    Auto,
    /// By a tcx program in the kernel, GSO packets unsplit; fragments and what is odd in userspace
    Tcx,
    /// All in userspace
    Userspace,
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
    // Before the program takes what they would get: an address that is not ours is told here.
    let sockets = receive::open(&args.bind, &args.vip);
    // Dropped, it takes the device, and the addresses on it, away.
    let device = open_device(&args.device)?;
    let_any_source_in(&args.device)?;
    hold_vips(&runtime, &args, Turn::First)?;
    // The last: with it packets come in.
    let program = attach(&runtime, &args)?;
    let tunnels = match sockets {
        Err(error) if program.is_some() && lacks_right(&error) => {
            tracing::warn!("fragments and odd packets are refused: {error}");
            Vec::new()
        }
        sockets => sockets?,
    };

    let list = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let bound = if args.bind.is_empty() { String::new() } else { format!(" sent to {}", list(&args.bind)) };
    let place = if program.is_some() { "in the kernel, or" } else { "in userspace" };
    println!(
        "uvs realserver: decapsulating IP in IP{bound} for {} {place} into {}",
        list(&args.vip),
        args.device
    );
    let queue = device.queues().first().context("a device has at least one queue")?;
    let look = || {
        is_there(&device)?;
        // Others may take an address away, and without it this host answers nothing.
        hold_vips(&runtime, &args, Turn::Again)
    };
    let mut counters = receive::pump(&tunnels, &signals, queue, &args.vip, look)?;
    let by_program = program.as_ref().map(Decapsulator::counters).unwrap_or_default();
    counters.decapsulated += by_program.packets;
    counters.congested += by_program.congested;
    let in_kernel = program.map(|_| format!("; {} decapsulated in the kernel", by_program.packets));
    println!("uvs realserver: {counters}{}", in_kernel.unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

/// Fails when somebody has deleted the device, and the VIPs with it: whoever supervises this process starts it again.
fn is_there(device: &Device) -> Result<()> {
    let name = device.name();
    if if_nametoindex(name).is_ok_and(|index| index == device.index()) {
        return Ok(());
    }
    bail!(
        "the device {name} is gone, as when somebody deletes it (ip link del {name})\n  fix: start `uvs realserver` again"
    )
}

/// The program in the kernel, if it is wanted and can be had.
fn attach(runtime: &tokio::runtime::Runtime, args: &Args) -> Result<Option<Decapsulator>> {
    if args.decapsulate == Decapsulate::Userspace {
        return Ok(None);
    }
    match kernel::attach(runtime, args) {
        Ok(program) => Ok(Some(program)),
        Err(error) if args.decapsulate == Decapsulate::Auto => {
            tracing::info!("tunnelled packets are unpacked in userspace: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error.context("--decapsulate tcx")),
    }
}

fn lacks_right(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    matches!(cause, Some(1 | 13))
}

/// The TUN device, which completes checksums if the kernel is not too old for that.
fn open_device(name: &str) -> Result<Device, DeviceError> {
    let spec = DeviceSpec {
        name: name.to_owned(),
        kind: Kind::Tun,
        mtu: INNER_MTU,
        queues: 1,
        offload: true,
        tunnel_gso: false,
    };
    match Device::open(&spec) {
        Err(DeviceError::NoOffload { .. }) => Device::open(&DeviceSpec { offload: false, ..spec }),
        opened => opened,
    }
}

/// Two ends of one tunnel would deliver every packet twice.
fn refuse_second_decapsulator(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let links = runtime.block_on(async { Net::new()?.links().await })?;
    for name in ["tunl0", "ip6tnl0", "sit0"] {
        if links.iter().any(|link| link.name == name && link.up) {
            bail!(
                "{name} is up: this host's kernel decapsulates IP in IP itself\n  \
                 fix: use that and do not start `uvs realserver`, or: ip link set {name} down"
            );
        }
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

/// When the VIPs are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Again,
}

/// Gives the device those VIPs that this host does not have.
fn hold_vips(runtime: &tokio::runtime::Runtime, args: &Args, turn: Turn) -> Result<()> {
    runtime.block_on(async {
        let net = Net::new()?;
        let here = net.addresses().await?;
        for &vip in &args.vip {
            if !here.iter().any(|(_, prefix)| prefix.addr() == vip) {
                net.add_address(&args.device, Prefix::host(vip)).await?;
                match turn {
                    Turn::First => tracing::info!(%vip, device = args.device, "added the VIP"),
                    Turn::Again => {
                        tracing::warn!(%vip, device = args.device, "the VIP was removed from this host: added it again");
                    }
                }
            }
            if turn == Turn::Again {
                continue;
            }
            // Over IPv6 a host answers for the addresses of the link that is asked, and of no other.
            let on_our_segment = vip.is_ipv4()
                && here.iter().any(|(_, prefix)| prefix.prefix_len() < 32 && prefix.contains(vip));
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
