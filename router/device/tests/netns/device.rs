//! Devices: what goes in comes out.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use uvs_device::net::{Net, read_sysctl};
use uvs_device::{Device, DeviceError, DeviceSpec, Poller, StopHandle};
use uvs_director::spec::{MacAddr, Prefix};
use uvs_director::{Frame, Offload};

use crate::harness::{
    MAC, ends_with, ethernet, isolated, ones_sum, queue, receive, tap, tun, turn_round, udp,
};

/// An EtherType for experiments (IEEE 802): nothing in the kernel answers it.
const EXPERIMENT: u16 = 0x88b5;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 55);

#[test]
fn a_device_lives_as_long_as_it_is_open() {
    isolated(async |net| {
        for spec in [tap("uvs0"), tun("uvs0"), DeviceSpec { mtu: 9000, ..tap("uvs0") }] {
            let before = net.links().await.unwrap();
            let device = Device::open(&spec).unwrap();
            let link = net.link("uvs0").await.unwrap();
            assert_eq!((device.name(), device.index()), ("uvs0", link.index));
            assert_eq!((link.mtu, link.up, link.master), (spec.mtu, true, None), "{spec:?}");
            assert_ne!(link.mac, Some(MAC), "the kernel's end is a station of its own");
            let own: Vec<_> = net.addresses().await.unwrap();
            assert!(own.iter().all(|(index, _)| *index != link.index), "the kernel took an address: {own:?}");
            drop(device);
            assert_eq!(net.links().await.unwrap(), before);
        }
    });
}

#[test]
fn the_kernels_end_of_a_tap_does_not_speak_ipv6() {
    isolated(async |_| {
        let _device = Device::open(&tap("uvs0")).unwrap();
        if std::path::Path::new("/proc/sys/net/ipv6").exists() {
            assert_eq!(read_sysctl("net/ipv6/conf/uvs0/disable_ipv6").unwrap(), "1");
        }
    });
}

#[test]
fn a_taken_name_is_refused_and_the_owner_stays() {
    isolated(async |net| {
        let first = Device::open(&tap("uvs0")).unwrap();
        net.bridge("br0").await.unwrap();
        for name in ["uvs0", "br0", "lo"] {
            let error = Device::open(&tap(name)).expect_err(name);
            assert!(matches!(error, DeviceError::NameTaken { .. }), "{error}");
            assert!(error.to_string().contains(&format!("ip link del {name}")), "{error}");
        }
        assert_eq!(net.link_index("uvs0").await.unwrap(), first.index());
    });
}

#[test]
fn an_mtu_out_of_range_leaves_no_link() {
    isolated(async |net| {
        let before = net.links().await.unwrap();
        for mtu in [0, 67, 65_522, 100_000] {
            let error = Device::open(&DeviceSpec { mtu, ..tap("uvs0") }).expect_err("bad MTU");
            assert!(matches!(error, DeviceError::Mtu { .. }), "{error}");
        }
        assert_eq!(net.links().await.unwrap(), before);
        for (mtu, spec) in [(68, tap("uvs0")), (65_521, tap("uvs0")), (65_535, tun("uvs0"))] {
            Device::open(&DeviceSpec { mtu, ..spec }).unwrap_or_else(|error| panic!("MTU {mtu}: {error}"));
        }
    });
}

/// Two TAP devices in one bridge, each up.
async fn bridged(net: &Net, spec: impl Fn(&str) -> DeviceSpec) -> (Device, Device) {
    let pair = (Device::open(&spec("left")).unwrap(), Device::open(&spec("right")).unwrap());
    net.bridge("br0").await.unwrap();
    net.set_up("br0").await.unwrap();
    for name in ["left", "right"] {
        net.set_master(name, "br0").await.unwrap();
    }
    pair
}

#[test]
fn a_frame_crosses_a_bridge_from_tap_to_tap() {
    isolated(async |net| {
        let (left, right) = bridged(&net, tap).await;
        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        let mut empty = Frame::new();
        let there = ethernet(MacAddr::BROADCAST, MAC, EXPERIMENT, &[0xa5; 1486]);
        queue(&left).send(&Frame::from_bytes(&there)).unwrap();
        let got = receive(queue(&right), |bytes| bytes.ends_with(&[0xa5; 1486])).expect("the frame");
        assert_eq!(got.bytes(), there);
        assert_eq!(got.offload, Offload::default());
        // The bridge has learnt where MAC is.
        let back = ethernet(MAC, other, EXPERIMENT, &[0x5a; 46]);
        queue(&right).send(&Frame::from_bytes(&back)).unwrap();
        let got = receive(queue(&left), |bytes| bytes.ends_with(&[0x5a; 46])).expect("the answer");
        assert_eq!(got.bytes(), back);
        while queue(&right).receive(&mut empty).unwrap() {
            assert_ne!(empty.bytes(), back, "a frame came back to its sender");
        }
        assert!(empty.is_empty(), "nothing there, nothing in the frame");
    });
}

