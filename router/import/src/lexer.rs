//! From files to statements and braces: comments, conditions, definitions, sequences and includes are done here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::define::{Bindings, Definitions, Substituted};
use crate::files::Files;
use crate::remark::{At, Remarks};
use crate::sequence;
use crate::words::{Token, braces, without_comment};

/// Bytes of one file.
pub(crate) const FILE_MAX: usize = 16 << 20;
/// Bytes of a line as it stands in the file: keepalived's own bound.
const LINE_MAX: usize = 1022;
/// Bytes of a line when definitions are put in.
const EXPANDED_MAX: usize = 16 << 10;
/// Lines of all files, with those that sequences and definitions make.
const LINES_MAX: usize = 500_000;
/// Substitutions that one line may come from.
const SUBSTITUTIONS_MAX: u32 = 100;
const INCLUDE_DEPTH_MAX: usize = 16;
const INCLUDES_MAX: usize = 2000;

/// A line on its way, or what has become of it.
struct Line {
    text: String,
    substitutions: u32,
    bindings: Bindings,
}

/// A definition of several lines that is not complete.
struct Open {
    name: String,
    lines: Vec<String>,
}

pub(crate) struct Lexer<'f> {
    files: &'f dyn Files,
    id: &'f str,
    definitions: Definitions,
    tokens: Vec<(At, Token)>,
    remarks: &'f mut Remarks,
    /// The files that include one another, the outermost first.
    stack: Vec<PathBuf>,
    includes: usize,
    lines: usize,
    open: Option<Open>,
}

/// All tokens of a file and what it includes. `bytes`: its content.
pub(crate) fn lex(
    path: &Path,
    bytes: &[u8],
    id: &str,
    files: &dyn Files,
    remarks: &mut Remarks,
) -> Vec<(At, Token)> {
    let mut lexer = Lexer {
        files,
        id,
        definitions: Definitions::default(),
        tokens: Vec::new(),
        remarks,
        stack: Vec::new(),
        includes: 0,
        lines: 0,
        open: None,
    };
    lexer.file(path, bytes);
    lexer.tokens
}

/// What a line turns out to be once definitions are put in.
enum Step {
    Done,
    /// These lines in its place, the first one first.
    Again(Vec<Line>),
}

