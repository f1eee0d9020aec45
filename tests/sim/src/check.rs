//! What has to hold after every step.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use uvs_director::flow_cache::Act;
use uvs_director::spec::{Family, Forwarding, Protocol};
use uvs_director::view::{ConnectionProtocol, ConnectionView, ServiceView};
use uvs_director::{Director, Duration, Instant};
use uvs_wire::{Packet, tcp, udp};

use crate::control::Model;
use crate::ledger::Stamp;
use crate::packet;
use crate::plan::{self, SERVERS, SLOTS};
use crate::world::{Context, Kind, Outcome, World};

/// What the flow cache does not know more exactly, and what the wheel of timers adds.
const SLACK: Duration = Duration::from_millis(60);
/// A connection that was seen so lately is not abandoned.
const LIVELY: Duration = Duration::from_secs(60);
/// How often a full cache may be asked for one connection within a second.
const RETRIES_MAX: u32 = 16;

/// What names an entry of the table: protocol, client, what was asked for.
type Key = (u8, SocketAddr, SocketAddr);

/// An entry, as it was seen last.
#[derive(Clone, Copy, Debug)]
struct Track {
    destination: SocketAddr,
    forwarding: Forwarding,
    state: &'static str,
    expires_at: Instant,
    /// Grows with each entry: the newest has the highest.
    born: u64,
    /// When a packet of it left last, and how long it had from then on.
    last_packet: Instant,
    timeout: Duration,
    answered: Option<Instant>,
}

/// All entries, as they were seen last.
#[derive(Default)]
pub(crate) struct Tracks {
    entries: BTreeMap<Key, Track>,
    templates: BTreeMap<Key, SocketAddr>,
    /// How many they were, with templates.
    len: usize,
    births: u64,
    touched: Vec<(Key, bool)>,
}

impl Tracks {
    /// A packet of that entry has left. It counts from the next check on, which still asks how long there was none.
    pub(crate) fn touch(
        &mut self,
        protocol: u8,
        (client, virtual_addr): (SocketAddr, SocketAddr),
        is_reply: bool,
    ) {
        self.touched.push(((protocol, client, virtual_addr), is_reply));
    }

    fn settle_touched(&mut self, now: Instant, model: &Model) {
        for (key, is_reply) in std::mem::take(&mut self.touched) {
            let Some(track) = self.entries.get_mut(&key) else { continue };
            track.last_packet = now;
            track.timeout = if key.0 == udp::PROTOCOL { model.timeouts.udp } else { model.timeouts.tcp };
            if is_reply {
                track.answered = Some(now);
            }
        }
    }

    /// From the next packet on, which may be one that is not seen to leave, timeouts are others.
    pub(crate) fn new_timeouts(&mut self, model: &Model) {
        let least = model.timeouts.udp.min(model.timeouts.tcp);
        self.entries.values_mut().for_each(|track| track.timeout = track.timeout.min(least));
    }

    /// Nobody knows any more when the last packets passed.
    pub(crate) fn forget_packets(&mut self) {
        self.entries.values_mut().for_each(|track| track.timeout = Duration::ZERO);
    }

    fn template_of(&self, protocol: u8, client: IpAddr, virtual_addr: SocketAddr) -> Option<SocketAddr> {
        let client = SocketAddr::new(client, 0);
        let exact = self.templates.get(&(protocol, client, virtual_addr));
        let any = || self.templates.get(&(protocol, client, SocketAddr::new(virtual_addr.ip(), 0)));
        exact.or_else(any).copied()
    }
}

/// The slot that an entry belongs to.
fn slot_of(protocol: Option<Protocol>, virtual_addr: IpAddr) -> Option<usize> {
    let family = Family::of(virtual_addr);
    SLOTS.iter().position(|slot| match protocol {
        _ if slot.family != family => false,
        Some(protocol) => {
            plan::vip(slot.vip, family) == virtual_addr && (slot.marked || slot.protocol == protocol)
        }
        None => slot.marked,
    })
}

fn transport(view: &ConnectionView) -> Option<Protocol> {
    match view.protocol {
        ConnectionProtocol::Transport(protocol) => Some(protocol),
        ConnectionProtocol::Ip => None,
    }
}

fn number(view: &ConnectionView) -> u8 {
    transport(view).map_or(0, Protocol::number)
}