#[test]
fn a_socket_talks_to_an_address_behind_a_tun() {
    isolated(async |net| {
        let device = Device::open(&tun("uvs0")).unwrap();
        let socket = routed_socket(&net).await;
        socket.send_to(b"anybody there?", (THERE, 7777)).unwrap();
        let mut packet = receive(queue(&device), ends_with(b"anybody there?")).expect("the packet");
        assert_eq!(packet.bytes()[0], 0x45, "an IP packet, nothing in front");
        assert_eq!(packet.bytes()[12..20], [HERE.octets(), THERE.octets()].concat());
        turn_round(packet.bytes_mut());
        queue(&device).send(&packet).unwrap();
        let mut answer = [0; 100];
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&b"anybody there?"[..], (THERE, 7777).into()));
    });
}

#[test]
fn a_burst_waits_for_a_reader_that_does_not_get_a_core() {
    isolated(async |net| {
        let device = Device::open(&tun("uvs0")).unwrap();
        let socket = routed_socket(&net).await;
        for number in 0..2000_u32 {
            socket.send_to(&number.to_be_bytes(), (THERE, 7777)).unwrap();
        }
        for number in 0..2000_u32 {
            assert!(receive(queue(&device), ends_with(&number.to_be_bytes())).is_some(), "packet {number}");
        }
    });
}

/// A socket on an address of the host, with a route to `THERE` out of uvs0.
async fn routed_socket(net: &Net) -> UdpSocket {
    net.add_address("lo", Prefix::host(HERE.into())).await.unwrap();
    net.add_route(Prefix::host(THERE.into()), None, Some("uvs0")).await.unwrap();
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn a_frame_that_does_not_fit_is_reported_and_the_next_one_comes() {
    isolated(async |net| {
        let device = Device::open(&tun("uvs0")).unwrap();
        let socket = routed_socket(&net).await;
        for payload in [&[b'x'; 200][..], &[b'x'; 100], b"short"] {
            socket.send_to(payload, (THERE, 7777)).unwrap();
        }
        let mut small = Frame::with_capacity(128); // just what the second one has: cut off or not, nobody knows
        let mut seen = Vec::new();
        for _ in 0..3 {
            match queue(&device).receive(&mut small) {
                Ok(true) => seen.push(small.len()),
                Ok(false) => panic!("the packets are there"),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}"),
            }
        }
        assert_eq!(seen, [33]);
        assert_eq!(queue(&device).unreadable(), 2);
        assert!(!queue(&device).receive(&mut small).unwrap());
    });
}

#[test]
fn a_queue_tells_when_its_link_is_down_or_deleted() {
    isolated(async |net| {
        let device = Device::open(&tun("uvs0")).unwrap();
        let packet = Frame::from_bytes(&udp((THERE, 1), (HERE, 2), b"x"));
        queue(&device).send(&packet).unwrap();
        net.set_down("uvs0").await.unwrap();
        let error = queue(&device).send(&packet).expect_err("the link is down");
        assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "{error}");
        net.delete_link("uvs0").await.unwrap();
        let mut poller = Poller::new(device.queues(), &StopHandle::new().unwrap()).unwrap();
        let ready: Vec<_> = poller.wait(Some(Duration::from_secs(5))).unwrap().sources().collect();
        assert_eq!(ready, [0], "a deleted device wakes its worker");
        let error = queue(&device).receive(&mut Frame::new()).expect_err("the link is gone");
        assert_eq!(error.raw_os_error(), Some(nix::libc::EBADFD), "{error}");
    });
}

#[test]
fn a_frame_shorter_than_its_header_is_refused() {
    isolated(async |_| {
        for offload in [false, true] {
            let device = Device::open(&DeviceSpec { offload, ..tap("uvs0") }).unwrap();
            let error = queue(&device).send(&Frame::from_bytes(&[2; 13])).expect_err("13 bytes");
            assert_eq!(error.raw_os_error(), Some(nix::libc::EINVAL), "offload {offload}: {error}");
            queue(&device).send(&Frame::from_bytes(&[2; 60])).unwrap();
        }
    });
}

