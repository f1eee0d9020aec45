//! Connections that outlive the director: written to a file once its workers have ended, taken out of it before those
//! of the next one begin.
//!
//! ```text
//!   workers stop > keep: FILE.new > FILE        Hello, Begin with the time of day, Connection ..., Counts ..., Commit
//!   services are there > take: FILE > table     what is left of each, less the time in between > FILE is removed
//! ```
//! A file is used once: a start that crashes at what is in it is not followed by another that does. With `every` it is
//! written beside the traffic, too. What cannot be written or read costs the connections in it, and not the director.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use uvs_config::Kept;
use uvs_director::record::{ConnectionRecord, Record};
use uvs_director::{Director, Followed, Taken, Taker};
use uvs_state::{Hello, Message, Read, Stream};

use crate::clock::Clock;
use crate::pages::Live;

/// Changes that may wait while the table is written: those of seconds.
const LOG_MAX: usize = 1 << 20;
/// How often it is asked whether to write.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is read at a time.
const CHUNK: usize = 1 << 18;

/// Writes connections while the director runs, where that is wanted, and in the end.
pub struct Keeping {
    ticks: JoinHandle<()>,
    turn: Arc<Turn>,
}

/// One at a time, and none after the last.
#[derive(Default)]
struct Turn(Mutex<Said>);

/// What was said about it last.
#[derive(Default)]
struct Said {
    is_over: bool,
    failure: Option<String>,
}

impl Turn {
    fn take(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeping {
    /// Begins, on the runtime of the caller.
    pub fn start(live: &Arc<Live>) -> Self {
        let (live, turn) = (Arc::clone(live), Arc::<Turn>::default());
        let ticks = tokio::spawn({
            let turn = Arc::clone(&turn);
            async move {
                let mut last = Instant::now();
                loop {
                    tokio::time::sleep(LOOK_EVERY).await;
                    let config = live.config();
                    let Some(Kept { file, every: Some(every) }) = &config.kept_connections else { continue };
                    if last.elapsed() < *every {
                        continue;
                    }
                    last = Instant::now();
                    let (live, turn, file) = (Arc::clone(&live), Arc::clone(&turn), file.clone());
                    let written = tokio::task::spawn_blocking(move || keep_now(&file, &live, &turn)).await;
                    if let Err(error) = written {
                        error!("connections are not kept: {error}");
                    }
                }
            }
        });
        Self { ticks, turn }
    }

    /// Ends it. Connections are written a last time where the workers have ended as they should (`is_sound`).
    pub fn end(self, live: &Live, is_sound: bool) {
        self.ticks.abort();
        let mut said = self.turn.take();
        said.is_over = true;
        if let Some(Kept { file, .. }) = live.config().kept_connections.as_ref().filter(|_| is_sound) {
            keep(file, &live.director, live.clock);
        }
    }
}

/// Writes connections beside the traffic. A failure is logged once, and again when there is another.
fn keep_now(file: &Path, live: &Live, turn: &Turn) {
    let mut said = turn.take();
    if said.is_over {
        return;
    }
    let failure = write(file, &live.director, live.clock).err().map(|error| format!("{error:#}"));
    if let Some(failure) = failure.as_ref().filter(|failure| said.failure.as_ref() != Some(failure)) {
        warn!("connections would not outlive a crash: {} cannot be written: {failure}", file.display());
    }
    said.failure = failure;
}

/// Writes all connections to a file, and logs what became of that.
fn keep(file: &Path, director: &Director, clock: Clock) {
    match write(file, director, clock) {
        Ok(entries) => info!(entries, file = %file.display(), "connections are kept for the next start"),
        Err(error) => error!(
            "connections are not kept, and end with this director: {} cannot be written: {error:#}\n  \
             fix: [restart] connections needs a folder that is there, and that uvs may write to",
            file.display()
        ),
    }
}

fn write(file: &Path, director: &Director, clock: Clock) -> anyhow::Result<u64> {
    let beside = beside(file);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // A new one, so that it is nobody else's.
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = write_all(BufWriter::with_capacity(CHUNK, new), director, clock)
        .and_then(|entries| fs::rename(&beside, file).map(|()| entries).map_err(Into::into));
    if written.is_err() {
        // It holds what nobody will read.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn write_all(mut to: BufWriter<File>, director: &Director, clock: Clock) -> anyhow::Result<u64> {
    let now = clock.now();
    let mut bytes = Vec::new();
    Message::Hello(Hello::HERE).encode(&mut bytes);
    Message::Begin { generation: 0, at_millis: unix_millis() }.encode(&mut bytes);
    let mut follower = director.follow(LOG_MAX, now);
    let mut entries = 0;
    let told = loop {
        let followed = director.follow_some(&mut follower, now, |record| {
            entries += u64::from(matches!(record, Record::Connection(_)));
            Message::from(record).encode(&mut bytes);
        });
        let written = to.write_all(&bytes);
        bytes.clear();
        match (written, followed) {
            (Err(error), _) => break Err(error.into()),
            (Ok(()), Followed::Lost) => {
                break Err(anyhow::anyhow!("they change faster than they are written"));
            }
            (Ok(()), Followed::Snapshot) => {}
            // What changes from here on would be no end of it.
            (Ok(()), Followed::Log | Followed::Quiet) => break Ok(()),
        }
    };
    director.unfollow(follower);
    told?;
    director.counts().into_iter().for_each(|record| Message::Counts(record).encode(&mut bytes));
    Message::Commit { entries }.encode(&mut bytes);
    to.write_all(&bytes)?;
    to.flush()?;
    Ok(entries)
}

/// Takes connections out of a file, if there is one, and removes it. Logs what became of them.
pub fn take(file: &Path, director: &Director, clock: Clock) {
    let found = match File::open(file) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            return error!(
                "connections of the director before are lost: {} cannot be read: {error}",
                file.display()
            );
        }
    };
    let mut taking = Taking::default();
    let result = taking.read(found, director, clock);
    // Whatever was in it, it was used now, or never will be.
    if let Err(error) = fs::remove_file(file) {
        error!(
            "{} cannot be removed, and would be taken for that of a later director: {error}",
            file.display()
        );
    }
    let Taking { entered, expired, refused, .. } = taking;
    if let Err(error) = result {
        error!("{}: {error:#}; {entered} connections were taken over", file.display());
    }
    for (reason, count) in &refused {
        warn!(connections = count, "not taken over: {reason}");
    }
    let refused: u64 = refused.values().sum();
    info!(taken_over = entered, expired, refused, "connections of the director before");
}

/// What was read so far.
#[derive(Default)]
struct Taking {
    taker: Taker,
    is_understood: bool,
    /// How long ago it was written.
    ago: Duration,
    is_whole: bool,
    entered: u64,
    expired: u64,
    /// By reason. There are not many, for what differs between connections is left out.
    refused: BTreeMap<String, u64>,
}

impl Taking {
    fn read(&mut self, mut from: impl io::Read, director: &Director, clock: Clock) -> anyhow::Result<()> {
        let mut stream = Stream::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let len = from.read(&mut chunk).context("it cannot be read to the end")?;
            if len == 0 {
                break;
            }
            stream.feed(&chunk[..len]);
            while let Some(read) = stream.next() {
                self.message(read, director, clock)?;
            }
        }
        anyhow::ensure!(self.is_whole, "it ends too soon");
        Ok(())
    }