impl World {
    /// A reply is translated as the newest connection that it may belong to asks for.
    pub(crate) fn check_reply(&mut self, record: &Stamp, packet: &Packet, at_once: bool) -> Outcome {
        let Some(incarnation) = record.incarnation.map(|number| self.ledger.incarnation(number)) else {
            return Ok(());
        };
        let (from, to) = packet::ends(packet);
        if to != incarnation.client {
            let client = incarnation.client;
            return self
                .violates(Kind::WrongClient, || format!("a reply to {client} from {from} went to {to}"));
        }
        let entries = self.tracks.entries.iter().filter(|((protocol, client, _), track)| {
            (*protocol, *client) == (packet.protocol, to)
                && track.destination == record.ends.0
                && track.forwarding == Forwarding::Nat
        });
        let newest = entries
            .max_by_key(|(_, track)| track.born)
            .filter(|(_, track)| track.expires_at > self.now)
            .map(|((.., virtual_addr), _)| *virtual_addr);
        // One that waited for the client's MAC address was translated as things were before.
        if !at_once {
            return Ok(());
        }
        self.tracks.touch(packet.protocol, (to, from), true);
        let asked = incarnation.virtual_addr;
        let compat = self.model.options.compat_ipvs;
        // An older connection whose end and port a newer one has taken over gets no answers any more; they may be
        // taken for those of the newer one. The kernel translates nothing of a family that has no services.
        let is_known = newest == Some(asked) && (!compat || self.model.balances(asked.ip()));
        // What a destination of all ports says of itself looks like an answer, and so does, to it, what it said under
        // `compat`, where unknown answers pass.
        let slot = slot_of(Protocol::from_number(packet.protocol), asked.ip());
        let has_port = slot.is_some_and(|slot| SLOTS[slot].port != 0);
        // Datagrams between equal ports may be what servers ask each other.
        let is_equal = packet.protocol == Protocol::Udp.number() && from.port() == to.port();
        let leaks = from == record.ends.0 && has_port && !is_equal && !self.model.was_compat;
        if from != asked && (is_known || leaks) {
            return self
                .violates(Kind::WrongVip, || format!("{to} asked {asked}, the answer came from {from}"));
        }
        Ok(())
    }

    /// All that has to hold now.
    pub(crate) fn check(&mut self) -> Outcome {
        let context = std::mem::take(&mut self.context);
        // From the start on: with what has expired and is still there.
        let views = self.director.connections(Instant::ZERO);
        let services = self.director.services();
        self.check_entries(&views, context)?;
        self.check_loads(&views, &services)?;
        self.check_totals(&views)?;
        self.check_cache()
    }

    fn check_entries(&mut self, views: &[ConnectionView], context: Context) -> Outcome {
        let mut entries = BTreeMap::new();
        let mut templates = BTreeMap::new();
        for view in views {
            let key = (number(view), view.client, view.virtual_addr);
            if view.template {
                if view.expires_in > self.now.since(Instant::ZERO) {
                    templates.insert(key, view.destination);
                }
                continue;
            }
            let known = self.tracks.entries.get(&key).copied();
            let is_new = known.is_none_or(|known| {
                let begins = |state| matches!(state, "SYN_RECV" | "SYNACK" | "NONE" | "SYN_SENT");
                known.destination != view.destination || begins(view.state) && !begins(known.state)
            });
            self.tracks.births += u64::from(is_new);
            let first = Track {
                destination: view.destination,
                forwarding: view.forwarding,
                state: view.state,
                expires_at: Instant::ZERO,
                born: self.tracks.births,
                last_packet: self.now,
                timeout: Duration::ZERO,
                answered: None,
            };
            let track = Track {
                state: view.state,
                expires_at: Instant::ZERO + view.expires_in,
                ..known.filter(|_| !is_new).unwrap_or(first)
            };
            if known.is_none_or(|known| known.destination != view.destination) {
                self.check_placed(key, &track)?;
            }
            if entries.insert(key, track).is_some() {
                self.violates(Kind::Duplicate, || format!("two entries of {} to {}", key.1, key.2))?;
            }
        }
        // Up to a half of the table is kept for other services; a packet may bring a template and a connection.
        let was_full = self.tracks.len + 2 > self.setup.connections as usize / 2;
        self.tracks.len = views.len();
        let before = std::mem::replace(&mut self.tracks.entries, entries);
        for (key, was) in &before {
            let is = self.tracks.entries.get(key);
            if is.is_none_or(|is| is.destination != was.destination) && !self.idling {
                let is = is.map(|is| is.destination);
                self.check_ended(key, was, is, context, was_full)?;
            }
        }
        self.tracks.templates = templates;
        self.tracks.settle_touched(self.now, &self.model);
        Ok(())
    }

