//! Opening a TUN or TAP device.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};
use uvs_director::spec::MacAddr;

use crate::error::DeviceError;
use crate::net::write_sysctl;
use crate::queue::{Framing, Queue};
use crate::requests::detach;
use crate::tunnel;

/// The smallest MTU, that of IPv4 (RFC 791).
pub const MTU_MIN: u32 = 68;
/// Frames that wait in a queue of the device for the director; what comes then is lost, and counted. The kernel's 500
/// of a TUN (of a TAP 1000) are full after 35 ms of 14,000 frames a second, and a director that shares its cores waits
/// longer than that for one.
const TX_QUEUE_LEN: u32 = 2000;

/// The most queues the kernel gives one device (`MAX_TAP_QUEUES`).
pub const QUEUES_MAX: u16 = 256;

/// Length of an Ethernet header.
const ETHERNET_LEN: usize = 14;

const NODE: &str = "/dev/net/tun";

/// First byte of the kernel's own MAC address on a TAP device: locally administered, and so high that a
/// bridge, which takes the lowest of its ports' addresses, keeps the one it has.
const KERNEL_MAC_FIRST: u8 = 0xfe;

/// What kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Layer 2: frames are Ethernet.
    Tap {
        /// The director's address: the station behind the device. The kernel's end of the device is another
        /// station, with an address of its own.
        mac: MacAddr,
    },
    /// Layer 3: frames are IP packets.
    Tun,
}

/// The device to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// The link's name, 1 to 15 bytes.
    pub name: String,
    /// Layer 2 or 3.
    pub kind: Kind,
    /// Largest IP packet in bytes: [`MTU_MIN`] to 65535, on TAP to 65521.
    pub mtu: u32,
    /// How many queues, 1 to [`QUEUES_MAX`]. The kernel spreads flows over them, and the two directions of one
    /// connection may arrive on different ones.
    pub queues: u16,
    /// Whether frames come and go with a virtio header: GSO packets of up to 64 KiB and partial checksums, as told by
    /// `Frame::offload`.
    pub offload: bool,
    /// Of a TAP with `offload`: whether GSO packets pass it inside UDP tunnels too (GUE, VXLAN) where the kernel has
    /// that.
    pub tunnel_gso: bool,
}

/// An open TUN or TAP device. The kernel removes the link when this is dropped.
#[derive(Debug)]
pub struct Device {
    name: String,
    index: u32,
    queues: Vec<Queue>,
    /// See [`Device::own`].
    own: Option<Queue>,
    offload: bool,
    udp_gso: bool,
    tunnel_gso: bool,
}

impl Device {
    /// Creates the device in the network namespace of the calling thread and brings it up. The kernel gets no
    /// address on it: on TAP IPv6 is disabled for the kernel's end, on TUN it makes no link-local address.
    ///
    /// # Errors
    /// See [`DeviceError`]. Nothing is left behind then.
    pub fn open(spec: &DeviceSpec) -> Result<Self, DeviceError> {
        check(spec)?;
        let name = spec.name.as_str();
        // A persistent device of this name would be joined silently, whatever it is used for.
        match nix::net::if_::if_nametoindex(name) {
            Ok(_) => return Err(DeviceError::NameTaken { name: name.to_owned() }),
            Err(Errno::ENODEV | Errno::ENXIO | Errno::ENOENT) => {}
            Err(errno) => return Err(DeviceError::from_step(name, "look its name up", errno.into())),
        }
        check_node(Path::new(NODE))?;

        let layer = match spec.kind {
            Kind::Tap { .. } => Layer::L2,
            Kind::Tun => Layer::L3,
        };
        // What follows the creation is done step by step, so that an error names its step.
        let first = DeviceBuilder::new()
            .name(name)
            .layer(layer)
            .offload(spec.offload)
            .multi_queue(spec.queues > 1)
            .inherit_enable_state()
            .build_sync()
            .map_err(|cause| {
                // Of what we ask for, nothing else can be invalid: name and flags were checked.
                let no_offload = spec.offload && cause.raw_os_error() == Some(Errno::EINVAL as i32);
                let name = name.to_owned();
                if no_offload {
                    DeviceError::NoOffload { name }
                } else {
                    DeviceError::from_step(&name, "create it", cause)
                }
            })?;
        // Were the header's state not what we think, every frame would carry ten stray bytes.
        if first.tcp_gso() != spec.offload {
            return Err(DeviceError::NoOffload { name: name.to_owned() });
        }
        let failed = |step| move |cause| DeviceError::from_step(name, step, cause);
        let mtu = u16::try_from(spec.mtu).expect("the MTU was checked");
        first.set_mtu(mtu).map_err(failed("set its MTU"))?;
        lengthen(&first).map_err(failed("set the length of its queues"))?;
        if let Kind::Tap { mac } = spec.kind {
            let own = kernel_mac(first.mac_address().map_err(failed("read its MAC address"))?, mac);
            first.set_mac_address(own).map_err(failed("set its MAC address"))?;
        }
        quiet_ipv6(name, spec.kind);
        let index = first.if_index().map_err(failed("read its index"))?;
        let clones: Vec<SyncDevice> = (1..spec.queues)
            .map(|_| first.try_clone())
            .collect::<io::Result<_>>()
            .map_err(failed("add a queue"))?;
        let own = if spec.queues > 1 { aside(&first, name) } else { None };
        first.enabled(true).map_err(failed("bring it up"))?;
        let link_len = match spec.kind {
            Kind::Tap { .. } => ETHERNET_LEN,
            Kind::Tun => 0,
        };
        let udp_gso = first.udp_gso();
        let wanted = spec.tunnel_gso && spec.offload && udp_gso && link_len > 0;
        let tunnel_gso = wanted && tunnel::enable(&first);
        let framing = match spec.offload {
            false => Framing::Plain,
            true if tunnel_gso => Framing::Tunnels,
            true => Framing::Gso,
        };
        let queues = std::iter::once(first)
            .chain(clones)
            .map(|inner| Queue::new(inner, framing, link_len))
            .collect::<io::Result<_>>()
            .map_err(failed("make it non-blocking"))?;
        let own = own.map(|inner| Queue::new(inner, framing, link_len)).transpose();
        let own = own.map_err(failed("make it non-blocking"))?;
        Ok(Self { name: name.to_owned(), index, queues, own, offload: spec.offload, udp_gso, tunnel_gso })
    }

