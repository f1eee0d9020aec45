//! The weight of a destination: what each writer last said, and what comes of it.
//!
//! ```text
//!   base  = adm, or else file           operator in place of both
//!   base  > agent (a share of it, or in its place), script (in its place): the lowest of what they say
//!         > slow start (a share, at least 1) > health (0 when out of service) > administrative state (0)
//! ```
//! Nothing is ever added up: whoever takes back what he said leaves no trace of it.

use core::fmt;

use uvs_director::Instant;

/// Something that was set, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<T> {
    /// What.
    pub value: T,
    /// When.
    pub at: Instant,
}

/// Who sets weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// The configuration.
    File,
    /// `uvs adm`.
    Adm,
    /// `uvs` on behalf of a person.
    Operator,
    /// The answer of an agent check.
    Agent,
    /// A program or file whose result is a weight.
    Script,
    /// The time since a recovery.
    SlowStart,
    /// Checks, quorum and damping.
    Health,
    /// The administrative state.
    Admin,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Adm => "adm",
            Self::Operator => "operator",
            Self::Agent => "agent",
            Self::Script => "script",
            Self::SlowStart => "slow start",
            Self::Health => "health",
            Self::Admin => "administrative state",
        })
    }
}

/// A weight that is absolute or a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// In place of the base.
    Weight(u32),
    /// Of the base, in per cent; may be more than 100. Of a base above 0 it is at least 1, unless it is 0 %.
    Percent(u32),
}

impl Share {
    /// What it makes of a base.
    pub(crate) fn of(self, base: u32) -> u32 {
        match self {
            Self::Weight(weight) => weight,
            Self::Percent(percent) => share(base, percent),
        }
    }
}

fn share(base: u32, percent: u32) -> u32 {
    if base == 0 || percent == 0 {
        return 0;
    }
    let exact = u64::from(base) * u64::from(percent) / 100;
    u32::try_from(exact).unwrap_or(u32::MAX).max(1)
}

/// What people want of a destination, whatever its health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admin {
    /// It serves.
    #[default]
    Ready,
    /// It gets no new connections.
    Drain,
    /// It gets nothing, and is not checked.
    Maint,
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        })
    }
}

/// One slot for each writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The configuration's; `None` of a destination that is not in it.
    pub file: Option<Set<u32>>,
    /// That of `uvs adm`.
    pub adm: Option<Set<u32>>,
    /// A person's.
    pub operator: Option<Set<u32>>,
    /// The agent's.
    pub agent: Option<Set<Share>>,
    /// The lowest that programs and files say.
    pub script: Option<Set<Share>>,
    /// How far a slow start has come, in per cent.
    pub slow_start: Option<Set<u32>>,
    /// Whether it is in service as far as checks, quorum and damping go.
    pub health: Set<bool>,
    /// What people, or the configuration, want.
    pub admin: Set<Admin>,
    /// What the agent wants; the stricter of both counts.
    pub agent_admin: Option<Set<Admin>>,
}

impl Slots {
    /// Of a destination in service with the weight of the configuration.
    pub const fn new(weight: u32, at: Instant) -> Self {
        Self {
            file: Some(Set { value: weight, at }),
            adm: None,
            operator: None,
            agent: None,
            script: None,
            slow_start: None,
            health: Set { value: true, at },
            admin: Set { value: Admin::Ready, at },
            agent_admin: None,
        }
    }

    /// What it weighs, and who had the last word on it.
    pub fn effective(&self) -> (u32, Writer) {
        if self.admin() != Admin::Ready {
            return (0, Writer::Admin);
        }
        if !self.health.value {
            return (0, Writer::Health);
        }
        let (wanted, writer) = self.wanted();
        match self.slow_start {
            Some(percent) if wanted > 0 && percent.value < 100 => {
                (share(wanted, percent.value.max(1)), Writer::SlowStart)
            }
            _ => (wanted, writer),
        }
    }

    /// What it weighs when it is in service and at its full size; quorums count this.
    pub fn wanted(&self) -> (u32, Writer) {
        let base = match (self.operator, self.adm) {
            (Some(set), _) => (set.value, Writer::Operator),
            (None, Some(set)) => (set.value, Writer::Adm),
            (None, None) => (self.file.map_or(0, |set| set.value), Writer::File),
        };
        // Who quiesced it wants it to have nothing, whatever a server says of itself.
        if base.0 == 0 {
            return base;
        }
        let agent = self.agent.map(|set| (set.value.of(base.0), Writer::Agent));
        let script = self.script.map(|set| (set.value.of(base.0), Writer::Script));
        agent.into_iter().chain(script).min_by_key(|(weight, _)| *weight).unwrap_or(base)
    }

