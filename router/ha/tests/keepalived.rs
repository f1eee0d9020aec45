//! What keepalived 2.2.7 of Debian 12 sent, recorded on a link between two namespaces: it is read, obeyed, and the same
//! is written for it byte for byte.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use core::net::IpAddr;
use core::time::Duration;

use uvs_director::Instant;
use uvs_ha::plan::{AnnouncePlan, Plan, RouterPlan};
use uvs_ha::vrrp::{State, Vrrp};
use uvs_ha::wire::{Advertisement, ChecksumForm, Datagram, Interval, Password, TTL, Version};

struct Recorded {
    what: &'static str,
    /// The IP packet.
    packet: &'static str,
    version: Version,
    vrid: u8,
    priority: u8,
    centis: u16,
    password: Option<&'static [u8]>,
    addresses: &'static [&'static str],
    form: ChecksumForm,
}

const RECORDED: [Recorded; 8] = [
    Recorded {
        what: "version 2, its default over IPv4",
        packet: "45c0002c00010000ff70188dc0000201e000001221016402000166320a0000640a0000650000000000000000",
        version: Version::V2,
        vrid: 1,
        priority: 100,
        centis: 100,
        password: None,
        addresses: &["10.0.0.100", "10.0.0.101"],
        form: ChecksumForm::Rfc9568,
    },
    Recorded {
        what: "auth_type PASS",
        packet: "45c0002800010000ff701891c0000201e000001221026401010102170a0000667365637265743132",
        version: Version::V2,
        vrid: 2,
        priority: 100,
        centis: 100,
        password: Some(b"secret12"),
        addresses: &["10.0.0.102"],
        form: ChecksumForm::Rfc9568,
    },
    Recorded {
        what: "version 3 over IPv4, advert_int 0.5",
        packet: "45c0002000010000ff701899c0000201e00000123103960100328bd10a000067",
        version: Version::V3,
        vrid: 3,
        priority: 150,
        centis: 50,
        password: None,
        addresses: &["10.0.0.103"],
        form: ChecksumForm::Rfc5798,
    },
    Recorded {
        what: "IPv6",
        packet: "6c063adb002870fffe80000000000000d4bcd6fffe55694fff0200000000000000000000000000123104fe02006490ca\
                 fe80000000000000000000000000010020010db8000000000000000000000100",
        version: Version::V3,
        vrid: 4,
        priority: 254,
        centis: 100,
        password: None,
        addresses: &["fe80::100", "2001:db8::100"],
        form: ChecksumForm::Rfc5798,
    },
    Recorded {
        what: "version 3 to a unicast_peer",
        packet: "45c0002000010000ff7036a9c0000201c0000202310565010064daab0a000069",
        version: Version::V3,
        vrid: 5,
        priority: 101,
        centis: 100,
        password: None,
        addresses: &["10.0.0.105"],
        form: ChecksumForm::Rfc5798,
    },
    Recorded {
        what: "version 2 to a unicast_peer",
        packet: "45c0002800010000ff7036a1c0000201c00002022106650100016f8d0a00006a0000000000000000",
        version: Version::V2,
        vrid: 6,
        priority: 101,
        centis: 100,
        password: None,
        addresses: &["10.0.0.106"],
        form: ChecksumForm::Rfc9568,
    },
    Recorded {
        what: "version 2, leaving",
        packet: "45c0002c00070000ff701887c0000201e0000012210100020001ca320a0000640a0000650000000000000000",
        version: Version::V2,
        vrid: 1,
        priority: 0,
        centis: 100,
        password: None,
        addresses: &["10.0.0.100", "10.0.0.101"],
        form: ChecksumForm::Rfc9568,
    },
    Recorded {
        what: "version 3, leaving",
        packet: "45c0002000100000ff70188ac0000201e000001231030001003221d20a000067",
        version: Version::V3,
        vrid: 3,
        priority: 0,
        centis: 50,
        password: None,
        addresses: &["10.0.0.103"],
        form: ChecksumForm::Rfc5798,
    },
];

impl Recorded {
    fn bytes(&self) -> Vec<u8> {
        let digits: Vec<u8> = self.packet.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.as_chunks().0.iter().map(byte).collect()
    }

    fn advertisement(&self) -> Advertisement {
        Advertisement {
            version: self.version,
            vrid: self.vrid,
            priority: self.priority,
            interval: Interval::from_centis(self.centis).unwrap(),
            password: self.password.map(Password::new),
            addresses: self.addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    /// A virtual router that is its peer.
    fn peer(&self, datagram: &Datagram<'_>) -> RouterPlan {
        let source: IpAddr = match datagram.src {
            IpAddr::V4(_) => "192.0.2.2".parse().unwrap(),
            IpAddr::V6(_) => "fe80::2".parse().unwrap(),
        };
        let is_unicast = !datagram.dst.is_multicast();
        let Advertisement { version, vrid, interval, password, addresses, .. } = self.advertisement();
        RouterPlan {
            name: "peer".into(),
            interface: "eth0".into(),
            vrid,
            version,
            priority: 99,
            interval,
            source,
            addresses,
            unadvertised: vec![],
            preempt: true,
            preempt_delay: Duration::ZERO,
            peers: is_unicast.then_some(datagram.src).into_iter().collect(),
            ttl_min: TTL,
            password,
            checksum: ChecksumForm::Rfc5798,
            announce: AnnouncePlan::default(),
            track: vec![],
        }
    }
}

#[test]
fn what_it_sends_is_read_and_written_again() {
    for recorded in &RECORDED {
        let packet = recorded.bytes();
        let datagram = Datagram::of_packet(&packet).expect(recorded.what);
        let want = recorded.advertisement();
        assert_eq!(datagram.parse(TTL), Ok((want.clone(), recorded.form)), "{}", recorded.what);
        let written = want.emit(datagram.src, datagram.dst, ChecksumForm::Rfc5798);
        assert_eq!(written, datagram.payload, "{}", recorded.what);
    }
}

#[test]
fn it_is_obeyed() {
    for recorded in RECORDED.iter().filter(|recorded| recorded.priority > 0) {
        let packet = recorded.bytes();
        let datagram = Datagram::of_packet(&packet).unwrap();
        let mut vrrp = Vrrp::new(Instant::ZERO);
        let routers = vec![recorded.peer(&datagram)];
        vrrp.apply(Plan { routers, groups: vec![] }, Instant::ZERO).unwrap();
        let mut now = Instant::ZERO;
        while vrrp.state("peer") != Some(State::Active) {
            now = vrrp.next_due().unwrap();
            vrrp.tick(now);
        }
        vrrp.receive("eth0", &datagram, now).expect(recorded.what);
        assert_eq!(vrrp.state("peer"), Some(State::Backup), "{}", recorded.what);
        let counters = &vrrp.view()[0].routers[0].counters;
        assert_eq!((counters.other_addresses, counters.other_interval), (0, 0), "{}", recorded.what);
    }
}
