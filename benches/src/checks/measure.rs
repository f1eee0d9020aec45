//! What is measured, in which order.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, sysconf};
use uvs_lab::Host;

use super::stage::{ECHO, OF_SERVICE, PORT, Stage, address};
use super::witness::{Witness, quantile};
use super::{FALL, Size};

/// How long whatever should happen soon may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// An exchange that takes longer was lost.
const LOST: Duration = Duration::from_secs(1);

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// CPU time of the director as a share of one core, in each round, with checks and without.
    pub(crate) cpu: [Vec<f64>; 2],
    /// With checks: by the name of the thread, in all rounds together.
    pub(crate) threads: BTreeMap<String, f64>,
    /// Probes a second, in each round.
    pub(crate) probes: Vec<f64>,
    /// How late probes were, in order.
    pub(crate) late: Vec<Duration>,
    /// Exchanges of a client: the 50th, 99th and 99.9th of 100, in each round, with checks and without.
    pub(crate) exchanges: [Vec<[Duration; 3]>; 2],
    /// Exchanges that were lost.
    pub(crate) lost: u64,
    /// KiB resident: as the director starts, without checks; and with them.
    pub(crate) memory: [u64; 2],
    /// From a death to the weight 0, in order.
    pub(crate) deaths: Vec<Duration>,
    /// How long a reload took that changed nothing about checks.
    pub(crate) reloads: Vec<Duration>,
    /// How long an exchange took at most while it was reloaded.
    pub(crate) reload_exchange: Duration,
    /// How late a probe was at most around those reloads.
    pub(crate) reload_late: Duration,
    /// How many processes wanted to run on the machine, of how many CPUs, on average over a minute.
    pub(crate) load: (f64, usize),
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// Measures everything.
///
/// # Errors
/// The network cannot be built, or the director does not do what it is told.
pub(crate) fn measure(uvs: &Path, size: Size) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut stage = Stage::new(uvs, size)?;
    let witness = Witness::start(&stage.servers, size.destinations)?;
    exchange(&stage.client, Duration::from_millis(200))?;
    figures.memory[0] = resident(stage.director.id())?;
    for round in 0..size.rounds {
        for is_checked in if round % 2 == 0 { [false, true] } else { [true, false] } {
            reload(&mut stage, is_checked)?;
            if is_checked {
                settle(&witness, size)?;
            } else {
                fall_silent(&witness)?;
            }
            window(&stage, &witness, size, is_checked, &mut figures)?;
            eprintln!(
                "round {} of {}, {} checks",
                round + 1,
                size.rounds,
                ["without", "with"][usize::from(is_checked)]
            );
        }
    }
    reload(&mut stage, true)?;
    settle(&witness, size)?;
    figures.memory[1] = resident(stage.director.id())?;
    reloads(&mut stage, &witness, size, &mut figures)?;
    die(&mut stage, size, &mut figures)?;
    figures.late.sort_unstable();
    figures.deaths.sort_unstable();
    figures.load = load()?;
    Ok(figures)
}

