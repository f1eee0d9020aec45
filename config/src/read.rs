//! Reading TOML with line numbers: every getter that finds something wrong notes the problem and returns
//! nothing, so that reading goes on and all problems come at once.

use core::cell::RefCell;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::include::{INCLUDE, Sources};
use crate::problem::{Location, Problem, Problems};
use crate::suggest::nearest;

/// The keys of the top level.
pub(crate) const ROOT: &[&str] = &[
    INCLUDE,
    "compat",
    "transit",
    "metrics",
    "http",
    "control",
    "limits",
    "timeouts",
    "options",
    "workers",
    "flow_cache",
    "host",
    "restart",
    "local",
    "modules",
    "interface",
    "route",
    "neighbor",
    "scheduler",
    "mark",
    "check",
    "notify",
    "announce",
    "vrrp_script",
    "vrrp",
    "service",
];

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Location,
}

/// The files at hand and what was found wrong with them.
pub(crate) struct Doc<'a> {
    sources: &'a Sources,
    problems: RefCell<Vec<(usize, Problem)>>,
    warnings: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Doc<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        let (problems, warnings) = Default::default();
        Self { sources, problems, warnings }
    }

    pub(crate) fn location(&self, position: usize, context: &str) -> Location {
        self.sources.location(position, context)
    }

    /// The folder of the file that a place is in: where relative paths there begin.
    pub(crate) fn folder(&self, at: &Location) -> &'a Path {
        self.sources.path(at).parent().unwrap_or(Path::new(""))
    }

    /// How to call the place `there` in what is said about `here`: by its line, and by its file if that is another.
    pub(crate) fn refer(&self, here: &Location, there: &Location) -> String {
        match here.source == there.source {
            true => format!("line {}", there.line),
            false => format!("{}:{}", self.sources.path(there).display(), there.line),
        }
    }

    pub(crate) fn error(&self, at: &Location, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.borrow_mut().push((at.source, Problem::new(self.sources.path(at), at, what, fix)));
    }

    pub(crate) fn warn(&self, at: &Location, what: impl Into<String>, fix: impl Into<String>) {
        let problem = Problem::new(self.sources.path(at), at, what, fix).warning();
        self.warnings.borrow_mut().push((at.source, problem));
    }

    /// The warnings, or the problems when there is one; both in the order of files and lines.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let sorted = |found: RefCell<Vec<(usize, Problem)>>| -> Vec<Problem> {
            let mut found = found.into_inner();
            found.sort_by_key(|(source, problem)| (*source, problem.line));
            found.into_iter().map(|(_, problem)| problem).collect()
        };
        let (problems, warnings) = (sorted(self.problems), sorted(self.warnings));
        if problems.is_empty() { Ok(warnings) } else { Err(Problems(problems)) }
    }
}

/// An integer key: what it is called in messages, and what it may hold.
pub(crate) struct Integer {
    pub(crate) key: &'static str,
    /// Its name in a sentence, as in "destination weight".
    pub(crate) label: &'static str,
    pub(crate) min: u64,
    pub(crate) max: u64,
    /// What follows the range in the fix: the unit, or what a value means.
    pub(crate) note: &'static str,
}

/// What a key holds that may be of more than one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    Boolean(bool),
    Text(&'a str),
    /// An integer, or what nobody expects; [`Table::integer`] says which.
    Other,
}

/// The keys a table knows.
pub(crate) type Keys = &'static [&'static str];

/// Keys of earlier versions, what is there instead, and what to do.
const REPLACED: &[(&str, &str, &str)] = &[(
    "neighbor_queue",
    "neighbor_queue_bytes",
    "remove it, or write neighbor_queue_bytes: it counts bytes, not frames, and 212992 is the default",
)];

