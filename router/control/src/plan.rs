//! `plan` and `reload`: what a reload would change, and what one has changed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be compared with what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Another configuration than the director's own file: what messages call it, an absolute path in whose folder
    /// relative paths begin. With `content` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Asks for a reload, as SIGHUP does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {}

/// What a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The configuration file.
    pub config: String,
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// What its author hardly meant, though it can be applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What of it was not done by a reload that is over: modules that were refused, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Whether something comes, goes, or becomes another.
    pub action: Action,
    /// What it is about: `service`, `destination`, `module`, `trial`, `network`, `neighbor`, `marks`, `timeouts`,
    /// `options`, `check`, `notify`, `health`, `settings`.
    pub what: String,
    /// Of which service, as `uvs status` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of which destination, or which check, neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What differs.
    pub fields: Vec<Field>,
    /// What it does to connections.
    pub effect: String,
    /// Whether it undoes what was done by hand (`uvs adm`, `uvs sched`).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub by_hand: bool,
}

/// What becomes of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It comes.
    Add,
    /// It becomes another.
    #[default]
    Change,
    /// It goes.
    Remove,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// As the key in the configuration.
    pub name: String,
    /// What runs now; none where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Field {
    /// One that changes.
    pub fn new(name: &str, old: Option<String>, new: Option<String>) -> Self {
        Self { name: name.to_owned(), old, new }
    }
}

/// How the latest reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// When it was over, in RFC 3339 and UTC.
    pub time: String,
    /// Who wanted it: `SIGHUP`, or `uid 0 pid 7`.
    pub by: String,
    /// `done`; `refused`: nothing was changed; `failed`: some of it is in force.
    pub outcome: String,
    /// How many changes it made.
    pub changes: u64,
    /// The first of them, a line each.
    pub summary: Vec<String>,
    /// Why it was refused or failed, or which modules were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Change {
    /// In one line, as `~ destination 10.0.0.1:80 of tcp 192.0.2.10:80: weight 1 -> 5`.
    pub fn line(&self) -> String {
        let sign = match self.action {
            Action::Add => '+',
            Action::Change => '~',
            Action::Remove => '-',
        };
        let mut text = format!("{sign} {}", self.what);
        if let Some(name) = &self.name {
            text.push_str(&format!(" {name}"));
        }
        if let Some(service) = &self.service {
            let of = if self.what == "service" { "" } else { "of " };
            text.push_str(&format!(" {of}{service}"));
        }
        let fields: Vec<String> = self.fields.iter().map(Field::text).collect();
        if !fields.is_empty() {
            text.push_str(&format!(": {}", fields.join(", ")));
        }
        text
    }
}

impl Field {
    fn text(&self) -> String {
        let Self { name, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => format!("{name} {old} -> {new}"),
            (None, Some(new)) => format!("{name} {new}"),
            (Some(old), None) => format!("{name} {old} -> none"),
            (None, None) => name.clone(),
        }
    }
}

impl Plan {
    /// For people. `done`: a reload has made the changes.
    pub fn text(&self, done: bool) -> String {
        let mut text = String::new();
        for change in &self.changes {
            text.push_str(&change.line());
            if change.by_hand {
                text.push_str("   (undoes a change by hand)");
            }
            text.push_str(&format!("\n    {}\n", change.effect));
        }
        for refused in &self.refused {
            text.push_str(&format!("! not done: {refused}\n"));
        }
        let count = |action: Action| self.changes.iter().filter(|change| change.action == action).count();
        let by_hand = self.changes.iter().filter(|change| change.by_hand).count();
        let (total, config) = (self.changes.len(), &self.config);
        text.push_str(&match (total, done) {
            (0, false) => format!("Nothing to change: what runs is what {config} says.\n"),
            (0, true) => format!("Nothing has changed: what runs is what {config} says.\n"),
            _ => {
                let changes = if total == 1 { "1 change".to_owned() } else { format!("{total} changes") };
                let hand = if by_hand > 0 { format!("; {by_hand} by hand undone") } else { String::new() };
                let (add, edit, remove) = (count(Action::Add), count(Action::Change), count(Action::Remove));
                let did = if done { "made" } else { "to make" };
                format!("{changes} {did}: {add} added, {edit} changed, {remove} removed{hand}.\n")
            }
        });
        text
    }
}
