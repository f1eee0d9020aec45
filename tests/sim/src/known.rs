//! `KNOWN.txt`: what the director is known to violate still, with the reason.

use std::collections::BTreeMap;
use std::path::Path;

use crate::world::Kind;

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Scenarios that fail, and why.
    pub scenarios: BTreeMap<String, String>,
    /// Kinds that a seed may run into, and why.
    pub kinds: BTreeMap<Kind, String>,
}

impl Known {
    /// Reads the list beside this crate.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub fn load() -> Result<Self, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("KNOWN.txt");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::read(&text)
    }

    /// Reads a list: a scenario's name, or `kind:` and a kind, then the reason. `#` begins a comment.
    fn read(text: &str) -> Result<Self, String> {
        let mut known = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, reason)) = line.split_once(char::is_whitespace) else {
                return Err(format!("KNOWN.txt, line {number}: {line} has no reason"));
            };
            let reason = reason.trim().to_owned();
            if let Some(word) = name.strip_prefix("kind:") {
                let kind = Kind::ALL.iter().find(|kind| kind.to_string() == word);
                let kind =
                    kind.ok_or_else(|| format!("KNOWN.txt, line {number}: there is no kind {word}"))?;
                known.kinds.insert(*kind, reason);
            } else {
                known.scenarios.insert(name.to_owned(), reason);
            }
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let known = Known::read("# head\n\none  because of this\nkind:wrong-vip that\n").unwrap();
        assert_eq!(known.scenarios["one"], "because of this");
        assert_eq!(known.kinds[&Kind::WrongVip], "that");
        assert!(Known::read("lonely\n").unwrap_err().contains("no reason"));
        assert!(Known::read("kind:odd x\n").unwrap_err().contains("no kind odd"));
    }
}
