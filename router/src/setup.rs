//! From the configuration to devices and to what the host has to look like around them.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::thread;

use tracing::{info, warn};
use uvs_attach::Pair;
use uvs_config::{Accelerate, Config, Interface, OffloadWish};
use uvs_device::host::{self, HostPlan, LocalNode, RepliesFrom};
use uvs_device::{Device, DeviceError, DeviceSpec, Kind};
use uvs_director::spec::{Family, Forwarding, Link, Tunnel};

/// Most queues of an interface whose config does not say. Two carry floods and short connections better than one and
/// bulk as well (benches/README.md); more were not measured.
const QUEUES_DEFAULT_MAX: u16 = 2;

/// Queues of an interface whose config does not say: one where there is one CPU.
fn queues_default() -> u16 {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    u16::try_from(cpus).unwrap_or(u16::MAX).min(QUEUES_DEFAULT_MAX)
}

/// Opens the device of each interface, in the order of their ports, with offload where that is wanted and the kernel
/// offers it.
///
/// # Errors
/// The first device that cannot be opened; those before it are gone again.
pub fn open_devices(config: &Config) -> Result<Vec<Device>, DeviceError> {
    config.interfaces.iter().map(|interface| open_one(config, interface)).collect()
}

/// Opens the device of one interface, as [`open_devices`] does.
///
/// # Errors
/// It cannot be opened.
pub fn open_one(config: &Config, interface: &Interface) -> Result<Device, DeviceError> {
    let tunnel_gso = has_udp_tunnels(config);
    let device = open_device(interface, |spec| Device::open(&DeviceSpec { tunnel_gso, ..spec.clone() }))?;
    info!(
        interface = device.name(),
        queues = device.queues().len(),
        offload = device.offload(),
        udp_gso = device.udp_gso(),
        tunnel_gso = device.tunnel_gso(),
        "device opened"
    );
    if device.offload() && !device.udp_gso() {
        let interface = device.name();
        warn!(
            interface,
            "the kernel passes no GSO packets of UDP datagrams (USO, Linux 6.2): these come one by one"
        );
    }
    Ok(device)
}

/// Whether a service has a destination in a UDP tunnel. Only then the kernel may hand over GSO packets in tunnels;
/// after a reload that brings the first, GSO packets are cut instead.
fn has_udp_tunnels(config: &Config) -> bool {
    let is_udp = |forwarding| matches!(forwarding, Forwarding::Tunnel(Tunnel::Gue { .. }));
    config.services.iter().flat_map(|it| &it.destinations).any(|it| is_udp(it.forwarding))
}

/// `open` is [`Device::open`].
fn open_device<D>(
    interface: &Interface,
    open: impl Fn(&DeviceSpec) -> Result<D, DeviceError>,
) -> Result<D, DeviceError> {
    let spec = device_spec(interface);
    match open(&spec) {
        Err(DeviceError::NoOffload { name }) if interface.io.offload == OffloadWish::Auto => {
            warn!(
                interface = name,
                "the kernel offers no segmentation and checksum offload on this device (IFF_VNET_HDR, TUNSETOFFLOAD): \
                 frames are single packets, which costs throughput; offload = \"off\" says that this is meant"
            );
            open(&DeviceSpec { offload: false, ..spec })
        }
        opened => opened,
    }
}

fn device_spec(interface: &Interface) -> DeviceSpec {
    let spec = &interface.spec;
    let kind = match spec.link {
        Link::Ethernet(mac) => Kind::Tap { mac },
        Link::Ip => Kind::Tun,
    };
    DeviceSpec {
        name: spec.name.clone(),
        kind,
        mtu: spec.mtu,
        queues: interface.io.queues.unwrap_or_else(queues_default),
        offload: interface.io.offload != OffloadWish::Off,
        tunnel_gso: false,
    }
}

/// What is wanted of the host.
pub fn host_plan(config: &Config) -> HostPlan {
    let mut plan = HostPlan::default();
    for interface in &config.interfaces {
        let device = &interface.spec.name;
        match &interface.bridge {
            Some(bridge) => plug_in(&mut plan.bridges, bridge, device),
            None => plan.up.push(device.clone()),
        }
        plan.up.extend(interface.direct.iter().map(|direct| direct.link.clone()));
        let Some(side) = &interface.host else { continue };
        plan.addresses.extend(side.addresses.iter().map(|address| (device.clone(), *address)));
        plan.routes.extend(side.routes.iter().map(|route| (*route, device.clone())));
        let families: BTreeSet<Family> =
            interface.spec.addresses.iter().map(|address| Family::of(address.addr())).collect();
        for link in &side.replies_from {
            plan.replies_from.extend(families.iter().map(|&family| RepliesFrom {
                link: link.clone(),
                device: device.clone(),
                family,
            }));
        }
        if side.local_servers || side.local_clients {
            plan.local_nodes.push(LocalNode {
                device: device.clone(),
                addresses: side.addresses.iter().map(|address| address.addr()).collect(),
                servers: side.local_servers,
                clients: side.local_clients,
                replies_from: side.replies_from.clone(),
            });
        }
        if side.forwarding {
            for link in std::iter::once(device).chain(&side.replies_from) {
                if !plan.forwarding.contains(link) {
                    plan.forwarding.push(link.clone());
                }
            }
        }
    }
    plan
}

/// Which interfaces exchange frames with a link directly, without a bridge.
pub fn direct(config: &Config) -> Vec<Pair> {
    let pair = |interface: &Interface| match (&interface.direct, interface.spec.link) {
        (Some(direct), Link::Ethernet(mac)) => Some(Pair {
            device: interface.spec.name.clone(),
            mac,
            mtu: interface.spec.mtu,
            link: direct.link.clone(),
            port: interface.spec.port,
            cached: interface.accelerate != Accelerate::Off,
        }),
        _ => None,
    };
    config.interfaces.iter().filter_map(pair).collect()
}

