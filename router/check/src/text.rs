//! What servers say, made fit to be shown: bounded, and without anything that a terminal or a log would obey.

use core::fmt::Write as _;

/// The longest text of a server that is kept, in bytes of UTF-8.
pub const SHOWN_MAX: usize = 120;

/// The beginning of `bytes`, escaped as in a Rust string where it is not printable text.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.get(..bytes.len().min(SHOWN_MAX)).unwrap_or_default().utf8_chunks() {
        for c in chunk.valid().chars() {
            // `escape_debug` leaves printable characters of all scripts alone, but not those that turn the direction.
            match c {
                '"' | '\'' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if text.len() > SHOWN_MAX || bytes.len() > SHOWN_MAX {
        let end = (0..=SHOWN_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let cases: [(&[u8], &str); 5] = [
            (b"220 ready", "220 ready"),
            ("f\u{fc}r \"alle\"".as_bytes(), "f\u{fc}r \"alle\""),
            (b"\x1b[2Jgone\r\n", "\\u{1b}[2Jgone\\r\\n"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{202e}evil".as_bytes(), "\\u{202e}evil"),
        ];
        for (bytes, text) in cases {
            assert_eq!(shown(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_long_or_a_control_character(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let text = shown(&bytes);
            prop_assert!(text.len() <= SHOWN_MAX + 3);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
