//! Builds the templates of `uvs sched new` into the binary.
//!
//! A language is a folder `sdk/LANGUAGE/template`, and nothing else has to know of it. Its files make the project;
//! `template.toml` among them tells:
//!
//! | key | |
//! |---|---|
//! | `language` | its name for people |
//! | `needs` | what has to be installed |
//! | `build` | one shell command that makes `{{name}}.wasm`, run in the project |
//! | `edit` | the file with the policy |
//! | `[[copy]]` | `from` (a file or folder of the checkout) and `to` (in the project): taken as they are |
//!
//! In the files, and in `build` and `edit`, `{{name}}` stands for the project's name, `{{crate}}` for the same with
//! underscores, `{{version}}` for that of uvs and `{{build}}` for the command. A file
//! called `gitignore` becomes `.gitignore`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new("../..").canonicalize().expect("the crate lies in a checkout");
    for folder in ["sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    let mut languages: Vec<PathBuf> = children(&root.join("sdk"));
    languages.retain(|folder| folder.join("template/template.toml").is_file());
    let mut code = String::from("pub(crate) static TEMPLATES: &[Template] = &[\n");
    for folder in &languages {
        template(&root, folder, &mut code);
    }
    code.push_str("];\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("templates.rs"), code).expect("cargo's folder can be written");
}

fn template(root: &Path, folder: &Path, code: &mut String) {
    let path = folder.join("template/template.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let key = |name: &str| -> &str {
        table
            .get(name)
            .and_then(toml::Value::as_str)
            .unwrap_or_else(|| panic!("{}: no {name}", path.display()))
    };
    let name = folder.file_name().expect("a child").to_str().expect("UTF-8");
    let _ = writeln!(code, "Template {{ name: {name:?}, language: {:?},", key("language"));
    let _ = writeln!(
        code,
        "needs: {:?}, build: {:?}, edit: {:?}, files: &[",
        key("needs"),
        key("build"),
        key("edit")
    );
    let mut own = Vec::new();
    walk(&folder.join("template"), Path::new(""), &mut own);
    for (file, to) in own {
        if to == Path::new("template.toml") {
            continue;
        }
        let to = if to.ends_with("gitignore") { to.with_file_name(".gitignore") } else { to };
        entry(code, &file, &to, true);
    }
    for copy in table.get("copy").and_then(toml::Value::as_array).into_iter().flatten() {
        let field = |name: &str| copy.get(name).and_then(toml::Value::as_str).expect("copy has from and to");
        let (from, to) = (root.join(field("from")), Path::new(field("to")));
        let mut files = Vec::new();
        if from.is_dir() {
            walk(&from, to, &mut files)
        } else {
            files.push((from, to.to_owned()))
        }
        for (file, to) in files {
            entry(code, &file, &to, false);
        }
    }
    code.push_str("] },\n");
}

fn entry(code: &mut String, file: &Path, to: &Path, fill: bool) {
    let _ = writeln!(code, "File {{ path: {to:?}, content: include_bytes!({file:?}), fill: {fill} }},");
}

/// The files under a folder, and where they go.
fn walk(folder: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) {
    for path in children(folder) {
        let to = to.join(path.file_name().expect("a child"));
        if path.is_dir() { walk(&path, &to, files) } else { files.push((path, to)) }
    }
}

/// In order of name, so that builds repeat.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}
