//! What holds for the source tree as a whole: no circle of modules in a crate, no line that is too long to read, no
//! link that goes nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::book::SUMMARY;
use crate::links::{Link, anchors, is_elsewhere, links, resolve};

/// Modules that may all reach each other; more of them are a circle that nobody can take apart.
const CIRCLE_MAX: usize = 3;
/// Characters of a line in a document or a comment.
const LINE_MAX: usize = 120;
/// Crates whose layout is not the engine's.
const OTHERS: [&str; 4] = ["tests", "benches", "sdk", "schedulers"];

/// The files of the checkout that git knows, relative to its root. `None`: it is no checkout of git.
fn files(root: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Ok(listed) = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output() else {
        return Ok(None);
    };
    if !listed.status.success() {
        return Ok(None);
    }
    let names = String::from_utf8(listed.stdout).context("names of files are UTF-8")?;
    // What is deleted and not committed is listed, too.
    let there = |name: &&str| !name.is_empty() && root.join(name).is_file();
    Ok(Some(names.split('\0').filter(there).map(PathBuf::from).collect()))
}

fn read(root: &Path, file: &Path) -> Result<String> {
    let bytes = std::fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A path of modules below the root of its crate.
type Module = Vec<String>;

/// The modules of a crate, without its tests, and the text of each.
fn modules(root: &Path, files: &[PathBuf], sources: &Path) -> Result<BTreeMap<Module, String>> {
    let mut modules = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let Ok(inside) = file.strip_prefix(sources) else { continue };
        let mut path: Module =
            inside.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if path.iter().any(|part| ["test", "tests", "testing"].contains(&part.as_str())) {
            continue;
        }
        if path.last().is_some_and(|last| last == "mod") {
            path.pop();
        }
        // These tie the modules together: what they name is no arrow.
        if path == ["lib"] || path == ["main"] {
            continue;
        }
        let text = read(root, file)?;
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        modules.insert(path, text);
    }
    Ok(modules)
}

/// The nearest module that a path of names begins with.
fn nearest(modules: &BTreeMap<Module, String>, mut path: Module) -> Option<Module> {
    while !path.is_empty() {
        if modules.contains_key(&path) {
            return Some(path);
        }
        path.pop();
    }
    None
}

/// The first names of a path such as `a::b::c`, and what it goes on with where that is a group in braces.
fn names(text: &str) -> (Module, Option<&str>) {
    let mut path = Module::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            return (path, rest.strip_prefix('{'));
        }
        path.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(after) => rest = after,
            None => return (path, None),
        }
    }
}