impl Lexer<'_> {
    fn file(&mut self, path: &Path, bytes: &[u8]) {
        let file: Arc<str> = Arc::from(path.to_string_lossy().escape_debug().to_string());
        self.stack.push(path.to_owned());
        for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let at = At { file: Arc::clone(&file), line: index + 1 };
            if raw.contains(&0) {
                self.remarks.source(&at, "the line has a NUL in it and is not read");
                continue;
            }
            if raw.len() > LINE_MAX {
                self.remarks.source(&at, format!("the line is longer than {LINE_MAX} bytes and is not read"));
                continue;
            }
            let text = String::from_utf8_lossy(raw).replace('\r', "");
            if !self.line(&at, text) {
                break;
            }
        }
        if let Some(open) = self.open.take() {
            self.definitions.set(open.name, open.lines);
        }
        self.stack.pop();
    }

    /// `false`: nothing more is read.
    fn line(&mut self, at: &At, text: String) -> bool {
        let mut work = vec![Line { text, substitutions: 0, bindings: Bindings::default() }];
        while let Some(line) = work.pop() {
            self.lines += 1;
            if self.lines > LINES_MAX {
                if self.lines == LINES_MAX + 1 {
                    let text =
                        format!("more than {LINES_MAX} lines with what they expand to: the rest is not read");
                    self.remarks.left_out(at, text);
                }
                return false;
            }
            match self.step(at, line) {
                Step::Done => {}
                Step::Again(lines) => work.extend(lines.into_iter().rev()),
            }
        }
        true
    }

    fn step(&mut self, at: &At, line: Line) -> Step {
        let Line { text, substitutions, bindings } = line;
        if let Some(open) = &mut self.open {
            let text = text.trim();
            let (text, more) = text.strip_suffix('\\').map_or((text, false), |text| (text.trim_end(), true));
            open.lines.push(text.to_owned());
            if !more && let Some(open) = self.open.take() {
                self.definitions.set(open.name, open.lines);
            }
            return Step::Done;
        }
        let (kept, glued) = without_comment(text.trim());
        if glued && substitutions == 0 {
            self.remarks.source(at, "a comment begins inside a word here: what follows is not read");
        }
        let Some(text) = self.conditions(at, kept.trim()) else { return Step::Done };
        if self.defines(text) {
            return Step::Done;
        }
        if let Some(sequence) = sequence::parse(text) {
            return match sequence {
                Ok((all, rest)) => Step::Again(
                    all.into_iter()
                        .map(|one| Line {
                            text: rest.to_owned(),
                            substitutions,
                            bindings: bindings.with(one),
                        })
                        .collect(),
                ),
                Err(fault) => {
                    self.remarks.source(at, format!("{fault}: the line is not read"));
                    Step::Done
                }
            };
        }
        let folder = self.stack.last().and_then(|path| path.parent()).unwrap_or(Path::new("."));
        let world = crate::define::World { folder, id: self.id, files: self.files };
        match self.definitions.substitute(text, &bindings, &world) {
            Substituted::Unchanged => {}
            Substituted::Lines(_) if substitutions >= SUBSTITUTIONS_MAX => {
                self.remarks
                    .source(at, "definitions here lead to one another without end: the line is not read");
                return Step::Done;
            }
            Substituted::Lines(lines) => {
                if lines.iter().any(|line| line.len() > EXPANDED_MAX) {
                    let text = format!("with its definitions the line is longer than {EXPANDED_MAX} bytes");
                    self.remarks.left_out(at, text);
                    return Step::Done;
                }
                let line = |text| Line { text, substitutions: substitutions + 1, bindings: bindings.clone() };
                return Step::Again(lines.into_iter().map(line).collect());
            }
        }
        if !self.include(at, text) {
            let at = |token| (at.clone(), token);
            self.tokens.extend(braces(text).into_iter().map(at));
        }
        Step::Done
    }

    /// What is behind the conditions (`@ID`, `@^ID`) that a line begins with, if they hold.
    fn conditions<'t>(&mut self, at: &At, mut text: &'t str) -> Option<&'t str> {
        while let Some(condition) = text.strip_prefix('@') {
            let (id, rest) = condition.split_once(char::is_whitespace).unwrap_or((condition, ""));
            let (id, wanted) = id.strip_prefix('^').map_or((id, true), |id| (id, false));
            if id.is_empty() {
                self.remarks.source(at, "@ without a name: the line is not read");
                return None;
            }
            if (id == self.id) != wanted {
                return None;
            }
            text = rest.trim_start();
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// `$NAME=value`, perhaps the first line of several.
    fn defines(&mut self, text: &str) -> bool {
        let Some((name, value)) = crate::define::definition(text) else { return false };
        let value = value.trim();
        match value.strip_suffix('\\') {
            Some(first) => {
                let first = first.trim_end();
                let lines = if first.is_empty() { Vec::new() } else { vec![first.to_owned()] };
                self.open = Some(Open { name: name.to_owned(), lines });
            }
            None => self.definitions.set(name.to_owned(), vec![value.to_owned()]),
        }
        true
    }

    fn include(&mut self, at: &At, text: &str) -> bool {
        let (word, pattern) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        // The longer ones only make a missing file an error, and so does this.
        if !["include", "includer", "includem", "includew", "includeb", "includea"].contains(&word) {
            return false;
        }
        let pattern = pattern.trim().trim_matches('"');
        if pattern.is_empty() {
            self.remarks.source(at, "include names no file");
            return true;
        }
        let folder = self.stack.last().and_then(|path| path.parent()).unwrap_or(Path::new("."));
        let pattern = folder.join(pattern);
        let found = self.files.matching(&pattern.to_string_lossy());
        if found.is_empty() {
            self.remarks.source(at, format!("include finds no file {}", pattern.display()));
        }
        for path in found {
            if self.stack.contains(&path) {
                self.remarks.source(at, format!("{} includes itself: it is not read again", path.display()));
                continue;
            }
            self.includes += 1;
            if self.stack.len() >= INCLUDE_DEPTH_MAX || self.includes > INCLUDES_MAX {
                let text = format!(
                    "{} is not read: includes go {INCLUDE_DEPTH_MAX} files deep, and are {INCLUDES_MAX} at most",
                    path.display()
                );
                self.remarks.left_out(at, text);
                continue;
            }
            match self.files.read(&path, FILE_MAX) {
                Ok(bytes) => self.file(&path, &bytes),
                Err(error) => self.remarks.source(at, format!("{} is not read: {error}", path.display())),
            }
        }
        true
    }
}
