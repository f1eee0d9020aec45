//! What has changed in a shard since somebody began to follow it: bounded, and under the lock of the shard, so that
//! nobody waits for it.

use std::collections::VecDeque;

use crate::track::connection::RequestKey;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The entry of that number came, or is in another state. What it is now counts: by now there may be another one of
    /// that number, or none.
    Changed(u32),
    /// The entry of that key was taken out, or is found no more.
    Gone(RequestKey),
}

/// The changes of one shard that one follower has not read yet, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct Log {
    /// Whose it is.
    pub(crate) number: u64,
    limit: usize,
    /// `None`: there were more than the limit, and what is here says nothing any more.
    noted: Option<VecDeque<Noted>>,
}

impl Log {
    /// An empty one that holds so many changes at the most.
    pub(crate) fn new(number: u64, limit: usize) -> Self {
        Self { number, limit, noted: Some(VecDeque::new()) }
    }

    pub(crate) fn note(&mut self, what: Noted) {
        let Some(noted) = &mut self.noted else { return };
        if noted.back() == Some(&what) {
            return;
        }
        if noted.len() < self.limit {
            noted.push_back(what);
        } else {
            self.noted = None;
        }
    }

    /// The oldest change that was not read yet. The error: changes were lost.
    pub(crate) fn next(&mut self) -> Result<Option<Noted>, Lost> {
        self.noted.as_mut().map(VecDeque::pop_front).ok_or(Lost)
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.noted.as_ref().is_some_and(VecDeque::is_empty)
    }
}

/// A log was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_lets_go_of_all_and_says_so() {
        let mut log = Log::new(1, 2);
        for entry in [4, 4, 4, 5] {
            log.note(Noted::Changed(entry));
        }
        assert_eq!(log.next(), Ok(Some(Noted::Changed(4))), "a change of the newest is one change");
        log.note(Noted::Changed(4));
        assert!(!log.is_empty());
        log.note(Noted::Changed(6));
        assert_eq!(log.next(), Err(Lost));
        log.note(Noted::Changed(7));
        assert_eq!((log.next(), log.is_empty()), (Err(Lost), false), "and goes on to say so");
    }
}
