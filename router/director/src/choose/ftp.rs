//! FTP through NAT: data connections follow their control connection to its real server.
//!
//! ```text
//!   client  PASV                                --> director --> server
//!   client  <-- 227 (VIP,port), shorter or longer -- director <-- 227 (RIP,port)
//!           entry  CIP:0 -> VIP:port -> RIP:port, LISTEN: whatever port the client connects from
//!   client  PORT CIP,port  --> director --> server, untouched: the client's address is not translated
//!           entry  CIP:port -> VIP:20 -> RIP:20, LISTEN: the server connects from its port 20
//! ```
//!
//! What the kernel's helper does (`ip_vs_ftp`, recorded in tests/golden as `ftp_nat`), with EPSV and EPRT for both
//! families. Only the server's stream is edited, and all that follows from it are its sequence numbers and the
//! client's acknowledgments. A segment that comes again is edited again, which the kernel leaves undone.
//!
//! Data connections are controlled by the control connection as it may be by a template: it does not expire
//! before them.

mod text;

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use uvs_wire::checksum::Edit;
use uvs_wire::tcp::TcpSegment;
use uvs_wire::{Address, Packet, ipv4, ipv6, tcp};

use crate::base::frame::Frame;
use crate::base::spec::{Forwarding, Options, Protocol, Timeouts};
use crate::base::time::Instant;
use crate::base::verdict::DropReason;
use crate::base::view::Origin;
use crate::choose::service::FTP_PORT;
use crate::track::connection::{Connection, ReplyKey, RequestKey};
use crate::track::control::Control;
use crate::track::destination::Destination;
use crate::track::past::Past;
use crate::track::table::{Full, Table};
use crate::track::tcp::TcpState;
use text::Command;

use crate::track::ftp::Ftp;
use crate::track::ftp::stream::Stream;

/// Where the fields of a TCP header are that are edited here.
mod at {
    pub(super) const SEQ: usize = 4;
    pub(super) const ACK: usize = 8;
    pub(super) const CHECKSUM: usize = 16;
}

/// Selective acknowledgment (RFC 2018).
const OPTION_SACK: u8 = 5;
const TCP_HEADER_MAX: usize = 60;

/// What the helper works with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) table: &'a Table,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) options: &'a Options,
    pub(crate) now: Instant,
}

/// What the client shall read in place of what the server wrote.
struct Replacement {
    seq: u32,
    len: u32,
    text: String,
}

/// A data connection to be expected.
struct Expected {
    /// Whose control connection says so.
    owner: Address,
    request: RequestKey,
    destination_addr: Address,
    destination_port: u16,
    destination: Arc<Destination>,
    control: Arc<Control>,
}

/// What a connection that begins needs of the helper.
pub(crate) fn helper(
    table: &Table,
    options: &Options,
    request: &RequestKey,
    forwarding: Forwarding,
) -> Option<Box<Ftp>> {
    let helped = request.virtual_port == FTP_PORT
        && request.protocol == Protocol::Tcp.number()
        && forwarding == Forwarding::Nat
        && options.ftp;
    helped.then(|| Box::new(Ftp::new(table.control(false))))
}

/// A client's segment on a control connection, before its destination is rewritten.
pub(crate) fn request(context: &Context<'_>, frame: &mut Frame, packet: &Packet) -> Result<(), DropReason> {
    let key = RequestKey::of(packet);
    let Ok(segment) = TcpSegment::parse(packet.transport(frame.bytes())) else { return Ok(()) };
    let mut shard = context.table.shard(key.protocol, key.client, key.client_port);
    let Some(id) = shard.request(&key) else { return Ok(()) };
    let connection = shard.get_mut(id);
    let is_established = connection.state == TcpState::Established.number();
    let Some(ftp) = connection.ftp.as_mut() else { return Ok(()) };
    let command = is_established.then(|| text::command(segment.payload(), packet.is_v4())).flatten();
    let active = match command {
        Some(Command::Passive(passive)) => {
            ftp.passive = Some(passive);
            None
        }
        Some(Command::Active(addr, port)) => {
            ftp.passive = None;
            Some((addr, port))
        }
        None => None,
    };
    if !ftp.stream.is_plain() && segment.flags() & tcp::ACK != 0 {
        edit_header(frame, packet, |header| acknowledge(header, &ftp.stream));
    }
    let expected = active.map(|(client, client_port)| {
        let virtual_port = key.virtual_port.wrapping_sub(1);
        Expected {
            owner: key.client,
            request: RequestKey { client, client_port, virtual_port, ..key },
            destination_addr: connection.destination_addr,
            destination_port: connection.destination_port.wrapping_sub(1),
            destination: Arc::clone(&connection.destination),
            control: Arc::clone(&connection.ftp.as_ref().expect("it was there").control),
        }
    });
    drop(shard);
    expected.map_or(Ok(()), |expected| expect(context, expected))
}

