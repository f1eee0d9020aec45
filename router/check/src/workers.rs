//! Tasks that make probes, each one at a time. They are kept for the next: a task for each probe costs more than most
//! probes do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use uvs_director::Duration;

use crate::core::{Run, Start};
use crate::outcome::{Outcome, Verdict};
use crate::probe::Prober;

/// As many as probes ran at once.
pub(crate) struct Workers {
    prober: Arc<Prober>,
    tasks: JoinSet<()>,
    all: Vec<Worker>,
    /// Those that wait for a probe to make, the one that made one last at the end.
    free: Vec<usize>,
    /// Which worker a task is.
    by_task: HashMap<Id, usize>,
    results: Arc<Results>,
}

struct Worker {
    inbox: Arc<Inbox>,
    task: AbortHandle,
    /// What it makes; `None`: nothing, or nothing that anybody waits for.
    run: Option<Run>,
}

/// What a worker is to make next.
#[derive(Default)]
struct Inbox {
    start: Mutex<Option<Start>>,
    given: Notify,
}

/// What workers have made.
#[derive(Default)]
struct Results {
    done: Mutex<Vec<Done>>,
    come: Notify,
}

struct Done {
    worker: usize,
    run: Run,
    outcome: Outcome,
}

/// No code that panics runs while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(worker: usize, prober: Arc<Prober>, inbox: Arc<Inbox>, results: Arc<Results>) {
    loop {
        inbox.given.notified().await;
        let Some(Start { run, probe }) = lock(&inbox.start).take() else { continue };
        let outcome = prober.probe(&probe).await;
        lock(&results.done).push(Done { worker, run, outcome });
        results.come.notify_one();
    }
}

impl Workers {
    /// None yet. They end when it is dropped, with what they are making.
    pub(crate) fn new(prober: Prober) -> Self {
        Self {
            prober: Arc::new(prober),
            tasks: JoinSet::new(),
            all: Vec::new(),
            free: Vec::new(),
            by_task: HashMap::new(),
            results: Arc::default(),
        }
    }

    /// Has a probe made, by a task of the runtime that this is called on.
    pub(crate) fn start(&mut self, start: Start) {
        let at = self.free.pop().unwrap_or_else(|| {
            let worker = self.hire(self.all.len());
            self.all.push(worker);
            self.all.len() - 1
        });
        let worker = &mut self.all[at];
        worker.run = Some(start.run);
        *lock(&worker.inbox.start) = Some(start);
        worker.inbox.given.notify_one();
    }

    fn hire(&mut self, at: usize) -> Worker {
        let inbox = Arc::<Inbox>::default();
        let work = work(at, Arc::clone(&self.prober), Arc::clone(&inbox), Arc::clone(&self.results));
        let task = self.tasks.spawn_on(work, &Handle::current());
        self.by_task.insert(task.id(), at);
        Worker { inbox, task, run: None }
    }

    /// Gives these runs up, wherever they are.
    pub(crate) fn cancel(&mut self, runs: &[Run]) {
        if runs.is_empty() {
            return;
        }
        let makers = self.all.iter().enumerate().filter_map(|(at, worker)| Some((worker.run?, at)));
        let makers: HashMap<Run, usize> = makers.collect();
        for at in runs.iter().filter_map(|run| makers.get(run)) {
            let worker = &mut self.all[*at];
            worker.run = None;
            worker.task.abort();
        }
    }

    /// Waits until there is something to take. Nothing is lost if that is not waited for to the end.
    pub(crate) async fn wait(&mut self, taken: &mut Vec<(Run, Outcome)>) {
        tokio::select! {
            () = self.results.come.notified() => self.take(taken),
            // Pending where there is no task at all: `None` disables this branch.
            Some(Err(error)) = self.tasks.join_next() => self.replace(&error, taken),
        }
    }

    fn take(&mut self, taken: &mut Vec<(Run, Outcome)>) {
        for Done { worker: at, run, outcome } in lock(&self.results.done).drain(..) {
            // One that was given up is replaced when its task has ended.
            if let Some(worker) = self.all.get_mut(at).filter(|worker| worker.run == Some(run)) {
                worker.run = None;
                self.free.push(at);
                taken.push((run, outcome));
            }
        }
    }

