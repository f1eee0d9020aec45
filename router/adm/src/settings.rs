//! `--sysctl`: what the kernel has under `/proc/sys/net/ipv4/vs`, by the same names, and the director's own.
//!
//! Not of ipvsadm: there it is `sysctl`'s work. The option's name is none of ipvsadm's.

use std::fmt::Write as _;

use uvs_director::Duration;
use uvs_director::spec::{Options, Timeouts};

use crate::command::Failure;

/// The word that stands first on the command line.
pub(crate) const OPTION: &str = "--sysctl";

/// The kernel's settings.
const KERNEL: &str = "net.ipv4.vs.";
/// Those that the kernel does not have, or not there.
const OWN: &str = "uvs.";

/// Everything that can be set, together: it is changed whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) options: Options,
    pub(crate) timeouts: Timeouts,
}

/// One setting. Values are numbers, as in the kernel; 0 and 1 where it is a switch.
pub struct Setting {
    prefix: &'static str,
    name: &'static str,
    min: u32,
    max: u32,
    get: fn(&Settings) -> u32,
    set: fn(&mut Settings, u32),
}

impl Setting {
    /// Its whole name.
    fn full_name(&self) -> String {
        format!("{}{}", self.prefix, self.name)
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.prefix, self.name)
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.full_name() == other.full_name()
    }
}

impl Eq for Setting {}

const fn switch(
    prefix: &'static str,
    name: &'static str,
    get: fn(&Settings) -> u32,
    set: fn(&mut Settings, u32),
) -> Setting {
    Setting { prefix, name, min: 0, max: 1, get, set }
}

macro_rules! switches {
    ($prefix:ident: $name:ident) => {
        switch(
            $prefix,
            stringify!($name),
            |settings| settings.options.$name.into(),
            |settings, value| settings.options.$name = value != 0,
        )
    };
}

macro_rules! modes {
    ($name:ident) => {
        Setting {
            prefix: KERNEL,
            name: stringify!($name),
            min: 0,
            max: 3,
            get: |settings| settings.options.$name.into(),
            set: |settings, value| {
                settings.options.$name = u8::try_from(value).expect("the range was checked")
            },
        }
    };
}

macro_rules! timers {
    ($name:literal $field:ident) => {
        Setting {
            prefix: OWN,
            name: $name,
            min: 1,
            max: TIMEOUT_MAX,
            get: |settings| u32::try_from(settings.timeouts.$field.as_secs()).unwrap_or(u32::MAX),
            set: |settings, value| settings.timeouts.$field = Duration::from_secs(value.into()),
        }
    };
}

/// The largest timeout in seconds: the kernel keeps it in milliseconds in an `int`.
const TIMEOUT_MAX: u32 = 2_147_483;

/// In alphabetical order, the kernel's first.
const ALL: &[Setting] = &[
    Setting {
        prefix: KERNEL,
        name: "am_droprate",
        min: 1,
        max: i32::MAX.unsigned_abs(),
        get: |settings| settings.options.am_droprate,
        set: |settings, value| settings.options.am_droprate = value,
    },
    switches!(KERNEL: cache_bypass),
    modes!(conn_reuse_mode),
    modes!(drop_entry),
    modes!(drop_packet),
    switches!(KERNEL: expire_nodest_conn),
    switches!(KERNEL: expire_quiescent_template),
    switches!(KERNEL: ignore_tunneled),
    switches!(KERNEL: nat_icmp_send),
    switches!(KERNEL: pmtu_disc),
    switches!(KERNEL: schedule_icmp),
    modes!(secure_tcp),
    switches!(KERNEL: sloppy_sctp),
    switches!(KERNEL: sloppy_tcp),
    switches!(OWN: ftp),
    timers!("timeout_tcp" tcp),
    timers!("timeout_tcp_fin" tcp_fin),
    timers!("timeout_udp" udp),
];

/// Settings of the kernel that a director in userspace has no use for, with the reason.
const ABSENT: &[(&str, &str)] = &[
    ("amemthresh", "the director's tables are bounded, so that memory never runs short ([limits])"),
    ("backup_only", NO_SYNC),
    ("conn_lfactor", "its tables grow by themselves"),
    ("conn_max", "the bound is `connections` of [limits], which holds from the start on"),
    ("conntrack", "there is no second connection table that would have to agree"),
    ("debug_level", "the log is set with `uvs run --log`"),
    ("est_cpulist", "rates are estimated by its own timer"),
    ("est_nice", "rates are estimated by its own timer"),
    ("lblc_expiration", "give it to the scheduler, with `options` in the configuration"),
    ("lblcr_expiration", "give it to the scheduler, with `options` in the configuration"),
    ("run_estimation", "rates are always estimated"),
    ("snat_reroute", "replies take the director's own routes"),
    ("svc_lfactor", "its tables grow by themselves"),
    ("sync_persist_mode", NO_SYNC),
    ("sync_ports", NO_SYNC),
    ("sync_qlen_max", NO_SYNC),
    ("sync_refresh_period", NO_SYNC),
    ("sync_retries", NO_SYNC),
    ("sync_sock_size", NO_SYNC),
    ("sync_threshold", NO_SYNC),
    ("sync_version", NO_SYNC),
];

const NO_SYNC: &str = "connections are not synchronised with another director";

