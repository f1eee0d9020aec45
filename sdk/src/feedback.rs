//! What became of connections that were placed.
//!
//! ```text
//! event word  63            48 47   44 43                                        0
//!            +----------------+-------+-------------------------------------------+
//!            |    position    | what  |           microseconds since the SYN      |
//!            +----------------+-------+-------------------------------------------+
//! ```

/// How a destination took a connection that was placed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// It answered: SYN-ACK.
    Answered = 0,
    /// It refused: RST.
    Refused = 1,
    /// Nothing came so far: told when the client repeats its SYN after a second or more, and when the connection
    /// expires.
    Unanswered = 2,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The destination's position in the last `update`.
    pub position: u32,
    /// What it did.
    pub response: Response,
    /// Microseconds since the first SYN of the connection.
    pub micros: u64,
}

/// An event as it travels (`wit/scheduler.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventWord(pub u64);

impl EventWord {
    /// The longest time a word holds, in microseconds: about 200 days.
    pub const MICROS_MAX: u64 = (1 << 44) - 1;

    /// Packs an event; a longer time is taken as the longest.
    pub fn new(position: u16, response: Response, micros: u64) -> Self {
        Self(u64::from(position) << 48 | (response as u64) << 44 | micros.min(Self::MICROS_MAX))
    }

    /// What it says; `None`: of a kind that this SDK does not know.
    pub const fn event(self) -> Option<Event> {
        let response = match self.0 >> 44 & 0xf {
            0 => Response::Answered,
            1 => Response::Refused,
            2 => Response::Unanswered,
            _ => return None,
        };
        Some(Event { position: (self.0 >> 48) as u32, response, micros: self.0 & Self::MICROS_MAX })
    }
}

/// What was seen since the last pick, for [`Scheduler::observe`](crate::Scheduler::observe).
#[derive(Clone, Copy, Debug)]
pub struct Feedback<'a> {
    words: &'a [u64],
    destinations: usize,
}

impl<'a> Feedback<'a> {
    /// Of a table with so many destinations.
    pub(crate) fn new(words: &'a [u64], destinations: usize) -> Self {
        Self { words, destinations }
    }

    /// The events, the oldest first. What is of a kind or a position that does not exist is left out.
    pub fn iter(&self) -> impl Iterator<Item = Event> + use<'a> {
        let destinations = self.destinations;
        let known = self.words.iter().filter_map(|&word| EventWord(word).event());
        known.filter(move |event| (event.position as usize) < destinations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_word_has_the_layout_of_the_contract() {
        let cases = [
            (EventWord::new(0, Response::Answered, 0), 0, "nothing set"),
            (EventWord::new(3, Response::Refused, 9), 3 << 48 | 1 << 44 | 9, "each in its place"),
            (
                EventWord::new(u16::MAX, Response::Unanswered, u64::MAX),
                0xffff_2fff_ffff_ffff,
                "times saturate",
            ),
        ];
        for (word, want, why) in cases {
            assert_eq!(word.0, want, "{why}");
        }
        let event = Event { position: 40_000, response: Response::Refused, micros: 70_000_000 };
        assert_eq!(EventWord::new(40_000, event.response, event.micros).event(), Some(event));
        assert_eq!(EventWord(3 << 44).event(), None, "a kind of a later version");
    }

    #[test]
    fn what_does_not_exist_is_left_out() {
        let words = [
            EventWord::new(1, Response::Answered, 5).0,
            EventWord::new(2, Response::Answered, 5).0,
            9 << 44,
            EventWord::new(0, Response::Refused, 6).0,
        ];
        let seen: alloc::vec::Vec<_> = Feedback::new(&words, 2).iter().map(|event| event.position).collect();
        assert_eq!(seen, [1, 0]);
    }
}
