//! What one director tells another of its connections, to bytes and back: for a restart, an upgrade, a standby. No I/O.
//!
//! ```text
//!   Hello  Begin  Connection ...  (Connection | Gone) ...  Commit
//!          `-- snapshot ------'   `-- what has changed -'
//!
//!   each:  u16 kind, u16 length, so many bytes              all numbers in network order
//! ```
//! # Versions
//! A reader skips kinds that it does not know, and bytes behind the fields that it knows. A writer only ever appends
//! fields, behind all others of the kind, and none changes its meaning; a reader takes a field that is not there for
//! what it was before there was such a field. So versions read one another in both directions, for a downgrade is the
//! way back from an upgrade. Where that cannot hold, `needs` in [`Hello`] goes up, and older readers refuse.
//!
//! Whatever the bytes are, nothing here panics.

#![forbid(unsafe_code)]

mod connection;
mod counts;
mod field;
mod service;

use uvs_director::record::{ConnectionId, ConnectionRecord, CountsRecord, Record};

use field::{Fields, Writer};

/// The version that is written here. It goes up with each field that is appended.
pub const VERSION: u16 = 1;
/// The oldest version whose readers understand what is written here.
pub const NEEDS: u16 = 1;
/// The longest message, its head included, in bytes.
pub const MESSAGE_MAX: usize = HEAD + u16::MAX as usize;

/// Kind and length.
const HEAD: usize = 4;
/// How every stream begins.
const MAGIC: [u8; 4] = *b"uvss";

/// Numbers of the kinds. One that was given out is never used for anything else.
mod kind {
    pub(crate) const HELLO: u16 = 1;
    pub(crate) const BEGIN: u16 = 2;
    pub(crate) const CONNECTION: u16 = 3;
    pub(crate) const GONE: u16 = 4;
    pub(crate) const COMMIT: u16 = 5;
    pub(crate) const COUNTS: u16 = 6;
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version of what follows.
    pub version: u16,
    /// The oldest version that a reader has to know.
    pub needs: u16,
}

impl Hello {
    /// What is said here.
    pub const HERE: Self = Self { version: VERSION, needs: NEEDS };

    /// Whether this reader understands what follows.
    pub const fn is_understood(&self) -> bool {
        self.needs <= VERSION
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "most are the large one, and all are gone soon")]
pub enum Message {
    /// The first of a stream.
    Hello(Hello),
    /// A snapshot begins: what was told before is forgotten.
    Begin {
        /// Tells this snapshot from others of the same director.
        generation: u64,
        /// When it began, in milliseconds since 1970, by the clock of the host.
        at_millis: u64,
    },
    /// A connection or a template as it is now.
    Connection(ConnectionRecord),
    /// It is gone.
    Gone(ConnectionId),
    /// What was counted.
    Counts(CountsRecord),
    /// All that was told is all there is, as of now.
    Commit {
        /// Connections and templates, as the teller counts them.
        entries: u64,
    },
}

impl From<Record> for Message {
    fn from(record: Record) -> Self {
        match record {
            Record::Connection(record) => Self::Connection(record),
            Record::Gone(id) => Self::Gone(id),
        }
    }
}

impl Message {
    /// Appends its bytes.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => message(to, kind::HELLO, |to| {
                to.bytes(&MAGIC);
                to.u16(hello.version);
                to.u16(hello.needs);
            }),
            Self::Begin { generation, at_millis } => message(to, kind::BEGIN, |to| {
                to.u64(*generation);
                to.u64(*at_millis);
            }),
            Self::Connection(record) => message(to, kind::CONNECTION, |to| connection::write(to, record)),
            Self::Gone(id) => message(to, kind::GONE, |to| connection::write_id(to, id)),
            Self::Counts(record) => message(to, kind::COUNTS, |to| counts::write(to, record)),
            Self::Commit { entries } => message(to, kind::COMMIT, |to| to.u64(*entries)),
        }
    }
}

/// Appends the bytes of one message. What a reader would not take, for it is too long, is left out whole: no record of
/// a director is.
fn message(to: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Writer<'_>)) {
    let start = to.len();
    to.extend_from_slice(&kind.to_be_bytes());
    to.extend_from_slice(&[0; 2]);
    write(&mut Writer::new(to));
    match u16::try_from(to.len() - start - HEAD) {
        Ok(len) => to[start + 2..start + HEAD].copy_from_slice(&len.to_be_bytes()),
        Err(_) => to.truncate(start),
    }
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "as of `Message`")]
pub enum Read {
    /// A message.
    Message(Message),
    /// One of a kind that is not known here: to be passed over.
    Unknown(u16),
    /// One of this kind whose bytes make no sense: its connection, if it is about one, cannot be taken over.
    Broken(u16),
}

/// Reads the message at the beginning of `bytes`, and says how long it is. `None`: it is not whole; more bytes are
/// needed, or the stream was cut off.
pub fn read(bytes: &[u8]) -> Option<(Read, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let [k1, k2, l1, l2] = *head else { return None };
    let (kind, len) = (u16::from_be_bytes([k1, k2]), usize::from(u16::from_be_bytes([l1, l2])));
    let body = rest.get(..len)?;
    let read = match body_of(kind, &mut Fields::new(body)) {
        Body::Whole(message) => Read::Message(message),
        Body::Unknown => Read::Unknown(kind),
        Body::Broken => Read::Broken(kind),
    };
    Some((read, HEAD + len))
}

/// Bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Stream {
    bytes: Vec<u8>,
    /// How many of them were read.
    at: usize,
}

impl Stream {
    /// More bytes have come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once it is whole.
    #[allow(clippy::should_implement_trait, reason = "it may have more to give after it had none")]
    pub fn next(&mut self) -> Option<Read> {
        let (read, len) = read(self.bytes.get(self.at..)?)?;
        self.at += len;
        Some(read)
    }
}

/// What the bytes of a message come to.
#[allow(clippy::large_enum_variant, reason = "as of `Message`")]
enum Body {
    Whole(Message),
    Unknown,
    Broken,
}

impl From<Option<Message>> for Body {
    fn from(message: Option<Message>) -> Self {
        message.map_or(Self::Broken, Self::Whole)
    }
}

fn body_of(kind: u16, fields: &mut Fields<'_>) -> Body {
    match kind {
        kind::HELLO => hello(fields).map(Message::Hello).into(),
        kind::BEGIN => begin(fields).into(),
        kind::CONNECTION => connection::read(fields).map(Message::Connection).into(),
        kind::GONE => connection::read_id(fields).map(Message::Gone).into(),
        kind::COMMIT => fields.u64().map(|entries| Message::Commit { entries }).into(),
        kind::COUNTS => counts::read(fields).map(Message::Counts).into(),
        _ => Body::Unknown,
    }
}

fn hello(fields: &mut Fields<'_>) -> Option<Hello> {
    if fields.take(MAGIC.len())? != MAGIC {
        return None;
    }
    Some(Hello { version: fields.u16()?, needs: fields.u16()? })
}

fn begin(fields: &mut Fields<'_>) -> Option<Message> {
    Some(Message::Begin { generation: fields.u64()?, at_millis: fields.u64()? })
}
