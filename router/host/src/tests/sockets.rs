//! The tokio sockets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::timeout;
use uvs_director::local::{Failure, Transport};
use uvs_director::{DropReason, Instant};
use uvs_wire::{Packet, tcp};

use super::wire::{Faults, PEER4, PEER6, Wire};
use crate::echo::Ping;
use crate::error::Error;
use crate::host::{Host, Peer};
use crate::stack::Buffers;
use crate::udp::UdpSocket;

fn at(peer: &str, port: u16) -> SocketAddr {
    SocketAddr::new(peer.parse::<IpAddr>().unwrap(), port)
}

fn to(peer: &str, port: u16) -> Peer {
    Peer::direct(at(peer, port))
}

/// Runs `test` beside a driver, with a wire whose time passes as real time does.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Host, Arc<Wire>) -> F) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wire = Arc::new(Wire::new(Faults::default(), 1));
        let work = Arc::new(Notify::new());
        let (host, driver) = Host::new(Arc::clone(&wire) as _, 1 << 20, Arc::clone(&work));
        tokio::spawn(driver.run());
        let clock = Arc::clone(&wire);
        tokio::spawn(async move {
            let start = tokio::time::Instant::now();
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let now = Instant::from_secs(1) + start.elapsed();
                while clock.advance(now) < now {}
                work.notify_one();
            }
        });
        timeout(Duration::from_secs(20), test(host, wire)).await.expect("it ends");
    });
}

const BUFFERS: Buffers = Buffers { receive: 4096, send: 2048 };

#[test]
fn a_stream_says_and_hears_and_ends() {
    run(|host, wire| async move {
        for peer in [PEER4, PEER6] {
            let mut stream = host.connect(to(peer, 80), BUFFERS).await.unwrap();
            assert_eq!((stream.peer_addr(), stream.local_addr().is_ipv4()), (at(peer, 80), peer == PEER4));
            let said: Vec<u8> = (0..30_000).map(|n| (n % 253) as u8).collect();
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writes = async {
                writer.write_all(&said).await.unwrap();
                writer.shutdown().await.unwrap();
                assert!(writer.write_all(b"more").await.is_err(), "it was shut down");
            };
            let mut heard = Vec::new();
            let (read, ()) = tokio::join!(reader.read_to_end(&mut heard), writes);
            assert_eq!(read.unwrap(), said.len());
            assert!(heard == said);
            stream = reader.unsplit(writer);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "it stays at its end");
            drop(stream);
            assert_eq!((wire.open_sockets(), host.usage().memory), (0, 0));
        }
        let last = wire.sent().pop().unwrap();
        assert_eq!(Packet::parse(&last).unwrap().tcp_flags & tcp::RST, 0, "both sides had ended it");
    });
}

#[test]
fn a_stream_that_is_dropped_is_reset_and_its_port_is_free_at_once() {
    run(|host, wire| async move {
        let stream = host.connect(to(PEER4, 81), BUFFERS).await.unwrap();
        assert_eq!(wire.open_sockets(), 1);
        drop(stream);
        assert_eq!((wire.open_sockets(), host.usage().sockets), (0, 0));
        let last = wire.sent().pop().unwrap();
        assert_ne!(Packet::parse(&last).unwrap().tcp_flags & tcp::RST, 0);
        // So is one whose handshake is given up.
        wire.refuse(Some(DropReason::NeighborQueueFull));
        let waits = host.connect(to(PEER4, 80), BUFFERS);
        assert!(timeout(Duration::from_millis(50), waits).await.is_err(), "as if it had been lost");
        assert_eq!((wire.open_sockets(), host.usage().sockets), (0, 0));
    });
}

/// SYN, and a reset for the answer: whoever serves there has nothing to accept.
#[test]
fn a_half_open_connection_ends_with_a_reset() {
    run(|host, wire| async move {
        for peer in [PEER4, PEER6] {
            let before = wire.sent().len();
            host.half_open(to(peer, 81), BUFFERS).await.unwrap();
            assert_eq!((wire.open_sockets(), host.usage().sockets), (0, 0));
            let sent: Vec<Vec<u8>> = wire.sent().split_off(before);
            let segments = sent.iter().map(|packet| Packet::parse(packet).unwrap().tcp_flags);
            assert_eq!(segments.collect::<Vec<_>>(), [tcp::SYN, tcp::RST | tcp::ACK]);
            // Its number is the one that is waited for: the first after the SYN.
            let numbers = sent.iter().map(|packet| {
                let segment = Packet::parse(packet).unwrap().transport(packet).to_vec();
                u32::from_be_bytes(segment[4..8].try_into().unwrap())
            });
            let numbers: Vec<u32> = numbers.collect();
            assert_eq!(numbers[1], numbers[0].wrapping_add(1));
            // The same socket serves again, and ends its handshakes.
            let mut stream = host.connect(to(peer, 80), BUFFERS).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
        assert_eq!(host.half_open(to(PEER4, 4444), BUFFERS).await, Err(Error::Refused));
    });
}

#[test]
fn what_does_not_come_about_says_why() {
    run(|host, wire| async move {
        let connect = || host.connect(to(PEER4, 4444), BUFFERS);
        assert_eq!(connect().await.err(), Some(Error::Refused));
        wire.refuse(Some(DropReason::NoRoute));
        assert_eq!(connect().await.err(), Some(Error::Dropped(DropReason::NoRoute)));
        assert_eq!((wire.open_sockets(), host.usage().sockets), (0, 0));
        wire.refuse(None);
        for failure in [Failure::NoNeighbor, Failure::HostUnreachable, Failure::TtlExceeded] {
            wire.refuse(Some(DropReason::NeighborQueueFull));
            let fails = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                wire.fail(Transport::Tcp, failure);
            };
            assert_eq!(tokio::join!(connect(), fails).0.err(), Some(Error::Failed(failure)));
        }
        wire.refuse(None);
        // What stands goes on, and knows.
        let mut stream = host.connect(to(PEER4, 80), BUFFERS).await.unwrap();
        wire.fail(Transport::Tcp, Failure::HostUnreachable);
        stream.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(stream.trouble(), Some(Error::Failed(Failure::HostUnreachable)));
        let error = host.connect(to(PEER4, 80), Buffers { receive: 1 << 21, send: 1 }).await;
        assert_eq!(error.err(), Some(Error::Memory(1 << 20)));
    });
}

