//! A call that failed, run again from its dump, with no director and no traffic.

use core::fmt;
use std::path::Path;

use uvs_director::Instant;
use uvs_director::scheduler::Load;

use crate::base::{hex, unhex};
use crate::dump::{Dump, DumpedFuel, DumpedPick};
use crate::error::StartError;
use crate::host::Host;
use crate::instance::{Crash, Instance};
use crate::module::Module;
use crate::shipped::SHIPPED;
use crate::translate::{judge, unword, wire_destination, wire_flow, word};

/// What the call came to this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The module that was run, by its SHA-256 in hex, and whether it is that of the dump.
    pub sha256: String,
    /// Whether it is the module of the dump.
    pub same_module: bool,
    /// Picks of the history that were answered as then, and how many there were.
    pub history: (usize, usize),
    /// How it failed; `None`: it did not.
    pub failure: Option<Replayed>,
    /// What it answered, if it did and the call was `schedule`.
    pub answer: Option<Option<u32>>,
    /// Whether it failed by the same cause and with the same words.
    pub same: bool,
}

/// A failure that was seen again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// In which call; one before the dumped one if another module is run.
    pub call: String,
    /// As the metrics name it.
    pub cause: String,
    /// The trap or the complaint.
    pub message: String,
    /// The functions it was in, the innermost first.
    pub backtrace: Vec<String>,
    /// What it was given and took.
    pub fuel: Option<DumpedFuel>,
}

/// Runs the call of `dump` again, with the component in `module` or else the one the dump names.
///
/// # Errors
/// A sentence: the module cannot be loaded, or the dump contradicts itself.
pub fn replay(host: &Host, dump: &Dump, module: Option<&Path>) -> Result<Replay, String> {
    let module = find(host, dump, module)?;
    let mut replay = Replay {
        sha256: module.sha256(),
        same_module: module.sha256() == dump.module.sha256,
        history: (0, dump.history.len()),
        failure: None,
        answer: None,
        same: false,
    };
    let run = Run { dump, module: &module, replay: &mut replay };
    match run.run() {
        Ok(()) => {}
        Err(Stop::Broken(reason)) => return Err(reason),
        Err(Stop::Failed(call, crash)) => {
            replay.same =
                call == dump.call && crash.cause.label() == dump.cause && crash.message == dump.message;
            replay.failure = Some(Replayed {
                call,
                cause: crash.cause.label().to_owned(),
                message: crash.message,
                backtrace: crash.frames,
                fuel: crash.fuel.map(|(budget, used)| DumpedFuel { budget, used }),
            });
        }
    }
    Ok(replay)
}

fn find(host: &Host, dump: &Dump, module: Option<&Path>) -> Result<Module, String> {
    let origin = &dump.module.origin;
    let shipped = SHIPPED.iter().find(|(name, _)| name == origin);
    match (module, shipped) {
        (Some(path), _) => host.load(path),
        (None, Some((name, bytes))) => host.compile(name, bytes),
        (None, None) => host.load(Path::new(origin)),
    }
    .map_err(|error| error.sentence())
}

enum Stop {
    Failed(String, Crash),
    Broken(String),
}

struct Run<'a> {
    dump: &'a Dump,
    module: &'a Module,
    replay: &'a mut Replay,
}

