//! One look at everything that the interfaces need of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, info, warn};
use uvs_attach::Attachments;
use uvs_config::{Config, Interface};
use uvs_device::host::{Finding, HostState, Outcome};
use uvs_device::net::{Cause, LinkLosses, LinkSight, Net, NetError};
use uvs_director::PortId;
use uvs_director::spec::Change;

use super::health::{DeviceLosses, InterfaceHealth, Role, State};
use super::namespace::Name;
use crate::event_loop::DataPlane;
use crate::pages::Live;
use crate::setup;

/// How often the log is told that the same thing was made again.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What the keeper needs of the running director.
pub struct Kept {
    /// What is shown.
    pub live: Arc<Live>,
    /// What carries frames.
    pub plane: Arc<DataPlane>,
    /// Hears why the director cannot go on.
    pub fatal: UnboundedSender<anyhow::Error>,
}

/// What is known from one look to the next.
pub(super) struct Look {
    config: Config,
    kept: Kept,
    name: Option<Name>,
    is_nameless: bool,
    interfaces: Vec<Known>,
    /// What the log was told of, and when; and how often it was made again since.
    repaired: HashMap<String, (Instant, u32)>,
    /// What could not be made again, and why, as the log was told.
    broken: HashMap<String, String>,
}

/// What is known of one interface.
#[derive(Default)]
struct Known {
    health: InterfaceHealth,
    /// By device, of which the configuration names them all: its index, the kernel's counters last time, and what was
    /// lost since the start.
    losses: HashMap<String, (u32, LinkLosses, LinkLosses)>,
    /// Links that carried something.
    carriers: Vec<String>,
    mtu: Option<u32>,
}

/// What one look finds about an interface.
#[derive(Default)]
struct Found {
    reasons: Vec<String>,
    repairs: u64,
    is_down: bool,
}

impl Look {
    pub(super) fn new(config: &Config, kept: Kept) -> Self {
        let interfaces = config.interfaces.iter().map(|_| Known::default()).collect();
        let (repaired, broken) = Default::default();
        Self {
            config: config.clone(),
            kept,
            name: Name::find(),
            is_nameless: false,
            interfaces,
            repaired,
            broken,
        }
    }

    /// Looks, mends, and shows what came of it.
    pub(super) async fn look(&mut self, host: &mut HostState, attachments: Option<&mut Attachments>) {
        let mut found: Vec<Found> = self.config.interfaces.iter().map(|_| Found::default()).collect();
        let mut findings = self.mend_devices(host.net(), &mut found).await;
        let kept = host.keep().await;
        for finding in &kept {
            for (interface, found) in self.config.interfaces.iter().zip(&mut found) {
                if !finding.links.iter().any(|link| uses(interface, link)) {
                    continue;
                }
                match &finding.outcome {
                    Outcome::Repaired => found.repairs += 1,
                    Outcome::Broken(_) => found.reasons.push(format!("not as configured: {}", finding.what)),
                }
            }
        }
        findings.extend(kept);
        let mut announce = false;
        if let Some(attachments) = attachments {
            let checked = attachments.check().await;
            if checked.links_moved {
                self.kept.live.director.links_moved();
            }
            announce |= checked.again;
            for ((pair, attached), (.., shown)) in attachments.states().zip(&self.kept.live.attached) {
                shown.store(attached, Relaxed);
                if let Some(found) = found.get_mut(usize::from(pair.port.0)).filter(|_| !attached) {
                    found.reasons.push(format!("not attached to {}", pair.link));
                }
            }
        }
        let mut links_left = false;
        for (index, found) in found.iter_mut().enumerate() {
            let looked = self.look_at_links(index, host.net(), found, &mut findings).await;
            announce |= looked.came_back || found.repairs > 0;
            links_left |= looked.links_left;
        }
        self.tell(&findings);
        self.tell_virtual_routers(&found);
        let notices = self.look_at_namespace(links_left);
        let mut shown = Vec::new();
        for (known, found) in self.interfaces.iter_mut().zip(found) {
            known.health.state = match (found.is_down, found.reasons.is_empty()) {
                (true, _) => State::Down,
                (false, false) => State::Degraded,
                (false, true) => State::Up,
            };
            known.health.reasons = found.reasons;
            known.health.repairs += found.repairs;
            shown.push(known.health.clone());
        }
        self.kept.live.health.show(shown, notices);
        if announce {
            self.kept.plane.announce_again();
        }
    }