    fn message(&mut self, read: Read, director: &Director, clock: Clock) -> anyhow::Result<()> {
        let message = match read {
            Read::Message(message) => message,
            Read::Unknown(_) if self.is_understood => return Ok(()),
            Read::Broken(_) if self.is_understood => {
                *self.refused.entry("its record is broken".to_owned()).or_default() += 1;
                return Ok(());
            }
            Read::Unknown(_) | Read::Broken(_) => bail!("no uvs has written it"),
        };
        match message {
            Message::Hello(hello) if hello.is_understood() => self.is_understood = true,
            Message::Hello(hello) => {
                bail!(
                    "a later uvs has written it, which this one does not understand (format {})",
                    hello.needs
                )
            }
            _ if !self.is_understood => bail!("no uvs has written it"),
            Message::Begin { at_millis, .. } => {
                // A clock that was set back makes them live longer, and no less.
                self.ago = Duration::from_millis(unix_millis().saturating_sub(at_millis));
            }
            Message::Connection(record) => self.connection(record, director, clock),
            Message::Gone(_) => {}
            // What was counted of others is in no sum any more.
            Message::Counts(record) => {
                director.add_counts(&record);
            }
            Message::Commit { .. } => self.is_whole = true,
        }
        Ok(())
    }

    fn connection(&mut self, record: ConnectionRecord, director: &Director, clock: Clock) {
        let Some(remaining) = record.remaining.checked_sub(self.ago).filter(|left| !left.is_zero()) else {
            self.expired += 1;
            return;
        };
        // For an answer that came while nobody was there to see it nobody waits.
        let record = Record::Connection(ConnectionRecord { remaining, waited: None, ..record });
        match director.take(&mut self.taker, &record, clock.now()) {
            Ok(Taken::Entered) => self.entered += 1,
            Ok(Taken::Updated | Taken::Removed | Taken::Unknown) => {}
            Err(refusal) => *self.refused.entry(refusal.to_string()).or_default() += 1,
        }
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uvs_director::scheduler::NativeOnly;
    use uvs_director::spec::Limits;

    use super::*;

    fn director() -> Director {
        Director::new(Limits::default(), 1, Arc::new(NativeOnly))
    }

    /// What becomes of a file that holds these bytes.
    fn read(bytes: &[u8]) -> Result<(), String> {
        let mut taking = Taking::default();
        taking.read(bytes, &director(), Clock::start()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_file_is_used_once_and_its_folder_is_left_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("connections");
        let names = || fs::read_dir(folder.path()).expect("it is there").count();
        // What a director left that was killed meanwhile.
        fs::write(beside(&file), "half").expect("it can be written");
        keep(&file, &director(), Clock::start());
        assert_eq!((file.exists(), names()), (true, 1));
        take(&file, &director(), Clock::start());
        assert_eq!(names(), 0);
        take(&file, &director(), Clock::start());
        keep(&folder.path().join("missing/connections"), &director(), Clock::start());
        assert_eq!(names(), 0, "what cannot be kept is told, and ends nothing");
    }

    #[test]
    fn what_is_no_file_of_ours_is_told() {
        let told = |bytes: &[u8]| read(bytes).expect_err("it is none");
        assert_eq!(told(b""), "it ends too soon");
        assert_eq!(told(b"\0\x09\0\0and more"), "no uvs has written it");
        assert_eq!(told(b"something else altogether, which is longer than a head says"), "it ends too soon");
        let mut later = Vec::new();
        Message::Hello(Hello { version: 9, needs: 9 }).encode(&mut later);
        assert!(told(&later).contains("a later uvs has written it"));
        let mut cut = Vec::new();
        Message::Hello(Hello::HERE).encode(&mut cut);
        assert_eq!(told(&cut), "it ends too soon");
        Message::Commit { entries: 0 }.encode(&mut cut);
        assert_eq!(read(&cut), Ok(()));
    }
}
