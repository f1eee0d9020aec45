//! The file of the control socket: taken at the start, gone in the end.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, chown, getegid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use uvs_config::{Control, Socket as Where};
use uvs_control::DEFAULT_SOCKET;

use super::peer::{Admission, Peer};
use crate::folder;
use crate::http::{Door, Who};

/// Readable and writable by the director's user and the socket's group.
const MODE: u32 = 0o660;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;
/// How long another director that starts just now may hold the folder.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// A listening socket. Dropped, its file is removed, unless another has taken the place.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
    admission: Admission,
}

impl ControlSocket {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A door of the HTTP server.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn door(&self) -> io::Result<Door> {
        let (listener, admission) = self.listener()?;
        let admit = move |stream: &tokio::net::UnixStream| match admission.judge(stream)? {
            Peer::Process { pid, uid } => Ok(Who::Process { pid, uid }),
            Peer::Page(addr) => Ok(Who::Anybody(addr)),
        };
        Ok(Door::Unix(listener, Box::new(admit)))
    }

    /// The listener, for the runtime that the caller runs in, and who may speak on it.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn listener(&self) -> io::Result<(tokio::net::UnixListener, Admission)> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok((tokio::net::UnixListener::from_std(listener)?, self.admission))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the control socket is left behind");
        }
    }
}

/// Takes the control socket that the command line (`asked`) or the configuration says. `None`: there is to be none, or
/// nothing was said and the usual place cannot be used, which is logged.
///
/// # Errors
/// Another director has it, or it cannot be made; the message says what to do.
pub fn open(asked: Option<&Where>, control: &Control) -> anyhow::Result<Option<ControlSocket>> {
    let group = control.group.as_deref();
    match asked.unwrap_or(&control.socket) {
        Where::None => Ok(None),
        Where::At(path) => take(path, group).map(Some),
        Where::Usual => match take(Path::new(DEFAULT_SOCKET), group) {
            Err(error) if group.is_none() && is_no_place(&error) => {
                tracing::warn!(
                    "no control socket, so `uvs adm` will not reach this director: {error:#}; name another place with \
                     `socket` under [control]"
                );
                Ok(None)
            }
            taken => taken.map(Some),
        },
    }
}

/// Takes the socket of the page, for those who may use the control socket.
///
/// # Errors
/// It cannot be made, or another has it.
pub fn open_browser(path: &Path, control: &Control) -> anyhow::Result<ControlSocket> {
    take(path, control.group.as_deref()).context("the page has no socket: see `socket` under [http]")
}

/// Whether the folder is not ours to use.
fn is_no_place(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem))
}

fn take(path: &Path, group: Option<&str>) -> anyhow::Result<ControlSocket> {
    let gid = match group {
        Some(name) => find_group(name)?,
        None => getegid(),
    };
    let what = || format!("the control socket {} cannot be made", path.display());
    let folder = path.parent().context("a socket lies in a folder").with_context(what)?;
    if folder == Path::new(folder::RUN) {
        folder::make().with_context(what)?;
    }
    // From looking at what is there to listening: two directors that start at once take it one after the other.
    let folder = lock_folder(folder).with_context(what)?;
    clear(path)?;
    let listener = bind(path, gid).with_context(what)?;
    let identity = identity(path).with_context(what)?;
    drop(folder);
    let admission = Admission { uid: geteuid().as_raw(), gid: gid.as_raw() };
    Ok(ControlSocket { listener, path: path.to_owned(), identity, admission })
}

fn find_group(name: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name)
        .map_err(io::Error::from)
        .with_context(|| format!("group {name:?} of [control] cannot be looked up"))?;
    group.map(|group| group.gid).ok_or_else(|| {
        anyhow!("group {name:?} of [control] does not exist; make it (groupadd {name}) or name another")
    })
}

/// Nobody else takes a socket in the folder meanwhile. The lock is advisory: it is between directors.
fn lock_folder(folder: &Path) -> io::Result<Flock<File>> {
    let mut file = File::open(folder)?;
    let deadline = Instant::now() + FOLDER_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EAGAIN)) if Instant::now() < deadline => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes what a director that is gone has left; whatever else is there stays and is refused.