/// A server's segment on a control connection, before its source is rewritten. `was`: the connection's state
/// before this segment.
pub(crate) fn reply(
    context: &Context<'_>,
    frame: &mut Frame,
    packet: &mut Packet,
    was: TcpState,
) -> Result<(), DropReason> {
    let key = ReplyKey::of(packet);
    let Ok(segment) = TcpSegment::parse(packet.transport(frame.bytes())) else { return Ok(()) };
    let (seq, payload) = (segment.seq(), segment.payload());
    // What a damaged segment says is not acted on; its receiver will see that it is damaged.
    let is_sound = || frame.offload.needs_checksum || packet.transport_sum(frame.bytes()).finish() == 0;
    let found =
        if was == TcpState::Established { find_offer(context.table, &key, seq, payload) } else { None };
    let found = found.filter(|_| is_sound());
    let replacement = match found {
        // The entry comes first: without it the server has to say it again.
        Some((replacement, expected)) => {
            expect(context, expected)?;
            Some(replacement)
        }
        None => None,
    };
    let mut shard = context.table.shard(key.protocol, key.client, key.client_port);
    let Some(id) = shard.reply(&key) else { return Ok(()) };
    let Some(ftp) = shard.get_mut(id).ftp.as_mut() else { return Ok(()) };
    if let Some(Replacement { seq, len, text }) = replacement
        && ftp.stream.is_new(seq)
    {
        ftp.stream.replace(seq, len, text.as_bytes());
        ftp.passive = None;
    }
    ftp.stream.advance_to(seq);
    if ftp.stream.is_plain() {
        return Ok(());
    }
    let position = ftp.stream.position(seq);
    let edited = ftp.stream.edited(seq, payload).filter(|_| is_sound());
    drop(shard);
    if let Some(edited) = edited {
        replace_payload(frame, packet, &edited)?;
    }
    edit_header(frame, packet, |header| put32(header, at::SEQ, position));
    Ok(())
}

/// What a segment of the server's offers the client that asked for it.
fn find_offer(table: &Table, key: &ReplyKey, seq: u32, payload: &[u8]) -> Option<(Replacement, Expected)> {
    let mut shard = table.shard(key.protocol, key.client, key.client_port);
    let id = shard.reply(key)?;
    let connection = shard.get_mut(id);
    let ftp = connection.ftp.as_ref()?;
    let passive = ftp.passive.filter(|_| ftp.stream.is_new(seq))?;
    let offer = text::offer(payload, passive)?;
    let request = connection.request;
    let [start, len] = [offer.text.start, offer.text.len()]
        .map(|n| u32::try_from(n).expect("a segment is shorter than 64 KiB"));
    let replacement = Replacement {
        seq: seq.wrapping_add(start),
        len,
        text: text::offer_text(passive, request.virtual_addr, offer.port),
    };
    let expected = Expected {
        owner: request.client,
        request: RequestKey { client_port: 0, virtual_port: offer.port, announced: true, ..request },
        destination_addr: offer.addr.unwrap_or(connection.destination_addr),
        destination_port: offer.port,
        destination: Arc::clone(&connection.destination),
        control: Arc::clone(&ftp.control),
    };
    Some((replacement, expected))
}

