//! One instance on trial: it is called as the director calls it, and each answer is looked at.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_director::scheduler::{Candidate, Event, Flow, Load, Response, Scheduler};
use uvs_director::spec::Protocol;
use uvs_director::{Duration, Instant};
use uvs_plugin::Plugin;

use super::Context;
use crate::service::{Random, destination, flow};
use crate::subject;

/// A rule that does not hold: what happened, and the case that shows it.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) how: Vec<String>,
}

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), how: Vec::new() }
    }
}

/// An instance, its destinations, and what it does not know of them yet.
pub(super) struct Trial {
    pub(super) plugin: Plugin,
    pub(super) set: Vec<Candidate>,
    pub(super) now: Instant,
    pub(super) picks: u64,
    /// Picks that were refused though a destination was eligible.
    pub(super) refused: u64,
    updates: u64,
    next_id: u32,
    changed: Vec<(u32, Load)>,
}

impl Trial {
    pub(super) fn new(context: &Context<'_>, seed: u64) -> Result<Self, Broken> {
        let plugin = subject::start(context.module, context.options, seed)
            .map_err(|error| Broken::new(format!("it {error}")))?;
        Ok(Self {
            plugin,
            set: Vec::new(),
            now: Instant::from_secs(1),
            picks: 0,
            refused: 0,
            updates: 0,
            next_id: 0,
            changed: Vec::new(),
        })
    }

    /// With this many destinations of weights 1, 2, 3, 1, ...
    pub(super) fn with(context: &Context<'_>, seed: u64, count: u32) -> Result<Self, Broken> {
        let mut trial = Self::new(context, seed)?;
        trial.set = (0..count).map(|id| destination(id, 1 + id % 3)).collect();
        trial.next_id = count;
        trial.update()?;
        Ok(trial)
    }

    /// Another instance that takes over where this one stands, its random numbers included; false: it could not use
    /// the state.
    pub(super) fn successor(&mut self, context: &Context<'_>) -> Result<(Self, bool), Broken> {
        let state = self.save()?;
        let seed = self.plugin.random_state().unwrap_or_default();
        let mut next = Self::new(context, seed)?;
        (next.set, next.now, next.next_id) = (self.set.clone(), self.now, self.next_id);
        next.update()?;
        let used = next.restore(&state)?;
        Ok((next, used))
    }

    pub(super) fn save(&mut self) -> Result<Vec<u8>, Broken> {
        let state = self.plugin.save();
        self.judge("save")?;
        state.ok_or_else(|| self.broken("save: no instance lives"))
    }

    pub(super) fn restore(&mut self, state: &[u8]) -> Result<bool, Broken> {
        let used = self.plugin.restore(state);
        self.judge("restore").map_err(|mut broken| {
            let shown: String = state.iter().take(48).map(|byte| format!("{byte:02x}")).collect();
            let more = if state.len() > 48 { "..." } else { "" };
            broken.how.push(format!("the state it was given, {} bytes: {shown}{more}", state.len()));
            broken
        })?;
        Ok(used)
    }

    /// Passes the set as it is now.
    pub(super) fn update(&mut self) -> Result<(), Broken> {
        self.updates += 1;
        self.changed.clear();
        self.plugin.update(&self.set);
        self.judge("update")
    }

    /// Changes the load of a destination; the next pick tells.
    pub(super) fn load(&mut self, position: u32, load: Load) {
        self.set[position as usize].load = load;
        self.changed.retain(|&(known, _)| known != position);
        self.changed.push((position, load));
    }

    pub(super) fn pick(&mut self, flow: &Flow) -> Result<Option<u32>, Broken> {
        self.picks += 1;
        let pick = self.plugin.schedule(flow, &self.changed, self.now);
        if self.plugin.stats().snapshot().failures_total() > 0 {
            return Err(self.judge("schedule").map_or_else(
                |mut broken| {
                    broken.how.push(format!("pick {}: {}", self.picks, tell_flow(flow, self.now)));
                    broken.how.push(format!("changed: {}", tell_changes(&self.changed)));
                    broken
                },
                |()| self.broken("a pick failed"),
            ));
        }
        self.changed.clear();
        if pick.is_none() && self.eligible() > 0 {
            self.refused += 1;
        }
        Ok(pick)
    }

    pub(super) fn eligible(&self) -> usize {
        self.set.iter().filter(|candidate| candidate.weight > 0 && !candidate.load.unavailable).count()
    }

    /// A step of a random life: mostly a pick, at times a change of the set. The pick, if it was one.
    pub(super) fn step(&mut self, random: &mut Random) -> Result<Option<Option<u32>>, Broken> {
        let kind = random.below(24);
        if self.change(kind, random)? { Ok(None) } else { self.busy_pick(random).map(Some) }
    }

    /// A change of the set of one of five kinds, if it is possible now; otherwise, and beyond the kinds, nothing
    /// happens.
    pub(super) fn change(&mut self, kind: u32, random: &mut Random) -> Result<bool, Broken> {
        let len = self.count();
        match kind {
            0 => {
                let new = destination(self.next_id, weight(random));
                self.set.insert(0, new);
                self.next_id += 1;
            }
            1 if len > 1 => {
                self.set.remove(random.below(len) as usize);
            }
            2 if len > 0 => self.set[random.below(len) as usize].weight = weight(random),
            3 if len > 1 => {
                let (a, b) = (random.below(len) as usize, random.below(len) as usize);
                self.set.swap(a, b);
            }
            4 if len > 40 => self.set.clear(),
            _ => return Ok(false),
        }
        self.update()?;
        Ok(true)
    }

