//! Commands on a director.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use uvs_adm::{Output, format, run};
use uvs_director::scheduler::{Candidate, Flow, Load, NativeOnly, Scheduler, SchedulerFactory};
use uvs_director::spec::{Change, Limits, Options, Protocol, SchedulerSpec, ServiceKey, ServiceSpec};
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

#[test]
fn an_edit_keeps_what_ipvsadm_has_no_word_for() {
    let director = director();
    let key = ServiceKey::new(Protocol::Tcp, "192.0.2.10:80".parse().unwrap());
    let spec = ServiceSpec { sloppy_tcp: true, ..ServiceSpec::new(key, SchedulerSpec::named("wlc")) };
    director.apply(Change::AddService(spec), Instant::ZERO).unwrap();
    assert_eq!(adm(&director, "-E -t 192.0.2.10:80 -s wlc -p 60").code, 0);
    let spec = director.service_view(&key).unwrap().spec;
    assert!(spec.sloppy_tcp && spec.persistence.is_some(), "{spec:?}");
    assert_eq!(adm(&director, "-D -t 192.0.2.10:80").code, 0);
    assert_eq!(adm(&director, "-A -t 192.0.2.10:80").code, 0);
    assert!(!director.is_sloppy(&key), "a new one has it not");
}

#[test]
fn rules_come_to_the_same_together_as_one_by_one() {
    let rules = "-A -t 192.0.2.10:80 -s wlc\n\
                 -a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 3\n\
                 -a -t 192.0.2.10:80 -r 10.0.0.2:80 -m\n\
                 # the same again\n\
                 -a -t 192.0.2.10:80 -r 10.0.0.1:80 -g\n\
                 -a -t 192.0.2.11:80 -r 10.0.0.1:80 -g\n\
                 -a -t 192.0.2.10:80 -r 10.0.0.3:80 -g -x 1 -y 2\n\
                 -A -u 192.0.2.10:53 -s wlc\n\
                 -a -u 192.0.2.10:53 -r 10.0.0.2:53 -i\n\
                 -a -t 192.0.2.10:80 -r 10.0.0.4:80 -g\n\
                 -a -u 192.0.2.10:53 -r 10.0.0.5:53 -g\n\
                 -D -u 192.0.2.10:53\n\
                 -a -u 192.0.2.10:53 -r 10.0.0.6:53 -g\n";
    let (together, single) = (director(), director());
    let restored = run(&["-R"], rules, &together, Instant::ZERO);
    let mut all = Output::default();
    for line in rules.lines().filter(|line| !line.starts_with('#')) {
        let one = adm(&single, line);
        all = Output { stderr: all.stderr + &one.stderr, code: one.code, ..all };
    }
    assert_eq!((restored.stderr, restored.code), (all.stderr, all.code));
    let listed = |director: &Director| format::services(&director.services());
    assert_eq!(listed(&together), listed(&single));
    assert!(listed(&together).contains("10.0.0.4:80"), "{}", listed(&together));
}

/// Counts how many destinations a scheduler is told of.
struct Counting(Arc<AtomicUsize>);

impl SchedulerFactory for Counting {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Scheduler for Counting {
    fn update(&mut self, candidates: &[Candidate]) {
        self.0.fetch_add(candidates.len(), Relaxed);
    }

    fn schedule(&mut self, _: &Flow, _: &[(u32, Load)], _: Instant) -> Option<u32> {
        None
    }
}

#[test]
fn a_scheduler_is_not_told_of_all_destinations_for_each_that_comes() {
    let told = Arc::<AtomicUsize>::default();
    let director = Director::new(Limits::default(), 1, Arc::new(Counting(Arc::clone(&told))));
    let line = |n: usize| format!("-a -t 192.0.2.10:80 -r 10.0.{}.{}:80 -g\n", n / 250, n % 250 + 1);
    let rules: String =
        ["-A -t 192.0.2.10:80\n".to_owned()].into_iter().chain((0..10_000).map(line)).collect();
    let output = run(&["-R"], &rules, &director, Instant::ZERO);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(director.services()[0].destinations.len(), 10_000);
    let told = told.load(Relaxed);
    assert!(told >= 10_000, "of all of them in the end");
    assert!(told <= 20 * 10_000, "{told} in all, for 10,000");
}
