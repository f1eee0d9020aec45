//! Changes: what the director is told to be, and a model of what it should say it is.

use std::net::{IpAddr, SocketAddr};

use uvs_director::spec::{
    Change, DestinationSpec, Family, MacAddr, Options, Persistence, SchedulerSpec, ServiceSpec, Timeouts,
};
use uvs_director::{ApplyError, Duration};

use crate::event::{Event, Method, Policy, Side};
use crate::plan::{self, SERVERS, SLOTS, Slot};
use crate::world::{Kind, Outcome, World};

/// A service as it should be.
#[derive(Clone, Debug)]
struct Service {
    policy: Policy,
    persist: u32,
    /// In list order: the one added last comes first.
    destinations: Vec<DestinationSpec>,
}

/// What the director was told to be.
#[derive(Default)]
pub(crate) struct Model {
    services: [Option<Service>; SLOTS.len()],
    pub(crate) options: Options,
    /// Whether it was under `compat` at any time.
    pub(crate) was_compat: bool,
    pub(crate) timeouts: Timeouts,
    /// Timeouts that entries may still have.
    before: Vec<Timeouts>,
    mtu: [u32; 2],
}

impl Model {
    /// A destination of a service, if it belongs to it now.
    pub(crate) fn destination(&self, slot: usize, server: u32) -> Option<&DestinationSpec> {
        let addr = SLOTS[slot].destination(server);
        self.services[slot].as_ref()?.destinations.iter().find(|it| it.addr == addr)
    }

    /// Whether there is a service of the family of that address.
    pub(crate) fn balances(&self, addr: IpAddr) -> bool {
        let slots = SLOTS.iter().zip(&self.services);
        slots.into_iter().any(|(slot, service)| service.is_some() && slot.family == Family::of(addr))
    }

    /// After that long without a packet no entry is left.
    pub(crate) fn longest(&self) -> Duration {
        let all = self.before.iter().chain([&self.timeouts]).flat_map(|it| [it.tcp, it.tcp_fin, it.udp]);
        // The kernel's TIME_WAIT; templates, and their renewals.
        all.max().unwrap_or_default() + Duration::from_secs(120 + 600)
    }

    /// No entry is left.
    pub(crate) fn forget_timeouts(&mut self) {
        self.before.clear();
    }

    /// Whether clients of a service stick.
    pub(crate) fn is_persistent(&self, slot: usize) -> bool {
        self.services[slot].as_ref().is_some_and(|service| service.persist > 0)
    }
}

fn service_spec(slot: &Slot, policy: Policy, persist: u32) -> ServiceSpec {
    let prefix_len = if slot.key().family() == uvs_director::spec::Family::V4 { 32 } else { 128 };
    let persistence = (persist > 0).then(|| Persistence {
        timeout: Duration::from_secs(persist.into()),
        prefix_len,
        engine: None,
    });
    ServiceSpec { persistence, ..ServiceSpec::new(slot.key(), SchedulerSpec::named(policy.to_string())) }
}

fn destination_spec(slot: &Slot, server: u32, method: Method, weight: u32, upper: u32) -> DestinationSpec {
    let (addr, forwarding) = (slot.destination(server), slot.forwarding(server, method));
    DestinationSpec { weight, upper_threshold: upper, ..DestinationSpec::new(addr, forwarding) }
}

impl World {
    /// The network and marks, without which nothing works.
    pub(crate) fn begin(&mut self) {
        self.model.mtu = [1500; 2];
        let (interfaces, routes) = plan::network(self.model.mtu);
        for change in [Change::SetNetwork { interfaces, routes }, Change::SetMarks(plan::marks())] {
            self.director.apply(change, self.now).expect("the plan is valid");
        }
    }

    /// Whether the service of that slot is there.
    pub(crate) fn has_service(&self, slot: u32) -> bool {
        self.model.services[Slot::of(slot).0].is_some()
    }

