//! What the example of each SDK costs: bytes, time to compile, ns and fuel per pick. `cargo xtask sdk --figures` runs
//! it.
//!
//! Each pick is of a client nobody knows yet, so that all destinations are looked at; medians of 15 rounds.

#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use core::net::Ipv4Addr;
use core::time::Duration;

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler};
use uvs_director::spec::Protocol;
use uvs_tests::sdk::languages;

/// A connection of client `n`.
fn flow(n: u32) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: Ipv4Addr::from_bits(0x0a00_0000 + n).into(),
        client_port: 1024,
        virtual_addr: Ipv4Addr::new(192, 0, 2, 1).into(),
        virtual_port: 80,
        mark: 0,
    }
}

fn main() {
    let Some(languages) = languages() else { return };
    println!("language, bytes, compile in ms, ns per pick at 10, at 100, fuel at 10, at 100");
    for language in &languages {
        let mut row =
            format!("{}, {}, {}", language.name, language.module.bytes(), language.compile.as_millis());
        let mut fuels = String::new();
        for count in [10, 100] {
            let set: Vec<_> = (0..count)
                .map(|id| Candidate {
                    id,
                    weight: 1 + id % 3,
                    address: Ipv4Addr::from_bits(0xc0a8_0000 + id).into(),
                    port: 80,
                    load: Load::default(),
                })
                .collect();
            let mut plugin = language.start(&set);
            let mut medians = Vec::new();
            for round in 0..15u32 {
                let picks = if language.compile > Duration::from_secs(1) { 200 } else { 20_000 };
                let start = std::time::Instant::now();
                for n in 0..picks {
                    // One destination's load comes with each pick, as when each connection counts.
                    let changed = [(n % count, Load { active: (n * 7 + round) % 90, ..Load::default() })];
                    let pick = plugin.schedule(
                        &flow(round * picks + n),
                        &changed,
                        Instant::ZERO + Duration::from_millis(u64::from(n)),
                    );
                    assert!(pick.is_some());
                }
                medians.push(start.elapsed().as_nanos() / u128::from(picks));
            }
            medians.sort_unstable();
            row += &format!(", {}", medians[medians.len() / 2]);
            fuels += &format!(", {}", plugin.fuel_used().unwrap());
            language.check(&plugin);
        }
        println!("{row}{fuels}");
    }
}