#[test]
fn a_poller_names_the_device_that_has_frames() {
    isolated(async |net| {
        let devices = [Device::open(&tun("uvs1")).unwrap(), Device::open(&tun("uvs0")).unwrap()];
        let socket = routed_socket(&net).await;
        let stop = StopHandle::new().unwrap();
        let mut poller = Poller::new(devices.iter().map(queue), &stop).unwrap();
        let mut frame = Frame::new();
        for device in &devices {
            while queue(device).receive(&mut frame).unwrap() {}
        }
        socket.send_to(b"x", (THERE, 7777)).unwrap();
        let ready = poller.wait(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(ready.sources().collect::<Vec<_>>(), [1]);
        assert!(!ready.stopped());
        while queue(&devices[1]).receive(&mut frame).unwrap() {}
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap().sources().count(), 0, "drained");
        stop.stop();
        assert!(poller.wait(None).unwrap().stopped());
    });
}

#[test]
fn a_gso_packet_of_datagrams_passes_a_tun_unsplit_both_ways() {
    isolated(async |net| {
        let device = Device::open(&DeviceSpec { offload: true, ..tun("uvs0") }).unwrap();
        let socket = routed_socket(&net).await;
        setsockopt(&socket, sockopt::UdpGsoSegment, &1000).unwrap();
        let payload: Vec<u8> = (0..20u8).flat_map(|n| [n; 1000]).collect();
        socket.send_to(&payload, (THERE, 7777)).unwrap();
        let mut gso_packet = receive(queue(&device), ends_with(&[19; 1000])).expect("the GSO packet");
        let want = Offload {
            needs_checksum: true,
            gso_type: 5, // VIRTIO_NET_HDR_GSO_UDP_L4
            header_len: 28,
            segment_size: 1000,
            checksum_start: 20,
            checksum_offset: 6,
            inner_start: 0,
        };
        assert_eq!((gso_packet.len(), gso_packet.offload), (20_028, want));
        turn_round(gso_packet.bytes_mut());
        queue(&device).send(&gso_packet).unwrap();
        let mut datagram = [0; 2000];
        for n in 0..20 {
            let len = socket.recv(&mut datagram).unwrap();
            assert_eq!(datagram[..len], [n; 1000], "datagram {n}");
        }
    });
}

#[test]
fn a_gso_packet_crosses_a_bridge_to_a_tap_with_offload_and_is_split_for_one_without() {
    for offload_there in [true, false] {
        isolated(async move |net| {
            let spec = |name: &str| DeviceSpec { offload: name == "left" || offload_there, ..tap(name) };
            let (left, right) = bridged(&net, spec).await;
            let payload = [0xa5; 3000];
            let mut packet = udp((HERE, 1111), (THERE, 2222), &payload);
            // A partial checksum: the sum of the pseudo-header, not complemented.
            let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
            let sum = ones_sum(&pseudo);
            packet[26..28].copy_from_slice(&sum.to_be_bytes());
            let mut gso_packet = Frame::from_bytes(&ethernet(MacAddr::BROADCAST, MAC, 0x0800, &packet));
            gso_packet.offload = Offload {
                needs_checksum: true,
                gso_type: 5,
                header_len: 42,
                segment_size: 1000,
                checksum_start: 34,
                checksum_offset: 6,
                inner_start: 0,
            };
            queue(&left).send(&gso_packet).unwrap();
            let first = receive(queue(&right), ends_with(&[0xa5; 1000])).expect("the GSO packet");
            if offload_there {
                assert!(first.bytes() == gso_packet.bytes(), "the GSO packet changed on its way");
                // The kernel says how much lies in one piece in its memory: the headers, and here the rest as well.
                assert!(first.offload.header_len >= gso_packet.offload.header_len);
                assert_eq!(Offload { header_len: 42, ..first.offload }, gso_packet.offload);
                return;
            }
            let mut segments = vec![first];
            for _ in 0..2 {
                segments.push(receive(queue(&right), ends_with(&[0xa5; 1000])).expect("a segment"));
            }
            for segment in segments {
                let packet = &segment.bytes()[14..];
                assert_eq!((packet.len(), segment.offload), (1028, Offload::default()));
                let pseudo = [&packet[12..20], &[0, 17], &packet[24..26], &packet[20..]].concat();
                assert_eq!(ones_sum(&pseudo), 0xffff, "the kernel completed the checksum");
            }
        });
    }
}

