//! `trace`: packets as they pass, for a client that has asked for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, timeout};
use tracing::info;
use uvs_control::trace::{Answer, Connection, Frame, Interface, Packet, Request};
use uvs_control::{Error, ErrorKind, base64, encode_answer};
use uvs_director::trace::{Filter, Stage};
use uvs_director::view::ConnectionFacts;
use uvs_director::{DropReason, PortId, Verdict};

use super::explain::{interface, no_destination, on_this_address, way};
use super::peer::Peer;
use super::status::full_table;
use super::{Handle, blocking, ends, reasons};
use crate::clock::unix_time;
use crate::pages::Live;
use crate::trace::{Bytes, End, Seen, TRACES_MAX, Trace};
use crate::words;

/// How often what was seen is told.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// A client that reads nothing for so long is let go.
const STALLED_MAX: Duration = Duration::from_secs(10);
/// Of each frame, unless more is asked for.
const SNAP: usize = 128;
/// A frame has no more than that.
const SNAP_MAX: usize = 65_553;
/// So many connections are taken out of the flow cache for a trace.
const TAKEN_MAX: usize = 10_000;
/// No frame of ARP or neighbour discovery is longer, in bytes.
const ARP_MAX: usize = 86;
/// So many packets are told in one line.
const PART: usize = 512;

/// A trace that runs. It ends when it is dropped.
struct Guard {
    live: Arc<Live>,
    trace: Arc<Trace>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.live.traces.end(&self.trace);
        self.live.director.hold_off_cache(self.live.traces.filters());
    }
}

/// Writes packets to a client until it leaves, or takes nothing for too long.
pub(super) async fn follow(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    request: Request,
    handle: &Handle,
    peer: &Peer,
) {
    let live = Arc::clone(&handle.live);
    let begun = match blocking(move || begin(&request, live)).await {
        Ok(begun) => begun,
        Err(error) => Err(error),
    };
    let (guard, first) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let _ = timeout(STALLED_MAX, write.write_all(&encode_answer(Err(error)))).await;
            return;
        }
    };
    info!(by = %peer, "a trace begins");
    // A client that traces has nothing to say: a word, or its end, ends it.
    let mut word = [0];
    tokio::select! {
        () = pass(&guard, first, &mut write) => {}
        _ = read.read(&mut word) => {}
    }
    info!(by = %peer, "the trace is over");
}

fn begin(request: &Request, live: Arc<Live>) -> Result<(Guard, Answer), Error> {
    let Request { client, vip, destination, snap } = request;
    let filter = ends::filter(client.as_deref(), ("vip", vip.as_deref()), destination.as_deref())?;
    let snap = snap.map_or(SNAP, |snap| snap as usize).min(SNAP_MAX);
    let Some(trace) = live.traces.begin(filter, snap) else {
        let message = format!("{TRACES_MAX} traces run, which is the most; end one of them");
        return Err(Error::new(ErrorKind::Refused, message));
    };
    let guard = Guard { live: Arc::clone(&live), trace };
    let mut notes = keep_in_sight(&filter, &live);
    notes.extend(full_table(&live, &live.director.status()));
    let ethernet = |port: PortId| {
        let found = live.director.interfaces().into_iter().find(|it| it.port == port);
        found.is_some_and(|it| matches!(it.link, uvs_director::spec::Link::Ethernet(_)))
    };
    let interfaces = (0u16..).map(PortId).zip(&live.interfaces).map(|(port, name)| Interface {
        name: name.clone(),
        link: if ethernet(port) { "ethernet" } else { "ip" }.to_owned(),
    });
    let answer = Answer { notes, interfaces: interfaces.collect(), ..Answer::default() };
    Ok((guard, answer))
}

/// Has the packets that are wanted come to the director, and says what does not.
fn keep_in_sight(filter: &Filter, live: &Live) -> Vec<String> {
    let Some(cache) = &live.cache else { return Vec::new() };
    if filter.is_all() {
        let flows = cache.status().flows;
        return vec![format!(
            "what passes in the flow cache is not seen: {flows} flows are in it; name --client, --vip or --dest, and \
             theirs come to the director while the trace runs"
        )];
    }
    live.director.hold_off_cache(live.traces.filters());
    let (taken, left) = live.director.take_out_of_cache(filter, TAKEN_MAX);
    let mut notes = vec![format!(
        "{taken} connections were taken out of the flow cache, and new ones stay out of it while the trace runs"
    )];
    if left > 0 {
        notes.push(format!("{left} more stay in the flow cache, and their packets are not seen"));
    }
    notes
}

