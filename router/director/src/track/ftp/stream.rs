//! A TCP stream in which a few bytes were replaced by others, perhaps more, perhaps fewer.
//!
//! ```text
//!   server   ........[ old  ]......................   numbers of the server: acknowledged by what `ack` returns
//!                    |       \
//!   client   ........[ new    ]....................   numbers of the client: sent by what `position` returns
//!             before            after (difference)
//! ```
//!
//! Each byte of the server's has one place in the client's numbering, so that a segment may come again, whole, in
//! part or together with its neighbours, and the client still sees one stream.

use crate::base::record::Replaced;

/// How the server's stream becomes the client's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    /// What is added to sequence numbers before the replaced bytes.
    before: u32,
    replaced: Option<Replaced>,
}

/// Replaced bytes so far behind the stream do not come again: sequence numbers would be taken for later ones once
/// the stream is 2^31 bytes ahead.
const FORGET_AFTER: u32 = 1 << 30;

/// Bytes from `from` to `to`, when `to` is not before it.
fn distance(from: u32, to: u32) -> Option<u32> {
    let distance = to.wrapping_sub(from);
    (distance <= i32::MAX.unsigned_abs()).then_some(distance)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a segment is shorter than 64 KiB")
}

impl Replaced {
    fn new_len(&self) -> u32 {
        length(&self.new)
    }
}

impl Stream {
    /// What is added before the replaced bytes, and these.
    pub(crate) fn parts(&self) -> (u32, Option<Replaced>) {
        (self.before, self.replaced.clone())
    }

    /// The stream of such parts. `new` has to be shorter than a segment, as it is in all that [`Self::parts`] gives.
    pub(crate) fn from_parts(before: u32, replaced: Option<Replaced>) -> Self {
        Self { before, replaced }
    }

    /// Whether sequence numbers differ at all.
    pub(crate) fn is_plain(&self) -> bool {
        self.before == 0 && self.replaced.is_none()
    }

    fn after(&self) -> u32 {
        match &self.replaced {
            Some(replaced) => self.before.wrapping_add(replaced.new_len()).wrapping_sub(replaced.old_len),
            None => self.before,
        }
    }

    /// Whether a byte at `seq` lies behind all that was replaced.
    pub(crate) fn is_new(&self, seq: u32) -> bool {
        self.replaced
            .as_ref()
            .is_none_or(|replaced| distance(replaced.seq.wrapping_add(replaced.old_len), seq).is_some())
    }

    /// From now on the `old_len` bytes from `seq` on are `new`. They must lie behind all replaced before.
    pub(crate) fn replace(&mut self, seq: u32, old_len: u32, new: &[u8]) {
        debug_assert!(self.is_new(seq), "replacements go forward");
        self.before = self.after();
        self.replaced = Some(Replaced { seq, old_len, new: new.into() });
    }

    /// Forgets replaced bytes that are far behind `seq`.
    pub(crate) fn advance_to(&mut self, seq: u32) {
        if let Some(replaced) = &self.replaced
            && distance(replaced.seq, seq).is_some_and(|ahead| ahead > FORGET_AFTER)
        {
            self.before = self.after();
            self.replaced = None;
        }
    }

    /// Where the server's byte `seq` is in the client's numbering.
    pub(crate) fn position(&self, seq: u32) -> u32 {
        match &self.replaced {
            Some(replaced) => match distance(replaced.seq, seq) {
                None => seq.wrapping_add(self.before),
                Some(into) if into < replaced.old_len => {
                    replaced.seq.wrapping_add(self.before).wrapping_add(into.min(replaced.new_len()))
                }
                Some(_) => seq.wrapping_add(self.after()),
            },
            None => seq.wrapping_add(self.before),
        }
    }

    /// What the server sees acknowledged when the client acknowledges all before `ack`: the last byte boundary
    /// whose place is not behind `ack`.
    pub(crate) fn acknowledged(&self, ack: u32) -> u32 {
        let Some(replaced) = &self.replaced else { return ack.wrapping_sub(self.before) };
        match distance(replaced.seq.wrapping_add(self.before), ack) {
            None => ack.wrapping_sub(self.before),
            Some(into) if into < replaced.new_len() => {
                replaced.seq.wrapping_add(into.min(replaced.old_len.saturating_sub(1)))
            }
            Some(_) => ack.wrapping_sub(self.after()),
        }
    }

