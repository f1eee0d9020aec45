//! `uvs trace`: packets as they pass the running director, and what becomes of each.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use uvs_control::trace::{Answer, Frame, Interface, Packet, Request};
use uvs_control::{Client, base64};

use super::pcapng::{self, Capture, Link};
use super::{Which, packet};
use crate::events::rfc3339;

/// Of each frame for a capture: all of it.
const WHOLE: u32 = 65_553;

/// `uvs trace`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs trace --client 192.0.2.7                  all of one client, until Ctrl-C
  uvs trace --vip 192.0.2.10:443 --count 20     20 packets of a service
  uvs trace --dest 10.0.0.11 --for 10s          what goes to and comes from a real server, for 10 s
  uvs trace --client 192.0.2.7 --pcap web.pcapng    for Wireshark: each packet as it came and as it left, with a comment
  uvs trace --client 192.0.2.7 --json           one JSON object a line (docs/control.md says what is in it)

A, B and D are addresses, subnets, or address and port: 192.0.2.1, 192.0.2.0/24, [2001:db8::1]:443. Packets have to
have all that is named.
Connections that are meant leave the flow cache while the trace runs, so that their packets are seen; what passes the
director by (answers of direct routing and tunnels) is not seen.
Exit status: 0 done, or Ctrl-C; 1 no director answers, it ended, or the file cannot be written; 2 wrong usage.")]
pub struct Args {
    /// Packets of this client
    #[arg(long, value_name = "A[:PORT]")]
    pub client: Option<String>,
    /// Packets to this VIP, and of its connections
    #[arg(long, value_name = "B[:PORT]")]
    pub vip: Option<String>,
    /// Packets of this real server
    #[arg(long, value_name = "D[:PORT]")]
    pub dest: Option<String>,
    /// End after N packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long, as in 10s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = uvs_config::parse_duration)]
    pub time: Option<Duration>,
    /// Write a capture (pcapng), and print nothing but what is lost
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub pcap: Option<PathBuf>,
    /// Print one JSON object a line, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// Asks and prints, until there is an end to it.
///
/// # Errors
/// No director answers, it ended, or the file cannot be written.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    let Args { client, vip, dest, count, time, pcap, json, which } = arguments;
    let mut director = which.connect()?;
    let request = Request {
        client: client.clone(),
        vip: vip.clone(),
        destination: dest.clone(),
        snap: pcap.is_some().then_some(WHOLE),
    };
    let mut answer = answer_of(director.ask(&uvs_control::Request::Trace(request))?)?;
    let mut sink = Sink::new(pcap.as_ref(), *json, &answer.interfaces)?;
    // What is written is whole whenever it ends: Ctrl-C and the end of the time just end it.
    super::end_by_signals()?;
    if let Some(time) = *time {
        end_after(time)?;
    }
    for note in &answer.notes {
        eprintln!("note: {note}");
    }
    if !json && pcap.is_none() {
        eprintln!("tracing; Ctrl-C ends it");
    }
    let mut left = count.unwrap_or(u64::MAX);
    loop {
        if answer.lost > 0 {
            eprintln!("{} packets lost: more came than could be told", answer.lost);
        }
        let some = answer.packets.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
        let mut told = 0;
        match some.map(|packet| sink.tell(packet)).inspect(|_| told += 1).collect::<io::Result<()>>() {
            // Whoever read them has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            written => written.and_then(|()| sink.flush()).context("the trace cannot be written")?,
        }
        left -= told;
        if left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        answer = next(&mut director)?;
    }
}

fn answer_of(answer: uvs_control::Answer) -> anyhow::Result<Answer> {
    match answer {
        uvs_control::Answer::Trace(answer) => Ok(answer),
        other => bail!("the director answered something else: {other:?}"),
    }
}

fn next(director: &mut Client) -> anyhow::Result<Answer> {
    let more =
        director.more().context("the trace is over: the director has ended, or lets this reader go")?;
    answer_of(more)
}

/// Ends this process with status 0 after a while.
fn end_after(time: Duration) -> anyhow::Result<()> {
    let wait = move || {
        std::thread::sleep(time);
        super::end_between_lines();
    };
    let thread = std::thread::Builder::new().name("end".into()).spawn(wait);
    thread.context("the end cannot be waited for")?;
    Ok(())
}

/// Where packets go.
enum Sink {
    Text(Vec<Interface>),
    Json,
    Capture(Capture<BufWriter<File>>, Vec<Interface>),
}

