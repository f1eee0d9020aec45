//! `[[scheduler]]`, and the `scheduler` and `options` of a service.

use std::collections::HashMap;
use std::path::PathBuf;

use uvs_director::spec::SchedulerSpec;

use crate::file::open_regular;
use crate::model::{DEFAULT_FALLBACK, DEFAULT_SCHEDULER, Module, NATIVE, REFUSE, SHIPPED, Scheduler, Trial};
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;

pub(crate) const SCHEDULER: Keys = &["name", "module", "options", "fallback", "module_mib", "fuel", "sha256"];

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
    let mut seen: HashMap<&str, Location> = HashMap::new();
    for table in &tables {
        let name = table.required_string("name", "mine").filter(|name| is_scheduler_name(doc, name));
        if let Some(name) = &name
            && let Some(there) = seen.insert(name.value, table.at.clone())
        {
            let fix = format!("rename it or the one in {}", doc.refer(&name.at, &there));
            doc.error(&name.at, format!("a second scheduler {:?}", name.value), fix);
        }
        let module = table.required_string("module", "mine.wasm");
        let path = module.and_then(|module| find_module(doc, &module));
        let fallback = table.string("fallback", DEFAULT_FALLBACK);
        if let Some(fallback) =
            fallback.as_ref().filter(|it| it.value != REFUSE && !NATIVE.contains(&it.value))
        {
            doc.error(
                &fallback.at,
                format!("fallback {:?} is no native scheduler", fallback.value),
                format!("use one of {}, or {REFUSE}", NATIVE.join(", ")),
            );
        }
        let options = table.string("options", "").map_or(String::new(), |options| options.value.to_owned());
        let sha256 = table.parsed("sha256", "64 hexadecimal digits", parse_sha256).map(|pin| pin.value);
        // What is broken here keeps its name, so that the services that use it are not called wrong as well.
        let Some(name) = name else { continue };
        let fallback = fallback.map_or(DEFAULT_FALLBACK, |fallback| fallback.value).to_owned();
        let module = Module::new(path.unwrap_or_default());
        let module_mib = small(table, &MODULE_MIB);
        let fuel = small(table, &FUEL).unwrap_or(module.fuel);
        schedulers.push(Scheduler {
            name: name.value.to_owned(),
            module: Module { fallback, module_mib, fuel, ..module },
            sha256,
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
    let folder = doc.folder(&module.at);
    let joined = folder.join(text);
    let path = std::path::absolute(&joined).unwrap_or_else(|_| joined.clone());
    let fault = match std::fs::metadata(&path) {
        _ if text.is_empty() => Some("is an empty path".to_owned()),
        Ok(found) if found.is_dir() => Some("is a folder".to_owned()),
        Ok(found) if !found.is_file() => Some("is not a regular file".to_owned()),
        // It may be another file by now: a FIFO must not make anybody wait.
        Ok(_) => open_regular(&path).err().map(|error| format!("cannot be read: {error}")),
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

/// A scheduler as a service names it.
struct Named {
    name: String,
    /// The component behind the name; `None` for a shipped one.
    module: Option<Module>,
    /// Of its definition.
    options: Option<String>,
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
    let found = find(table.doc, schedulers, &named)?;
    let spec = SchedulerSpec { name: found.name, options: options.or(found.options).unwrap_or_default() };
    Some((spec, found.module, named.at))
}

pub(crate) const CANARY: Keys = &["module", "percent"];

/// What is tried beside it: `shadow` or `canary`.
pub(crate) fn trial(table: &Table<'_>, schedulers: &[Scheduler]) -> Option<Trial> {
    let shadow = table.string("shadow", "mine.wasm");
    let canary = if table.has("canary") { table.section("canary", CANARY) } else { None };
    if let (Some(_), Some(canary)) = (&shadow, &canary) {
        let fix = "remove one of them: first let it be a shadow, then a canary";
        table.doc.error(
            &canary.at,
            "a service tries one scheduler at a time, and has shadow and canary",
            fix,
        );
        return None;
    }
    let (named, percent) = match (shadow, canary) {
        (Some(named), _) => (named, None),
        (None, Some(canary)) => {
            canary.require("percent", "5");
            let percent = canary.integer(&Integer {
                key: "percent",
                label: "percent of a canary",
                min: 1,
                max: 100,
                note: " of the new connections",
            });
            let named = canary.required_string("module", "mine.wasm")?;
            (named, Some(u8::try_from(percent?.value).ok()?))
        }
        (None, None) => return None,
    };
    let found = find(table.doc, schedulers, &named)?;
    Some(Trial { scheduler: found.name, module: found.module, percent, location: named.at })
}

/// The scheduler of that name, shipped, defined or a path; an error is noted where there is none.
fn find(doc: &Doc<'_>, schedulers: &[Scheduler], named: &At<&str>) -> Option<Named> {
    let word = named.value;
    if SHIPPED.contains(&word) {
        return Some(Named { name: word.to_owned(), module: None, options: None });
    }
    if let Some(known) = schedulers.iter().find(|scheduler| scheduler.name == word) {
        let (module, options) = (Some(known.module.clone()), Some(known.options.clone()));
        return Some(Named { name: word.to_owned(), module, options });
    }
    if word.contains('/') || word.ends_with(".wasm") {
        let path = find_module(doc, named)?;
        let name = path.to_str().expect("find_module takes UTF-8 paths only").to_owned();
        let module = Module::new(path);
        return Some(Named { name, module: Some(module), options: None });
    }
    let known = || SHIPPED.iter().copied().chain(schedulers.iter().map(|it| it.name.as_str()));
    let list = known().collect::<Vec<_>>().join(", ");
    let fix = match nearest(word, known()) {
        Some(near) => format!("did you mean {near:?}? Use one of {list}, or the path of a .wasm file"),
        None => format!("use one of {list}, or the path of a .wasm file"),
    };
    doc.error(&named.at, format!("unknown scheduler {word:?}"), fix);
    None
}

/// 64 hexadecimal digits.
fn parse_sha256(text: &str) -> Result<[u8; 32], String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("sha256 {text:?} is not 64 hexadecimal digits, as sha256sum prints them"))
}
