//! The command line: `sim --seed S --steps N [--workers W] [--cache]`, `sim --script FILE`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::event::Script;
use crate::run::{Explored, Failure, explore, replay, shrink};
use crate::world::Kind;

const USAGE: &str = "\
usage: sim --seed S [--seeds N] --steps N [--workers W] [--cache] [--tolerate KIND]... [--out FOLDER]
       sim --script FILE [--out FOLDER]

Drives the director through a seeded world and checks invariants after every step. A violation prints seed, step
and a script that was made as short as it gets, and leaves the script and a capture of both sides.

  --seed S         the seed; the same one gives the same run
  --seeds N        so many seeds, one after the other (1)
  --steps N        steps of each seed
  --workers W      workers, whose queues are emptied in any order (1)
  --cache          with a flow cache
  --tolerate KIND  goes on after violations of that kind
  --script FILE    what happens is in the file
  --out FOLDER     where scripts and captures go (the current folder)

exit status: 0 nothing was violated, 1 something was, 2 wrong usage, 3 a step does not end
";

/// A step that takes longer than that does not end.
const STEP_MAX: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Arguments {
    seed: u64,
    seeds: u64,
    steps: usize,
    workers: u32,
    cache: bool,
    tolerated: Vec<Kind>,
    script: Option<PathBuf>,
    out: PathBuf,
}

/// Runs the command.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match read(arguments) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic of the director is a violation, and is told as such.
    std::panic::set_hook(Box::new(|_| {}));
    match &arguments.script {
        Some(path) => run_script(path, &arguments),
        None => run_seeds(&arguments),
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    fn value<T: FromStr<Err: std::fmt::Display>>(name: &str, word: Option<String>) -> Result<T, String> {
        let word = word.ok_or_else(|| format!("{name} needs a value"))?;
        word.parse().map_err(|error| format!("{name} {word}: {error}"))
    }
    let mut read = Arguments { seeds: 1, workers: 1, ..Arguments::default() };
    let (mut seeded, mut any) = (false, false);
    while let Some(word) = words.next() {
        any = true;
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--seed" => (read.seed, seeded) = (value("--seed", words.next())?, true),
            "--seeds" => read.seeds = value("--seeds", words.next())?,
            "--steps" => read.steps = value("--steps", words.next())?,
            "--workers" => read.workers = value("--workers", words.next())?,
            "--cache" => read.cache = true,
            "--tolerate" => {
                let word: String = value("--tolerate", words.next())?;
                let kind = Kind::ALL.iter().find(|kind| kind.to_string() == word);
                read.tolerated.push(*kind.ok_or_else(|| format!("there is no kind {word:?}"))?);
            }
            "--script" => read.script = Some(value("--script", words.next())?),
            "--out" => read.out = value("--out", words.next())?,
            other => return Err(format!("{other:?} is not known")),
        }
    }
    if !any {
        return Err("nothing is asked for".into());
    }
    if read.script.is_none() && (!seeded || read.steps == 0 || read.workers == 0) {
        return Err("--seed and --steps are needed, and at least one worker".into());
    }
    Ok(Some(read))
}

fn run_script(path: &Path, arguments: &Arguments) -> ExitCode {
    let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let script: Script = match read.and_then(|text| text.parse()) {
        Ok(script) => script,
        Err(error) => {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let (_, taken, outcome) = replay(&script, &arguments.tolerated, false);
    match outcome {
        Ok(()) => {
            println!("{}: {taken} events, nothing violated", path.display());
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{}: event {taken}: {violation}", path.display());
            let events = script.events[..taken].to_vec();
            leave(&Failure { script: Script { events, ..script }, violation }, arguments);
            ExitCode::FAILURE
        }
    }
}

fn run_seeds(arguments: &Arguments) -> ExitCode {
    let progress = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    watch(Arc::clone(&progress), arguments.seed);
    let mut failed = false;
    for number in 0..arguments.seeds {
        let seed = arguments.seed + number;
        progress.0.store(usize::try_from(number).unwrap_or(usize::MAX), Relaxed);
        let mode = (arguments.workers, arguments.cache);
        let explored = explore(seed, arguments.steps, mode, &arguments.tolerated, |step| {
            progress.1.store(step, Relaxed)
        });
        let Explored { steps, counts: [packets, picks, placed, passed], tolerated, failure } = explored;
        let told: Vec<_> =
            tolerated.iter().filter(|it| it.1 > 0).map(|(kind, times)| format!(", {times} {kind}")).collect();
        println!(
            "seed {seed}: {steps} steps, {packets} packets, {picks} picks, {placed} flows placed, {passed} packets \
             passed in the cache{}",
            told.concat()
        );
        if let Some(failure) = failure {
            failed = true;
            println!("seed {seed}, step {steps}: {}", failure.violation);
            // Step 0 is the watch's sign that nothing is explored.
            progress.1.store(usize::MAX, Relaxed);
            let short = shrink(&failure, &arguments.tolerated);
            println!("made shorter, to {} events: {}", short.script.events.len(), short.violation);
            leave(&short, arguments);
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints a script and leaves it, with a capture of both sides.
fn leave(failure: &Failure, arguments: &Arguments) {
    print!("{}", failure.script);
    let (world, ..) = replay(&failure.script, &arguments.tolerated, true);
    let name = format!("sim-{}-{}", failure.script.setup.seed, failure.violation.kind);
    let script = arguments.out.join(format!("{name}.txt"));
    let written = std::fs::write(&script, failure.script.to_string()).and_then(|()| {
        let capture = world.captured().expect("it was asked for");
        capture.write(&arguments.out, &name)
    });
    match written {
        Ok(captures) => {
            let names: Vec<_> =
                std::iter::once(&script).chain(&captures).map(|it| it.display().to_string()).collect();
            println!("left: {}", names.join(", "));
        }
        Err(error) => eprintln!("error: {}: {error}", script.display()),
    }
}

/// Ends the process, and says where, when a step does not end.
fn watch(progress: Arc<(AtomicUsize, AtomicUsize)>, seed: u64) {
    std::thread::spawn(move || {
        let read = || (progress.0.load(Relaxed), progress.1.load(Relaxed));
        loop {
            let before = read();
            std::thread::sleep(STEP_MAX);
            let (number, step) = read();
            if before == (number, step) && step != usize::MAX {
                println!("seed {}, step {}: does not end", seed + number as u64, step + 1);
                std::process::exit(3);
            }
        }
    });
}