    /// What the client gets of a segment that has replaced bytes in it; `None`: it has none.
    pub(crate) fn edited(&self, seq: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let replaced = self.replaced.as_ref()?;
        let old_end = replaced.seq.wrapping_add(replaced.old_len);
        let end = seq.wrapping_add(length(payload));
        // Where the segment starts and ends within the replaced bytes.
        let (lead, from) = match distance(seq, replaced.seq) {
            Some(lead) => (lead, 0),
            None => (0, seq.wrapping_sub(replaced.seq)),
        };
        if payload.is_empty() || lead >= length(payload) || from >= replaced.old_len {
            return None;
        }
        let new_len = replaced.new_len();
        let (to, tail) = match distance(old_end, end) {
            Some(tail) => (new_len, tail),
            None => (end.wrapping_sub(replaced.seq).min(new_len), 0),
        };
        let new = &replaced.new[from.min(new_len) as usize..to as usize];
        let tail = payload.len() - tail as usize;
        Some([&payload[..lead as usize], new, &payload[tail..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the client made of the segments it got, and what it would acknowledge.
    struct Client {
        first: u32,
        bytes: Vec<Option<u8>>,
    }

    impl Client {
        fn receive(&mut self, seq: u32, payload: &[u8]) {
            for (index, &byte) in payload.iter().enumerate() {
                let at = seq.wrapping_sub(self.first) as usize + index;
                self.bytes.resize(self.bytes.len().max(at + 1), None);
                let known = self.bytes[at].replace(byte);
                assert!(known.is_none_or(|known| known == byte), "byte {at} came twice, and differs");
            }
        }

        fn next(&self) -> u32 {
            let received = self.bytes.iter().position(Option::is_none).unwrap_or(self.bytes.len());
            self.first.wrapping_add(u32::try_from(received).unwrap())
        }
    }

    proptest! {
        /// However the server cuts, repeats and reorders its segments, the client sees the edited stream, and the
        /// server is never told that more arrived than did.
        #[test]
        fn the_client_sees_one_stream(
            first: u32,
            (lead, old, tail) in (0..30usize, 1..30usize, 0..30usize),
            news in proptest::collection::vec(0..30usize, 1..4),
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), 1..40usize), 1..60),
        ) {
            let mut stream = Stream::default();
            let mut client = Client { first, bytes: vec![] };
            let (mut start, mut client_start) = (first, first);
            for (round, new_len) in news.into_iter().enumerate() {
                let round = u8::try_from(round).unwrap();
                let original: Vec<u8> = (0..lead + old + tail).map(|_| b'a' + round).collect();
                let new = vec![b'A' + round; new_len];
                let wanted = [&original[..lead], &new, &original[lead + old..]].concat();
                let length = |len: usize| u32::try_from(len).unwrap();
                stream.replace(start.wrapping_add(length(lead)), length(old), &new);
                client.first = client_start;
                client.bytes.clear();
                // The first cut is the whole segment that was seen when it was replaced.
                let whole = (0, original.len());
                let pieces = cuts.iter().map(|(index, len)| {
                    let from = index.index(original.len());
                    (from, (from + len).min(original.len()))
                });
                for (from, to) in pieces.chain([whole]) {
                    let seq = start.wrapping_add(length(from));
                    let payload = &original[from..to];
                    let edited = stream.edited(seq, payload);
                    let position = stream.position(seq);
                    let sent = edited.as_deref().unwrap_or(payload);
                    client.receive(position, sent);
                    // The next segment goes on where this one ends.
                    let end = start.wrapping_add(length(to));
                    prop_assert_eq!(position.wrapping_add(length(sent.len())), stream.position(end));
                    // Acknowledged is what the client has, never more, and never less than the last whole byte.
                    let acknowledged = stream.acknowledged(client.next());
                    prop_assert!(distance(stream.position(acknowledged), client.next()).is_some());
                    let next = stream.position(acknowledged.wrapping_add(1));
                    prop_assert!(distance(client.next(), next).is_some_and(|more| more > 0));
                }
                let got: Vec<u8> = client.bytes.iter().map(|byte| byte.unwrap()).collect();
                prop_assert_eq!(got, wanted);
                start = start.wrapping_add(length(original.len()));
                client_start = client.next();
                prop_assert_eq!(stream.acknowledged(client_start), start);
                prop_assert_eq!(stream.position(start), client_start);
            }
        }
    }

    #[test]
    fn a_long_stream_keeps_its_difference() {
        let mut stream = Stream::default();
        stream.replace(100, 20, b"shorter");
        for step in 0..12u32 {
            let seq = 200u32.wrapping_add(step.wrapping_mul(1 << 29));
            stream.advance_to(seq);
            assert_eq!(stream.position(seq), seq.wrapping_sub(13), "{step}");
            assert_eq!(stream.acknowledged(seq.wrapping_sub(13)), seq, "{step}");
        }
    }
}