fn clear(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{shown} cannot be looked at")),
        Ok(found) if !found.file_type().is_socket() => {
            bail!(
                "{shown} is there and no socket; remove it, or name another place with `socket` under [control]"
            );
        }
        Ok(_) => {}
    }
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // One that lives but does not accept has a full backlog, which is an answer too.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %shown, "a director that is gone has left its control socket, which is replaced");
            fs::remove_file(path).with_context(|| format!("{shown}, left by a director that is gone, stays"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) | Err(_) => bail!(
            "another director runs: it answers at {shown}; end it, or give this one a socket of its own with `socket` under \
             [control] or --socket"
        ),
    }
}

/// Listens only once the file has its owner and mode.
fn bind(path: &Path, gid: Gid) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let finish = || {
        if gid != getegid() {
            chown(path, None, Some(gid)).map_err(|errno| no_member(errno, gid))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)
    };
    if let Err(error) = finish() {
        // The first error is the one to tell.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket.into())
}

/// Why the group does not get the socket; root alone may give it to a group that it is no member of.
fn no_member(errno: Errno, gid: Gid) -> io::Error {
    if errno != Errno::EPERM {
        return errno.into();
    }
    let why = format!(
        "the director's user is no member of group {gid} of [control]: add it (usermod --append --groups; in a unit of \
         systemd SupplementaryGroups=), or name a group that it is in"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Reads what `--socket` of a director says.
///
/// # Errors
/// A sentence.
pub fn parse_where(text: &str) -> Result<Where, String> {
    if text == "none" || text.starts_with('/') {
        return uvs_config::parse_socket(text);
    }
    let absolute = std::path::absolute(text).map_err(|error| error.to_string())?;
    uvs_config::parse_socket(absolute.to_str().ok_or("the current folder is not UTF-8")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> Control {
        Control { socket: Where::At(path.to_owned()), group: None }
    }

    #[test]
    fn it_is_there_while_the_director_runs_and_gone_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        let socket = open(None, &at(&path)).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        assert_eq!(socket.path(), path);
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing else is left");
    }

    #[test]
    fn of_two_directors_the_second_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        let _first = open(None, &at(&path)).unwrap().unwrap();
        let error = format!("{:#}", open(None, &at(&path)).unwrap_err());
        assert!(error.contains("another director runs") && error.contains("--socket"), "{error}");
        let other = Where::At(folder.path().join("other.sock"));
        assert!(open(Some(&other), &at(&path)).unwrap().is_some(), "the command line goes before the file");
        assert!(open(Some(&Where::None), &at(&path)).unwrap().is_none());
        assert!(path.exists());
    }

    #[test]
    fn what_a_dead_director_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std does not remove it");
        let socket = open(None, &at(&path)).unwrap().unwrap();
        std::os::unix::net::UnixStream::connect(socket.path()).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        fs::write(&path, "precious").unwrap();
        let error = format!("{:#}", open(None, &at(&path)).unwrap_err());
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        fs::remove_file(&path).unwrap();
        let socket = open(None, &at(&path)).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists(), "another has taken the place meanwhile");
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/uvs.sock");
        let error = format!("{:#}", open(None, &at(&missing)).unwrap_err());
        assert!(error.contains("missing/uvs.sock cannot be made"), "{error}");
        let control = Control { group: Some("no-such-group-here".into()), ..at(&folder.path().join("a")) };
        let error = format!("{:#}", open(None, &control).unwrap_err());
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn two_that_start_at_once_never_both_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        for round in 0..20 {
            // Left by one that is gone: both have to replace it.
            drop(UnixListener::bind(&path).unwrap());
            let barrier = std::sync::Barrier::new(4);
            let won: usize = thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    open(None, &at(&path)).ok().flatten()
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                let sockets: Vec<_> =
                    threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
                sockets.len()
            });
            assert_eq!(won, 1, "round {round}");
        }
    }
}