async fn pass(guard: &Guard, first: Answer, write: &mut (impl AsyncWrite + Unpin)) {
    let mut tick = tokio::time::interval(TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once, so that the client knows that it is heard.
    let mut answers = vec![first];
    loop {
        for answer in answers.drain(..) {
            let line = encode_answer(Ok(uvs_control::Answer::Trace(answer)));
            if !matches!(timeout(STALLED_MAX, write.write_all(&line)).await, Ok(Ok(()))) {
                return;
            }
        }
        tick.tick().await;
        let (live, trace) = (Arc::clone(&guard.live), Arc::clone(&guard.trace));
        match blocking(move || tell(&live, &trace)).await {
            Ok(told) => answers = told,
            Err(_) => return,
        }
    }
}

fn tell(live: &Live, trace: &Trace) -> Vec<Answer> {
    let (seen, mut lost) = trace.take();
    let began = unix_time() - live.clock.now().since(uvs_director::Instant::ZERO).as_secs_f64();
    let mut answers: Vec<Answer> = seen
        .chunks(PART)
        .map(|part| Answer {
            lost: std::mem::take(&mut lost),
            packets: part.iter().map(|seen| packet(seen, live, began)).collect(),
            ..Answer::default()
        })
        .collect();
    if lost > 0 {
        answers.push(Answer { lost, ..Answer::default() });
    }
    answers
}

/// A frame, in the words of the protocol. `began`: when the director's time was 0, in seconds since 1970.
fn packet(seen: &Seen, live: &Live, began: f64) -> Packet {
    let told = &seen.told;
    let frame = |bytes: &Bytes| Frame {
        interface: interface(live, bytes.port),
        length: u32::try_from(bytes.len).unwrap_or(u32::MAX),
        segments: (bytes.segments > 1).then_some(bytes.segments),
        bytes: base64::encode(&bytes.bytes),
        partial_checksum: bytes.is_partial,
    };
    let service = told.service.or(told.connection.as_ref().and_then(|it| it.service));
    let (verdict, reason) = match seen.end {
        End::Handled(verdict) => verdict_of(seen, verdict),
        End::GivenUp(reason) => ("dropped", Some(reason)),
        End::Own => ("own", None),
    };
    let connection = |facts: &ConnectionFacts| Connection {
        client: facts.view.client.to_string(),
        vip: facts.view.virtual_addr.to_string(),
        destination: facts.view.destination.to_string(),
        origin: facts.origin.name().to_owned(),
        state: facts.view.state.to_owned(),
        state_after: told.state.map(str::to_owned),
    };
    let scheduler = service.and_then(|key| live.director.scheduler_of(&key));
    Packet {
        number: seen.number,
        time: began + seen.at.since(uvs_director::Instant::ZERO).as_secs_f64(),
        received: seen.frame.as_ref().map(frame),
        stage: match seen.end {
            End::Handled(_) => told.stage.name(),
            End::GivenUp(_) | End::Own => "timer",
        }
        .to_owned(),
        class: told.kind.map(|kind| kind.name().to_owned()),
        found: told.hit.map(|hit| hit.name().to_owned()),
        mark: Some(told.mark).filter(|mark| *mark != 0),
        from_cache: told.is_from_cache,
        service: service.map(|key| key.to_string()),
        scheduler,
        connection: told.connection.as_ref().map(connection),
        destination: told.target.map(|(addr, _)| addr.to_string()),
        forward: told.target.map(|(_, forwarding)| words::forwarding(forwarding)),
        way: told.way.map(|it| way(live, &it)),
        verdict: verdict.to_owned(),
        reason: reason.map(|reason| reason.label().to_owned()),
        why: why(seen, verdict, reason, live),
        sent: seen.sent.iter().map(frame).collect(),
    }
}

fn verdict_of(seen: &Seen, verdict: Verdict) -> (&'static str, Option<DropReason>) {
    let told = &seen.told;
    match verdict {
        Verdict::Drop(reason) => ("dropped", Some(reason)),
        Verdict::Transmit(_) if told.stage == Stage::Emit => ("forwarded", None),
        Verdict::Transmit(_) => ("answered", None),
        Verdict::Consume if told.stage == Stage::Classify => ("taken", None),
        // Of a packet that waits there is nothing but ARP, if that; such frames are short.
        Verdict::Consume if told.stage >= Stage::Route => {
            let has_left = seen.sent.iter().any(|it| it.len > ARP_MAX);
            (if has_left { "split" } else { "waits" }, None)
        }
        Verdict::Consume => ("taken", None),
    }
}

/// What is to be said beside the fields.
fn why(seen: &Seen, verdict: &str, reason: Option<DropReason>, live: &Live) -> Option<String> {
    let told = &seen.told;
    match (verdict, reason) {
        (_, Some(DropReason::NoDestination)) => {
            Some(told.service.map_or_else(String::new, |key| no_destination(live, &key)))
        }
        (_, Some(reason @ (DropReason::NoConnection | DropReason::NotHandled)))
            if told.service.is_none() && told.kind.is_some() =>
        {
            let services = seen.frame.as_ref().and_then(|frame| on_this_address(live, &frame.bytes));
            Some(services.unwrap_or_else(|| reasons::meaning(reason).to_owned()))
        }
        (_, Some(reason)) => Some(reasons::meaning(reason).to_owned()),
        ("waits", None) => told.way.map(|way| {
            format!("it waits until {} on {} has answered", way.next_hop, interface(live, way.port))
        }),
        ("split", None) => Some(format!("it leaves in {} packets", seen.sent.len())),
        _ => None,
    }
}
