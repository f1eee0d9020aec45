//! The control socket of a running director: its messages, and a client for it.
//!
//! ```text
//!   client                                        director
//!     {"version":1,"request":{"adm":{...}}}\n  -->
//!                                              <--  {"version":1,"answer":{"adm":{...}}}\n
//!                                         or   <--  {"version":1,"error":{"kind":"...","message":"..."}}\n
//! ```
//! A Unix stream socket; one line of JSON for a request, one for its answer, then the next request or the end. A
//! family of requests has a file of its own here and one in `router/src/control`. `docs/control.md` has every
//! message.

pub mod adm;
pub mod announce;
pub mod base64;
mod client;
pub mod connections;
pub mod destination;
pub mod event;
pub mod explain;
pub mod ha;
pub mod inspect;
mod line;
mod message;
pub mod plan;
pub mod probe;
pub mod sample;
pub mod sched;
pub mod status;
pub mod trace;

pub use client::{Client, ClientError, PATIENCE};
pub use line::{LineError, read_line};
pub use message::{
    Answer, Error, ErrorKind, Incoming, Outcome, Outgoing, Request, decode_request, encode_answer,
    encode_request,
};

use std::ffi::OsString;
use std::path::PathBuf;

/// The version of the messages. It changes when one of them changes its meaning or loses something.
pub const VERSION: u32 = 1;

/// Where a director listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/uvs/uvs.sock";

/// The environment variable that names the socket for clients.
pub const SOCKET_VARIABLE: &str = "UVS_SOCKET";

/// The longest request in bytes, its line feed included: a module of the usual size limit, in base64.
pub const REQUEST_MAX: usize = 24 << 20;

/// The longest answer that a client takes, in bytes: a listing of some millions of connections.
pub const ANSWER_MAX: usize = 1 << 30;

/// Where to find the director: what the command line says, else `$UVS_SOCKET` (when it is not empty), else
/// [`DEFAULT_SOCKET`].
pub fn socket_path(given: Option<PathBuf>, variable: Option<OsString>) -> PathBuf {
    given
        .or_else(|| variable.filter(|value| !value.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| DEFAULT_SOCKET.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let cases = [
            (Some("/a"), Some("/b"), "/a", "both"),
            (None, Some("/b"), "/b", "the environment"),
            (None, Some(""), DEFAULT_SOCKET, "an empty variable"),
            (None, None, DEFAULT_SOCKET, "neither"),
        ];
        for (given, variable, want, why) in cases {
            let path = socket_path(given.map(PathBuf::from), variable.map(OsString::from));
            assert_eq!(path, PathBuf::from(want), "{why}");
        }
    }
}
