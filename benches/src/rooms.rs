//! `uvs-bench rooms`: which modules of the engine one packet enters, in what order, and to which it comes back.
//!
//! The packet is handled under valgrind's lackey, which writes down the address of each instruction as it is executed;
//! `addr2line` (binutils) tells which function it is of, and into which others that was inlined. A module is entered
//! where the first of its functions begins, and left when the last one has ended; that the compiler moves instructions
//! of one function between those of another counts as leaving, too.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use uvs_bench::scenario::{Scenario, names};
use uvs_director::{Frame, Instant, Outbox, Verdict};

/// Packets that go before the one that is looked at: what is remembered of a flow's way is there by then.
const WARM: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs valgrind (apt-get install valgrind) and addr2line (binutils, which a compiler has).

Examples:
  uvs-bench rooms                  of each scenario
  uvs-bench rooms hit/nat/v4       of a packet of a connection by NAT

Exit status: 0 it was counted, 1 it could not be.")]
pub(crate) struct Args {
    /// Scenarios with this in their names, which are those of `--example instructions`
    #[arg(value_name = "PART", default_value = "")]
    part: String,
    /// Handle a packet, for valgrind to watch
    #[arg(long, hide = true, value_name = "NAME")]
    walk: Option<String>,
}

pub(crate) fn run(arguments: &Args) -> Result<ExitCode> {
    if let Some(name) = &arguments.walk {
        walk(name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<String> = names().into_iter().filter(|name| name.contains(&arguments.part)).collect();
    ensure!(!names.is_empty(), "no scenario has {:?} in its name", arguments.part);
    for name in names {
        print!("{}", visits(&name).with_context(|| name.clone())?.text(&name));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the packet begins, for whoever reads the addresses.
#[inline(never)]
fn begin() {
    std::hint::black_box("begin");
}

/// And where it ends.
#[inline(never)]
fn end() {
    std::hint::black_box(end as fn());
}

/// Handles packets, the last of them between [`begin`] and [`end`]; prints where this program is loaded, and where
/// these two are.
fn walk(name: &str) -> Result<()> {
    let Scenario { director, frames, from, to } = Scenario::new(name, WARM + 1);
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    let this = std::env::current_exe()?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let first = maps.lines().find(|line| line.ends_with(&*this.to_string_lossy()));
    let base = first.and_then(|line| line.split_once('-')).context("where this program is loaded")?.0;
    println!("{base} {:x} {:x}", begin as fn() as usize, end as fn() as usize);
    for n in 0..=WARM {
        frame.fill(&frames[n % frames.len()]);
        if n == WARM {
            begin();
        }
        let verdict = director.handle(from, &mut frame, Instant::ZERO, &mut out);
        if n == WARM {
            end();
        }
        ensure!(verdict == Verdict::Transmit(to), "{verdict:?}");
    }
    // Taking the table down takes long under valgrind.
    std::mem::forget(director);
    Ok(())
}

/// The addresses of the instructions of one packet in this program's file, in order.
fn trace(name: &str) -> Result<Vec<u64>> {
    let mut valgrind = Command::new("valgrind")
        .args(["--tool=lackey", "--basic-counts=no", "--trace-mem=yes"])
        .arg(std::env::current_exe()?)
        .args(["rooms", "--walk", name])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("valgrind cannot be started; apt-get install valgrind")?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (mut addresses, mut said) = (Vec::new(), String::new());
    for line in BufReader::new(valgrind.stderr.take().context("a pipe")?).lines() {
        let line = line?;
        match line.strip_prefix("I  ").and_then(|line| hex(line.split_once(',')?.0)) {
            Some(address) => addresses.push(address),
            // Loads and stores begin with a blank.
            None if line.starts_with(' ') => {}
            None => said.extend([&line, "\n"]),
        }
    }
    let mut told = String::new();
    valgrind.stdout.take().context("a pipe")?.read_to_string(&mut told)?;
    let ended = valgrind.wait()?;
    ensure!(ended.success(), "{ended}\n{said}");
    let places: Vec<u64> = told.split_whitespace().filter_map(hex).collect();
    let [base, begin, end] = places[..] else { bail!("the packet was not handled: {told}\n{said}") };
    let place = |of: u64| addresses.iter().position(|address| *address == of);
    let (Some(first), Some(last)) = (place(begin), place(end)) else {
        bail!("valgrind did not see the packet:\n{said}")
    };
    ensure!(first < last, "the packet ended before it began");
    Ok(addresses[first..last].iter().map(|address| address.wrapping_sub(base)).collect())
}

/// The functions that an instruction is of, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stack {
    /// The outermost, which is called; the others are inlined into it.
    function: String,
    /// The modules of the engine among them.
    modules: Vec<String>,
}

/// `path/find` of a file of the engine, `wire/checksum` of one of uvs-wire; none of any other.
fn module(file: &str) -> Option<String> {
    let path = file.rsplit_once(':').map_or(file, |(path, _)| path);
    let path = path.strip_suffix(".rs")?;
    match path.split_once("router/director/src/") {
        Some((_, path)) => Some(path.to_owned()),
        None => path.split_once("router/wire/src/").map(|(_, path)| format!("wire/{path}")),
    }
}

/// What `addr2line -a -f -i` prints: an address, then function and place by turns, innermost first.
fn stacks(printed: &str) -> HashMap<u64, Stack> {
    let mut stacks = HashMap::new();
    let mut lines = printed.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(address) = line.strip_prefix("0x").and_then(|text| u64::from_str_radix(text, 16).ok())
        else {
            continue;
        };
        let mut stack = Stack::default();
        while let Some(function) = lines.next_if(|line| !line.starts_with("0x")) {
            function.clone_into(&mut stack.function);
            stack.modules.extend(lines.next().and_then(module));
        }
        stack.modules.reverse();
        stacks.insert(address, stack);
    }
    stacks
}

fn stacks_of(addresses: &[u64]) -> Result<HashMap<u64, Stack>> {
    let mut child = Command::new("addr2line")
        .args(["-a", "-f", "-i", "-e"])
        .arg(std::env::current_exe()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("addr2line cannot be started; apt-get install binutils")?;
    let mut input = child.stdin.take().context("a pipe")?;
    let different: BTreeSet<u64> = addresses.iter().copied().collect();
    let text: String = different.iter().map(|address| format!("{address:x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    writer.join().expect("it does not panic")?;
    ensure!(output.status.success(), "addr2line: {}", output.status);
    Ok(stacks(&String::from_utf8_lossy(&output.stdout)))
}

/// A module that a packet enters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visit {
    module: String,
    /// Executed in it, and not in one that it calls.
    instructions: usize,
    /// How often it was entered.
    times: usize,
}

/// The modules that a packet enters, in the order of first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Visits(Vec<Visit>);

impl Visits {
    /// From the functions of each instruction, in order.
    fn of<'s>(instructions: impl IntoIterator<Item = &'s Stack>) -> Self {
        let mut visits: Vec<Visit> = Vec::new();
        // Functions that were called and have not returned, each with the modules that it was called from.
        let mut called: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut inside: Vec<&str> = Vec::new();
        for stack in instructions {
            match called.iter().position(|(function, _)| *function == stack.function) {
                Some(depth) => called.truncate(depth + 1),
                None => called.push((&stack.function, inside.clone())),
            }
            let around = called.last().map_or(&[][..], |(_, around)| around);
            let now: Vec<&str> =
                around.iter().copied().chain(stack.modules.iter().map(String::as_str)).collect();
            for module in &now {
                let place = visits.iter().position(|visit| visit.module == *module).unwrap_or_else(|| {
                    visits.push(Visit { module: (*module).to_owned(), instructions: 0, times: 0 });
                    visits.len() - 1
                });
                visits[place].times += usize::from(!inside.contains(module));
            }
            if let Some(innermost) = now.last()
                && let Some(visit) = visits.iter_mut().find(|visit| visit.module == **innermost)
            {
                visit.instructions += 1;
            }
            inside = now;
        }
        Self(visits)
    }

    fn text(&self, name: &str) -> String {
        let mut text = String::new();
        let (engine, wire): (Vec<&Visit>, Vec<&Visit>) =
            self.0.iter().partition(|visit| !visit.module.starts_with("wire/"));
        writeln!(text, "{name}: {} modules of the engine, {} of uvs-wire", engine.len(), wire.len())
            .expect("a String takes everything");
        writeln!(text, "  {:24} {:>5} {:>4}", "module", "instr", "runs").expect("a String takes everything");
        for Visit { module, instructions, times } in &self.0 {
            writeln!(text, "  {module:24} {instructions:5} {times:4}").expect("a String takes everything");
        }
        text
    }
}

fn visits(name: &str) -> Result<Visits> {
    let addresses = trace(name)?;
    let stacks = stacks_of(&addresses)?;
    let visits = Visits::of(addresses.iter().filter_map(|address| stacks.get(address)));
    ensure!(!visits.0.is_empty(), "no lines are known of the engine: was it built by `--release`?");
    Ok(visits)
}
