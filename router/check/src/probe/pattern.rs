//! What answers are searched for. Regular expressions are compiled once, and take time that grows with the text alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

use crate::outcome::Verdict;
use crate::spec::Pattern;
use crate::text::shown;

/// How many compiled expressions are kept.
const KEPT: usize = 256;
/// How large a compiled expression may be, in bytes.
const SIZE_MAX: usize = 256 * 1024;

/// A regular expression that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PatternError(String);

/// Whether that is a regular expression, of a size that is taken.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_regex(text: &str) -> Result<(), PatternError> {
    compile(text).map(drop)
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(text).size_limit(SIZE_MAX).dfa_size_limit(SIZE_MAX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError("it is too large once compiled".into()),
        // The last line says what, those before it show where.
        other => {
            let text = other.to_string();
            PatternError(text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    })
}

/// Compiled expressions.
#[derive(Debug, Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Regex>>);

impl Patterns {
    /// Whether `pattern` is in `text`.
    pub(super) fn is_in(&self, pattern: &Pattern, text: &[u8]) -> Result<bool, Verdict> {
        let expression = match pattern {
            Pattern::Bytes(bytes) => return Ok(memchr::memmem::find(text, bytes).is_some()),
            Pattern::Regex(expression) => expression,
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = known.get(expression) {
            return Ok(regex.is_match(text));
        }
        let regex = compile(expression).map_err(|error| super::unmade(error.to_string()))?;
        if known.len() >= KEPT {
            known.clear();
        }
        let found = regex.is_match(text);
        known.insert(expression.clone(), regex);
        Ok(found)
    }
}

/// The pattern, in words.
pub(super) fn wanted(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Bytes(bytes) => format!("\"{}\"", shown(bytes)),
        Pattern::Regex(expression) => format!("/{}/", shown(expression.as_bytes())),
    }
}
