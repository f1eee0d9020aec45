//! Logs, on stderr.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Parses a filter such as `info` or `warn,uvs_plugin=debug`.
///
/// # Errors
/// A sentence that says which part is not a filter.
pub fn parse_filter(text: &str) -> Result<String, String> {
    // EnvFilter takes any word for the name of a module, so that `--log inof` would silence everything.
    for directive in text.split(',') {
        let directive = directive.trim();
        let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&directive);
        if !known && !directive.contains(['=', '[']) {
            return Err(format!(
                "{directive:?} is not a level; use off, error, warn, info, debug or trace, or MODULE=LEVEL"
            ));
        }
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Sends logs that pass `filter` to stderr from now on. Only the first call in a process has an effect.
///
/// # Errors
/// The filter is none; [`parse_filter`] tells beforehand.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // A second call fails because a subscriber is there, which is what was wanted.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_before_the_start() {
        let cases = [
            ("info", true, "a level"),
            ("warn,uvs_plugin=debug", true, "a level and one for a module"),
            ("inof", false, "a misspelt level"),
            ("uvs_plugin=loud", false, "no such level"),
            ("", false, "nothing"),
        ];
        for (text, good, why) in cases {
            assert_eq!(parse_filter(text).is_ok(), good, "{why}: {text:?}");
        }
    }
}
