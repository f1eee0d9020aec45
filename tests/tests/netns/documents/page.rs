//! The blocks of a page in Markdown.

use std::path::Path;

/// A document.
#[derive(Debug)]
pub(super) struct Page {
    /// All its commands, in order.
    pub(super) blocks: Vec<Block>,
    /// The page, and the anchor of its section, whose commands come before.
    pub(super) after: Option<(String, String)>,
    /// Under which heading each block stands.
    headings: Vec<String>,
}

/// Commands, and what is shown of their output.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// File and line.
    pub(super) at: String,
    pub(super) text: String,
    /// The `text` block below it, or nothing.
    pub(super) shows: String,
}

impl Page {
    pub(super) fn read(root: &Path, name: &str) -> Self {
        let text = std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut page = Self { blocks: Vec::new(), after: None, headings: Vec::new() };
        let (mut heading, mut open, mut fence) = (String::new(), false, "");
        // What the fence that is open adds to.
        let mut into: Option<fn(&mut Block) -> &mut String> = None;
        for (line, number) in text.lines().zip(1..) {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                open = !open;
                into = None;
                if !open {
                    continue;
                }
                match info {
                    "sh" => {
                        let at = format!("{name}:{number}");
                        page.blocks.push(Block { at, text: String::new(), shows: String::new() });
                        page.headings.push(heading.clone());
                        into = Some(|block| &mut block.text);
                    }
                    "text" if fence == "sh" => into = Some(|block| &mut block.shows),
                    _ => {}
                }
                fence = info;
            } else if open {
                if let (Some(into), Some(block)) = (into, page.blocks.last_mut()) {
                    let text = into(block);
                    text.push_str(line);
                    text.push('\n');
                }
            } else if let Some(title) = line.strip_prefix('#') {
                heading = anchor(title.trim_start_matches('#'));
            } else if let Some(after) =
                line.strip_prefix("<!-- after: ").and_then(|rest| rest.strip_suffix(" -->"))
            {
                let (page_name, anchor) = after.split_once('#').expect("PAGE#anchor");
                page.after = Some((page_name.to_owned(), anchor.to_owned()));
            } else if let Some(file) =
                line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->"))
            {
                let (to, from) = file.split_once(' ').expect("NAME PATH");
                page.blocks.push(Block {
                    at: format!("{name}:{number}"),
                    text: format!("cp '{}' '{to}'", root.join(from).display()),
                    shows: String::new(),
                });
                page.headings.push(heading.clone());
            }
        }
        assert!(!open, "{name}: the last fence is not closed");
        page
    }

    /// The blocks of one section.
    pub(super) fn section(self, anchor: &str) -> Vec<Block> {
        let named = self.headings.into_iter().zip(self.blocks);
        named.filter(|(heading, _)| heading == anchor).map(|(_, block)| block).collect()
    }
}

/// The anchor that a heading gets.
fn anchor(title: &str) -> String {
    let kept = title.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether the lines of `shows` are in `printed`, in their order. If not, the first that is missing.
pub(super) fn is_shown(shows: &str, printed: &str) -> Result<(), String> {
    let mut printed = printed.lines().map(plain);
    for line in shows.lines().filter(|line| !line.trim().is_empty() && line.trim() != "[...]") {
        let wanted = plain(line);
        let parts: Vec<&str> = wanted.split("[...]").collect();
        if !printed.any(|line| has_parts(&line, &parts)) {
            return Err(line.to_owned());
        }
    }
    Ok(())
}

/// Whether a line consists of these parts, with anything in between.
fn has_parts(line: &str, parts: &[&str]) -> bool {
    let [first, middle @ .., last] = parts else { return parts.first() == Some(&line) };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// A line with one space where there are several, and one word for any duration.
fn plain(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let unit = word.trim_end_matches([';', ',', ')', ':']);
        let is_unit = ["us", "ms", "s", "min", "h", "d"].contains(&unit);
        if is_unit && words.last().is_some_and(|last| last.parse::<f64>().is_ok()) {
            words.pop();
            words.push("TIME");
            words.push(&word[unit.len()..]);
        } else {
            words.push(word);
        }
    }
    words.join(" ").trim_end().to_owned()
}
