//! Clients of the control socket: a few at a time, and none of them for ever.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use uvs_control::{Error, ErrorKind, REQUEST_MAX, Request, decode_request, encode_answer};

use super::lists::STREAMS;
use super::peer::Peer;
use super::{ControlSocket, Handle, blocking};

/// Clients served at one time; more wait in the kernel's backlog.
pub const CLIENTS_MAX: usize = 16;
/// How long a client may take to send a request, and to think of the next one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read each [`CHUNK`] of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes.
const CHUNK: usize = 64 << 10;
/// Lists of connections in one answer that are made and read at one time: one of a million takes 300 MB.
const LISTS: usize = 2;

/// How long telling a stranger may take.
const DENIAL_TIMEOUT: Duration = Duration::from_millis(100);

/// Whose turn it is to be told of connections.
struct Lists {
    whole: Semaphore,
    /// Those in parts.
    streams: Semaphore,
}

/// Serves until it is dropped.
///
/// # Errors
/// The socket cannot be handed to the runtime.
pub async fn serve(socket: Arc<ControlSocket>, handle: Handle) -> std::io::Result<Infallible> {
    let (listener, admission) = socket.listener()?;
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    let lists = Arc::new(Lists { whole: Semaphore::new(LISTS), streams: Semaphore::new(STREAMS) });
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely out of file descriptors, which does not pass in an instant.
                warn!(%error, "a client of the control socket could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        match admission.judge(&stream) {
            Ok(peer) => {
                let (handle, lists) = (handle.clone(), Arc::clone(&lists));
                tokio::spawn(async move {
                    talk(stream, &peer, &handle, &lists, slot).await;
                });
            }
            Err(reason) => {
                info!(reason, "a client of the control socket was refused");
                let line = encode_answer(Err(Error::new(ErrorKind::Denied, reason)));
                // It fits into the empty buffer of the connection: the stranger makes nobody wait.
                let _ = timeout(DENIAL_TIMEOUT, stream.write_all(&line)).await;
            }
        }
    }
}

/// Answers a client until it leaves, or has to.
async fn talk(stream: UnixStream, peer: &Peer, handle: &Handle, lists: &Lists, slot: OwnedSemaphorePermit) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(REQUEST_MAX as u64);
        let read = timeout(REQUEST_TIMEOUT, bounded.read_until(b'\n', &mut line)).await;
        let last = match read {
            Ok(Ok(_)) if line.last() == Some(&b'\n') => None,
            Ok(Ok(_)) if line.len() >= REQUEST_MAX => {
                let message = format!("a request has {REQUEST_MAX} bytes at most; send it in parts");
                Some(Error::new(ErrorKind::TooLong, message))
            }
            // Closed, perhaps in the middle of a line: nobody is left to be told.
            Ok(Ok(_)) => return,
            Ok(Err(error)) => {
                debug!(by = %peer, %error, "a client of the control socket failed");
                return;
            }
            Err(_) => {
                let message = format!("no request within {} s", REQUEST_TIMEOUT.as_secs());
                Some(Error::new(ErrorKind::Timeout, message))
            }
        };
        let ends = last.is_some();
        // Held until the answer is read.
        let mut turn = None;
        let result = match last {
            Some(error) => Err(error),
            None => match blocking(move || decode_request(&line)).await.flatten() {
                Ok(Request::Events(request)) if request.follow => {
                    // It lasts as long as the client likes: that is none of the short ones, and they have a bound of
                    // their own.
                    drop(slot);
                    let (read, write) = stream.into_inner().into_split();
                    return super::events::follow(read, write, request, handle).await;
                }
                Ok(Request::Adm(request)) if request.stream && super::adm::lists_connections(&request) => {
                    drop(slot);
                    let (_read, write) = stream.into_inner().into_split();
                    return super::lists::stream(write, request, handle, &lists.streams).await;
                }
                Ok(Request::Trace(request)) => {
                    drop(slot);
                    let (read, write) = stream.into_inner().into_split();
                    return super::trace::follow(read, write, request, handle, peer).await;
                }
                Ok(request) => {
                    if super::lists_connections(&request) {
                        turn = lists.whole.acquire().await.ok();
                    }
                    handle.answer(request, peer).await
                }
                Err(error) => Err(error),
            },
        };
        let Ok(answer) = blocking(move || encode_answer(result)).await else { return };
        for chunk in answer.chunks(CHUNK) {
            match timeout(ANSWER_TIMEOUT, stream.get_mut().write_all(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return debug!(by = %peer, %error, "an answer was not read"),
                Err(_) => return debug!(by = %peer, "an answer was read too slowly"),
            }
        }
        drop((answer, turn));
        if ends {
            return;
        }
    }
}
