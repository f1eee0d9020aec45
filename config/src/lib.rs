//! The typed configuration: parse, validate, diff.
//!
//! ```text
//!   file --> Config::load --> Config (parsed and valid) --> Config::diff --> Vec<Change> --> Director::apply
//!                `--> Problems: all at once, each with what, where and how to fix
//! ```
//!
//! ```
//! let config = uvs_config::Config::parse(
//!     r#"
//!     [[interface]]
//!     name = "uvs0"
//!     device = "tap"
//!     addresses = ["192.0.2.1/24"]
//!
//!     [[service]]
//!     protocol = "tcp"
//!     address = "192.0.2.10:80"
//!     forward = "nat"
//!     destination = [{ address = "192.0.2.21:8080" }, { address = "192.0.2.22:8080", weight = 2 }]
//!     "#,
//!     "edge.toml",
//! )?;
//! // The network, options, the service, two destinations.
//! assert_eq!(uvs_config::Config::diff(None, &config).len(), 5);
//! assert!(uvs_config::Config::diff(Some(&config), &config).is_empty());
//! # Ok::<(), uvs_config::Problems>(())
//! ```
//!
//! # The file
//! TOML; every key with unit, default and range is in `config/README.md`, and `config/examples/full.toml` uses
//! them all.
//!
//! # The diff
//! - The start is the diff from nothing: a director is expected to begin with the default timeouts and options
//!   and without network and services.
//! - The network comes first, so that services and destinations find their routes.
//! - What is equal is not mentioned, and a destination that differs in weight, forwarding or thresholds is edited in
//!   place: its connections stay. Destinations are added before others are removed.
//! - Services are added, then the mark rules set, then services removed: packets that move from one service to
//!   another find one of them at each step.
//! - A service is edited also when only the module behind its scheduler's name has changed.
//! - `SetNetwork` is expected to forget static neighbours: they are all set again after it, and it is sent
//!   again, unchanged, when one has to go.
//! - Limits, metrics and how devices are set up (bridge, direct attach, host side) are no changes of the director:
//!   the caller
//!   compares them.

mod address;
mod alike;
mod announce;
mod ask;
mod attach;
mod check;
mod command;
mod config;
mod control;
mod destination;
mod diff;
mod duration;
pub mod entries;
mod export;
mod file;
mod health;
mod http;
mod include;
mod local;
mod marks;
mod model;
mod modules;
mod network;
mod notify;
mod options;
mod plan;
mod problem;
mod read;
mod scheduler;
mod sense;
mod service;
mod settings;
mod suggest;
mod tls;
mod tunnel;
mod vrrp;
mod workers;
mod written;

pub use alike::told;
pub use control::{Control, Socket, parse_socket};
pub use duration::parse_duration;
pub use http::Http;
pub use model::{
    Accelerate, Announce, AnnounceWhile, Bridge, Check, CheckVia, Config, DEFAULT_FALLBACK,
    DEFAULT_SCHEDULER, DeviceIo, Direct, Health, Host, Interface, Kept, Local, Module, NATIVE, Neighbor,
    Notify, OffloadWish, Override, REFUSE, SHIPPED, Scheduler, Service, TrackScript, Tracked, TrackedWhat,
    Trial, Unset, Vrrp, Workers,
};
pub use modules::{Folder, Modules};
pub use notify::NOTIFY_EVENTS;
pub use options::{OptionValue, option_values};
pub use problem::{Location, Problem, Problems, Severity};
pub use suggest::nearest;
pub use vrrp::tracked_interface;
pub use written::{Words, Written};

#[cfg(test)]
mod tests {
    use crate::read::Keys;
    use crate::{
        announce, check, control, destination, health, http, local, marks, network, notify, read, scheduler,
        service, settings, tunnel, vrrp, workers,
    };

    #[test]
    fn the_reference_and_the_full_example_have_every_key() {
        let tables: [(&str, Keys); 30] = [
            ("", read::ROOT),
            ("[metrics]", settings::METRICS),
            ("[http]", http::HTTP),
            ("[control]", control::CONTROL),
            ("[limits]", settings::LIMITS),
            ("[timeouts]", settings::TIMEOUTS),
            ("[options]", settings::OPTIONS),
            ("[workers]", workers::WORKERS),
            ("[flow_cache]", settings::FLOW_CACHE),
            ("[host]", settings::HOST),
            ("[restart]", settings::RESTART),
            ("[local]", local::LOCAL),
            ("[[interface]]", network::INTERFACE),
            ("`bridge` plugs", network::BRIDGE),
            ("`host` is", network::HOST),
            ("[[route]]", network::ROUTE),
            ("[[neighbor]]", network::NEIGHBOR),
            ("[[scheduler]]", scheduler::SCHEDULER),
            ("[[mark]]", marks::MARK),
            ("[[check]]", check::CHECK),
            ("[[notify]]", notify::NOTIFY),
            ("[announce]", announce::ANNOUNCE),
            ("[[vrrp]]", vrrp::VRRP),
            ("`track` of", vrrp::TRACK),
            ("[[vrrp_script]]", vrrp::SCRIPT),
            ("[[service]]", service::SERVICE),
            ("`tunnel` says", tunnel::TUNNEL),
            ("[[service.destination]]", destination::DESTINATION),
            ("[service.health]", health::HEALTH),
            ("`check` of a destination", health::OVERRIDE),
        ];
        let (reference, full) = (include_str!("../README.md"), include_str!("../examples/full.toml"));
        let section = |title: &str| {
            let title = if title.starts_with('[') { format!("## `{title}`") } else { title.to_owned() };
            let start = reference.find(&title).unwrap_or_else(|| panic!("{title} is in the README"));
            let rest = &reference[start + title.len()..];
            let end = if title.is_empty() { None } else { rest.find("\n## ") };
            end.map_or(rest, |end| &rest[..end]).to_owned()
        };
        for (title, keys) in tables {
            for key in keys {
                let row = format!("\n| `{key}` |");
                let table = title.is_empty() && section(title).contains(&format!("[{key}]"));
                assert!(table || section(title).contains(&row), "{title} {key} is in the README");
                let word = |word: &str| word == *key;
                let letters = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
                // A key whose value nobody can guess stands in a comment.
                let set = |line: &'static str| {
                    line.strip_prefix("# ").filter(|key| key.contains(" = ")).unwrap_or(line)
                };
                let used = full.lines().map(|line| set(line).split('#').next().unwrap_or(""));
                assert!(used.flat_map(|line| line.split(letters)).any(word), "{title} {key} is in full.toml");
            }
        }
    }

    #[test]
    fn what_stands_in_for_a_module_is_native_and_what_is_native_is_shipped() {
        assert!(crate::NATIVE.contains(&crate::DEFAULT_FALLBACK));
        assert!(crate::NATIVE.iter().all(|native| crate::SHIPPED.contains(native)));
        assert!(crate::SHIPPED.contains(&crate::DEFAULT_SCHEDULER));
    }
}
