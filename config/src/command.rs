//! A program and its arguments, as checks and notifications name them.

use std::path::Path;

use nix::unistd;
use uvs_check::program::User;

use crate::read::{At, Table};

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

/// Whom the program is run as. The user database is asked here and not when it is run, since that may take a while.
pub(crate) fn user(table: &Table<'_>) -> Option<User> {
    let named = table.string("user", "nobody");
    let group = table.string("group", "nogroup");
    let doc = table.doc;
    let Some(At { value: name, at }) = named else {
        if let Some(At { at, .. }) = group {
            doc.error(&at, "group without user", "add user = \"...\", or remove group");
        }
        return None;
    };
    // The outer error: the database cannot be read.
    let found = match name.parse() {
        Ok(number) => unistd::User::from_uid(unistd::Uid::from_raw(number)).map(|it| (Some(number), it)),
        Err(_) => unistd::User::from_name(name).map(|it| (it.as_ref().map(|it| it.uid.as_raw()), it)),
    };
    let (uid, entry) = match found {
        Ok((Some(uid), entry)) => (uid, entry),
        Ok((None, _)) => {
            let fix = "name one of this host (getent passwd), or give its number";
            doc.error(&at, format!("there is no user {name:?}"), fix);
            return None;
        }
        Err(error) => {
            let what = format!("user {name:?} cannot be looked up: {error}");
            doc.error(&at, what, "give the numbers of user and group");
            return None;
        }
    };
    let gid = match group {
        None => match entry {
            Some(entry) => entry.gid.as_raw(),
            None => {
                let what = format!("user {name} has no entry, so that its group is not known");
                doc.error(&at, what, "add group = \"...\"");
                return None;
            }
        },
        Some(At { value: group, at }) => {
            let found = match group.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => unistd::Group::from_name(group).map(|it| it.map(|it| it.gid.as_raw())),
            };
            match found {
                Ok(Some(gid)) => gid,
                Ok(None) => {
                    let fix = "name one of this host (getent group), or give its number";
                    doc.error(&at, format!("there is no group {group:?}"), fix);
                    return None;
                }
                Err(error) => {
                    let what = format!("group {group:?} cannot be looked up: {error}");
                    doc.error(&at, what, "give its number");
                    return None;
                }
            }
        }
    };
    Some(User { name: name.to_owned(), uid, gid })
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
