//! Command lines of ipvsadm, one a line, on a director.
//!
//! What holds: nothing panics; every listing can be printed; what `-S -n` prints restores a director that prints the
//! same.

use std::sync::Arc;

use uvs_adm::{Output, format, run as ipvsadm, split_words};
use uvs_director::spec::{Change, InterfaceSpec, Limits, Link, MacAddr, SourceCheck};
use uvs_director::{Director, Instant, PortId};

use crate::schedulers::Shipped;

/// Lines that are executed; more only cost time.
const LINES_MAX: usize = 64;
const NOW: Instant = Instant::from_secs(1);

/// Runs one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let director = director();
    for line in text.lines().take(LINES_MAX) {
        let output = execute(line, "", &director);
        assert!(output.code == 0 || !output.stderr.is_empty(), "{line:?} is refused without a word");
    }
    list(&director);
    let saved = execute("-S -n", "", &director);
    assert_eq!((saved.code, saved.stderr.as_str()), (0, ""), "rules can be saved");
    let restored = self::director();
    let output = execute("-R", &saved.stdout, &restored);
    assert_eq!(output, Output::default(), "what was saved is restored:\n{}", saved.stdout);
    let again = execute("-S -n", "", &restored);
    assert_eq!(again.stdout, saved.stdout, "what was restored is what was saved");
    // The whole text at once, as -R reads it: it stops at the first line it cannot parse.
    execute("-R", &text, &restored);
}

fn director() -> Director {
    let director = Director::new(Limits::default(), 1, Arc::new(Shipped));
    let addresses = ["10.0.0.1/24", "10.0.0.100/32", "fd00:1::1/64", "fd00:1::100/128"];
    let interfaces = vec![InterfaceSpec {
        port: PortId(0),
        name: "uvs0".to_owned(),
        link: Link::Ethernet(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        addresses: addresses.iter().map(|text| text.parse().expect("a prefix")).collect(),
        source_check: SourceCheck::Loose,
    }];
    director.apply(Change::SetNetwork { interfaces, routes: Vec::new() }, NOW).expect("a sound network");
    director
}

fn execute(line: &str, input: &str, director: &Director) -> Output {
    let words = split_words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = words.strip_prefix(&["ipvsadm"]).unwrap_or(&words);
    ipvsadm(words, input, director, NOW)
}

/// Prints everything there is.
fn list(director: &Director) {
    let listings =
        ["-Ln", "-L", "-Lnc", "-Lc", "--stats", "--rate", "--thresholds", "--persistent-conn", "--tun-info"];
    for listing in listings {
        let line = if listing.starts_with("--") { format!("-Ln {listing}") } else { listing.to_owned() };
        let output = execute(&line, "", director);
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{line}");
        assert!(output.stdout.ends_with('\n'), "{line} ends with a line feed");
    }
    for line in ["-L --timeout", "-L --daemon", "-S"] {
        assert_eq!(execute(line, "", director).code, 0, "{line}");
    }
    let (services, connections, status) = (director.services(), director.connections(NOW), director.status());
    let _ = format::proc_services(&services);
    let _ = (format::proc_connections(&connections), format::proc_connections_sync(&connections));
    let _ = (format::proc_stats(&status), format::proc_stats_percpu(&[status.total], &status));
}
