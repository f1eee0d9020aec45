//! Virtual routers as people and metrics are shown them.

use uvs_control::ha::{Answer, Counts, Group, Heard, Refused, Router};
use uvs_ha::vrrp::{GroupView, RouterView};
use uvs_ha::wire::{Refusal, Version};

/// All of them, and what was for none.
pub(super) fn of(groups: &[GroupView], strays: &[(&'static str, u64)]) -> Answer {
    let refused =
        |(reason, count): &(&'static str, u64)| Refused { reason: (*reason).to_owned(), count: *count };
    Answer { groups: groups.iter().map(of_group).collect(), strays: strays.iter().map(refused).collect() }
}

fn of_group(it: &GroupView) -> Group {
    Group {
        name: it.name.to_string(),
        sync_group: it.named,
        state: it.state.to_string(),
        since_s: it.held.as_secs_f64(),
        reason: it.reason.to_string(),
        priority: it.priority,
        configured_priority: it.configured_priority,
        fault: it.fault.as_ref().map(ToString::to_string),
        maintenance: it.maintenance,
        yielded: it.yielded,
        routers: it.routers.iter().map(of_router).collect(),
    }
}

fn of_router(it: &RouterView) -> Router {
    let (plan, counters) = (&it.plan, &it.counters);
    let words = |all: &[std::net::IpAddr]| all.iter().map(ToString::to_string).collect();
    let heard = it.heard_of.iter().map(|(heard, age)| Heard {
        from: heard.from.to_string(),
        priority: heard.priority,
        advert_int_s: heard.interval.duration().as_secs_f64(),
        age_s: age.as_secs_f64(),
    });
    let refused = Refusal::ALL.iter().filter_map(|why| {
        let count = *counters.refused.get(why)?;
        Some(Refused { reason: why.label().to_owned(), count })
    });
    Router {
        name: it.name.to_string(),
        interface: plan.interface.to_string(),
        family: it.key.family.to_string(),
        vrid: plan.vrid,
        version: if plan.version == Version::V2 { 2 } else { 3 },
        source: plan.source.to_string(),
        peers: words(&plan.peers),
        addresses: words(&plan.addresses),
        excluded_addresses: words(&plan.unadvertised),
        preempt: plan.preempt,
        advert_int_s: plan.interval.duration().as_secs_f64(),
        down_interval_s: it.down_interval.as_secs_f64(),
        takes_over_in_s: it.takes_over_in.map(|left| left.as_secs_f64()),
        heard: heard.collect(),
        missed: it.missed,
        counts: Counts {
            sent: counters.sent,
            sent_leaving: counters.sent_leaving,
            received: counters.received,
            received_leaving: counters.received_leaving,
            other_addresses: counters.other_addresses,
            other_interval: counters.other_interval,
            rivals: counters.rivals,
            takeovers: counters.takeovers,
            announced: counters.announced,
        },
        refused: refused.collect(),
    }
}
