//! Links of the documents: that what they name is there.

#[cfg(test)]
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// A link in a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    /// From which byte of the text on it stands.
    pub(crate) at: usize,
    /// As it is written.
    pub(crate) target: &'a str,
}

/// The links and pictures of a text in Markdown that are written `[...](TARGET)`, those in code left out.
pub(crate) fn links(text: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut is_listing = false;
    // Backquotes of the paragraph so far: code may go on in the next line.
    let mut quotes = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let is_fence = line.trim_start().starts_with("```");
        is_listing ^= is_fence;
        if is_listing || is_fence {
            quotes = 0;
            continue;
        }
        if line.trim().is_empty() || line.starts_with(['|', '#', '-']) {
            quotes = 0;
        }
        for (open, _) in line.match_indices("](") {
            // Between backquotes it is no link: an odd number of them stands before it. Those in its text pair up.
            if (quotes + line[..open].matches('`').count()) % 2 == 1 {
                continue;
            }
            let target = &line[open + 2..];
            if let Some(end) = target.find(')') {
                found.push(Link { at: start + open + 2, target: &target[..end] });
            }
        }
        quotes += line.matches('`').count();
    }
    found
}

/// Whether a link goes to another site.
pub(crate) fn is_elsewhere(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

/// The path of a link in a document, from the root of the checkout, and its anchor.
pub(crate) fn resolve<'a>(document: &Path, target: &'a str) -> (PathBuf, Option<&'a str>) {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    if path.is_empty() {
        return (document.to_owned(), anchor);
    }
    let mut resolved = document.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(name) => resolved.push(name),
            _ => {}
        }
    }
    (resolved, anchor)
}

/// The anchors of a document's headings, as they are made from them: a second one of the same name ends in `-1`.
#[cfg(test)]
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_listing = false;
    for line in text.lines() {
        is_listing ^= line.trim_start().starts_with("```");
        if is_listing || !line.starts_with('#') {
            continue;
        }
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let more = (1..).map(|count| format!("{anchor}-{count}"));
        let free = std::iter::once(anchor.clone()).chain(more).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_code_is_none() {
        let text = "[a](b.md) `x[0](y)` [`c`](d#e) [`i\nj`](k)\n```\n[f](g)\n```\n![h](i.svg)\n";
        let targets: Vec<_> = links(text).into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["b.md", "d#e", "k", "i.svg"]);
        assert!(links(text).iter().all(|link| text[link.at..].starts_with(link.target)));
    }

    #[test]
    fn paths_are_those_of_the_checkout() {
        let of = |target| resolve(Path::new("docs/a.md"), target);
        assert_eq!(of("../config/README.md#x"), ("config/README.md".into(), Some("x")));
        assert_eq!(of("#y"), ("docs/a.md".into(), Some("y")));
        assert_eq!(of("img/b.svg"), ("docs/img/b.svg".into(), None));
    }

    #[test]
    fn anchors_are_made_of_headings() {
        let anchors = anchors("# A b, `c_d`!\n## `[service.health]`\n```\n# no\n```\n## x\n## x\n");
        assert_eq!(anchors, ["a-b-c_d", "servicehealth", "x", "x-1"].map(str::to_owned).into());
    }
}
