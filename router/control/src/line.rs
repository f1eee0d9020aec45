//! Lines of bounded length.

use std::io::{self, BufRead, Read as _};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other side closed the connection between two lines.
    #[error("the connection was closed")]
    Closed,
    /// The other side closed the connection within a line.
    #[error("the connection was closed in the middle of a message")]
    Cut,
    /// The line is longer than it may be.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    /// The connection failed, or its timeout passed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a line of at most `max` bytes, line feed included, and returns it without.
///
/// # Errors
/// See [`LineError`]. What was read of a line that is too long is lost; the connection is of no use then.
pub fn read_line(from: &mut impl BufRead, max: usize) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    from.take(max as u64).read_until(b'\n', &mut line)?;
    whole_line(line, max)
}

/// What was read up to a line feed, `max` bytes or the end, as a line.
///
/// # Errors
/// See [`LineError`].
pub(crate) fn whole_line(mut line: Vec<u8>, max: usize) -> Result<Vec<u8>, LineError> {
    match line.last() {
        Some(b'\n') => {
            line.pop();
            Ok(line)
        }
        Some(_) if line.len() >= max => Err(LineError::TooLong(max)),
        Some(_) => Err(LineError::Cut),
        None => Err(LineError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_should() {
        type Case<'a> = (&'a [u8], Result<&'a [u8], &'a str>, &'a str);
        let cases: &[Case<'_>] = &[
            (b"abc\n", Ok(b"abc"), "a line"),
            (b"abc\ndef\n", Ok(b"abc"), "the first of two"),
            (b"\n", Ok(b""), "an empty line"),
            (b"1234567\n", Ok(b"1234567"), "exactly as long as it may be"),
            (b"12345678\n", Err("longer than 8 bytes"), "one byte too long"),
            (b"12345678", Err("longer than 8 bytes"), "too long and not ended"),
            (b"abc", Err("in the middle"), "cut"),
            (b"", Err("was closed"), "nothing"),
        ];
        for (bytes, want, why) in cases {
            let line = read_line(&mut &bytes[..], 8).map_err(|error| error.to_string());
            match (line, want) {
                (Ok(line), Ok(want)) => assert_eq!(line, *want, "{why}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{why}: {error}"),
                (line, _) => panic!("{why}: {line:?}"),
            }
        }
    }
}
