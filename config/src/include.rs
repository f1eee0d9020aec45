//! `include`: one configuration in several files.
//!
//! ```text
//!   uvs.toml                        what of all files is read as one: arrays of tables one after the other,
//!     |-- conf.d/10-web.toml        tables key by key; a key that is given twice is an error
//!     `-- conf.d/20-dns.toml
//! ```
//! Positions are those of all texts one behind the other, so that one number says the file and the place in it.

use core::cell::OnceCell;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::file::{CONFIG_MAX, open_regular, read};
use crate::problem::{Location, Problem, Problems};

/// The key at the top of a file.
pub(crate) const INCLUDE: &str = "include";

/// The most files that make up one configuration.
const FILES_MAX: usize = 1024;

/// The longest chain of files of which each includes the next.
const DEPTH_MAX: usize = 16;

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// As messages call it; relative paths in it begin in its folder.
    pub(crate) path: PathBuf,
    text: String,
    /// Where the text begins in the numbering of all of them.
    base: usize,
    /// From the beginning of the text.
    line_starts: Vec<usize>,
}

/// All files of a configuration, the one that includes the others first.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Filled from the front; the texts stay where they are, since what was read of them refers to them.
    slots: Box<[OnceCell<Source>]>,
}

impl Sources {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { slots: (0..FILES_MAX).map(|_| OnceCell::new()).collect() }
    }

    fn list(&self) -> impl Iterator<Item = &Source> {
        self.slots.iter().map_while(OnceCell::get)
    }

    /// Their paths, the one that includes the others first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.list().map(|source| source.path.clone()).collect()
    }

    /// The same with their texts.
    pub(crate) fn texts(&self) -> Arc<[(PathBuf, String)]> {
        self.list().map(|source| (source.path.clone(), source.text.clone())).collect()
    }

    /// The file that a place is in.
    pub(crate) fn path(&self, at: &Location) -> &Path {
        self.slots.get(at.source).and_then(OnceCell::get).map_or(Path::new(""), |source| &source.path)
    }

    /// The place of a position.
    pub(crate) fn location(&self, position: usize, context: &str) -> Location {
        let index = self
            .slots
            .partition_point(|slot| slot.get().is_some_and(|source| source.base <= position))
            .saturating_sub(1);
        let Some(source) = self.slots[index].get() else { return Location::default() };
        source.location(index, position - source.base, context)
    }

    /// Reads a text, its name and what it includes, as one table.
    ///
    /// # Errors
    /// What is no TOML, and what cannot be included: nothing else can be told then.
    pub(crate) fn read<'a>(&'a self, text: &str, path: &Path) -> Result<Included<'a>, Problems> {
        let mut reading = Reading {
            sources: self,
            count: 0,
            bytes: 0,
            known: HashMap::new(),
            open: Vec::new(),
            tree: DeTable::new(),
            fatal: Vec::new(),
            conflicts: Vec::new(),
            warnings: Vec::new(),
        };
        // A text without a file is no file that could be included.
        let id = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|found| Id::of(&found));
        reading.add(text.to_owned(), path.to_owned(), id);
        let Reading { tree, fatal, conflicts, warnings, .. } = reading;
        if fatal.is_empty() { Ok(Included { tree, conflicts, warnings }) } else { Err(Problems(fatal)) }
    }
}

impl Source {
    fn location(&self, source: usize, offset: usize, context: &str) -> Location {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = self.line_starts[line - 1];
        let column = 1 + self.text.get(start..offset).map_or(0, |before| before.chars().count());
        Location { source, line, column, context: context.to_owned() }
    }
}

/// What is said about a place.
pub(crate) struct Said {
    pub(crate) at: Location,
    pub(crate) what: String,
    pub(crate) fix: String,
}

/// What all files say.
pub(crate) struct Included<'a> {
    /// Positions in it are for [`Sources::location`].
    pub(crate) tree: DeTable<'a>,
    /// Keys that were given before.
    pub(crate) conflicts: Vec<Said>,
    /// Patterns that mean nothing.
    pub(crate) warnings: Vec<Said>,
}

/// Which file it really is, by whatever path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Id(u64, u64);

