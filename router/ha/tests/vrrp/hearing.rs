//! What other nodes say.

use uvs_ha::vrrp::Reason;
use uvs_ha::wire::Password;

use crate::*;

#[test]
fn an_active_node_meets_another() {
    let cases: [(&str, u8, State, &[u8], &str); 6] = [
        (LOWER, 101, State::Backup, &[], "a higher priority"),
        (HIGHER, 100, State::Backup, &[], "the same priority and a higher address"),
        (LOWER, 100, State::Active, &[100], "the same priority and a lower address: it is told at once"),
        (HIGHER, 99, State::Active, &[100], "a lower priority: it is told at once"),
        (HIGHER, 0, State::Active, &[100], "one that leaves: others are told at once"),
        (LOWER, 255, State::Backup, &[], "the owner"),
    ];
    for (from, priority, want, sent, why) in cases {
        let mut node = Node::active(plan([router("a", 100)]));
        node.hear(from, &advert(priority));
        assert_eq!(node.state(), want, "{why}");
        assert_eq!(node.sent(), sent, "{why}");
    }
}

#[test]
fn a_backup_meets_an_active_node() {
    let cases = [
        (101, true, 3609, "a higher priority: from now on"),
        (100, true, 3609, "the same priority, whatever the addresses"),
        (99, true, 2609, "a lower one is not listened to"),
        (99, false, 3609, "unless preemption is off"),
        (0, true, 609, "one that leaves: skew alone"),
    ];
    for (priority, preempt, want, why) in cases {
        let mut node = Node::new(plan([RouterPlan { preempt, ..router("a", 100) }]));
        node.run(ms(1000));
        node.hear(LOWER, &advert(priority));
        assert_eq!(node.takes_over_in(), want, "{why}");
    }
}

#[test]
fn reasons_say_why_it_took_over() {
    let reason = |messages: &[u8]| {
        let mut node = Node::new(plan([router("a", 100)]));
        messages.iter().for_each(|priority| node.hear(LOWER, &advert(*priority)));
        node.takes_over_in();
        node.vrrp.view()[0].reason.clone()
    };
    let from = ip(LOWER);
    assert_eq!(reason(&[]), Reason::Silence);
    assert_eq!(reason(&[200]), Reason::Silence);
    assert_eq!(reason(&[200, 0]), Reason::PeerLeft { from });
    assert_eq!(reason(&[50]), Reason::Preempted { from, priority: 50 });
}

#[test]
fn the_word_of_one_that_is_not_active_changes_nothing() {
    let mut node = Node::new(plan([router("a", 100)]));
    node.hear(HIGHER, &advert(200));
    node.hear(LOWER, &advert(0));
    assert_eq!(node.counters().stale_leaving, 1);
    assert_eq!(node.takes_over_in(), 3609);
    // Nor does a copy of the right one make it wait longer.
    let mut node = Node::new(plan([router("a", 100)]));
    node.hear(HIGHER, &advert(200));
    node.hear(HIGHER, &advert(0));
    node.run(ms(500));
    node.hear(HIGHER, &advert(0));
    assert_eq!(node.takes_over_in(), 109);
}

#[test]
fn preemption_waits_for_its_delay_from_the_first_lower_priority_on() {
    let mut node = Node::new(plan([RouterPlan { preempt_delay: ms(10_000), ..router("a", 100) }]));
    node.run(ms(2000));
    for second in 0..10 {
        node.hear(LOWER, &advert(50));
        node.run(ms(999));
        assert_eq!(node.state(), State::Backup, "{second} s");
        node.run(ms(1));
    }
    assert_eq!(node.state(), State::Active);
    // Silence does not wait for it.
    let mut node = Node::new(plan([RouterPlan { preempt_delay: ms(10_000), ..router("a", 100) }]));
    node.hear(LOWER, &advert(50));
    assert_eq!(node.takes_over_in(), 3609);
    // One of a higher priority in between, and it begins anew.
    let mut node = Node::new(plan([RouterPlan { preempt_delay: ms(10_000), ..router("a", 100) }]));
    for second in 0..15 {
        node.hear(LOWER, &advert(if second == 8 { 200 } else { 50 }));
        node.run(ms(1000));
        assert_eq!(node.state(), State::Backup, "{second} s");
    }
}

