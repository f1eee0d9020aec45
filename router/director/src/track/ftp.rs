//! What is remembered of an FTP control connection; the helper that reads what both ends say lies above.

pub(crate) mod stream;

use std::sync::Arc;

use crate::track::control::Control;
use crate::track::ftp::stream::Stream;

/// How the client wants its next data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passive {
    Pasv,
    Epsv,
}

/// What the director remembers of an FTP control connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ftp {
    /// The client's last word about its next data connection.
    pub(crate) passive: Option<Passive>,
    /// The server's stream.
    pub(crate) stream: Stream,
    /// The data connections that hang on this one.
    pub(crate) control: Arc<Control>,
}
