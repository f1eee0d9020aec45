//! Modules import downwards only.

use std::fs;
use std::path::Path;

/// From the bottom to the top: a module may import those before it. `lib.rs` with what is generated in it is below all.
const ORDER: [&str; 31] = [
    "base",
    "policy",
    "stats",
    "translate",
    "error",
    "history",
    "health",
    "shipped",
    "watch",
    "native",
    "code",
    "cache",
    "guest",
    "shape",
    "engine",
    "compiler",
    "host",
    "module",
    "instance",
    "compile",
    "dump",
    "binding",
    "slot",
    "trial",
    "catalogue",
    "plugin",
    "load",
    "dry_run",
    "store",
    "running",
    "replay",
];
/// The same, continued: the facade and what looks at it.
const TOP: [&str; 4] = ["live", "status", "schedulers", "exchange"];

#[test]
fn no_module_imports_upwards() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order: Vec<&str> = ORDER.into_iter().chain(TOP).collect();
    let mut seen = 0;
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "lib" {
            continue;
        }
        let rank = order.iter().position(|known| *known == name);
        let rank = rank.unwrap_or_else(|| panic!("{name} has no place in the order of modules"));
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for imported in code.split("crate::").skip(1) {
            let word: String =
                imported.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if let Some(of_imported) = order.iter().position(|known| *known == word) {
                assert!(of_imported <= rank, "{name} imports {word}, which is above it");
            }
        }
    }
    assert_eq!(seen, order.len(), "a module of the order is gone");
}