impl Id {
    fn of(found: &std::fs::Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

struct Reading<'a> {
    sources: &'a Sources,
    /// Files so far.
    count: usize,
    /// Of their texts.
    bytes: usize,
    /// Files that were read, or are being read.
    known: HashMap<Id, usize>,
    /// Those that are being read, each included by the one before it.
    open: Vec<usize>,
    tree: DeTable<'a>,
    fatal: Vec<Problem>,
    conflicts: Vec<Said>,
    warnings: Vec<Said>,
}

impl<'a> Reading<'a> {
    /// Adds what a text says, and what it includes after that.
    fn add(&mut self, text: String, path: PathBuf, id: Option<Id>) {
        let (index, base) = (self.count, self.bytes);
        let line_starts =
            core::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        self.count += 1;
        // One more, so that the end of one text is not the beginning of the next.
        self.bytes += text.len() + 1;
        let source: &'a Source =
            self.sources.slots[index].get_or_init(|| Source { path, text, base, line_starts });
        if let Some(id) = id {
            self.known.insert(id, index);
        }
        let parsed = DeTable::parse(&source.text);
        let mut tree = match parsed {
            Ok(tree) => tree.into_inner(),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start.min(source.text.len()));
                let at = source.location(index, offset, "");
                let fix =
                    "correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]";
                let what = format!("this is not TOML: {}", error.message());
                self.fatal.push(Problem::new(&source.path, &at, what, fix).with_column(at.column));
                return;
            }
        };
        if base > 0 {
            tree = moved(tree, base);
        }
        let include = tree.remove(INCLUDE);
        self.merge(tree);
        if let Some(include) = include {
            self.open.push(index);
            self.include(source, &include);
            self.open.pop();
        }
    }

    /// Takes in a file's tables behind those of the files before.
    fn merge(&mut self, more: DeTable<'a>) {
        for (key, value) in more {
            let Some(there) = self.tree.get_mut(&**key.get_ref()) else {
                self.tree.insert(key, value);
                continue;
            };
            let span = there.span();
            match (there.get_mut(), value.into_inner()) {
                (DeValue::Array(there), DeValue::Array(more)) => {
                    more.into_iter().for_each(|it| there.push(it))
                }
                (DeValue::Table(there), DeValue::Table(more)) => {
                    for (inner, value) in more {
                        if let Some((before, _)) = there.get_key_value(&**inner.get_ref()) {
                            let what = format!("{} of [{}] is given twice", inner.get_ref(), key.get_ref());
                            let twice = (before.span().start, inner.span().start);
                            self.conflicts.push(said_twice(self.sources, twice, what));
                        } else {
                            there.insert(inner, value);
                        }
                    }
                }
                _ => {
                    let what = format!("{} is given twice", key.get_ref());
                    self.conflicts.push(said_twice(self.sources, (span.start, key.span().start), what));
                }
            }
        }
    }

    /// Reads what a file includes.
    fn include(&mut self, source: &'a Source, value: &Spanned<DeValue<'a>>) {
        let fix = "write include = [\"conf.d/*.toml\"]";
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            other => {
                let what = format!("include must be an array of strings, not {}", with_article(other));
                return self.refuse(value.span().start, what, fix);
            }
        };
        for item in items {
            let position = item.span().start;
            match item.get_ref() {
                DeValue::String(pattern) => self.include_matching(source, pattern, position),
                other => {
                    let what = format!("an entry of include must be a string, not {}", with_article(other));
                    self.refuse(position, what, fix);
                }
            }
        }
    }

    fn include_matching(&mut self, source: &'a Source, pattern: &str, position: usize) {
        let folder = source.path.parent().unwrap_or(Path::new(""));
        let wild = pattern.contains(['*', '?', '[']);
        if !wild {
            let what = "include has an empty path";
            return match pattern {
                "" => self.refuse(position, what, "name the file, or a pattern as in \"conf.d/*.toml\""),
                name => self.include_file(&folder.join(name), name, position),
            };
        }
        let Some(folder_name) = folder.to_str() else {
            let what = "include with a pattern in a folder whose path is not UTF-8";
            return self.refuse(position, what, "name each file, or move the config to another folder");
        };
        let full = match Path::new(pattern).is_absolute() || folder_name.is_empty() {
            true => pattern.to_owned(),
            false => format!("{}/{pattern}", Pattern::escape(folder_name).trim_end_matches('/')),
        };
        if pattern.contains("**") {
            let what = format!("include {pattern:?}: ** would search whatever lies below");
            return self.refuse(position, what, "write a pattern for each folder, as in \"conf.d/*.toml\"");
        }
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = match glob::glob_with(&full, options) {
            Ok(found) => found,
            Err(error) => {
                let what = format!("include {pattern:?} is no pattern: {}", error.msg);
                return self.refuse(position, what, "use * and ?, and a list of characters as in [0-9]");
            }
        };
        let mut files = Vec::new();
        for file in found {
            match file {
                Ok(file) => files.push(file),
                Err(error) => {
                    let what = format!(
                        "include {pattern:?}: {} cannot be read: {}",
                        error.path().display(),
                        error.error()
                    );
                    self.refuse(position, what, "let the director read that folder, or remove the entry");
                }
            }
        }
        let holder = folder.join(pattern).parent().map(Path::to_owned).filter(|holder| {
            let fixed = !holder.to_string_lossy().contains(['*', '?', '[']);
            fixed && !holder.as_os_str().is_empty() && !holder.exists()
        });
        if let Some(holder) = holder {
            let at = self.sources.location(position, "");
            let what =
                format!("include {pattern:?} matches nothing: there is no folder {}", holder.display());
            let fix = "make that folder, or remove the entry".to_owned();
            self.warnings.push(Said { at, what, fix });
        }
        // In the order of their names, whatever order the file system has.
        files.sort();
        for file in files {
            self.include_file(&file, pattern, position);
        }
    }

    /// Reads a file that was not read yet.
    fn include_file(&mut self, path: &Path, as_written: &str, position: usize) {
        let opened = open_regular(path).and_then(|file| Ok((Id::of(&file.metadata()?), file)));
        let (id, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let what = format!("{} cannot be included: {error}", path.display());
                let fix = "correct the path, which begins in the folder of this file, or remove it";
                return self.refuse(position, what, fix);
            }
        };
        if let Some(&index) = self.known.get(&id) {
            if self.open.contains(&index) {
                let what = match self.open.last() == Some(&index) {
                    true => format!("include {as_written:?} includes this file itself"),
                    false => {
                        format!("include {as_written:?} includes {}, which includes this", path.display())
                    }
                };
                let fix = "remove it, or put what is to be included into a folder of its own";
                self.refuse(position, what, fix);
            }
            // Named by two patterns: the first counts.
            return;
        }
        if self.count >= FILES_MAX {
            let what = format!("the config has more than {FILES_MAX} files");
            return self.refuse(position, what, "put more into one file");
        }
        if self.open.len() >= DEPTH_MAX {
            let what = format!("more than {DEPTH_MAX} files include one another");
            return self.refuse(position, what, "include it from a file further up");
        }
        let left = CONFIG_MAX.saturating_sub(self.bytes as u64);
        let bytes = match read(file, left) {
            Ok(bytes) => bytes,
            Err(error) => {
                let what = match error.kind() {
                    std::io::ErrorKind::FileTooLarge => {
                        format!("the config has more than {CONFIG_MAX} bytes with {}", path.display())
                    }
                    _ => format!("{} cannot be included: {error}", path.display()),
                };
                return self.refuse(position, what, "make it shorter, or remove it");
            }
        };
        match text(bytes, path) {
            Ok(text) => self.add(text, path.to_owned(), Some(id)),
            Err(problems) => self.fatal.extend(problems),
        }
    }

    fn refuse(&mut self, position: usize, what: impl Into<String>, fix: &str) {
        let at = self.sources.location(position, "");
        self.fatal.push(Problem::new(self.sources.path(&at), &at, what, fix));
    }
}

/// A file as text.
///
/// # Errors
/// Where it is not UTF-8.
pub(crate) fn text(bytes: Vec<u8>, path: &Path) -> Result<String, Problems> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        let at = Location { line, ..Location::default() };
        Problem::new(path, &at, "the config is not UTF-8 text", "save the file as UTF-8").into()
    })
}

fn said_twice(sources: &Sources, (first, second): (usize, usize), what: String) -> Said {
    let (before, at) = (sources.location(first, ""), sources.location(second, ""));
    let fix = format!("remove it here or at {}:{}", sources.path(&before).display(), before.line);
    Said { at, what, fix }
}

fn with_article(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}

/// The same table with all positions so much further.
fn moved(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table.into_iter().map(|(key, value)| (shift(key, by), moved_value(value, by))).collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| moved_value(item, by)).collect())
        }
        DeValue::Table(table) => DeValue::Table(moved(table, by)),
        plain => plain,
    };
    Spanned::new(span.start + by..span.end + by, inner)
}

fn shift<T>(spanned: Spanned<T>, by: usize) -> Spanned<T> {
    let span = spanned.span();
    Spanned::new(span.start + by..span.end + by, spanned.into_inner())
}