    /// A new connection goes where one may go.
    fn check_placed(&mut self, (protocol, client, virtual_addr): Key, track: &Track) -> Outcome {
        let Some(slot) = slot_of(Protocol::from_number(protocol), virtual_addr.ip()) else { return Ok(()) };
        let Some(server) = plan::server_of(track.destination.ip()) else { return Ok(()) };
        let weight = self.model.destination(slot, server).map(|spec| spec.weight);
        let keyed = if SLOTS[slot].marked { 0 } else { protocol };
        let stuck = if SLOTS[slot].marked {
            let is_it = |((of, from, _), _): &(&Key, &SocketAddr)| (*of, from.ip()) == (keyed, client.ip());
            self.tracks.templates.iter().find(is_it).map(|(_, destination)| *destination)
        } else {
            self.tracks.template_of(keyed, client.ip(), virtual_addr)
        };
        let stuck = stuck.filter(|_| self.model.is_persistent(slot));
        // A template of port 65535 may be one that is not used any more.
        if stuck.is_some() && SLOTS[slot].port == u16::MAX {
            return Ok(());
        }
        if let Some(to) = stuck.and_then(|stuck| plan::server_of(stuck.ip())) {
            let is_usable = self
                .model
                .destination(slot, to)
                .is_some_and(|spec| spec.weight > 0 || !self.model.options.expire_quiescent_template);
            if is_usable && to != server {
                return self.violates(Kind::Unstuck, || {
                    format!("{client} sticks to server {to} and was placed on {server}")
                });
            }
            if to == server && is_usable {
                return Ok(());
            }
        }
        match weight {
            Some(1..) => Ok(()),
            _ => self.violates(Kind::Placed, || {
                format!("{client} to {virtual_addr} went to {}, of weight {weight:?}", track.destination)
            }),
        }
    }

    /// An entry is gone, or goes to another destination: there has to be a reason.
    fn check_ended(
        &mut self,
        key: &Key,
        was: &Track,
        is: Option<SocketAddr>,
        context: Context,
        was_full: bool,
    ) -> Outcome {
        let now = self.now;
        let (protocol, client, virtual_addr) = *key;
        let silent = now.since(was.last_packet) + SLACK;
        let slot = slot_of(Protocol::from_number(protocol), virtual_addr.ip());
        let server = plan::server_of(was.destination.ip());
        let spec = slot.zip(server).and_then(|(slot, server)| self.model.destination(slot, server));
        let options = &self.model.options;
        let drained = spec.is_none_or(|spec| spec.weight == 0);
        let handled =
            context.handled.filter(|(of, ends, _)| *of == protocol && *ends == (client, virtual_addr));
        let starts = handled.is_some_and(|(of, _, flags)| of == udp::PROTOCOL || flags & tcp::SYN != 0);
        let is_open = matches!(was.state, "ESTABLISHED" | "UDP");
        // Its time was up, which packets that passed in the cache put off.
        let expired = was.expires_at <= now && (!is_open || was.timeout.is_zero() || silent >= was.timeout);
        let gone = spec.is_none() && (options.expire_nodest_conn || starts);
        let replaced = starts
            && (drained && (options.expire_nodest_conn || !options.compat_ipvs)
                || protocol == tcp::PROTOCOL && !is_open && !matches!(was.state, "SYN_RECV" | "SYN_SENT"));
        // A newer one that gets its answers has begun, and it was over.
        let entries = self.tracks.entries.range((protocol, client, SocketAddr::new([0; 4].into(), 0))..);
        let mut of_client = entries.take_while(|((of, from, _), _)| (*of, *from) == (protocol, client));
        let outlived =
            !is_open && of_client.any(|(_, it)| it.destination == was.destination && it.born > was.born);
        if expired || gone || replaced || outlived {
            return Ok(());
        }
        let is_silent = silent >= LIVELY;
        let was_seen = was.answered.is_some_and(|at| now.since(at) < LIVELY);
        if options.drop_entry != 0 && context.timers {
            if !is_open || is_silent {
                return Ok(());
            }
            return self.violates(Kind::LiveDropped, || {
                format!("{client} to {virtual_addr}, {}, silent for {silent:?}", was.state)
            });
        }
        if was_full && !(was.state == "ESTABLISHED" && was_seen) {
            return Ok(());
        }
        let kind = match is {
            _ if client.port() == 0 => Kind::Claimed,
            Some(_) => Kind::Moved,
            None => Kind::Ended,
        };
        self.violates(kind, || {
            format!(
                "{client} to {virtual_addr}, {} at {}, silent for {silent:?} of {:?}, due {:?} ago, now at {is:?}",
                was.state,
                was.destination,
                was.timeout,
                now.since(was.expires_at)
            )
        })
    }

