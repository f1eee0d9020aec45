//! The host's sockets as a network: what works on the loopback, and what a failure is said to be.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use uvs_check::net::{Echo, Failure, Local, Network as _, Remote, System, Target, Via};
use uvs_director::spec::{Protocol, ServiceKey};

const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// An address of documentation, which nobody has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));

#[tokio::test]
async fn a_connection_carries_bytes_both_ways_in_both_families() {
    for address in LOCALHOST {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let target = Target::direct(listener.local_addr().unwrap());
        let mut client = System.tcp(&target).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut bytes = [0; 3];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ask");
        server.write_all(b"say").await.unwrap();
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"say");
    }
}

#[tokio::test]
async fn a_closed_port_refuses_over_tcp_and_udp() {
    for address in LOCALHOST {
        let udp = UdpSocket::bind((address, 0)).await.unwrap();
        let refused = System.tcp(&Target::direct(udp.local_addr().unwrap())).await.map(drop).unwrap_err();
        assert_eq!(refused, Failure::Remote(Remote::Refused), "{address}");

        let tcp = TcpListener::bind((address, 0)).await.unwrap();
        let target = Target::direct(tcp.local_addr().unwrap());
        let mut socket = System.udp(&target).await.unwrap();
        socket.send(b"anybody?").await.unwrap();
        let error = socket.receive(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
}

#[tokio::test]
async fn the_source_that_is_asked_for_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let target = Target { source: Some(source), ..Target::direct(listener.local_addr().unwrap()) };
    let _client = System.tcp(&target).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1.ip(), source);
}

#[tokio::test]
async fn what_cannot_be_made_here_is_told_from_what_fails_there() {
    let local = SocketAddr::from(([127, 0, 0, 1], 9));
    let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
    let service = ServiceKey::Address { protocol: Protocol::Tcp, addr: local };
    let cases = [
        (Target { source: Some(NOBODY), ..Target::direct(local) }, Local::NotOurs(NOBODY)),
        (Target { source: Some(v6), ..Target::direct(local) }, Local::Family { from: v6, to: local.ip() }),
        (
            Target { via: Via::Service { service, destination: local }, ..Target::direct(local) },
            Local::NotThatWay,
        ),
    ];
    for (target, why) in cases {
        let tcp = System.tcp(&target).await.map(drop).unwrap_err();
        assert_eq!(tcp, Failure::Local(why.clone()), "{target}");
        let udp = System.udp(&target).await.map(drop).unwrap_err();
        assert_eq!(udp, Failure::Local(why), "{target}");
    }
}

#[tokio::test]
async fn a_ping_of_any_size_is_answered_in_both_families() {
    for address in LOCALHOST {
        for (payload, do_not_fragment) in [(0, false), (56, true), (1400, true), (65_000, true)] {
            let target = Target { port: 0, ..Target::direct(SocketAddr::new(address, 0)) };
            match System.ping(&target, Echo { payload, do_not_fragment }).await {
                Ok(()) => {}
                Err(Failure::Local(Local::NotPermitted(why))) => {
                    assert!(std::env::var_os("UVS_REQUIRE_ROOT_TESTS").is_none(), "{why}");
                    println!("skipped: {why}");
                }
                Err(failure) => panic!("{address}, {payload} bytes: {failure}"),
            }
        }
    }
}
