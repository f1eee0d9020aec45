//! Scheduler modules that break under load: their failures are counted, and no connection is lost.

use std::thread;

use uvs_lab::topology::{Method, Plan};

use crate::peer::Talk;
use crate::stage::{Stage, turn};

/// A scheduler whose `schedule` is these instructions.
pub(crate) fn module(schedule: &str) -> Vec<u8> {
    let text = include_str!("broken.wat").replace(";; SCHEDULE", schedule);
    wat::parse_str(text).expect("the test's component is well-formed")
}

#[test]
fn a_module_that_breaks_under_load_loses_no_connection() {
    let Some(_turn) = turn() else { return };
    let cases = [
        (
            "every third call traps",
            "trap",
            "(if (i32.eq (call $nth_call) (i32.const 3)) (then unreachable)) (call $pick (i32.const 0))",
        ),
        ("every call traps", "trap", "unreachable"),
        ("every call goes on for ever", "fuel", "(loop $for_ever (br $for_ever)) unreachable"),
        ("every pick is out of range", "out_of_range", "(call $pick (i32.const 77))"),
    ];
    for (what, cause, schedule) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broken.wasm");
        std::fs::write(&file, module(schedule)).unwrap();
        let plan = Plan { scheduler: file.to_str().unwrap().to_owned(), ..Plan::default() };
        let mut stage = Stage::with(Method::Nat, &plan);
        let service = stage.topology.service;
        let clients = 4;
        let each = 25;
        stage
            .client()
            .run(|| {
                thread::scope(|scope| {
                    for number in 0..clients {
                        scope.spawn(move || {
                            for turn in 0..each {
                                let mut talk = Talk::open(service)
                                    .unwrap_or_else(|error| panic!("{what}, {number}.{turn}: {error:#}"));
                                talk.say(&[number, turn]).unwrap();
                            }
                        });
                    }
                });
            })
            .unwrap();
        let connections = u64::from(clients) * u64::from(each);
        assert_eq!(stage.shares().iter().sum::<usize>() as u64, connections);
        let service = format!("tcp {service}");
        let mut read = |name: &str, labels: &[(&str, &str)]| {
            let labels = [&[("service", service.as_str())], labels].concat();
            stage.director().metric(name, &labels)
        };
        let failures = read("uvs_scheduler_failures_total", &[("cause", cause)]);
        let fallbacks = read("uvs_scheduler_fallbacks_total", &[]);
        assert!(failures >= 5, "{what}: {failures} failures do not even make for an ejection");
        assert_eq!(
            read("uvs_scheduler_failures_total", &[]),
            failures,
            "{what}: no failure has another cause"
        );
        assert!(fallbacks >= failures, "{what}: the fallback placed {fallbacks} for {failures} failures");
        assert!(read("uvs_scheduler_ejections_total", &[]) >= 1, "{what}: it is ejected");
        assert_eq!(read("uvs_service_scheduled_connections_total", &[]), connections, "{what}");
        let log = stage.director().get().log();
        assert!(log.contains("broken.wasm"), "{what}: the log names the module");
    }
}