impl Run<'_> {
    fn run(self) -> Result<(), Stop> {
        let Self { dump, module, replay } = self;
        let failed = |call: &str| {
            let call = call.to_owned();
            move |crash| Stop::Failed(call, crash)
        };
        let now = dump.history.first().or(dump.pick.as_ref()).map_or(Instant::ZERO, moment);
        let started = Instance::start(module, &dump.service, &dump.options, dump.seed);
        let mut instance = started.map_err(|error| match error {
            StartError::Failed { call, cause, message } => {
                Stop::Failed(call.to_owned(), Crash::of(cause, message))
            }
            StartError::Refused { message, .. } => {
                Stop::Failed("init".to_owned(), Crash::of(crate::Cause::Init, message))
            }
        })?;
        let mut candidates = dump.candidates();
        let count = candidates.len();
        let set: Vec<_> = candidates.iter().map(wire_destination).collect();
        instance.update(&set, now).map_err(failed("update"))?;
        if let Some(state) = &dump.restored {
            let state = unhex(state)
                .ok_or_else(|| Stop::Broken("the state in the dump is not hexadecimal".into()))?;
            instance.restore(&state, count).map_err(failed("restore"))?;
        }
        if dump.call == "save" {
            instance.save(count).map_err(failed("save"))?;
        }
        // Where the beginning is missing, the loads that were told with it are, too: tell those of the end.
        let mut missing: Vec<u64> = if dump.whole || count > crate::MAX_DESTINATIONS {
            Vec::new()
        } else {
            let loaded = (0u32..).zip(&candidates).filter(|(_, c)| c.load != Load::default());
            loaded.map(|(position, c)| word(position, c.load)).collect()
        };
        let mut ask = |pick: &DumpedPick| {
            let mut words = core::mem::take(&mut missing);
            words.extend(&pick.changed);
            for (position, load) in words.iter().map(|&word| unword(word)) {
                if let Some(candidate) = candidates.get_mut(position as usize) {
                    candidate.load = load;
                }
            }
            if !pick.events.is_empty() {
                instance.observe(&pick.events, count, moment(pick)).map_err(failed("observe"))?;
            }
            instance.rewind(pick.random);
            let answer = instance
                .schedule(wire_flow(&pick.flow()), &words, count, moment(pick))
                .map_err(failed("schedule"))?;
            Ok((answer, answer.map(|position| judge(position, &candidates, dump.takes_overloaded))))
        };
        for pick in &dump.history {
            let (answer, _) = ask(pick)?;
            replay.history.0 += usize::from(answer == pick.answer);
        }
        if let Some(pick) = &dump.pick {
            let (answer, verdict) = ask(pick)?;
            if let Some(Err((cause, message))) = verdict {
                return Err(failed("schedule")(Crash::of(cause, message)));
            }
            replay.answer = Some(answer);
        }
        if !dump.events.is_empty() {
            let now = dump.history.last().map_or(now, moment);
            instance.observe(&dump.events, count, now).map_err(failed("observe"))?;
        }
        Ok(())
    }
}

fn moment(pick: &DumpedPick) -> Instant {
    Instant::from_millis(pick.now_ms)
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sha256, same_module, history: (same, all), failure, answer, .. } = self;
        let which = if *same_module { "the module of the dump" } else { "NOT the module of the dump" };
        writeln!(f, "module    sha256 {sha256}, {which}")?;
        writeln!(f, "history   {same} of {all} picks answered as then")?;
        match failure {
            Some(Replayed { call, cause, message, backtrace, fuel }) => {
                writeln!(f, "failed    in {call}, {cause}: {message}")?;
                for frame in backtrace {
                    writeln!(f, "          {frame}")?;
                }
                if let Some(DumpedFuel { budget, used }) = fuel {
                    writeln!(f, "fuel      {used} of {budget}")?;
                }
            }
            None => match answer {
                Some(Some(position)) => writeln!(f, "answered  position {position}")?,
                Some(None) => writeln!(f, "answered  none")?,
                None => writeln!(f, "passed")?,
            },
        }
        write!(
            f,
            "result    {}",
            if self.same { "the same as in the dump" } else { "another one than in the dump" }
        )
    }
}

/// The 32 bytes that 64 hexadecimal digits stand for.
///
/// # Errors
/// A sentence about what it is instead.
pub fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    unhex(text).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("{text:?} is no SHA-256: 64 hexadecimal digits, as `sha256sum FILE` prints them")
    })
}

/// As `sha256sum` prints it.
pub fn format_sha256(digest: &[u8; 32]) -> String {
    hex(digest)
}
