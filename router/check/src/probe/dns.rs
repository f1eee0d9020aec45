//! A question to a name server, over UDP, and over TCP where the answer is truncated or it is asked so at once.

use core::hash::{BuildHasher as _, Hasher as _};
use std::hash::RandomState;

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, StreamTarget};
use domain::rdata::AllRecordData;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pattern::{Patterns, wanted};
use super::{Ended, Passed, Stage, fail, failed, unmade};
use crate::net::{Network, Target};
use crate::outcome::Verdict;
use crate::spec::{Dns, Pattern};
use crate::text::shown;

/// So many records of an answer are looked at.
const RECORDS_MAX: usize = 256;
/// So many are told.
const RECORDS_TOLD: usize = 3;

/// Whether that is the name of a domain, as in `www.example.org` or `.`.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_name(text: &str) -> Result<(), String> {
    name(text).map(drop)
}

/// The type of records by its name, such as `AAAA`, or as `TYPE28`; those that ask for no records are none.
pub fn record_type(text: &str) -> Option<u16> {
    let known: Rtype = text.parse().ok()?;
    let meta = [Rtype::OPT, Rtype::TSIG, Rtype::IXFR, Rtype::AXFR];
    (!meta.contains(&known)).then(|| known.to_int())
}

/// The code of a response by its name, such as `NXDOMAIN`.
pub fn response_code(text: &str) -> Option<u8> {
    let code: Rcode = text.parse().ok()?;
    Some(code.to_int())
}

fn name(text: &str) -> Result<Name<Vec<u8>>, String> {
    text.parse().map_err(|error| format!("{text:?} is no name of a domain: {error}"))
}

pub(super) async fn probe(
    network: &dyn Network,
    target: &Target,
    dns: &Dns,
    patterns: &Patterns,
    stage: &Stage,
) -> Ended {
    let question = question(dns).map_err(unmade)?;
    if !dns.tcp {
        let answer = over_udp(network, target, question.as_dgram_slice(), stage).await?;
        if !truncated(&answer) {
            return judge(&answer, question.as_dgram_slice(), dns, patterns);
        }
    }
    let answer = over_tcp(network, target, question.as_stream_slice(), stage).await?;
    judge(&answer, question.as_dgram_slice(), dns, patterns)
}

fn question(dns: &Dns) -> Result<StreamTarget<Vec<u8>>, String> {
    let mut builder = MessageBuilder::new_stream_vec();
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    builder.header_mut().set_id(u16::from_ne_bytes([low, high]));
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    let pushed = builder.push((name(&dns.name)?, Rtype::from_int(dns.record)));
    pushed.map_err(|error| error.to_string())?;
    Ok(builder.finish())
}

async fn over_udp(
    network: &dyn Network,
    target: &Target,
    question: &[u8],
    stage: &Stage,
) -> Result<Vec<u8>, Verdict> {
    stage.is("opening a socket");
    let mut socket = network.udp(target).await?;
    socket.send(question).await.map_err(|error| failed(&error))?;
    stage.is("waiting for an answer");
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let len = socket.receive(&mut buffer).await.map_err(|error| failed(&error))?;
        let heard = buffer.get(..len).unwrap_or_default();
        // What comes with another number answers somebody else.
        if heard.get(..2) == question.get(..2) {
            return Ok(heard.to_vec());
        }
        stage.is("waiting for an answer with the number of its question");
    }
}

fn truncated(answer: &[u8]) -> bool {
    Message::from_octets(answer).is_ok_and(|answer| answer.header().qr() && answer.header().tc())
}

async fn over_tcp(
    network: &dyn Network,
    target: &Target,
    question: &[u8],
    stage: &Stage,
) -> Result<Vec<u8>, Verdict> {
    stage.is("connecting");
    let mut stream = network.tcp(target).await?;
    stage.is("sending");
    stream.write_all(question).await.map_err(|error| failed(&error))?;
    stream.flush().await.map_err(|error| failed(&error))?;
    stage.is("waiting for an answer over TCP");
    let length = stream.read_u16().await.map_err(|error| failed(&error))?;
    stage.is("waiting for the rest of an answer over TCP");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(|error| failed(&error))?;
    Ok(answer)
}

fn judge(answer: &[u8], question: &[u8], dns: &Dns, patterns: &Patterns) -> Ended {
    let not_dns = || fail(format!("the answer is not DNS: \"{}\"", shown(answer)));
    let question = Message::from_octets(question).map_err(|_| not_dns())?;
    let answer = Message::from_octets(answer).map_err(|_| not_dns())?;
    let header = answer.header();
    if !header.qr() || header.id() != question.header().id() {
        return Err(not_dns());
    }
    let code = header.rcode();
    // A server that refuses may leave the question out.
    let bare = answer.header_counts().qdcount() == 0 && code != Rcode::NOERROR;
    if !bare && !answer.is_answer(&question) {
        return Err(fail(format!("{code}, but to another question")));
    }
    if !dns.codes.contains(&code.to_int()) {
        let codes: Vec<String> =
            dns.codes.iter().map(|code| Rcode::masked_from_int(*code).to_string()).collect();
        return Err(fail(format!("{code}, not {}", codes.join(" or "))));
    }
    let records = if bare { Vec::new() } else { records(&answer, dns)? };
    let Some(expect) = &dns.expect else {
        return Ok(Passed::plain(format!("{code}, {}", told(&records))));
    };
    for record in &records {
        let found = match expect {
            Pattern::Bytes(text) => without_dot(record.as_bytes()).eq_ignore_ascii_case(without_dot(text)),
            Pattern::Regex(_) => patterns.is_in(expect, record.as_bytes())?,
        };
        if found {
            return Ok(Passed::plain(format!("{code}, {}", shown(record.as_bytes()))));
        }
    }
    Err(fail(format!("{code}, but no {} in the answer: {}", wanted(expect), told(&records))))
}

/// A name without the dot of the root, which people leave out.
fn without_dot(text: &[u8]) -> &[u8] {
    text.strip_suffix(b".").unwrap_or(text)
}

/// The data of the records of the type that was asked for, as in a zone file.
fn records(answer: &Message<&[u8]>, dns: &Dns) -> Result<Vec<String>, Verdict> {
    let wrong = |error: &dyn core::fmt::Display| fail(format!("the answer is not DNS: {error}"));
    let section = answer.answer().map_err(|error| wrong(&error))?;
    let mut records = Vec::new();
    for record in section.limit_to::<AllRecordData<_, _>>().take(RECORDS_MAX) {
        let record = record.map_err(|error| wrong(&error))?;
        if record.rtype().to_int() == dns.record || dns.record == Rtype::ANY.to_int() {
            records.push(record.data().to_string());
        }
    }
    Ok(records)
}

fn told(records: &[String]) -> String {
    let first: Vec<String> =
        records.iter().take(RECORDS_TOLD).map(|record| shown(record.as_bytes())).collect();
    match records.len() {
        0 => "no record of that type".to_owned(),
        count if count > first.len() => format!("{} and {} more", first.join(", "), count - first.len()),
        _ => first.join(", "),
    }
}