#[test]
fn segments_shrink_to_what_the_way_takes() {
    run(|host, wire| async move {
        let mut stream = host.connect(to(PEER4, 80), BUFFERS).await.unwrap();
        // Found out by the director itself, when it sends.
        wire.set_mtu(600);
        let said = [7; 2000];
        stream.write_all(&said).await.unwrap();
        let mut heard = [0; 2000];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, said);
        assert!(wire.sent().iter().all(|packet| packet.len() <= 600));
        // And by a router.
        wire.fail(Transport::Tcp, Failure::TooBig { mtu: 300 });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let before = wire.sent().len();
        stream.write_all(&said).await.unwrap();
        stream.read_exact(&mut heard).await.unwrap();
        assert!(wire.sent()[before..].iter().all(|packet| packet.len() <= 300));
    });
}

#[test]
fn datagrams_go_and_come() {
    run(|host, wire| async move {
        for peer in [PEER4, PEER6] {
            let socket = UdpSocket::open(&host, to(peer, 53), BUFFERS).unwrap();
            socket.send(b"who?").unwrap();
            let mut heard = [0; 100];
            assert_eq!(socket.receive(&mut heard).await.unwrap(), 4);
            assert_eq!(&heard[..4], b"who?");
            let too_long = Error::TooLong { len: 3000, room: 2048 };
            assert_eq!(socket.send(&[0; 3000]).err(), Some(too_long));
            // Nobody there: whoever waits is told, at once.
            let fails = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                wire.fail(Transport::Udp, Failure::PortUnreachable);
            };
            let (received, ()) = tokio::join!(socket.receive(&mut heard), fails);
            assert_eq!(received.err(), Some(Error::Failed(Failure::PortUnreachable)));
            drop(socket);
            assert_eq!(wire.open_sockets(), 0);
        }
    });
}

#[test]
fn pings_come_back() {
    run(|host, wire| async move {
        for peer in [PEER4, PEER6] {
            let ping = Ping::open(&host, to(peer, 0), false, BUFFERS).unwrap();
            for number in 1..4 {
                ping.send(number, b"abcdefgh").unwrap();
                assert_eq!(ping.receive().await.unwrap(), (number, b"abcdefgh".to_vec()));
            }
            drop(ping);
            assert_eq!(wire.open_sockets(), 0);
        }
    });
}

#[test]
fn sockets_and_the_driver_may_be_on_any_thread() {
    fn on_any_thread<T: Send>() {}
    on_any_thread::<Host>();
    on_any_thread::<crate::host::Driver>();
    on_any_thread::<crate::tcp::TcpStream>();
    on_any_thread::<crate::udp::UdpSocket>();
    on_any_thread::<crate::echo::Ping>();
}

#[test]
fn checks_are_made_over_it() {
    use uvs_check::net::{self, Echo, Local, Network, Remote, Target};
    run(|host, wire| async move {
        for peer in [PEER4, PEER6] {
            let target = |port| Target::direct(at(peer, port));
            let mut stream = host.tcp(&target(80)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
            assert_eq!(host.tcp(&target(4444)).await.err(), Some(net::Failure::Remote(Remote::Refused)));
            let mut socket = host.udp(&target(53)).await.unwrap();
            socket.send(b"who?").await.unwrap();
            assert_eq!(socket.receive(&mut heard).await.unwrap(), 4);
            let echo = Echo { payload: 1000, do_not_fragment: true };
            host.ping(&target(0), echo).await.unwrap();
            let too_large = Echo { payload: 1500, do_not_fragment: true };
            let error = host.ping(&target(0), too_large).await.err();
            assert_eq!(error, Some(net::Failure::Local(Local::TooLarge)));
            let other = if peer == PEER4 { PEER6 } else { PEER4 };
            let source = Some(other.parse().unwrap());
            let error = host.tcp(&Target { source, ..target(80) }).await.err();
            assert!(matches!(error, Some(net::Failure::Local(Local::Family { .. }))), "{error:?}");
        }
        assert_eq!(wire.open_sockets(), 0, "all of them were dropped");
    });
}