    /// The link's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The link's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether GSO packets of TCP segments and partial checksums pass it, as was asked for.
    pub fn offload(&self) -> bool {
        self.offload
    }

    /// Whether GSO packets of UDP datagrams (USO) pass it too, which takes Linux 6.2.
    pub fn udp_gso(&self) -> bool {
        self.udp_gso
    }

    /// Whether GSO packets inside UDP tunnels pass it too, which takes Linux 6.17 and a TAP.
    pub fn tunnel_gso(&self) -> bool {
        self.tunnel_gso
    }

    /// Its queues, as many as were asked for.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Where packets of the director's own sockets are sent, which no worker has received. The kernel hands frames of a
    /// flow to the queue that its other direction was last written to, and keeps 4096 flows for that: here it notes
    /// none, so that probes cost less and leave the room to clients.
    pub fn own(&self) -> &Queue {
        self.own.as_ref().unwrap_or(&self.queues[0])
    }
}

/// A queue that only sends, where the kernel has room for one more.
fn aside(first: &SyncDevice, name: &str) -> Option<SyncDevice> {
    let made = first.try_clone().and_then(|queue| detach(&queue).map(|()| queue));
    made.inspect_err(|error| tracing::debug!(device = name, %error, "no queue of the director's own")).ok()
}

fn check(spec: &DeviceSpec) -> Result<(), DeviceError> {
    let name = || spec.name.clone();
    if let Some(why) = name_fault(&spec.name) {
        return Err(DeviceError::Name { name: name(), why });
    }
    let max = match spec.kind {
        Kind::Tap { .. } => 65_535 - 14,
        Kind::Tun => 65_535,
    };
    if !(MTU_MIN..=max).contains(&spec.mtu) {
        return Err(DeviceError::Mtu { name: name(), mtu: spec.mtu, max });
    }
    if !(1..=QUEUES_MAX).contains(&spec.queues) {
        return Err(DeviceError::Queues { name: name(), queues: spec.queues });
    }
    match spec.kind {
        Kind::Tap { mac } if mac.is_multicast() || mac == MacAddr([0; 6]) => {
            Err(DeviceError::Mac { name: name(), mac })
        }
        _ => Ok(()),
    }
}

/// What the kernel would not accept, or would take for a pattern (`%`).
fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 15 {
        Some("it is longer than 15 bytes")
    } else if name == "." || name == ".." {
        Some("it names a directory")
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c)) {
        Some("it contains a character that the kernel does not allow")
    } else if ["all", "default"].contains(&name) {
        Some("it stands for every link in /proc/sys/net")
    } else {
        None
    }
}

