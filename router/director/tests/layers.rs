//! The layers of the crate: read from the table at the head of `lib.rs`, and held against what its modules import.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules that a module names, both by their path in the crate (`track/table`).
type Imports = BTreeMap<String, BTreeSet<String>>;
/// The layers that a layer may import from.
type Layers = BTreeMap<String, BTreeSet<String>>;

/// Module and text of every source of the crate but `lib.rs`.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if path.is_dir() {
                walk(&path, &format!("{prefix}{name}/"), found);
            } else if !(prefix.is_empty() && name == "lib") {
                found.insert(format!("{prefix}{name}"), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found
}

/// What is compiled into the crate: no comments, and no tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let line = |line: &str| line.split("//").next().unwrap().to_string() + "\n";
    text.lines().map(line).collect()
}

/// The paths that stand in a text behind `start`, one for each name of a group: `a::{b, c::d}` gives `a::b` and
/// `a::c::d`.
fn paths_behind(text: &str, start: &str) -> Vec<String> {
    fn is_of_path(c: char) -> bool {
        c.is_alphanumeric() || c == '_' || c == ':'
    }
    fn read(text: &str, prefix: &str, found: &mut Vec<String>) {
        let len = text.find(|c| !is_of_path(c)).unwrap_or(text.len());
        let path = format!("{prefix}{}", &text[..len]);
        if !text[len..].starts_with('{') || !path.ends_with("::") {
            found.push(path);
            return;
        }
        let (mut depth, mut from) = (0, len + 1);
        for (at, c) in text.char_indices().skip_while(|(at, _)| *at < len) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && c == ',' {
                read(text[from..at].trim_start(), &path, found);
                from = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    let mut found = Vec::new();
    for (at, _) in text.match_indices(start) {
        let is_whole = !text[..at].ends_with(is_of_path);
        if is_whole {
            read(&text[at + start.len()..], "", &mut found);
        }
    }
    found
}

/// The module that a path leads into: the longest start of it that is one.
fn module_of(path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let mut names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
    while !names.is_empty() {
        let module = names.join("/");
        if modules.contains_key(&module) {
            return Some(module);
        }
        names.pop();
    }
    None
}

fn imports(modules: &BTreeMap<String, String>) -> Imports {
    let mut imports = Imports::new();
    for (module, text) in modules {
        let text = code(text);
        let mut paths = paths_behind(&text, "crate::");
        let parent = module.rsplit_once('/').map_or("", |(parent, _)| parent).replace('/', "::");
        paths.extend(paths_behind(&text, "super::").iter().map(|path| format!("{parent}::{path}")));
        // Its own children are named without more.
        let child =
            |name: &String| name.strip_prefix(&format!("{module}/")).is_some_and(|rest| !rest.contains('/'));
        for name in modules.keys().filter(|name| child(name)) {
            let last = name.rsplit('/').next().unwrap();
            if !paths_behind(&text, &format!("use {last}::")).is_empty() {
                paths.push(name.replace('/', "::"));
            }
        }
        let named = paths.iter().filter_map(|path| module_of(path, modules));
        imports.insert(module.clone(), named.filter(|other| other != module).collect());
    }
    imports
}

/// The table of layers, checked to be in order itself.
fn layers(lib: &str) -> Layers {
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
    let rows: Vec<(String, BTreeSet<String>)> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .map(|row| format!("`{row}"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            (names(cells[0])[0].clone(), names(cells[2]).into_iter().collect())
        })
        .collect();
    for (at, (layer, below)) in rows.iter().enumerate() {
        let later: BTreeSet<String> = rows[at + 1..].iter().map(|(name, _)| name.clone()).collect();
        assert!(below.is_subset(&later), "{layer} imports from a layer that does not stand below it");
    }
    rows.into_iter().collect()
}

/// Imports of a layer that is not below: who, and what.
fn upward(imports: &Imports, layers: &Layers) -> Vec<String> {
    let layer = |module: &str| module.split('/').next().unwrap().to_string();
    let mut found = Vec::new();
    for (module, others) in imports {
        let own = layer(module);
        let Some(below) = layers.get(&own) else {
            found.push(format!("{module} is in no layer"));
            continue;
        };
        let wrong = others.iter().filter(|other| layer(other) != own && !below.contains(&layer(other)));
        found.extend(wrong.map(|other| format!("{module} imports {other}")));
    }
    found
}

/// Modules that reach themselves.
fn circles(imports: &Imports) -> Vec<String> {
    let reaches_itself = |start: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            for other in imports.get(module).into_iter().flatten() {
                if other == start {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    };
    imports.keys().filter(|module| reaches_itself(module)).cloned().collect()
}

#[test]
fn no_module_imports_upwards() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let layers = layers(&lib);
    let imports = imports(&sources());
    assert!(imports.len() > 40 && layers.len() > 5, "the sources and the table were not read");
    assert_eq!(upward(&imports, &layers), [""; 0]);
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    assert_eq!(circles(&imports(&sources())), [""; 0]);
}

#[test]
fn what_is_wrong_is_found() {
    let modules = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
        texts.iter().map(|(module, text)| ((*module).to_string(), (*text).to_string())).collect()
    };
    let lib = "//! | `high` | | `low` |\n//! | `low` | | |\n";
    /// Modules with their text, and how many arrows upwards and circles they have.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], usize, usize);
    let cases: [Case<'_>; 7] = [
        ("down", &[("high/a", "use crate::low::b::C;"), ("low/b", "")], 0, 0),
        ("up", &[("high/a", ""), ("low/b", "use crate::high::a::C;")], 1, 0),
        ("up, within code", &[("high/a", ""), ("low/b", "fn f() { crate::high::a::g() }")], 1, 0),
        (
            "a circle, in groups",
            &[("low/a", "use crate::low::{b, c::{d, e}};"), ("low/c", "use crate::low::a::F;")],
            0,
            2,
        ),
        ("a circle, by super", &[("low/a", "use b::C;"), ("low/a/b", "use super::D;")], 0, 2),
        (
            "in a comment or a test",
            &[
                ("low/a", "// crate::high::b\n#[cfg(test)]\nmod tests { use crate::high::b; }"),
                ("high/b", ""),
            ],
            0,
            0,
        ),
        ("no layer", &[("other", "")], 1, 0),
    ];
    for (what, texts, up, in_circles) in cases {
        let imports = imports(&modules(texts));
        assert_eq!(upward(&imports, &layers(lib)).len(), up, "{what}: {imports:?}");
        assert_eq!(circles(&imports).len(), in_circles, "{what}: {imports:?}");
    }
}

/// The stages of a frame's walk, in order. Each is a function of the name of its module.
const STAGES: [&str; 5] = ["classify", "find", "advance", "route", "emit"];

/// Stages that lead back to themselves or to an earlier one, over whatever modules of `path`. A stage may name the
/// types of another one; who names its function calls it.
fn returns(modules: &BTreeMap<String, String>) -> Vec<String> {
    let called = |module: &str, from: &str| {
        let text = modules.get(from).map_or(String::new(), |text| code(text));
        paths_behind(&text, "crate::").iter().any(|path| {
            let mut names = path.split("::");
            // The module alone may be named to call any function of it.
            (names.next(), names.next()) == (Some("path"), Some(module))
                && names.next().is_none_or(|name| name.starts_with(|c: char| c.is_lowercase()))
        })
    };
    let names: Vec<&str> = modules.keys().filter_map(|module| module.strip_prefix("path/")).collect();
    let mut found = Vec::new();
    for (at, stage) in STAGES.iter().enumerate() {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*stage]);
        while let Some(module) = next.pop() {
            for name in names.iter().copied().filter(|name| called(name, &format!("path/{module}"))) {
                if STAGES[..=at].contains(&name) {
                    found.push(format!("{stage} leads to {name} by {module}"));
                } else if seen.insert(name) {
                    next.push(name);
                }
            }
        }
    }
    found
}

#[test]
fn no_stage_leads_back_to_an_earlier_one() {
    let modules = sources();
    for stage in STAGES {
        let text = modules.get(&format!("path/{stage}")).unwrap();
        assert!(text.contains(&format!("pub(crate) fn {stage}")), "{stage} is no stage");
    }
    assert_eq!(returns(&modules), [""; 0]);
}

#[test]
fn a_way_back_is_found() {
    let back = |texts: &[(&str, &str)]| {
        returns(&texts.iter().map(|(name, text)| (format!("path/{name}"), (*text).to_string())).collect())
    };
    assert_eq!(back(&[("route", "use crate::path::find::Found;"), ("find", "")]), [""; 0], "a type");
    assert_eq!(back(&[("find", "use crate::path::route::route;"), ("route", "")]), [""; 0], "forwards");
    let by_another =
        [("route", "use crate::path::side::go;"), ("side", "use crate::path::find::{Found, find};")];
    assert_eq!(back(&[&by_another[..], &[("find", "")]].concat()), ["route leads to find by side"]);
}
