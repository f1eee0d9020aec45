//! Lets new destinations warm up.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Destination, Destinations, Feedback, Flow, Host, Scheduler, refuse_option, words};

/// What a saved state starts with.
const MAGIC: &[u8] = b"slow1";

/// What a destination starts with, in percent of its weight, unless options say otherwise.
const FLOOR: u64 = 10;

/// Weights are raised in steps of so many percent: each step is an update of the policy inside.
const STEP: u64 = 5;

/// The largest weight ([`Destination::weight`]).
const WEIGHT_MAX: u64 = (1 << 31) - 1;

/// A policy whose destinations start with a part of their weight: those that are added to a service which is at work,
/// and those that come back from weight 0, whose caches are cold and whose pools are empty.
///
/// From `slow-start-floor` percent the weight grows evenly to all of it within `slow-start` seconds. The policy inside
/// sees weights a hundred times as large as the configured ones (as far as they stay below 2^31), so it should be one
/// in which proportions count and not sizes. The destinations that a service starts with, all those that come before
/// its first connection, are warm.
///
/// Options: `slow-start=SECONDS` (1 to 86400; without it nobody warms up and nothing is spent on it) and
/// `slow-start-floor=PERCENT` (1 to 100, 10 at first). All others go to the policy inside. To be made from a policy in
/// two lines:
///
/// ```
/// # use uvs_sdk::{Destinations, Flow, Host, Scheduler, SlowStart};
/// # struct Mine;
/// # impl Scheduler for Mine {
/// #     fn init(_: &str, _: &str) -> Result<Self, String> { Ok(Self) }
/// #     fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
/// #         table.iter().find(|(_, d)| d.is_eligible()).map(|(position, _)| position)
/// #     }
/// # }
/// type Warm = SlowStart<Mine>;
/// uvs_sdk::export!(Warm);
/// ```
#[derive(Debug)]
pub struct SlowStart<S> {
    inner: S,
    /// 0: nobody warms up.
    window_ms: u64,
    floor: u64,
    /// The set as `inner` sees it.
    table: Destinations,
    /// What is known about each destination, in list order.
    known: Vec<Known>,
    /// A pick was made: who comes from now on comes cold.
    serving: bool,
    /// The clock at the last pick, and whether the set changed since.
    now_ms: u64,
    changed: bool,
    /// The next moment a weight grows.
    next_ms: u64,
    /// Whether `inner` knows the loads of its table.
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: u32,
    /// The configured weight.
    weight: u32,
    /// When it began to warm up; `None`: it is warm.
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    /// So many milliseconds before the next pick, which tells the time.
    Ago(u64),
    Moment(u64),
}

impl<S: Scheduler> Scheduler for SlowStart<S> {
    const OBSERVES: bool = S::OBSERVES;

    fn init(service: &str, options: &str) -> Result<Self, String> {
        let takes = "slow-start=1 to slow-start=86400 (seconds) and slow-start-floor=1 to slow-start-floor=100 (percent)";
        let (mut window, mut floor) = (0, FLOOR);
        let mut rest = String::new();
        for (key, value) in words(options) {
            match (key, value.map(str::parse)) {
                ("slow-start", Some(Ok(seconds @ 1..=86_400))) => window = seconds,
                ("slow-start-floor", Some(Ok(percent @ 1..=100))) => floor = percent,
                ("slow-start" | "slow-start-floor", _) => {
                    return Err(refuse_option("slow start", key, value, takes));
                }
                _ => {
                    let comma = if rest.is_empty() { "" } else { "," };
                    let (sign, value) = value.map_or(("", ""), |value| ("=", value));
                    for part in [comma, key, sign, value] {
                        rest.push_str(part);
                    }
                }
            }
        }
        Ok(Self {
            inner: S::init(service, &rest)?,
            window_ms: window * 1000,
            floor,
            table: Destinations::default(),
            known: Vec::new(),
            serving: false,
            now_ms: 0,
            changed: false,
            next_ms: u64::MAX,
            told: false,
        })
    }