/// Several TAPs may share a bridge: it is made once, with the ports of all.
fn plug_in(bridges: &mut Vec<host::Bridge>, bridge: &uvs_config::Bridge, tap: &str) {
    let index = bridges.iter().position(|there| there.name == bridge.name).unwrap_or_else(|| {
        bridges.push(host::Bridge { name: bridge.name.clone(), ..host::Bridge::default() });
        bridges.len() - 1
    });
    let there = &mut bridges[index];
    there.taps.push(tap.to_owned());
    for port in &bridge.ports {
        if !there.ports.contains(port) {
            there.ports.push(port.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_share_a_bridge() {
        let config = Config::parse(
            r#"
            [[interface]]
            name = "uvs0"
            device = "tap"
            addresses = ["192.0.2.1/24"]
            bridge = { name = "br0", ports = ["eth0"] }

            [[interface]]
            name = "uvs1"
            device = "tap"
            mtu = 9000
            mac = "02:00:00:00:00:07"
            addresses = ["198.51.100.1/24"]
            bridge = { name = "br0", ports = ["eth0", "eth1"] }
            "#,
            "test.toml",
        )
        .unwrap();
        let plan = host_plan(&config);
        assert_eq!(
            plan,
            HostPlan {
                bridges: vec![host::Bridge {
                    name: "br0".to_owned(),
                    ports: vec!["eth0".to_owned(), "eth1".to_owned()],
                    taps: vec!["uvs0".to_owned(), "uvs1".to_owned()],
                }],
                ..HostPlan::default()
            }
        );
        let device = device_spec(&config.interfaces[1]);
        let mac = "02:00:00:00:00:07".parse().unwrap();
        assert_eq!((device.kind, device.mtu), (Kind::Tap { mac }, 9000));
    }

    #[test]
    fn without_offload_in_the_kernel_only_who_insists_is_refused() {
        let wishes = [
            ("", Ok(false)),
            ("offload = 'auto'", Ok(false)),
            ("offload = 'off'", Ok(false)),
            ("offload = 'on'", Err(())),
        ];
        for (wish, want) in wishes {
            let config = format!(
                "[[interface]]\nname = 'uvs0'\ndevice = 'tun'\naddresses = ['192.0.2.1/32']\nqueues = 3\n{wish}"
            );
            let config = Config::parse(&config, "test.toml").unwrap();
            let old_kernel = |spec: &DeviceSpec| {
                assert_eq!(spec.queues, 3);
                if spec.offload {
                    Err(DeviceError::NoOffload { name: spec.name.clone() })
                } else {
                    Ok(spec.offload)
                }
            };
            assert_eq!(open_device(&config.interfaces[0], old_kernel).map_err(|_| ()), want, "{wish}");
            let kernel = |spec: &DeviceSpec| Ok(spec.offload);
            let offload = open_device(&config.interfaces[0], kernel).unwrap();
            assert_eq!(offload, !wish.contains("off'"), "{wish} on a kernel that has it");
        }
    }

    #[test]
    fn a_tap_is_attached_to_a_link_that_is_up() {
        let config = Config::parse(
            r#"
            [[interface]]
            name = "uvs0"
            device = "tap"
            mac = "02:00:00:00:00:07"
            addresses = ["192.0.2.1/24"]
            attach = "tcx"
            link = "eth0"

            [[interface]]
            name = "uvs1"
            device = "tap"
            addresses = ["198.51.100.1/24"]
            "#,
            "test.toml",
        )
        .unwrap();
        let mac = "02:00:00:00:00:07".parse().unwrap();
        let pair = Pair {
            device: "uvs0".to_owned(),
            mac,
            mtu: 1500,
            link: "eth0".to_owned(),
            port: uvs_director::PortId(0),
            // Where it can be had, unless it is said not to.
            cached: true,
        };
        assert_eq!(direct(&config), [pair]);
        assert_eq!(
            host_plan(&config),
            HostPlan { up: ["uvs0", "eth0", "uvs1"].map(str::to_owned).to_vec(), ..HostPlan::default() }
        );
    }

    #[test]
    fn a_tun_steers_the_host() {
        let config = Config::parse(
            r#"
            [[interface]]
            name = "uvs0"
            device = "tun"
            addresses = ["192.0.2.1/32"]
            [interface.host]
            addresses = ["192.0.2.2/32"]
            routes = ["192.0.2.80/32"]
            replies_from = ["eth1"]
            local_servers = true
            forwarding = true
            "#,
            "test.toml",
        )
        .unwrap();
        let device = || "uvs0".to_owned();
        assert_eq!(
            host_plan(&config),
            HostPlan {
                up: vec![device()],
                addresses: vec![(device(), "192.0.2.2/32".parse().unwrap())],
                routes: vec![("192.0.2.80/32".parse().unwrap(), device())],
                replies_from: vec![RepliesFrom {
                    link: "eth1".to_owned(),
                    device: device(),
                    family: Family::V4
                }],
                local_nodes: vec![LocalNode {
                    device: device(),
                    addresses: vec!["192.0.2.2".parse().unwrap()],
                    servers: true,
                    clients: false,
                    replies_from: vec!["eth1".to_owned()],
                }],
                forwarding: vec![device(), "eth1".to_owned()],
                ..HostPlan::default()
            }
        );
        assert_eq!(device_spec(&config.interfaces[0]).kind, Kind::Tun);
    }
}
