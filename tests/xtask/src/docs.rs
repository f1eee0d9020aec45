//! `cargo xtask docs`: the reference of the scheduler contract, made from the comments in the WIT file.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use wit_parser::{Docs, Function, Resolve, Type, TypeDefKind, WorldItem};

const USAGE: &str = "\
usage: cargo xtask docs [--check]

Writes docs/contract.md from the comments in wit/scheduler.wit.

  --check  compares and writes nothing; exit status 1 if it is out of date
";

const WIT: &str = "wit/scheduler.wit";
const REFERENCE: &str = "docs/contract.md";

/// What no WIT file can say. A test of uvs-plugin compares it with the limits.
const LIMITS: &str = "
## Limits of a component

What compilers emit is far below them. A component past one of them is refused before anything is compiled.

| what | at most |
| --- | --- |
| bytes of the file | 16 MiB, or `size_limit` of `[modules]`, or `module_mib` of the module |
| core modules and components, in one another or side by side | 64 |
| functions, of all core modules | 100000 |
| types, of all core modules | 20000 |
| parameters of a function or block | 100 |
| results of a function or block | 16 |
| bytes of a function's body | 2097152 |
| locals of a function | 20000 |
| locals times loops of a function | 4000000 |
| targets of all `br_table`s of a function | 100000 |
| values that the branches of a function carry, a `br_table` counting for each target | 100000 |
| time to compile | 60 s, or `compile_time` of `[modules]` |
| memory to compile | 2 GiB, or `compile_mib` of `[modules]` |

