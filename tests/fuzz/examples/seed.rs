//! Fills `corpus/` from the recordings (tests/golden) and the config examples: `cargo run --release --example seed`.
//!
//! Inputs are described in the module of each target. Files are named by what they came from, so that seeding again
//! replaces them.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use uvs_fuzz::handle::op;

/// Ethernet.
const HEADER_LEN: usize = 14;
/// Longer scripts only slow a fuzzer down.
const SCRIPT_MAX: usize = 1500;

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = Corpus { root: here.join("corpus") };
    let golden = here.join("../golden");
    let mut shapes = BTreeSet::new();
    for path in recordings(&golden)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let scenario: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let steps = scenario["steps"].as_array().ok_or("a recording has steps")?;
        let commands: Vec<&str> = steps
            .iter()
            .filter(|step| step["action"] == "command")
            .filter_map(|step| step["cmd"].as_str())
            .collect();
        corpus.put("adm", &name, commands.join("\n").as_bytes())?;
        for frame in frames(steps) {
            if shapes.insert(shape(&frame)) {
                let control = [0x02, 0x40, 0x1f, 0x90, 10, 7, 0, 28];
                corpus.put(
                    "wire",
                    &format!("{name}-{}", shapes.len()),
                    &[&control, &frame[HEADER_LEN..]].concat(),
                )?;
            }
        }
        let header = op::header(name.starts_with("ftp"), shapes.len().is_multiple_of(2));
        for (index, script) in scripts(steps, header).iter().enumerate() {
            corpus.put("handle", &format!("{name}-{index}"), script)?;
        }
    }
    for entry in fs::read_dir(here.join("../../config/examples"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        corpus.put("config", &name, &fs::read(&path)?)?;
    }
    Ok(())
}

struct Corpus {
    root: PathBuf,
}

impl Corpus {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let folder = self.root.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    }
}

fn recordings(golden: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [golden.to_owned(), golden.join("random")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") && !path.ends_with("INDEX.json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()).collect()
}

/// All frames of a recording, what the director sent included.
fn frames(steps: &[Value]) -> Vec<Vec<u8>> {
    let sent = |step: &Value| step["out"].as_array().cloned().unwrap_or_default();
    let all = steps.iter().flat_map(|step| {
        let input = step["in"]["hex"].as_str().map(hex);
        let output = sent(step).into_iter().filter_map(|sent| sent["hex"].as_str().map(hex));
        input.into_iter().chain(output).collect::<Vec<_>>()
    });
    all.filter(|frame| frame.len() > HEADER_LEN + 20).collect()
}

/// One frame of each shape does: protocol, length up to 128, flags of fragments and TCP.
fn shape(frame: &[u8]) -> (u8, usize, u8, u8) {
    let ip = &frame[HEADER_LEN..];
    let v4 = ip[0] >> 4 == 4;
    let (protocol, flags, transport) = if v4 { (ip[9], ip[6] & 0x3f, 20) } else { (ip[6], 1, 40) };
    let kind = match protocol {
        6 => ip.get(transport + 13),
        1 | 58 => ip.get(transport),
        132 => ip.get(transport + 12),
        _ => None,
    };
    (protocol, ip.len().min(128), flags, kind.copied().unwrap_or(0))
}

/// The recording as scripts for `handle`: its commands, its packets, its time.
fn scripts(steps: &[Value], header: [u8; op::HEADER_LEN]) -> Vec<Vec<u8>> {
    let mut scripts = Vec::new();
    let mut script = header.to_vec();
    let mut set_up: Option<Vec<u8>> = None;
    let mut now = 0.0;
    for step in steps {
        let t = step["t"].as_f64().unwrap_or(now);
        if t - now > 0.5 {
            op::advance(&mut script, t - now);
        }
        now = now.max(t);
        match step["action"].as_str() {
            Some("command") => step["cmd"].as_str().unwrap_or_default().split(';').for_each(|line| {
                op::command(&mut script, line.trim());
            }),
            Some("packet") => {
                // What is configured first is configured again in each further script.
                set_up.get_or_insert_with(|| script.clone());
                let port = u8::from(step["in"]["side"] == "rs");
                op::frame(&mut script, port, &hex(step["in"]["hex"].as_str().unwrap_or_default()));
            }
            _ => {}
        }
        if script.len() > SCRIPT_MAX {
            let next = set_up.clone().unwrap_or_else(|| header.to_vec());
            scripts.push(std::mem::replace(&mut script, next));
        }
    }
    scripts.push(script);
    scripts
}
