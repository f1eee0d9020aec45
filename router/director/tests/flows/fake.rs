//! A cache that does what a test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::common::*;
use uvs_director::flow_cache::{
    Direction, Flow, FlowCache, FlowEvent, FlowKey, NextHop, NotPlaced, Passed, Progress,
};
use uvs_director::spec::*;
use uvs_director::{Duration, Instant, Outbox};

/// A cache that keeps what it is told, and tells what the test puts in.
#[derive(Default)]
pub(crate) struct Fake(Mutex<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    /// The directions of each connection, by the key of its request.
    pub(crate) placed: HashMap<FlowKey, (Direction, Option<Direction>, bool)>,
    /// How often something was placed.
    pub(crate) times: usize,
    pub(crate) events: Vec<FlowEvent>,
    pub(crate) seen: Option<Instant>,
    pub(crate) withdrawn: Vec<Option<u32>>,
    pub(crate) through: Vec<Passed>,
    pub(crate) progress: Progress,
    pub(crate) answer: Option<NotPlaced>,
    pub(crate) refreshed: Vec<Option<MacAddr>>,
    /// Where each call to refresh began, and how many next hops there are.
    pub(crate) slices: Vec<usize>,
    pub(crate) next_hops: usize,
    /// What had to leave its place to others.
    pub(crate) displaced: u64,
    /// Connections that have room, if that is bounded.
    pub(crate) room: Option<usize>,
}

impl Fake {
    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn len(&self) -> usize {
        self.inner().placed.len()
    }
}

impl FlowCache for Fake {
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        let inner = &mut *self.inner();
        inner.times += 1;
        if let Some(why) = inner.answer {
            return Err(why);
        }
        if inner.room.is_some_and(|room| inner.placed.len() >= room)
            && !inner.placed.contains_key(&flow.request.key)
        {
            return Err(NotPlaced::Full);
        }
        inner.placed.insert(flow.request.key, (flow.request, flow.reply, flow.is_embryonic));
        Ok(())
    }

    fn shut(&self, request: &FlowKey, _: Option<&FlowKey>) {
        if let Some((request, reply, _)) = self.inner().placed.get_mut(request) {
            request.waits = true;
            reply.iter_mut().for_each(|reply| reply.waits = true);
        }
    }

    fn remove(&self, request: &FlowKey, _: Option<&FlowKey>) {
        self.inner().placed.remove(request);
    }

    fn progress(&self, _: &FlowKey) -> Progress {
        self.inner().progress
    }

    fn last_seen(&self, request: &FlowKey, _: Option<&FlowKey>) -> Option<Instant> {
        let inner = self.inner();
        inner.placed.contains_key(request).then_some(inner.seen).flatten()
    }

    fn events(&self, each: &mut dyn FnMut(FlowEvent)) {
        let events = std::mem::take(&mut self.inner().events);
        events.into_iter().for_each(each);
    }

    fn through(&self, last: &Passed) {
        self.inner().through.push(*last);
    }

    fn withdraw(&self, destination: Option<u32>) {
        self.inner().withdrawn.push(destination);
    }

    fn count(&self) {}

    fn displaced(&self) -> u64 {
        self.inner().displaced
    }

    fn refresh_next_hops(
        &self,
        from: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        let next_hops: Vec<NextHop> =
            self.inner().placed.values().map(|(request, ..)| request.next_hop).collect();
        let answers = next_hops.iter().map(address_of).collect();
        let inner = &mut *self.inner();
        inner.refreshed = answers;
        inner.slices.push(from);
        Some(from + 64).filter(|next| *next < inner.next_hops)
    }
}

pub(crate) const CLIENT_AT: (std::net::Ipv4Addr, u16) = (CLIENT, 40_000);
pub(crate) const SERVICE: (std::net::Ipv4Addr, u16) = (VIP, 80);

pub(crate) fn bench() -> (Bench, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let mut bench = Bench::new();
    bench.director = bench.director.with_flow_cache(Arc::clone(&fake) as Arc<dyn FlowCache>);
    (bench, fake)
}

pub(crate) fn key(from: (std::net::Ipv4Addr, u16), to: (std::net::Ipv4Addr, u16)) -> FlowKey {
    FlowKey { protocol: 6, source: (from.0.into_addr(), from.1), destination: (to.0.into_addr(), to.1) }
}

pub(crate) trait IntoAddr {
    fn into_addr(self) -> uvs_wire::Address;
}

impl IntoAddr for std::net::Ipv4Addr {
    fn into_addr(self) -> uvs_wire::Address {
        uvs_wire::Address::v4(self)
    }
}

/// A segment that passed in the cache `after` the bench's now.
pub(crate) fn passed(bench: &Bench, fake: &Fake, is_reply: bool, flags: u8, after: Duration) {
    let key = if is_reply { key((RS1, 8080), CLIENT_AT) } else { key(CLIENT_AT, SERVICE) };
    fake.inner().events.push(FlowEvent { key, is_reply, tcp_flags: flags, at: bench.now + after });
    bench.director.catch_up(bench.now + after, &mut Outbox::new());
}

pub(crate) const SYN: u8 = 0x02;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

pub(crate) fn state(bench: &Bench) -> &'static str {
    bench.connections()[0].state
}

/// The frame with the number that a cache gives to what it does not let pass for the sake of order.
pub(crate) fn numbered(frame: &[u8], ticket: u16) -> Vec<u8> {
    [&frame[..12], &[0x88, 0xa8], &ticket.to_be_bytes(), &frame[12..]].concat()
}
