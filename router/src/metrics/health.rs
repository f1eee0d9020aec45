//! What the keeper of the host found: states, MTUs, repairs and losses.

use super::Snapshot;
use super::page::{Kind, Page};
use crate::keeper::{DeviceLosses, State};

/// What is read of a device: towards the director, and from it.
type Pair = fn(&DeviceLosses) -> [u64; 2];

/// The host around the interfaces.
pub(super) fn health(page: &mut Page, snapshot: &Snapshot) {
    let all = || snapshot.interfaces.iter().map(|(name, _)| name.as_str()).zip(&snapshot.health);
    let mut family = page.family(
        "uvs_interface_state",
        Kind::Gauge,
        "1 for how an interface is: up, degraded while something of the host is missing, down without a device.",
    );
    for (interface, health) in all() {
        for state in State::ALL {
            let now = u8::from(state == health.state);
            family.sample(&[("interface", interface), ("state", state.label())], now);
        }
    }
    let mut family = page.family(
        "uvs_interface_mtu_bytes",
        Kind::Gauge,
        "The MTU in force: the configured one, or the link's where that is smaller.",
    );
    for (interface, health) in all() {
        family.sample(&[("interface", interface)], health.mtu);
    }
    let mut family = page.family(
        "uvs_interface_repairs_total",
        Kind::Counter,
        "How often something of the host that an interface needs was set up again.",
    );
    for (interface, health) in all() {
        family.sample(&[("interface", interface)], health.repairs);
    }
    let counters: [(&'static str, &str, Pair); 2] = [
        (
            "uvs_device_dropped_total",
            "Packets that a device of the host dropped on their way to or from the director, by the kernel's counters.",
            |it| [it.receive.0, it.transmit.0],
        ),
        (
            "uvs_device_errors_total",
            "Packets that a device of the host received broken or could not send, by the kernel's counters.",
            |it| [it.receive.1, it.transmit.1],
        ),
    ];
    for (name, help, read) in counters {
        let mut family = page.family(name, Kind::Counter, help);
        for (interface, health) in all() {
            for losses in &health.losses {
                for (direction, n) in ["receive", "transmit"].into_iter().zip(read(losses)) {
                    family.sample(
                        &[
                            ("interface", interface),
                            ("device", &losses.device),
                            ("role", losses.role.label()),
                            ("direction", direction),
                        ],
                        n,
                    );
                }
            }
        }
    }
}
