//! The command line of `versus`, and the words that its results are written in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// `uvs-bench versus`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
It needs root (network namespaces, /dev/net/tun) and, for the peers, the packages nftables and haproxy. Whatever it
makes is gone when it ends, however it ends. All configurations are up at once, and each round measures one after the other, so that
what else the machine does hits all of them. benches/README.md tells how each figure is measured.

Example, what a change did to NAT on a bridge:
  uvs-bench versus --peers nft --methods nat --devices tap --attach bridge --metrics tcp1,cps --rounds 5")]
pub(crate) struct Args {
    /// Peers to measure [default: those that are installed]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) peers: Option<Vec<Peer>>,
    /// Measure uvs alone
    #[arg(long, conflicts_with = "peers")]
    pub(crate) no_peers: bool,
    /// Forwarding methods of uvs [default: all]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) methods: Vec<Method>,
    /// Devices of uvs [default: all]
    #[arg(long, visible_alias = "device", value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) devices: Vec<Device>,
    /// How frames reach the TAP of uvs; a TUN device counts as `bridge` [default: all that this uvs has]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) attach: Vec<Attach>,
    /// What to measure [default: all]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub(crate) metrics: Vec<Metric>,
    /// How often each figure is taken; the result is the median [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// How long each figure is measured, in seconds, 0.1 to 600 [default: 1.5, with --quick 0.8]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// One short round: two minutes, and a rough result
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the result as JSON, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where the plot goes [default: versus.svg beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// A line for every [[interface]] of the config of uvs, such as 'mtu = 1400' [may be repeated]
    #[arg(long, value_name = "LINE")]
    pub(crate) interface_key: Vec<String>,
    /// A line for [workers] of the config of uvs, such as 'busy_poll_us = 50' [may be repeated]
    #[arg(long, value_name = "LINE")]
    pub(crate) workers_key: Vec<String>,
}

impl Args {
    /// How often each figure is taken.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// How long each figure is measured.
    pub(crate) fn timing(&self) -> Timing {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.8 } else { 1.5 });
        let warm_up = (seconds / 4.0).min(0.3);
        Timing { warm_up: Duration::from_secs_f64(warm_up), window: Duration::from_secs_f64(seconds) }
    }

    /// The metrics that were asked for, in the order of the results.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        chosen(&self.metrics)
    }

    /// The ways to run uvs that were asked for and make sense.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        let (methods, devices, attach) = (chosen(&self.methods), chosen(&self.devices), chosen(&self.attach));
        let mut modes = Vec::new();
        for &method in &methods {
            for &device in &devices {
                for &attach in &attach {
                    let mode = Mode { method, device, attach };
                    if mode.makes_sense() {
                        modes.push(mode);
                    }
                }
            }
        }
        modes
    }
}

/// What was asked for, in the order of the definition; everything when nothing was.
fn chosen<T: ValueEnum + PartialEq>(asked: &[T]) -> Vec<T> {
    T::value_variants().iter().filter(|it| asked.is_empty() || asked.contains(it)).cloned().collect()
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("use 0.1 to 600".to_owned()) }
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Load before the measurement, for windows to open.
    pub(crate) warm_up: Duration,
    /// The measurement.
    pub(crate) window: Duration,
}

/// Makes the word of a value of the command line its text in results as well.
macro_rules! shown_as_on_the_command_line {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value().expect("no value is hidden");
                f.pad(value.get_name())
            }
        }
    )*};
}
shown_as_on_the_command_line!(Peer, Method, Device, Attach, Metric);

/// What uvs is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Peer {
    /// An nft map: DNAT in the kernel, as fast as IPVS
    Nft,
    /// HAProxy in TCP mode, two threads (no UDP)
    Haproxy,
    /// The kernel forwards, nobody balances
    Route,
}

/// How uvs forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Method {
    /// Network address translation
    Nat,
    /// Direct routing
    Dr,
    /// IP in IP
    Tun,
}

/// What uvs reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Device {
    /// Layer 2
    Tap,
    /// Layer 3; the kernel routes into it
    Tun,
}

