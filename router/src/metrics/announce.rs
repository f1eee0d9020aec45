//! VIPs that are told to routers.

use super::page::{Kind, Page};
use crate::announce::Report;

/// Which are, and what has happened. Nothing where none ever was to be.
pub(super) fn announce(page: &mut Page, report: Option<&Report>) {
    let Some(Report { vips, counts }) = report else { return };
    let mut family = page.family(
        "uvs_vip_announced",
        Kind::Gauge,
        "Whether a VIP is announced to routers, by a route of the host's kernel.",
    );
    for (vip, device, announced) in vips {
        family.sample(&[("vip", vip), ("device", device)], u64::from(*announced));
    }
    let mut family = page.family(
        "uvs_vip_announcements_total",
        Kind::Counter,
        "VIPs that were announced or withdrawn, and changes of routes that failed.",
    );
    for (what, count) in
        [("announced", counts.announced), ("withdrawn", counts.withdrawn), ("failed", counts.failed)]
    {
        family.sample(&[("what", what)], count);
    }
}
