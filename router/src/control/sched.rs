//! `sched`: looks at the schedulers of services, and exchanges their modules.

use std::fmt::Write as _;

use serde::Serialize;
use uvs_control::sched::{Answer, Request};
use uvs_control::{Error, ErrorKind, base64};
use uvs_plugin::{LoadReport, Refusal, Step, parse_sha256};

use super::{Peer, rights};
use crate::pages::Live;

/// Does it. Compiles, perhaps: not for a thread that has anything else to do.
pub(super) fn answer(request: &Request, live: &Live, peer: &Peer) -> Result<Answer, Error> {
    let schedulers = &*live.schedulers;
    let refused = |refusal: Refusal| Error::new(kind(&refusal), refusal.to_string());
    let done = |service: &str, what: &str, report: Result<LoadReport, Refusal>| {
        let report = report.map_err(refused)?;
        tracing::info!(service, by = %peer, "{what} by request");
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
        Request::Load { service, file, content, sha256 } => {
            let pin = sha256.as_deref().map(parse_sha256).transpose();
            let pin = pin.map_err(|reason| Error::new(ErrorKind::Refused, reason))?;
            let report = match content {
                Some(content) => {
                    let bytes = base64::decode(content)
                        .ok_or_else(|| Error::new(ErrorKind::Malformed, "`content` is no base64"))?;
                    schedulers.load_bytes(service, (&file.display().to_string(), &bytes), pin)
                }
                None => {
                    rights::check(peer, file, live)?;
                    schedulers.load(service, file, pin)
                }
            };
            done(service, "module loaded", report)
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
