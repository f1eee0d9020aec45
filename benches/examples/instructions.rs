//! Instructions of one packet, counted by callgrind: the judge between two commits where clocks are noisy.
//!
//! `cargo run --release -p uvs-bench --example instructions [PART OF A NAME]` runs itself under valgrind (package
//! `valgrind`), twice for each scenario; the difference of the two runs is what the packets between them cost, copying
//! the frame into its buffer included. Which modules they are spent in is told by `uvs-bench rooms`.

use std::process::{Command, ExitCode, Stdio};

use uvs_bench::scenario::{Scenario, family_of, names};
use uvs_bench::{FAMILIES, request_of};
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_wire::tcp::ACK;
use uvs_wire::{Packet, ethernet};

const FEW: usize = 1000;
const MANY: usize = 11_000;
const RUN: &str = "--run";
/// Reading a packet alone.
const PARSE: &str = "parse/";

/// Handles `packets` packets of a scenario.
fn run(name: &str, packets: usize) {
    if name.starts_with(PARSE) {
        let frame = request_of(family_of(name), 1, ACK, 64);
        for _ in 0..packets {
            let ip = std::hint::black_box(&frame[ethernet::HEADER_LEN..]);
            std::hint::black_box(Packet::parse(ip)).expect("a packet");
        }
        return;
    }
    // As many whatever `packets` is, so that making them drops out of the difference.
    let Scenario { director, frames, from, to } = Scenario::new(name, MANY);
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    for n in 0..packets {
        frame.fill(&frames[n % frames.len()]);
        let verdict = director.handle(from, &mut frame, Instant::ZERO, &mut out);
        assert_eq!(verdict, Verdict::Transmit(to));
    }
    // Taking the table down costs what it holds: not part of this.
    std::mem::forget(director);
}

/// Instructions of one run under callgrind.
fn count(name: &str, packets: usize) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([RUN, name, &packets.to_string()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind cannot be started ({error}); apt-get install valgrind"))?;
    if !output.status.success() {
        return Err(format!("{name} failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, n)| n.trim());
    counted.and_then(|n| n.parse().ok()).ok_or_else(|| format!("callgrind did not count {name}:\n{said}"))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, packets] = &args[..]
        && first == RUN
    {
        run(name, packets.parse().expect("a number of packets"));
        return ExitCode::SUCCESS;
    }
    let wanted = args.first().map_or("", String::as_str);
    let all = FAMILIES.iter().map(|(family, _)| format!("{PARSE}{family}")).chain(names());
    for name in all.filter(|name| name.contains(wanted)) {
        match count(&name, FEW).and_then(|few| Ok(count(&name, MANY)? - few)) {
            Ok(counted) => println!("{name:22} {:5}", counted / (MANY - FEW) as u64),
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
