//! Between the engine's types and those of the contract.

use core::net::IpAddr;

use uvs_director::scheduler::{Candidate, Event, Flow, Load, Response};
use uvs_director::spec::Protocol;
use uvs_sdk::{Address, EventWord, LoadWord};

use crate::bindings;
use crate::stats::Cause;

/// A load word has 16 bits for a position; a service with more destinations runs on its fallback.
pub const MAX_DESTINATIONS: usize = 1 << 16;

/// Whether a new connection may go where the module wants it.
pub(crate) fn judge(
    position: u32,
    candidates: &[Candidate],
    takes_overloaded: bool,
) -> Result<(), (Cause, String)> {
    let Some(candidate) = candidates.get(position as usize) else {
        let message = format!("it picked position {position} of {} destinations", candidates.len());
        return Err((Cause::OutOfRange, message));
    };
    let complain = |what| {
        format!("it picked position {position}, {}:{}, which {what}", candidate.address, candidate.port)
    };
    if candidate.weight == 0 {
        Err((Cause::Quiesced, complain("is quiesced")))
    } else if candidate.load.unavailable && !takes_overloaded {
        Err((Cause::Unavailable, complain("is over its upper threshold")))
    } else {
        Ok(())
    }
}

pub(crate) fn word(position: u32, load: Load) -> u64 {
    let position = u16::try_from(position).expect("a larger set never gets to the module");
    LoadWord::new(position, load.active, load.inactive, !load.unavailable).0
}

/// `None`: the position is past what a word holds, and past what the module knows.
pub(crate) fn event_word(event: &Event) -> Option<u64> {
    let response = match event.response {
        Response::Answered => uvs_sdk::Response::Answered,
        Response::Refused => uvs_sdk::Response::Refused,
        Response::Unanswered => uvs_sdk::Response::Unanswered,
    };
    let micros = u64::try_from(event.elapsed.as_micros()).unwrap_or(u64::MAX);
    Some(EventWord::new(u16::try_from(event.position).ok()?, response, micros).0)
}

fn halves(address: IpAddr) -> (u64, u64) {
    let Address { hi, lo } = address.into();
    (hi, lo)
}

pub(crate) fn wire_flow(flow: &Flow) -> bindings::Flow {
    let (client_hi, client_lo) = halves(flow.client);
    let (virtual_hi, virtual_lo) = halves(flow.virtual_addr);
    bindings::Flow {
        protocol: match flow.protocol {
            Protocol::Tcp => bindings::Protocol::Tcp,
            Protocol::Udp => bindings::Protocol::Udp,
            Protocol::Sctp => bindings::Protocol::Sctp,
        },
        client_hi,
        client_lo,
        client_port: flow.client_port,
        virtual_hi,
        virtual_lo,
        virtual_port: flow.virtual_port,
        mark: flow.mark,
    }
}

pub(crate) fn wire_destination(candidate: &Candidate) -> bindings::Destination {
    let (address_hi, address_lo) = halves(candidate.address);
    bindings::Destination {
        id: candidate.id,
        weight: candidate.weight,
        address_hi,
        address_lo,
        port: candidate.port,
    }
}

/// What a load word says.
pub(crate) fn unword(word: u64) -> (u32, Load) {
    let word = LoadWord(word);
    let load = Load { active: word.active(), inactive: word.inactive(), unavailable: !word.available() };
    (word.position(), load)
}
