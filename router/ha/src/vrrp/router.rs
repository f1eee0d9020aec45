//! One virtual router: its timers, what it has heard, its counters.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::Instant;

use super::announcer::Announcer;
use super::output::{Event, Output};
use crate::plan::RouterPlan;
use crate::timers;
use crate::wire::{Advertisement, ChecksumForm, Interval, LEAVING, Refusal, Version};

/// The last advertisement that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub from: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Its interval.
    pub interval: Interval,
    /// When.
    pub at: Instant,
}

/// What was counted of a virtual router since it was first configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Advertisements sent, each peer's counted.
    pub sent: u64,
    /// Of these with priority 0.
    pub sent_leaving: u64,
    /// Advertisements taken.
    pub received: u64,
    /// Of these with priority 0.
    pub received_leaving: u64,
    /// Of these with priority 0, from one that was not the Active router: they change nothing.
    pub stale_leaving: u64,
    /// Of those over IPv4 in version 3, by form.
    pub checksums: HashMap<ChecksumForm, u64>,
    /// Not taken, by reason.
    pub refused: HashMap<Refusal, u64>,
    /// Other addresses than this node's.
    pub other_addresses: u64,
    /// Another interval than this node's.
    pub other_interval: u64,
    /// From another Active router while this one was Active, too.
    pub rivals: u64,
    /// Times that it became Active.
    pub takeovers: u64,
    /// Announcements, each address counted.
    pub announced: u64,
}

/// A part of an interval that has to be over before an advertisement is answered by another: two that take each other
/// for worse would go on at the speed of the link.
const ANSWER_SHARE: u32 = 8;

/// Of so many senders it is kept what they said last.
const SENDERS_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) plan: RouterPlan,
    /// The advertised addresses in order, to be compared.
    sorted: Vec<IpAddr>,
    /// The interval of the Active router, if it is another than our own.
    learned: Option<Interval>,
    /// Backup: when Active_Down_Interval is over. `None`: it is, and this one wants to be Active.
    pub(crate) down: Option<Instant>,
    /// Backup: since when an Active router of a lower priority is heard.
    pub(crate) lower_since: Option<(Instant, IpAddr, u8)>,
    /// Backup: the Active router, if one was heard.
    pub(crate) active: Option<IpAddr>,
    /// Backup: the Active router said that it leaves.
    pub(crate) left: Option<IpAddr>,
    /// Active: when the next advertisement is due.
    pub(crate) advertise: Instant,
    /// Active: when the last one was sent.
    pub(crate) advertised: Instant,
    pub(crate) announcer: Announcer,
    pub(crate) heard: Option<Heard>,
    /// The last one of each sender.
    pub(crate) heard_of: Vec<Heard>,
    pub(crate) counters: Counters,
    /// When the last event of each kind was told: they are not to fill logs.
    told: [Option<Instant>; 3],
}

/// Kinds of events that others can cause, and that are told once in a while.
#[derive(Clone, Copy)]
enum Rare {
    Rival,
    Addresses,
    Interval,
}

impl Router {
    pub(crate) fn new(plan: RouterPlan) -> Self {
        let mut router = Self {
            sorted: Vec::new(),
            plan,
            learned: None,
            down: None,
            lower_since: None,
            active: None,
            left: None,
            advertise: Instant::ZERO,
            advertised: Instant::ZERO,
            announcer: Announcer::default(),
            heard: None,
            heard_of: Vec::new(),
            counters: Counters::default(),
            told: [None; 3],
        };
        router.sort();
        router
    }

    pub(crate) fn sort(&mut self) {
        self.sorted.clone_from(&self.plan.addresses);
        self.sorted.sort_unstable();
    }

    /// Active_Adver_Interval.
    pub(crate) fn interval(&self) -> Interval {
        self.learned.unwrap_or(self.plan.interval)
    }

    /// Active_Down_Interval.
    pub(crate) fn down_interval(&self, priority: u8) -> Duration {
        timers::active_down(self.plan.version, self.interval(), priority)
    }

    /// Listens for a whole Active_Down_Interval from now on.
    pub(crate) fn listen(&mut self, priority: u8, now: Instant) {
        self.down = Some(now + self.down_interval(priority));
        self.left = None;
    }

    /// Backup, knowing of no Active router.
    pub(crate) fn become_backup(&mut self, priority: u8, now: Instant) {
        self.learned = None;
        self.lower_since = None;
        self.active = None;
        self.listen(priority, now);
    }

    /// Obeys the Active router that sent `advertisement`.
    pub(crate) fn obey(&mut self, from: IpAddr, advertisement: &Advertisement, priority: u8, now: Instant) {
        let theirs = advertisement.interval;
        self.learned = Some(match self.plan.version {
            Version::V2 => theirs.max(self.plan.interval),
            Version::V3 => theirs,
        });
        self.active = Some(from);
        self.listen(priority, now);
    }

