//! Another plan while it runs.

use uvs_ha::vrrp::Reason;

use crate::groups::pair;
use crate::*;

#[test]
fn the_same_plan_again_changes_nothing() {
    let mut node = Node::active(pair(100));
    node.tick();
    let before = format!("{:?}", node.vrrp.view());
    node.apply(pair(100));
    assert_eq!(format!("{:?}", node.vrrp.view()), before);
    assert_eq!(node.outputs, []);
    let mut node = Node::new(plan([router("a", 100)]));
    node.run(ms(1000));
    node.apply(plan([router("a", 100)]));
    assert_eq!(node.takes_over_in(), 2609, "what it has listened counts");
}

#[test]
fn addresses_come_and_go_without_a_change_of_state() {
    let mut node = Node::active(plan([router("a", 100)]));
    let with = |addresses: &[&str], unadvertised: &[&str]| {
        let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect();
        let (addresses, unadvertised) = (ips(addresses), ips(unadvertised));
        plan([RouterPlan { addresses, unadvertised, ..router("a", 100) }])
    };
    node.apply(with(&["10.0.0.100", "10.0.0.101"], &[]));
    let told = ["a sends 100", "a owns 10.0.0.101", "a announces 10.0.0.100,10.0.0.101"];
    assert_eq!(node.done(), told);
    node.apply(with(&["10.0.0.101"], &["10.0.0.100"]));
    assert_eq!(node.done(), ["a sends 100"], "advertised no more, but still its own");
    node.apply(with(&["10.0.0.101"], &[]));
    assert_eq!(node.done(), ["a disowns 10.0.0.100"]);
    assert_eq!(node.state(), State::Active);
}

#[test]
fn one_that_is_gone_leaves_and_one_that_is_new_listens() {
    let mut node = Node::active(plan([router("a", 100)]));
    node.apply(plan([RouterPlan { vrid: 2, ..router("b", 100) }]));
    let told = ["a sends 0", "a disowns 10.0.0.100", "INSTANCE a DELETED 100", "INSTANCE b BACKUP 100"];
    assert_eq!(node.done(), told);
    assert_eq!(node.takes_over_in(), 3609);
    assert_eq!(node.hear_on("eth0", LOWER, &advert(200)), Err(Refusal::UnknownVrid));
}

#[test]
fn a_name_is_no_identity_but_interface_family_and_vrid_are() {
    let mut node = Node::active(plan([router("a", 100)]));
    node.apply(plan([router("b", 100)]));
    assert_eq!(node.done(), ["b owns 10.0.0.100", "b announces 10.0.0.100", "a disowns 10.0.0.100"]);
    assert_eq!(node.state(), State::Active);
    node.apply(plan([RouterPlan { interface: "eth9".into(), ..router("b", 100) }]));
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn priorities_intervals_and_versions_change_in_place() {
    let mut node = Node::new(plan([router("a", 100)]));
    node.run(ms(1000));
    node.apply(plan([router("a", 200)]));
    assert_eq!(node.takes_over_in(), 2218);

    let mut node = Node::new(plan([router("a", 100)]));
    node.run(ms(100));
    let interval = Interval::from_centis(10).unwrap();
    node.apply(plan([RouterPlan { interval, ..router("a", 100) }]));
    assert_eq!(node.takes_over_in(), 260);

    let mut node = Node::active(plan([router("a", 100)]));
    let v2 = RouterPlan { version: Version::V2, ..router("a", 90) };
    node.apply(plan([v2]));
    assert_eq!((node.state(), node.sent()), (State::Active, vec![100]));
    assert_eq!(node.vrrp.view()[0].priority, 90);
    assert_eq!(node.hear_on("eth0", LOWER, &advert(95)), Err(Refusal::OtherVersion));
    node.hear(LOWER, &Advertisement { version: Version::V2, ..advert(95) });
    assert_eq!(node.state(), State::Backup);
}

#[test]
fn groups_are_made_and_undone_around_what_runs() {
    let ungrouped = || Plan { groups: vec![], ..pair(100) };
    let mut node = Node::active(ungrouped());
    node.apply(pair(100));
    assert_eq!((node.state(), node.sent()), (State::Active, vec![]));
    node.apply(ungrouped());
    assert_eq!(["inside", "outside"].map(|name| node.vrrp.state(name)), [Some(State::Active); 2]);
    assert_eq!(node.sent(), []);

    // A new member goes along.
    let mut node = Node::active(plan([router("outside", 100)]));
    node.apply(pair(100));
    assert_eq!(node.state(), State::Active);
    assert_eq!(node.done(), ["inside sends 100", "inside owns 10.1.0.100", "inside announces 10.1.0.100"]);

    // Those that are apart are not Active by halves.
    let mut node = Node::active(ungrouped());
    node.hear_on("eth1", "198.51.100.9", &advert(200)).unwrap();
    assert_eq!(
        ["inside", "outside"].map(|name| node.vrrp.state(name)),
        [Some(State::Backup), Some(State::Active)]
    );
    node.outputs.clear();
    node.apply(pair(100));
    assert_eq!((node.state(), &node.vrrp.view()[0].reason), (State::Backup, &Reason::Regrouped));
    assert_eq!(node.done()[..2], ["outside sends 0", "outside disowns 10.0.0.100"]);
}

#[test]
fn a_plan_that_cannot_be_is_refused_and_changes_nothing() {
    let mut node = Node::active(plan([router("a", 100)]));
    let error = node.vrrp.apply(plan([router("a", 0)]), node.now).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a: priority 0 means that a node leaves; use 1 to 254, or 255 for the owner"
    );
    assert_eq!(node.state(), State::Active);
}
