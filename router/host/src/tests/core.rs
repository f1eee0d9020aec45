//! Transfers in virtual time.

use std::net::IpAddr;
use std::sync::Arc;

use smoltcp::socket::tcp::{RecvError, State};
use uvs_director::local::{SocketSpec, Transport, Way};
use uvs_director::{Duration, Instant};

use super::wire::{Faults, PEER4, PEER6, Wire};
use crate::core::Core;
use crate::stack::Buffers;

fn to(peer: &str, remote_port: u16) -> SocketSpec {
    let remote: IpAddr = peer.parse().unwrap();
    SocketSpec {
        transport: Transport::Tcp,
        remote,
        remote_port,
        way: Way::Direct,
        source: None,
        may_fragment: false,
    }
}

/// Sends `len` bytes to the echo server, reads them back, ends both directions; how long that took.
fn transfer(peer: &str, len: usize, faults: Faults, seed: u64) -> Instant {
    let wire = Arc::new(Wire::new(faults, seed));
    let mut core = Core::new(Arc::clone(&wire) as _, 1 << 20, seed);
    let begun = Instant::from_secs(1);
    let end = Instant::from_secs(600);
    let key = core.open(&to(peer, 80), Buffers::default(), begun).unwrap();
    let said: Vec<u8> = (0..len).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
    let (mut sent, mut heard) = (0, Vec::new());
    loop {
        let now = wire.advance(core.poll_at().unwrap_or(end).min(end));
        assert!(now < end, "{peer}, seed {seed}: {sent} of {len} bytes sent, {} came back", heard.len());
        while core.poll(now) {}
        let socket = core.stack(key).unwrap().tcp();
        if socket.can_send() && sent < len {
            sent += socket.send_slice(&said[sent..]).unwrap();
            if sent == len {
                socket.close();
            }
        }
        let mut bytes = [0; 10_000];
        match socket.recv_slice(&mut bytes) {
            Ok(len) => heard.extend_from_slice(&bytes[..len]),
            Err(RecvError::Finished) => break,
            Err(RecvError::InvalidState) => {
                assert_eq!(socket.state(), State::SynSent, "{peer}, seed {seed}, {now:?}: {}", heard.len());
            }
        }
        core.run(key, now);
    }
    assert!(heard == said, "{peer}, seed {seed}: what came back is not what was sent");
    let now = wire.advance(Instant::ZERO);
    core.run(key, now);
    core.close(key, now);
    assert_eq!((core.usage().sockets, core.usage().memory, wire.open_sockets()), (0, 0, 0));
    assert_eq!(core.poll_at(), None, "nothing is left to do");
    now
}

#[test]
fn bytes_arrive_in_order_whatever_the_wire_does() {
    for peer in [PEER4, PEER6] {
        let took = transfer(peer, 20_000, Faults::default(), 1);
        assert!(took < Instant::from_secs(2), "no timer is waited for: {took:?}");
        for seed in 0..30 {
            transfer(peer, 20_000, Faults { loss: 5, late: 20, lost: None }, seed);
            transfer(peer, 3_000, Faults { loss: 25, late: 10, lost: None }, seed);
        }
    }
}

#[test]
fn one_lost_packet_costs_no_more_than_200_ms() {
    // The SYN, the ACK of its answer, what is said, its end: a check with a timeout of 300 ms has to stand each.
    for peer in [PEER4, PEER6] {
        let whole = transfer(peer, 100, Faults::default(), 1);
        for lost in 1..=4 {
            let took = transfer(peer, 100, Faults { lost: Some(lost), ..Faults::default() }, 1);
            assert!(
                took.since(whole) <= Duration::from_millis(220),
                "{peer}, packet {lost}: {took:?}, {whole:?}"
            );
        }
    }
}

#[test]
fn what_came_can_be_read_long_after_both_have_ended() {
    let wire = Arc::new(Wire::new(Faults::default(), 5));
    let mut core = Core::new(Arc::clone(&wire) as _, 1 << 20, 5);
    let key = core.open(&to(PEER4, 80), Buffers::default(), Instant::from_secs(1)).unwrap();
    let mut has_spoken = false;
    let mut now = Instant::from_secs(1);
    while now < Instant::from_secs(60) {
        now = wire.advance(core.poll_at().unwrap_or(Instant::from_secs(60)));
        while core.poll(now) {}
        let socket = core.stack(key).unwrap().tcp();
        if socket.can_send() && !has_spoken {
            assert_eq!(socket.send_slice(b"hello"), Ok(5));
            socket.close();
            has_spoken = true;
            core.run(key, now);
        }
    }
    let socket = core.stack(key).unwrap().tcp();
    let mut bytes = [0; 10];
    assert_eq!((socket.recv_slice(&mut bytes), &bytes[..5]), (Ok(5), &b"hello"[..]));
    assert_eq!(socket.recv_slice(&mut bytes), Err(RecvError::Finished));
}

#[test]
fn hundreds_of_sockets_share_no_more_than_the_host() {
    let wire = Arc::new(Wire::new(Faults::default(), 3));
    let mut core = Core::new(Arc::clone(&wire) as _, 200 * Buffers::default().total(), 3);
    let start = Instant::from_secs(1);
    // Nobody serves there: each is refused for itself.
    let keys: Vec<_> =
        (0..200).map(|n| core.open(&to(PEER4, 1000 + n), Buffers::default(), start).unwrap()).collect();
    assert_eq!(core.usage().sockets, 200);
    assert!(core.open(&to(PEER4, 80), Buffers::default(), start).is_err(), "no memory left");
    assert_eq!(wire.open_sockets(), 200, "and no port was taken");
    for _ in 0..10 {
        let now = wire.advance(core.poll_at().unwrap_or(start));
        while core.poll(now) {}
        let now = wire.advance(Instant::from_secs(2));
        while core.poll(now) {}
    }
    for key in keys {
        assert_eq!(core.stack(key).unwrap().tcp().state(), State::Closed);
        core.close(key, Instant::from_secs(2));
    }
    assert_eq!((core.usage().memory, wire.open_sockets()), (0, 0));
}
