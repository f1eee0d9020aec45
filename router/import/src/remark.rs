//! What is told beside the result.

use core::fmt::{self, Write as _};
use std::collections::HashMap;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Lines of a file that are named behind the first where the same is to be said of many.
const LINES_NAMED: usize = 10;

/// A text for each remark; what is to be said of many lines of a file is said once, with the numbers of some of them.
pub fn together(remarks: &[Remark]) -> Vec<String> {
    let mut order: Vec<Vec<&Remark>> = Vec::new();
    let mut known: HashMap<(&str, Kind, &str), usize> = HashMap::new();
    for remark in remarks {
        let place = *known.entry((&remark.at.file, remark.kind, &remark.text)).or_insert(order.len());
        match order.get_mut(place) {
            Some(same) => same.push(remark),
            None => order.push(vec![remark]),
        }
    }
    let text = |same: Vec<&Remark>| {
        let mut text = same[0].to_string();
        let lines: Vec<String> = same[1..].iter().map(|it| it.at.line.to_string()).collect();
        let (named, more) = lines.split_at(lines.len().min(LINES_NAMED));
        let line = if lines.len() == 1 { "line" } else { "lines" };
        match (named, more.len()) {
            ([], _) => Ok(()),
            (_, 0) => write!(text, " (and {line} {})", named.join(", ")),
            (_, more) => write!(text, " (and {line} {}, and {more} more)", named.join(", ")),
        }
        .expect("a String takes everything");
        text
    };
    order.into_iter().map(text).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(file: &str, line: usize, text: &str) -> Remark {
        Remark { at: At { file: file.into(), line }, kind: Kind::Different, text: text.to_owned() }
    }

    #[test]
    fn what_is_the_same_of_many_lines_is_said_once() {
        let mut all: Vec<Remark> = (1..=1000).map(|n| remark("a.conf", n * 10, "keeps them")).collect();
        all.insert(1, remark("a.conf", 15, "another"));
        all.push(remark("b.conf", 3, "keeps them"));
        all.push(remark("b.conf", 4, "keeps them"));
        let lines = "20, 30, 40, 50, 60, 70, 80, 90, 100, 110, and 989 more";
        assert_eq!(
            together(&all),
            [
                format!("a.conf:10: different: keeps them (and lines {lines})"),
                "a.conf:15: different: another".to_owned(),
                "b.conf:3: different: keeps them (and line 4)".to_owned(),
            ]
        );
    }
}
