//! Wrong usage, told with what was probably meant.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::cli::Cli;

/// What the command line says.
///
/// # Errors
/// What is to be printed, and a tip to print below it where clap has none.
pub fn parse(arguments: &[std::ffi::OsString]) -> Result<Cli, (Error, Option<String>)> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let tip = tip(&error, arguments);
        (error, tip)
    })
}

fn tip(error: &Error, arguments: &[std::ffi::OsString]) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand if error.get(ContextKind::SuggestedSubcommand).is_none() => {
            let word = word(ContextKind::InvalidSubcommand)?;
            if word == "help" {
                return Some(
                    "all commands are in `uvs --help`, and each has `uvs COMMAND --help`".to_owned(),
                );
            }
            let command = Cli::command();
            let names = command.get_subcommands().filter(|it| !it.is_hide_set()).map(|it| it.get_name());
            let near = uvs_config::nearest(word, names)?;
            Some(format!("did you mean `uvs {near}`?"))
        }
        ErrorKind::UnknownArgument if arguments.get(1).is_some_and(|command| command == "run") => {
            let file = word(ContextKind::InvalidArg).filter(|file| !file.starts_with('-'))?;
            Some(format!("name the configuration with `uvs run --config {file}`"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_words_come_with_what_was_meant() {
        let cases = [
            ("rnu", Some("did you mean `uvs run`?")),
            ("help", Some("all commands are in `uvs --help`, and each has `uvs COMMAND --help`")),
            ("run nat.toml", Some("name the configuration with `uvs run --config nat.toml`")),
            ("run --confg nat.toml", None),
            ("zzzzzzz", None),
        ];
        for (line, want) in cases {
            let words: Vec<_> = std::iter::once("uvs").chain(line.split(' ')).map(Into::into).collect();
            let (error, tip) = parse(&words).expect_err("it is wrong");
            assert_eq!((tip.as_deref(), error.exit_code()), (want, 2), "{line}");
        }
    }
}
