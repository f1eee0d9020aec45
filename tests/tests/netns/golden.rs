//! The recordings of a kernel IPVS with the flow cache of a real kernel in between: each frame is sent over a link on
//! which the programs are, and either flies or comes to the director. Time is the recording's.
//!
//! ```text
//!   [ station (TAP) -- br0 -- port ]--[ eth0 .. c0 (TAP) director r0 (TAP) .. eth1 ]--[ port -- br0 -- station (TAP) ]
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use uvs_attach::{Attachments, Cache, CachePlan, Pair};
use uvs_device::{Device, DeviceSpec, Kind, Poller, StopHandle};
use uvs_director::flow_cache::{Flow, FlowCache, FlowEvent, FlowKey, NextHop, NotPlaced, Progress};
use uvs_director::spec::MacAddr;
use uvs_director::{Frame, Instant, PortId};
use uvs_lab::Host;
use uvs_lab::net::{End, connect};
use uvs_plugin::{Catalogue, Host as Modules, Policy, Schedulers};
use uvs_tests::golden::{Outcome, Passed, Side, Wires, load, replay_over, scenarios_under};
use uvs_wire::Packet;

use crate::stage::{SOON, turn};

/// As in the recordings.
const DIRECTOR: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 1, 1])];
const TAPS: [&str; 2] = ["c0", "r0"];
const CARDS: [&str; 2] = ["eth0", "eth1"];
/// Recordings have packets that are too big for the director's interfaces; the wires carry them.
const MTU: u32 = 9000;

/// The cache in the time of a recording: stamps of the kernel are of another one.
struct Timeless {
    inner: Arc<Cache>,
    now: Mutex<Instant>,
    seen: Mutex<HashMap<FlowKey, Instant>>,
}

impl Timeless {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn see(&self, key: FlowKey) {
        self.seen.lock().unwrap().insert(key, self.now());
    }
}

impl FlowCache for Timeless {
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced> {
        self.inner.place(flow)?;
        self.see(flow.request.key);
        if let Some(reply) = flow.reply {
            self.see(reply.key);
        }
        Ok(())
    }

    fn shut(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        self.inner.shut(request, reply);
    }

    fn remove(&self, request: &FlowKey, reply: Option<&FlowKey>) {
        self.inner.remove(request, reply);
    }

    fn progress(&self, key: &FlowKey) -> Progress {
        self.inner.progress(key)
    }

    fn last_seen(&self, request: &FlowKey, reply: Option<&FlowKey>) -> Option<Instant> {
        self.inner.last_seen(request, reply)?;
        let seen = self.seen.lock().unwrap();
        seen.get(request).max(reply.and_then(|reply| seen.get(reply))).copied()
    }

    fn events(&self, each: &mut dyn FnMut(FlowEvent)) {
        let now = self.now();
        self.inner.events(&mut |event| each(FlowEvent { at: now, ..event }));
    }

    fn through(&self, last: &uvs_director::flow_cache::Passed) {
        self.inner.through(last);
    }

    fn withdraw(&self, destination: Option<u32>) {
        self.inner.withdraw(destination);
    }

    fn count(&self) {
        self.inner.count();
    }

    fn displaced(&self) -> u64 {
        self.inner.displaced()
    }

    fn refresh_next_hops(
        &self,
        from: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        self.inner.refresh_next_hops(from, address_of)
    }
}

/// What all scenarios share.
struct Links {
    stations: Vec<Device>,
    taps: Vec<Device>,
    stop: StopHandle,
}

struct Attached {
    links: Rc<Links>,
    cache: Arc<Timeless>,
    _attachments: Rc<Attachments>,
}

fn open(name: &str, mac: MacAddr) -> Device {
    let kind = Kind::Tap { mac };
    let name = name.to_owned();
    Device::open(&DeviceSpec { name, kind, mtu: MTU, queues: 1, offload: false, tunnel_gso: false }).unwrap()
}

impl Links {
    fn new(wires: [&Host; 2]) -> Self {
        let stations = wires
            .iter()
            .map(|wire| {
                let station = wire.run(|| open("station", MacAddr([2, 0, 0, 0, 9, 9]))).unwrap();
                wire.net().plug("station", "br0").unwrap();
                station
            })
            .collect();
        let taps = TAPS.iter().zip(DIRECTOR).map(|(name, mac)| open(name, mac)).collect();
        Self { stations, taps, stop: StopHandle::new().unwrap() }
    }
}

impl Attached {
    async fn new(links: &Rc<Links>) -> Self {
        let pair = |side: usize| Pair {
            device: TAPS[side].to_owned(),
            mac: DIRECTOR[side],
            mtu: MTU,
            link: CARDS[side].to_owned(),
            port: PortId(u16::try_from(side).unwrap()),
            cached: true,
        };
        let plan = CachePlan::new(1000, Instant::ZERO);
        let attachments = Attachments::new(vec![pair(0), pair(1)], Some(plan)).await.unwrap();
        let inner = Arc::clone(attachments.cache().unwrap());
        let cache = Arc::new(Timeless { inner, now: Mutex::new(Instant::ZERO), seen: Mutex::default() });
        Self { links: Rc::clone(links), cache, _attachments: Rc::new(attachments) }
    }
}

