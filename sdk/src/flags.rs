//! The flags of the kernel's schedulers (`ipvsadm -b`).

use alloc::string::String;

/// The flags a service gives its scheduler, as `ipvsadm -b` writes them: names with commas between them.
///
/// They are three bits with several names. What a bit means is up to the scheduler, and one that knows none takes
/// them and does not care, as in the kernel.
///
/// | bit | names |
/// |---|---|
/// | 1 | `flag-1`, `sh-fallback`, `mh-fallback` |
/// | 2 | `flag-2`, `sh-port`, `mh-port` |
/// | 3 | `flag-3` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Bit 1. Hashing schedulers (sh, mh): look further when the destination cannot take the connection.
    pub fallback: bool,
    /// Bit 2. Hashing schedulers (sh, mh): the client's port is part of the key.
    pub port: bool,
    /// Bit 3, which has no meaning yet.
    pub third: bool,
}

impl Flags {
    /// Reads the options of the scheduler called `scheduler`; the empty text is no flag.
    ///
    /// # Errors
    /// A sentence that names the word that is no flag and lists those that are.
    ///
    /// ```
    /// use uvs_sdk::Flags;
    /// let both = Flags::parse("sh", "sh-fallback,sh-port").unwrap();
    /// assert!(both.fallback && both.port && !both.third);
    /// assert_eq!(Flags::parse("rr", "flag-1,flag-2"), Ok(both), "the same bits by other names");
    /// assert!(Flags::parse("sh", "sh-prot").unwrap_err().starts_with("sh has no flag \"sh-prot\""));
    /// ```
    pub fn parse(scheduler: &str, options: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        if options.trim_ascii().is_empty() {
            return Ok(flags);
        }
        // Bytes and pushes: what searches text by characters and formats it would be a fifth of a component.
        let mut start = 0;
        for word in options.as_bytes().split(|&byte| byte == b',') {
            let end = start + word.len();
            match word.trim_ascii() {
                b"flag-1" | b"sh-fallback" | b"mh-fallback" => flags.fallback = true,
                b"flag-2" | b"sh-port" | b"mh-port" => flags.port = true,
                b"flag-3" => flags.third = true,
                _ => return Err(refuse(scheduler, options.get(start..end).unwrap_or_default().trim_ascii())),
            }
            start = end + 1;
        }
        Ok(flags)
    }
}

fn refuse(scheduler: &str, word: &str) -> String {
    let mut error = String::new();
    for part in [
        scheduler,
        " has no flag \"",
        word,
        "\"; there are sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2 and flag-3, with commas between them",
    ] {
        error.push_str(part);
    }
    error
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn flags_are_bits_with_several_names() {
        let flags = |fallback, port, third| Ok(Flags { fallback, port, third });
        let cases = [
            ("", flags(false, false, false), "none"),
            (" ", flags(false, false, false), "blank"),
            ("mh-port", flags(false, true, false), "one"),
            ("flag-3, flag-1", flags(true, false, true), "any order, blanks do not matter"),
            ("sh-port,sh-port", flags(false, true, false), "twice is once"),
        ];
        for (options, want, why) in cases {
            assert_eq!(Flags::parse("sh", options), want, "{why}");
        }
        for (options, word) in [("fast", "fast"), ("sh-port,", ""), ("sh-port;mh-port", "sh-port;mh-port")] {
            let error = Flags::parse("wlc", options).unwrap_err();
            assert!(
                error.starts_with(&format!("wlc has no flag \"{word}\"; there are sh-fallback,")),
                "{error}"
            );
        }
    }
}
