//! Looking ahead names memory and changes nothing.

mod common;

use std::cell::Cell;
use std::net::Ipv4Addr;

use common::*;
use uvs_director::spec::*;
use uvs_director::{Frame, Outbox};

/// As many as make a table large.
const MANY: u32 = 65_536;

fn client(port: u32) -> (Ipv4Addr, u16) {
    (CLIENT, u16::try_from(port).expect("a port"))
}

#[test]
fn a_large_table_shows_what_requests_and_replies_will_read() {
    let bench = Bench::new();
    bench.service(Protocol::Udp, Forwarding::Nat, &[&format!("{RS1}:53")]);
    bench.service(Protocol::Tcp, Forwarding::Nat, &[&format!("{RS1}:80")]);
    for number in 0..MANY / 2 {
        assert!(!bench.director.wants_ahead(), "{number} clients are not many");
        bench.pass(CLIENT_SIDE, &udp(client(1000 + number), (VIP, 53), b"?"));
        bench.pass(CLIENT_SIDE, &tcp(client(1000 + number), (VIP, 80), "S", b""));
    }
    assert!(bench.director.wants_ahead());

    let count = |port, bytes: &[u8]| {
        let (lines, mut out) = (Cell::new((0, 0)), Outbox::new());
        let add = |first: u32, second: u32| lines.set((lines.get().0 + first, lines.get().1 + second));
        let frame = Frame::from_bytes(bytes);
        if let Some(ahead) = bench.director.look_ahead(port, &frame, &mut out, |_| add(1, 0)) {
            bench.director.look_further(ahead, |_| add(0, 1));
        }
        assert!(out.is_empty() && frame.bytes() == bytes);
        lines.get()
    };
    let before = bench.director.status().connections;
    let (known, unknown) = (client(1007), client(60_007));
    let rs = (RS1, 53);
    let cases: [(_, Vec<u8>, _, &str); 6] = [
        (CLIENT_SIDE, udp(known, (VIP, 53), b"?"), (1, 2), "a request"),
        (SERVER_SIDE, udp(rs, known, b"!"), (1, 2), "a reply"),
        (CLIENT_SIDE, udp(unknown, (VIP, 53), b"?"), (1, 0), "a new client"),
        (SERVER_SIDE, udp(rs, unknown, b"!"), (1, 0), "a reply to nobody"),
        (CLIENT_SIDE, vec![0; 20], (0, 0), "half a header"),
        (CLIENT_SIDE, vec![], (0, 0), "nothing"),
    ];
    for (port, bytes, want, what) in cases {
        assert_eq!(count(port, &bytes), want, "{what}");
    }
    assert_eq!(bench.director.status().connections, before);
}
