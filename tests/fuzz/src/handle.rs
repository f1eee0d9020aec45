//! A director through changes, frames and time; [`op`] says how a script is written.
//!
//! What holds after each step: nothing panics; destinations count the entries of the table; the table and the
//! neighbours keep to their limits; what leaves fits the link, is addressed as the link asks and has its checksums;
//! time moves on.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use uvs_adm::{run as ipvsadm, split_words};
use uvs_director::spec::Limits;
use uvs_director::{Director, Duration, Frame, Instant, Offload, Outbox, PortId, Verdict};
use uvs_wire::{Packet, ethernet, fragment};

use crate::check;
use crate::script::Script;

pub mod op;

mod packet;
mod world;

/// Ops that are executed; more only cost time.
const OPS_MAX: usize = 96;
/// Frames that are remembered, to be answered.
const RECENT_MAX: usize = 16;
/// Deadlines worked off one by one in one script; beyond, time jumps.
const STEPS_MAX: usize = 100;
/// A longer sleep jumps at once.
const STEPPED_MAX: Duration = Duration::from_secs(40);

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let limits = world::limits(script.byte());
    let options = world::options(script.word());
    let mtu = world::mtu(script.byte());
    let mut run = Run {
        director: world::director(limits, options, mtu),
        limits,
        mtu,
        now: Instant::from_secs(1),
        out: Outbox::new(),
        latest: (PortId(0), Vec::new()),
        recent: VecDeque::new(),
        steps: 0,
        removed: false,
        bypass: options.cache_bypass,
        tainted: false,
    };
    for _ in 0..OPS_MAX {
        if script.is_empty() {
            break;
        }
        run.op(&mut script);
        run.check_state();
    }
    // In the end everything goes by itself; a template may outlive what hangs on it by a round.
    for _ in 0..3 {
        run.pass(Duration::from_secs(100_000_000));
        run.check_state();
    }
    assert_eq!(run.director.status().connections, 0, "after years no connection is left");
}

struct Run {
    director: Director,
    limits: Limits,
    mtu: u32,
    now: Instant,
    out: Outbox,
    /// The latest frame handed in.
    latest: (PortId, Vec<u8>),
    /// What was sent of late.
    recent: VecDeque<(PortId, Vec<u8>)>,
    steps: usize,
    /// A destination was removed: entries may name it that no listing counts.
    removed: bool,
    /// Entries may name no destination at all.
    bypass: bool,
    /// A packet with a wrong or missing checksum came in: one that waited may leave with it.
    tainted: bool,
}