    /// A change.
    pub(crate) fn control_event(&mut self, event: &Event) -> Outcome {
        match *event {
            Event::AddService { slot, policy, persist } => {
                let (index, slot) = Slot::of(slot);
                let persist = persist.max(u32::from(slot.needs_persistence()) * 30);
                let is_there = self.model.services[index].is_some();
                let taken = !is_there && !self.schedulers.cannot_be_made();
                self.change(Change::AddService(service_spec(&slot, policy, persist)), taken)?;
                if taken {
                    self.model.services[index] = Some(Service { policy, persist, destinations: Vec::new() });
                }
            }
            Event::EditService { slot, policy, persist } => {
                let (index, slot) = Slot::of(slot);
                let persist = persist.max(u32::from(slot.needs_persistence()) * 30);
                let known = self.model.services[index].as_ref().map(|it| it.policy);
                let taken = known.is_some_and(|it| it == policy || !self.schedulers.cannot_be_made());
                self.change(Change::EditService(service_spec(&slot, policy, persist)), taken)?;
                if let Some(service) = self.model.services[index].as_mut().filter(|_| taken) {
                    (service.policy, service.persist) = (policy, persist);
                }
            }
            Event::Renew { slot } => {
                let (index, slot) = Slot::of(slot);
                let taken = self.model.services[index].is_some() && !self.schedulers.cannot_be_made();
                self.change(Change::RenewScheduler(slot.key()), taken)?;
            }
            Event::RemoveService { slot } => {
                let (index, slot) = Slot::of(slot);
                let taken = self.model.services[index].take().is_some();
                self.change(Change::RemoveService(slot.key()), taken)?;
            }
            Event::AddDest { slot, server, method, weight, upper } => {
                let ((index, slot), server) = (Slot::of(slot), server % SERVERS);
                let spec = destination_spec(&slot, server, method, weight, upper);
                let taken =
                    self.model.services[index].is_some() && self.model.destination(index, server).is_none();
                if let Some(service) = self.model.services[index].as_mut().filter(|_| taken) {
                    service.destinations.insert(0, spec);
                }
                self.change(Change::AddDestination(slot.key(), spec), taken)?;
            }
            Event::EditDest { slot, server, method, weight, upper } => {
                let ((index, slot), server) = (Slot::of(slot), server % SERVERS);
                let spec = destination_spec(&slot, server, method, weight, upper);
                let known = self.model.services[index].as_mut();
                let known = known.and_then(|it| it.destinations.iter_mut().find(|it| it.addr == spec.addr));
                let taken = known.map(|known| *known = spec).is_some();
                self.change(Change::EditDestination(slot.key(), spec), taken)?;
            }
            Event::RemoveDest { slot, server } => {
                let ((index, slot), server) = (Slot::of(slot), server % SERVERS);
                let addr = slot.destination(server);
                let taken = self.model.destination(index, server).is_some();
                if let Some(service) = &mut self.model.services[index] {
                    service.destinations.retain(|it| it.addr != addr);
                }
                self.change(Change::RemoveDestination(slot.key(), addr), taken)?;
            }
            Event::Options { nodest, quiescent, reuse, drop_entry, secure, compat } => {
                self.model.options = Options {
                    expire_nodest_conn: nodest != 0,
                    expire_quiescent_template: quiescent != 0,
                    conn_reuse_mode: u8::try_from(reuse % 4).expect("below 4"),
                    drop_entry: u8::try_from(drop_entry % 4).expect("below 4"),
                    secure_tcp: u8::try_from(secure % 4).expect("below 4"),
                    compat_ipvs: compat != 0,
                    ..Options::default()
                };
                self.model.was_compat |= compat != 0;
                self.change(Change::SetOptions(self.model.options), true)?;
            }
            Event::Timeouts { tcp, fin, udp } => {
                let secs = |secs: u32| Duration::from_secs(secs.max(1).into());
                self.model.before.push(self.model.timeouts);
                self.model.timeouts = Timeouts { tcp: secs(tcp), tcp_fin: secs(fin), udp: secs(udp) };
                self.tracks.new_timeouts(&self.model);
                self.change(Change::SetTimeouts(self.model.timeouts), true)?;
            }
            Event::Mtu { side, bytes } => {
                self.model.mtu[side as usize] = bytes.clamp(1280, 9000);
                self.set_network()?;
            }
            Event::Reload {} => self.set_network()?,
            Event::Zero {} => self.change(Change::ZeroCounters(None), true)?,
            Event::Scheduler { trap } => self.schedulers.trap(trap),
            Event::Remac { server, announce } => self.remac(server % SERVERS, announce != 0),
            Event::Mute { server, on } => self.hosts.mute(server % SERVERS, on != 0),
            Event::Strangers { side, first, count } => self.strangers(side, first, count),
            _ => self.cache_event(event),
        }
        self.check_listing()
    }

    fn cache_event(&mut self, event: &Event) {
        let Some(cache) = &self.cache else { return };
        match *event {
            Event::CacheLimit { flows } => cache.set_limit(flows as usize),
            Event::CacheFault { fault } => cache.set_fault(fault),
            Event::CacheForget {} => {
                cache.forget();
                self.tracks.forget_packets();
            }
            Event::LinksMoved {} => self.director.links_moved(),
            _ => unreachable!("all other events are somebody else's"),
        }
    }

    fn set_network(&mut self) -> Outcome {
        let (interfaces, routes) = plan::network(self.model.mtu);
        self.change(Change::SetNetwork { interfaces, routes }, true)
    }

    /// Applies a change, which is taken or refused as it should be.
    fn change(&mut self, change: Change, taken: bool) -> Outcome {
        let text = format!("{change:?}");
        let outcome: Result<(), ApplyError> = self.director.apply(change, self.now);
        if outcome.is_ok() == taken {
            return Ok(());
        }
        self.violates(Kind::Refused, || match outcome {
            Ok(()) => format!("{text} was taken"),
            Err(error) => format!("{text} was refused: {error}"),
        })
    }

    /// The director lists what it was told.
    fn check_listing(&mut self) -> Outcome {
        let services = self.director.services();
        let wanted = SLOTS.iter().zip(&self.model.services);
        let mut wanted: Vec<_> =
            wanted.filter_map(|(slot, service)| Some((slot, service.as_ref()?))).collect();
        wanted.sort_by_key(|(slot, _)| slot.key());
        let same = services.len() == wanted.len()
            && services.iter().zip(&wanted).all(|(view, (slot, service))| {
                view.spec == service_spec(slot, service.policy, service.persist)
                    && view.destinations.iter().map(|it| it.spec).eq(service.destinations.iter().copied())
            });
        if same {
            return Ok(());
        }
        let listed: Vec<(String, Vec<SocketAddr>)> = services
            .iter()
            .map(|it| (it.spec.key.to_string(), it.destinations.iter().map(|it| it.spec.addr).collect()))
            .collect();
        self.violates(Kind::Listing, || format!("{listed:?}"))
    }

    /// A server is given another MAC address.
    fn remac(&mut self, server: u32, announce: bool) {
        let mac = MacAddr(self.hosts.remac(server));
        if announce {
            self.announce(server, mac);
        }
    }

    /// Strangers ask for a VIP.
    fn strangers(&mut self, side: Side, first: u32, count: u32) {
        for number in (first..).take(count.min(64) as usize) {
            self.ask(side, number);
        }
    }
}
