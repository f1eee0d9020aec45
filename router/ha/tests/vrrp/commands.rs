//! What people ask for.

use uvs_ha::vrrp::{Command, CommandError, Reason};

use crate::*;

impl Node {
    fn command(&mut self, name: &str, command: Command) -> Result<(), CommandError> {
        let done = self.vrrp.command(name, command, self.now);
        self.collect();
        done
    }
}

#[test]
fn maintenance_hands_over_and_takes_no_part_until_it_is_over() {
    let mut node = Node::active(plan([router("a", 100)]));
    node.command("a", Command::Maintenance(true)).unwrap();
    assert_eq!(node.done(), ["a sends 0", "a disowns 10.0.0.100", "INSTANCE a FAULT 100"]);
    node.command("a", Command::Maintenance(true)).unwrap();
    node.run(ms(60_000));
    node.apply(plan([router("a", 120)]));
    assert_eq!((node.state(), node.done()), (State::Initialize, vec![]), "twice, and after a reload");
    node.command("a", Command::Maintenance(false)).unwrap();
    assert_eq!(node.vrrp.view()[0].reason, Reason::MaintenanceOver);
    assert_eq!(node.takes_over_in(), 3531);
}

#[test]
fn a_failover_hands_over_and_does_not_come_back_while_another_is_active() {
    let mut node = Node::active(plan([router("a", 100)]));
    node.command("a", Command::Failover).unwrap();
    assert_eq!(node.done(), ["a sends 0", "a disowns 10.0.0.100", "INSTANCE a BACKUP 100"]);
    for _ in 0..30 {
        node.run(ms(1000));
        node.hear(LOWER, &advert(50));
    }
    assert_eq!(node.state(), State::Backup);
    let told = CommandError::NotActive { name: "a".into(), state: State::Backup };
    assert_eq!(node.command("a", Command::Failover), Err(told.clone()));
    assert_eq!(told.to_string(), "a is backup on this node; ask the node on which it is active");
    assert_eq!(node.takes_over_in(), 3609, "but when that one is gone");
    // Then all is as before.
    node.hear(LOWER, &advert(50));
    assert_eq!(node.state(), State::Active);
}

#[test]
fn a_failover_with_nobody_there_comes_back() {
    let mut node = Node::active(plan([router("a", 255)]));
    node.command("a", Command::Failover).unwrap();
    assert_eq!((node.state(), node.takes_over_in()), (State::Backup, 3003));
}

#[test]
fn a_group_is_asked_by_its_name_or_by_that_of_a_member() {
    for name in ["both", "inside", "outside"] {
        let mut node = Node::active(crate::groups::pair(100));
        node.command(name, Command::Failover).unwrap();
        assert_eq!(node.state(), State::Backup, "{name}");
    }
    let mut node = Node::active(crate::groups::pair(100));
    let error = node.command("neither", Command::Failover).unwrap_err();
    assert_eq!(error.to_string(), "there is no sync group or virtual router \"neither\"");
}
