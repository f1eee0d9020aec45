//! `$` definitions.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use crate::files::Files;

/// What predefined names stand for.
pub(crate) struct World<'w> {
    /// Of the file that the line stands in.
    pub(crate) folder: &'w Path,
    pub(crate) id: &'w str,
    pub(crate) files: &'w dyn Files,
}

/// What a sequence gives its names, for one line and all that it becomes. A chain: the innermost sequence first.
#[derive(Clone, Default)]
pub(crate) struct Bindings(Option<Rc<Binding>>);

struct Binding {
    values: Vec<(String, String)>,
    outer: Bindings,
}

impl Bindings {
    pub(crate) fn with(&self, values: Vec<(String, String)>) -> Self {
        Self(Some(Rc::new(Binding { values, outer: self.clone() })))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut at = self.0.as_deref();
        while let Some(binding) = at {
            if let Some((_, value)) = binding.values.iter().find(|(known, _)| known == name) {
                return Some(value);
            }
            at = binding.outer.0.as_deref();
        }
        None
    }
}

/// Definitions so far.
#[derive(Default)]
pub(crate) struct Definitions(HashMap<String, Vec<String>>);

/// A line after one round.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Substituted {
    Unchanged,
    Lines(Vec<String>),
}

impl Definitions {
    pub(crate) fn set(&mut self, name: String, lines: Vec<String>) {
        self.0.insert(name, lines);
    }

    /// Puts in what the names on a line stand for, once. What is not defined stays as it is.
    pub(crate) fn substitute(&self, text: &str, bindings: &Bindings, world: &World<'_>) -> Substituted {
        if !text.contains('$') {
            return Substituted::Unchanged;
        }
        let mut out = String::with_capacity(text.len());
        let mut changed = false;
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((name, after)) = used(rest) else {
                out.push('$');
                rest = &rest[1..];
                continue;
            };
            let own: Option<Vec<String>> = bindings
                .get(name)
                .map(|value| vec![value.to_owned()])
                .or_else(|| self.0.get(name).cloned())
                .or_else(|| predefined(name, world).map(|value| vec![value]));
            match own {
                // Several lines have their place at the end of the line.
                Some(lines) if lines.len() > 1 && after.trim().is_empty() => {
                    let mut lines = lines.into_iter();
                    out.push_str(&lines.next().unwrap_or_default());
                    return Substituted::Lines(core::iter::once(out).chain(lines).collect());
                }
                Some(lines) if lines.len() <= 1 => {
                    changed = true;
                    out.push_str(lines.first().map_or("", String::as_str));
                }
                _ => out.push_str(&rest[..rest.len() - after.len()]),
            }
            rest = after;
        }
        out.push_str(rest);
        if changed { Substituted::Lines(vec![out]) } else { Substituted::Unchanged }
    }
}

fn predefined(name: &str, world: &World<'_>) -> Option<String> {
    let (name, arguments) = name.split_once(' ').unwrap_or((name, ""));
    match name {
        "_PWD" => Some(world.folder.display().to_string()),
        "_INSTANCE" => Some(world.id.to_owned()),
        "_HASH" => Some("#".to_owned()),
        "_BANG" => Some("!".to_owned()),
        "_ENV" => Some(world.files.variable(arguments.trim()).unwrap_or_default()),
        // By chance it is the least of what it may be.
        "_RANDOM" => Some(arguments.split_whitespace().next().unwrap_or("0").to_owned()),
        _ => None,
    }
}

/// How long the name at the start of a text is.
fn name_length(text: &str) -> usize {
    let letter =
        |(index, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (index > 0 && c.is_ascii_digit());
    text.char_indices().find(|found| !letter(*found)).map_or(text.len(), |(index, _)| index)
}

/// The name that a text that begins with `$` uses, and what follows.
fn used(text: &str) -> Option<(&str, &str)> {
    if let Some(inside) = text.strip_prefix("${") {
        let (name, after) = inside.split_once('}')?;
        let length = name_length(name);
        // Only predefined ones have arguments.
        let whole = length == name.len() || (name.starts_with('_') && name[length..].starts_with(' '));
        return (length > 0 && whole).then_some((name, after));
    }
    let inside = &text[1..];
    let (name, after) = inside.split_at(name_length(inside));
    let ends = after.chars().next().is_none_or(|c| c.is_whitespace() || c == ',' || c == ')');
    (!name.is_empty() && ends).then_some((name, after))
}

/// `$NAME=value` at the start of a line.
pub(crate) fn definition(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('$')?;
    let (name, rest) = inside.split_at(name_length(inside));
    let value = rest.strip_prefix('=')?;
    (!name.is_empty()).then_some((name, value))
}
