//! Instructions of one packet, counted by callgrind: the judge between two commits where clocks are noisy.
//!
//! `cargo run --release -p uvs-bench --example instructions [PART OF A NAME]` runs itself under valgrind (package
//! `valgrind`), twice for each scenario; the difference of the two runs is what the packets between them cost, copying
//! the frame into its buffer included.
//!
//! With `--profile profiling` in place of `--release` and `--rooms` behind the name, what is printed is the modules of
//! the engine that a packet of each scenario enters, with the instructions that are spent in each.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use uvs_bench::{
    CLIENT_SIDE, FAMILIES, METHODS, SERVER_SIDE, director_with_vips, establish_of, reply_of, request_of,
};
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::Forwarding;
use uvs_director::{Frame, Instant, Outbox, Verdict};
use uvs_wire::tcp::{ACK, SYN};
use uvs_wire::{Packet, ethernet};

const CONNECTIONS: usize = 1000;
const FEW: usize = 1000;
const MANY: usize = 11_000;
/// In names of scenarios with as many VIPs more.
const MANY_VIPS: &str = "1000-vips";
const RUN: &str = "--run";
const ROOMS: &str = "--rooms";

fn names() -> Vec<String> {
    let mut names: Vec<String> = FAMILIES.iter().map(|(family, _)| format!("parse/{family}")).collect();
    for kind in ["hit", "reply", "miss"] {
        for (method, forwarding) in METHODS {
            for (family, _) in FAMILIES {
                if kind != "reply" || forwarding == Forwarding::Nat {
                    names.push(format!("{kind}/{method}/{family}"));
                }
            }
        }
    }
    for kind in ["hit", "reply"] {
        names.extend(FAMILIES.iter().map(|(family, _)| format!("{kind}/nat/{MANY_VIPS}/{family}")));
    }
    names
}

/// Handles `packets` packets of a scenario.
fn run(name: &str, packets: usize) {
    let parts: Vec<&str> = name.split('/').collect();
    let family_name = parts.last().expect("a name has parts");
    let (_, family) = FAMILIES.into_iter().find(|(name, _)| name == family_name).expect("a known family");
    if parts[0] == "parse" {
        let frame = request_of(family, 1, ACK, 64);
        for _ in 0..packets {
            let ip = std::hint::black_box(&frame[ethernet::HEADER_LEN..]);
            std::hint::black_box(Packet::parse(ip)).expect("a packet");
        }
        return;
    }
    let (_, forwarding) = METHODS.into_iter().find(|(name, _)| *name == parts[1]).expect("a known method");
    let is_miss = parts[0] == "miss";
    let vips = if parts.contains(&MANY_VIPS) { 1000 } else { 0 };
    let director = director_with_vips(family, forwarding, CONNECTIONS + MANY, Arc::new(NativeOnly), vips);
    establish_of(family, &director, CONNECTIONS);
    let (from, to) =
        if parts[0] == "reply" { (SERVER_SIDE, CLIENT_SIDE) } else { (CLIENT_SIDE, SERVER_SIDE) };
    // As many whatever `packets` is, so that making them drops out of the difference.
    let frames: Vec<Vec<u8>> = match parts[0] {
        "hit" => (0..CONNECTIONS).map(|n| request_of(family, n, ACK, 64)).collect(),
        "reply" => (0..CONNECTIONS).map(|n| reply_of(family, n, ACK, 64)).collect(),
        _ => (CONNECTIONS..CONNECTIONS + MANY).map(|n| request_of(family, n, SYN, 0)).collect(),
    };
    assert!(!is_miss || packets <= frames.len(), "each miss is another client's");
    let (mut frame, mut out) = (Frame::new(), Outbox::new());
    for n in 0..packets {
        frame.fill(&frames[n % frames.len()]);
        let verdict = director.handle(from, &mut frame, Instant::ZERO, &mut out);
        assert_eq!(verdict, Verdict::Transmit(to));
    }
    // Taking the table down costs what it holds: not part of this.
    std::mem::forget(director);
}

/// Instructions of one run under callgrind; `profile` is where it writes which lines they belong to.
fn count(name: &str, packets: usize, profile: &Path) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
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

/// Instructions by module of the engine, as a profile of callgrind has them: files and folders of two names at the
/// most, so that all of the connection table is one.
fn by_room(profile: &str) -> BTreeMap<String, i64> {
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut rooms, mut room, mut is_call) = (BTreeMap::new(), None, false);
    for line in profile.lines() {
        let file_of = |kinds: [&str; 3]| kinds.iter().find_map(|kind| line.strip_prefix(kind));
        let (own, called) = (file_of(["fl=", "fi=", "fe="]), file_of(["cfl=", "cfi=", "cfe="]));
        if let Some(file) = own.or(called) {
            // A number, and the first time the name that it stands for.
            let (number, name) = file.split_once(' ').unwrap_or((file, ""));
            let name = if name.is_empty() { files.get(number).copied().unwrap_or("") } else { name };
            files.insert(number, name);
            if called.is_some() {
                continue;
            }
            room = name.split_once("router/director/src/").map(|(_, path)| {
                let path = path.trim_end_matches(".rs");
                path.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
            });
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(['+', '-', '*', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            // What the line behind a call says is spent elsewhere.
            let cost = line.rsplit(' ').next().and_then(|cost| cost.parse::<i64>().ok());
            if let (Some(room), Some(cost), false) = (&room, cost, is_call) {
                *rooms.entry(room.clone()).or_default() += cost;
            }
            is_call = false;
        }
    }
    rooms
}

/// Prints the modules that a packet of a scenario enters.
fn print_rooms(name: &str) -> Result<(), String> {
    let profile = std::env::temp_dir().join(format!("uvs-rooms-{}", std::process::id()));
    let rooms_of = |packets| {
        count(name, packets, &profile)?;
        let text = std::fs::read_to_string(&profile).map_err(|error| error.to_string());
        std::fs::remove_file(&profile).map_err(|error| error.to_string())?;
        text.map(|text| by_room(&text))
    };
    let (few, many) = (rooms_of(FEW)?, rooms_of(MANY)?);
    let packets = (MANY - FEW) as i64;
    let spent = many.iter().map(|(room, cost)| (room, (cost - few.get(room).unwrap_or(&0)) / packets));
    let mut rooms: Vec<(&String, i64)> = spent.filter(|(_, cost)| *cost > 0).collect();
    rooms.sort_by_key(|(_, cost)| core::cmp::Reverse(*cost));
    if rooms.is_empty() {
        return Err("no lines are known: build with --profile profiling".into());
    }
    println!("{name}: {} rooms", rooms.len());
    rooms.iter().for_each(|(room, cost)| println!("  {room:22} {cost:5}"));
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, packets] = &args[..]
        && first == RUN
    {
        run(name, packets.parse().expect("a number of packets"));
        return ExitCode::SUCCESS;
    }
    let wants_rooms = args.iter().any(|arg| arg == ROOMS);
    let wanted = args.iter().find(|arg| *arg != ROOMS).map_or("", String::as_str);
    let nowhere = Path::new("/dev/null");
    for name in names().iter().filter(|name| name.contains(wanted)) {
        let done = if wants_rooms {
            print_rooms(name)
        } else {
            let counted = count(name, FEW, nowhere).and_then(|few| Ok(count(name, MANY, nowhere)? - few));
            counted.map(|counted| println!("{name:22} {:5}", counted / (MANY - FEW) as u64))
        };
        match done {
            Ok(()) => {}
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
