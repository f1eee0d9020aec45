//! Who answers for the director.

use std::convert::Infallible;
use std::future::Future;

use uvs_control::{Answer, Error};

use super::guard::Who;

/// Whom the page asks, and tells what to do.
pub trait Requests: Send + Sync + 'static {
    /// The answer to a request of the control socket.
    fn answer(
        &self,
        request: uvs_control::Request,
        who: Who,
    ) -> impl Future<Output = Result<Answer, Error>> + Send;
}

/// A director without a page.
impl Requests for Infallible {
    async fn answer(&self, _: uvs_control::Request, _: Who) -> Result<Answer, Error> {
        match *self {}
    }
}
