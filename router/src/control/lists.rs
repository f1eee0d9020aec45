//! Lists of connections in parts: however many there are, a few parts are held at a time, and the first comes at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;
use uvs_control::adm::Request;
use uvs_control::{Answer, encode_answer};

use super::{Handle, adm};

/// Clients that are read to at one time; others wait for their turn.
pub(super) const STREAMS: usize = 8;
/// Parts that wait to be written.
const PARTS: usize = 2;
/// Who reads nothing for so long gives way to one who waits,
const STALLED: Duration = Duration::from_secs(10);
/// and for so many times as long to nobody: a pager is read by people.
const STALLS_MAX: u32 = 60;

/// Writes the list that is asked for to a client until it leaves, or stands in another's way.
pub(super) async fn stream(
    mut write: impl AsyncWrite + Unpin,
    request: Request,
    handle: &Handle,
    turns: &Semaphore,
) {
    let Ok(_turn) = turns.acquire().await else { return };
    let (parts, rest) = channel(PARTS);
    let live = Arc::clone(&handle.live);
    tokio::task::spawn_blocking(move || {
        adm::list(&request, &live, &mut |part| {
            parts.blocking_send(encode_answer(Ok(Answer::Adm(part)))).is_ok()
        });
    });
    pass(rest, &mut write, turns, STALLED).await;
}

async fn pass(
    mut parts: Receiver<Vec<u8>>,
    write: &mut (impl AsyncWrite + Unpin),
    turns: &Semaphore,
    stalled: Duration,
) {
    while let Some(line) = parts.recv().await {
        let mut left = &line[..];
        let mut stalls = 0;
        while !left.is_empty() {
            match timeout(stalled, write.write(left)).await {
                Ok(Ok(written @ 1..)) => (left, stalls) = (&left[written..], 0),
                Ok(Ok(0) | Err(_)) => return,
                Err(_) if turns.available_permits() == 0 || stalls >= STALLS_MAX => return,
                Err(_) => stalls += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Whoever stands still keeps his place until somebody else wants it.
    #[tokio::test]
    async fn a_stalled_reader_gives_way_to_one_who_waits() {
        for (others_wait, lines) in [(false, 20), (true, 1)] {
            let turns = Semaphore::new(if others_wait { 0 } else { 1 });
            let (parts, rest) = channel(PARTS);
            let (mut server, mut client) = tokio::io::duplex(10);
            let making = async move {
                for _ in 0..20 {
                    if parts.send(b"123456789\n".to_vec()).await.is_err() {
                        break;
                    }
                }
            };
            let serving = async {
                pass(rest, &mut server, &turns, Duration::from_millis(50)).await;
                drop(server);
            };
            let reading = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut text = String::new();
                client.read_to_string(&mut text).await.unwrap();
                text
            };
            let ((), (), text) = tokio::join!(making, serving, reading);
            assert_eq!(text.lines().count(), lines, "others wait: {others_wait}");
        }
    }
}
