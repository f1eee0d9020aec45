//! `[[scheduler]]`, and the `scheduler` and `options` of a service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use uvs_director::spec::SchedulerSpec;

use crate::config::{DEFAULT_FALLBACK, DEFAULT_SCHEDULER, Module, NATIVE, SHIPPED, Scheduler};
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;

pub(crate) const SCHEDULER: Keys = &["name", "module", "options", "fallback", "module_mib", "fuel"];

const MODULE_MIB: Integer = Integer {
    key: "module_mib",
    label: "module_mib",
    min: 1,
    max: 64,
    note: " MiB; 16 is enough for compiled languages",
};
const FUEL: Integer = Integer {
    key: "fuel",
    label: "fuel",
    min: 1,
    max: 1000,
    note: " times the usual fuel; 1 is enough for compiled languages",
};

/// The scheduler modules with a name of their own.
pub(crate) fn schedulers(root: &Table<'_>) -> Vec<Scheduler> {
    let doc = root.doc;
    let tables =
        root.tables("scheduler", SCHEDULER, |entries| Table::peek(entries, "name").map(str::to_owned));
    let mut schedulers = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for table in &tables {
        let name = table.required_string("name", "mine").filter(|name| is_scheduler_name(doc, name));
        if let Some(name) = &name
            && let Some(line) = seen.insert(name.value, table.at.line)
        {
            let fix = format!("rename it or the one in line {line}");
            doc.error(&name.at, format!("a second scheduler {:?}", name.value), fix);
        }
        let module = table.required_string("module", "mine.wasm");
        let path = module.and_then(|module| find_module(doc, &module));
        let fallback = table.string("fallback", DEFAULT_FALLBACK);
        if let Some(fallback) = fallback.as_ref().filter(|fallback| !NATIVE.contains(&fallback.value)) {
            doc.error(
                &fallback.at,
                format!("fallback {:?} is no native scheduler", fallback.value),
                format!("use one of {}", NATIVE.join(", ")),
            );
        }
        let options = table.string("options", "").map_or(String::new(), |options| options.value.to_owned());
        // What is broken here keeps its name, so that the services that use it are not called wrong as well.
        let Some(name) = name else { continue };
        let fallback = fallback.map_or(DEFAULT_FALLBACK, |fallback| fallback.value).to_owned();
        let module = Module::new(path.unwrap_or_default());
        let module_mib = small(table, &MODULE_MIB);
        let fuel = small(table, &FUEL).unwrap_or(module.fuel);
        schedulers.push(Scheduler {
            name: name.value.to_owned(),
            module: Module { fallback, module_mib, fuel, ..module },
            options,
            location: table.at.clone(),
        });
    }
    schedulers
}

fn small(table: &Table<'_>, key: &Integer) -> Option<u32> {
    table.integer(key).and_then(|number| u32::try_from(number.value).ok())
}

fn is_scheduler_name(doc: &Doc<'_>, name: &At<&str>) -> bool {
    let word = name.value;
    if SHIPPED.contains(&word) {
        doc.error(&name.at, format!("{word:?} is the name of a shipped scheduler"), "use another name");
        return false;
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if word.is_empty() || !word.chars().all(plain) {
        doc.error(
            &name.at,
            format!("scheduler name {word:?} is not one"),
            "use letters, digits, - and _ only",
        );
        return false;
    }
    true
}

/// The absolute path of a module that is there and can be read.
fn find_module(doc: &Doc<'_>, module: &At<&str>) -> Option<PathBuf> {
    let text = module.value;
    let folder = doc.file.parent().unwrap_or(Path::new(""));
    let joined = folder.join(text);
    let path = std::path::absolute(&joined).unwrap_or_else(|_| joined.clone());
    let fault = match std::fs::metadata(&path) {
        _ if text.is_empty() => Some("is an empty path".to_owned()),
        Ok(found) if found.is_dir() => Some("is a folder".to_owned()),
        Ok(found) if !found.is_file() => Some("is not a regular file".to_owned()),
        Ok(_) => std::fs::File::open(&path).err().map(|error| format!("cannot be read: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("does not exist".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    };
    if let Some(fault) = fault {
        let fix = format!("give the path of a .wasm component; it is looked for at {}", joined.display());
        doc.error(&module.at, format!("scheduler module {text:?} {fault}"), fix);
        return None;
    }
    if path.to_str().is_none() {
        let what = format!("scheduler module {text:?} lies at a path that is not UTF-8");
        doc.error(&module.at, what, "move the config and its modules to another folder");
        return None;
    }
    Some(path)
}

/// Who picks for a service: what the engine is told, the module behind it, and where it is named.
pub(crate) fn of_service(
    table: &Table<'_>,
    schedulers: &[Scheduler],
) -> Option<(SchedulerSpec, Option<Module>, Location)> {
    let named = table.string("scheduler", DEFAULT_SCHEDULER);
    let options = table.string("options", "").map(|options| options.value.to_owned());
    let Some(named) = named else {
        let spec = SchedulerSpec { name: DEFAULT_SCHEDULER.to_owned(), options: options.unwrap_or_default() };
        return Some((spec, None, table.at.clone()));
    };
    let word = named.value;
    let spec = |name: &str, options: Option<String>| SchedulerSpec {
        name: name.to_owned(),
        options: options.unwrap_or_default(),
    };
    if SHIPPED.contains(&word) {
        return Some((spec(word, options), None, named.at));
    }
    if let Some(known) = schedulers.iter().find(|scheduler| scheduler.name == word) {
        let options = options.or_else(|| Some(known.options.clone()));
        return Some((spec(word, options), Some(known.module.clone()), named.at));
    }
    if word.contains('/') || word.ends_with(".wasm") {
        let path = find_module(table.doc, &named)?;
        let name = path.to_str().expect("find_module takes UTF-8 paths only").to_owned();
        let module = Module::new(path);
        return Some((spec(&name, options), Some(module), named.at));
    }
    let known = || SHIPPED.iter().copied().chain(schedulers.iter().map(|it| it.name.as_str()));
    let list = known().collect::<Vec<_>>().join(", ");
    let fix = match nearest(word, known()) {
        Some(near) => format!("did you mean {near:?}? Use one of {list}, or the path of a .wasm file"),
        None => format!("use one of {list}, or the path of a .wasm file"),
    };
    table.doc.error(&named.at, format!("unknown scheduler {word:?}"), fix);
    None
}
