//! A program and its arguments, as checks and notifications name them.

use std::path::Path;

use crate::read::Table;

/// The words of `command`. `placeholders` are those that something stands for; `without` is what is not done while the
/// program is not there.
pub(crate) fn command(
    table: &Table<'_>,
    example: &str,
    placeholders: &[&str],
    without: &str,
) -> Option<Vec<String>> {
    table.require("command", example);
    let words = table.list("command", "/usr/local/bin/judge", |text| {
        unknown_placeholder(text, placeholders).map_or_else(
            || Ok(text.to_owned()),
            |unknown| {
                let known: Vec<String> = placeholders.iter().map(|name| format!("{{{name}}}")).collect();
                Err(format!("{unknown} in command is none of {}", known.join(", ")))
            },
        )
    })?;
    let Some(program) = words.first() else {
        let fix = format!("write command = {example}");
        table.doc.error(&table.place("command"), "command names no program", fix);
        return None;
    };
    if !program.value.starts_with('/') {
        let what = format!("program {:?} is not an absolute path", program.value);
        let fix = "give its absolute path; no shell looks for it. Arguments are entries of their own";
        table.doc.error(&program.at, what, fix);
    } else if !Path::new(&program.value).is_file() {
        let what = format!("there is no program {:?} yet: {without}", program.value);
        table.doc.warn(&program.at, what, "correct the path, or put the program there");
    }
    Some(words.into_iter().map(|word| word.value).collect())
}

/// The first placeholder that nothing stands for.
fn unknown_placeholder<'t>(text: &'t str, known: &[&str]) -> Option<&'t str> {
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let from = rest.get(start..)?;
        let end = from.find('}')?;
        let word = from.get(..=end)?;
        let name = word.get(1..end)?;
        if !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !known.contains(&name)
        {
            return Some(word);
        }
        rest = from.get(1..)?;
    }
    None
}