    /// A pick after loads have changed and time has passed.
    pub(super) fn busy_pick(&mut self, random: &mut Random) -> Result<Option<u32>, Broken> {
        for position in 0..self.count() {
            if random.below(4) == 0 {
                self.load(position, load(random));
            }
        }
        if self.plugin.wants_feedback() && random.below(2) == 0 {
            let events = random.below(4);
            self.hear(random, events)?;
        }
        let pause = if random.below(60) == 0 { random.below(90_000_000) } else { random.below(5) };
        self.now = self.now + Duration::from_millis(pause.into());
        let flow = any_flow(random);
        self.pick(&flow)
    }

    /// Tells so many events of destinations that are there.
    pub(super) fn hear(&mut self, random: &mut Random, events: u32) -> Result<(), Broken> {
        let count = self.count();
        if count == 0 || events == 0 {
            return Ok(());
        }
        let event = |random: &mut Random| Event {
            position: random.below(count),
            response: [Response::Answered, Response::Refused, Response::Unanswered]
                [(random.below(8) / 3) as usize],
            elapsed: {
                let bits = 1 + random.below(31);
                Duration::from_micros(u64::from(random.below(1 << bits)))
            },
        };
        let events: Vec<Event> = (0..events).map(|_| event(random)).collect();
        self.plugin.observe(&events, self.now);
        self.judge("observe")
    }

    fn count(&self) -> u32 {
        u32::try_from(self.set.len()).expect("sets of a test are small")
    }

    /// Whether all went well in the last call.
    fn judge(&self, call: &str) -> Result<(), Broken> {
        if self.plugin.stats().snapshot().failures_total() == 0 {
            return Ok(());
        }
        let what = self.plugin.stats().last_failure().map_or_else(
            || format!("it failed in {call}"),
            |failure| format!("{} in {}: {}", failure.cause, failure.call, failure.message),
        );
        Err(self.broken(&what))
    }

    pub(super) fn broken(&self, what: &str) -> Broken {
        let how =
            vec![format!("after {} updates and {} picks, {}", self.updates, self.picks, tell_set(&self.set))];
        Broken { what: what.to_owned(), how }
    }
}

fn tell_set(set: &[Candidate]) -> String {
    const SHOWN: usize = 12;
    let one = |candidate: &Candidate| {
        format!(
            "{}:{} weight {}{}",
            candidate.address,
            candidate.port,
            candidate.weight,
            tell_load(candidate.load)
        )
    };
    let shown: Vec<_> = set.iter().take(SHOWN).map(one).collect();
    let more = if set.len() > SHOWN { format!("; and {} more", set.len() - SHOWN) } else { String::new() };
    format!("{} destinations: {}{more}", set.len(), shown.join("; "))
}

fn tell_load(load: Load) -> String {
    let mut text = String::new();
    if load.active > 0 {
        text += &format!(" active {}", load.active);
    }
    if load.inactive > 0 {
        text += &format!(" inactive {}", load.inactive);
    }
    if load.unavailable {
        text += " unavailable";
    }
    text
}

fn tell_changes(changed: &[(u32, Load)]) -> String {
    const SHOWN: usize = 12;
    if changed.is_empty() {
        return "nothing".to_owned();
    }
    let one = |&(position, load): &(u32, Load)| {
        let load = tell_load(load);
        format!("{position}:{}", if load.is_empty() { " idle" } else { &load })
    };
    let more = if changed.len() > SHOWN { ", ..." } else { "" };
    changed.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ") + more
}

fn tell_flow(flow: &Flow, now: Instant) -> String {
    format!(
        "{:?} {} port {} > {} port {}, mark {}, at {} ms",
        flow.protocol,
        flow.client,
        flow.client_port,
        flow.virtual_addr,
        flow.virtual_port,
        flow.mark,
        now.as_millis()
    )
    .to_lowercase()
}

fn weight(random: &mut Random) -> u32 {
    match random.below(10) {
        0 | 1 => 0,
        2 => i32::MAX.unsigned_abs(),
        _ => 1 + random.below(6),
    }
}

fn load(random: &mut Random) -> Load {
    match random.below(8) {
        0 => Load::default(),
        1 => Load { active: 3, inactive: 1, unavailable: true },
        2 => Load { active: u32::MAX, inactive: u32::MAX, unavailable: false },
        _ => Load { active: random.below(6), inactive: random.below(700), unavailable: false },
    }
}

/// Of any kind that a director meets.
pub(super) fn any_flow(random: &mut Random) -> Flow {
    let v6 = random.below(3) == 0;
    let mut address = |network: u16, hosts: u32| -> IpAddr {
        let host = random.below(hosts);
        if v6 {
            Ipv6Addr::from_bits(u128::from(network) << 112 | u128::from(host) << 32 | 1).into()
        } else {
            Ipv4Addr::from_bits(u32::from(network) << 16 | host).into()
        }
    };
    let (client, virtual_addr) = (address(0x2c44, 300), address(0x2c0a, 20));
    Flow {
        protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][random.below(3) as usize],
        client,
        client_port: (random.next() >> 48).try_into().expect("16 bits are left"),
        virtual_addr,
        virtual_port: 443,
        mark: if random.below(4) == 0 { random.below(3) } else { 0 },
    }
}

/// TCP by the `n`th client there ever was.
pub(super) fn new_client(n: u32) -> Flow {
    // Half of them ask for an address of their own, as in a service by firewall mark.
    let asked = if n.is_multiple_of(2) { 0xc000_020a } else { 0xcb00_0000 + n % 65_536 };
    Flow {
        virtual_addr: Ipv4Addr::from_bits(asked).into(),
        ..flow(n, u16::try_from(1024 + n % 60_000).expect("it is a port"))
    }
}