    /// A worker has ended: it was told to, or its probe has panicked.
    fn replace(&mut self, error: &JoinError, taken: &mut Vec<(Run, Outcome)>) {
        let Some(at) = self.by_task.remove(&error.id()) else { return };
        if let Some(run) = self.all[at].run {
            let verdict = Verdict::Unmade("its checker failed; see the log".into());
            taken.push((run, Outcome::plain(verdict, Duration::ZERO)));
        }
        self.all[at] = self.hire(at);
        self.free.push(at);
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tokio::time::timeout;

    use super::*;
    use crate::core::{Bounds, Core};
    use crate::net::{Datagrams, Echo, Network, Opening, Stream, Target};
    use crate::spec::{CheckPlan, DestinationPlan, Kind, Plan, ProbeSpec, Schedule, ServicePlan, Talk};
    use uvs_director::Instant;
    use uvs_director::spec::{Protocol, ServiceKey};

    const OPEN: u16 = 1;
    const BROKEN: u16 = 2;
    const SILENT: u16 = 3;

    /// Its ports answer, panic, or do neither.
    struct Ports;

    impl Network for Ports {
        fn tcp(&self, _: &Target) -> Opening<Box<dyn Stream>> {
            unreachable!("probes here only connect")
        }

        fn half_open(&self, target: &Target) -> Opening<()> {
            let port = target.port;
            Box::pin(async move {
                match port {
                    OPEN => Ok(()),
                    BROKEN => panic!("a probe that breaks, as this test wants it"),
                    _ => core::future::pending().await,
                }
            })
        }

        fn udp(&self, _: &Target) -> Opening<Box<dyn Datagrams>> {
            unreachable!("probes here only connect")
        }

        fn ping(&self, _: &Target, _: Echo) -> Opening<()> {
            unreachable!("probes here only connect")
        }
    }

    /// Starts of probes of these ports, as the core makes them, and which port each run is of.
    fn starts(ports: &[u16]) -> (Vec<Start>, HashMap<Run, u16>) {
        let addr = |at: usize| {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0xc000_0200 + u32::try_from(at).unwrap())), ports[at])
        };
        let destination = |at: usize| {
            let schedule = Schedule::every(Duration::from_secs(60), Duration::from_secs(30));
            let probe =
                ProbeSpec { kind: Kind::Tcp(Talk::default()), target: Target::direct(addr(at)), schedule };
            let (probe, unmade) = (Arc::new(probe), Default::default());
            DestinationPlan {
                addr: addr(at),
                weight: Some(1),
                adm: None,
                admin: crate::weight::Admin::Ready,
                backup: false,
                serves: false,
                checks: vec![CheckPlan { name: "it".into(), probe, rise: 1, fall: 1, unmade }],
            }
        };
        let (quorum, policy) = Default::default();
        let key =
            ServiceKey::Address { protocol: Protocol::Tcp, addr: SocketAddr::from(([192, 0, 2, 80], 80)) };
        let destinations = (0..ports.len()).map(destination).collect();
        let service = ServicePlan { key, quorum, policy, judged: true, destinations };
        let mut core = Core::new(Bounds::default(), 1);
        core.apply(Plan { drain: None, services: vec![service] }, Instant::ZERO);
        let mut starts = Vec::new();
        core.poll(Instant::ZERO + Duration::from_secs(60), &mut starts);
        assert_eq!(starts.len(), ports.len());
        let of = starts.iter().map(|start| (start.run, start.probe.target.port)).collect();
        (starts, of)
    }

    async fn results(workers: &mut Workers, wanted: usize) -> HashMap<Run, Outcome> {
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let waited = timeout(Duration::from_secs(10), workers.wait(&mut taken)).await;
            waited.expect("a result");
        }
        taken.into_iter().collect()
    }

    #[tokio::test]
    async fn a_probe_that_breaks_is_told_and_takes_no_other_with_it() {
        let mut workers = Workers::new(Prober::new(Arc::new(Ports)));
        let ports = [OPEN, BROKEN, OPEN, BROKEN, OPEN];
        // The second time those work that are in the place of the broken ones.
        for _ in 0..2 {
            let (begun, of) = starts(&ports);
            begun.into_iter().for_each(|start| workers.start(start));
            for (run, outcome) in results(&mut workers, ports.len()).await {
                match of[&run] {
                    OPEN => assert_eq!(outcome.verdict, Verdict::Pass("connected".into())),
                    _ => {
                        assert_eq!(outcome.verdict, Verdict::Unmade("its checker failed; see the log".into()))
                    }
                }
            }
            assert_eq!((workers.all.len(), workers.free.len()), (ports.len(), ports.len()));
        }
    }

    #[tokio::test]
    async fn what_is_given_up_ends_and_its_place_is_free_again() {
        let mut workers = Workers::new(Prober::new(Arc::new(Ports)));
        let (begun, of) = starts(&[SILENT, OPEN, SILENT, OPEN]);
        begun.into_iter().for_each(|start| workers.start(start));
        let done = results(&mut workers, 2).await;
        assert!(done.keys().all(|run| of[run] == OPEN));
        let runs: Vec<Run> = of.keys().copied().collect();
        // Those that have ended are none of its business any more.
        workers.cancel(&runs);
        let mut taken = Vec::new();
        while workers.free.len() < 4 {
            let waited = timeout(Duration::from_secs(10), workers.wait(&mut taken)).await;
            waited.expect("those that were given up end");
        }
        assert_eq!((taken.len(), workers.all.len(), workers.tasks.len()), (0, 4, 4));
        let (begun, _) = starts(&[OPEN, OPEN, OPEN, OPEN]);
        begun.into_iter().for_each(|start| workers.start(start));
        assert_eq!(results(&mut workers, 4).await.len(), 4);
        assert_eq!(workers.all.len(), 4, "no task more than probes at once");
    }

    #[tokio::test]
    async fn a_result_that_nobody_waits_for_any_more_is_not_told() {
        let mut workers = Workers::new(Prober::new(Arc::new(Ports)));
        let (begun, of) = starts(&[OPEN]);
        begun.into_iter().for_each(|start| workers.start(start));
        // It has ended when it is given up, and its result is on its way.
        while lock(&workers.results.done).is_empty() {
            tokio::task::yield_now().await;
        }
        workers.cancel(&of.keys().copied().collect::<Vec<_>>());
        let mut taken = Vec::new();
        while workers.free.is_empty() {
            let waited = timeout(Duration::from_secs(10), workers.wait(&mut taken)).await;
            waited.expect("it ends");
        }
        assert_eq!((taken.len(), workers.free.len()), (0, 1));
    }
}
