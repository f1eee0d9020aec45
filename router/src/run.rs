//! `uvs run`: from a configuration to a running director, and back to nothing.
//!
//! ```text
//!   check > take the control socket and the metrics address > open devices > set the host up > attach > apply
//!         > announce > workers > keep the host as it is > ready
//!   detach > stop workers > close devices > undo the host's set-up
//! ```
//! Whatever fails, or ends the director, takes the lower line from where it stands.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};
use uvs_config::{Config, Modules};
use uvs_control::event::{Event, Kind};
use uvs_control::plan::{Change, LastReload, Plan};
use uvs_control::{Error, ErrorKind};
use uvs_director::Director;
use uvs_director::flow_cache::FlowCache;
use uvs_director::spec::{Link, MacAddr};
use uvs_director::view::AddressConflict;
use uvs_plugin::{By, CodeCache, Schedulers, Watch};

use crate::accelerate::Attached;
use crate::alive::Pulse;
use crate::announce::Announcements;
use crate::browser::Browser;
use crate::checks::{Checks, Weights};
use crate::cli::RunArgs;
use crate::clock::{self, Clock};
use crate::control::ControlSocket;
use crate::devices::Devices;
use crate::event_loop::{self, DataPlane, Ended, Workers};
use crate::ha::{self, Ha, Sight};
use crate::hooks::Hooks;
use crate::keeper::{Health, Keeper, Kept};
use crate::memory::{self, Memory};
use crate::pages::Live;
use crate::reload::Outcome;
use crate::trace::Traces;
use crate::{
    announce, check, checks, control, drains, events, local, logging, notify, privilege, reload, restart,
    setup, words,
};

/// So many changes of the latest reload, or reasons against it, are kept for status.
const CHANGES_KEPT: usize = 100;
/// How often the control loop goes round at least.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How often the log is told of new claimants of our addresses.
const CONFLICTS_EVERY: Duration = Duration::from_secs(5);
/// How often the files of modules are looked at. A change counts when two looks have seen the same.
const MODULES_EVERY: Duration = Duration::from_millis(500);
/// How often the links are asked for claimants of our addresses, the first time at once.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Runs the director until a signal or a failure ends it.
///
/// # Errors
/// It could not start, could not go on, or could not take back what it had done to the host.
pub fn run(arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    logging::init(&arguments.log, arguments.log_format)?;
    log_panics();
    privilege::keep_to_ourselves();
    let (config, modules) = check::read(&arguments.config);
    let schedulers = check::schedulers(&modules)?;
    use_cache(&modules, &schedulers);
    let mut config = match config.and_then(|config| check::judge(config, &schedulers)) {
        Ok(check::Judged { config, catalogue }) => {
            schedulers.accept(catalogue);
            config
        }
        Err(problems) => return Ok(check::refuse(&problems)),
    };
    if let Some(reason) = check::cannot_change_user(&config) {
        anyhow::bail!(reason);
    }
    let memory = Memory::find();
    for warning in check::warnings(&config, memory.as_ref()) {
        warn!("{warning}");
    }
    memory::settle(&mut config, memory.as_ref());
    if let Some(lowered) = &config.unset.lowered {
        info!("limits follow the memory that there is: {lowered}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control runtime cannot be made")?;
    keep(&modules, &schedulers);
    let result = runtime.block_on(control(arguments, config, Arc::new(schedulers)));
    // A page that is being written is not waited for.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// Gives dumps of failing calls their folder.
fn keep(modules: &Modules, schedulers: &Schedulers) {
    let usual = std::env::var_os("STATE_DIRECTORY").map(|folder| Path::new(&folder).join("dumps"));
    if let Some(folder) = modules.dumps.resolve(usual)
        && let Err(error) = schedulers.dump_to(folder)
    {
        warn!("calls of schedulers that fail are not dumped: {error}");
    }
}

/// Gives compiled modules their folder, before the first one is compiled.
fn use_cache(modules: &Modules, schedulers: &Schedulers) {
    let usual = std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from);
    let Some(folder) = modules.cache.resolve(usual) else { return };
    match CodeCache::open(&folder) {
        Ok(cache) => schedulers.host().use_cache(cache),
        Err(reason) => warn!("modules are compiled at each start: {reason}"),
    }
}

/// A panic is a line in the log like others, with where it happened.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        error!(thread, "{panic}");
    }));
}

