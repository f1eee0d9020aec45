//! `probe`: makes a check now, from the director's own address.

use std::time::Duration;

use uvs_check::net::{Echo, Target, Via};
use uvs_check::outcome;
use uvs_check::spec::{Http, HttpVersion, Kind, Pattern, ProbeSpec, Schedule, Talk};
use uvs_control::probe::{self, Answer, Request, TIMEOUT_MAX_MS, Verdict};
use uvs_control::{Error, ErrorKind};
use uvs_director::spec::ServiceKey;

use crate::pages::Live;

/// How long an answer's text may be, in characters.
const TEXT_MAX: usize = 1000;

/// Makes it. Over at its timeout.
pub(super) async fn answer(request: Request, live: &Live) -> Result<Answer, Error> {
    let outcome = live.local.probe(spec(&request, live)?).await;
    let (verdict, text) = match outcome.verdict {
        outcome::Verdict::Pass(text) => (Verdict::Pass, text),
        outcome::Verdict::Fail(text) => (Verdict::Fail, text),
        outcome::Verdict::Unmade(text) => (Verdict::Unmade, text),
    };
    let took_us = u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX);
    Ok(Answer { verdict, text: text.chars().take(TEXT_MAX).collect(), took_us })
}

fn spec(request: &Request, live: &Live) -> Result<ProbeSpec, Error> {
    let refused = |message: String| Error::new(ErrorKind::Refused, message);
    if !(1..=TIMEOUT_MAX_MS).contains(&request.timeout_ms) {
        let message = format!("timeout_ms {} is out of range; use 1 to {TIMEOUT_MAX_MS}", request.timeout_ms);
        return Err(refused(message));
    }
    let via = match request.via {
        None => Via::Direct,
        Some(destination) => Via::Service { service: service(request, live).map_err(refused)?, destination },
    };
    let send = request.send.clone().unwrap_or_default();
    let expect = request.expect.as_ref().map(|text| Pattern::Bytes(text.clone().into_bytes()));
    let talk = Talk { send: send.clone().into_bytes(), expect: expect.clone(), answer: true };
    let kind = match request.kind {
        probe::Kind::Tcp => Kind::Tcp(talk),
        probe::Kind::Udp => Kind::Udp(talk),
        probe::Kind::Ping => Kind::Ping(Echo { payload: 56, do_not_fragment: false }),
        probe::Kind::Http => Kind::Http(Box::new(Http {
            method: "GET".to_owned(),
            path: if send.is_empty() { "/".to_owned() } else { send },
            host: None,
            status: vec![200..=299],
            body: expect,
            version: HttpVersion::Any,
            tls: None,
        })),
    };
    let port = if request.kind == probe::Kind::Ping { 0 } else { request.port };
    let target = Target { address: request.address, port, source: None, mark: None, via };
    let timeout = Duration::from_millis(request.timeout_ms);
    Ok(ProbeSpec { kind, target, schedule: Schedule::every(timeout, timeout) })
}

/// The service that is meant.
fn service(request: &Request, live: &Live) -> Result<ServiceKey, String> {
    let services = live.director.services();
    let mut keys = services.iter().map(|service| service.spec.key);
    let udp = request.kind == probe::Kind::Udp;
    let name = request.service.clone().map(|name| name.replacen('/', " ", 1)).unwrap_or_else(|| {
        let addr = std::net::SocketAddr::new(request.address, request.port);
        format!("{} {addr}", if udp { "udp" } else { "tcp" })
    });
    keys.find(|key| key.to_string() == name)
        .ok_or_else(|| format!("there is no service {name}; uvs status lists those that there are"))
}
