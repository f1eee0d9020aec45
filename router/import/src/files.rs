//! What an import reads, as whoever runs it provides it: nothing else here touches the world.

use std::io;
use std::path::{Path, PathBuf};

/// Files and variables of the environment.
pub trait Files {
    /// The whole of a regular file.
    ///
    /// # Errors
    /// It is not there, may not be read, is no regular file, or has more than `max` bytes.
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>>;

    /// The files that a pattern of `*`, `?`, `[]` and `{a,b}` names, in the order of their names; without any of these
    /// the path itself, if it is there.
    fn matching(&self, pattern: &str) -> Vec<PathBuf>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// A pattern for each choice of what stands between braces and commas, at most 256 of them: of `{a,b}/*.conf` these are
/// `a/*.conf` and `b/*.conf`.
pub fn alternatives(pattern: &str) -> Vec<String> {
    const MAX: usize = 256;
    let mut done = Vec::new();
    let mut work = vec![pattern.to_owned()];
    while let Some(pattern) = work.pop() {
        if done.len() + work.len() >= MAX {
            break;
        }
        // The innermost group: the first that closes, from where it opens.
        let group = pattern.find('}').and_then(|end| Some((pattern[..end].rfind('{')?, end)));
        let Some((start, end)) = group else {
            done.push(pattern);
            continue;
        };
        let (head, tail) = (&pattern[..start], &pattern[end + 1..]);
        work.extend(pattern[start + 1..end].rsplit(',').map(|choice| format!("{head}{choice}{tail}")));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_choices() {
        assert_eq!(alternatives("a/*.conf"), ["a/*.conf"]);
        assert_eq!(alternatives("{a,b}/{1,2}"), ["a/1", "a/2", "b/1", "b/2"]);
        assert_eq!(alternatives("a{b"), ["a{b"]);
        assert!(alternatives(&"{a,b}".repeat(40)).len() <= 256);
    }
}
