//! A record of what is done to the host, for the director that starts after one that could not undo it.
//!
//! ```text
//!   FOLDER/host-NAMESPACE-PID            locked as long as its director lives, removed once all is undone
//!     {"namespace":"..","pid":1,..}
//!     {"did":..}                         before each step
//!     {"not":..}                         of a step that was not taken after all
//! ```
//! Whoever gets the lock of another's record knows that its director is dead. A network namespace is named by its
//! inode, which is used again after its end, and its cookie, which is not.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::getsockopt;
use serde::{Deserialize, Serialize};

use super::undo::Undo;

/// Records of dead directors in other namespaces that are kept: the oldest go first, for most of these namespaces are
/// gone.
const FOREIGN_MAX: usize = 64;
/// The longest record that is read, in bytes: each step takes some hundred.
const RECORD_MAX: u64 = 64 << 20;
/// A record is written anew when it has so many lines more than twice the steps in force.
const LINES_SLACK: usize = 1024;

/// How records are told from other files.
const PREFIX: &str = "host-";

mod option {
    #![allow(
        missing_docs,
        unreachable_pub,
        unsafe_code,
        reason = "nix' macro for options that it lacks writes this"
    )]
    use nix::{getsockopt_impl, libc, sockopt_impl};

    sockopt_impl!(NamespaceCookie, GetOnly, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, u64);
}

/// Of whom a record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    namespace: String,
    pid: u32,
    /// What was wanted of the host.
    plan: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Did(Undo),
    Not(Undo),
}

/// The record of this process.
#[derive(Debug)]
pub(super) struct Record {
    header: Header,
    path: PathBuf,
    file: Flock<File>,
    lines: usize,
    /// Whether it was said that it cannot be written.
    told: bool,
}