impl Run {
    fn op(&mut self, script: &mut Script<'_>) {
        match script.byte() % op::COUNT {
            op::FRAME => {
                let port = PortId(u16::from(script.byte() & 3));
                let length = usize::from(script.word());
                let bytes = script.take(length).to_vec();
                self.send(port, bytes);
            }
            op::COMMAND => {
                let length = usize::from(script.byte());
                self.command(&String::from_utf8_lossy(script.take(length)));
            }
            op::ADVANCE => {
                let word = script.word();
                let unit = [1, 100, 1000, 16_000][usize::from(word >> 14)];
                self.pass(Duration::from_millis(u64::from(word & 0x3fff) * unit));
            }
            op::PACKET => {
                let (port, frame) = packet::built(script);
                self.send(port, frame);
            }
            op::REPLY => {
                let [which, flags] = [(); 2].map(|()| script.byte());
                let Some((port, ip)) = self.recent_ip(which) else { return };
                if let Some(reply) = packet::reply(&ip, flags) {
                    self.send(port, packet::frame(port, &reply));
                }
            }
            op::ERROR => {
                let [which, kind, quote] = [(); 3].map(|()| script.byte());
                let Some((port, ip)) = self.recent_ip(which) else { return };
                if let Some(error) = packet::error(&ip, kind, usize::from(quote) * 4) {
                    self.send(port, packet::frame(port, &error));
                }
            }
            op::MUTATE => {
                let (at, byte, repair) = (usize::from(script.word()), script.byte(), script.byte());
                let (port, mut frame) = self.latest.clone();
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                    if repair & 1 == 1 {
                        let start = if port.0 == 2 { 0 } else { ethernet::HEADER_LEN };
                        packet::repair(frame.get_mut(start..).unwrap_or_default());
                    }
                }
                self.send(port, frame);
            }
            op::FRAGMENTS => {
                let (size, order) = (script.byte(), script.byte());
                self.fragments(usize::from(size) * 8, order);
            }
            op::CHANGE => {
                let effect = world::change(&self.director, script, self.now);
                self.removed |= effect.removed;
                self.mtu = effect.mtu.unwrap_or(self.mtu);
                self.bypass |= self.director.options().cache_bypass;
            }
            op::TRAIN => {
                let [flags, gso_type] = [(); 2].map(|()| script.byte());
                let size = script.word();
                self.gso_packet(flags, gso_type, size);
            }
            op::TICK => self.tick(self.now),
            _ => {
                let (port, frame) = packet::neighbor(script);
                self.send(port, frame);
            }
        }
    }

    fn command(&mut self, line: &str) {
        let words = split_words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let words = words.strip_prefix(&["ipvsadm"]).unwrap_or(&words);
        let _ = ipvsadm(words, "", &self.director, self.now);
        self.removed |= words.iter().any(|word| word.starts_with('-') && word.contains(['d', 'D', 'C']));
    }

    fn recent_ip(&self, which: u8) -> Option<(PortId, Vec<u8>)> {
        let (port, frame) = match self.recent.len() {
            0 => return None,
            length => &self.recent[usize::from(which) % length],
        };
        Some((*port, packet::ip_of(*port, frame)?.to_vec()))
    }

    fn fragments(&mut self, size: usize, order: u8) {
        let (port, frame) = self.latest.clone();
        if port.0 >= world::PORTS {
            return;
        }
        let Some(ip) = packet::ip_of(port, &frame) else { return };
        let Ok(parsed) = Packet::parse(ip) else { return };
        let mtu = usize::from(parsed.header_len) + 8 + size.max(8);
        let (mut buffer, mut pieces) = (vec![0; mtu], Vec::new());
        let each = |bytes: &[u8]| pieces.push(bytes.to_vec());
        let _ = if parsed.is_v4() {
            fragment::split_v4(ip, mtu, None, &mut buffer, each)
        } else {
            fragment::split_v6(ip, mtu, u32::from(order), &mut buffer, each)
        };
        pieces.truncate(200);
        match order & 3 {
            1 => pieces.reverse(),
            2 => pieces = pieces.iter().flat_map(|piece| [piece.clone(), piece.clone()]).collect(),
            3 => {
                pieces.pop();
            }
            _ => {}
        }
        for piece in pieces {
            self.send(port, packet::frame(port, &piece));
        }
        self.latest = (port, frame);
    }

    /// The latest frame with an incomplete checksum, or as a GSO packet.
    fn gso_packet(&mut self, flags: u8, gso_type: u8, size: u16) {
        let (port, mut frame) = self.latest.clone();
        if port.0 >= world::PORTS {
            return;
        }
        let start = if port.0 == 2 { 0 } else { ethernet::HEADER_LEN };
        let Some(ip) = packet::ip_of(port, &frame) else { return };
        let Ok(parsed) = Packet::parse(ip) else { return };
        let mut offload = Offload {
            needs_checksum: flags & 1 == 1,
            gso_type,
            header_len: size,
            segment_size: size,
            checksum_start: size,
            checksum_offset: u16::from(flags),
            inner_start: 0,
        };
        if flags & 2 != 0 && !parsed.is_fragment() {
            // As a kernel would hand it over.
            let at = u16::try_from(start).expect("14 at most") + parsed.header_len;
            offload.checksum_start = at;
            offload.header_len = at + 20;
            offload.checksum_offset =
                check::field(&parsed).and_then(|at| u16::try_from(at).ok()).unwrap_or_default();
            let grown = usize::from(size) * usize::from(flags >> 3);
            frame.truncate(start + parsed.total_len as usize);
            let length = (frame.len() + grown).min(start + 65_535);
            frame.resize(length, 7);
            let (ip_len, header_len) = (length - start, if parsed.is_v4() { 0 } else { 40 });
            let Ok(field) = u16::try_from(ip_len - header_len) else { return };
            let place = start + if parsed.is_v4() { 2 } else { 4 };
            frame[place..place + 2].copy_from_slice(&field.to_be_bytes());
            packet::repair(&mut frame[start..]);
        }
        self.tainted = true;
        self.hand_in(port, &frame, offload);
    }

    fn send(&mut self, port: PortId, frame: Vec<u8>) {
        self.hand_in(port, &frame, Offload::default());
        self.latest = (port, frame);
    }

    fn hand_in(&mut self, port: PortId, bytes: &[u8], offload: Offload) {
        let ip = if port.0 < world::PORTS { packet::ip_of(port, bytes) } else { None };
        let right = ip.and_then(|ip| Some(check::transport_ok(ip, &Packet::parse(ip).ok()?) == Some(true)));
        let whole = offload == Offload::default();
        // What came as a fragment is judged when it leaves whole, and nobody has judged it before.
        self.tainted |= right != Some(true) && ip.is_some();
        let mut frame = Frame::from_bytes(bytes);
        frame.offload = offload;
        let verdict = self.director.handle(port, &mut frame, self.now, &mut self.out);
        if let Verdict::Transmit(to) = verdict {
            self.check_frame(to, &frame, whole && right == Some(true));
            self.remember(to, frame.bytes());
        }
        self.drain();
    }

    /// Checks and remembers what the director sent by itself.
    fn drain(&mut self) {
        let sent: Vec<(PortId, Frame)> = self.out.drain().collect();
        for (port, frame) in sent {
            self.check_frame(port, &frame, !self.tainted);
            self.remember(port, frame.bytes());
        }
    }

    fn remember(&mut self, port: PortId, bytes: &[u8]) {
        self.recent.push_front((port, bytes.to_vec()));
        self.recent.truncate(RECENT_MAX);
    }

    fn check_frame(&self, port: PortId, frame: &Frame, right: bool) {
        assert!(port.0 < world::PORTS, "{port} is one of ours");
        let bytes = frame.bytes();
        let mtu = [1500, self.mtu, 1400][usize::from(port.0)] as usize;
        let mut ip = bytes;
        if let Some(own) = world::MACS[usize::from(port.0)] {
            assert!(bytes.len() >= ethernet::HEADER_LEN, "a frame has a header");
            assert_eq!(ethernet::source(bytes), own, "a frame comes from us");
            match packet::ip_of(port, bytes) {
                Some(inside) => ip = inside,
                None => {
                    assert_eq!(ethernet::ethertype(bytes), ethernet::ETHERTYPE_ARP, "what is not IP is ARP");
                    return;
                }
            }
            let kind = if ip[0] >> 4 == 4 { ethernet::ETHERTYPE_IPV4 } else { ethernet::ETHERTYPE_IPV6 };
            assert_eq!(ethernet::ethertype(bytes), kind, "the type says what is inside");
        }
        let packet = Packet::parse(ip).expect("what leaves is a packet");
        assert_eq!(packet.total_len as usize, ip.len(), "a frame holds its packet and nothing else");
        if frame.offload.gso_type == 0 {
            assert!(ip.len() <= mtu, "{} bytes leave through {port}, whose MTU is {mtu}", ip.len());
        }
        if packet.is_v4() {
            assert!(check::header_ok(ip), "an IPv4 header leaves with its checksum");
        }
        if right && frame.offload == Offload::default() {
            let ok = check::transport_ok(ip, &packet);
            assert!(
                ok != Some(false),
                "what came with its checksum leaves with it: protocol {}",
                packet.protocol
            );
        }
    }

    /// Lets time pass, each deadline at its moment while there are few.
    fn pass(&mut self, by: Duration) {
        let to = self.now + by;
        if by <= STEPPED_MAX {
            let mut again = 0;
            while let Some(at) = self.director.poll_at().filter(|at| *at <= to && self.steps < STEPS_MAX) {
                again = if at <= self.now { again + 1 } else { 0 };
                assert!(again < 16, "a deadline at {at:?} does not move on at {:?}", self.now);
                self.steps += 1;
                self.now = self.now.max(at);
                self.director.handle_timeout(self.now, &mut self.out);
                self.drain();
            }
        }
        self.now = to;
        self.tick(to);
    }

    fn tick(&mut self, now: Instant) {
        for _ in 0..16 {
            self.director.handle_timeout(now, &mut self.out);
            self.drain();
            if self.director.poll_at().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!("a deadline at {:?} does not move on at {now:?}", self.director.poll_at());
    }

    fn check_state(&self) {
        let (status, table) = (self.director.status(), self.director.connections(Instant::ZERO));
        assert!(status.connections <= self.limits.connections, "the table keeps to its limit");
        assert!(status.connections >= table.len(), "the table is as long as it says");
        let neighbors = self.limits.neighbors + world::STATIC_NEIGHBORS;
        assert!(status.neighbors <= neighbors, "neighbours keep to their limit");
        // By address: several services may share a destination, and ports are those of the client at times.
        let mut entries: HashMap<IpAddr, [u64; 3]> = HashMap::new();
        for entry in &table {
            let [active, inactive, templates] = entries.entry(entry.destination.ip()).or_default();
            *if entry.template {
                templates
            } else if entry.active {
                active
            } else {
                inactive
            } += 1;
        }
        let mut counted: HashMap<IpAddr, [u64; 3]> = HashMap::new();
        for destination in self.director.services().iter().flat_map(|service| &service.destinations) {
            let sums = counted.entry(destination.spec.addr.ip()).or_default();
            sums[0] += u64::from(destination.active);
            sums[1] += u64::from(destination.inactive);
            sums[2] += u64::from(destination.persistent);
        }
        for (addr, counts) in &counted {
            let there = entries.remove(addr).unwrap_or_default();
            if self.removed || self.bypass {
                let fewer = counts.iter().zip(there).all(|(count, there)| *count <= there);
                assert!(fewer, "{addr} counts {counts:?} of {there:?} entries");
            } else {
                assert_eq!(*counts, there, "{addr} counts its entries: active, inactive, templates");
            }
        }
        if !self.removed && !self.bypass {
            let lost = entries.keys().next();
            assert!(lost.is_none(), "entries lead to {lost:?}, which is no destination");
        }
    }
}
