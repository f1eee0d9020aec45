//! The state machine with what it needs of this director, and what it has it do.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::{error, warn};
use uvs_config::Vrrp as Wanted;
use uvs_director::{Director, Instant, Outbox, PortId};
use uvs_ha::plan::{Key, Plan, TrackPlan};
use uvs_ha::vrrp::{Command, CommandError, GroupView, Output, State, Vrrp};
use uvs_ha::wire::{Datagram, Refusal};

use super::frame;
use super::tell;
use crate::event_loop::DataPlane;
use crate::events::Events;

/// What is followed of the director itself.
pub(super) const DATA_PLANE: &str = "the data plane (a worker is stuck)";

/// So many advertisements are heard before what is due is done.
const HEARD_MAX: usize = 1024;

/// See the head of this file.
pub(super) struct Core {
    plane: Weak<DataPlane>,
    director: Arc<Director>,
    events: Arc<Events>,
    /// By port.
    interfaces: Vec<String>,
    vrrp: Vrrp,
    /// All virtual addresses.
    addresses: HashSet<IpAddr>,
    /// Those that each virtual router is Active for.
    owned: HashMap<Arc<str>, HashSet<IpAddr>>,
    /// What is known of what priorities may follow, also before there is anything to follow it.
    tracked: HashMap<String, bool>,
    /// Packets that are none of VRRP.
    malformed: u64,
    /// The IP id of the next packet.
    id: u16,
    out: Outbox,
    is_stopped: bool,
}

/// The time since the machine was started, sleep included: a director that was suspended has missed what was said.
fn now() -> Instant {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => Instant::ZERO + Duration::from(time),
        // No Linux is without it.
        Err(_) => Instant::ZERO,
    }
}