/// Puts another config in force. How long that took.
fn reload(stage: &mut Stage, is_checked: bool) -> Result<Duration> {
    stage.write_config(is_checked)?;
    let reloads = |stage: &Stage| {
        let log = stage.director.log();
        log.lines().filter(|line| line.contains(" reloaded: ")).filter_map(time_of).max()
    };
    let before = reloads(stage);
    let began = Instant::now();
    stage.director.process().signal(Signal::SIGHUP)?;
    loop {
        if reloads(stage) > before {
            return Ok(began.elapsed());
        }
        stage.director.process().check()?;
        ensure!(
            began.elapsed() < SOON,
            "no reload within {SOON:?}; the director says:\n{}",
            stage.director.log()
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// The time that a line of the log begins with, which orders them.
fn time_of(line: &str) -> Option<String> {
    line.split_whitespace().next().map(str::to_owned)
}

/// Waits until every destination has been asked, and then for as long as a check may take.
fn settle(witness: &Witness, size: Size) -> Result<()> {
    witness.forget();
    let began = Instant::now();
    while witness.not_asked() > 0 {
        let left = witness.not_asked();
        ensure!(began.elapsed() < SOON, "{left} of {} destinations were not asked", size.destinations);
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(size.timeout);
    Ok(())
}

/// Waits until nobody is asked any more: the last probes may wait to be noted.
fn fall_silent(witness: &Witness) -> Result<()> {
    let began = Instant::now();
    drop(witness.take());
    loop {
        thread::sleep(Duration::from_millis(300));
        let (_, probes) = witness.take();
        if probes == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "{probes} probes though nothing is checked");
    }
}

/// One window, with checks or without: quiet for as long, then with a client.
fn window(
    stage: &Stage,
    witness: &Witness,
    size: Size,
    is_checked: bool,
    figures: &mut Figures,
) -> Result<()> {
    let id = stage.director.id();
    let at = usize::from(is_checked);
    // Beside nothing else first: what a client's packets cost would be most of it.
    drop(witness.take());
    let (began, before) = (Instant::now(), cpu(id)?);
    thread::sleep(size.window);
    let (seconds, after) = (began.elapsed().as_secs_f64(), cpu(id)?);
    let (gaps, probes) = witness.take();
    let (times, lost) = exchange(&stage.client, size.window)?;
    let used = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
    figures.cpu[at].push(after.keys().map(|name| used(name)).sum::<f64>() / seconds);
    figures.exchanges[at].push([0.5, 0.99, 0.999].map(|share| quantile(&times, share)));
    figures.lost += lost;
    if is_checked {
        for name in after.keys() {
            *figures.threads.entry(name.clone()).or_default() +=
                used(name) / seconds / f64::from(size.rounds);
        }
        figures.probes.push(probes as f64 / seconds);
        figures.late.extend(gaps.iter().map(|gap| gap.saturating_sub(size.interval)));
        let waits = witness.longest_wait();
        if waits > size.interval * 2 + size.timeout {
            figures.failures.push(format!("a destination was not asked for {waits:?}"));
        }
    } else if probes > 0 {
        figures.failures.push(format!("{probes} probes though nothing is checked"));
    }
    Ok(())
}

/// Sends 64 bytes to the service and waits for them, again and again: how long each took, in order, and how many were
/// lost.
fn exchange(client: &Host, window: Duration) -> Result<(Vec<Duration>, u64)> {
    client.run(|| exchanges(window, &AtomicBool::new(false)))?
}

fn exchanges(window: Duration, stop: &AtomicBool) -> Result<(Vec<Duration>, u64)> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("the client has no socket")?;
    socket.connect(ECHO)?;
    socket.set_read_timeout(Some(LOST))?;
    let (mut times, mut lost, mut bytes) = (Vec::new(), 0, [0; 64]);
    let end = Instant::now() + window;
    let mut number = 0_u64;
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        number += 1;
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let began = Instant::now();
        socket.send(&bytes).context("the client cannot send")?;
        let mut heard = [0; 64];
        loop {
            match socket.recv(&mut heard) {
                Ok(_) if heard == bytes => break times.push(began.elapsed()),
                // The answer to one that was given up.
                Ok(_) => {}
                Err(_) if began.elapsed() >= LOST => break lost += 1,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => bail!("the client cannot receive: {error}"),
            }
        }
    }
    times.sort_unstable();
    Ok((times, lost))
}

/// Reloads that change one service and nothing about checks, while a client goes on.
fn reloads(stage: &mut Stage, witness: &Witness, size: Size, figures: &mut Figures) -> Result<()> {
    drop(witness.take());
    let stop = Arc::new(AtomicBool::new(false));
    let times = Arc::new(Mutex::new(None));
    let (until, found) = (Arc::clone(&stop), Arc::clone(&times));
    let client = stage.client.spawn(move || {
        let result = exchanges(SOON, &until);
        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    })?;
    let before = failed(&stage.director.log());
    for _ in 0..size.rounds.max(3) {
        figures.reloads.push(reload(stage, true)?);
        thread::sleep(size.interval);
    }
    stop.store(true, Ordering::Relaxed);
    let _ = client.join();
    let result = times.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (times, lost) = result.context("the client has ended early")??;
    figures.lost += lost;
    figures.reload_exchange = times.last().copied().unwrap_or_default();
    let (gaps, _) = witness.take();
    figures.reload_late = gaps.iter().map(|gap| gap.saturating_sub(size.interval)).max().unwrap_or_default();
    // A check that was forgotten is made anew at once: those of a service, at least.
    let early = gaps.iter().filter(|gap| **gap < size.interval / 2).count();
    if early > OF_SERVICE as usize / 2 {
        figures.failures.push(format!("{early} destinations were asked anew at a reload"));
    }
    let after = failed(&stage.director.log());
    if after > before {
        figures.failures.push(format!("{} checks of living servers failed", after - before));
    }
    figures.reloads.sort_unstable();
    Ok(())
}

/// How many lines of a log say that a check is down.
fn failed(log: &str) -> usize {
    log.lines().filter(|line| line.contains("check is down")).count()
}

/// Has servers die, and waits until each weighs nothing.
fn die(stage: &mut Stage, size: Size, figures: &mut Figures) -> Result<()> {
    // Some of each service, far from each other in the order of probes.
    let step = size.destinations / size.deaths.max(1);
    let mut waiting: Vec<u32> = (0..size.deaths).map(|number| number * step).collect();
    stage.kill(waiting.iter().copied())?;
    let began = Instant::now();
    while !waiting.is_empty() && began.elapsed() < size.interval * (FALL + 2) + SOON {
        stage.director.process().check()?;
        let log = stage.director.log();
        waiting.retain(|number| {
            let line = format!("destination={}:{PORT} weight=0 ", address(*number));
            let is_down = log.contains(&line);
            if is_down {
                figures.deaths.push(began.elapsed());
            }
            !is_down
        });
        thread::sleep(Duration::from_millis(5));
    }
    if !waiting.is_empty() {
        figures.failures.push(format!("{} deaths were not noticed", waiting.len()));
    }
    Ok(())
}

/// Seconds of CPU time by the name of the thread.
fn cpu(process: u32) -> Result<BTreeMap<String, f64>> {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("there is no CLK_TCK")? as f64;
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("the director is gone")?;
    let mut used: BTreeMap<String, f64> = BTreeMap::new();
    for task in tasks.flatten() {
        // One that has ended since is none.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        // The name is in parentheses and may hold anything; fields 14 and 15 of proc_pid_stat(5) come after it.
        let Some((head, fields)) = stat.rsplit_once(')') else { continue };
        let name =
            head.split_once('(').map_or("", |(_, name)| name).trim_end_matches(|c: char| c.is_ascii_digit());
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
        *used.entry(name.to_owned()).or_default() += ticks as f64 / per_second;
    }
    Ok(used)
}

/// Resident memory in KiB.
fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the director is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok());
    figure.context("the kernel does not say how much memory the director has")
}

fn load() -> Result<(f64, usize)> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Ok((
        first.context("/proc/loadavg has no figure")?,
        thread::available_parallelism().map_or(1, usize::from),
    ))
}