/// The signals we answer to.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("a signal handler cannot be set");
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }
}

async fn control(arguments: &RunArgs, config: Config, schedulers: Arc<Schedulers>) -> anyhow::Result<()> {
    // First of all: a signal that comes while the director starts is answered once it has.
    let signals = Signals::new()?;
    // Before anything is done to the host; the socket first, because it says most clearly that another director runs.
    let socket = control::open(arguments.socket.as_ref(), &config.control)?.map(Arc::new);
    let browser = Browser::open(&config).await?;
    let devices = setup::open_devices(&config)?;
    let clock = Clock::start();
    let keeper = Keeper::start(&config, clock).await?;
    let attached = match keeper.attach().await {
        Ok(attached) => attached,
        Err(error) => {
            drop(devices);
            if let Err(left) = keeper.undo().await {
                error!("{left}");
            }
            return Err(error);
        }
    };
    let (work, waker) = (Arc::new(Notify::new()), Arc::<ha::Waker>::default());
    let (woken, heard) = (Arc::clone(&work), Arc::clone(&waker));
    let director = Director::new(config.limits, random_seed(), schedulers.clone());
    let director = director.with_local(config.local.limits.clone(), move || woken.notify_one());
    let mut director = director.with_advertisements(move || heard.wake());
    if let Some(cache) = &attached.cache {
        director = director.with_flow_cache(Arc::clone(cache) as Arc<dyn FlowCache>);
    }
    let plane = DataPlane {
        director: Arc::new(director),
        clock,
        workers: config.workers.clone(),
        lanes: event_loop::lanes(&devices),
        traces: Arc::new(Traces::new(
            event_loop::lanes(&devices).len(),
            config.interfaces.iter().map(|it| matches!(it.spec.link, Link::Ethernet(_))).collect(),
        )),
        devices: Devices::new(devices),
    };
    let doors = Doors { browser, socket };
    let served =
        serve(&arguments.config, config, schedulers, (plane, work, waker), &keeper, attached, doors, signals)
            .await;
    // The devices are closed by now, and whatever was on them went with them.
    match (served, keeper.undo().await) {
        (served, Ok(())) => served,
        (Ok(()), Err(left)) => Err(left),
        (Err(error), Err(left)) => {
            error!("{left}");
            Err(error)
        }
    }
}

fn random_seed() -> u64 {
    RandomState::new().hash_one("uvs")
}

/// Where others come in; both were taken before anything was done to the host.
struct Doors {
    /// For metrics and the page.
    browser: Browser,
    /// For requests.
    socket: Option<Arc<ControlSocket>>,
}

