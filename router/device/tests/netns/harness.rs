//! A network namespace for a test, and packets to send through it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use uvs_device::net::Net;
use uvs_device::{Device, DeviceSpec, Kind, Poller, Queue, StopHandle};
use uvs_director::Frame;
use uvs_director::spec::MacAddr;

/// The director's address on TAP devices.
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Runs `body` on a thread in a new network namespace with the loopback up, or says why not.
pub(crate) fn isolated(body: impl AsyncFnOnce(Net) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let entered = unshare(CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from);
        let node = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        if let Err(error) = entered.and(node) {
            let required = std::env::var("UVS_REQUIRE_ROOT_TESTS").is_ok_and(|value| value == "1");
            assert!(!required, "this test needs root (CAP_NET_ADMIN) and /dev/net/tun: {error}");
            eprintln!("skipped: needs root (CAP_NET_ADMIN) and /dev/net/tun");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let net = Net::new().unwrap();
            net.set_up("lo").await.unwrap();
            body(net).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn tap(name: &str) -> DeviceSpec {
    DeviceSpec {
        name: name.into(),
        kind: Kind::Tap { mac: MAC },
        mtu: 1500,
        queues: 1,
        offload: false,
        tunnel_gso: false,
    }
}

pub(crate) fn tun(name: &str) -> DeviceSpec {
    DeviceSpec { kind: Kind::Tun, ..tap(name) }
}

/// The first frame out of `queue` that `wanted` is true of; others are passed over. None after 5 seconds.
pub(crate) fn receive(queue: &Queue, wanted: impl Fn(&[u8]) -> bool) -> Option<Frame> {
    let mut poller = Poller::new([queue], &StopHandle::new().unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut frame = Frame::new();
    loop {
        while queue.receive(&mut frame).unwrap() {
            if wanted(frame.bytes()) {
                return Some(frame);
            }
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        poller.wait(Some(left)).unwrap();
    }
}

/// Whether the frame ends with these bytes.
pub(crate) fn ends_with(tail: &[u8]) -> impl Fn(&[u8]) -> bool {
    move |bytes| bytes.ends_with(tail)
}

/// The only queue of a device.
pub(crate) fn queue(device: &Device) -> &Queue {
    let [queue] = device.queues() else { panic!("{} queues", device.queues().len()) };
    queue
}

/// An Ethernet frame.
pub(crate) fn ethernet(to: MacAddr, from: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes(), payload].concat()
}

/// A UDP packet over IPv4, without a UDP checksum.
pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = ones_sum(&packet);
    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
    for half in [from.1, to.1, total - 20, 0] {
        packet.extend(half.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// The ones' complement sum (RFC 1071).
pub(crate) fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Turns an IPv4 packet with UDP round: an answer from where it was going to. Checksums stay right.
pub(crate) fn turn_round(packet: &mut [u8]) {
    let (source, destination) = packet[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    packet[20..24].rotate_left(2);
}