    /// What destinations count is what the table holds.
    fn check_loads(&mut self, views: &[ConnectionView], services: &[ServiceView]) -> Outcome {
        let mut counts = [[[0u32; 3]; SERVERS as usize]; SLOTS.len()];
        for view in views {
            let protocol = transport(view);
            let slot = if protocol.is_none() {
                slot_of(None, plan::vip(4, Family::V4))
            } else {
                slot_of(protocol, view.virtual_addr.ip())
            };
            let server = plan::server_of(view.destination.ip());
            let Some((slot, server)) = slot.zip(server) else { continue };
            let which = if view.template { 2 } else { usize::from(!view.active) };
            counts[slot][server as usize][which] += 1;
        }
        for service in services {
            let Some(slot) = SLOTS.iter().position(|slot| slot.key() == service.spec.key) else { continue };
            for destination in &service.destinations {
                let Some(server) = plan::server_of(destination.spec.addr.ip()) else { continue };
                let held = counts[slot][server as usize];
                let said = [destination.active, destination.inactive, destination.persistent];
                if held != said {
                    let addr = destination.spec.addr;
                    self.violates(Kind::LoadHeld, || {
                        format!("{}: {addr} counts {said:?}, the table holds {held:?}", service.spec.key)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn check_totals(&mut self, views: &[ConnectionView]) -> Outcome {
        let status = self.director.status();
        let states: usize = status.connections_by_state.iter().map(|(.., count)| count).sum();
        let connections = views.iter().filter(|view| !view.template).count();
        if status.connections != views.len() || states != connections {
            let counted = (status.connections, states);
            self.violates(Kind::Counters, || {
                format!(
                    "{counted:?} entries and connections are counted, {} and {connections} listed",
                    views.len()
                )
            })?;
        }
        for (protocol, state, count) in &status.connections_by_state {
            let is_it = |view: &&ConnectionView| {
                !view.template && transport(view) == Some(*protocol) && view.state == *state
            };
            let listed = views.iter().filter(is_it).count();
            if listed != *count {
                self.violates(Kind::Counters, || format!("{count} in {state} are counted, {listed} listed"))?;
            }
        }
        let limits = [("connections", views.len(), self.setup.connections as usize)];
        let neighbors = [("neighbours", status.neighbors, self.setup.neighbors as usize)];
        for (what, count, limit) in limits.into_iter().chain(neighbors) {
            if count > limit {
                self.violates(Kind::Limit, || format!("{count} {what}, {limit} at most"))?;
            }
        }
        Ok(())
    }

    /// Flows of the cache are those of connections.
    fn check_cache(&mut self) -> Outcome {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        for held in cache.held() {
            let (from, to) = held.ends;
            let (key, goes_to) = match held.act {
                Act::NewSource(addr, port) => {
                    ((held.protocol, to, SocketAddr::new(addr.to_ip(), port)), Some(from))
                }
                Act::NewDestination(addr, port) => {
                    ((held.protocol, from, to), Some(SocketAddr::new(addr.to_ip(), port)))
                }
                Act::AsIs | Act::Tunnel { .. } => ((held.protocol, from, to), None),
            };
            match self.tracks.entries.get(&key) {
                None => self.violates(Kind::Stale, || {
                    format!("{from} to {to} ({:?}): no connection {} to {}", held.act, key.1, key.2)
                })?,
                Some(track) if held.holds => {
                    let same = match goes_to {
                        Some(addr) => track.destination == addr,
                        None => track.destination.ip() == held.addr.to_ip(),
                    };
                    if !same {
                        let destination = track.destination;
                        self.violates(Kind::Elsewhere, || {
                            format!("{from} to {to} ({:?}), the connection goes to {destination}", held.act)
                        })?;
                    }
                }
                Some(_) => {}
            }
        }
        match cache.most_refused() {
            Some(refused) if refused.times > RETRIES_MAX => self.violates(Kind::Retried, || {
                let (from, to) = refused.ends;
                format!("{from} to {to}: {} times within a second, while nothing leaves", refused.times)
            }),
            _ => Ok(()),
        }
    }

    /// Everybody stops; once all timeouts are over nothing is left.
    pub(crate) fn idle(&mut self) -> Outcome {
        self.hosts.stop();
        self.air.iter_mut().for_each(|air| air.clear());
        self.settle()?;
        self.hosts.stop();
        let until = self.now + self.model.longest();
        self.idling = true;
        while self.now < until {
            self.advance(Duration::from_secs(10))?;
            self.settle()?;
            self.hosts.stop();
        }
        self.check()?;
        self.idling = false;
        self.model.forget_timeouts();
        let left = self.director.connections(Instant::ZERO);
        if let Some(view) = left.first() {
            return self.violates(Kind::Leak, || format!("{} entries, such as {view:?}", left.len()));
        }
        let bytes = self.director.table_bytes();
        if bytes > Director::TABLE_BYTES_WHEN_EMPTY {
            return self.violates(Kind::Leak, || format!("{bytes} bytes of a table without entries"));
        }
        let flows = self.cache.as_ref().map_or(0, |cache| cache.held().len());
        if flows > 0 {
            return self.violates(Kind::Leak, || format!("{flows} flows in the cache"));
        }
        Ok(())
    }
}
