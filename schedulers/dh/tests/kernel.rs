//! The picks of the kernel's `dh`, and what follows from its rules where no recording goes.

#[path = "../../replay.rs"]
mod replay;

use std::net::{IpAddr, Ipv4Addr};

use uvs_scheduler_dh::Dh;
use uvs_sdk::testing::Lab;
use uvs_sdk::{Flow, Protocol, Runner};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

fn flow(client: impl Into<IpAddr>, asked: impl Into<IpAddr>) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: client.into().into(),
        client_port: 1024,
        virtual_addr: asked.into().into(),
        virtual_port: 80,
        mark: 1,
    }
}

#[test]
fn picks_as_the_kernel_did() {
    replay::replay::<Dh>("dh", "sched_dh", false);
}

#[test]
fn the_address_asked_for_decides_and_nothing_else() {
    let mut lab = Lab::<Dh>::new("");
    lab.add(1, 1).add(2, 100).add(3, 1);
    for asked in ["10.9.0.1", "10.9.0.2", "10.9.7.7", "2001:db8::1", "2001:db8::2"] {
        let asked: IpAddr = asked.parse().unwrap();
        let first = lab.connect_by(&flow(CLIENT, asked));
        assert!(first.is_some());
        for client in ["10.1.0.2", "10.2.0.1", "2001:db8::9"] {
            let client: IpAddr = client.parse().unwrap();
            assert_eq!(lab.connect_by(&flow(client, asked)), first, "{asked} from {client}");
        }
    }
}

#[test]
fn slots_are_shared_out_in_turn_whatever_the_weights() {
    let mut lab = Lab::<Dh>::new("");
    lab.add(1, 1).add(2, 100).add(3, 1);
    let mut counts = [0; 4];
    for n in 0..3000_u32 {
        let asked = Ipv4Addr::from(0x0a09_0000 + n);
        counts[lab.connect_by(&flow(CLIENT, asked)).unwrap() as usize] += 1;
    }
    assert!(counts[1..].iter().all(|count| (900..1100).contains(count)), "{counts:?}");
}

#[test]
fn nobody_stands_in() {
    let mut lab = Lab::<Dh>::new("flag-1");
    lab.add(1, 1).add(2, 1);
    let asked = flow(CLIENT, Ipv4Addr::new(10, 9, 0, 1));
    let first = lab.connect_by(&asked).unwrap();
    lab.edit(first, 0);
    assert_eq!(lab.connect_by(&asked), None, "quiesced");
    lab.edit(first, 1).load(first, 9, 0, false);
    assert_eq!(lab.connect_by(&asked), None, "overloaded");
    lab.remove(first);
    assert_eq!(lab.connect_by(&asked), Some(3 - first), "gone: the other has all slots");
    assert_eq!(Lab::<Dh>::new("").connect(), None, "no destination at all");
}

#[test]
fn options_are_refused() {
    let error = Runner::<Dh>::new("tcp 10.0.0.100:80", "fast").unwrap_err();
    assert!(error.starts_with("dh has no flag \"fast\""), "{error}");
}
