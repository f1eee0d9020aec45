//! What is told beside the result.

use core::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// As it was named, or found by an include.
    pub file: Arc<str>,
    /// From 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What is written there is not what runs: it is ignored, or changed, by the program that it was written for.
    Source,
    /// It is taken over, and not the same here.
    Different,
    /// It has no counterpart here.
    LeftOut,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where.
    pub at: At,
    /// What about.
    pub kind: Kind,
    /// One sentence, or two.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Source => "not as written",
            Kind::Different => "different",
            Kind::LeftOut => "left out",
        };
        // What a file says comes up in it, and may be anything.
        let plain: String = self.text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        write!(f, "{}: {kind}: {plain}", self.at)
    }
}

/// Remarks so far.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    all: Vec<Remark>,
    dropped: usize,
}

impl Remarks {
    /// More of them nobody reads.
    const MAX: usize = 100_000;

    fn add(&mut self, at: &At, kind: Kind, text: String) {
        if self.all.len() < Self::MAX {
            self.all.push(Remark { at: at.clone(), kind, text });
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn source(&mut self, at: &At, text: impl Into<String>) {
        self.add(at, Kind::Source, text.into());
    }

    pub(crate) fn different(&mut self, at: &At, text: impl Into<String>) {
        self.add(at, Kind::Different, text.into());
    }

    pub(crate) fn left_out(&mut self, at: &At, text: impl Into<String>) {
        self.add(at, Kind::LeftOut, text.into());
    }

    /// By file and line, each once.
    pub(crate) fn finish(mut self) -> Vec<Remark> {
        if self.dropped > 0
            && let Some(last) = self.all.last().cloned()
        {
            let text = format!("{} more remarks are not shown", self.dropped);
            self.all.push(Remark { text, ..last });
        }
        self.all.sort();
        self.all.dedup();
        self.all
    }
}