impl Wires for Attached {
    fn cache(&self) -> Arc<dyn FlowCache> {
        Arc::clone(&self.cache) as Arc<dyn FlowCache>
    }

    fn pass(&mut self, side: Side, bytes: &[u8], now: Instant) -> Passed {
        *self.cache.now.lock().unwrap() = now;
        let side = if side == Side::Client { 0 } else { 1 };
        let Links { stations, taps, stop } = &*self.links;
        if bytes.get(..6) != Some(&DIRECTOR[side].0) {
            // The programs leave it, or a part of it, to the host.
            return Passed::Came(bytes.to_vec());
        }
        stations[side].queues()[0].send(&Frame::from_bytes(bytes)).unwrap();
        let deadline = std::time::Instant::now() + SOON;
        let queues = || stations.iter().chain(taps).map(|device| &device.queues()[0]);
        let mut poller = Poller::new(queues(), stop).unwrap();
        let mut frame = Frame::new();
        while std::time::Instant::now() < deadline {
            for (number, station) in stations.iter().enumerate() {
                while station.queues()[0].receive(&mut frame).unwrap() {
                    if frame.bytes().get(6..12) == Some(&DIRECTOR[number].0) {
                        let packet = Packet::parse(&bytes[14..]).unwrap();
                        self.cache.see(FlowKey {
                            protocol: packet.protocol,
                            source: (packet.src, packet.src_port),
                            destination: (packet.dst, packet.dst_port),
                        });
                        let side = if number == 0 { Side::Client } else { Side::Rs };
                        return Passed::Flew(side, frame.bytes().to_vec());
                    }
                }
            }
            while taps[side].queues()[0].receive(&mut frame).unwrap() {
                if without_ticket(frame.bytes()) == bytes {
                    return Passed::Came(frame.bytes().to_vec());
                }
            }
            poller.wait(Some(Duration::from_millis(20))).unwrap();
        }
        Passed::Lost
    }
}

/// A frame without the tag (802.1ad) in which the program numbers what the director has to handle first.
fn without_ticket(frame: &[u8]) -> Vec<u8> {
    match frame.get(12..14) {
        Some([0x88, 0xa8]) => [&frame[..12], &frame[16..]].concat(),
        _ => frame.to_vec(),
    }
}

/// As `cargo run --bin golden`, but over links.
#[test]
fn recordings_are_met_with_a_flow_cache_in_between() {
    let Some(_turn) = turn() else { return };
    let hosts = ["host", "west", "east"].map(|name| Host::new(name).unwrap());
    let [host, west, east] = &hosts;
    for (side, wire) in [west, east].into_iter().enumerate() {
        let mac = |last| MacAddr([0xfe, 0, 0, 0, u8::try_from(side).unwrap(), last]);
        wire.net().add_bridge("br0", mac(0xff)).unwrap();
        connect(End { host, name: CARDS[side], mac: mac(9) }, End { host: wire, name: "port", mac: mac(8) })
            .unwrap();
        host.net().set_mtu(CARDS[side], MTU).unwrap();
        wire.net().set_mtu("port", MTU).unwrap();
        wire.net().plug("port", "br0").unwrap();
        wire.plain_bridges().unwrap();
    }
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(replay_all(Rc::new(Links::new([west, east]))));
    })
    .unwrap();
}

async fn replay_all(links: Rc<Links>) {
    let schedulers = Schedulers::with_seed(Modules::new(Policy::default()).unwrap(), 1);
    schedulers.accept(Catalogue::default().with_compat_ipvs(true));
    let schedulers = Arc::new(schedulers);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (mut passed, mut flown, mut wrong) = (0, 0, Vec::new());
    for file in scenarios_under(&folder).unwrap() {
        let scenario = load(&file).unwrap();
        let wires = Attached::new(&links).await;
        let attachments = Rc::clone(&wires._attachments);
        match replay_over(&scenario, Arc::clone(&schedulers) as _, Box::new(wires)) {
            Outcome::Pass => passed += 1,
            Outcome::Unsupported(_) => {}
            Outcome::Fail(failure) => wrong.push(format!(
                "{}: step {} ({}): {}\n{}",
                scenario.scenario, failure.step, failure.what, failure.difference, failure.details
            )),
        }
        flown += attachments.cache().unwrap().status().packets;
    }
    println!("{passed} scenarios met, {flown} packets flew");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(passed > 100 && flown > 100, "{passed} scenarios, {flown} packets flew");
}