    /// The administrative state: the stricter of what people and the agent want.
    pub fn admin(&self) -> Admin {
        let agent = self.agent_admin.map_or(Admin::Ready, |set| set.value);
        match (self.admin.value, agent) {
            (Admin::Maint, _) | (_, Admin::Maint) => Admin::Maint,
            (Admin::Drain, _) | (_, Admin::Drain) => Admin::Drain,
            (Admin::Ready, Admin::Ready) => Admin::Ready,
        }
    }
}

/// Notes `value` in a slot, with the moment where it is news.
pub(crate) fn put<T: PartialEq>(slot: &mut Option<Set<T>>, value: Option<T>, at: Instant) {
    match value {
        Some(value) if slot.as_ref().is_none_or(|set| set.value != value) => {
            *slot = Some(Set { value, at });
        }
        Some(_) => {}
        None => *slot = None,
    }
}

/// The same for a slot that is never empty. Says whether it was news.
pub(crate) fn replace<T: PartialEq>(slot: &mut Set<T>, value: T, at: Instant) -> bool {
    let news = slot.value != value;
    if news {
        *slot = Set { value, at };
    }
    news
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set<T>(value: T) -> Set<T> {
        Set { value, at: Instant::ZERO }
    }

    #[test]
    fn each_writer_has_its_say_and_its_place() {
        let plain = Slots::new(10, Instant::ZERO);
        let agent = |share| Slots { agent: Some(set(share)), ..plain };
        let cases = [
            (plain, (10, Writer::File)),
            (Slots { adm: Some(set(4)), ..plain }, (4, Writer::Adm)),
            (Slots { adm: Some(set(4)), operator: Some(set(7)), ..plain }, (7, Writer::Operator)),
            (agent(Share::Percent(50)), (5, Writer::Agent)),
            (agent(Share::Percent(3)), (1, Writer::Agent)),
            (agent(Share::Percent(0)), (0, Writer::Agent)),
            (agent(Share::Percent(250)), (25, Writer::Agent)),
            (agent(Share::Weight(30)), (30, Writer::Agent)),
            (Slots { script: Some(set(Share::Weight(3))), ..agent(Share::Weight(30)) }, (3, Writer::Script)),
            (Slots { slow_start: Some(set(10)), ..agent(Share::Percent(50)) }, (1, Writer::SlowStart)),
            (Slots { slow_start: Some(set(100)), ..plain }, (10, Writer::File)),
            (Slots { health: set(false), ..plain }, (0, Writer::Health)),
            (Slots { admin: set(Admin::Drain), ..plain }, (0, Writer::Admin)),
            (Slots { agent_admin: Some(set(Admin::Maint)), ..plain }, (0, Writer::Admin)),
            // 0 in the file is legal, and nobody makes something of it but who sets a base of his own.
            (Slots { file: Some(set(0)), ..agent(Share::Weight(30)) }, (0, Writer::File)),
            (Slots { file: Some(set(0)), adm: Some(set(2)), ..plain }, (2, Writer::Adm)),
        ];
        for (slots, effective) in cases {
            assert_eq!(slots.effective(), effective, "{slots:?}");
        }
    }

    proptest! {
        /// Whatever was said in between and taken back leaves nothing behind.
        #[test]
        fn what_is_taken_back_leaves_no_trace(
            file in 0_u32..=u32::MAX,
            said in prop::collection::vec((0_u32..1000, prop::bool::ANY), 0..50),
        ) {
            let mut slots = Slots::new(file, Instant::ZERO);
            let before = slots.effective();
            for (number, (value, percent)) in said.into_iter().enumerate() {
                let share = if percent { Share::Percent(value) } else { Share::Weight(value) };
                let at = Instant::from_secs(number as u64);
                put(&mut slots.agent, Some(share), at);
                put(&mut slots.script, Some(share), at);
                put(&mut slots.adm, Some(value), at);
                let (weight, _) = slots.effective();
                prop_assert!(weight <= value.max(share.of(value)));
            }
            put(&mut slots.agent, None, Instant::ZERO);
            put(&mut slots.script, None, Instant::ZERO);
            put(&mut slots.adm, None, Instant::ZERO);
            prop_assert_eq!(slots.effective(), before);
        }
    }
}