/// From a configured host to the end. Closes the devices.
#[allow(clippy::too_many_arguments, reason = "what a director is made of, handed over once")]
async fn serve(
    file: &Path,
    config: Config,
    schedulers: Arc<Schedulers>,
    (plane, work, waker): (DataPlane, Arc<Notify>, Arc<ha::Waker>),
    keeper: &Keeper,
    Attached { datapaths, cache, links, missing }: Attached,
    Doors { browser, socket }: Doors,
    signals: Signals,
) -> anyhow::Result<()> {
    let weights = Arc::<Weights>::default();
    let (sender, ended) = mpsc::unbounded_channel();
    let events = Arc::<events::Events>::default();
    let names: Vec<String> = config.interfaces.iter().map(|interface| interface.spec.name.clone()).collect();
    let plane = Arc::new(plane);
    let ha = Ha::new(&plane, &names, waker, Arc::clone(&events), sender.clone());
    ha.prepare(&config);
    let settled = weights.hold().settle(&config, None);
    reload::carry_out(Config::diff(None, &settled), &plane.director, plane.clock)
        .context("the director refuses the configuration")?;
    weights.hold().settled(&settled, None);
    if let Some(kept) = &config.kept_connections {
        restart::take(&kept.file, &plane.director, plane.clock);
    }
    if let Some(cache) = &cache {
        let (orphans, now) = (cache.orphans(), plane.clock.now());
        let adopted = orphans.iter().filter(|orphan| plane.director.adopt(orphan, now)).count();
        if !orphans.is_empty() {
            info!(found = orphans.len(), adopted, "flows of an earlier director taken over");
        }
    }
    let (local, local_thread) = local::start(&plane, work, config.local.buffer_bytes)?;
    let hooks = Hooks::start(&config, &events)?;
    let drains = Arc::<drains::Drains>::default();
    let checks = Checks::start(
        (local.runtime(), local.network()),
        &plane.director,
        weights,
        plane.clock,
        random_seed(),
        Arc::clone(&events),
        Arc::clone(&drains),
    );
    let config = Arc::new(config);
    let live = Arc::new(Live {
        director: Arc::clone(&plane.director),
        clock: plane.clock,
        schedulers,
        limits: config.limits,
        lowered: config.unset.lowered.clone(),
        interfaces: names,
        attached: links,
        health: Health::default(),
        cache,
        datapaths,
        unaccelerated: missing,
        local,
        lanes: Arc::clone(&plane.lanes),
        checks,
        drains,
        announce: Announcements::default(),
        events,
        hooks,
        ha,
        traces: Arc::clone(&plane.traces),
        config: Mutex::new(Arc::clone(&config)),
        reload: Mutex::default(),
        ask_links: Notify::new(),
        pulse: Pulse::default(),
        started: clock::unix_time(),
        reloads_done: 0.into(),
        reloads_failed: 0.into(),
    });
    let drains_thread = drains::thread::start(&live, &plane)?;
    plane.announce();
    let workers = Workers::start(&plane, &sender)?;
    let (fatal, failed) = mpsc::unbounded_channel();
    keeper.keep(Kept { live: Arc::clone(&live), plane: Arc::clone(&plane), fatal }).await;
    let (handle, jobs) = control::Handle::new(Arc::clone(&live), file);
    let browsers = browser.serve(&live, &config.http, &handle)?;
    let control_server = socket.map(|socket| {
        info!(socket = %socket.path().display(), "requests are taken");
        tokio::spawn(control::serve(socket, handle))
    });
    live.checks.follow(&config);
    live.ha.follow(&config, sight(&live))?;
    let mending = tokio::spawn(checks::mend(
        Arc::clone(&live.director),
        Arc::clone(&live.checks.weights),
        live.clock,
        Arc::clone(&live.events),
    ));
    let keeping = restart::Keeping::start(&live);
    announce::thread::follow(&live);
    ready(&config);
    live.events.tell(Event { kind: Kind::Ready, ..Event::default() });
    let events = Events { ended, failed, signals, jobs };
    let result = until_the_end(file, config, &live, &plane, events).await;
    notify::notify(notify::STOPPING);
    live.ha.stop();
    live.pulse.stopping.store(true, Relaxed);
    live.events.tell(Event { kind: Kind::Stopping, ..Event::default() });
    announce::thread::end(&live, result.is_ok()).await;
    if let Some(control_server) = control_server {
        // With its task goes the socket's file.
        control_server.abort();
        let _ = control_server.await;
    }
    for browser in browsers {
        browser.abort();
    }
    mending.abort();
    live.hooks.stop().await;
    keeper.let_go().await;
    live.checks.stop();
    drains_thread.stop();
    local_thread.stop();
    let stopped = workers.stop();
    keeping.end(&live, result.is_ok() && stopped.is_ok());
    // With this last handle the devices are closed, unless a worker is stuck: then the end of the process does it.
    drop(plane);
    match (result, stopped) {
        (result, Ok(())) => result,
        (Ok(()), Err(stuck)) => Err(stuck),
        (Err(error), Err(stuck)) => {
            error!("{stuck}");
            Err(error)
        }
    }
}

