//! A blocking client.

use std::io::{self, BufReader, ErrorKind as IoErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::line::{LineError, read_line};
use crate::message::{Answer, Error, Request, decode_answer, encode_request};
use crate::{ANSWER_MAX, REQUEST_MAX, SOCKET_VARIABLE};

/// How long a director may keep a client waiting: a request may compile a scheduler module, which takes seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no director answers at {}: {cause}\n  fix: start one (uvs run), or name the socket of the one that runs with --socket or {SOCKET_VARIABLE}",
        path.display()
    )]
    NoDirector {
        /// The socket.
        path: PathBuf,
        /// What the system says. Not the error's source: whoever prints all causes would print it twice.
        cause: io::Error,
    },
    /// The socket may not be used by this user.
    #[error(
        "the control socket {} may not be used: {cause}\n  fix: be root, or a member of the group that [control] names",
        path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the system says. Not the error's source: whoever prints all causes would print it twice.
        cause: io::Error,
    },
    /// The director said why not.
    #[error("{0}")]
    Refused(Error),
    /// The connection broke or the answer makes no sense.
    #[error("the director at {} gave no answer: {reason}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The request is longer than a director takes.
    #[error("the request is {len} bytes long, and a director takes {REQUEST_MAX} at most; send it in parts")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// A connection to a director.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the socket at `path`. Each step of a question takes at most `patience`, or fails.
    ///
    /// # Errors
    /// [`ClientError::NoDirector`] and [`ClientError::Denied`].
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Before connecting, which waits while the director's backlog is full.
            socket.set_write_timeout(Some(patience))?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok(UnixStream::from(socket))
        };
        let stream = connect().map_err(|cause: io::Error| {
            let path = path.to_owned();
            match cause.kind() {
                IoErrorKind::PermissionDenied => ClientError::Denied { path, cause },
                _ => ClientError::NoDirector { path, cause },
            }
        })?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// All but those of [`Client::connect`]. After [`ClientError::Broken`] the connection is of no more use.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let line = encode_request(request);
        if line.len() > REQUEST_MAX {
            return Err(ClientError::TooLong { len: line.len() });
        }
        // A director that refuses a client closes without reading: then writing fails, and what it said is still there.
        let written = self.stream.get_mut().write_all(&line);
        self.answer(written)
    }

    /// Waits for a further answer to the last question, for as long as it takes.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn more(&mut self) -> Result<Answer, ClientError> {
        let patient = self.stream.get_ref().set_read_timeout(None);
        self.answer(patient)
    }

    /// Reads an answer. What came before it may have failed.
    fn answer(&mut self, before: io::Result<()>) -> Result<Answer, ClientError> {
        let path = &self.path;
        let broken = |reason: String| ClientError::Broken { path: path.clone(), reason };
        let answer = match (read_line(&mut self.stream, ANSWER_MAX), before) {
            (Ok(answer), _) => answer,
            (_, Err(error)) => return Err(broken(error.to_string())),
            (Err(LineError::Io(error)), _) if error.kind() == IoErrorKind::WouldBlock => {
                return Err(broken("it takes too long".to_owned()));
            }
            (Err(error), _) => return Err(broken(error.to_string())),
        };
        decode_answer(&answer).map_err(broken)?.map_err(ClientError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Read as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::message::{ErrorKind, encode_answer};
    use crate::{adm, status};

    const STATUS: Request = Request::Status(status::Request {});

    /// A director that does as told with its one client.
    fn director(
        serve: impl FnOnce(UnixStream) + Send + 'static,
    ) -> (tempfile::TempDir, Client, thread::JoinHandle<()>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uvs.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
        let client = Client::connect(&path, Duration::from_millis(300)).unwrap();
        (folder, client, thread)
    }

    #[test]
    fn questions_are_answered_one_after_the_other() {
        let (_folder, mut client, thread) = director(|stream| {
            let mut stream = BufReader::new(stream);
            for code in [0, 7] {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                assert_eq!(line, "{\"version\":1,\"request\":{\"status\":{}}}\n");
                let answer = Answer::Adm(adm::Answer { code, ..adm::Answer::default() });
                stream.get_mut().write_all(&encode_answer(Ok(answer))).unwrap();
            }
        });
        for code in [0, 7] {
            let answer = Answer::Adm(adm::Answer { code, ..adm::Answer::default() });
            assert_eq!(client.ask(&STATUS).unwrap(), answer);
        }
        thread.join().unwrap();
    }

    #[test]
    fn whatever_a_director_does_a_client_hears_why() {
        type Serve = fn(UnixStream);
        let cases: [(Serve, &str, &str); 5] = [
            (|mut stream| drop(stream.read(&mut [0; 1000])), "the connection was closed", "it closes"),
            (
                |mut stream| {
                    drop(stream.read(&mut [0; 1000]));
                    stream.write_all(b"{\"vers").unwrap();
                },
                "in the middle of",
                "it closes early",
            ),
            (|mut stream| stream.write_all(b"hello\n").unwrap(), "not understood", "it is none"),
            (|_stream| thread::sleep(Duration::from_millis(600)), "it takes too long", "it hangs"),
            (
                |mut stream| {
                    let error = Error::new(ErrorKind::Denied, "you are not root");
                    stream.write_all(&encode_answer(Err(error))).unwrap();
                },
                "you are not root",
                "it refuses",
            ),
        ];
        for (serve, part, why) in cases {
            let (_folder, mut client, thread) = director(serve);
            let error = client.ask(&STATUS).expect_err(why).to_string();
            assert!(error.contains(part), "{why}: {error}");
            thread.join().unwrap();
        }
    }

    #[test]
    fn without_a_director_there_is_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = folder.path().join("nothing.sock");
        let left = folder.path().join("left.sock");
        drop(UnixListener::bind(&left).unwrap());
        for (path, why) in [(nothing, "no file"), (left, "a socket whose director is gone")] {
            let error = Client::connect(&path, PATIENCE).expect_err(why);
            assert!(std::error::Error::source(&error).is_none(), "{why}: the cause would be printed twice");
            let error = error.to_string();
            assert!(error.contains("no director answers at") && error.contains("uvs run"), "{why}: {error}");
        }
    }

    #[test]
    fn a_request_that_no_director_takes_is_not_sent() {
        let (_folder, mut client, thread) = director(|mut stream| {
            assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "nothing comes");
        });
        let input = "x".repeat(REQUEST_MAX);
        let request = Request::Adm(adm::Request { arguments: vec!["-R".into()], input, stream: false });
        assert!(matches!(client.ask(&request), Err(ClientError::TooLong { .. })));
        drop(client);
        thread.join().unwrap();
    }
}
