//! Makes scripts shorter (delta debugging: ever smaller parts are left out), as long as they violate the same.
//!
//! Frames that move are many and mostly of no interest: what lies between other events is first left out, or replaced
//! by `settle`, as a whole.

use std::ops::Range;

use crate::event::{Event, Script};
use crate::run::{Failure, replay};
use crate::world::Kind;

/// Events that all attempts together may take.
const BUDGET: usize = 600_000;

struct Shrinking<'a> {
    best: Failure,
    tolerated: &'a [Kind],
    left: usize,
}

/// Leaves out of a failure's script what is not needed for a violation of the same kind.
pub fn shrink(failure: &Failure, tolerated: &[Kind]) -> Failure {
    let mut shrinking = Shrinking { best: failure.clone(), tolerated, left: BUDGET };
    shrinking.leave_out(stretches);
    shrinking.let_settle();
    shrinking.leave_out(stretches);
    shrinking.leave_out(singles);
    shrinking.join_times();
    shrinking.best
}

impl Shrinking<'_> {
    /// Takes these events for the script if they violate the same.
    fn attempt(&mut self, events: Vec<Event>) -> bool {
        let script = Script { setup: self.best.script.setup, events };
        let (_, taken, outcome) = replay(&script, self.tolerated, false);
        self.left = self.left.saturating_sub(taken);
        match outcome {
            Err(violation) if violation.kind == self.best.violation.kind => {
                let events = script.events[..taken].to_vec();
                self.best = Failure { script: Script { events, ..script }, violation };
                true
            }
            _ => false,
        }
    }

    /// Leaves parts out, of many pieces at first, of one at last.
    fn leave_out(&mut self, pieces_of: fn(&[Event]) -> Vec<Range<usize>>) {
        let mut part = pieces_of(&self.best.script.events).len() / 2;
        while self.left > 0 {
            let mut shorter = false;
            // From the end: what is last is most likely needed, and what does without it is soon known.
            let mut end = pieces_of(&self.best.script.events).len();
            while end > 0 && self.left > 0 {
                let pieces = pieces_of(&self.best.script.events);
                end = end.min(pieces.len());
                let first = end.saturating_sub(part.max(1));
                if first == end {
                    break;
                }
                let mut events = self.best.script.events.clone();
                events.drain(pieces[first].start..pieces[end - 1].end);
                shorter |= self.attempt(events);
                end = first;
            }
            if part <= 1 && !shorter {
                return;
            }
            part /= 2;
        }
    }

    /// Puts `settle` where frames move one by one.
    fn let_settle(&mut self) {
        let mut at = stretches(&self.best.script.events).len();
        while at > 0 && self.left > 0 {
            at -= 1;
            let stretch = match stretches(&self.best.script.events).get(at) {
                Some(stretch) if is_move(&self.best.script.events[stretch.start]) => stretch.clone(),
                _ => continue,
            };
            let mut events = self.best.script.events.clone();
            events.splice(stretch, [Event::Settle {}]);
            self.attempt(events);
        }
    }

    /// Makes one wait of several in a row.
    fn join_times(&mut self) {
        let mut at = 0;
        while at + 1 < self.best.script.events.len() && self.left > 0 {
            let mut events = self.best.script.events.clone();
            match (events[at], events[at + 1]) {
                (Event::Advance { ms }, Event::Advance { ms: more } | Event::Skip { ms: more })
                | (Event::Skip { ms }, Event::Advance { ms: more }) => {
                    events.splice(at..at + 2, [Event::Advance { ms: ms + more }]);
                    at += usize::from(!self.attempt(events));
                }
                _ => at += 1,
            }
        }
    }
}

fn is_move(event: &Event) -> bool {
    matches!(event, Event::Arrive { .. } | Event::Work { .. } | Event::Deliver { .. })
}

/// Each event that is no move, and all moves between two of them.
fn stretches(events: &[Event]) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match stretches.last_mut() {
            Some(last) if is_move(event) && is_move(&events[last.start]) => last.end = at + 1,
            _ => stretches.push(at..at + 1),
        }
    }
    stretches
}

fn singles(events: &[Event]) -> Vec<Range<usize>> {
    (0..events.len()).map(|at| at..at + 1).collect()
}
