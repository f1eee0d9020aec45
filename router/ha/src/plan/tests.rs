use super::*;
use crate::wire::Password;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

fn centis(centis: u16) -> Interval {
    Interval::from_centis(centis).expect("it is an interval")
}

fn router(name: &str) -> RouterPlan {
    RouterPlan {
        name: name.into(),
        interface: "eth0".into(),
        vrid: 1,
        version: Version::V3,
        priority: 100,
        interval: Interval::DEFAULT,
        source: ip("192.0.2.1"),
        addresses: vec![ip("10.0.0.100")],
        unadvertised: vec![],
        preempt: true,
        preempt_delay: Duration::ZERO,
        peers: vec![],
        ttl_min: TTL,
        password: None,
        checksum: ChecksumForm::Rfc9568,
        announce: AnnouncePlan::default(),
        track: vec![],
    }
}

fn error(routers: Vec<RouterPlan>, groups: Vec<GroupPlan>) -> Option<String> {
    Plan { routers, groups }.check().err().map(|error| error.to_string())
}

#[test]
fn each_thing_that_cannot_be_is_named_with_a_way_out() {
    type Edit = fn(&mut RouterPlan);
    let cases: [(Edit, Option<&str>); 22] = [
        (|_| {}, None),
        (|it| it.source = ip("fe80::1"), Some("10.0.0.100 is not IPv6, which its source fe80::1 is")),
        (|it| it.interface = "".into(), Some("it has no interface")),
        (|it| it.vrid = 0, Some("VRID 0 does not exist; use 1 to 255")),
        (|it| it.priority = 0, Some("priority 0 means that a node leaves; use 1 to 254")),
        (
            |it| (it.version, it.interval) = (Version::V2, centis(150)),
            Some("an interval of 1.5s cannot be advertised; version 2 has whole seconds"),
        ),
        (
            |it| it.interval = centis(4100),
            Some("an interval of 41s cannot be advertised; version 3 has 10 ms to 40.95 s"),
        ),
        (|it| it.password = Some(Password::new(b"x")), Some("version 3 has no passwords")),
        (|it| it.addresses.clear(), Some("0 addresses cannot be advertised; give 1 to 255")),
        (|it| it.addresses = vec![ip("10.0.0.1"); 256], Some("256 addresses cannot be advertised")),
        (|it| it.addresses.push(ip("2001:db8::1")), Some("2001:db8::1 is not IPv4")),
        (|it| it.unadvertised.push(ip("2001:db8::1")), None),
        (|it| it.unadvertised.push(ip("224.0.0.1")), Some("224.0.0.1 is no address that a host can have")),
        (|it| it.unadvertised.push(ip("10.0.0.100")), Some("10.0.0.100 stands there twice")),
        (|it| it.source = ip("0.0.0.0"), Some("0.0.0.0 is no address that it could advertise from")),
        (|it| it.peers = vec![ip("192.0.2.1")], Some("192.0.2.1 is no peer of 192.0.2.1")),
        (|it| it.peers = vec![ip("fe80::1")], Some("fe80::1 is no peer of 192.0.2.1")),
        (|it| (it.peers, it.ttl_min) = (vec![ip("192.0.2.2")], 250), None),
        (|it| it.ttl_min = 250, Some("a lowest TTL is for unicast peers")),
        (|it| it.preempt_delay = Duration::from_secs(1001), Some("a preemption delay of 1001s is longer")),
        (|it| it.announce.repeat = 0, Some("without an announcement nobody learns of a takeover")),
        (
            |it| {
                let name = "web".into();
                it.track = vec![TrackPlan { name, weight: -254, reverse: false, presumed_up: true }];
            },
            Some("weight -254 of web is out of range; use -253 to 253"),
        ),
    ];
    for (edit, want) in cases {
        let mut plan = router("a");
        edit(&mut plan);
        let error = error(vec![plan], vec![]);
        let begins = error.as_deref().and_then(|error| error.strip_prefix("a: "));
        match want {
            None => assert_eq!(error, None),
            Some(want) => assert!(begins.is_some_and(|begins| begins.starts_with(want)), "{want}: {error:?}"),
        }
    }
    let v6 = RouterPlan { source: ip("fe80::1"), addresses: vec![ip("2001:db8::1")], ..router("a") };
    assert_eq!(error(vec![v6.clone()], vec![]), None);
    let old = error(vec![RouterPlan { version: Version::V2, ..v6.clone() }], vec![]);
    assert_eq!(old.as_deref(), Some("a: version 2 knows no IPv6; use version 3"));
    assert_eq!(error(vec![v6, router("b")], vec![]), None, "a VRID is of one family");
}

#[test]
fn names_identities_and_groups_fit_together() {
    let other = |name: &str, vrid| RouterPlan { vrid, ..router(name) };
    let group = |name: &str, members: &[&str]| GroupPlan {
        name: name.into(),
        members: members.iter().map(|name| (*name).into()).collect(),
        track: vec![],
    };
    let two = || vec![router("a"), other("b", 2)];
    let better = RouterPlan { priority: 200, ..other("b", 2) };
    let cases = [
        (vec![router("a"), other("a", 2)], vec![], Some("a: this name stands there twice")),
        (
            vec![router("a"), router("b")],
            vec![],
            Some("b: a has VRID 1 over IPv4 on eth0, too; use another VRID"),
        ),
        (two(), vec![group("g", &["a", "b"])], None),
        (two(), vec![group("g", &["a", "c"])], Some("g: there is no virtual router c")),
        (two(), vec![group("g", &["a"]), group("h", &["b", "a"])], Some("h: a is in g already")),
        (two(), vec![group("g", &["a", "a"])], Some("g: a is in g already")),
        (two(), vec![group("g", &["a"]), group("g", &["b"])], Some("g: this name stands there twice")),
        (two(), vec![group("g", &[])], Some("g: it has no members")),
        (vec![router("a"), better], vec![group("g", &["a", "b"])], Some("g: b has another priority")),
    ];
    for (routers, groups, want) in cases {
        let error = error(routers, groups);
        match want {
            None => assert_eq!(error, None),
            Some(want) => {
                assert!(error.as_deref().is_some_and(|error| error.starts_with(want)), "{want}: {error:?}")
            }
        }
    }
}
