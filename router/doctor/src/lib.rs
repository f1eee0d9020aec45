//! `uvs doctor`: what is wrong with a director's host and network, as far as it can be seen.
//!
//! ```text
//!   director (control socket) --.
//!   configuration --------------+--> facts --> findings (a pure function for each kind) --> text, JSON
//!   read (/proc, /sys, nft) ----'
//! ```

pub mod facts;
pub mod findings;
pub mod read;
mod time;

use std::fmt::Write as _;

use findings::{Finding, Severity};

/// Findings for people: each with what was seen, and what to do.
pub fn text(found: &[Finding]) -> String {
    let mut text = String::new();
    for it in found {
        let severity = match it.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let mut line = |line: String| writeln!(text, "{line}").expect("a String takes everything");
        line(format!("{severity}: {}  [{}]", it.what, it.kind));
        for seen in &it.evidence {
            line(format!("  seen:  {}", seen.trim_end()));
        }
        line(format!("  fix:   {}", it.fix));
    }
    text
}

/// Whether there is anything but notes.
pub fn is_ill(found: &[Finding]) -> bool {
    found.iter().any(|it| it.severity != Severity::Note)
}