/// What a dead director left.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) pid: u32,
    pub(super) plan: String,
    pub(super) steps: Vec<Undo>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Record {
    /// Begins the record of this process, for the network namespace of the calling thread, with what dead ones of the
    /// same namespace left.
    pub(super) fn open(folder: &Path, plan: &str) -> io::Result<(Self, Vec<Leftover>)> {
        fs::create_dir_all(folder)?;
        let header = Header { namespace: namespace()?, pid: std::process::id(), plan: plan.to_owned() };
        let leftovers = leftovers(folder, &header.namespace)?;
        let path = folder.join(format!("{PREFIX}{}-{}", header.namespace, header.pid));
        let mut steps = Vec::new();
        for leftover in &leftovers {
            for step in &leftover.steps {
                note(&mut steps, step.clone());
            }
        }
        let file = write(&path, &header, &steps)?;
        let lines = steps.len();
        Ok((Self { header, path, file, lines, told: false }, leftovers))
    }

    /// Notes a step that is about to be taken.
    pub(super) fn did(&mut self, step: &Undo, all: &[Undo]) {
        self.add(&Line::Did(step.clone()), all);
    }

    /// Notes that a step was not taken.
    pub(super) fn not(&mut self, step: &Undo, all: &[Undo]) {
        self.add(&Line::Not(step.clone()), all);
    }

    fn add(&mut self, line: &Line, all: &[Undo]) {
        self.lines += 1;
        if self.lines > 2 * all.len() + LINES_SLACK {
            return self.renew(all);
        }
        let written = line_of(line).and_then(|line| self.file.write_all(line.as_bytes()));
        self.tell(written);
    }

    /// Writes the record anew, with these steps alone.
    pub(super) fn renew(&mut self, all: &[Undo]) {
        let written = write(&self.path, &self.header, all);
        let written = written.map(|file| (self.file, self.lines) = (file, all.len()));
        self.tell(written);
    }

    fn tell(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.told, true)
        {
            let path = self.path.display();
            tracing::warn!(
                "what is done to the host cannot be noted in {path}, and stays if uvs is killed: {error}"
            );
        }
    }

    /// Ends the record: all is undone.
    pub(super) fn remove(self) {
        // What is left says what is not there any more, and does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

impl Leftover {
    /// Removes the record, which somebody else has by now.
    pub(super) fn remove(self, ours: Option<&Record>) {
        if ours.is_none_or(|ours| ours.path != self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Adds a step to those that were taken. The first about a thing says how it was; one about another link of the name
/// takes its place. False: nothing is new.
pub(super) fn note(done: &mut Vec<Undo>, step: Undo) -> bool {
    match done.iter_mut().find(|known| known.is_about_the_same_as(&step)) {
        Some(known) if known.link() == step.link() => return false,
        Some(known) => *known = step,
        None => done.push(step),
    }
    true
}

/// The network namespace of the calling thread.
fn namespace() -> io::Result<String> {
    let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let socket = UnixDatagram::unbound()?;
    // Linux before 5.14 knows none.
    let cookie = getsockopt(&socket.as_fd(), option::NamespaceCookie).unwrap_or(0);
    Ok(format!("{inode}-{cookie}"))
}

/// Writes a record whole, and locks it before anybody else can see it.
fn write(path: &Path, header: &Header, steps: &[Undo]) -> io::Result<Flock<File>> {
    let hidden = path.with_file_name(format!(".{}", path.file_name().unwrap_or_default().to_string_lossy()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&hidden)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut file =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno))?;
    let mut text = line_of(header)?;
    for step in steps {
        text.push_str(&line_of(&Line::Did(step.clone()))?);
    }
    file.write_all(text.as_bytes())?;
    fs::rename(&hidden, path)?;
    Ok(file)
}

fn line_of(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// The records of dead directors in this namespace, the oldest first.
fn leftovers(folder: &Path, namespace: &str) -> io::Result<Vec<Leftover>> {
    let (mut ours, mut foreign) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            continue;
        }
        let Some((lock, since)) = lock_dead(&path) else { continue };
        match read(&lock) {
            Some((Header { namespace: of, pid, plan }, steps)) if of == namespace => {
                ours.push((since, Leftover { pid, plan, steps, path, _lock: lock }));
            }
            _ => foreign.push((since, path)),
        }
    }
    foreign.sort();
    for (_, path) in foreign.iter().take(foreign.len().saturating_sub(FOREIGN_MAX)) {
        // Whoever else removes it first has done the same.
        let _ = fs::remove_file(path);
    }
    ours.sort_by_key(|(since, _)| *since);
    Ok(ours.into_iter().map(|(_, leftover)| leftover).collect())
}

/// The record and its age, if nobody else has it.
fn lock_dead(path: &Path) -> Option<(Flock<File>, SystemTime)> {
    let file = File::open(path).ok()?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    let (held, there) = (file.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    // Its director may have written it anew since it was opened.
    let same = there.is_file() && (held.dev(), held.ino()) == (there.dev(), there.ino());
    same.then(|| held.modified().unwrap_or(SystemTime::UNIX_EPOCH)).map(|since| (file, since))
}

/// What a record says. A last line that is cut off was never followed by its step.
fn read(file: &File) -> Option<(Header, Vec<Undo>)> {
    let mut lines = BufReader::new(file.take(RECORD_MAX)).lines();
    let header = serde_json::from_str(&lines.next()?.ok()?).ok()?;
    let mut steps = Vec::new();
    for line in lines.map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Line::Did(step)) => _ = note(&mut steps, step),
            Ok(Line::Not(step)) => steps.retain(|known| *known != step),
            // Of another version of uvs, or cut off.
            Err(error) => tracing::debug!(%error, line, "a line of a record is passed over"),
        }
    }
    Some((header, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, index: u32) -> Undo {
        Undo::Down { name: name.into(), index }
    }

    #[test]
    fn what_a_dead_one_noted_is_found_once_and_that_of_a_living_one_never() {
        let folder = std::env::temp_dir().join(format!("uvs-record-{}", std::process::id()));
        let (mut dead, found) = Record::open(&folder, "a plan").unwrap();
        assert!(found.is_empty());
        let mut all = Vec::new();
        for undo in [step("eth0", 1), step("eth1", 2), step("eth0", 7)] {
            assert!(note(&mut all, undo.clone()));
            dead.did(&undo, &all);
        }
        dead.not(&step("eth1", 2), &all[..1]);
        assert!(leftovers(&folder, &namespace().unwrap()).unwrap().is_empty(), "its lock is held");
        // Killed in the middle of a line.
        dead.file.write_all(br#"{"did":{"Down":{"na"#).unwrap();
        let path = dead.path.clone();
        drop(dead);
        assert!(leftovers(&folder, "4-2").unwrap().is_empty(), "of another namespace");

        let (mut heir, found) = Record::open(&folder, "another plan").unwrap();
        let [leftover] = &found[..] else { panic!("{found:?}") };
        assert_eq!((leftover.plan.as_str(), &leftover.steps[..]), ("a plan", &[step("eth0", 7)][..]));
        assert_eq!(leftover.path, path, "of the same process id: the heir's has taken its place");
        found.into_iter().for_each(|leftover| leftover.remove(Some(&heir)));
        assert!(path.exists());
        for round in 0..5000 {
            heir.did(&step("eth0", round), &[step("eth0", round)]);
        }
        assert!(fs::metadata(&path).unwrap().len() < 200_000, "it does not grow for ever");
        drop(heir);
        let (last, found) = Record::open(&folder, "a plan").unwrap();
        assert_eq!(found[0].steps, [step("eth0", 4999)]);
        last.remove();
        assert!(!path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