impl Core {
    pub(super) fn new(
        plane: Weak<DataPlane>,
        director: Arc<Director>,
        interfaces: &[String],
        events: Arc<Events>,
    ) -> Self {
        Self {
            plane,
            director,
            events,
            interfaces: interfaces.to_vec(),
            vrrp: Vrrp::new(now()),
            addresses: HashSet::new(),
            owned: HashMap::new(),
            tracked: HashMap::new(),
            malformed: 0,
            id: 0,
            out: Outbox::new(),
            is_stopped: false,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Withholds what comes with that, beside what is withheld now.
    pub(super) fn prepare(&mut self, wanted: &Wanted) {
        let active: HashSet<Key> = self
            .vrrp
            .view()
            .into_iter()
            .filter(|group| group.state == State::Active)
            .flat_map(|group| group.routers)
            .map(|router| router.key)
            .collect();
        let routers = wanted.plan.routers.iter().filter(|router| !active.contains(&router.key()));
        let coming = routers.flat_map(|router| router.addresses.iter().chain(&router.unadvertised)).copied();
        let owned: HashSet<IpAddr> = self.owned.values().flatten().copied().collect();
        let withheld = self.addresses.iter().copied().chain(coming).filter(|addr| !owned.contains(addr));
        self.withhold(withheld.collect());
    }

    /// Has what no virtual router is Active for withheld, and nothing else.
    pub(super) fn settle(&mut self) {
        let owned: HashSet<IpAddr> = self.owned.values().flatten().copied().collect();
        self.withhold(self.addresses.difference(&owned).copied().collect());
    }

    fn withhold(&self, addresses: HashSet<IpAddr>) {
        if let Err(why) = self.director.withhold(addresses) {
            error!("which virtual addresses this director answers for stays as it was: {why}");
        }
    }

    /// Has these virtual routers from now on.
    pub(super) fn follow(&mut self, wanted: &Wanted) {
        let mut plan: Plan = wanted.plan.clone();
        for router in &mut plan.routers {
            // Whoever does not get frames through is of no use, whatever else is well.
            router.track.push(TrackPlan::fault(DATA_PLANE));
        }
        let is_on = !plan.routers.is_empty();
        self.director.hear_advertisements(is_on);
        // What is no longer an address of VRRP is the director's own if a service has it, and nobody's else.
        self.addresses = wanted.addresses.iter().map(|(addr, _)| *addr).collect();
        let now = now();
        if let Err(wrong) = self.vrrp.apply(plan, now) {
            // It was checked when it was read.
            error!("virtual routers stay as they were: {wrong}");
        }
        for (name, up) in &self.tracked {
            self.vrrp.track(name, *up, now);
        }
        self.turn();
        self.settle();
        if is_on {
            self.join();
        }
    }

    /// Tells switches that advertisements are listened to.
    fn join(&mut self) {
        if let Some(plane) = self.plane.upgrade() {
            plane.join_advertisements(&mut self.out);
        }
    }

    /// Hears what has come, does what is due.
    pub(super) fn turn(&mut self) {
        let now = now();
        for _ in 0..HEARD_MAX {
            let Some((port, packet)) = self.director.receive_advertisement() else { break };
            let interface = self.interfaces.get(usize::from(port.0)).map_or("", String::as_str);
            // What is refused is counted there.
            match Datagram::of_packet(&packet) {
                Ok(datagram) => {
                    let _ = self.vrrp.receive(interface, &datagram, now);
                }
                Err(_) => self.malformed += 1,
            }
        }
        self.vrrp.tick(now);
        self.perform();
    }

    /// How long there is nothing to do; `None`: until somebody says so.
    pub(super) fn sleep(&self) -> Option<Duration> {
        self.vrrp.next_due().map(|at| at.since(now()))
    }

    /// Remembers the state of something that priorities may follow. Whether it is another.
    pub(super) fn track(&mut self, name: &str, up: bool) -> bool {
        if self.tracked.insert(name.to_owned(), up) == Some(up) {
            return false;
        }
        self.vrrp.track(name, up, now());
        self.perform();
        true
    }

    pub(super) fn command(&mut self, name: Option<&str>, command: Command) -> Result<(), CommandError> {
        self.turn();
        let done = match name {
            Some(name) => self.vrrp.command(name, command, now()),
            None => self.command_all(command),
        };
        self.perform();
        done
    }

    fn command_all(&mut self, command: Command) -> Result<(), CommandError> {
        let groups = self.vrrp.view();
        let is_meant = |group: &&GroupView| command != Command::Failover || group.state == State::Active;
        let mut meant = groups.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            let first = groups.first().ok_or(CommandError::Unknown(String::new()))?;
            return Err(CommandError::NotActive { name: Arc::clone(&first.name), state: first.state });
        }
        meant.try_for_each(|group| self.vrrp.command(&group.name, command, now()))
    }

    pub(super) fn view(&mut self) -> (Vec<GroupView>, Vec<(&'static str, u64)>) {
        if !self.is_stopped {
            self.turn();
        }
        let counts = self.vrrp.strays();
        let strays = Refusal::ALL.iter().filter_map(|why| Some((why.label(), *counts.get(why)?)));
        let malformed = (self.malformed > 0).then_some((Refusal::NotVrrp.label(), self.malformed));
        (self.vrrp.view(), strays.chain(malformed).collect())
    }

    pub(super) fn stop(&mut self) {
        self.vrrp.stop(now());
        self.perform();
        self.is_stopped = true;
        self.director.hear_advertisements(false);
        self.settle();
    }

    /// Does what the state machine wants, in its order.
    fn perform(&mut self) {
        for output in self.vrrp.take_outputs() {
            match output {
                Output::Send { interface, from, to, message, .. } => {
                    self.send(&interface, (from, to), &message);
                }
                Output::Own { router, addresses } => {
                    self.owned.entry(router).or_default().extend(addresses);
                    self.settle();
                }
                Output::Disown { router, addresses } => {
                    if let Some(owned) = self.owned.get_mut(&router) {
                        owned.retain(|addr| !addresses.contains(addr));
                        if owned.is_empty() {
                            self.owned.remove(&router);
                        }
                    }
                    self.settle();
                }
                Output::Announce { addresses, .. } => {
                    if let Some(plane) = self.plane.upgrade() {
                        plane.announce_some(&addresses, &mut self.out);
                    }
                }
                Output::Notify(notification) => self.events.tell(tell::notified(&notification)),
                Output::Event(event) => {
                    if let Some(event) = tell::happened(&event) {
                        self.events.tell(event);
                    }
                }
            }
        }
    }

    fn send(&mut self, interface: &str, (from, to): (IpAddr, IpAddr), message: &[u8]) {
        let port = self.interfaces.iter().position(|name| name == interface);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()).map(PortId) else { return };
        self.id = self.id.wrapping_add(1);
        let Some(mut packet) = frame::packet(self.id, from, to, message) else { return };
        let Some(plane) = self.plane.upgrade() else { return };
        if let Err(reason) = plane.send_advertisement(port, &mut packet, &mut self.out) {
            // It is counted, and the next one is due soon.
            warn!(interface, %to, "an advertisement was not sent: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uvs_config::Config;
    use uvs_director::scheduler::NativeOnly;
    use uvs_director::spec::Limits;

    use super::*;

    fn wanted(vrrp: &str) -> Wanted {
        let text = format!(
            "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n{vrrp}\n[[service]]\n\
             protocol = 'tcp'\naddress = '192.0.2.10:80'\nforward = 'dr'\ndestination = [{{ address = '192.0.2.21' }}]\n"
        );
        Config::parse(&text, "edge.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}")).vrrp
    }

    fn router(keys: &str) -> Wanted {
        wanted(&format!("[[vrrp]]\nname = 'web'\ninterface = 'uvs0'\nvrid = 51\n{keys}"))
    }

    fn core() -> Core {
        let director = Arc::new(Director::new(Limits::default(), 7, Arc::new(NativeOnly)));
        Core::new(Weak::new(), director, &["uvs0".to_owned()], Arc::default())
    }

    fn withheld(core: &Core) -> BTreeSet<String> {
        core.director.withheld().iter().map(ToString::to_string).collect()
    }

    fn are(addresses: &[&str]) -> BTreeSet<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_it_is_not_active_for_is_withheld_from_before_the_director_has_it() {
        let mut core = core();
        core.prepare(&router("addresses = ['192.0.2.10']"));
        assert_eq!(withheld(&core), are(&["192.0.2.10"]));
        core.follow(&router("addresses = ['192.0.2.10']"));
        assert_eq!(withheld(&core), are(&["192.0.2.10"]), "a backup");
        // An address more, and the reload does not come to pass.
        core.prepare(&router("addresses = ['192.0.2.10', '192.0.2.11']"));
        assert_eq!(withheld(&core), are(&["192.0.2.10", "192.0.2.11"]));
        core.settle();
        assert_eq!(withheld(&core), are(&["192.0.2.10"]));
        core.follow(&wanted(""));
        assert_eq!(withheld(&core), are(&[]), "it is the director's own as without VRRP");
    }

    #[test]
    fn an_address_more_of_one_that_is_active_is_never_withheld() {
        let mut core = core();
        let owner = "priority = 255\naddresses = ['192.0.2.10'";
        core.prepare(&router(&format!("{owner}]")));
        core.follow(&router(&format!("{owner}]")));
        assert_eq!(withheld(&core), are(&[]), "the owner of the addresses does not wait");
        core.prepare(&router(&format!("{owner}, '192.0.2.11']")));
        assert_eq!(withheld(&core), are(&[]));
        core.follow(&router(&format!("{owner}, '192.0.2.11']")));
        assert_eq!(withheld(&core), are(&[]));
        let counts = |core: &mut Core| core.view().0[0].routers[0].counters.clone();
        assert_eq!(counts(&mut core).takeovers, 1, "nothing was left and taken again");
        // What a worker that is stuck means, and commands.
        assert!(core.track(DATA_PLANE, false));
        assert_eq!(withheld(&core), are(&["192.0.2.10", "192.0.2.11"]));
        assert!(core.track(DATA_PLANE, true) && !core.track(DATA_PLANE, true));
        assert_eq!(withheld(&core), are(&[]));
        core.command(None, Command::Maintenance(true)).expect("it is there");
        assert_eq!(withheld(&core).len(), 2);
        core.command(Some("web"), Command::Maintenance(false)).expect("it is there");
        assert_eq!(withheld(&core), are(&[]));
        assert_eq!(core.command(Some("wep"), Command::Failover), Err(CommandError::Unknown("wep".into())));
        core.stop();
        assert_eq!(withheld(&core).len(), 2, "nobody answers while it ends");
        assert!(core.is_stopped());
    }

    #[test]
    fn programs_are_told_what_happens() {
        let mut core = core();
        core.follow(&router("priority = 255\naddresses = ['192.0.2.10']"));
        core.stop();
        let told = core.events.history(&uvs_control::event::Request::default()).events;
        let told: Vec<&str> = told.iter().map(|event| event.kind.name()).collect();
        assert_eq!(told, ["vrrp_master", "vrrp_stop"]);
    }
}
