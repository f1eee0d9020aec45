//! Commands on a director.

use std::sync::Arc;

use uvs_adm::{Output, format, run};
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{Change, Limits, Options};
use uvs_director::{Director, Instant};

fn director() -> Director {
    Director::new(Limits::default(), 1, Arc::new(NativeOnly))
}

fn adm(director: &Director, line: &str) -> Output {
    let words: Vec<&str> = line.split(' ').collect();
    run(&words, "", director, Instant::ZERO)
}

#[test]
fn a_persistence_engine_that_would_do_nothing_is_refused() {
    let director = director();
    for line in ["-A -u 192.0.2.10:5060 --pe sip -p 60", "-A -t 192.0.2.10:5060 --pe sip -p 60"] {
        let output = adm(&director, line);
        assert_eq!(output.code, 255, "{line}");
        assert!(
            output.stderr.contains("sip is not built") && output.stderr.contains("leave --pe out"),
            "{output:?}"
        );
    }
    assert_eq!(adm(&director, "-A -u 192.0.2.10:5060 -p 60").code, 0);
    assert_eq!(adm(&director, "-E -u 192.0.2.10:5060 --pe sip -p 60").code, 255);
    assert!(!format::services(&director.services()).contains("sip"));

    let options = Options { compat_ipvs: true, ..Options::default() };
    director.apply(Change::SetOptions(options), Instant::ZERO).unwrap();
    assert_eq!(adm(&director, "-E -u 192.0.2.10:5060 --pe sip -p 60").code, 0, "as the kernel");
}
