//! `plan`: what a reload would change.

use std::sync::Arc;

use uvs_config::Config;
use uvs_control::plan::{Plan, Request};
use uvs_control::{Error, ErrorKind};

use super::{Peer, blocking};
use crate::pages::Live;
use crate::{check, reload};

/// Compares the director with its file, or with what is handed over. Compiles modules, perhaps.
pub(super) async fn answer(
    request: Request,
    peer: &Peer,
    config: Arc<Config>,
    live: Arc<Live>,
) -> Result<Plan, Error> {
    // A text may include files, and what is said about them shows what is in them.
    if request.content.is_some() && !peer.has_the_directors_rights() {
        let message = "the director compares another file than its own for root only: files that it includes are opened with \
                       the director's rights";
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let work = move || {
        let wanted = match (request.content, request.file) {
            (Some(content), Some(file)) => {
                Config::parse(&content, &file).and_then(|config| check::judge(config, &live.schedulers))
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::new(ErrorKind::Malformed, "`file` and `content` go together"));
            }
            (None, None) => check::load(&config.file, &live.schedulers),
        };
        let plan = live.with_parts(|parts| reload::plan(wanted, &config, parts));
        plan.map_err(|reasons| Error::new(ErrorKind::Refused, reasons.join("\n")))
    };
    blocking(work).await?
}
