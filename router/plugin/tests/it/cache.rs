//! Compiled code on disk: used when it is ours, and never otherwise.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use uvs_plugin::{CodeCache, Host, Policy};

use crate::guest::Guest;

fn caching(dir: &Path) -> Host {
    let host = Host::new(Policy::default()).unwrap();
    host.use_cache(CodeCache::open(dir).unwrap());
    host
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "compiled")).collect()
}

/// Whether the code of the good guest comes out of the cache.
fn was_cached(host: &Host) -> bool {
    let module = host.compile("test guest", &Guest::GOOD.component()).unwrap();
    module.check("").unwrap();
    module.was_cached()
}

#[test]
fn code_is_compiled_once_for_all_processes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made").join("for us");
    assert!(!was_cached(&caching(&dir)));
    assert!(was_cached(&caching(&dir)), "another engine with the same settings");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let other = Host::new(Policy { stack_bytes: 128 << 10, ..Policy::default() }).unwrap();
    other.use_cache(CodeCache::open(&dir).unwrap());
    was_cached(&other);
    assert!(!entries(&dir).is_empty());
}

#[test]
fn an_entry_that_somebody_touched_is_compiled_anew() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 7] = [
        ("a bit flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut off", |path| fs::write(path, &fs::read(path).unwrap()[..60]).unwrap()),
        ("emptied", |path| fs::write(path, b"").unwrap()),
        ("writable by all", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap()),
        ("a link", |path| {
            let real = path.with_extension("real");
            fs::rename(path, &real).unwrap();
            symlink(real, path).unwrap();
        }),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("another key", |path| {
            fs::remove_file(path.with_file_name("key")).unwrap();
        }),
    ];
    for (name, harm) in cases {
        let dir = tempfile::tempdir().unwrap();
        assert!(!was_cached(&caching(dir.path())), "{name}");
        assert!(was_cached(&caching(dir.path())), "{name}");
        harm(&entries(dir.path())[0]);
        assert!(!was_cached(&caching(dir.path())), "{name}: not to be trusted");
        if name != "a folder" {
            assert!(was_cached(&caching(dir.path())), "{name}: made good");
        }
    }
}

#[test]
fn an_entry_under_another_name_does_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let host = caching(dir.path());
    host.compile("other", &Guest { schedule: "(call $some (i32.const 4))", ..Guest::GOOD }.component())
        .unwrap();
    let other = entries(dir.path()).remove(0);
    assert!(!was_cached(&host));
    let ours = entries(dir.path()).into_iter().find(|path| *path != other).unwrap();
    fs::copy(&other, &ours).unwrap();
    assert!(!was_cached(&caching(dir.path())), "the code of another module");
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let said = CodeCache::open(dir.path()).unwrap_err();
        assert!(said.contains("can be written by others"), "{mode:o}: {said}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path().join("link");
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", &link).unwrap();
    let said = CodeCache::open(&link).unwrap_err();
    assert!(said.contains("is a link or no folder"), "{said}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(CodeCache::open(&file).is_err());
}

#[test]
fn old_entries_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let host = caching(dir.path());
    for n in 0..70 {
        let schedule = format!("(drop (i32.const {n})) (call $some (i32.const 1))");
        host.compile("test guest", &Guest { schedule: &schedule, ..Guest::GOOD }.component()).unwrap();
    }
    assert_eq!(entries(dir.path()).len(), 64);
}