impl Sink {
    fn new(pcap: Option<&PathBuf>, json: bool, interfaces: &[Interface]) -> anyhow::Result<Self> {
        let Some(path) = pcap else {
            return Ok(if json { Self::Json } else { Self::Text(interfaces.to_vec()) });
        };
        let cannot = || format!("{} cannot be written", path.display());
        let file = File::create(path).with_context(cannot)?;
        let all = interfaces.iter().map(|it| (it.name.as_str(), link_of(it)));
        let application = format!("uvs {}", env!("CARGO_PKG_VERSION"));
        let capture = Capture::new(BufWriter::new(file), &application, all).with_context(cannot)?;
        Ok(Self::Capture(capture, interfaces.to_vec()))
    }

    fn tell(&mut self, packet: &Packet) -> io::Result<()> {
        match self {
            Self::Text(interfaces) => {
                let text = text(packet, interfaces);
                io::stdout().lock().write_all(text.as_bytes())
            }
            Self::Json => {
                let mut line = serde_json::to_string(packet).map_err(io::Error::other)?;
                line.push('\n');
                io::stdout().lock().write_all(line.as_bytes())
            }
            Self::Capture(capture, interfaces) => {
                // Whoever ends this process waits for the lock of standard output.
                let _whole = io::stdout().lock();
                keep(capture, packet, interfaces)?;
                capture.flush()
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Text(_) | Self::Json => io::stdout().lock().flush(),
            Self::Capture(capture, _) => capture.flush(),
        }
    }
}

fn link_of(interface: &Interface) -> Link {
    if interface.link == "ip" { Link::Ip } else { Link::Ethernet }
}

/// Writes a packet into a capture: as it came, and all that left for it.
fn keep(capture: &mut Capture<impl io::Write>, packet: &Packet, interfaces: &[Interface]) -> io::Result<()> {
    let number_of = |name: &str| interfaces.iter().position(|it| it.name == name).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since 1970")]
    let time = (packet.time * 1e9) as u64;
    let mut write = |frame: &Frame, is_outbound, comment: &str| {
        capture.packet(&pcapng::Packet {
            interface: u32::try_from(number_of(&frame.interface)).unwrap_or_default(),
            time,
            length: frame.length,
            bytes: &base64::decode(&frame.bytes).unwrap_or_default(),
            is_outbound,
            comment,
        })
    };
    if let Some(frame) = &packet.received {
        write(frame, packet.stage == "timer", &format!("#{}: {}", packet.number, what(packet).join("; ")))?;
    }
    for frame in &packet.sent {
        write(frame, true, &format!("#{}: sent by the director", packet.number))?;
    }
    Ok(())
}

/// A packet for people: a line for it as it came, and lines for what became of it.
fn text(packet: &Packet, interfaces: &[Interface]) -> String {
    let words = |frame: &Frame| {
        let is_ethernet =
            interfaces.iter().find(|it| it.name == frame.interface).is_none_or(|it| it.link != "ip");
        let bytes = base64::decode(&frame.bytes).unwrap_or_default();
        let segments =
            frame.segments.map_or_else(String::new, |many| format!(", {many} packets in one (GSO)"));
        format!("{}: {}{segments}", frame.interface, packet::in_words(&bytes, is_ethernet))
    };
    let time = rfc3339(packet.time);
    let clock = time.get(11..23).unwrap_or(&time);
    let head = packet.received.as_ref().map_or_else(|| "the director says".to_owned(), words);
    let mut text = format!("{clock} #{} {head}\n", packet.number);
    for line in what(packet) {
        text.push_str(&format!("    {line}\n"));
    }
    for frame in &packet.sent {
        text.push_str(&format!("    > {}\n", words(frame)));
    }
    text
}

/// What became of a packet, a line for each thing.
fn what(packet: &Packet) -> Vec<String> {
    let mut lines = Vec::new();
    let mark = packet.mark.map_or_else(String::new, |mark| format!(", mark {mark}"));
    let service = packet.service.as_deref().unwrap_or("no service");
    let class = match (packet.class.as_deref(), packet.found.as_deref()) {
        (Some("request"), Some("new")) => Some(format!("request to {service}: begins a connection")),
        (Some("request"), Some("hit")) => Some(format!("request to {service}: of a known connection")),
        (Some("request"), Some("target")) => {
            Some(format!("request to {service}: the only packet of its connection"))
        }
        (Some("request"), _) if packet.verdict == "taken" => {
            Some("to a socket of the director's own".to_owned())
        }
        (Some("request"), _) => Some(format!("request to {service}")),
        (Some("icmp_error"), Some("target")) => Some("ICMP error about a connection".to_owned()),
        (Some("icmp_error"), _) => Some("ICMP error to the director".to_owned()),
        (_, Some("reply")) => Some(format!("answer on a connection to {service}")),
        (Some(_), _) => Some("for somebody else".to_owned()),
        (None, _) => None,
    };
    lines.extend(class.map(|class| {
        let cache = if packet.from_cache { "; the flow cache left it to the director" } else { "" };
        format!("{class}{mark}{cache}")
    }));
    if let Some(connection) = &packet.connection {
        let scheduler = packet.scheduler.as_deref().unwrap_or("the scheduler");
        let by = match connection.origin.as_str() {
            "scheduled" => format!("picked by {scheduler}"),
            "fallback" => format!("picked by the fallback, for the module of {scheduler} failed"),
            "canary" => "picked by a canary".to_owned(),
            "template" => "named by a persistence template".to_owned(),
            "ftp" => "announced by FTP".to_owned(),
            "adopted" => "kept by the flow cache".to_owned(),
            other => other.to_owned(),
        };
        let state = match &connection.state_after {
            Some(after) if *after != connection.state => format!("{} > {after}", connection.state),
            _ => connection.state.clone(),
        };
        lines.push(format!(
            "connection {} > {} > {} ({by}), state {state}",
            connection.client, connection.vip, connection.destination
        ));
    }
    let way = packet.way.as_ref().map(|way| {
        let mac = way.mac.as_ref().map_or_else(String::new, |mac| format!(" ({mac})"));
        format!("out of {} to {}{mac}, MTU {}", way.interface, way.next_hop, way.mtu)
    });
    let way = way.unwrap_or_default();
    let method = packet.forward.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let why = packet.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let reason = packet.reason.as_deref().unwrap_or_default();
    lines.push(match packet.verdict.as_str() {
        "forwarded" => format!("forwarded{method} {way}"),
        "split" => format!("forwarded{method} {way}{why}"),
        "waits" => format!("forwarded{method} {way}{why}"),
        "answered" => "answered by the director itself".to_owned(),
        "dropped" if packet.stage == "timer" => format!("given up, having waited: {reason}{why}"),
        "dropped" => format!("DROPPED at {}: {reason}{why}", packet.stage),
        "own" => return lines,
        _ => format!("taken by the director itself{why}"),
    });
    lines
}

#[cfg(test)]
mod tests {
    use uvs_control::explain::Way;
    use uvs_control::trace::Connection;

