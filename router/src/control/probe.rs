//! `probe`: makes a check now, from the director's own address.

use std::time::Duration;

use uvs_check::net::{Echo, Target, Via};
use uvs_check::outcome;
use uvs_check::probe::{check_name, record_type};
use uvs_check::spec::{Dns, Grpc, Http, HttpVersion, Kind, Pattern, ProbeSpec, Schedule, Talk, Tls};
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
    let host = request.host.clone();
    let tls = || Tls { verify: !request.insecure, ..Tls::default() };
    let kind = match request.kind {
        probe::Kind::Tcp => Kind::Tcp(talk),
        probe::Kind::Udp => Kind::Udp(talk),
        probe::Kind::Ping => Kind::Ping(Echo { payload: 56, do_not_fragment: false }),
        probe::Kind::Agent => Kind::Agent { send: talk.send },
        probe::Kind::Grpc => Kind::Grpc(Box::new(Grpc { service: send, host, tls: request.tls.then(tls) })),
        probe::Kind::Dns => Kind::Dns(Box::new(dns(request, send, expect).map_err(refused)?)),
        probe::Kind::Http | probe::Kind::Https => Kind::Http(Box::new(Http {
            method: "GET".to_owned(),
            path: if send.is_empty() { "/".to_owned() } else { send },
            host,
            status: vec![200..=299],
            body: expect,
            version: HttpVersion::Any,
            tls: (request.kind == probe::Kind::Https).then(tls),
        })),
        probe::Kind::Check => return configured(request, live).map_err(refused),
    };
    let port = if request.kind == probe::Kind::Ping { 0 } else { request.port };
    let target = Target { address: request.address, port, source: None, mark: None, via };
    let timeout = Duration::from_millis(request.timeout_ms);
    Ok(ProbeSpec { kind, target, schedule: Schedule::every(timeout, timeout) })
}

fn dns(request: &Request, name: String, expect: Option<Pattern>) -> Result<Dns, String> {
    if name.is_empty() {
        return Err("send has to be the name that is asked for".to_owned());
    }
    check_name(&name)?;
    let text = request.record.as_deref().unwrap_or("A");
    let record =
        record_type(text).ok_or_else(|| format!("{text:?} is no type of records, such as A or MX"))?;
    // NOERROR
    Ok(Dns { name, record, codes: vec![0], expect, tcp: false })
}

/// The probe of a check of the configuration.
fn configured(request: &Request, live: &Live) -> Result<ProbeSpec, String> {
    let destination = std::net::SocketAddr::new(request.address, request.port);
    let Some(wanted) = request.check.as_deref() else {
        return Err("check has to be the name of one".to_owned());
    };
    let views =
        live.checks.view().ok_or("health checks do not answer: what they said last stays in force")?;
    let service = request.service.as_deref().map(|name| name.replacen('/', " ", 1));
    let is_meant = |name: &str| service.as_deref().is_none_or(|service| service == name);
    let of = views.iter().filter(|view| is_meant(&view.key.to_string()));
    let found: Vec<_> = of
        .flat_map(|view| view.destinations.iter().map(move |it| (view.key, it)))
        .filter(|(_, it)| it.addr == destination)
        .flat_map(|(key, it)| it.checks.iter().map(move |check| (key, check)))
        .filter(|(_, check)| &*check.name == wanted)
        .collect();
    let Some((first, check)) = found.first() else {
        let of = service.map(|service| format!(" of {service}")).unwrap_or_default();
        return Err(format!(
            "destination {destination}{of} has no check {wanted:?}; uvs status lists those that it has"
        ));
    };
    if let Some((other, _)) = found.iter().find(|(_, other)| other.probe != check.probe) {
        return Err(format!(
            "{first} and {other} have a check {wanted:?} of {destination}; say which by service"
        ));
    }
    let mut spec = ProbeSpec::clone(&check.probe);
    spec.schedule.timeout = spec.schedule.timeout.min(Duration::from_millis(TIMEOUT_MAX_MS));
    Ok(spec)
}

/// The service that is meant.
fn service(request: &Request, live: &Live) -> Result<ServiceKey, String> {
    let services = live.director.services();
    let mut keys = services.iter().map(|service| service.spec.key);
    let udp = matches!(request.kind, probe::Kind::Udp | probe::Kind::Dns);
    let name = request.service.clone().map(|name| name.replacen('/', " ", 1)).unwrap_or_else(|| {
        let addr = std::net::SocketAddr::new(request.address, request.port);
        format!("{} {addr}", if udp { "udp" } else { "tcp" })
    });
    keys.find(|key| key.to_string() == name)
        .ok_or_else(|| format!("there is no service {name}; uvs status lists those that there are"))
}
