//! What the files say of a configuration, in their own words.

use core::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use crate::model::Config;

/// Keys and values as TOML has them, a string without its quotes.
pub type Words = Vec<(String, String)>;

/// The files of a configuration as one, in their own words: for people who compare two of them. Paths in it are
/// absolute.
#[derive(Clone, Debug)]
pub struct Written<'c> {
    config: &'c Config,
    root: Table,
}

impl Config {
    /// What its files say.
    pub fn written(&self) -> Written<'_> {
        Written { config: self, root: whole(self) }
    }
}

impl Written<'_> {
    /// The keys of a `[[check]]`; none where there is no such.
    pub fn check(&self, name: &str) -> Words {
        self.entry("check", name)
    }

    /// The keys of a `[[notify]]`; none where there is no such.
    pub fn notify(&self, name: &str) -> Words {
        self.entry("notify", name)
    }

    /// The keys of a `[[vrrp]]` or a `[[vrrp_script]]`; none where there is no such.
    pub fn vrrp(&self, list: &str, name: &str) -> Words {
        self.entry(list, name)
    }

    /// The keys of a service's `[service.health]`, and its `checks`; backups, which are destinations, are not in it.
    /// `place`: of [`Config::services`].
    pub fn health(&self, place: usize) -> Words {
        let Some(service) = self.service(place) else { return Words::new() };
        let checks = service.get("checks").map(|value| ("checks".to_owned(), word(value)));
        let health = service.get("health").and_then(Value::as_table).map(words).unwrap_or_default();
        checks.into_iter().chain(health.into_iter().filter(|(key, _)| key != "backup")).collect()
    }

    /// What a destination has otherwise than its service: `check` and `checks`. `place`: of [`Config::services`].
    pub fn own_checks(&self, place: usize, destination: SocketAddr) -> Words {
        let find = || {
            let known = self.config.services.get(place)?;
            let at = known.destinations.iter().position(|spec| spec.addr == destination)?;
            let service = self.service(place)?;
            let lists = [service.get("destination"), service.get("health").and_then(|it| it.get("backup"))];
            let mut entries = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
            entries.nth(at)?.as_table()
        };
        let keys = find().map(words).unwrap_or_default();
        keys.into_iter().filter(|(key, _)| key == "check" || key == "checks").collect()
    }

    /// The keys of a table at the top level, such as `announce`; none where there is no such.
    pub fn section(&self, name: &str) -> Words {
        self.root.get(name).and_then(Value::as_table).map(words).unwrap_or_default()
    }

    fn entry(&self, list: &str, name: &str) -> Words {
        let entries = self.root.get(list).and_then(Value::as_array).into_iter().flatten();
        let mut tables = entries.filter_map(Value::as_table);
        let found = tables.find(|table| table.get("name").and_then(Value::as_str) == Some(name));
        found.map(words).unwrap_or_default().into_iter().filter(|(key, _)| key != "name").collect()
    }

    fn service(&self, place: usize) -> Option<&Table> {
        self.root.get("service")?.as_array()?.get(place)?.as_table()
    }
}

fn words(table: &Table) -> Words {
    table.iter().map(|(key, value)| (key.clone(), word(value))).collect()
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The files as one table, with absolute paths.
pub(crate) fn whole(config: &Config) -> Table {
    let mut root = Table::new();
    for (path, text) in config.texts.iter() {
        // It was read once.
        let Ok(mut table) = toml::from_str::<Table>(text) else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        for (list, keys) in [("scheduler", &["module"][..]), ("check", &["ca", "file"])] {
            if let Some(Value::Array(entries)) = table.get_mut(list) {
                entries.iter_mut().for_each(|entry| absolute(entry, keys, folder));
            }
        }
        merge(&mut root, table);
    }
    root
}

/// As files are put together that include one another.
fn merge(root: &mut Table, more: Table) {
    for (key, value) in more {
        match (root.get_mut(&key), value) {
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
            (Some(Value::Table(there)), Value::Table(more)) => there.extend(more),
            (_, value) => {
                root.insert(key, value);
            }
        }
    }
}

/// Makes the paths under these keys absolute.
fn absolute(entry: &mut Value, keys: &[&str], folder: &Path) {
    let Some(table) = entry.as_table_mut() else { return };
    for key in keys {
        if let Some(Value::String(path)) = table.get_mut(*key) {
            let joined = folder.join(&*path);
            let joined = std::path::absolute(&joined).unwrap_or(joined);
            // Others are left as they are: the text is UTF-8.
            if let Some(absolute) = joined.to_str() {
                *path = absolute.to_owned();
            }
        }
    }
}