/// One table of the file. Opening it notes the keys nobody knows.
pub(crate) struct Table<'a> {
    pub(crate) doc: &'a Doc<'a>,
    /// Of the table itself: its header.
    pub(crate) at: Location,
    /// What it is, as in `interface uvs0`.
    subject: String,
    entries: &'a DeTable<'a>,
    /// Known keys that stand here misspelt; they are not said to be missing as well.
    misspelt: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(crate) fn root(doc: &'a Doc<'a>, entries: &'a DeTable<'a>, known: Keys) -> Self {
        Self::open(doc, entries, doc.location(0, ""), String::new(), known)
    }

    fn open(doc: &'a Doc<'a>, entries: &'a DeTable<'a>, at: Location, subject: String, known: Keys) -> Self {
        let mut misspelt = Vec::new();
        for (key, _) in entries {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            if let Some((_, instead, fix)) = REPLACED.iter().find(|(old, ..)| *old == word) {
                misspelt.push(*instead);
                let what = format!("{word} is not used any more");
                doc.error(&doc.location(key.span().start, &at.context), what, *fix);
                continue;
            }
            let list = known.join(", ");
            let fix = match nearest(word, known.iter().copied()) {
                Some(near) => {
                    misspelt.push(near);
                    format!("did you mean {near:?}? The keys here are {list}")
                }
                None if !subject.is_empty() && ROOT.contains(&word) => {
                    format!("move it to the top level, out of this table; the keys here are {list}")
                }
                None => format!("remove it; the keys here are {list}"),
            };
            doc.error(&doc.location(key.span().start, &at.context), format!("unknown key {word:?}"), fix);
        }
        Self { doc, at, subject, entries, misspelt }
    }

    /// The text under `key`, if there is one; nothing is noted.
    pub(crate) fn peek(entries: &'a DeTable<'a>, key: &str) -> Option<&'a str> {
        entries.get(key).and_then(|value| value.get_ref().as_str())
    }

    /// The integer under `key` as a text, decimal if it is a usual one; nothing is noted.
    pub(crate) fn peek_integer(entries: &'a DeTable<'a>, key: &str) -> Option<String> {
        let DeValue::Integer(number) = entries.get(key)?.get_ref() else { return None };
        let value = u64::from_str_radix(number.as_str(), number.radix());
        Some(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
    }

    /// Of what type `key` is, if it is there; nothing is noted.
    pub(crate) fn scalar(&self, key: &str) -> Option<Scalar<'a>> {
        Some(match self.entries.get(key)?.get_ref() {
            DeValue::Boolean(value) => Scalar::Boolean(*value),
            DeValue::String(text) => Scalar::Text(text),
            _ => Scalar::Other,
        })
    }

    fn get(&self, key: &str) -> Option<At<&'a DeValue<'a>>> {
        let value = self.entries.get(key)?;
        let at = self.doc.location(value.span().start, &self.at.context);
        Some(At { value: value.get_ref(), at })
    }

    /// What stands under `key`, of whatever type.
    pub(crate) fn value(&self, key: &str) -> Option<At<&'a DeValue<'a>>> {
        self.get(key)
    }

    /// Whether `key` stands here, or something that was meant to be it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.misspelt.contains(&key)
    }

    /// Where the value of `key` stands, or else the table.
    pub(crate) fn place(&self, key: &str) -> Location {
        self.get(key).map_or_else(|| self.at.clone(), |found| found.at)
    }

    /// Notes that `key` is missing, unless it is there.
    pub(crate) fn require(&self, key: &str, example: &str) {
        if !self.has(key) {
            self.doc.error(
                &self.at,
                format!("{} has no {key}", self.subject),
                format!("add {key} = {example}"),
            );
        }
    }

    pub(crate) fn wrong_type(&self, key: &str, want: &str, found: &At<&DeValue<'_>>, fix: String) {
        let article = |word: &str| if word.starts_with(['a', 'i']) { "an" } else { "a" };
        let kind = found.value.type_str();
        self.doc.error(
            &found.at,
            format!("{key} must be {} {want}, not {} {kind}", article(want), article(kind)),
            fix,
        );
    }

    /// A string; `example` is what it may look like.
    pub(crate) fn string(&self, key: &str, example: &str) -> Option<At<&'a str>> {
        let found = self.get(key)?;
        let Some(value) = found.value.as_str() else {
            self.wrong_type(key, "string", &found, format!("write {key} = {example:?}"));
            return None;
        };
        Some(At { value, at: found.at })
    }

    /// A string that must be there.
    pub(crate) fn required_string(&self, key: &str, example: &str) -> Option<At<&'a str>> {
        self.require(key, &format!("{example:?}"));
        self.string(key, example)
    }

    /// A value written as a string. `read` says what is wrong with the text.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let text = self.string(key, example)?;
        self.convert(key, example, text, read)
    }

    fn convert<T>(
        &self,
        key: &str,
        example: &str,
        text: At<&str>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        match read(text.value) {
            Ok(value) => Some(At { value, at: text.at }),
            Err(what) => {
                self.doc.error(&text.at, what, format!("write {key} as in {example:?}"));
                None
            }
        }
    }

    /// One word of a few. `hints` maps words that other tools use to ours.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        hints: &[(&'static str, &'static str)],
    ) -> Option<At<T>> {
        let found = self.string(key, words[0].0)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == found.value) {
            return Some(At { value: *value, at: found.at });
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let hint = hints.iter().find(|(word, _)| *word == found.value).map(|&(_, ours)| ours);
        let near = hint.or_else(|| nearest(found.value, words.iter().map(|(word, _)| *word)));
        let fix = match near {
            Some(near) => format!("did you mean {near:?}? It is one of {}", known.join(", ")),
            None => format!("use one of {}", known.join(", ")),
        };
        self.doc.error(&found.at, format!("unknown {key} {:?}", found.value), fix);
        None
    }

    /// An integer within its range.
    pub(crate) fn integer(&self, spec: &Integer) -> Option<At<u64>> {
        let found = self.get(spec.key)?;
        let fix = format!("use {} to {}{}", spec.min, spec.max, spec.note);
        let DeValue::Integer(number) = found.value else {
            self.wrong_type(spec.key, "integer", &found, fix);
            return None;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let Some(value) = value.filter(|value| (spec.min..=spec.max).contains(value)) else {
            self.doc.error(&found.at, format!("{} {number} is out of range", spec.label), fix);
            return None;
        };
        Some(At { value, at: found.at })
    }

    /// An integer within a range that begins below zero.
    pub(crate) fn signed(&self, key: &str, min: i64, max: i64, note: &str) -> Option<i64> {
        let found = self.get(key)?;
        let fix = format!("use {min} to {max}{note}");
        let DeValue::Integer(number) = found.value else {
            self.wrong_type(key, "integer", &found, fix);
            return None;
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| (min..=max).contains(value));
        if value.is_none() {
            self.doc.error(&found.at, format!("{key} {number} is out of range"), fix);
        }
        value
    }

    /// A list of integers, each within its range. `None` when it is absent or anything in it is wrong.
    pub(crate) fn integers(&self, spec: &Integer) -> Option<Vec<At<u64>>> {
        let found = self.get(spec.key)?;
        let Some(items) = found.value.as_array() else {
            self.wrong_type(spec.key, "array", &found, format!("write {} = [{}]", spec.key, spec.min));
            return None;
        };
        let fix = format!("use {} to {}{}", spec.min, spec.max, spec.note);
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let at = self.doc.location(item.span().start, &self.at.context);
            let DeValue::Integer(number) = item.get_ref() else {
                let item = At { value: item.get_ref(), at };
                self.wrong_type(&format!("an entry of {}", spec.key), "integer", &item, fix.clone());
                continue;
            };
            match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) if (spec.min..=spec.max).contains(&value) => values.push(At { value, at }),
                _ => self.doc.error(&at, format!("{} {number} is out of range", spec.label), fix.clone()),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// A switch.
    pub(crate) fn boolean(&self, key: &str) -> Option<bool> {
        let found = self.get(key)?;
        if found.value.as_bool().is_none() {
            self.wrong_type(key, "boolean", &found, format!("write {key} = true or {key} = false"));
        }
        found.value.as_bool()
    }

    /// A switch that may also be given as 0 or 1, as the kernel has it.
    pub(crate) fn switch(&self, key: &'static str) -> Option<bool> {
        if self.scalar(key) != Some(Scalar::Other) {
            return self.boolean(key);
        }
        let as_number = Integer { key, label: key, min: 0, max: 1, note: ", or false and true" };
        self.integer(&as_number).map(|found| found.value == 1)
    }

    /// A list of strings, each turned into a value by `read`. `None` when it is absent or anything in it is
    /// wrong.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        example: &str,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<At<T>>> {
        let found = self.get(key)?;
        let fix = || format!("write {key} = [{example:?}]");
        let Some(items) = found.value.as_array() else {
            self.wrong_type(key, "array", &found, fix());
            return None;
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let at = self.doc.location(item.span().start, &self.at.context);
            let Some(text) = item.get_ref().as_str() else {
                let item = At { value: item.get_ref(), at };
                self.wrong_type(&format!("an entry of {key}"), "string", &item, fix());
                continue;
            };
            values.extend(self.convert(key, example, At { value: text, at }, &mut read));
        }
        (values.len() == items.len()).then_some(values)
    }

    /// The table under `key`.
    pub(crate) fn section(&self, key: &str, known: Keys) -> Option<Table<'a>> {
        let found = self.get(key)?;
        let Some(entries) = found.value.as_table() else {
            let fix = if self.subject.is_empty() {
                format!("write [{key}], with one pair of brackets, and its keys below it")
            } else {
                format!("write {key} = {{ {} = ... }}", known[0])
            };
            self.wrong_type(key, "table", &found, fix);
            return None;
        };
        let context = join(&self.at.context, key);
        Some(Self::open(self.doc, entries, Location { context, ..found.at }, key.to_owned(), known))
    }

    /// The tables `[[key]]`. `name` calls one by what is in it, as in `interface uvs0`; without that it is
    /// called by its number.
    pub(crate) fn tables(
        &self,
        key: &str,
        known: Keys,
        name: impl Fn(&'a DeTable<'a>) -> Option<String>,
    ) -> Vec<Table<'a>> {
        let Some(found) = self.get(key) else { return Vec::new() };
        let path = match self.subject.as_str() {
            "" => key.to_owned(),
            "health" => format!("service.health.{key}"),
            subject if subject.starts_with("vrrp ") => format!("vrrp.{key}"),
            _ => format!("service.{key}"),
        };
        let fix = || format!("write [[{path}]], with two pairs of brackets, for each");
        let Some(items) = found.value.as_array() else {
            self.wrong_type(key, "array of tables", &found, fix());
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (number, item) in (1..).zip(items) {
            let at = self.doc.location(item.span().start, &self.at.context);
            let Some(entries) = item.get_ref().as_table() else {
                let item = At { value: item.get_ref(), at };
                self.wrong_type(&format!("an entry of {key}"), "table", &item, fix());
                continue;
            };
            let subject = match name(entries) {
                Some(name) => format!("{key} {name}"),
                None => format!("{key} {number}"),
            };
            let context = join(&self.at.context, &subject);
            tables.push(Self::open(self.doc, entries, Location { context, ..at }, subject, known));
        }
        tables
    }
}

fn join(context: &str, subject: &str) -> String {
    if context.is_empty() { subject.to_owned() } else { format!("{context}, {subject}") }
}
