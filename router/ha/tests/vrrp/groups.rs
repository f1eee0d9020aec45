//! Sync groups: all or none.

use crate::*;

/// Two virtual routers of 10.0.0.100 and 10.1.0.100 in one group.
pub(crate) fn pair(priority: u8) -> Plan {
    let inside = RouterPlan {
        interface: "eth1".into(),
        addresses: vec![ip("10.1.0.100")],
        source: ip("198.51.100.2"),
        ..router("inside", priority)
    };
    let members = vec!["outside".into(), "inside".into()];
    let group = GroupPlan { name: "both".into(), members, track: vec![] };
    Plan { routers: vec![inside, router("outside", priority)], groups: vec![group] }
}

const INSIDE_LOWER: &str = "198.51.100.1";
const INSIDE_HIGHER: &str = "198.51.100.3";

#[test]
fn all_take_over_when_the_last_of_them_hears_nothing() {
    let mut node = Node::new(pair(100));
    assert_eq!(
        node.done(),
        ["INSTANCE outside BACKUP 100", "INSTANCE inside BACKUP 100", "GROUP both BACKUP 100"]
    );
    for _ in 0..10 {
        node.run(ms(1000));
        node.hear_on("eth1", INSIDE_HIGHER, &advert(200)).unwrap();
    }
    assert_eq!(node.state(), State::Backup, "one of them is Active elsewhere");
    node.run(ms(3610));
    assert_eq!(
        node.done(),
        [
            "outside sends 100",
            "inside sends 100",
            "outside owns 10.0.0.100",
            "outside announces 10.0.0.100",
            "inside owns 10.1.0.100",
            "inside announces 10.1.0.100",
            "INSTANCE outside MASTER 100",
            "INSTANCE inside MASTER 100",
            "GROUP both MASTER 100"
        ]
    );
}

#[test]
fn one_that_yields_takes_the_others_along() {
    let mut node = Node::active(pair(100));
    node.hear_on("eth1", INSIDE_LOWER, &advert(101)).unwrap();
    assert_eq!(node.state(), State::Backup);
    let told = [
        "outside disowns 10.0.0.100",
        "inside disowns 10.1.0.100",
        "INSTANCE outside BACKUP 100",
        "INSTANCE inside BACKUP 100",
        "GROUP both BACKUP 100",
    ];
    assert_eq!(node.done(), told);
}

#[test]
fn where_priorities_are_the_same_the_first_member_decides() {
    // Addresses say one thing outside and another inside: two nodes would drag each other down for ever.
    let mut node = Node::active(pair(100));
    node.hear_on("eth1", INSIDE_HIGHER, &advert(100)).unwrap();
    node.hear_on("eth0", LOWER, &advert(100)).unwrap();
    assert_eq!(node.state(), State::Active);
    assert_eq!(node.sent(), [100, 100], "and both are told");
    node.hear_on("eth0", HIGHER, &advert(100)).unwrap();
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn a_rival_of_one_has_all_of_them_announced_again() {
    let mut node = Node::active(pair(100));
    node.run(ms(5000));
    node.outputs.clear();
    node.hear_on("eth1", INSIDE_HIGHER, &advert(50)).unwrap();
    let words = node.done();
    assert!(words.contains(&"outside announces 10.0.0.100".to_owned()), "{words:?}");
    assert!(words.contains(&"inside announces 10.1.0.100".to_owned()), "{words:?}");
}

#[test]
fn what_one_needs_and_has_not_stops_all_of_them() {
    let mut with_link = pair(100);
    with_link.routers[0].track = vec![track("eth1", 0)];
    let mut node = Node::active(with_link);
    node.vrrp.track("eth1", false, node.now);
    node.collect();
    assert_eq!(node.state(), State::Initialize);
    let told = [
        "outside sends 0",
        "inside sends 0",
        "outside disowns 10.0.0.100",
        "inside disowns 10.1.0.100",
        "INSTANCE outside FAULT 100",
        "INSTANCE inside FAULT 100",
        "GROUP both FAULT 100",
    ];
    assert_eq!(node.done(), told);
}