    /// All addresses that move.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.plan.addresses.iter().chain(&self.plan.unadvertised).copied().collect()
    }

    /// Sends an advertisement to the group, or to each peer.
    pub(crate) fn send(&mut self, priority: u8, now: Instant, out: &mut Vec<Output>) {
        let plan = &self.plan;
        let advertisement = Advertisement {
            version: plan.version,
            vrid: plan.vrid,
            priority,
            interval: plan.interval,
            password: plan.password,
            addresses: plan.addresses.clone(),
        };
        let group = [plan.family().group()];
        let to: &[IpAddr] = if plan.peers.is_empty() { &group } else { &plan.peers };
        for to in to {
            out.push(Output::Send {
                router: Arc::clone(&plan.name),
                interface: Arc::clone(&plan.interface),
                from: plan.source,
                to: *to,
                message: advertisement.emit(plan.source, *to, plan.checksum),
            });
            self.counters.sent += 1;
            self.counters.sent_leaving += u64::from(priority == LEAVING);
        }
        self.advertised = now;
        self.advertise = now + plan.interval.duration();
    }

    /// Sends one in answer to another router, unless one went out a moment ago.
    pub(crate) fn answer(&mut self, priority: u8, now: Instant, out: &mut Vec<Output>) {
        if now.since(self.advertised) >= self.plan.interval.duration() / ANSWER_SHARE {
            self.send(priority, now, out);
        }
    }

    /// Announces what is due.
    pub(crate) fn announce(&mut self, now: Instant, out: &mut Vec<Output>) {
        for _ in 0..self.announcer.due(self.plan.announce, now) {
            let addresses = self.addresses();
            self.counters.announced += addresses.len() as u64;
            let (router, interface) = (Arc::clone(&self.plan.name), Arc::clone(&self.plan.interface));
            out.push(Output::Announce { router, interface, addresses });
        }
    }

    /// Notes an advertisement that was taken, and tells where it differs from what this node is configured to.
    pub(crate) fn note(
        &mut self,
        from: IpAddr,
        advertisement: &Advertisement,
        form: ChecksumForm,
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        self.counters.received += 1;
        self.counters.received_leaving += u64::from(advertisement.priority == LEAVING);
        if from.is_ipv4() && self.plan.version == Version::V3 {
            *self.counters.checksums.entry(form).or_default() += 1;
        }
        let Advertisement { priority, interval, .. } = *advertisement;
        self.heard_from(Heard { from, priority, interval, at: now });
        let mut theirs = advertisement.addresses.clone();
        theirs.sort_unstable();
        if theirs != self.sorted {
            self.counters.other_addresses += 1;
            if self.tells(Rare::Addresses, now) {
                let ours = without(&self.sorted, &theirs);
                let theirs = without(&theirs, &self.sorted);
                let router = Arc::clone(&self.plan.name);
                out.push(Output::Event(Event::OtherAddresses { router, from, theirs, ours }));
            }
        }
        if interval != self.plan.interval {
            self.counters.other_interval += 1;
            if self.tells(Rare::Interval, now) {
                let (router, ours) = (Arc::clone(&self.plan.name), self.plan.interval);
                out.push(Output::Event(Event::OtherInterval { router, from, theirs: interval, ours }));
            }
        }
    }

    /// Keeps the last advertisement of each of the senders that were heard last.
    fn heard_from(&mut self, heard: Heard) {
        self.heard = Some(heard);
        if let Some(known) = self.heard_of.iter_mut().find(|known| known.from == heard.from) {
            *known = heard;
            return;
        }
        if self.heard_of.len() >= SENDERS_MAX
            && let Some((oldest, _)) = self.heard_of.iter().enumerate().min_by_key(|(_, known)| known.at)
        {
            self.heard_of.swap_remove(oldest);
        }
        self.heard_of.push(heard);
    }

    /// Another router is Active, too. Whether people are to hear of it.
    pub(crate) fn note_rival(&mut self, now: Instant) -> bool {
        self.counters.rivals += 1;
        self.tells(Rare::Rival, now)
    }

    fn tells(&mut self, kind: Rare, now: Instant) -> bool {
        /// One event of a kind a minute.
        const SELDOM: Duration = Duration::from_secs(60);
        let last = &mut self.told[kind as usize];
        let tells = last.is_none_or(|last| now >= last + SELDOM);
        if tells {
            *last = Some(now);
        }
        tells
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        *self.counters.refused.entry(refusal).or_default() += 1;
    }
}

fn without(these: &[IpAddr], those: &[IpAddr]) -> Vec<IpAddr> {
    these.iter().filter(|ip| !those.contains(ip)).copied().collect()
}
