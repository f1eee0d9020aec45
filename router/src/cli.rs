//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::check::CONFIG;
use crate::logging::{self, LogFormat};
use crate::{check, client, control, demo, import, lab, manual, realserver};

/// Everything `uvs` can be told.
#[derive(Debug, Parser)]
#[command(name = "uvs", version, about = "LVS without the kernel module: an L4 director on TUN/TAP", long_about = LONG)]
#[command(after_help = EXAMPLES, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG: &str = "\
uvs (userspace virtual server) is LVS without the kernel module: a director that takes frames from TUN/TAP devices, \
forwards them to realservers by NAT, direct routing (DR) or IP tunnelling (TUN), tracks the connections itself, and asks \
a sandboxed WebAssembly module which realserver gets each new one.";

const EXAMPLES: &str = "\
Examples:
  uvs demo                            NAT, DR and TUN at work in network namespaces, in a minute
  uvs check edge.toml                 is the configuration right? (exit status 2 if not)
  uvs run --config edge.toml          be the director, until Ctrl-C or SIGTERM; SIGHUP reads the file again
  uvs plan; uvs reload                what would a changed file change? Put it in force
  uvs sched load SERVICE mine.wasm    another scheduler module for a service, while it serves
  uvs adm -Ln                         the services of the running director; all of ipvsadm's options work

Exit status: 0 done, 1 failed, 2 wrong usage or wrong configuration.";

/// One thing to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the director: forward clients of the virtual services to their realservers
    Run(RunArgs),
    /// Check a configuration, scheduler modules included, and list all that is wrong with it
    Check(check::CheckArgs),
    /// Show what a reload would change: services, destinations, old and new, and what becomes of connections
    Plan(client::plan::PlanArgs),
    /// Have the running director read its configuration again, and show what that changed
    Reload(client::plan::ReloadArgs),
    /// Take over a keepalived.conf or rules of ipvsadm: writes a configuration, and says what is different
    #[command(subcommand)]
    Import(import::Source),
    /// Show NAT, DR and TUN at work in network namespaces, and check every answer
    Demo(demo::Args),
    /// Make a practice ground in network namespaces and enter it: a shell for the how-tos
    Lab(lab::Args),
    /// Speak ipvsadm's language to the running director: list, add, change, remove, save, restore
    Adm(client::adm::Args),
    /// Show how the running director does: interfaces, services, schedulers, limits
    Status(client::status::Args),
    /// Watch the running director on the terminal: services, destinations, checks, schedulers, drops, events
    Top(client::top::Args),
    /// Find what is wrong with the host and the network of a director, with what to do
    Doctor(client::doctor::Args),
    /// Show what happens to checks, services, weights and the configuration, as it happens or since a while
    Events(client::events::Args),
    /// Probe a realserver now from the running director, straight or the way that clients' packets take
    Probe(client::probe::Args),
    /// VIPs told to routers by routes (`[announce]`): show them, withdraw them, announce them again
    #[command(subcommand)]
    Announce(client::announce::Command),
    /// Show the virtual routers of the running director (VRRP), hand them over, or have them take no part
    Ha(client::ha::Args),
    /// Let no new connections go to a realserver, and wait until those it has are over
    Drain(client::destination::DrainArgs),
    /// Let a realserver that is drained, or in maintenance, serve again
    Undrain(client::destination::UndrainArgs),
    /// Wait until a realserver is drained, or up: for scripts
    Wait(client::destination::WaitArgs),
    /// Explain a connection and why it is as it is, or what a client's next packet would meet; what a realserver weighs
    Explain(client::explain::Args),
    /// Show packets as they pass: what each was taken for, where it went, and why it was dropped
    Trace(client::trace::Args),
    /// Unwrap IP-in-IP packets on a realserver whose kernel cannot, as TUN forwarding needs it
    Realserver(realserver::Args),
    /// Write, try, measure and compare scheduler modules; load them into the running director
    #[command(subcommand)]
    Sched(Sched),
    /// Print the completions of a shell: bash, zsh, fish, elvish, powershell
    Completions(manual::CompletionsArgs),
    /// Write the man pages into a folder
    Man(manual::ManArgs),
    /// Print the versions of uvs, the scheduler contract and wasmtime
    Version,
    /// Compile the component on standard input for the uvs that started this
    #[command(name = COMPILE, hide = true)]
    Compile,
}