/// How frames reach a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Attach {
    /// A bridge of the kernel
    Bridge,
    /// A program on the network card
    Tcx,
    /// The same, with the flow cache in the kernel (accelerate = "on")
    Cache,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Bulk TCP, one flow
    Tcp1,
    /// Bulk TCP, four flows
    Tcp4,
    /// UDP, 64 bytes, one sender
    Udp1,
    /// UDP, 64 bytes, saturated
    UdpFlood,
    /// Connections per second
    Cps,
    /// Time of an exchange on one connection, median
    #[value(name = "lat1_p50")]
    Lat1P50,
    /// Time of an exchange on one connection, 99th percentile
    #[value(name = "lat1_p99")]
    Lat1P99,
    /// Time of an exchange, 16 connections at once, median
    #[value(name = "lat16_p50")]
    Lat16P50,
    /// Time of an exchange, 16 connections at once, 99th percentile
    #[value(name = "lat16_p99")]
    Lat16P99,
}

impl Metric {
    /// Its unit.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp4 => "Gbit/s",
            Self::Udp1 | Self::UdpFlood => "packets/s",
            Self::Cps => "connections/s",
            Self::Lat1P50 | Self::Lat1P99 | Self::Lat16P50 | Self::Lat16P99 => "us",
        }
    }

    /// The unit of the CPU time that goes with it.
    pub(crate) const fn cpu_unit(self) -> &'static str {
        match self {
            Self::Tcp1 | Self::Tcp4 => "ns/byte",
            Self::Udp1 | Self::UdpFlood => "us/packet",
            Self::Cps => "us/connection",
            Self::Lat1P50 | Self::Lat1P99 | Self::Lat16P50 | Self::Lat16P99 => "us/exchange",
        }
    }

    /// Whether more is better.
    pub(crate) const fn more_is_better(self) -> bool {
        !matches!(self, Self::Lat1P50 | Self::Lat1P99 | Self::Lat16P50 | Self::Lat16P99)
    }

    /// The load it is taken under.
    pub(crate) const fn load(self) -> Load {
        match self {
            Self::Tcp1 => Load::Bulk { flows: 1 },
            Self::Tcp4 => Load::Bulk { flows: 4 },
            Self::Udp1 => Load::Datagrams { senders: 1, flows: 1 },
            Self::UdpFlood => Load::Datagrams { senders: 2, flows: 8 },
            Self::Cps => Load::Connections,
            Self::Lat1P50 | Self::Lat1P99 => Load::Exchanges { connections: 1 },
            Self::Lat16P50 | Self::Lat16P99 => Load::Exchanges { connections: 16 },
        }
    }
}

/// What the client does while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Streams of bytes to the real servers.
    Bulk {
        /// TCP connections.
        flows: usize,
    },
    /// UDP datagrams to the real servers.
    Datagrams {
        /// Sending threads.
        senders: usize,
        /// Sockets of each.
        flows: usize,
    },
    /// Short TCP connections.
    Connections,
    /// Requests and answers on connections that stay.
    Exchanges {
        /// TCP connections.
        connections: usize,
    },
}

impl Load {
    /// Whether it is made of UDP.
    pub(crate) const fn is_udp(self) -> bool {
        matches!(self, Self::Datagrams { .. })
    }
}

/// A way to run uvs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// How it forwards.
    pub(crate) method: Method,
    /// What it reads from.
    pub(crate) device: Device,
    /// How frames get there.
    pub(crate) attach: Attach,
}

impl Mode {
    /// A TUN device has no MAC addresses for DR to change, and nothing that a program could redirect Ethernet frames
    /// to.
    pub(crate) const fn makes_sense(self) -> bool {
        match self.device {
            Device::Tap => true,
            Device::Tun => !matches!(self.method, Method::Dr) && matches!(self.attach, Attach::Bridge),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device {
            Device::Tap => f.pad(&format!("{} tap {}", self.method, self.attach)),
            Device::Tun => f.pad(&format!("{} tun", self.method)),
        }
    }
}
