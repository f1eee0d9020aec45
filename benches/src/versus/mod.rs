//! uvs and its peers side by side: the same networks, the same load, one after the other, several times.
//!
//! ```text
//!   args --> contestant --> world         who, and where: all of them are up at once
//!                |--> verify              every byte is compared once
//!                `--> bulk, datagrams, connections, exchanges     a load, and what observe reads meanwhile
//!                        `--> report, plot                        medians, spreads, ratios
//!   soak          uvs alone, all loads at once, every byte compared
//! ```

mod args;
mod bulk;
mod connections;
mod conntrack;
mod contestant;
mod datagrams;
mod echo;
mod exchanges;
mod observe;
mod pattern;
mod plot;
mod report;
mod soak;
mod verify;
mod world;

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use uvs_lab::privilege;

pub(crate) use args::Args;
use args::{Attach, Load, Metric, Mode, Peer, Timing};
use contestant::{Contestant, Keys};
use report::{Reading, Results};
pub(crate) use soak::{Args as SoakArgs, run as soak};

/// Nanoseconds and microseconds in a second.
const NANO: f64 = 1e9;
const MICRO: f64 = 1e6;

/// Runs the bench. The exit status is 1 when somebody failed.
///
/// # Errors
/// Nothing could be measured, or a result cannot be written.
pub(crate) fn run(arguments: &Args) -> Result<ExitCode> {
    let modes = arguments.modes();
    ensure!(
        !modes.is_empty() || arguments.peers.is_some(),
        "there is no such way to run uvs: a tun device carries nat and tun, on attach bridge"
    );
    privilege::acquire()?;
    privilege::check_tun()?;
    raise_descriptor_limit()?;
    // Files that cannot be written should not be found out about in ten minutes.
    let svg = arguments.svg.clone().map_or_else(default_plot, Ok)?;
    for file in arguments.json.iter().chain([&svg]) {
        fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let (mut contestants, mut failures) = start(arguments, &modes)?;
    let mut results = Results::new(arguments.metrics(), arguments.rounds());
    let began = Instant::now();
    for round in 0..arguments.rounds() {
        for load in loads(&results.metrics) {
            measure_all(&mut contestants, load, round, arguments.timing(), &mut results, &mut failures);
        }
    }
    eprintln!("measured for {:.0} s", began.elapsed().as_secs_f64());
    // The networks go before anything is said about them.
    drop(contestants);
    print!("{}", results.table());
    io::stdout().flush()?;
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&results.document())?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::write(&svg, plot::svg(&results)).with_context(|| format!("cannot write {}", svg.display()))?;
    eprintln!("plot: {}", svg.display());
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts everybody, peers first, and drops those that harm data.
fn start(arguments: &Args, modes: &[Mode]) -> Result<(Vec<Contestant>, Vec<String>)> {
    let (mut contestants, mut failures) = (Vec::new(), Vec::new());
    for peer in peers(arguments)? {
        contestants.push(Contestant::peer(peer).with_context(|| format!("peer {peer}"))?);
    }
    if !modes.is_empty() {
        let uvs = uvs()?;
        let keys = Keys { interface: &arguments.interface_key, workers: &arguments.workers_key };
        eprintln!("uvs: {}", uvs.display());
        for &mode in modes {
            if let Some(why) = contestant::lacks_attach(mode.attach, &uvs)? {
                let asked = !arguments.attach.is_empty();
                ensure!(!asked, "this uvs has no attach {}: {why}", mode.attach);
                eprintln!("skipped: {mode}: this uvs has no attach {}: {why}", mode.attach);
                continue;
            }
            match Contestant::uvs(mode, &uvs, &keys) {
                Ok(contestant) => contestants.push(contestant),
                // What the kernel or the rights of this process do not allow need not be there unless it was asked for.
                Err(error) if mode.attach != Attach::Bridge && arguments.attach.is_empty() => {
                    eprintln!("skipped: {mode} does not start: {error:#}");
                }
                Err(error) => fail(&mut failures, format!("uvs {mode} does not start: {error:#}")),
            }
        }
    }
    contestants.retain(|contestant| match verify::verify(contestant) {
        Ok(()) => true,
        Err(error) => {
            fail(&mut failures, format!("{} harms data and is not measured: {error:#}", contestant.name));
            false
        }
    });
    if contestants.is_empty() {
        bail!("nobody is left to be measured");
    }
    eprintln!("data arrives unharmed with {}", names(&contestants));
    Ok((contestants, failures))
}

/// Says at once what is said again at the end.
fn fail(failures: &mut Vec<String>, what: String) {
    eprintln!("failed: {what}");
    failures.push(what);
}

fn names(contestants: &[Contestant]) -> String {
    contestants.iter().map(|it| it.name.to_string()).collect::<Vec<_>>().join(", ")
}

/// The peers that were asked for, all of which must be there; or those that are there.
fn peers(arguments: &Args) -> Result<Vec<Peer>> {
    if arguments.no_peers {
        return Ok(Vec::new());
    }
    let mut peers = Vec::new();
    for &peer in Peer::value_variants() {
        match &arguments.peers {
            Some(asked) if !asked.contains(&peer) => {}
            Some(_) => {
                contestant::find(peer)?;
                peers.push(peer);
            }
            None => match contestant::find(peer) {
                Ok(_) => peers.push(peer),
                Err(error) => eprintln!("skipped: {error:#}"),
            },
        }
    }
    Ok(peers)
}

/// The loads that these metrics need, each once.
fn loads(metrics: &[Metric]) -> Vec<Load> {
    let mut loads: Vec<Load> = metrics.iter().map(|metric| metric.load()).collect();
    loads.dedup();
    loads
}

/// Puts everybody under a load, one after the other. Each round begins with another one.
fn measure_all(
    contestants: &mut [Contestant],
    load: Load,
    round: u32,
    timing: Timing,
    results: &mut Results,
    failures: &mut Vec<String>,
) {
    let count = contestants.len();
    for place in 0..count {
        let Some(contestant) = contestants.get_mut((place + round as usize) % count) else { continue };
        if !contestant.carries(load) {
            continue;
        }
        let name = contestant.name;
        match contestant.prepare().and_then(|()| measure(contestant, load, timing)) {
            Ok(readings) => {
                for (metric, reading) in readings {
                    eprintln!("round {}: {metric} {name}: {}", round + 1, reading.describe(metric));
                    results.add(name, metric, reading);
                }
            }
            Err(error) => fail(failures, format!("round {}, {name}, {load:?}: {error:#}", round + 1)),
        }
    }
}

/// Measures one contestant under one load.
fn measure(contestant: &Contestant, load: Load, timing: Timing) -> Result<Vec<(Metric, Reading)>> {
    let reading = |value, cpu: (f64, Option<f64>), sent| Reading { value, cpu: cpu.0, own_cpu: cpu.1, sent };
    Ok(match load {
        Load::Bulk { flows } => {
            let span = bulk::measure(contestant, flows, timing)?;
            let metric = if flows == 1 { Metric::Tcp1 } else { Metric::Tcp4 };
            vec![(metric, reading(span.rate() * 8.0 / NANO, span.cpu(NANO), None))]
        }
        Load::Datagrams { senders, flows } => {
            let span = datagrams::measure(contestant, senders, flows, timing)?;
            let metric = if senders == 1 { Metric::Udp1 } else { Metric::UdpFlood };
            vec![(metric, reading(span.rate(), span.cpu(MICRO), Some(span.sent_rate())))]
        }
        Load::Connections => {
            let span = connections::measure(contestant, timing)?;
            vec![(Metric::Cps, reading(span.rate(), span.cpu(MICRO), None))]
        }
        Load::Exchanges { connections } => {
            let latency = exchanges::measure(contestant, connections, timing)?;
            let (p50, p99) = if connections == 1 {
                (Metric::Lat1P50, Metric::Lat1P99)
            } else {
                (Metric::Lat16P50, Metric::Lat16P99)
            };
            let cpu = latency.span.cpu(MICRO);
            vec![(p50, reading(latency.p50, cpu, None)), (p99, reading(latency.p99, cpu, None))]
        }
    })
}

/// The binary `uvs` of this very tree. Under `cargo run` it is built, which takes no time when it is up to date; else
/// it is `$UVS_BIN` or stands beside this program.
pub(crate) fn uvs() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").filter(|_| env::var_os("UVS_BIN").is_none());
    let Some(cargo) = cargo else { return uvs_lab::uvs_binary() };
    let this = env::current_exe().context("cannot find out which program this is")?;
    let folder = this.parent().context("a program is in a folder")?;
    let target = folder.parent().context("this program is in target/PROFILE")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(cargo)
        .args(["build", "--package", "uvs", "--bin", "uvs", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "uvs does not build");
    Ok(folder.join("uvs"))
}

fn default_plot() -> Result<PathBuf> {
    let this = env::current_exe().context("cannot find out which program this is")?;
    Ok(this.with_file_name("versus.svg"))
}

/// As many sockets as the system lets us have.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}
