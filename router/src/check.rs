//! Reading a configuration and judging all of it, scheduler modules included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use uvs_check::program::may_change_user;
use uvs_config::{Config, Location, Module, Modules, Problem, Problems};
use uvs_director::spec::SchedulerSpec;
use uvs_plugin::{Catalogue, Definition, Fault, Host, Limits, Mode, Policy, Schedulers, TrialSpec};

use crate::memory;

/// Where the configuration is, unless the command line says otherwise.
pub(crate) const CONFIG: &str = "/etc/uvs/uvs.toml";

/// Exit status for a configuration that is wrong.
pub const STATUS_WRONG: u8 = 2;

/// `uvs check`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs check                                  is /etc/uvs/uvs.toml right, with all that it includes?
  uvs check edge.toml                        is this one?
  uvs import keepalived FILE | uvs check -   is what comes out of another program?

Exit status: 0 it can be applied (warnings are on standard error), 2 it cannot, 1 it could not be judged.")]
pub struct CheckArgs {
    /// The configuration; - is standard input
    #[arg(value_name = "FILE", default_value = CONFIG)]
    pub file: PathBuf,
}

/// Judges a configuration, for `uvs check`.
///
/// # Errors
/// The wasm engine does not start.
pub fn run(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (config, modules) = match arguments.file.as_os_str() == "-" {
        true => with_modules(Config::load_standard_input()),
        false => read(&arguments.file),
    };
    let schedulers = schedulers(&modules)?;
    Ok(match config.and_then(|config| judge(config, &schedulers)) {
        Ok(Judged { config, .. }) => {
            for warning in warnings(&config, memory::Memory::find().as_ref()) {
                eprintln!("{warning}");
            }
            println!("{}: ok, {}", config.file.display(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&problems),
    })
}

/// What there is to warn of before a configuration is used, many of a kind together.
pub fn warnings(config: &Config, memory: Option<&memory::Memory>) -> Vec<String> {
    let mut all = config.warnings.clone();
    all.extend(memory::warning(config, memory));
    uvs_config::told(&all)
}

/// Prints what is wrong and how many errors that were; the exit status that goes with it.
pub fn refuse(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    let errors = problems.iter().filter(|problem| problem.severity == uvs_config::Severity::Error).count();
    eprintln!("{errors} {}", if errors == 1 { "error" } else { "errors" });
    ExitCode::from(STATUS_WRONG)
}

/// Reads a configuration, and tells how it wants modules looked after; the defaults where it cannot be read, for then
/// it will be refused in a moment anyway. Read once: a file may be a pipe, which gives its content no second time.
pub fn read(path: &Path) -> (Result<Config, Problems>, Modules) {
    with_modules(Config::load(path))
}

fn with_modules(config: Result<Config, Problems>) -> (Result<Config, Problems>, Modules) {
    let modules = config.as_ref().map(|config| config.modules.clone()).unwrap_or_default();
    (config, modules)
}

/// The shipped schedulers, with the default bounds on modules but for what the configuration may change.
///
/// # Errors
/// The wasm engine does not start on this machine.
pub fn schedulers(modules: &Modules) -> anyhow::Result<Schedulers> {
    let policy = Policy {
        module_bytes: modules.size_limit,
        compile_time: std::time::Duration::from_secs(modules.compile_time.into()),
        compile_bytes: (modules.compile_mib as usize) << 20,
        failures: modules.failures,
        window: std::time::Duration::from_secs(modules.failure_window.into()),
        ..Policy::default()
    };
    let host = Host::new(policy).map_err(anyhow::Error::msg)?;
    Ok(Schedulers::new(host))
}

/// A configuration that can be applied, and what it says of schedulers.
#[derive(Debug)]
pub struct Judged {
    /// The configuration.
    pub config: Config,
    /// For [`Schedulers::accept`].
    pub catalogue: Catalogue,
}

/// Why this process cannot run the programs of a configuration, if it names other users and this is not root.
pub fn cannot_change_user(config: &Config) -> Option<String> {
    use uvs_check::spec::Kind;

    let of_checks = config.checks.iter().filter_map(|check| match &check.kind {
        Kind::Exec(exec) => Some(("check", &check.name, exec.user.as_ref()?)),
        _ => None,
    });
    let of_notify = config.notify.iter().filter_map(|it| Some(("notify", &it.name, it.user.as_ref()?)));
    let of_scripts =
        config.vrrp.scripts.iter().filter_map(|it| Some(("vrrp_script", &it.name, it.user.as_ref()?)));
    let mut others = of_checks.chain(of_notify).chain(of_scripts).filter(|(.., user)| !user.is_own());
    let (what, name, user) = others.next().filter(|_| !may_change_user())?;
    Some(format!(
        "{what} {name:?} is run as user {}, which takes root with CAP_SETUID and CAP_SETGID: run uvs so, or remove \
         user. (In a unit of systemd: User=root and CapabilityBoundingSet=CAP_SETUID CAP_SETGID by systemctl edit uvs)",
        user.name
    ))
}

/// Reads a configuration file (no pipe: the director that runs waits for nobody), and tries the module of each
/// scheduler and the options of each service. Compiles modules, and changes nothing else.
///
/// # Errors
/// All problems at once, as far as one does not hide another.
pub fn load(path: &Path, schedulers: &Schedulers) -> Result<Judged, Problems> {
    judge(Config::load_regular(path)?, schedulers)
}

/// What [`load`] does once the file is read.
///
/// # Errors
/// As [`load`].
pub fn judge(config: Config, schedulers: &Schedulers) -> Result<Judged, Problems> {
    let catalogue = catalogue(&config).map_err(|sentence| {
        Problem::of_file(&config.file, sentence, "correct the schedulers that the configuration names")
    })?;
    let problems = check_schedulers(&config, &catalogue, schedulers);
    if problems.is_empty() { Ok(Judged { config, catalogue }) } else { Err(Problems(problems)) }
}

/// What `config` says of schedulers.
///
/// # Errors
/// A sentence: a fallback that does not exist.
fn catalogue(config: &Config) -> Result<Catalogue, String> {
    let definitions: BTreeMap<String, Definition> = config
        .schedulers
        .iter()
        .map(|scheduler| {
            let Module { path, fallback, module_mib, fuel } = scheduler.module.clone();
            let options = scheduler.options.clone();
            let limits = Limits { module_mib, fuel };
            let definition = Definition { path, options, fallback, limits, sha256: scheduler.sha256 };
            (scheduler.name.clone(), definition)
        })
        .collect();
    let trials = config.services.iter().filter_map(|service| {
        let trial = service.trial.as_ref()?;
        let mode = trial.percent.map_or(Mode::Shadow, |percent| Mode::Canary { percent });
        Some((service.spec.key.to_string(), TrialSpec { scheduler: trial.scheduler.clone(), mode }))
    });
    let catalogue = Catalogue::new(definitions)?;
    Ok(catalogue.with_trials(trials.collect()).with_compat_ipvs(config.options.compat_ipvs))
}

/// Each module is judged where it is named, and once; then the options each service gives.
fn check_schedulers(config: &Config, catalogue: &Catalogue, schedulers: &Schedulers) -> Vec<Problem> {
    let check_one =
        |spec: &SchedulerSpec, location| check_one(config, (catalogue, schedulers), spec, location);
    let mut problems = Vec::new();
    let mut tried: BTreeSet<(String, String)> = BTreeSet::new();
    let mut broken: BTreeSet<String> = BTreeSet::new();
    for scheduler in &config.schedulers {
        let spec = SchedulerSpec::named(&scheduler.name);
        if let Some(problem) = check_one(&spec, &scheduler.location) {
            problems.push(problem);
            broken.insert(scheduler.name.clone());
        }
        tried.insert((spec.name, spec.options));
    }
    for service in &config.services {
        let spec = &service.spec.scheduler;
        if broken.contains(&spec.name) || !tried.insert((spec.name.clone(), spec.options.clone())) {
            continue;
        }
        problems.extend(check_one(spec, &service.scheduler_location));
    }
    for trial in config.services.iter().filter_map(|service| service.trial.as_ref()) {
        let spec = SchedulerSpec::named(&trial.scheduler);
        if broken.contains(&spec.name) || !tried.insert((spec.name.clone(), spec.options.clone())) {
            continue;
        }
        problems.extend(check_one(&spec, &trial.location));
    }
    problems
}

fn check_one(
    config: &Config,
    (catalogue, schedulers): (&Catalogue, &Schedulers),
    spec: &SchedulerSpec,
    location: &Location,
) -> Option<Problem> {
    let refusal = schedulers.check(catalogue, spec).err()?;
    Some(match refusal.fault {
        Some(Fault { what, fix }) => config.problem(location, format!("scheduler module {what}"), fix),
        None => config.problem(location, refusal.reason, "correct the options, or use another scheduler"),
    })
}

/// What is in a configuration, in a few words.
pub fn summary(config: &Config) -> String {
    let destinations = config.services.iter().map(|service| service.destinations.len()).sum();
    let mut words = vec![
        count(config.interfaces.len(), "interface"),
        count(config.services.len(), "service"),
        count(destinations, "destination"),
        count(config.schedulers.len(), "scheduler module"),
    ];
    if config.files.len() > 1 {
        words.push(count(config.files.len(), "file"));
    }
    words.join(", ")
}

/// As in "1 service" and "2 services".
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use uvs_plugin::Compiler;

    use super::*;

    /// To compile takes seconds: a module that is refused is not compiled again to say why.
    #[test]
    fn a_refused_module_is_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let (module, runs) = (folder.path().join("mine.wasm"), folder.path().join("runs"));
        std::fs::write(&module, wat::parse_str("(component)").unwrap()).unwrap();
        let line = format!("echo run >> {}; exit 1", runs.display());
        let host = Host::new(Policy::default()).unwrap();
        let schedulers =
            Schedulers::new(host.compiling_with(Compiler::new("/bin/sh", ["-c".into(), line.into()])));
        let text = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n[[service]]\n\
                    protocol = 'tcp'\naddress = '192.0.2.10:80'\nscheduler = 'mine.wasm'\n";
        let config = Config::parse(text, folder.path().join("edge.toml")).unwrap();
        let Problems(problems) = judge(config, &schedulers).unwrap_err();
        assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
        let told = problems[0].to_string();
        assert!(
            told.starts_with("error: scheduler module ") && told.contains("cannot be compiled"),
            "{told}"
        );
        assert!(told.contains("fix:   uvs starts itself") && problems.len() == 1, "{told}");
    }
}