    /// Makes devices again that somebody has deleted, renamed or moved elsewhere.
    async fn mend_devices(&self, net: &Net, found: &mut [Found]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (_, devices) = self.kept.plane.devices.current();
        for (index, (device, found)) in devices.iter().zip(found).enumerate() {
            let interface = &self.config.interfaces[index];
            let (name, what) = (device.name().to_owned(), format!("device {}", device.name()));
            match net.link(&name).await {
                Ok(link) if link.index == device.index() => continue,
                Ok(_) => {}
                Err(error) if matches!(error.cause(), Cause::NoLink(_)) => {}
                // Nothing is known, so nothing is changed.
                Err(_) => continue,
            }
            if self.interfaces[index].health.state != State::Down {
                error!(
                    interface = name,
                    "its device is gone, as when somebody deletes it (ip link del {name})"
                );
            }
            let outcome = match setup::open_one(&self.config, interface) {
                Ok(device) => {
                    self.kept.plane.devices.replace(interface.spec.port, device);
                    found.repairs += 1;
                    Outcome::Repaired
                }
                Err(error) => {
                    found.is_down = true;
                    found.reasons.push(format!("device {name} is gone and cannot be made again"));
                    Outcome::Broken(error.to_string())
                }
            };
            findings.push(Finding { what, links: vec![name], outcome });
        }
        findings
    }

    /// Logs what was made again, and what cannot be: each once, and again when it changes or after a while.
    fn tell(&mut self, findings: &[Finding]) {
        for Finding { what, outcome, .. } in findings {
            match outcome {
                Outcome::Repaired => {
                    let now = Instant::now();
                    let (at, times) = self.repaired.entry(what.clone()).or_insert((now, 0));
                    *times += 1;
                    if *times == 1 || now.duration_since(*at) >= TELL_EVERY {
                        warn!(times = *times, "the host had changed; set up again: {what}");
                        (*at, *times) = (now, 1);
                    }
                }
                Outcome::Broken(why) if self.broken.get(what) != Some(why) => {
                    error!("the host has changed, and this cannot be set up again: {what}: {why}");
                    self.broken.insert(what.clone(), why.clone());
                }
                Outcome::Broken(_) => {}
            }
        }
        // Names of links are made up by others, and without an end.
        self.repaired.retain(|_, (at, _)| at.elapsed() < 2 * TELL_EVERY);
        let is_broken = |it: &Finding| matches!(it.outcome, Outcome::Broken(_));
        self.broken.retain(|what, _| {
            let still = findings.iter().any(|it| it.what == *what && is_broken(it));
            if !still {
                info!("the host is as configured again: {what}");
            }
            still
        });
    }

    /// Reads MTU, carrier and losses of what an interface's frames pass.
    async fn look_at_links(
        &mut self,
        index: usize,
        net: &Net,
        found: &mut Found,
        findings: &mut Vec<Finding>,
    ) -> Looked {
        let interface = &self.config.interfaces[index];
        let known = &mut self.interfaces[index];
        let mut looked = Looked::default();
        let (mut mtu, mut narrowest) = (interface.spec.mtu, None);
        let (mut carriers, mut losses) = (Vec::new(), Vec::new());
        for (role, name) in devices_of(interface) {
            let sight = match net.sight(name).await {
                Ok(sight) => sight,
                Err(error) if matches!(error.cause(), Cause::NoLink(_)) => {
                    if matches!(role, Role::Port | Role::Link) {
                        found.reasons.push(format!("{name} is not there"));
                    }
                    continue;
                }
                Err(error) => {
                    findings.push(unreadable(name, &error));
                    return looked;
                }
            };
            looked.links_left |= matches!(role, Role::Port | Role::Link);
            if sight.state.mtu < mtu {
                (mtu, narrowest) = (sight.state.mtu, Some(name));
            }
            if sight.carrier {
                looked.came_back |= known.mtu.is_some() && !known.carriers.iter().any(|it| it == name);
                carriers.push(name.to_owned());
            } else if matches!(role, Role::Port | Role::Link) {
                found.reasons.push(format!("{name} has no carrier"));
            }
            losses.push(known.losses_of(role, name, &sight));
        }
        looked.links_left |= devices_of(interface).iter().all(|(role, _)| *role == Role::Device);
        known.carriers = carriers;
        known.health.losses = losses;
        if known.mtu.unwrap_or(interface.spec.mtu) != mtu {
            follow_mtu(&self.kept, interface, mtu, narrowest);
        }
        known.mtu = Some(mtu);
        known.health.mtu = mtu;
        looked
    }

