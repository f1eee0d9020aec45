//! The recordings' format (tests/golden/README.md).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// One recorded scenario.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub scenario: String,
    /// What it is about.
    #[serde(default)]
    pub title: String,
    /// Kernel settings before it began, as `net.ipv4.vs.NAME`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, Setting>,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Whether its counters were read once the kernel had added them up. In the others they are late.
    pub fn counters_are_exact(&self) -> bool {
        self.scenario.starts_with("random_")
    }

    /// The MTU of the real servers' wire where it was not 1500: recordings set it up before they began and say so in
    /// their title only.
    pub fn rs_side_mtu(&self) -> Option<&str> {
        let (_, rest) = self.title.split_once("rs-side MTU ")?;
        let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        Some(&rest[..end]).filter(|digits| !digits.is_empty())
    }
}

/// The value of a kernel setting, which the recordings write as a number or as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// One step.
#[derive(Debug, Deserialize)]
pub struct Step {
    /// Seconds since the start.
    pub t: f64,
    /// What was done, and what came of it.
    #[serde(flatten)]
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// A line for the shell.
    Command {
        /// The line.
        cmd: String,
        /// Exit status.
        rc: u8,
        /// Standard output and error, as they came.
        output: String,
    },
    /// A kernel setting, as `ipv4.vs.NAME`.
    Sysctl {
        /// Its name.
        name: String,
        /// Its new value.
        value: Setting,
    },
    /// Nothing is sent; `t` is the end of it.
    Sleep {
        /// Frames that came meanwhile.
        #[serde(default)]
        out: Vec<Sent>,
    },
    /// A packet for the director.
    Packet {
        /// The packet.
        #[serde(rename = "in")]
        input: Input,
        /// What it sent.
        out: Vec<Sent>,
        /// Lines of `/proc/net/ip_vs_conn` just after.
        conns: Option<Vec<String>>,
        /// Lines of `/proc/net/ip_vs` just after.
        dests_after: Option<Vec<String>>,
    },
    /// The tables at that moment.
    Tables {
        /// What they show.
        #[serde(default)]
        label: String,
        /// Lines of `/proc/net/ip_vs`.
        dests: Vec<String>,
        /// Lines of `/proc/net/ip_vs_conn`.
        conns: Vec<String>,
    },
    /// State transitions, a fresh connection each.
    Matrix {
        /// The cells.
        rows: Vec<Cell>,
    },
    /// All listings.
    Snapshot(Box<Snapshot>),
}

/// A packet that was sent to the director.
#[derive(Debug, Deserialize)]
pub struct Input {
    /// On which wire.
    pub side: Side,
    /// The Ethernet frame.
    pub hex: String,
    /// Who sent what.
    #[serde(default)]
    pub note: String,
}

/// A frame that the director sent.
#[derive(Debug, Deserialize)]
pub struct Sent {
    /// On which wire.
    pub side: Side,
    /// The Ethernet frame.
    pub hex: String,
}

/// One of the two wires.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// `ethc`.
    Client,
    /// `ethr`.
    Rs,
}

impl Side {
    /// As the recordings write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Rs => "rs",
        }
    }
}

/// One cell of a transition matrix.
#[derive(Debug, Deserialize)]
pub struct Cell {
    /// The name of the packets before.
    pub prefix: String,
    /// The packets before: `c:S` is a client's SYN, `r:SA` the real server's answer.
    pub prefix_packets: Vec<String>,
    /// The state before the event; none when there is no connection.
    pub state_before: Option<String>,
    /// Seconds left then.
    pub timer_before: Option<u64>,
    /// Who sends the event.
    pub event_side: Side,
    /// Its TCP flags, `-` for none.
    pub event_flags: String,
    /// The state after.
    pub state_after: Option<String>,
    /// Seconds left then.
    pub timer_after: Option<u64>,
    /// What the director sent for the event, by wire and summary.
    pub forwarded: Vec<(Side, String)>,
}

/// All listings at the end.
#[derive(Debug, Deserialize)]
#[expect(non_snake_case, reason = "the names are those of the recordings")]
pub struct Snapshot {
    /// `ipvsadm -Ln`.
    pub Ln: String,
    /// `ipvsadm -Lnc`.
    pub Lnc: String,
    /// `ipvsadm -Ln --stats`.
    pub stats: String,
    /// `ipvsadm -Sn`.
    pub save: String,
    /// `/proc/net/ip_vs`.
    pub proc_ip_vs: String,
    /// `/proc/net/ip_vs_conn`.
    pub proc_ip_vs_conn: String,
    /// `/proc/net/ip_vs_stats`.
    pub proc_ip_vs_stats: String,
}

/// Reads one scenario.
///
/// # Errors
/// When the file cannot be read or is not a scenario.
pub fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a recorded scenario", path.display()))
}

/// The scenario files that a file or folder stands for: of a folder all below it, sorted by name with numbers as
/// numbers, without the index.
///
/// # Errors
/// When it does not exist or cannot be listed.
pub fn scenarios_under(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        anyhow::ensure!(path.exists(), "{} does not exist", path.display());
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = Vec::new();
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
        if entry.is_dir() {
            folders.push(entry);
        } else if entry.extension().is_some_and(|extension| extension == "json")
            && !entry.ends_with("INDEX.json")
        {
            files.push(entry);
        }
    }
    files.sort_by_key(|file| natural(file));
    folders.sort();
    for folder in folders {
        files.extend(scenarios_under(&folder)?);
    }
    Ok(files)
}

/// `random_10` comes after `random_9`.
fn natural(path: &Path) -> (String, u64) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = stem.trim_end_matches(|character: char| character.is_ascii_digit());
    let number = stem[name.len()..].parse().unwrap_or(0);
    (name.to_owned(), number)
}
