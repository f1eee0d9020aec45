//! What is wrong with a config, told to the person who wrote it.
//!
//! ```text
//! error: destination weight 2147483648 is out of range
//!   where: edge.toml:14, service tcp 192.0.2.10:443, destination 10.0.0.3:8443
//!   fix:   use 0 to 2147483647 (0 quiesces the destination)
//! ```

use core::fmt;
use std::path::{Path, PathBuf};

/// A place in the config, and what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The file, as an index into [`Config::files`](crate::Config::files): 0 is the one that includes the others.
    pub source: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What the line belongs to, as in `service tcp 192.0.2.10:443, destination 10.0.0.3:8443`; empty at the
    /// top level.
    pub context: String,
}

/// Whether the config can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but does what its author hardly meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem: what, where and how to fix it.
///
/// `Display` writes the three lines shown above, without a line feed at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The fact, with the evidence in it.
    pub what: String,
    /// The config file as the user named it, or one that it includes.
    pub file: PathBuf,
    /// Line in it, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// Column in characters, from 1, where it tells more than the line does (TOML syntax).
    pub column: Option<usize>,
    /// What the line belongs to; may be empty.
    pub context: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    /// An error at a place in `file`.
    pub fn new(file: &Path, at: &Location, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            what: what.into(),
            file: file.to_owned(),
            line: Some(at.line),
            column: None,
            context: at.context.clone(),
            fix: fix.into(),
        }
    }

    /// An error of `file` as a whole.
    pub fn of_file(file: &Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line: None, ..Self::new(file, &Location::default(), what, fix) }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same with a column in its `where`.
    #[must_use]
    pub fn with_column(self, column: usize) -> Self {
        Self { column: Some(column), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  where: {}\n  fix:   {}", self.severity, self.what, Place(self), self.fix)
    }
}

/// Where a problem is, as in `edge.toml:14, service tcp 192.0.2.10:443`.
pub(crate) struct Place<'p>(pub(crate) &'p Problem);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, column, context, .. } = self.0;
        write!(f, "{}", file.display())?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = column {
            write!(f, ":{column}")?;
        }
        if !context.is_empty() {
            write!(f, ", {context}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Problem {}

/// Everything that is wrong with a config, in the order of its lines; never empty as an error.
///
/// `Display` writes each; where there are many of a kind, these together ([`told`](crate::told)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl core::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl core::ops::Deref for Problems {
    type Target = [Problem];

    fn deref(&self) -> &[Problem] {
        &self.0
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