    /// Priorities of virtual routers may follow whether an interface gets frames through: its device is there, and one
    /// of the links that lead elsewhere carries something, where there are any.
    fn tell_virtual_routers(&self, found: &[Found]) {
        for ((interface, known), found) in self.config.interfaces.iter().zip(&self.interfaces).zip(found) {
            let leads_elsewhere = |(role, _): &(Role, &str)| matches!(role, Role::Port | Role::Link);
            let mut links = devices_of(interface).into_iter().filter(leads_elsewhere).peekable();
            let carries = |(_, name): (Role, &str)| known.carriers.iter().any(|it| it == name);
            let is_up = !found.is_down && (links.peek().is_none() || links.any(carries));
            self.kept.live.ha.track(&uvs_config::tracked_interface(&interface.spec.name), is_up);
        }
    }

    /// Tells when the namespace was deleted, and ends the director when nothing is left in it.
    fn look_at_namespace(&mut self, links_left: bool) -> Vec<String> {
        let Some(name) = self.name.as_ref().filter(|name| !name.holds()) else { return Vec::new() };
        let notice = format!(
            "the network namespace {} was deleted; nothing but this process keeps it, and it goes when that ends",
            name.text()
        );
        if !self.is_nameless {
            self.is_nameless = true;
            error!("{notice}");
        }
        if !links_left {
            // The other end is only gone when the director ends already.
            let _ = self.kept.fatal.send(anyhow!(
                "the network namespace {} was deleted, and none of the links is left that the interfaces need\n  \
                 fix: start uvs in a network namespace that has them",
                name.text()
            ));
        }
        vec![notice]
    }
}

/// What was seen beside health.
#[derive(Default)]
struct Looked {
    /// A link carries something again.
    came_back: bool,
    /// One of the links that lead elsewhere is there, or none is needed.
    links_left: bool,
}

impl Known {
    /// What a device lost since the start. Counters of one that was made anew begin at 0.
    fn losses_of(&mut self, role: Role, name: &str, sight: &LinkSight) -> DeviceLosses {
        let (index, now) = (sight.state.index, sight.losses);
        let (known, before, sum) =
            self.losses.entry(name.to_owned()).or_insert((index, now, LinkLosses::default()));
        if *known != index {
            *before = LinkLosses::default();
        }
        let add = |sum: &mut u64, now: u64, before: u64| *sum += now.saturating_sub(before);
        add(&mut sum.rx_dropped, now.rx_dropped, before.rx_dropped);
        add(&mut sum.tx_dropped, now.tx_dropped, before.tx_dropped);
        add(&mut sum.rx_errors, now.rx_errors, before.rx_errors);
        add(&mut sum.tx_errors, now.tx_errors, before.tx_errors);
        (*known, *before) = (index, now);
        let (rx, tx) = ((sum.rx_dropped, sum.rx_errors), (sum.tx_dropped, sum.tx_errors));
        // What the host sends on the device, the director receives.
        let (receive, transmit) = if role == Role::Device { (tx, rx) } else { (rx, tx) };
        DeviceLosses { device: name.to_owned(), role, receive, transmit }
    }
}

fn unreadable(name: &str, error: &NetError) -> Finding {
    Finding {
        what: format!("the state of {name}"),
        links: vec![name.to_owned()],
        outcome: Outcome::Broken(error.to_string()),
    }
}

/// Has the director send no longer packets than the way takes.
fn follow_mtu(kept: &Kept, interface: &Interface, mtu: u32, narrowest: Option<&str>) {
    let (name, port): (&str, PortId) = (&interface.spec.name, interface.spec.port);
    match narrowest {
        Some(link) => warn!(
            interface = name,
            mtu,
            "{link} takes packets of {mtu} bytes, and mtu of the interface is {}: the smaller one counts",
            interface.spec.mtu
        ),
        None => info!(interface = name, mtu, "the links take packets of the interface's MTU"),
    }
    if let Err(error) = kept.live.director.apply(Change::SetLinkMtu { port, mtu }, kept.live.clock.now()) {
        error!(interface = name, "the MTU of its link is not followed: {error}");
    }
}

/// The devices that frames of an interface pass.
fn devices_of(interface: &Interface) -> Vec<(Role, &str)> {
    let mut devices = vec![(Role::Device, interface.spec.name.as_str())];
    if let Some(bridge) = &interface.bridge {
        devices.push((Role::Bridge, &bridge.name));
        devices.extend(bridge.ports.iter().map(|port| (Role::Port, port.as_str())));
    }
    devices.extend(interface.direct.iter().map(|direct| (Role::Link, direct.link.as_str())));
    devices
}

/// Whether an interface needs that link.
fn uses(interface: &Interface, link: &str) -> bool {
    let is_steered = |host: &uvs_config::Host| host.replies_from.iter().any(|name| name == link);
    devices_of(interface).iter().any(|(_, name)| *name == link)
        || interface.host.as_ref().is_some_and(is_steered)
}
