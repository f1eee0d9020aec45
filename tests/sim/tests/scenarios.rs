//! No script in `scenarios` violates anything, but for those that `../KNOWN.txt` lists; one of these that passes must
//! leave the list.

use std::collections::BTreeMap;
use std::path::Path;

use uvs_sim::event::Script;
use uvs_sim::known::Known;
use uvs_sim::run::replay;

fn scripts() -> BTreeMap<String, Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = std::fs::read_dir(&folder).expect("the folder is there");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("it can be listed").path();
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let script = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (name, script)
    };
    files.map(read).collect()
}

#[test]
fn every_scenario_passes_or_is_known_to_fail() {
    let known = Known::load().expect("KNOWN.txt can be read");
    let scripts = scripts();
    assert!(scripts.len() > 10, "the scenarios are there");
    let mut wrong = Vec::new();
    for (name, script) in &scripts {
        let (_, number, outcome) = replay(script, &[], false);
        match (outcome, known.scenarios.get(name)) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{name} passes: take it out of KNOWN.txt")),
            (Err(violation), None) => wrong.push(format!("{name}, event {number}: {violation}")),
        }
    }
    let strangers = known.scenarios.keys().filter(|name| !scripts.contains_key(*name));
    wrong.extend(strangers.map(|name| format!("KNOWN.txt: there is no scenario {name}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_script_gives_the_same_run_each_time() {
    for (name, script) in scripts() {
        let run = || {
            let (world, number, outcome) = replay(&script, &[], true);
            (number, outcome, world.counts(), world.captured().map(|capture| capture.frames()))
        };
        assert!(run() == run(), "{name}");
    }
}