/// What virtual routers follow of the director.
fn sight(live: &Arc<Live>) -> Weak<dyn Sight> {
    let live: Weak<Live> = Arc::downgrade(live);
    live
}

/// In the line of the log that says that the director is ready: a line for all of ten thousand is none.
const SERVICES_NAMED: usize = 16;

fn ready(config: &Config) {
    let interfaces: Vec<&str> =
        config.interfaces.iter().map(|interface| interface.spec.name.as_str()).collect();
    let services = words::few(config.services.iter().map(|service| service.spec.key), SERVICES_NAMED);
    info!(interfaces = interfaces.join(","), services = services.join(","), "ready");
    notify::notify(notify::READY);
}

/// What the control loop waits for.
struct Events {
    /// Threads of the data plane that are over.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Why there is nothing left to do on this host.
    failed: mpsc::UnboundedReceiver<anyhow::Error>,
    signals: Signals,
    /// Requests that change something.
    jobs: mpsc::Receiver<control::Job>,
}

/// Answers signals and requests until one of them, or the death of a worker, ends the director.
async fn until_the_end(
    file: &Path,
    mut config: Arc<Config>,
    live: &Arc<Live>,
    plane: &DataPlane,
    Events { mut ended, mut failed, mut signals, mut jobs }: Events,
) -> anyhow::Result<()> {
    let mut look = tokio::time::interval(CONFLICTS_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ask = tokio::time::interval(PROBE_EVERY);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut files = tokio::time::interval(MODULES_EVERY);
    files.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Arc::<Mutex<Watch>>::default();
    let mut looking: Option<JoinHandle<()>> = None;
    let mut known = HashSet::new();
    let mut evicted = (0, None);
    // What changes something, one at a time. It may take as long as a module takes to compile: nobody waits for it
    // here.
    let mut work: Option<JoinHandle<Finished>> = None;
    let mut hairpins = false;
    let mut trimmer = memory::Trimmer::default();
    let mut beat = tokio::time::interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        live.pulse.control.at(live.clock.now());
        tokio::select! {
            _ = beat.tick() => {}
            Some(finished) = async { Some(work.as_mut()?.await) } => {
                work = None;
                match finished.context("a change died, and the director with it")? {
                    Finished::Job { announce: true } => plane.announce(),
                    Finished::Job { announce: false } => {}
                    Finished::Reload(outcome, by, reply) => {
                        config = reloaded(outcome, &by, reply, config, live, plane);
                        notify::notify(notify::READY);
                    }
                }
            }
            Some(Ended { thread, error }) = ended.recv() => {
                let error = error.unwrap_or_else(|| anyhow::anyhow!("it ended without being told to"));
                return Err(error.context(format!("worker {thread} died, and the director with it")));
            }
            _ = signals.interrupt.recv() => {
                info!("SIGINT: stopping");
                return Ok(());
            }
            _ = signals.terminate.recv() => {
                info!("SIGTERM: stopping");
                return Ok(());
            }
            Some(error) = failed.recv() => return Err(error),
            Some(job) = jobs.recv(), if work.is_none() => {
                let (config, live) = (Arc::clone(&config), Arc::clone(live));
                work = Some(if job.is_reload() {
                    let (by, reply) = job.into_reload();
                    begin_reload(file, config, live, by, Some(reply))
                } else {
                    tokio::spawn(async move {
                        Finished::Job { announce: control::work(job, config, live).await }
                    })
                });
            }
            _ = ask.tick() => plane.probe(),
            () = live.ask_links.notified() => {
                plane.probe();
                ask.reset();
            }
            _ = files.tick(), if config.modules.watch && looking.as_ref().is_none_or(JoinHandle::is_finished) => {
                // A file may lie on a disk that does not answer, and to compile a module may take a minute; what it
                // comes to is in the log and in its status.
                let (watch, schedulers) = (Arc::clone(&watch), Arc::clone(&live.schedulers));
                looking = Some(tokio::task::spawn_blocking(move || look_at_modules(&watch, &schedulers)));
            }
            _ = look.tick() => {
                warn_of_conflicts(live, &mut known);
                warn_of_full_neighbors(live, &mut evicted);
                warn_of_hairpins(live, &mut hairpins);
                if trimmer.is_time(live.director.table_bytes()) {
                    tokio::task::spawn_blocking(memory::give_back);
                }
                if live.checks.is_outdated() {
                    // Whoever holds the weights may take his time.
                    let live = Arc::clone(live);
                    tokio::task::spawn_blocking(move || live.checks.refresh());
                }
            }
            _ = signals.hangup.recv(), if work.is_none() => {
                let by = "SIGHUP".to_owned();
                work = Some(begin_reload(file, Arc::clone(&config), Arc::clone(live), by, None));
            }
        }
    }
}

