//! `announce`: VIPs that are told to routers.

use uvs_control::announce::{Answer, Request};
use uvs_control::{Error, ErrorKind};

use super::Peer;
use crate::pages::Live;

/// Does it and says how it stands then. It waits for the kernel, and not for long.
pub(super) async fn answer(request: Request, live: &Live, peer: &Peer) -> Result<Answer, Error> {
    let config = live.config();
    let off = match request {
        Request::Status {} => return Ok(live.announce.answer(&config, live.clock.now())),
        Request::Off {} => Some(peer.to_string()),
        Request::On {} => None,
    };
    if config.announce.is_none() {
        let message = "nothing is announced: the configuration has no [announce]";
        return Err(Error::new(ErrorKind::Refused, message));
    }
    tracing::info!(by = %peer, "announcing is switched {}", if off.is_some() { "off" } else { "on" });
    live.announce.switch(off).await;
    Ok(live.announce.answer(&config, live.clock.now()))
}
