//! What programs are still to be told: no I/O and no clock.
//!
//! What waits is replaced by what comes after it of the same thing, for the same program: it hears the latest, and the
//! order of what it and others hear of a service stays. Beyond the bound the oldest makes room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use uvs_config::Notify;
use uvs_control::event::{Event, Kind};

/// So many wait at most, some 600 bytes each.
pub(super) const WAITING_MAX: usize = 8192;

/// A program is to be told of an event.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) hook: Arc<Notify>,
    pub(super) event: Arc<Event>,
}

/// What pushing a job did to those that wait.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// It has replaced one.
    pub(super) merged: bool,
    /// This one has made room.
    pub(super) dropped: Option<Job>,
}

/// Of what an event tells the state: of two for the same program only the later one counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    hook: Arc<str>,
    service: Option<String>,
    destination: Option<String>,
    check: Option<String>,
    vrrp: Option<String>,
    /// The name of the first of the kinds that tell of the same thing.
    kind: &'static str,
}

impl Subject {
    fn of(Job { hook, event }: &Job) -> Self {
        let kind = match event.kind {
            Kind::CheckUp | Kind::CheckDown | Kind::CheckUnmade | Kind::CheckUnchecked => Kind::CheckUp,
            Kind::DestinationUp | Kind::DestinationDown => Kind::DestinationUp,
            Kind::QuorumUp | Kind::QuorumDown => Kind::QuorumUp,
            Kind::BackupUp | Kind::BackupDown => Kind::BackupUp,
            Kind::Weight | Kind::WeightMended => Kind::Weight,
            Kind::DrainStarted | Kind::DrainEnded => Kind::DrainStarted,
            Kind::Reloaded | Kind::ReloadFailed => Kind::Reloaded,
            Kind::VrrpMaster | Kind::VrrpBackup | Kind::VrrpFault | Kind::VrrpStop | Kind::VrrpDeleted => {
                Kind::VrrpMaster
            }
            other => other,
        };
        Self {
            hook: Arc::clone(&hook.name),
            service: event.service.clone(),
            destination: event.destination.clone(),
            check: event.check.clone(),
            vrrp: event.vrrp.clone(),
            kind: kind.name(),
        }
    }
}

/// Service and virtual router that an event is of: what is told of them is told one after the other.
type About = (Option<String>, Option<String>);

fn about(event: &Event) -> About {
    (event.service.clone(), event.vrrp.clone())
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By the number of their arrival.
    waiting: BTreeMap<u64, Job>,
    numbers: HashMap<Subject, u64>,
    arrived: u64,
    /// Services, and virtual routers, of which a program is being told.
    busy: HashSet<About>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, job: Job) -> Pushed {
        let mut pushed = Pushed::default();
        let subject = Subject::of(&job);
        self.arrived += 1;
        if let Some(before) = self.numbers.insert(subject, self.arrived) {
            pushed.merged = self.waiting.remove(&before).is_some();
        }
        self.waiting.insert(self.arrived, job);
        if self.waiting.len() > WAITING_MAX
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            self.numbers.remove(&Subject::of(&oldest));
            pushed.dropped = Some(oldest);
        }
        pushed
    }

    /// The next that may run: the oldest of a service of which no program is being told. [`Self::done`] says when that
    /// is over.
    pub(super) fn next(&mut self) -> Option<Job> {
        let mut all = self.waiting.iter();
        let number = *all.find(|(_, job)| !self.busy.contains(&about(&job.event)))?.0;
        let job = self.waiting.remove(&number)?;
        self.numbers.remove(&Subject::of(&job));
        self.busy.insert(about(&job.event));
        Some(job)
    }

    pub(super) fn done(&mut self, job: &Job) {
        self.busy.remove(&about(&job.event));
    }
}