/// Reads the configuration again, where nobody waits for it.
fn begin_reload(
    file: &Path,
    config: Arc<Config>,
    live: Arc<Live>,
    by: String,
    reply: Option<control::Reply>,
) -> JoinHandle<Finished> {
    notify::notify(&notify::reloading());
    info!(file = %file.display(), "{by}: reading the configuration again");
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || {
        let outcome = live.with_parts(|parts| reload::reload(&file, &config, parts));
        Finished::Reload(outcome, by, reply)
    })
}

/// Logs, once, that clients ask for servers that answer them past the director.
fn warn_of_hairpins(live: &Live, told: &mut bool) {
    if !*told && live.director.hairpins() > 0 {
        *told = true;
        warn!(
            "a connection by NAT has its client and its server in one subnet, such as a real server that asks for its own VIP: the \
             answer does not pass here, and the connection hangs; use direct routing, or put the servers into a subnet of their own"
        );
    }
}

/// Logs each station that claims an address of ours, once. The engine itself logs nothing.
fn warn_of_conflicts(live: &Live, known: &mut HashSet<(IpAddr, MacAddr)>) {
    let conflicts = live.director.conflicts();
    // The engine keeps the latest ones only, and so is this bounded.
    known.retain(|(addr, mac)| {
        conflicts.iter().any(|conflict| (conflict.addr, conflict.mac) == (*addr, *mac))
    });
    for AddressConflict { addr, mac, port, .. } in conflicts {
        if known.insert((addr, mac)) {
            let interface = live.interfaces.get(usize::from(port.0)).map_or("", String::as_str);
            warn!(
                interface,
                "{mac} claims {addr}, an address of the director; if it is a realserver of a DR service, set arp_ignore = 1 \
                 and arp_announce = 2 there"
            );
        }
    }
}

/// Logs that the neighbour table makes room at its limit, once a minute while it does. `last`: how many entries had to
/// go when it was logged last, and when.
fn warn_of_full_neighbors(live: &Live, last: &mut (u64, Option<Instant>)) {
    let evicted = live.director.neighbors_evicted();
    if evicted == last.0 || last.1.is_some_and(|at| at.elapsed() < Duration::from_secs(60)) {
        return;
    }
    warn!(
        entries = evicted - last.0,
        limit = live.limits.neighbors,
        "the neighbour table is full and entries make room for new ones: stations ask for the director under many addresses, \
         or are scanned; if they are all there, raise neighbors in [limits]"
    );
    *last = (evicted, Some(Instant::now()));
}

