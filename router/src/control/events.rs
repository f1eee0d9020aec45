//! `events`: what happened, and what happens.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use uvs_control::event::{Answer, Request};
use uvs_control::{Error, ErrorKind, encode_answer};

use super::Handle;
use crate::events::{READERS_MAX, Reader};
use crate::pages::Live;

/// A reader that takes nothing for so long is let go, so that others find a place.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// What is known.
pub(super) fn history(request: Request, live: &Live) -> Answer {
    live.events.history(&request)
}

/// Writes what happens to a client until it leaves, or takes nothing for too long.
pub(super) async fn follow(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    request: Request,
    handle: &Handle,
) {
    let Some(mut reader) = handle.live.events.follow(&request) else {
        let message = format!("{READERS_MAX} clients follow the events, which is the most; end one of them");
        let line = encode_answer(Err(Error::new(ErrorKind::Refused, message)));
        let _ = timeout(STALLED_MAX, write.write_all(&line)).await;
        return;
    };
    // A client that follows has nothing to say: a word, or its end, ends it.
    let mut word = [0];
    tokio::select! {
        () = pass(&mut reader, &mut write) => {}
        _ = read.read(&mut word) => {}
    }
}

async fn pass(reader: &mut Reader, write: &mut (impl AsyncWrite + Unpin)) {
    // The first one comes at once, so that the client knows that it is heard.
    let mut answer = reader.take();
    loop {
        let line = encode_answer(Ok(uvs_control::Answer::Events(answer)));
        if !matches!(timeout(STALLED_MAX, write.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
        reader.wait().await;
        answer = reader.take();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use std::sync::Arc;

    use tokio::io::AsyncBufReadExt as _;
    use uvs_control::event::{Event, Kind};

    use super::*;
    use crate::events::Events;

    /// Whoever does not read holds up nobody, and hears later how many events it has missed.
    #[tokio::test]
    async fn a_stalled_reader_holds_up_nobody() {
        let events = Arc::new(Events::default());
        let mut reader = events.follow(&Request { follow: true, ..Request::default() }).unwrap();
        let (mut server, client) = tokio::io::duplex(1024);
        let writing = tokio::spawn(async move { pass(&mut reader, &mut server).await });
        let mut lines = tokio::io::BufReader::new(client).lines();
        assert!(lines.next_line().await.unwrap().unwrap().contains(r#""events":[]"#), "it is heard");
        let reason = Some("x".repeat(100));
        for _ in 0..20_000 {
            events.tell(Event { kind: Kind::Weight, reason: reason.clone(), ..Event::default() });
            tokio::task::yield_now().await;
        }
        let (mut lost, mut seen, mut last) = (0, 0, 0);
        while last < 20_000 {
            let line = lines.next_line().await.unwrap().unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let answer: Answer = serde_json::from_value(line["answer"]["events"].clone()).unwrap();
            lost += answer.lost;
            seen += answer.events.len() as u64;
            last = answer.events.last().unwrap().number;
        }
        assert_eq!(lost + seen, 20_000, "nothing is left out in silence");
        assert!(lost > 10_000, "{lost}: the room for those that wait is bounded");
        writing.abort();
    }
}
