//! Requests that come from the page.

use uvs_control::{Answer, Error, Request};

use super::{Handle, Peer};
use crate::http::{Requests, Who};

impl Requests for Handle {
    async fn answer(&self, request: Request, who: Who) -> Result<Answer, Error> {
        let peer = match who {
            Who::Anybody(addr) => Peer::Page(addr),
            Who::Process { pid, uid } => Peer::Process { pid, uid },
        };
        Handle::answer(self, request, &peer).await
    }
}