/// The settings of the words after `--sysctl`, to show or to set.
///
/// # Errors
/// An unknown name, a value out of range, the same name twice: exit status 2.
pub(crate) fn parse(words: &[&str]) -> Result<Vec<(&'static Setting, Option<u32>)>, Failure> {
    let mut settings: Vec<(&'static Setting, Option<u32>)> = Vec::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (*word, None),
        };
        let setting = find(name)?;
        if settings.iter().any(|(known, _)| *known == setting) {
            return Err(Failure::usage(format!("setting {} is given twice", setting.full_name())));
        }
        let value = value.map(|value| read(setting, value)).transpose()?;
        settings.push((setting, value));
    }
    if settings.is_empty() {
        settings.extend(ALL.iter().map(|setting| (setting, None)));
    }
    Ok(settings)
}

fn find(word: &str) -> Result<&'static Setting, Failure> {
    // As sysctl(8): slashes may stand for dots.
    let dotted = word.replace('/', ".");
    let found = ALL.iter().find(|setting| dotted == setting.name || dotted == setting.full_name());
    found.ok_or_else(|| {
        let name = dotted.strip_prefix(KERNEL).unwrap_or(&dotted);
        let why = match ABSENT.iter().find(|(absent, _)| *absent == name) {
            Some((_, why)) => format!("the kernel has it, a director in userspace does not: {why}"),
            None => {
                let names: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
                format!("there are {}", names.join(", "))
            }
        };
        Failure::usage(format!("no setting `{word}': {why}"))
    })
}

fn read(setting: &Setting, text: &str) -> Result<u32, Failure> {
    let value = text.parse().ok().filter(|value| (setting.min..=setting.max).contains(value));
    value.ok_or_else(|| {
        Failure::usage(format!(
            "invalid value `{text}' of {}: it takes {} to {}",
            setting.full_name(),
            setting.min,
            setting.max
        ))
    })
}

/// What becomes of the settings.
pub(crate) fn changed(mut settings: Settings, wanted: &[(&'static Setting, Option<u32>)]) -> Settings {
    for (setting, value) in wanted {
        if let Some(value) = value {
            (setting.set)(&mut settings, *value);
        }
    }
    settings
}

/// The settings that were named, as `sysctl` prints them.
pub(crate) fn show(settings: &Settings, named: &[(&'static Setting, Option<u32>)]) -> String {
    let mut text = String::new();
    for (setting, _) in named {
        writeln!(text, "{} = {}", setting.full_name(), (setting.get)(settings))
            .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: fn() -> Settings =
        || Settings { options: Options::default(), timeouts: Timeouts::default() };

    /// What was said is what is read again, and nothing else changes with it.
    #[test]
    fn each_setting_is_one_field() {
        for setting in ALL {
            let (before, name) = (DEFAULTS(), setting.full_name());
            for value in [setting.min, setting.max] {
                let word = format!("{name}={value}");
                let wanted = parse(&[&word]).unwrap();
                let after = changed(before, &wanted);
                assert_eq!(show(&after, &wanted), format!("{name} = {value}\n"));
                for other in ALL.iter().filter(|other| *other != setting) {
                    assert_eq!((other.get)(&after), (other.get)(&before), "{name} changes {other:?}");
                }
            }
        }
    }

    #[test]
    fn the_defaults_are_the_kernels() {
        let text = show(&DEFAULTS(), &parse(&[]).unwrap());
        for line in
            ["net.ipv4.vs.conn_reuse_mode = 1", "net.ipv4.vs.am_droprate = 10", "net.ipv4.vs.pmtu_disc = 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is in\n{text}");
        }
        assert_eq!(text.lines().filter(|line| !line.ends_with("= 0")).count(), 6, "{text}");
    }

    #[test]
    fn names_are_taken_as_sysctl_takes_them() {
        for word in ["sloppy_tcp", "net.ipv4.vs.sloppy_tcp", "net/ipv4/vs/sloppy_tcp"] {
            assert_eq!(parse(&[word]).unwrap()[0].0.name, "sloppy_tcp", "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases: &[(&[&str], &str)] = &[
            (&["sloppy_udp=1"], "no setting `sloppy_udp': there are am_droprate, cache_bypass"),
            (&["net.ipv4.vs.conntrack=1"], "no second connection table"),
            (&["sync_threshold"], "not synchronised"),
            (&["sloppy_tcp=2"], "invalid value `2' of net.ipv4.vs.sloppy_tcp: it takes 0 to 1"),
            (&["conn_reuse_mode=-1"], "it takes 0 to 3"),
            (&["am_droprate=0"], "it takes 1 to 2147483647"),
            (&["secure_tcp="], "invalid value `'"),
            (&["timeout_udp=9999999999"], "it takes 1 to 2147483"),
            (&["sloppy_tcp=1", "net.ipv4.vs.sloppy_tcp=0"], "given twice"),
            (&["-w", "sloppy_tcp=1"], "no setting `-w'"),
        ];
        for (words, part) in cases {
            let failure = parse(words).expect_err(part);
            assert!(failure.message.contains(part), "{words:?}: {failure}");
            assert_eq!(failure.exit_code, 2, "{words:?}");
        }
    }

    #[test]
    fn what_is_absent_is_not_there() {
        for (name, _) in ABSENT {
            assert!(ALL.iter().all(|setting| setting.name != *name), "{name}");
        }
    }
}