/// A change that is over.
enum Finished {
    /// Whether the links have to hear of addresses.
    Job { announce: bool },
    /// With who wanted it, and where what it came to goes.
    Reload(Outcome, String, Option<control::Reply>),
}

/// Loads modules again whose files have changed.
fn look_at_modules(watch: &Mutex<Watch>, schedulers: &Schedulers) {
    let changed = watch.lock().unwrap_or_else(PoisonError::into_inner).look(&schedulers.files());
    if !changed.is_empty() {
        schedulers.refresh(By::Watch, false);
    }
}

/// Says what a reload came to. The configuration that is in force afterwards.
fn reloaded(
    outcome: Outcome,
    by: &str,
    reply: Option<control::Reply>,
    config: Arc<Config>,
    live: &Arc<Live>,
    plane: &DataPlane,
) -> Arc<Config> {
    let (outcome, config) = match outcome {
        Outcome::Done { config: wanted, plan, announce } => {
            if announce {
                plane.announce();
            }
            live.checks.follow(&wanted);
            live.hooks.follow(&wanted);
            if let Err(why) = live.ha.follow(&wanted, sight(live)) {
                error!("{why:#}");
            }
            live.reloads_done.fetch_add(1, Relaxed);
            for warning in &plan.warnings {
                warn!("{warning}");
            }
            for change in &plan.changes {
                info!(by_hand = change.by_hand, "changed: {}", change.line());
            }
            info!(changes = plan.changes.len(), "reloaded: {}", check::summary(&wanted));
            let reason = Some(check::count(plan.changes.len(), "change"));
            let by = Some(by.to_owned());
            live.events.tell(Event { kind: Kind::Reloaded, by, reason, ..Event::default() });
            (Ok(*plan), Arc::from(wanted))
        }
        Outcome::Refused(reasons) => {
            not_reloaded(live, by, &reasons, "not reloaded: the old configuration stays in force");
            (Err((ErrorKind::Refused, reasons)), config)
        }
        Outcome::Failed(reasons) => {
            let come_to = "reloaded in part only: correct the configuration and reload again";
            not_reloaded(live, by, &reasons, come_to);
            (Err((ErrorKind::Failed, reasons)), config)
        }
    };
    *live.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
    announce::thread::follow(live);
    *live.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_reload(&outcome, by));
    if let Some(reply) = reply {
        reply.send(outcome.map_err(|(kind, reasons)| Error::new(kind, reasons.join("\n"))));
    }
    config
}

/// What is kept of a reload, for status.
fn last_reload(outcome: &Result<Plan, (ErrorKind, Vec<String>)>, by: &str) -> LastReload {
    let (time, by) = (events::rfc3339(clock::unix_time()), by.to_owned());
    match outcome {
        Ok(plan) => LastReload {
            time,
            by,
            outcome: "done".to_owned(),
            changes: plan.changes.len() as u64,
            summary: plan.changes.iter().take(CHANGES_KEPT).map(Change::line).collect(),
            reasons: plan.refused.clone(),
        },
        Err((kind, reasons)) => {
            let outcome = if *kind == ErrorKind::Failed { "failed" } else { "refused" }.to_owned();
            let reasons = reasons.iter().take(CHANGES_KEPT).cloned().collect();
            LastReload { time, by, outcome, reasons, ..LastReload::default() }
        }
    }
}

fn not_reloaded(live: &Live, by: &str, reasons: &[String], come_to: &str) {
    live.reloads_failed.fetch_add(1, Relaxed);
    for reason in reasons {
        error!("{reason}");
    }
    error!("{come_to}");
    let more = reasons.len().saturating_sub(1);
    let first = reasons.first().map_or("", String::as_str);
    let reason = if more > 0 { format!("{first} (and {more} more)") } else { first.to_owned() };
    let (by, reason) = (Some(by.to_owned()), Some(reason));
    live.events.tell(Event { kind: Kind::ReloadFailed, by, reason, ..Event::default() });
}
