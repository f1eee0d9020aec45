//! Which files a client may have the director open.
//!
//! The director opens files with its own rights, which are mostly root's; a member of the group of the socket has
//! fewer. What such a client names is opened only where the configuration, or a service that runs, names it as well.
//! Of any other file it does not even hear whether it is there.

use std::path::Path;

use uvs_control::{Error, ErrorKind};

use super::Peer;
use crate::pages::Live;

/// Refuses a file that `peer` may not have opened.
///
/// # Errors
/// The same words for every file.
pub(super) fn check(peer: &Peer, file: &Path, live: &Live) -> Result<(), Error> {
    let is_named = || {
        live.schedulers.catalogue().names_file(file)
            || live.director.services().iter().any(|it| Path::new(&it.spec.scheduler.name) == file)
    };
    if peer.has_the_directors_rights() || is_named() {
        return Ok(());
    }
    let message = format!(
        "the director opens {} for root only: name it in the configuration ([[scheduler]]), or hand the module over with \
         uvs sched load",
        file.display()
    );
    Err(Error::new(ErrorKind::Refused, message))
}