#[test]
fn an_interval_is_learned_in_version_3_and_the_longer_one_holds_in_version_2() {
    let cases = [
        (Version::V3, 100, 200, 7218),
        (Version::V3, 100, 10, 360),
        (Version::V2, 100, 200, 6609),
        (Version::V2, 200, 100, 6609),
    ];
    for (version, own, theirs, want) in cases {
        let [own, theirs] = [own, theirs].map(|centis| Interval::from_centis(centis).unwrap());
        let mut node = Node::new(plan([RouterPlan { version, interval: own, ..router("a", 100) }]));
        let message = Advertisement { version, interval: theirs, ..advert(200) };
        node.outputs.clear();
        node.hear(LOWER, &message);
        node.hear(LOWER, &message);
        let told = Event::OtherInterval { router: "a".into(), from: ip(LOWER), theirs, ours: own };
        assert_eq!(node.events(), [told], "once");
        assert_eq!(node.takes_over_in(), want, "{version:?}");
        // As Active it advertises with its own.
        node.outputs.clear();
        node.run(own.duration() * 5);
        assert_eq!(node.sent().len(), 5);
    }
}

#[test]
fn addresses_that_differ_are_told_and_obeyed() {
    let mut node = Node::active(plan([router("a", 100)]));
    let addresses = vec![ip("10.0.0.101"), ip("10.0.0.102")];
    node.hear(LOWER, &Advertisement { addresses: addresses.clone(), ..advert(101) });
    assert_eq!(node.state(), State::Backup);
    let (router_name, from, ours) = ("a".into(), ip(LOWER), vec![ip("10.0.0.100")]);
    let told = Event::OtherAddresses { router: router_name, from, theirs: addresses, ours };
    assert!(node.events().contains(&told));
    assert_eq!(node.counters().other_addresses, 1);

    let two = RouterPlan { addresses: vec![ip("10.0.0.1"), ip("10.0.0.2")], ..router("a", 100) };
    let mut node = Node::new(plan([two]));
    node.hear(LOWER, &Advertisement { addresses: vec![ip("10.0.0.2"), ip("10.0.0.1")], ..advert(101) });
    assert_eq!(node.counters().other_addresses, 0, "their order does not matter");
}

#[test]
fn what_is_not_for_it_is_counted_and_changes_nothing() {
    let password = Some(Password::new(b"one"));
    let v2 = RouterPlan { version: Version::V2, password, vrid: 2, ..router("v2", 100) };
    let peers = vec![ip(LOWER), ip("198.51.100.7")];
    let unicast = RouterPlan { vrid: 3, peers, ttl_min: 250, ..router("unicast", 100) };
    let source = ip("fe80::2");
    let v6 = RouterPlan { vrid: 4, source, addresses: vec![ip("2001:db8::100")], ..router("v6", 100) };
    let mut node = Node::new(plan([router("a", 100), v2, unicast, v6]));
    node.run(ms(1000));

    let group = Family::V4.group();
    let of = |vrid: u8| Advertisement { vrid, ..advert(200) };
    let v2 = |password| Advertisement { version: Version::V2, vrid: 2, password, ..advert(200) };
    let v6 = Advertisement { vrid: 4, addresses: vec![ip("2001:db8::100")], ..advert(200) };
    let cases = [
        ("eth0", LOWER, group, 255, of(9), Some(Refusal::UnknownVrid), "another VRID"),
        ("eth1", LOWER, group, 255, of(1), Some(Refusal::UnknownVrid), "another interface"),
        ("eth0", LOWER, group, 254, of(1), Some(Refusal::Ttl), "forwarded"),
        ("eth0", OWN, group, 255, of(1), Some(Refusal::Source), "our own, come back"),
        ("eth0", "0.0.0.0", group, 255, of(1), Some(Refusal::Source), "from nobody"),
        ("eth0", "224.0.0.18", group, 255, of(1), Some(Refusal::Source), "from a group"),
        ("eth0", LOWER, ip(OWN), 255, of(1), Some(Refusal::Destination), "to us alone"),
        ("eth0", LOWER, group, 255, v2(None), Some(Refusal::Password), "no password"),
        ("eth0", LOWER, group, 255, v2(Some(Password::new(b"two"))), Some(Refusal::Password), "another"),
        ("eth0", LOWER, group, 255, of(2), Some(Refusal::OtherVersion), "version 3 for version 2"),
        ("eth0", HIGHER, ip(OWN), 255, of(3), Some(Refusal::Source), "from no peer"),
        ("eth0", LOWER, group, 255, of(3), Some(Refusal::Destination), "to the group, where there are peers"),
        ("eth0", LOWER, ip(OWN), 249, of(3), Some(Refusal::Ttl), "from further away than peers are"),
        (
            "eth0",
            "2001:db8::1",
            Family::V6.group(),
            255,
            v6.clone(),
            Some(Refusal::Source),
            "no link-local one",
        ),
        ("eth0", LOWER, ip(OWN), 250, of(3), None, "a peer"),
        ("eth0", LOWER, group, 255, v2(password), None, "the right password"),
        ("eth0", "fe80::1", Family::V6.group(), 255, v6, None, "a router on the link"),
    ];
    for (interface, src, dst, ttl, message, want, why) in cases {
        let payload = message.emit(ip(src), dst, ChecksumForm::Rfc9568);
        let before: Vec<_> = node.vrrp.view().iter().map(|group| group.routers[0].takes_over_in).collect();
        let heard = node.hear_datagram(interface, ip(src), dst, ttl, &payload);
        assert_eq!(heard.err(), want, "{why}");
        let after: Vec<_> = node.vrrp.view().iter().map(|group| group.routers[0].takes_over_in).collect();
        assert_eq!(before == after, want.is_some(), "{why}");
    }
    let view = node.vrrp.view();
    let refused = |at: usize| view[at].routers[0].counters.refused.values().sum::<u64>();
    assert_eq!([0, 1, 2, 3].map(refused), [5, 3, 3, 1]);
    assert_eq!(node.vrrp.strays()[&Refusal::UnknownVrid], 2);
}

