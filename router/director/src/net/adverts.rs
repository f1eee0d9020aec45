//! Advertisements of VRRP routers that came in, until whoever speaks VRRP for this director takes them out.
//!
//! Nobody hears them unless he said so, and then they wait here, bounded: of one sender on one link a few, so that who
//! floods does not crowd out the others.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use foldhash::fast::FixedState;
use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::net::local::Wake;

/// So many wait at most...
const WAITING_MAX: usize = 512;
/// ...and so many of one sender.
const OF_ONE_MAX: usize = 8;
/// The longest that can be one: IPv6 with 255 addresses, and extension headers before.
const LEN_MAX: usize = 4608;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Adverts {
    is_heard: AtomicBool,
    queue: Mutex<Queue>,
    wake: Option<Wake>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(PortId, Address, Box<[u8]>)>,
    /// How many of each sender; none has nothing.
    of: HashMap<(PortId, Address), usize, FixedState>,
}

impl Adverts {
    pub(crate) fn new(wake: Wake) -> Self {
        Self { wake: Some(wake), ..Self::default() }
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.is_heard.load(Relaxed)
    }

    /// From now on they are heard, or not.
    pub(crate) fn hear(&self, on: bool) {
        self.is_heard.store(on, Relaxed);
        if !on {
            *lock(&self.queue) = Queue::default();
        }
    }

    /// Puts an IP packet where it is taken out. False: there is no room.
    pub(crate) fn push(&self, port: PortId, src: Address, ip: &[u8]) -> bool {
        if ip.len() > LEN_MAX {
            return false;
        }
        let mut queue = lock(&self.queue);
        let was_empty = queue.waiting.is_empty();
        if queue.waiting.len() >= WAITING_MAX {
            return false;
        }
        let own = queue.of.entry((port, src)).or_default();
        if *own >= OF_ONE_MAX {
            return false;
        }
        *own += 1;
        queue.waiting.push_back((port, src, ip.into()));
        drop(queue);
        if was_empty && let Some(wake) = &self.wake {
            wake();
        }
        true
    }

    /// Takes out what waits longest.
    pub(crate) fn take(&self) -> Option<(PortId, Box<[u8]>)> {
        let queue = &mut *lock(&self.queue);
        let (port, src, ip) = queue.waiting.pop_front()?;
        if let Some(own) = queue.of.get_mut(&(port, src)) {
            *own -= 1;
            if *own == 0 {
                queue.of.remove(&(port, src));
            }
        }
        Some((port, ip))
    }
}
