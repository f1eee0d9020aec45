//! `sched`: looks at the schedulers of services, and exchanges their modules.

use std::fmt::Write as _;

use serde::Serialize;
use uvs_control::sched::{Answer, Request};
use uvs_control::{Error, ErrorKind};
use uvs_plugin::{LoadReport, Refusal, Schedulers, Step, parse_sha256};

use super::Peer;

/// Does it. Compiles, perhaps: not for a thread that has anything else to do.
pub(super) fn answer(request: &Request, schedulers: &Schedulers, peer: &Peer) -> Result<Answer, Error> {
    let refused = |refusal: Refusal| Error::new(kind(&refusal), refusal.to_string());
    let done = |service: &str, what: &str, report: Result<LoadReport, Refusal>| {
        let report = report.map_err(refused)?;
        tracing::info!(service, pid = peer.pid, uid = peer.uid, "{what} by request");
        let mut text = format!("{service}: {report}");
        let _ = write!(
            text,
            "\nThe configuration still names what it named: write the new module there to keep it."
        );
        Ok(Answer { text, data: data(&report)? })
    };
    match request {
        Request::Status { service } => {
            let list = match service {
                Some(service) => vec![schedulers.status_of(service).map_err(refused)?],
                None => schedulers.status(),
            };
            let text: Vec<String> = list.iter().map(ToString::to_string).collect();
            Ok(Answer { text: text.join("\n"), data: data(&list)? })
        }
        Request::Load { service, file, sha256 } => {
            let pin = sha256.as_deref().map(parse_sha256).transpose();
            let pin = pin.map_err(|reason| Error::new(ErrorKind::Refused, reason))?;
            done(service, "module loaded", schedulers.load(service, file, pin))
        }
        Request::Rollback { service } => done(service, "module rolled back", schedulers.rollback(service)),
        Request::Promote { service } => done(service, "module promoted", schedulers.promote(service)),
    }
}

fn kind(refusal: &Refusal) -> ErrorKind {
    match refusal.step {
        Step::Swap => ErrorKind::Failed,
        _ => ErrorKind::Refused,
    }
}

fn data(value: &impl Serialize) -> Result<serde_json::Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))
}