/// All paths that begin with `prefix` and go on at `text`; groups in braces are taken apart.
fn paths(prefix: &[String], text: &str, found: &mut Vec<Module>) {
    let (path, group) = names(text);
    let path: Module = prefix.iter().cloned().chain(path).collect();
    let Some(group) = group else {
        found.push(path);
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    paths(&path, part, found);
                }
                start = at + 1;
                if letter == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// What a module names of its own crate, by `crate::` and by `super::`.
fn named(module: &[String], text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let is_word = code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$');
        if !is_word {
            paths(&[], &code[at + "crate::".len()..], &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::")
            || code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        {
            continue;
        }
        let (mut above, mut rest) = (module, &code[at..]);
        while let Some(after) = rest.strip_prefix("super::") {
            above = &above[..above.len().saturating_sub(1)];
            rest = after;
        }
        paths(above, rest, &mut found);
    }
    found
}

/// Where the names that a crate's root hands on come from.
fn handed_on(root: &str) -> BTreeMap<String, Module> {
    let mut found = Vec::new();
    for (at, _) in root.match_indices("\npub use ").chain(root.match_indices("\npub(crate) use ")) {
        let path = &root[at + 1..];
        let path =
            path.trim_start_matches("pub(crate) ").trim_start_matches("pub ").trim_start_matches("use ");
        paths(&[], path, &mut found);
    }
    found
        .into_iter()
        .filter_map(|path| Some((path.last()?.clone(), path[..path.len() - 1].to_vec())))
        .collect()
}

/// The largest set of modules that all reach each other. `root` is the text of the crate's root.
fn largest_circle(modules: &BTreeMap<Module, String>, root: &str) -> Vec<Module> {
    let handed_on = handed_on(root);
    let module_of = |path: Module| {
        let origin = path.first().and_then(|name| handed_on.get(name)).cloned();
        nearest(modules, path).or_else(|| nearest(modules, origin?))
    };
    let mut reach: BTreeMap<&Module, BTreeSet<Module>> = modules
        .iter()
        .map(|(module, text)| {
            let to = named(module, text).into_iter().filter_map(module_of);
            (module, to.filter(|to| to != module).collect())
        })
        .collect();
    // Whoever is reached passes on whom it reaches, until nobody learns of anybody.
    loop {
        let mut grew = false;
        for module in modules.keys() {
            let further: BTreeSet<Module> =
                reach[module].iter().flat_map(|to| reach[to].iter().cloned()).collect();
            let own = reach.get_mut(module).expect("it is one of the keys");
            let before = own.len();
            own.extend(further);
            grew |= own.len() > before;
        }
        if !grew {
            break;
        }
    }
    let circle = |module: &Module| -> Vec<Module> {
        let both = |other: &&Module| reach[module].contains(*other) && reach[other].contains(module);
        modules.keys().filter(both).cloned().collect()
    };
    modules.keys().map(circle).max_by_key(Vec::len).unwrap_or_default()
}

/// The circles that are too large, a line each.
fn circles(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let manifests = files.iter().filter(|file| file.ends_with("Cargo.toml"));
    let crates = manifests.filter_map(|manifest| manifest.parent()).filter(|folder| {
        let first = folder.iter().next().map(|part| part.to_string_lossy());
        first.is_some_and(|first| !OTHERS.contains(&&*first))
    });
    let mut found = Vec::new();
    for folder in crates {
        let modules = modules(root, files, &folder.join("src"))?;
        let lib = folder.join("src/lib.rs");
        let lib = if files.contains(&lib) { read(root, &lib)? } else { String::new() };
        let circle = largest_circle(&modules, &lib);
        if circle.len() > CIRCLE_MAX {
            let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            found.push(format!(
                "{}: {} modules in a circle: {}",
                folder.display(),
                names.len(),
                names.join(", ")
            ));
        }
    }
    Ok(found)
}

/// Lines of documents and comments that are too long. Rows of tables, and what programs print, cannot be broken.
fn long_lines(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files {
        let is_text: fn(&str) -> bool = match file.extension().and_then(|extension| extension.to_str()) {
            Some("md") => |line| !line.starts_with('|'),
            Some("rs") => |line| line.trim_start().starts_with("//"),
            _ => continue,
        };
        let mut is_listing = false;
        for (number, line) in read(root, file)?.lines().enumerate() {
            is_listing ^= line.starts_with("```");
            let length = line.chars().count();
            if length > LINE_MAX && is_text(line) && !is_listing {
                found.push(format!("{}:{}: {length} characters", file.display(), number + 1));
            }
        }
    }
    Ok(found)
}

/// Links of documents to what is not there, and pages that the book leaves out.
fn lost_links(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let is_page = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "md");
    for file in files.iter().filter(is_page) {
        let text = read(root, file)?;
        for Link { at, target } in links(&text) {
            if is_elsewhere(target) {
                continue;
            }
            let (path, anchor) = resolve(file, target);
            let is_there = files.iter().any(|known| known.starts_with(&path));
            let is_known = match anchor {
                Some(anchor) if is_there && is_page(&&path) => anchors(&read(root, &path)?).contains(anchor),
                _ => true,
            };
            if !is_there || !is_known {
                let line = text[..at].lines().count();
                found.push(format!("{}:{line}: there is no {target}", file.display()));
            }
        }
    }
    let summary = read(root, Path::new(SUMMARY))?;
    let named: BTreeSet<PathBuf> =
        links(&summary).iter().map(|link| resolve(Path::new(SUMMARY), link.target).0).collect();
    let pages = files.iter().filter(|file| file.starts_with("docs") && is_page(file));
    let left_out = pages.filter(|file| !named.contains(*file) && *file != Path::new(SUMMARY));
    found.extend(left_out.map(|file| format!("{} is not in {SUMMARY}", file.display())));
    Ok(found)
}

/// Chores, packages and programs that documents have cargo run, and that are not there.
#[cfg(test)]
fn lost_chores(root: &Path, files: &[PathBuf]) -> Result<(usize, Vec<String>)> {
    let (mut packages, mut seen, mut found) = (BTreeSet::new(), 0, Vec::new());
    let mut programs: BTreeSet<String> = BTreeSet::new();
    for file in files {
        if file.ends_with("Cargo.toml") {
            let text = read(root, file)?;
            let names = text
                .lines()
                .filter_map(|line| Some(line.strip_prefix("name = \"")?.split_once('"')?.0.to_owned()));
            packages.extend(names);
        } else if file
            .parent()
            .is_some_and(|of| ["bin", "examples", "benches"].iter().any(|it| of.ends_with(it)))
        {
            programs.extend(file.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    programs.extend(packages.iter().cloned());
    let pages = files.iter().filter(|file| file.extension().is_some_and(|it| it == "md"));
    for file in pages.filter(|file| !file.ends_with("CHANGELOG.md")) {
        let text = read(root, file)?;
        // A page may have its reader write a package.
        let is_made = |package: &str| text.contains(&format!("name = \"{package}\""));
        for (line, number) in text.lines().zip(1..) {
            let Some((_, command)) = line.split_once("cargo ") else { continue };
            let words: Vec<&str> =
                command.split([' ', '`', '\'', ';', ')', ',']).take_while(|word| *word != "#").collect();
            for pair in words.windows(2) {
                let is_there = match pair[0] {
                    "xtask" => {
                        crate::USAGE.lines().any(|line| line.trim_start().split(' ').next() == Some(pair[1]))
                    }
                    "-p" | "--package" => packages.contains(pair[1]) || is_made(pair[1]),
                    "--bin" | "--example" | "--bench" => programs.contains(pair[1]),
                    _ => continue,
                };
                seen += 1;
                if !is_there && !pair[1].is_empty() && pair[1] != "CRATE" {
                    found.push(format!("{}:{number}: there is no {} {}", file.display(), pair[0], pair[1]));
                }
            }
        }
    }
    Ok((seen, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_of_a_document_goes_somewhere() {
        let Some((root, files)) = checkout() else { return };
        let found = lost_links(&root, &files).unwrap();
        assert!(found.is_empty(), "{} links:\n{}", found.len(), found.join("\n"));
    }

    #[test]
    fn documents_have_cargo_run_what_is_there() {
        let Some((root, files)) = checkout() else { return };
        let (seen, found) = lost_chores(&root, &files).unwrap();
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert!(seen > 20, "{seen} were seen");
    }

    fn checkout() -> Option<(PathBuf, Vec<PathBuf>)> {
        let root = crate::wasm::root().unwrap();
        let files = files(&root).unwrap();
        if files.is_none() {
            println!("skipped: it is no checkout of git");
        }
        files.map(|files| (root, files))
    }

    fn crate_of(modules: &[(&str, &str)]) -> BTreeMap<Module, String> {
        let path = |name: &str| name.split("::").map(str::to_owned).collect();
        modules.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect()
    }

    #[test]
    fn a_circle_is_found_however_its_arrows_are_written() {
        let circle = |modules: &[(&str, &str)]| {
            largest_circle(&crate_of(modules), "mod a;\npub use b::{B, y::Z};").len()
        };
        assert_eq!(circle(&[("a", "use crate::b::B;"), ("b", "fn f() { crate::a::g() }")]), 2);
        assert_eq!(
            circle(&[("a", "use crate::{c::C, b::{X, y::Y}};"), ("b", "use super::a;"), ("c", "")]),
            2
        );
        assert_eq!(
            circle(&[
                ("p::a", "use super::b::B;"),
                ("p::b", "use super::super::c;"),
                ("c", "use crate::p::a::A;")
            ]),
            3
        );
        assert_eq!(
            circle(&[("a", "use crate::b::B;"), ("b", "use crate::c::C;"), ("c", "// crate::a::A")]),
            0
        );
    }

    #[test]
    fn no_crate_has_a_circle_of_many_modules() {
        let Some((root, files)) = checkout() else { return };
        let found = circles(&root, &files).unwrap();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn no_line_of_a_document_or_comment_is_too_long() {
        let Some((root, files)) = checkout() else { return };
        let found = long_lines(&root, &files).unwrap();
        assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
    }
}