What it may use while it runs is in [failure-semantics.md](failure-semantics.md).
";

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let check = match args {
        [] => false,
        [check] if check == "--check" => true,
        [help] if help == "-h" || help == "--help" => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        [other, ..] => {
            eprint!("error: {other:?} is not known\n\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let root = crate::wasm::root()?;
    let text = made(&root)?;
    let path = root.join(REFERENCE);
    if check {
        if is_current(&root)? {
            println!("{REFERENCE} is what {WIT} gives");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!(
            "error: {REFERENCE} is out of date\n  where: {WIT} says something else\n  fix:   run `cargo xtask docs` and commit what it writes"
        );
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {REFERENCE}");
    Ok(ExitCode::SUCCESS)
}

fn made(root: &Path) -> Result<String> {
    let wit = std::fs::read_to_string(root.join(WIT)).with_context(|| format!("cannot read {WIT}"))?;
    render(&wit)
}

fn is_current(root: &Path) -> Result<bool> {
    let committed = std::fs::read_to_string(root.join(REFERENCE)).unwrap_or_default();
    Ok(committed == made(root)?)
}

/// The page for a contract.
fn render(wit: &str) -> Result<String> {
    let mut resolve = Resolve::default();
    let id = resolve.push_str(WIT, wit)?;
    let package = &resolve.packages[id];
    let mut page = format!(
        "<!-- Made by `cargo xtask docs` from {WIT}: change that, not this. -->\n\
         # The scheduler contract: `{}`\n\n\
         What passes between uvs and a scheduler, in the words of [{WIT}](../{WIT}).\n\
         [Write a scheduler in ten minutes](write-a-scheduler.md) is the way in.\n",
        package.name
    );
    let mut told = std::collections::HashSet::new();
    for (name, &world) in &package.worlds {
        let world = &resolve.worlds[world];
        let _ = writeln!(page, "\n## World `{name}`\n");
        prose(&mut page, &world.docs);
        // What a world includes is told with the one it comes from.
        let names: Vec<_> = world.exports.keys().chain(world.imports.keys()).cloned().collect();
        let more = names.iter().filter(|name| told.insert((*name).clone())).count();
        if more < names.len() {
            for item in world.exports.values() {
                if let WorldItem::Interface { id, .. } = item {
                    let interface = resolve.interfaces[*id].name.as_deref().unwrap_or_default();
                    let _ = writeln!(
                        page,
                        "\nAll of the world before, and one export more: the interface `{interface}`."
                    );
                }
            }
            continue;
        }
        for (title, items) in [
            ("Exports: what a scheduler has to have", &world.exports),
            ("Imports: what it may call, and nothing else", &world.imports),
        ] {
            let _ = writeln!(page, "\n### {title}");
            for item in items.values() {
                if let WorldItem::Function(function) = item {
                    entry(&mut page, &resolve, function);
                }
            }
        }
    }
    for (name, &interface) in &package.interfaces {
        let interface = &resolve.interfaces[interface];
        let _ = writeln!(page, "\n## Interface `{name}`\n");
        prose(&mut page, &interface.docs);
        for (name, &ty) in &interface.types {
            let def = &resolve.types[ty];
            let _ = writeln!(page, "\n### {} `{name}`\n", def.kind.as_str());
            prose(&mut page, &def.docs);
            members(&mut page, &resolve, &def.kind);
        }
        for function in interface.functions.values() {
            entry(&mut page, &resolve, function);
        }
    }
    page.push_str(LIMITS);
    Ok(page)
}

fn entry(page: &mut String, resolve: &Resolve, function: &Function) {
    let params: Vec<_> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, type_name(resolve, &param.ty)))
        .collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", type_name(resolve, ty)));
    let _ = writeln!(page, "\n#### `{}`\n", function.name);
    let _ = writeln!(
        page,
        "```wit\n{}: func({}){}\n```",
        function.name,
        params.join(", "),
        result.unwrap_or_default()
    );
    prose(page, &function.docs);
}

fn members(page: &mut String, resolve: &Resolve, kind: &TypeDefKind) {
    let rows: Vec<(String, String, &Docs)> = match kind {
        TypeDefKind::Record(record) => record
            .fields
            .iter()
            .map(|field| {
                (format!("`{}`", field.name), format!("`{}`", type_name(resolve, &field.ty)), &field.docs)
            })
            .collect(),
        TypeDefKind::Enum(cases) => {
            let names: Vec<_> = cases.cases.iter().map(|case| format!("`{}`", case.name)).collect();
            let _ = writeln!(page, "One of {}.", names.join(", "));
            return;
        }
        TypeDefKind::Variant(variant) => {
            let of = |ty: &Option<Type>| {
                ty.as_ref().map_or(String::new(), |ty| format!("`{}`", type_name(resolve, ty)))
            };
            variant.cases.iter().map(|case| (format!("`{}`", case.name), of(&case.ty), &case.docs)).collect()
        }
        TypeDefKind::Flags(flags) => flags
            .flags
            .iter()
            .map(|flag| (format!("`{}`", flag.name), "flag".to_owned(), &flag.docs))
            .collect(),
        _ => return,
    };
    page.push_str("\n| name | type | meaning |\n| --- | --- | --- |\n");
    for (name, ty, docs) in rows {
        let text = docs.contents.as_deref().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let _ = writeln!(page, "| {name} | {ty} | {text} |");
    }
}

fn prose(page: &mut String, docs: &Docs) {
    if let Some(text) = &docs.contents {
        let _ = writeln!(page, "{}", text.trim());
    }
}

/// A type as WIT writes it.
fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let def = &resolve.types[*id];
    if let Some(name) = &def.name {
        return name.clone();
    }
    let of = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| type_name(resolve, ty));
    match &def.kind {
        TypeDefKind::List(ty) => format!("list<{}>", type_name(resolve, ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", type_name(resolve, ty)),
        TypeDefKind::Result(result) if result.ok.is_none() && result.err.is_none() => "result".to_owned(),
        TypeDefKind::Result(result) if result.err.is_none() => format!("result<{}>", of(&result.ok)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", of(&result.ok), of(&result.err)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<_> = tuple.types.iter().map(|ty| type_name(resolve, ty)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        other => other.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_that_of_the_contract() {
        let root = crate::wasm::root().unwrap();
        assert!(is_current(&root).unwrap(), "run `cargo xtask docs` and commit what it writes");
    }

    #[test]
    fn types_and_comments_come_through() {
        let page = render(
            "package a:b@1.2.3;
             interface t {
                 /// A pair.
                 record pair {
                     /// The first | one,
                     /// of two.
                     x: u32,
                     y: option<list<u8>>,
                 }
                 enum colour { red, green }
             }
             /// More.
             interface extra { f: func(); }
             /// With more.
             world wide { include w; export extra; }
             world w {
                 use t.{pair};
                 /// Reads.
                 import read: func(at: u64) -> result<pair, string>;
                 /// Runs.
                 export run: func() -> result;
             }",
        )
        .unwrap();
        for want in [
            "# The scheduler contract: `a:b@1.2.3`",
            "#### `read`\n\n```wit\nread: func(at: u64) -> result<pair, string>\n```\nReads.",
            "```wit\nrun: func() -> result\n```\nRuns.",
            "### record `pair`\n\nA pair.",
            "| `x` | `u32` | The first \\| one, of two. |",
            "| `y` | `option<list<u8>>` |  |",
            "One of `red`, `green`.",
            "one export more: the interface `extra`.",
        ] {
            assert!(page.contains(want), "{want:?} is not in:\n{page}");
        }
        assert!(render("package").is_err());
    }
}