#[test]
fn garbage_of_any_kind_leaves_an_active_node_active() {
    let mut node = Node::active(plan([router("a", 100)]));
    let mut message = advert(200).emit(ip(HIGHER), Family::V4.group(), ChecksumForm::Rfc9568);
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(random >> 40).unwrap() % message.len();
        let before = message[at];
        message[at] ^= 1 << (random >> 33 & 7);
        let _ = node.hear_datagram("eth0", ip(HIGHER), Family::V4.group(), 255, &message);
        message[at] = before;
    }
    assert_eq!(node.state(), State::Active);
    let counters = node.counters();
    assert!(counters.refused[&Refusal::Checksum] > 1000, "{counters:?}");
}

#[test]
fn two_that_take_each_other_for_worse_do_not_answer_each_other_for_ever() {
    let mut node = Node::active(plan([router("a", 100)]));
    for _ in 0..1000 {
        node.hear(LOWER, &advert(100));
        node.sleep(ms(1));
    }
    let words = node.done();
    let count = |what: &str| words.iter().filter(|word| word.contains(what)).count();
    assert!(count("sends") <= 9, "one each eighth of an interval: {}", count("sends"));
    assert!(count("announces") <= 2, "one round an interval: {}", count("announces"));
    assert_eq!(count("MASTER_RX_LOWER_PRI"), 1, "programs hear of it once");
    assert_eq!(node.counters().rivals, 1000);
}

#[test]
fn who_is_told_of_a_rival_announces_its_addresses_again() {
    let mut node = Node::active(plan([router("a", 100)]));
    node.run(ms(5000));
    node.outputs.clear();
    node.hear(LOWER, &advert(50));
    assert_eq!(
        node.done(),
        ["a sends 100", "a announces 10.0.0.100", "INSTANCE a MASTER_RX_LOWER_PRI 100"],
        "links may have learned the other one"
    );
}

#[test]
fn checksums_are_counted_by_form() {
    let mut node = Node::new(plan([router("a", 100)]));
    for form in [ChecksumForm::Rfc5798, ChecksumForm::Rfc9568, ChecksumForm::Rfc5798] {
        let payload = advert(200).emit(ip(LOWER), Family::V4.group(), form);
        node.hear_datagram("eth0", ip(LOWER), Family::V4.group(), 255, &payload).unwrap();
    }
    let checksums = node.counters().checksums;
    assert_eq!([checksums[&ChecksumForm::Rfc5798], checksums[&ChecksumForm::Rfc9568]], [2, 1]);
}

#[test]
fn what_was_heard_last_is_shown() {
    let mut node = Node::new(plan([router("a", 100)]));
    node.hear(LOWER, &advert(200));
    node.run(ms(2500));
    let router = &node.vrrp.view()[0].routers[0];
    let (heard, age) = router.heard.unwrap();
    assert_eq!((heard.from, heard.priority), (ip(LOWER), 200));
    assert_eq!((age.as_millis(), router.missed), (2500, 2));
    assert_eq!(router.takes_over_in.map(|left| left.as_millis()), Some(1109));
}
