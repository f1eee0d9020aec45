//! What it takes to repeat a call that failed, written down as JSON by a thread of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uvs_director::scheduler::{Candidate, Flow, Load};
use uvs_director::spec::Protocol;

use crate::base::is_left_over;
use crate::history::Pick;

/// The version of the format.
pub(crate) const VERSION: u32 = 1;
/// Dumps that wait to be written; more are left out.
const QUEUE: usize = 8;
/// Files that are kept; the oldest go.
const FILES_MAX: usize = 32;
/// A longer dump goes without its history, and if that does not help is not written.
const BYTES_MAX: usize = 4 << 20;
const PREFIX: &str = "uvs-dump-";

/// What a module is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It picks.
    Primary,
    /// It is asked too, and its answers are compared.
    Shadow,
    /// It places a share of the connections.
    Canary,
    /// It is tried before it may be any of these.
    DryRun,
}

impl Role {
    /// Its name in logs, metrics and status.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
            Self::DryRun => "dry-run",
        }
    }
}

/// A call that failed: everything an offline run needs but the module itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    /// Of this format: 1.
    pub version: u32,
    /// Seconds since 1970.
    pub at: u64,
    /// The service, as `ipvsadm` names it: `tcp 192.0.2.10:443`.
    pub service: String,
    /// What the module was to the service.
    pub role: Role,
    /// The module.
    pub module: DumpedModule,
    /// What `init` was given.
    pub options: String,
    /// Where the instance's random numbers began.
    pub seed: u64,
    /// What was restored into the instance, if anything, in hex.
    pub restored: Option<String>,
    /// Whether a pick over the upper threshold counts, as with `compat_ipvs`.
    pub takes_overloaded: bool,
    /// In the order of the last `update`; loads are those of the failing call.
    pub destinations: Vec<DumpedDestination>,
    /// The picks before the failing one with the same destinations, the oldest first, at most 256.
    pub history: Vec<DumpedPick>,
    /// Whether `history` holds all that the instance was ever asked.
    pub whole: bool,
    /// The call that failed: instantiate, init, update, schedule, save or restore.
    pub call: String,
    /// With what, for `schedule`.
    pub pick: Option<DumpedPick>,
    /// Events that were told since the last pick of `history`, as event words; the last ones in the failing call, if
    /// that is `observe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<u64>,
    /// By which cause, as the metrics name it.
    pub cause: String,
    /// The trap or the complaint.
    pub message: String,
    /// The functions it was in, the innermost first, with offsets into the module.
    pub backtrace: Vec<String>,
    /// Fuel that the call was given and took.
    pub fuel: Option<DumpedFuel>,
}

/// Which module failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedModule {
    /// Its file, or the name of a shipped scheduler.
    pub origin: String,
    /// SHA-256 of the component, in hex.
    pub sha256: String,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in `Candidate` and `Load`")]
pub struct DumpedDestination {
    pub id: u32,
    pub weight: u32,
    pub address: core::net::IpAddr,
    pub port: u16,
    pub active: u32,
    pub inactive: u32,
    pub unavailable: bool,
}

/// One pick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedPick {
    /// tcp, udp or sctp.
    pub protocol: String,
    /// CIP and port.
    pub client: core::net::SocketAddr,
    /// What the client asked for.
    pub virtual_addr: core::net::SocketAddr,
    /// The firewall mark.
    pub mark: u32,
    /// The events that were told before it, as event words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<u64>,
    /// The load words that went with it.
    pub changed: Vec<u64>,
    /// Where the random numbers stood.
    pub random: u64,
    /// What the clock said.
    pub now_ms: u64,
    /// The position that was answered.
    pub answer: Option<u32>,
}

/// Fuel of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedFuel {
    /// What it was given.
    pub budget: u64,
    /// What it took.
    pub used: u64,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, or is no dump of this version.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text))
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let dump: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{} is no dump of a scheduler: {error}", path.display()))?;
        if dump.version != VERSION {
            let found = dump.version;
            return Err(format!(
                "{} is a dump of version {found}, and this uvs reads version {VERSION}",
                path.display()
            ));
        }
        Ok(dump)
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.destinations.iter().map(DumpedDestination::candidate).collect()
    }
}

impl From<&Candidate> for DumpedDestination {
    fn from(candidate: &Candidate) -> Self {
        let Candidate { id, weight, address, port, load: Load { active, inactive, unavailable } } =
            *candidate;
        Self { id, weight, address, port, active, inactive, unavailable }
    }
}