/// Fails with advice where opening the clone device would fail, so that a later error can only mean the device.
fn check_node(path: &Path) -> Result<(), DeviceError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(drop).map_err(|cause| DeviceError::from_node(path, cause))
}

/// The address of the kernel's end, from the random one it chose: never the director's.
fn kernel_mac(random: [u8; 6], director: MacAddr) -> [u8; 6] {
    let [_, rest @ ..] = random;
    let [b, c, d, e, last] = rest;
    let mac = [KERNEL_MAC_FIRST, b, c, d, e, last];
    if MacAddr(mac) == director { [KERNEL_MAC_FIRST, b, c, d, e, !last] } else { mac }
}

/// Has a burst wait for the director, where that may be set.
fn lengthen(device: &SyncDevice) -> io::Result<()> {
    match device.set_tx_queue_len(TX_QUEUE_LEN) {
        // The kernel asks for CAP_NET_ADMIN on the host, which nobody has in a user namespace: its own length stays.
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        done => done,
    }
}

/// Keeps router solicitations and multicast reports of the kernel's end away from the director. On TUN packets
/// are routed through the kernel's end, so IPv6 stays on there.
fn quiet_ipv6(name: &str, kind: Kind) {
    let (setting, value) = match kind {
        Kind::Tap { .. } => ("disable_ipv6", "1"),
        Kind::Tun => ("addr_gen_mode", "1"),
    };
    match write_sysctl(&format!("net/ipv6/conf/{name}/{setting}"), value) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
        // A read-only /proc/sys, as containers have it: the director drops the noise, with a counter.
        Err(error) => {
            tracing::warn!(device = name, setting, %error, "the kernel's IPv6 stays on for the device")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> DeviceSpec {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        DeviceSpec {
            name: "uvs0".into(),
            kind: Kind::Tap { mac },
            mtu: 1500,
            queues: 1,
            offload: false,
            tunnel_gso: false,
        }
    }

    #[test]
    fn a_bad_spec_is_refused_before_anything_is_opened() {
        type Edit = fn(&mut DeviceSpec);
        let cases: [(Edit, &str); 14] = [
            (|s| s.name = String::new(), "empty"),
            (|s| s.name = "sixteen-bytes-xx".into(), "longer than 15"),
            (|s| s.name = "a/b".into(), "does not allow"),
            (|s| s.name = "uvs%d".into(), "does not allow"),
            (|s| s.name = "uvs 0".into(), "does not allow"),
            (|s| s.name = "uvs:0".into(), "does not allow"),
            (|s| s.name = "..".into(), "directory"),
            (|s| s.name = "all".into(), "every link"),
            (|s| s.mtu = 67, "use 68 to 65521"),
            (|s| s.mtu = 65_522, "use 68 to 65521"),
            (|s| s.queues = 0, "use 1 to 256"),
            (|s| s.queues = 257, "use 1 to 256"),
            (|s| s.kind = Kind::Tap { mac: MacAddr([1, 0, 0, 0, 0, 1]) }, "unicast"),
            (|s| s.kind = Kind::Tap { mac: MacAddr([0; 6]) }, "unicast"),
        ];
        assert!(check(&spec()).is_ok());
        for (edit, want) in cases {
            let mut bad = spec();
            edit(&mut bad);
            let text = check(&bad).expect_err(want).to_string();
            assert!(text.contains(want) && text.contains("fix:"), "{want:?} is not in: {text}");
        }
        let tun = DeviceSpec { kind: Kind::Tun, mtu: 65_535, name: "fifteen-bytes-x".into(), ..spec() };
        assert!(check(&tun).is_ok(), "the largest MTU and the longest name of a TUN device");
    }

    #[test]
    fn a_missing_node_is_told_from_a_forbidden_one() {
        let missing = check_node(Path::new("/nonexistent/net/tun")).expect_err("no such file");
        assert!(matches!(missing, DeviceError::NoNode { .. }), "{missing}");
        // Nobody may open a directory for writing, not even root.
        let forbidden = check_node(Path::new("/proc/self")).expect_err("a directory");
        assert!(matches!(forbidden, DeviceError::NodeDenied { .. }), "{forbidden}");
    }

    #[test]
    fn the_kernels_end_is_another_station_than_the_director() {
        let random = [0x12, 1, 2, 3, 4, 5];
        assert_eq!(kernel_mac(random, MacAddr([2, 0, 0, 0, 0, 1])), [0xfe, 1, 2, 3, 4, 5]);
        assert_eq!(kernel_mac(random, MacAddr([0xfe, 1, 2, 3, 4, 5])), [0xfe, 1, 2, 3, 4, 0xfa]);
    }
}
