//! Virtual routers: who is active, and what was heard and said.

use uvs_control::ha::{Answer, Counts, Group, Router};

use super::page::{Kind, LabelPair, Page};

const STATES: [&str; 3] = ["initialize", "backup", "active"];

fn labels(router: &Router) -> [LabelPair<'_>; 2] {
    [("vrrp", &router.name), ("interface", &router.interface)]
}

/// All of them; nothing where there are none.
pub(super) fn vrrp(page: &mut Page, Answer { groups, strays }: &Answer) {
    let all = || groups.iter().flat_map(|group| group.routers.iter().map(move |router| (group, router)));
    let mut family = page.family(
        "uvs_vrrp_state",
        Kind::Gauge,
        "1 for what a virtual router is: active, backup, or initialize while it takes no part.",
    );
    for (group, router) in all() {
        let [vrrp, interface] = labels(router);
        for state in STATES {
            family.sample(&[vrrp, interface, ("state", state)], u8::from(group.state == state));
        }
    }
    let mut family =
        page.family("uvs_vrrp_priority", Kind::Gauge, "The priority that it advertises, or would.");
    all().for_each(|(Group { priority, .. }, router)| family.sample(&labels(router), priority));
    let mut family = page.family(
        "uvs_vrrp_heard_age_seconds",
        Kind::Gauge,
        "How long ago another router was heard, of a few that were heard last.",
    );
    for (_, router) in all() {
        let [vrrp, interface] = labels(router);
        for heard in &router.heard {
            family.sample(&[vrrp, interface, ("peer", &heard.from)], heard.age_s);
        }
    }
    type Column = (&'static str, &'static str, fn(&Counts) -> u64);
    let columns: [Column; 6] = [
        ("uvs_vrrp_advertisements_sent_total", "Advertisements sent, each peer's counted.", |it| it.sent),
        ("uvs_vrrp_advertisements_received_total", "Advertisements taken.", |it| it.received),
        ("uvs_vrrp_takeovers_total", "Times that it became active.", |it| it.takeovers),
        (
            "uvs_vrrp_rivals_total",
            "Advertisements of another active router while it was active, too.",
            |it| it.rivals,
        ),
        (
            "uvs_vrrp_mismatches_total",
            "Advertisements with other addresses or another interval than it is configured with.",
            |it| it.other_addresses + it.other_interval,
        ),
        ("uvs_vrrp_announced_total", "Gratuitous ARP and unsolicited neighbour advertisements.", |it| {
            it.announced
        }),
    ];
    for (name, help, read) in columns {
        let mut family = page.family(name, Kind::Counter, help);
        all().for_each(|(_, router)| family.sample(&labels(router), read(&router.counts)));
    }
    let mut family = page.family(
        "uvs_vrrp_advertisements_refused_total",
        Kind::Counter,
        "Advertisements that were not taken, by reason.",
    );
    for (_, router) in all() {
        let [vrrp, interface] = labels(router);
        for refused in &router.refused {
            family.sample(&[vrrp, interface, ("reason", &refused.reason)], refused.count);
        }
    }
    let mut family = page.family(
        "uvs_vrrp_strays_total",
        Kind::Counter,
        "Advertisements for no virtual router of this director, by reason.",
    );
    for stray in strays {
        family.sample(&[("reason", &stray.reason)], stray.count);
    }
}