impl DumpedDestination {
    fn candidate(&self) -> Candidate {
        let Self { id, weight, address, port, active, inactive, unavailable } = *self;
        Candidate { id, weight, address, port, load: Load { active, inactive, unavailable } }
    }
}

impl DumpedPick {
    pub(crate) fn new(pick: Pick) -> Self {
        let flow = pick.flow;
        Self {
            protocol: flow.protocol.to_string(),
            client: (flow.client, flow.client_port).into(),
            virtual_addr: (flow.virtual_addr, flow.virtual_port).into(),
            mark: flow.mark,
            events: pick.events,
            changed: pick.words,
            random: pick.random,
            now_ms: pick.now.as_millis(),
            answer: pick.answer,
        }
    }

    pub(crate) fn flow(&self) -> Flow {
        let protocol = match self.protocol.as_str() {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        Flow {
            protocol,
            client: self.client.ip(),
            client_port: self.client.port(),
            virtual_addr: self.virtual_addr.ip(),
            virtual_port: self.virtual_addr.port(),
            mark: self.mark,
        }
    }
}

/// Takes dumps off the packet path.
#[derive(Clone, Debug)]
pub(crate) struct DumpSink {
    queue: SyncSender<Dump>,
    waiting: Arc<AtomicUsize>,
}

impl DumpSink {
    /// Starts the thread that writes to `dir`. It ends with the last handle.
    pub(crate) fn start(dir: PathBuf) -> std::io::Result<Self> {
        let (queue, dumps) = sync_channel(QUEUE);
        let waiting = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&waiting);
        std::thread::Builder::new().name("dumps".into()).spawn(move || write_all(&dir, &dumps, &left))?;
        Ok(Self { queue, waiting })
    }

    /// Whether a dump would be taken: to make one costs more than to ask.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.load(Relaxed) < QUEUE
    }

    pub(crate) fn send(&self, dump: Dump) {
        self.waiting.fetch_add(1, Relaxed);
        if self.queue.try_send(dump).is_err() {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }
}

fn write_all(dir: &Path, dumps: &Receiver<Dump>, waiting: &AtomicUsize) {
    for (number, dump) in (0u32..).zip(dumps) {
        match write(dir, &dump, number) {
            Ok(path) => {
                let path = path.display();
                info!(service = dump.service, %path, "the failing call is dumped; `uvs sched replay` runs it again");
            }
            Err(error) => warn!(service = dump.service, "the failing call cannot be dumped: {error}"),
        }
        waiting.fetch_sub(1, Relaxed);
    }
}

fn write(dir: &Path, dump: &Dump, number: u32) -> Result<PathBuf, String> {
    let fail = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", dir.display());
    // What clients and real servers are called is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| fail("cannot be made", e))?;
    let mut bytes = serde_json::to_vec_pretty(dump).map_err(|error| error.to_string())?;
    if bytes.len() > BYTES_MAX {
        let short = Dump { history: Vec::new(), whole: false, ..dump.clone() };
        bytes = serde_json::to_vec(&short).map_err(|error| error.to_string())?;
    }
    if bytes.len() > BYTES_MAX {
        return Err(format!("it is {} bytes long, and the limit is {BYTES_MAX}", bytes.len()));
    }
    make_room(dir).map_err(|e| fail("cannot be tidied", e))?;
    let path = dir.join(format!("{PREFIX}{:010}-{}-{number:04}.json", dump.at, std::process::id()));
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(|e| fail("cannot be written to", e))?;
    let done = file.write_all(&bytes).and_then(|()| fs::rename(&part, &path));
    if let Err(error) = done {
        let _ = fs::remove_file(&part); // what cannot be written may not be removable either
        return Err(fail("cannot be written to", error));
    }
    Ok(path)
}

/// Removes the oldest dumps, so that one more has room, and what was never finished. Names begin with the time.
fn make_room(dir: &Path) -> std::io::Result<()> {
    let mut ours = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(".json") {
            ours.push(entry.path());
        } else if name.starts_with(PREFIX) && is_left_over(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    ours.sort();
    let excess = (ours.len() + 1).saturating_sub(FILES_MAX);
    ours.iter().take(excess).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_was_never_finished_is_tidied_and_what_is_being_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        let names =
            ["uvs-dump-1-2-3.part", "uvs-dump-1-2-4.part", "somebody-elses.part", "uvs-dump-1-2-5.json"];
        for name in names {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            if !name.contains("-4") {
                file.set_modified(long_ago).unwrap();
            }
        }
        make_room(dir.path()).unwrap();
        let left: Vec<_> = names.into_iter().filter(|name| dir.path().join(name).exists()).collect();
        assert_eq!(left, names[1..]);
    }
}