#[test]
fn a_device_without_offload_gets_packets_with_complete_checksums() {
    isolated(async |net| {
        let device = Device::open(&tun("uvs0")).unwrap();
        let socket = routed_socket(&net).await;
        let port = socket.local_addr().unwrap().port();
        // What is partial or a GSO packet goes out of the device, through the kernel's checks, and into a socket.
        let partial = |payload: &[u8]| {
            let mut packet = udp((THERE, 7777), (HERE, port), payload);
            let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
            let sum = ones_sum(&pseudo);
            packet[26..28].copy_from_slice(&sum.to_be_bytes());
            let mut frame = Frame::from_bytes(&packet);
            frame.offload.needs_checksum = true;
            (frame.offload.checksum_start, frame.offload.checksum_offset) = (20, 6);
            frame
        };
        assert_eq!(queue(&device).send(&partial(b"one")).unwrap(), 1);
        let payload: Vec<u8> = (0..7u8).flat_map(|n| [n; 1000]).collect();
        let mut gso_packet = partial(&payload[..6500]);
        (gso_packet.offload.gso_type, gso_packet.offload.segment_size, gso_packet.offload.header_len) =
            (5, 1000, 28);
        assert_eq!(queue(&device).send(&gso_packet).unwrap(), 7);
        let mut datagram = [0; 2000];
        let mut next = || socket.recv(&mut datagram).map(|len| datagram[..len].to_vec()).unwrap();
        assert_eq!(next(), b"one");
        for n in 0..7 {
            assert_eq!(next(), vec![n; if n == 6 { 500 } else { 1000 }], "datagram {n}");
        }
        // It claims to be a GSO packet, and is ARP.
        gso_packet.fill(&[0; 60]);
        (gso_packet.offload.gso_type, gso_packet.offload.segment_size) = (5, 1000);
        let error = queue(&device).send(&gso_packet).expect_err("no GSO packet");
        assert_eq!((error.kind(), error.raw_os_error()), (std::io::ErrorKind::InvalidInput, None));
    });
}

#[test]
fn what_the_director_says_of_itself_moves_no_flow() {
    for offload in [false, true] {
        isolated(async move |net| {
            let device = Device::open(&DeviceSpec { queues: 2, offload, ..tun("uvs0") }).unwrap();
            let _socket = routed_socket(&net).await;
            for (number, near) in device.queues().iter().enumerate() {
                let socket = UdpSocket::bind((HERE, 0)).unwrap();
                let port = socket.local_addr().unwrap().port();
                let seed = Frame::from_bytes(&udp((THERE, 7777), (HERE, port), b"in"));
                near.send(&seed).unwrap();
                device.own().send(&seed).unwrap();
                for _ in 0..2 {
                    assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 2, "it takes what is written");
                }
                for turn in 0..20 {
                    let text = format!("out {turn}");
                    socket.send_to(text.as_bytes(), (THERE, 7777)).unwrap();
                    let came = receive(near, ends_with(text.as_bytes()));
                    assert!(came.is_some(), "queue {number}, offload {offload}");
                }
            }
            assert!(!device.own().receive(&mut Frame::new()).unwrap(), "it is given nothing");
        });
    }
    isolated(async |_| {
        let device = Device::open(&tun("uvs0")).unwrap();
        assert!(std::ptr::eq(device.own(), queue(&device)), "one queue is enough for a device with one");
    });
}

#[test]
fn several_queues_share_the_flows() {
    for offload in [false, true] {
        isolated(async move |net| {
            let device = Device::open(&DeviceSpec { queues: 2, offload, ..tun("uvs0") }).unwrap();
            assert_eq!(device.queues().len(), 2);
            let _socket = routed_socket(&net).await;
            // A flow follows the queue its last packet was written to.
            for (number, near) in device.queues().iter().enumerate() {
                let socket = UdpSocket::bind((HERE, 0)).unwrap();
                let port = socket.local_addr().unwrap().port();
                let seed = Frame::from_bytes(&udp((THERE, 7777), (HERE, port), b"in"));
                near.send(&seed).unwrap();
                socket.recv(&mut [0; 10]).unwrap();
                socket.send_to(b"out", (THERE, 7777)).unwrap();
                assert!(receive(near, ends_with(b"out")).is_some(), "queue {number}, offload {offload}");
            }
        });
    }
}