    fn update(&mut self, table: &Destinations) {
        if self.window_ms == 0 {
            self.inner.update(table);
            return;
        }
        let before = core::mem::take(&mut self.known);
        let mut sorted: Vec<Known> = before;
        sorted.sort_unstable_by_key(|known| known.id);
        self.known.extend(table.iter().map(|(_, destination)| {
            let was =
                sorted.binary_search_by_key(&destination.id, |known| known.id).ok().map(|at| sorted[at]);
            let cold = destination.weight > 0 && was.is_none_or(|was| was.weight == 0);
            let since =
                if cold { self.serving.then_some(Since::Ago(0)) } else { was.and_then(|was| was.since) };
            Known { id: destination.id, weight: destination.weight, since }
        }));
        self.changed = true;
        self.weigh(table);
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        if self.window_ms == 0 {
            return self.inner.schedule(flow, table, host);
        }
        self.serving = true;
        // The time is asked for only while somebody warms up.
        if self.changed || self.next_ms != u64::MAX {
            self.now_ms = self.now_ms.max(host.now_ms());
            for known in &mut self.known {
                if let Some(Since::Ago(elapsed)) = known.since {
                    known.since = Some(Since::Moment(self.now_ms.saturating_sub(elapsed)));
                }
            }
            if core::mem::take(&mut self.changed) || self.now_ms >= self.next_ms {
                self.weigh(table);
            }
        }
        // Right after an update the policy inside has heard of no load.
        let all = !core::mem::replace(&mut self.told, true);
        self.table.copy_loads(table, all);
        self.inner.schedule(flow, &self.table, host)
    }

    fn observe(&mut self, events: Feedback<'_>, table: &Destinations, host: &mut dyn Host) {
        let table = if self.window_ms == 0 { table } else { &self.table };
        self.inner.observe(events, table, host);
    }

    fn save(&self) -> Vec<u8> {
        if self.window_ms == 0 {
            return self.inner.save();
        }
        let warming: Vec<(u32, u64)> = self
            .known
            .iter()
            .filter_map(|known| match known.since? {
                Since::Ago(elapsed) => Some((known.id, elapsed)),
                Since::Moment(since) => Some((known.id, self.now_ms - since)),
            })
            .collect();
        let mut state = MAGIC.to_vec();
        state.push(u8::from(self.serving));
        state.extend(u32::try_from(warming.len()).unwrap_or(0).to_le_bytes());
        for (id, elapsed) in warming {
            state.extend(id.to_le_bytes());
            state.extend(elapsed.to_le_bytes());
        }
        state.extend(self.inner.save());
        state
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        // Of the policy without slow start, or with it.
        let Some(rest) = state.strip_prefix(MAGIC) else { return self.inner.restore(state) };
        let Some((&[serving, a, b, c, d], rest)) = rest.split_first_chunk() else { return false };
        let count = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((warming, inner)) = count.checked_mul(12).and_then(|len| rest.split_at_checked(len)) else {
            return false;
        };
        if !self.inner.restore(inner) && !inner.is_empty() {
            return false;
        }
        if self.window_ms > 0 {
            self.serving = serving != 0;
            for &[a, b, c, d, elapsed @ ..] in warming.as_chunks::<12>().0 {
                let id = u32::from_le_bytes([a, b, c, d]);
                if let Some(known) = self.known.iter_mut().find(|known| known.id == id) {
                    known.since = Some(Since::Ago(u64::from_le_bytes(elapsed)));
                }
            }
            self.changed = true;
        }
        true
    }
}

impl<S: Scheduler> SlowStart<S> {
    /// Tells the policy inside what everybody weighs now.
    fn weigh(&mut self, table: &Destinations) {
        self.next_ms = u64::MAX;
        let largest = self.known.iter().map(|known| u64::from(known.weight)).max().unwrap_or(0);
        let whole = if largest * 100 <= WEIGHT_MAX { 100 } else { 1 };
        let (now, window, floor) = (self.now_ms, self.window_ms, self.floor);
        let mut next = u64::MAX;
        let weights = self.known.iter_mut().map(|known| {
            let percent = match known.since {
                None => 100,
                Some(Since::Ago(_)) => floor,
                Some(Since::Moment(since)) => {
                    let grown = floor + (100 - floor) * now.saturating_sub(since).min(window) / window;
                    if grown >= 100 {
                        known.since = None;
                        100
                    } else {
                        let goal = (grown / STEP + 1) * STEP;
                        let wait = ((goal.min(100) - floor) * window).div_ceil(100 - floor);
                        next = next.min(since + wait);
                        grown
                    }
                }
            };
            scaled(known.weight, percent, whole)
        });
        let destinations: Vec<Destination> = table
            .iter()
            .zip(weights)
            .map(|((_, destination), weight)| Destination { weight, ..*destination })
            .collect();
        self.next_ms = next;
        self.table.replace(destinations.into_iter());
        self.told = false;
        self.inner.update(&self.table);
    }
}

/// `percent` of a weight, in hundredths of the configured one when `whole` is 100; what has weight keeps some.
fn scaled(weight: u32, percent: u64, whole: u64) -> u32 {
    let scaled = u64::from(weight) * percent * whole / 100;
    let least = u64::from(weight > 0);
    u32::try_from(scaled.max(least)).unwrap_or(u32::MAX)
}
