//! What happens to virtual routers, in the words of events and of the log.

use std::net::IpAddr;

use tracing::{info, warn};
use uvs_control::event::{Event, Kind};
use uvs_ha::vrrp::{Event as Happened, Notification, Told};

/// For `uvs events` and for programs (`[[notify]]`).
pub(super) fn notified(it: &Notification) -> Event {
    let kind = match it.now {
        Told::Master => Kind::VrrpMaster,
        Told::Backup => Kind::VrrpBackup,
        Told::Fault => Kind::VrrpFault,
        Told::Stop => Kind::VrrpStop,
        Told::Deleted => Kind::VrrpDeleted,
        Told::MasterRxLowerPri => Kind::VrrpLowerPriority,
    };
    let [vrrp_type, name, state, _] = it.arguments();
    Event {
        kind,
        vrrp: Some(name),
        vrrp_type: Some(vrrp_type),
        state: Some(state),
        priority: Some(it.priority),
        reason: Some(it.reason.to_string()),
        ..Event::default()
    }
}

/// Logs it; what is an event beside what was [`notified`].
pub(super) fn happened(event: &Happened) -> Option<Event> {
    let of = |kind, name: &str, priority, reason: Option<String>| {
        Some(Event { kind, vrrp: Some(name.to_owned()), priority, reason, ..Event::default() })
    };
    match event {
        Happened::Changed { name, from, to, reason } => {
            info!(vrrp = %name, "{from} -> {to}: {reason}");
            None
        }
        Happened::Priority { name, from, to } => {
            info!(vrrp = %name, "priority {from} -> {to}");
            of(Kind::VrrpPriority, name, Some(*to), Some(format!("was {from}")))
        }
        Happened::Rival { router, from, priority } => {
            warn!(
                vrrp = %router,
                "{from} is active, too, with priority {priority}: it does not hear this director, or has not until now"
            );
            None
        }
        Happened::OtherAddresses { router, from, theirs, ours } => {
            let mut parts = Vec::new();
            for (who, only) in [("only there", theirs), ("only here", ours)] {
                if !only.is_empty() {
                    parts.push(format!("{who}: {}", list(only)));
                }
            }
            let what = match parts.is_empty() {
                true => format!("{from} advertises the addresses of this virtual router in another number"),
                false => format!("{from} advertises other addresses ({})", parts.join("; ")),
            };
            warn!(vrrp = %router, "{what}; give all directors the same");
            of(Kind::VrrpMismatch, router, None, Some(what))
        }
        Happened::OtherInterval { router, from, theirs, ours } => {
            let (theirs, ours) = (theirs.duration(), ours.duration());
            let what = format!("{from} advertises every {theirs:?}, and this director is to every {ours:?}");
            warn!(vrrp = %router, "{what}; give all directors the same advert_int");
            of(Kind::VrrpMismatch, router, None, Some(what))
        }
        Happened::AwaitsSnapshot { name } => {
            info!(vrrp = %name, "waits for the connections of its peer before it becomes active");
            None
        }
        Happened::SnapshotGivenUp => {
            warn!("the connections of the peer did not come in time and are given up");
            None
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use uvs_ha::vrrp::Reason;

    use super::*;

    #[test]
    fn programs_hear_what_those_of_keepalived_do() {
        let it = Notification {
            group: false,
            name: "web".into(),
            now: Told::Master,
            priority: 100,
            reason: Reason::Silence,
        };
        let event = notified(&it);
        assert_eq!(
            (event.kind, event.vrrp_type.as_deref(), event.vrrp.as_deref(), event.state.as_deref()),
            (Kind::VrrpMaster, Some("INSTANCE"), Some("web"), Some("MASTER"))
        );
        assert_eq!(event.priority, Some(100));
        let event = Event { time: "then".into(), ..event };
        assert_eq!(event.line(), "then vrrp web is active: no advertisement from an Active router");
        let group = notified(&Notification { group: true, now: Told::Fault, ..it });
        assert_eq!((group.kind, group.vrrp_type.as_deref()), (Kind::VrrpFault, Some("GROUP")));
    }
}
