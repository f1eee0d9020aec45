//! The example of the SDKs in all languages that were built, at work in `uvs run`.

use std::path::PathBuf;

use uvs_lab::topology::{Method, Plan};

use crate::peer::Talk;
use crate::stage::{Stage, turn};

#[test]
fn the_example_of_each_sdk_keeps_clients_where_they_are() {
    let Some(_turn) = turn() else { return };
    let Some(folder) = std::env::var_os("UVS_SDK_MODULES").map(PathBuf::from) else {
        println!("skipped: needs the examples of the SDKs, which `cargo xtask sdk` builds");
        return;
    };
    let mut modules: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    modules.retain(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    modules.sort();
    assert!(!modules.is_empty(), "{} holds no module", folder.display());
    for module in modules {
        let language = module.file_stem().unwrap().to_str().unwrap();
        let scheduler = module.to_str().unwrap().to_owned();
        let plan = Plan { clients: 3, real_servers: 3, scheduler, ..Plan::default() };
        let mut stage = Stage::with(Method::Nat, &plan);
        let service = stage.topology.service;
        let mut open = Vec::new();
        let mut homes = Vec::new();
        for round in 0..4 {
            for client in 0..plan.clients {
                let host = &stage.topology.clients[client].host;
                let mut talk = host.run(|| Talk::open(service)).unwrap().unwrap();
                talk.say(b"who are you?").unwrap();
                let server = talk.server.clone();
                open.push(talk);
                if round == 0 {
                    assert!(
                        !homes.contains(&server),
                        "{language}: {server} has fewer connections than others"
                    );
                    homes.push(server);
                    // The first client comes three times at once: by connections alone its server would be the last
                    // choice.
                    for _ in 0..if client == 0 { 2 } else { 0 } {
                        open.push(
                            stage.topology.clients[0].host.run(|| Talk::open(service)).unwrap().unwrap(),
                        );
                    }
                } else {
                    assert_eq!(server, homes[client], "{language}: client {client} stays, round {round}");
                }
            }
        }
        let shares = stage.shares();
        assert_eq!(shares.iter().sum::<usize>(), open.len(), "{language}");
        assert_eq!(shares.iter().max(), Some(&6), "{language}: {shares:?}");
        let service = format!("tcp {service}");
        let labels = [("service", service.as_str())];
        let mut read = |name: &str| stage.director().metric(name, &labels);
        assert_eq!(read("uvs_scheduler_failures_total"), 0, "{language}");
        assert_eq!(read("uvs_scheduler_fallbacks_total"), 0, "{language}");
        assert_eq!(read("uvs_service_scheduled_connections_total"), open.len() as u64, "{language}");
    }
}
