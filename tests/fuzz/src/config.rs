//! A config file.
//!
//! What holds: nothing panics; every problem lies inside the text and says what to do; a valid config differs from
//! itself in nothing, and a new director takes all of it.

use std::sync::Arc;

use uvs_config::{Config, Problem, Severity};
use uvs_director::scheduler::{Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::SchedulerSpec;
use uvs_director::{Director, Instant};

/// Runs one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // A folder that is not there: modules named by a relative path are then missing.
    match Config::parse(&text, "nowhere/fuzz.toml") {
        Ok(config) => valid(&text, &config),
        Err(problems) => {
            assert!(
                problems.iter().any(|problem| problem.severity == Severity::Error),
                "an error is among them"
            );
            problems.iter().for_each(|problem| inside(&text, problem));
        }
    }
}

fn inside(text: &str, problem: &Problem) {
    // A file that ends with a line feed has an end behind its last line.
    let lines = 1 + text.matches('\n').count();
    if let Some(line) = problem.line {
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        if let Some(column) = problem.column {
            let width = text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count());
            assert!((1..=width + 1).contains(&column), "column {column} of {width}: {problem}");
        }
    }
    assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "what and how to fix: {problem}");
}

fn valid(text: &str, config: &Config) {
    config.warnings.iter().for_each(|warning| inside(text, warning));
    assert!(Config::diff(Some(config), config).is_empty(), "a config is what it is");
    let director = Director::new(config.limits, 1, Arc::new(Any));
    for change in Config::diff(None, config) {
        let shown = format!("{change:?}");
        if let Err(error) = director.apply(change, Instant::ZERO) {
            panic!("a valid config is refused: {error}\n  {shown}");
        }
    }
    let services = director.services();
    assert_eq!(services.len(), config.services.len(), "all services are there");
    for service in &config.services {
        let view =
            services.iter().find(|view| view.spec.key == service.spec.key).expect("the service is there");
        assert_eq!(view.spec, service.spec, "as it was configured");
        assert_eq!(view.destinations.len(), service.destinations.len(), "all destinations are there");
    }
    assert_eq!(
        (director.timeouts(), director.options()),
        (config.timeouts, config.options),
        "settings are in force"
    );
}

/// Takes every scheduler: which modules there are is not the config's.
struct Any;

impl SchedulerFactory for Any {
    fn create(&self, _: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        Ok(Box::new(Wlc::default()))
    }
}
