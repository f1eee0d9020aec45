//! `[modules]`: where code and dumps of scheduler modules are kept, and what makes one be loaded again.

use std::path::{Path, PathBuf};

use crate::read::{Integer, Keys, Table};

pub(crate) const MODULES: Keys =
    &["watch", "cache", "dumps", "size_limit", "compile_time", "compile_mib", "failures", "failure_window"];

/// What the file says to have no such folder.
const NONE: &str = "none";
/// The smallest size limit that makes sense: a component of nothing but its exports.
const SIZE_MIN: u64 = 1 << 10;
const SIZE_MAX: u64 = 256 << 20;

/// How scheduler modules are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Whether a module is loaded when its file changes, without being told.
    pub watch: bool,
    /// Where compiled modules are kept.
    pub cache: Folder,
    /// Where calls that failed are dumped.
    pub dumps: Folder,
    /// The largest file of a module, in bytes.
    pub size_limit: usize,
    /// Processor time that one may take to compile, in seconds; by the clock twice that.
    pub compile_time: u32,
    /// How much memory that may take, in MiB.
    pub compile_mib: u32,
    /// With so many failures in [`failure_window`](Self::failure_window) a module is ejected.
    pub failures: u32,
    /// In seconds.
    pub failure_window: u32,
}

impl Default for Modules {
    fn default() -> Self {
        Self {
            watch: true,
            cache: Folder::Usual,
            dumps: Folder::Usual,
            size_limit: 16 << 20,
            compile_time: 60,
            compile_mib: 2048,
            failures: 5,
            failure_window: 10,
        }
    }
}

/// A folder of the director's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Folder {
    /// Nothing is said: below the folder that the service manager gives (systemd's `CacheDirectory=` and
    /// `StateDirectory=`), or none where it gives none.
    #[default]
    Usual,
    /// This one.
    At(PathBuf),
    /// There is none.
    None,
}

impl Folder {
    /// The folder, when the service manager gives `usual`.
    pub fn resolve(&self, usual: Option<PathBuf>) -> Option<PathBuf> {
        match self {
            Self::Usual => usual,
            Self::At(path) => Some(path.clone()),
            Self::None => None,
        }
    }
}

/// A folder of the director's own: an absolute path, or none.
pub(crate) fn folder(table: &Table<'_>, key: &'static str, example: &'static str) -> Folder {
    let folder = table.parsed(key, example, |text| match text {
        NONE => Ok(Folder::None),
        path if Path::new(path).is_absolute() => Ok(Folder::At(path.into())),
        other => Err(format!("folder {other:?} is neither an absolute path nor {NONE:?}")),
    });
    folder.map(|folder| folder.value).unwrap_or_default()
}

pub(crate) fn modules(root: &Table<'_>) -> Modules {
    let defaults = Modules::default();
    let Some(table) = root.section("modules", MODULES) else { return defaults };
    let folder = |key, example| folder(&table, key, example);
    let size = table.integer(&Integer {
        key: "size_limit",
        label: "size_limit",
        min: SIZE_MIN,
        max: SIZE_MAX,
        note: " bytes",
    });
    let small = |key: &'static str, min, max, note, default| {
        let number = table.integer(&Integer { key, label: key, min, max, note });
        number.and_then(|number| u32::try_from(number.value).ok()).unwrap_or(default)
    };
    Modules {
        watch: table.boolean("watch").unwrap_or(defaults.watch),
        cache: folder("cache", "/var/cache/uvs"),
        dumps: folder("dumps", "/var/lib/uvs/dumps"),
        size_limit: size.and_then(|size| usize::try_from(size.value).ok()).unwrap_or(defaults.size_limit),
        compile_time: small("compile_time", 1, 600, " s", defaults.compile_time),
        compile_mib: small("compile_mib", 64, 65_536, " MiB", defaults.compile_mib),
        failures: small("failures", 1, 1000, " failures", defaults.failures),
        failure_window: small("failure_window", 1, 3600, " s", defaults.failure_window),
    }
}
