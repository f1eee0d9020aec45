//! A host: a network namespace, and how to do things in it.
//!
//! ```text
//!   lab process                                the host's network namespace
//!   +--------------------------+
//!   | Host ---- fd of netns ---+-------------> +---------------------------+
//!   |  |                       |               | lo, eth0, ...             |
//!   |  +-- keeper thread ------+-- lives in -> |                           |
//!   |        starts processes -+-------------> | children (die with keeper)|
//!   +--------------------------+               +---------------------------+
//! ```
//!
//! Nothing has a name in the file system and no process has to be told to end: a namespace goes when the last
//! descriptor, thread, process and socket in it go, and the kernel kills children when their keeper thread ends.
//! Both happen however this process ends, by SIGKILL too.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};

use crate::process::{self, Process};

type Job = Box<dyn FnOnce() + Send>;

/// A host of a lab. Clones name the same host; the last one dropped takes it down with the processes it runs.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    netns: OwnedFd,
    keeper_id: Pid,
    jobs: Mutex<Option<Sender<Job>>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Host {
    /// Makes a host without links; `lo` is up, IPv6 and whatever else talks on its own is off.
    ///
    /// # Errors
    /// The process may not make network namespaces (see [`crate::privilege::acquire`]).
    pub fn new(name: &str) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let keeper = thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || {
                let entered = enter_new_namespace();
                let failed = entered.is_err();
                // Whoever waits hears of it unless it is gone itself.
                let _ = ready.send(entered);
                if failed {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .context("cannot start a thread")?;
        let (netns, keeper_id) = is_ready
            .recv()
            .context("the host's thread ended early")?
            .with_context(|| format!("cannot make a network namespace for host {name}"))?;
        let host = Self(Arc::new(Inner {
            name: name.to_owned(),
            netns,
            keeper_id,
            jobs: Mutex::new(Some(jobs)),
            keeper: Mutex::new(Some(keeper)),
        }));
        // Router solicitations and duplicate address detection would only blur the captures.
        for key in ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"] {
            if host.sysctl(key)?.is_some() {
                host.set_sysctl(key, "1")?;
            }
        }
        host.net().up("lo")?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A thread that lives in the host as long as the host is there: `nsenter -t ID -n` enters it.
    pub fn keeper_id(&self) -> Pid {
        self.0.keeper_id
    }

    /// The inode number of the network namespace, as in `net:[4026531840]`.
    ///
    /// # Errors
    /// The descriptor cannot be looked at.
    pub fn namespace_id(&self) -> Result<u64> {
        Ok(nix::sys::stat::fstat(&self.0.netns).context("cannot look at a namespace")?.st_ino)
    }

    /// Does `work` in the host, on a thread of its own, and waits for it. A panic in it goes on here.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| self.enter().map(|()| work()));
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts `work` in the host, on a thread of its own, which keeps the namespace until it ends.
    ///
    /// # Errors
    /// The thread cannot be started or the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let name = self.name().chars().take(15).collect();
        // A thread is born into the namespace of the thread that starts it.
        self.run(|| thread::Builder::new().name(name).spawn(work))?.context("cannot start a thread")
    }

    /// Starts a process in the host. It is killed when the host is dropped or this process ends.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn exec(&self, mut command: Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        process::die_with_parent_thread(&mut command);
        let (done, is_done) = mpsc::channel();
        // The kernel ties a child to the thread that started it, so the keeper starts it.
        let job: Job = Box::new(move || {
            let _ = done.send(command.spawn());
        });
        let keeper_gone = || anyhow!("host {} is gone", self.name());
        self.0
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .and_then(|jobs| jobs.send(job).ok())
            .ok_or_else(keeper_gone)?;
        let child = is_done
            .recv()
            .map_err(|_| keeper_gone())?
            .with_context(|| format!("cannot start {program} on host {}", self.name()))?;
        Ok(Process::new(format!("{program} on {}", self.name()), child))
    }

    /// Reads a sysctl of the host, such as `net.ipv4.ip_forward`; `None`: this kernel does not have it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sysctl(&self, key: &str) -> Result<Option<String>> {
        match self.run(|| fs::read_to_string(sysctl_path(key)))? {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {key} on {}", self.name())),
        }
    }

    /// Has bridges pass on whatever they get. With `br_netfilter`, which counts wherever that module is loaded, the
    /// kernel shows each frame to its firewall, which takes time, and drops what is no good IP packet.
    ///
    /// # Errors
    /// A setting that is there cannot be written.
    pub fn plain_bridges(&self) -> Result<()> {
        for hook in ["iptables", "ip6tables", "arptables"] {
            let key = format!("net.bridge.bridge-nf-call-{hook}");
            if self.sysctl(&key)?.is_some() {
                self.set_sysctl(&key, "0")?;
            }
        }
        Ok(())
    }

    /// Sets a sysctl of the host; one of `net`, as only these belong to a namespace.
    ///
    /// # Errors
    /// It does not exist or cannot be written (`/proc/sys` is read-only in some containers).
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| {
            // Not fs::write: O_TRUNC and O_CREAT are refused on some mounts of /proc.
            let mut file = File::options().write(true).open(sysctl_path(key))?;
            file.write_all(value.as_bytes())
        })?
        .with_context(|| {
            format!("cannot set {key}={value} on host {}; is /proc/sys writable here?", self.name())
        })
    }

    /// Moves the calling thread into the host for the rest of its life.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0.netns, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the network namespace of host {}", self.name()))
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.netns.as_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the keeper's loop ends, the thread too, and its children are killed.
        drop(self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(keeper) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            && keeper.thread().id() != thread::current().id()
        {
            let _ = keeper.join();
        }
    }
}

fn enter_new_namespace() -> Result<(OwnedFd, Pid)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let netns = File::open("/proc/thread-self/ns/net")?;
    Ok((netns.into(), gettid()))
}

fn sysctl_path(key: &str) -> String {
    // As sysctl(8) does: in a key with slashes a dot is a dot (`net/ipv4/conf/eth0.10/rp_filter`).
    let key = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    format!("/proc/sys/{key}")
}
