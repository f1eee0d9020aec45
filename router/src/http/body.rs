//! Bodies of answers: whole and shared, or made while they are read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;

/// Parts that wait to be written.
const PARTS: usize = 2;

/// A page.
pub(super) enum Body {
    Whole(Option<Bytes>),
    Parts { first: Option<Bytes>, rest: Receiver<Part> },
}

/// What the maker of a page says.
pub(super) enum Part {
    Text(String),
    /// The page is whole. Without it something went wrong, and the reader must not take it for whole.
    End,
}

impl Body {
    pub(super) fn of(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self::Whole((!text.is_empty()).then_some(text))
    }

    /// The page that `make` writes part by part, on a thread of its own, no faster than it is read. `None`: that
    /// failed before there was anything to be shown.
    pub(super) async fn made_meanwhile(
        make: impl FnOnce(&mut dyn FnMut(String) -> bool) + Send + 'static,
    ) -> Option<Self> {
        let (parts, mut rest) = channel(PARTS);
        tokio::task::spawn_blocking(move || {
            make(&mut |text| text.is_empty() || parts.blocking_send(Part::Text(text)).is_ok());
            // A reader that has gone needs no end.
            let _ = parts.blocking_send(Part::End);
        });
        match rest.recv().await {
            Some(Part::Text(text)) => Some(Self::Parts { first: Some(text.into()), rest }),
            Some(Part::End) => Some(Self::Whole(None)),
            None => None,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Parts { first, rest } => match first.take() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(text)))),
                None => rest.poll_recv(context).map(|part| match part {
                    Some(Part::Text(text)) => Some(Ok(Frame::data(text.into()))),
                    Some(Part::End) => None,
                    None => Some(Err(io::Error::other("the page could not be made to its end"))),
                }),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Parts { .. } => SizeHint::default(),
        }
    }
}

/// A page that many may want at one time: it is made by one after the other, and who waited gets what was made after
/// it had asked. It goes with its last reader.
#[derive(Default)]
pub(super) struct Shared {
    /// When its making began.
    latest: Mutex<Option<(Instant, Weak<String>)>>,
}

/// What readers share. The text of a page that nobody reads any more is gone, whoever could still ask for it.
struct Text(Arc<String>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Shared {
    /// The page as it is now or was later than `asked`. Waits.
    pub(super) fn get(&self, asked: Instant, make: impl FnOnce() -> String) -> Body {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.as_ref().filter(|(begun, _)| *begun >= asked).and_then(|(_, page)| page.upgrade());
        let page = known.unwrap_or_else(|| {
            let begun = Instant::now();
            let page = Arc::new(make());
            *latest = Some((begun, Arc::downgrade(&page)));
            page
        });
        Body::of(Bytes::from_owner(Text(page)))
    }
}