    use super::*;

    #[test]
    fn what_became_of_a_packet_is_told_in_lines() {
        let connection = Connection {
            client: "10.0.0.1:4000".into(),
            vip: "10.0.0.100:80".into(),
            destination: "192.168.0.2:8080".into(),
            origin: "scheduled".into(),
            state: "NONE".into(),
            state_after: Some("SYN_RECV".into()),
        };
        let way = Way {
            interface: "r0".into(),
            next_hop: "192.168.0.2".into(),
            mac: Some("02:00:00:00:00:01".into()),
            mtu: 1500,
            ..Way::default()
        };
        let packet = Packet {
            stage: "emit".into(),
            class: Some("request".into()),
            found: Some("new".into()),
            service: Some("tcp 10.0.0.100:80".into()),
            scheduler: Some("wlc".into()),
            connection: Some(connection),
            forward: Some("nat".into()),
            way: Some(way),
            verdict: "forwarded".into(),
            ..Packet::default()
        };
        assert_eq!(
            what(&packet),
            [
                "request to tcp 10.0.0.100:80: begins a connection",
                "connection 10.0.0.1:4000 > 10.0.0.100:80 > 192.168.0.2:8080 (picked by wlc), state NONE > SYN_RECV",
                "forwarded by nat out of r0 to 192.168.0.2 (02:00:00:00:00:01), MTU 1500",
            ]
        );
        let dropped = Packet {
            stage: "find".into(),
            class: Some("request".into()),
            verdict: "dropped".into(),
            reason: Some("no_connection".into()),
            why: Some("nobody takes it".into()),
            ..Packet::default()
        };
        assert_eq!(
            what(&dropped),
            ["request to no service", "DROPPED at find: no_connection: nobody takes it"]
        );
    }
}
