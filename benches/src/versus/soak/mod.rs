//! Full load for a while, with every byte compared: nothing may be lost, harmed or left in memory.
//!
//! ```text
//!   streams      TCP both ways, as fast as they go          each byte by its connection and its place
//!   datagrams    UDP there and back, so many on the way     each byte; each is answered, and once
//!   connections  connect, ask, close, 32 at a time          none fails, from ports that are used again and again
//!   held         connections that stay, a word now and then none is lost
//!   memory       what the director takes, each second       as much in the last third as in the first
//! ```

mod datagrams;
mod held;
mod memory;
mod streams;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use uvs_lab::privilege;

use super::args::{Attach, Device, Method, Mode, Timing};
use super::bulk::{join, or_stop};
use super::contestant::{Contestant, Keys};
use super::world::in_host;
use super::{NANO, connections, echo, raise_descriptor_limit, uvs};
use memory::Memory;

/// Ports of each of the client's addresses: all are used again within some seconds, so that the director's table soon
/// is as large as it gets.
const PORTS: usize = 3000;

/// `uvs-bench soak`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
It needs root (network namespaces, /dev/net/tun). Exit status 1: something was lost, harmed, or memory grew.")]
pub(crate) struct Args {
    /// How long, in seconds; memory is judged from 30 on
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Forwarding method
    #[arg(long, value_enum, default_value = "nat")]
    method: Method,
    /// Device of the director
    #[arg(long, value_enum, default_value = "tap")]
    device: Device,
    /// How frames reach a TAP
    #[arg(long, value_enum, default_value = "bridge")]
    attach: Attach,
    /// A line for every [[interface]] of the config of uvs, such as 'queues = 2' [may be repeated]
    #[arg(long, value_name = "LINE")]
    interface_key: Vec<String>,
}

/// What came through.
struct Totals {
    streams: streams::Total,
    datagrams: datagrams::Total,
    connections: u64,
    held: held::Total,
    memory: Memory,
}

/// Runs the soak. The exit status is 1 when something was lost or harmed.
///
/// # Errors
/// The network cannot be built.
pub(crate) fn run(arguments: &Args) -> Result<ExitCode> {
    let mode = Mode { method: arguments.method, device: arguments.device, attach: arguments.attach };
    ensure!(mode.makes_sense(), "a tun device carries nat and tun, on attach bridge");
    privilege::acquire()?;
    privilege::check_tun()?;
    raise_descriptor_limit()?;
    let mut contestant =
        Contestant::uvs(mode, &uvs()?, &Keys { interface: &arguments.interface_key, workers: &[] })?;
    contestant.world.ports = PORTS;
    eprintln!("{mode}: {} s of full load", arguments.seconds);
    let soaked = soak(&contestant, Duration::from_secs(arguments.seconds))
        .and_then(|totals| contestant.prepare().map(|()| totals));
    let lost = contestant.dropped_by_queues();
    // The networks go before anything is said about them.
    drop(contestant);
    let verdict = soaked.and_then(|totals| judge(&totals, lost?, arguments.seconds));
    match verdict {
        Ok(()) => {
            println!("nothing was lost or harmed");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("failed: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// All loads at once. The first that fails ends the others.
fn soak(contestant: &Contestant, length: Duration) -> Result<Totals> {
    let world = &contestant.world;
    let streams = streams::open(world)?;
    let listener = echo::listen(world)?;
    // The real servers answer until nobody asks any more.
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (stop, over, streams, listener) = (&stop, &over, &streams, &listener);
        let server = scope.spawn(move || or_stop(stop, echo::serve(listener, over)));
        let streaming = scope.spawn(move || or_stop(stop, streams::run(streams, stop)));
        let asking = scope.spawn(move || or_stop(stop, datagrams::run(contestant, stop)));
        let holding = scope.spawn(move || or_stop(stop, held::run(world, stop)));
        let connecting = scope.spawn(move || {
            let timing = Timing { warm_up: Duration::ZERO, window: length };
            let connect = || connections::count(contestant, timing, stop);
            or_stop(stop, in_host(&world.client, connect))
        });
        let memory = or_stop(stop, Memory::watch(contestant, Instant::now() + length, stop));
        stop.store(true, Ordering::Relaxed);
        let (streams, datagrams, connections, held) =
            (join(streaming), join(asking), join(connecting), join(holding));
        over.store(true, Ordering::Relaxed);
        join(server)?;
        // What ends one ends the others, which may then fail as well: all is told.
        let mut failures = Vec::new();
        let mut check = |name: &str, error: Option<&anyhow::Error>| {
            failures.extend(error.map(|error| format!("{name}: {error:#}")));
        };
        check("memory", memory.as_ref().err());
        check("streams", streams.as_ref().err());
        check("datagrams", datagrams.as_ref().err());
        check("connections", connections.as_ref().err());
        check("held connections", held.as_ref().err());
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(Totals {
            streams: streams?,
            datagrams: datagrams?,
            connections: connections?,
            held: held?,
            memory: memory?,
        })
    })
}

/// Prints what came through, and finds what should not be.
fn judge(totals: &Totals, dropped: u64, seconds: u64) -> Result<()> {
    let Totals { streams, datagrams, connections, held, memory } = totals;
    let rate = streams.bytes as f64 * 8.0 / NANO / seconds as f64;
    println!(
        "TCP:         {} bytes on {} streams, each compared ({rate:.1} Gbit/s)",
        streams.bytes, streams.count
    );
    println!(
        "UDP:         {} datagrams answered, each byte compared; {} had to be asked twice, queues were full {dropped} times",
        datagrams.answered, datagrams.repeated
    );
    println!("connections: {connections} opened, asked and closed, none failed");
    println!("held:        {} connections all the time, {} exchanges", held.connections, held.exchanges);
    println!("memory:      {memory}");
    ensure!(
        datagrams.repeated <= dropped,
        "{} datagrams were lost, and only {dropped} frames found a queue full",
        datagrams.repeated
    );
    if let Some(why) = memory.has_grown() {
        bail!("the director's memory grows: {why}");
    }
    Ok(())
}