/// What makes uvs the compiler of another uvs: no command for people.
pub const COMPILE: &str = "compile-module";

/// `uvs sched`.
#[derive(Debug, Subcommand)]
pub enum Sched {
    /// For authors: offline, no rights needed.
    #[command(flatten)]
    Author(uvs_sched::Command),
    /// For operators: the modules of a running director.
    #[command(flatten)]
    Live(client::sched::Command),
}

/// `uvs run`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Signals:
  SIGHUP            read the configuration again; a wrong one is refused and the old one stays in force
  SIGTERM, SIGINT   stop, remove the devices, take back what was done to the host

It needs /dev/net/tun and CAP_NET_ADMIN in its network namespace, nothing else.")]
pub struct RunArgs {
    /// Interfaces, routes, schedulers and virtual services, in TOML
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
    /// Where to take the requests of uvs adm and uvs status; `none`: nowhere [default: what the configuration says,
    /// else /run/uvs/uvs.sock]
    #[arg(long, value_name = "PATH", value_parser = control::parse_where)]
    pub socket: Option<uvs_config::Socket>,
    /// What to log: off, error, warn, info, debug, trace, or MODULE=LEVEL, separated by commas
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = logging::parse_filter)]
    pub log: String,
    /// How a log line on stderr looks
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_its_options() {
        let run = |arguments: &[&str]| match Cli::try_parse_from(["uvs", "run"].iter().chain(arguments)) {
            Ok(Cli { command: Command::Run(run) }) => run,
            other => panic!("{arguments:?}: {other:?}"),
        };
        assert_eq!(
            run(&["--config", "a.toml"]),
            RunArgs {
                config: "a.toml".into(),
                socket: None,
                log: "info".to_owned(),
                log_format: LogFormat::Text
            },
            "defaults"
        );
        assert_eq!(run(&[]).config, PathBuf::from("/etc/uvs/uvs.toml"), "as a package has it");
        assert_eq!(
            run(&["-c", "a.toml", "--socket=/s", "--log", "warn,uvs_plugin=debug", "--log-format", "json"]),
            RunArgs {
                config: "a.toml".into(),
                socket: Some(uvs_config::Socket::At("/s".into())),
                log: "warn,uvs_plugin=debug".to_owned(),
                log_format: LogFormat::Json
            }
        );
    }

    #[test]
    fn wrong_usage_is_refused_with_status_2() {
        let cases: &[(&[&str], ErrorKind)] = &[
            (&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (&["walk"], ErrorKind::InvalidSubcommand),
            (&["run", "--config"], ErrorKind::InvalidValue),
            (&["run", "--config", "a", "--log", "loud"], ErrorKind::ValueValidation),
            (&["run", "--config", "a", "--log-format", "xml"], ErrorKind::InvalidValue),
            (&["man"], ErrorKind::MissingRequiredArgument),
            (&["completions", "tcsh"], ErrorKind::InvalidValue),
            (&["check", "a", "b"], ErrorKind::UnknownArgument),
            (&["version", "--short"], ErrorKind::UnknownArgument),
        ];
        for (arguments, kind) in cases {
            let error = Cli::try_parse_from(["uvs"].iter().chain(*arguments)).expect_err("it is wrong");
            assert_eq!(error.kind(), *kind, "{arguments:?}");
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }

    /// Lines of a paragraph are broken once, by the width of the terminal: a short one is its last.
    #[test]
    fn help_is_wrapped_once() {
        for width in [80, 100] {
            let mut command = Cli::command().term_width(width);
            let help = command.render_long_help().to_string();
            let about: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
            let (_, lines) = about.split_last().unwrap();
            assert!(lines.iter().all(|line| line.len() > width - 20 && line.len() <= width), "{help}");
            assert!(about.join(" ").ends_with("each new one."), "{help}");
            for command in command.get_subcommands_mut() {
                let help = command.clone().term_width(width).render_long_help().to_string();
                let long = help.lines().find(|line| line.len() > width && line.contains(' '));
                assert_eq!(long, None, "uvs {} at {width} columns", command.get_name());
            }
        }
    }

    #[test]
    fn help_speaks_of_directors_and_realservers() {
        let help = Cli::command().render_long_help().to_string();
        for word in ["director", "realserver", "NAT", "direct routing", "tunnelling", "uvs check"] {
            assert!(help.contains(word), "{word:?} is not in:\n{help}");
        }
    }
}
