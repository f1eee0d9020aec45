//! What is remembered of an FTP control connection; the helper that reads what both ends say lies above.

pub(crate) mod stream;

use std::sync::Arc;

use crate::base::record::{FtpRecord, Passive};
use crate::track::control::Control;
use crate::track::ftp::stream::Stream;

/// What the director remembers of an FTP control connection.
#[derive(Clone, Debug)]
pub(crate) struct Ftp {
    /// The client's last word about its next data connection.
    pub(crate) passive: Option<Passive>,
    /// The server's stream.
    pub(crate) stream: Stream,
    /// The data connections that hang on this one.
    pub(crate) control: Arc<Control>,
}

impl Ftp {
    /// That of a connection that begins; `control` is its own.
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self { passive: None, stream: Stream::default(), control }
    }

    /// What another director has told of it.
    pub(crate) fn from_record(record: &FtpRecord, control: Arc<Control>) -> Self {
        let stream = Stream::from_parts(record.shift, record.replaced.clone());
        Self { passive: record.passive, stream, control }
    }

    /// What another director has to know of it.
    pub(crate) fn record(&self) -> FtpRecord {
        let (shift, replaced) = self.stream.parts();
        FtpRecord { passive: self.passive, shift, replaced }
    }
}