/// Makes the entry of a data connection ahead of its first packet, or has the one that is there listen again.
fn expect(context: &Context<'_>, expected: Expected) -> Result<(), DropReason> {
    let Expected { owner, request, destination_addr, destination_port, destination, control } = expected;
    let Context { table, timeouts, options, now } = *context;
    let timeout = TcpState::Listen.timeout(timeouts);
    {
        let mut shard = table.shard(request.protocol, request.client, request.client_port);
        if let Some(id) = shard.request(&request) {
            let known = shard.get_mut(id);
            let alive = known.expires_at > now;
            // Nobody's word moves a connection of somebody else's.
            if alive && request.client != owner {
                return Ok(());
            }
            let place = (known.destination_addr, known.destination_port);
            if alive && place == (destination_addr, destination_port) {
                known.state = TcpState::Listen.number();
                known.timeout = timeout.into();
                shard.settle(id);
                shard.touch(id, now);
                return Ok(());
            }
            // Another real server's: the client's latest word counts.
            table.remove(&mut shard, id).release();
        }
    }
    control.controlled.fetch_add(1, Relaxed);
    let data = Connection {
        destination_addr,
        forwarding: Forwarding::Nat,
        state: TcpState::Listen.number(),
        no_output: false,
        past: Past::new(Origin::Announced),
        ..Connection::new(request, destination, destination_port, Some(control), now).lasting(timeout, now)
    };
    match table.insert(data, !options.compat_ipvs, Connection::release) {
        Ok(_) => Ok(()),
        Err(Full) => Err(DropReason::ConnectionLimit),
    }
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes the acknowledgment, and the blocks of selective ones, as the server numbers its bytes.
fn acknowledge(header: &mut [u8], stream: &Stream) {
    let ack = get32(header, at::ACK);
    put32(header, at::ACK, stream.acknowledged(ack));
    let mut at = tcp::HEADER_LEN;
    while let [kind, rest @ ..] = &header[at..] {
        let len = match (kind, rest.first()) {
            (0, _) => return,
            (1, _) => 1,
            (_, Some(&len)) if len >= 2 && at + usize::from(len) <= header.len() => usize::from(len),
            _ => return,
        };
        if *kind == OPTION_SACK {
            for edge in (at + 2..at + len).step_by(4).filter(|edge| edge + 4 <= at + len) {
                let value = get32(header, edge);
                put32(header, edge, stream.acknowledged(value));
            }
        }
        at += len;
    }
}

/// Edits the TCP header; the checksum follows the edit.
fn edit_header(frame: &mut Frame, packet: &Packet, edit: impl FnOnce(&mut [u8])) {
    let is_partial = frame.offload.needs_checksum;
    let start = usize::from(packet.header_len);
    let transport = &mut frame.bytes_mut()[start..];
    let len = usize::from(transport[12] >> 4) * 4;
    let header = &mut transport[..len];
    let mut before = [0; TCP_HEADER_MAX];
    before[..len].copy_from_slice(header);
    edit(header);
    // The partial sum is that of the pseudo-header, which is as it was.
    if !is_partial {
        let old = u16::from_be_bytes([header[at::CHECKSUM], header[at::CHECKSUM + 1]]);
        let new = Edit::new().edit_bytes(&before[..len], header).apply(old);
        header[at::CHECKSUM..at::CHECKSUM + 2].copy_from_slice(&new.to_be_bytes());
    }
}

/// Gives the segment another payload: lengths and checksums follow.
fn replace_payload(frame: &mut Frame, packet: &mut Packet, payload: &[u8]) -> Result<(), DropReason> {
    let start = usize::from(packet.header_len);
    let headers = start + usize::from(frame.bytes()[start + 12] >> 4) * 4;
    let mut bytes = [&frame.bytes()[..headers], payload].concat();
    let fixed = if packet.is_v4() { 0 } else { ipv6::HEADER_LEN };
    let Ok(length) = u16::try_from(bytes.len() - fixed) else { return Err(DropReason::Oversized) };
    let (old, new) = (packet.total_len, u32::from(length) + if packet.is_v4() { 0 } else { 40 });
    if packet.is_v4() {
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        ipv4::fill_checksum(&mut bytes);
    } else {
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    packet.total_len = new;
    let sum = start + at::CHECKSUM;
    let offload = frame.offload;
    let value = if offload.needs_checksum {
        let lengths = [old, new].map(|total| (total - u32::from(packet.header_len)).to_be_bytes());
        let edit = Edit::new().edit_bytes(&lengths[0], &lengths[1]);
        edit.apply_partial(u16::from_be_bytes([bytes[sum], bytes[sum + 1]]))
    } else {
        bytes[sum..sum + 2].fill(0);
        packet.transport_sum(&bytes).finish()
    };
    bytes[sum..sum + 2].copy_from_slice(&value.to_be_bytes());
    frame.fill(&bytes);
    frame.offload = offload;
    Ok(())
}
