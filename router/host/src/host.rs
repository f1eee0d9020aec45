//! The handle that sockets are made with, and the task that keeps them going.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uvs_director::local::{SocketSpec, Transport, Way};
use uvs_director::spec::ServiceKey;
use uvs_director::{Duration, Instant};

use crate::core::{Core, Key, Usage};
use crate::error::Error;
use crate::link::Link;
use crate::stack::{Buffers, Stack};

/// After a look at what came the driver rests for so long, so that of many packets it handles several at a time: each
/// wake costs more than the packet. One that comes alone is not kept waiting.
const REST: Duration = Duration::from_millis(2);

/// Whom a socket speaks to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Whom: the VIP, if it goes by way of a destination.
    pub addr: SocketAddr,
    /// Which way.
    pub way: Way,
    /// The address of the director that it speaks from; `None`: the one that routes say.
    pub source: Option<IpAddr>,
}

impl Peer {
    /// Straight to that address.
    pub const fn direct(addr: SocketAddr) -> Self {
        Self { addr, way: Way::Direct, source: None }
    }
}

/// Makes sockets. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<dyn Link>,
    state: Mutex<State>,
    /// Packets came, or something is due earlier than the driver knew.
    work: Arc<Notify>,
}

struct State {
    core: Core,
    /// When the driver wakes by itself.
    armed: Option<Instant>,
}

/// Keeps the sockets going: takes in what comes, and runs their timers.
pub struct Driver {
    host: Host,
}

impl Host {
    /// A host on that link, whose sockets' buffers take at most `memory` bytes together, and what keeps it going.
    /// `work` is notified when packets come that the link has not had before.
    pub fn new(link: Arc<dyn Link>, memory: usize, work: Arc<Notify>) -> (Self, Driver) {
        let core = Core::new(Arc::clone(&link), memory, RandomState::new().hash_one("host"));
        let state = Mutex::new(State { core, armed: None });
        let host = Self { shared: Arc::new(Shared { link, state, work }) };
        (host.clone(), Driver { host })
    }

    /// The way to a destination of a service. `None`: there is none.
    pub(crate) fn way_to(&self, service: ServiceKey, destination: SocketAddr) -> Option<Way> {
        self.shared.link.way_to(service, destination)
    }

    /// How much is in use.
    pub fn usage(&self) -> Usage {
        self.state().core.usage()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a socket, and says which address and port of the director it has.
    pub(crate) fn open(
        &self,
        transport: Transport,
        peer: Peer,
        may_fragment: bool,
        buffers: Buffers,
    ) -> Result<(Key, SocketAddr), Error> {
        self.open_with(transport, peer, may_fragment, buffers, |_| {})
    }

    /// The same, and does something to the socket before anybody else can.
    pub(crate) fn open_with(
        &self,
        transport: Transport,
        Peer { addr, way, source }: Peer,
        may_fragment: bool,
        buffers: Buffers,
        act: impl FnOnce(&mut Stack),
    ) -> Result<(Key, SocketAddr), Error> {
        let spec =
            SocketSpec { transport, remote: addr.ip(), remote_port: addr.port(), way, source, may_fragment };
        self.with(|core, now| {
            let key = core.open(&spec, buffers, now)?;
            let Some(stack) = core.stack(key) else { return Ok((key, addr)) };
            act(stack);
            Ok((key, SocketAddr::new(stack.binding.addr, stack.binding.port)))
        })
    }

    /// Does something to the sockets; what they have to do earlier then, they do.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core, Instant) -> R) -> R {
        let now = self.shared.link.now();
        let mut state = self.state();
        let result = act(&mut state.core, now);
        let due = state.core.poll_at();
        let is_late = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        drop(state);
        if is_late {
            self.shared.work.notify_one();
        }
        result
    }
}

impl Driver {
    /// Runs for as long as the task lives. Never ends by itself.
    pub async fn run(self) {
        let shared = &self.host.shared;
        loop {
            let now = shared.link.now();
            let (more, due) = {
                let mut state = self.host.state();
                let more = state.core.poll(now);
                state.armed = state.core.poll_at();
                (more, state.armed)
            };
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::time::sleep(REST).await;
            match due {
                Some(due) => {
                    tokio::select! {
                        () = shared.work.notified() => {}
                        () = tokio::time::sleep(due.since(shared.link.now())) => {}
                    }
                }
                None => shared.work.notified().await,
            }
        }
    }
}
