//! From a [`Command`] to changes and listings.

use uvs_director::spec::{Change, DestinationSpec, ServiceKey, Timeouts};
use uvs_director::view::ConnectionView;
use uvs_director::{ApplyError, Director, Instant};

use crate::command::{Command, Failure, Output};
use crate::format;
use crate::parse::{parse, try_help};
use crate::settings::{self, Setting, Settings};

pub(crate) const SCHEDULER_NOT_FOUND: &str = "Scheduler or persistence engine not found";
/// The recorded kernel takes it, so under `compat = "ipvs"` it is listed as there.
const NO_ENGINE: &str = "Persistence engine sip is not built into uvs: clients would stick by address, not by Call-ID; leave \
                         --pe out if that will do";
const NO_SUCH_SERVICE: &str = "No such service";

/// Parses and executes: what a shell would see of `ipvsadm ARGS <INPUT`.
pub fn run(args: &[&str], input: &str, director: &Director, now: Instant) -> Output {
    match parse(args) {
        Ok(command) => execute(&command, input, director, now),
        Err(failure) => failure.into(),
    }
}

/// Executes a command. `input` is standard input, which only `-R` reads.
pub fn execute(command: &Command, input: &str, director: &Director, now: Instant) -> Output {
    match command {
        Command::Change(change) => apply(change.clone(), director, now),
        Command::SetTimeouts { tcp, tcp_fin, udp } => {
            let old = director.timeouts();
            let timeouts = Timeouts {
                tcp: tcp.unwrap_or(old.tcp),
                tcp_fin: tcp_fin.unwrap_or(old.tcp_fin),
                udp: udp.unwrap_or(old.udp),
            };
            apply(Change::SetTimeouts(timeouts), director, now)
        }
        Command::List { service: None, layout } => {
            Output::text(format::services_as(&director.services(), *layout))
        }
        Command::List { service: Some(key), layout } => match director.service_view(key) {
            Some(service) => Output::text(format::service_as(&service, *layout)),
            None => Failure { message: NO_SUCH_SERVICE.to_owned(), exit_code: 1 }.into(),
        },
        Command::ListConnections { numeric, persistent_conn } => {
            let mut all = String::new();
            list_connections(director, now, *numeric, *persistent_conn, &mut |text| {
                all.push_str(&text);
                true
            });
            Output::text(all)
        }
        Command::ListTimeouts => Output::text(format::timeouts(director.timeouts())),
        // No daemon can be started, so none runs.
        Command::ListDaemons => Output::text(format::daemons(&[])),
        Command::Save(layout) => Output::text(format::services_as(&director.services(), *layout)),
        Command::Restore => restore(input, director, now),
        Command::StartDaemon(daemon) => Failure::minus_one(format!(
            "this director has no {} sync daemon: connections are not synchronised",
            daemon.role
        ))
        .into(),
        Command::StopDaemon(_) => Failure::minus_one("No daemon is running").into(),
        Command::Settings(settings) => set(settings, director, now),
        Command::Help => Output::text(format::usage()),
        Command::Version => Output::text(format::version()),
    }
}

/// Shows settings, and changes those that have a value before: all of them or none.
fn set(named: &[(&'static Setting, Option<u32>)], director: &Director, now: Instant) -> Output {
    let before = Settings { options: director.options(), timeouts: director.timeouts() };
    let after = settings::changed(before, named);
    if after.options != before.options {
        let output = apply(Change::SetOptions(after.options), director, now);
        if output.code != 0 {
            return output;
        }
    }
    if after.timeouts != before.timeouts {
        let output = apply(Change::SetTimeouts(after.timeouts), director, now);
        if output.code != 0 {
            // Options were valid a moment ago.
            let _ = apply(Change::SetOptions(before.options), director, now);
            return output;
        }
    }
    Output::text(settings::show(&after, named))
}

/// So many connections are listed in order; of more there is none in the kernel's list either.
const SORTED_MAX: usize = 32_768;
/// Connections whose lines are written in one go, some 80 bytes each.
const PART: usize = 512;

/// Writes what `-Lc` prints, part by part, until `take` returns false; whether it took all. Nothing is locked while it
/// has a part, and of a large table only a 64th is held.
pub fn list_connections(
    director: &Director,
    now: Instant,
    numeric: bool,
    persistent_conn: bool,
    take: &mut dyn FnMut(String) -> bool,
) -> bool {
    let mut wanted = take(format::connections_heading(persistent_conn));
    let mut write = |connections: &mut [ConnectionView]| {
        sort_connections(connections);
        wanted = wanted
            && connections.chunks(PART).all(|part| {
                let mut text = String::new();
                format::push_connections(&mut text, part, numeric);
                take(text)
            });
        wanted
    };
    if director.connection_count() <= SORTED_MAX {
        write(&mut director.connections(now));
    } else {
        director.connections_in_parts(now, |mut part| write(&mut part));
    }
    wanted
}

/// The engine lists connections in no order; people like the same one each time.
fn sort_connections(connections: &mut [ConnectionView]) {
    connections.sort_by_key(|connection| (connection.protocol, connection.virtual_addr, connection.client));
}

/// Does one change and words a refusal as libipvs does.
fn apply(mut change: Change, director: &Director, now: Instant) -> Output {
    let verb = Refused::by(&change);
    if let Change::EditService(spec) = &mut change {
        // ipvsadm has no word for it, so that an edit leaves it as it is.
        spec.sloppy_tcp = director.is_sloppy(&spec.key);
    }
    if let Change::AddDestination(key, spec) | Change::EditDestination(key, spec) = &change {
        // The kernel looks for the service first, then at the numbers, then for the destination.
        if !is_in_range(spec) && director.service_set().contains(key) {
            return Failure::minus_one("Numerical result out of range").into();
        }
    }
    if let Change::AddService(spec) | Change::EditService(spec) = &change
        && spec.persistence.is_some_and(|persistence| persistence.engine.is_some())
        && !director.options().compat_ipvs
    {
        return Failure::minus_one(NO_ENGINE).into();
    }
    match director.apply(change, now) {
        Ok(()) => Output::default(),
        Err(error) => verb.word(&error).into(),
    }
}

/// Which kind of change was refused; the same fact has another text in each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    Service,
    Destination,
}

impl Refused {
    const fn by(change: &Change) -> Self {
        match change {
            Change::AddDestination(..) | Change::EditDestination(..) | Change::RemoveDestination(..) => {
                Self::Destination
            }
            _ => Self::Service,
        }
    }

    fn word(self, error: &ApplyError) -> Failure {
        Failure::minus_one(match error {
            ApplyError::ServiceExists(_) => "Service already exists".to_owned(),
            ApplyError::NoSuchService(_) if self == Self::Destination => "Service not defined".to_owned(),
            ApplyError::NoSuchService(_) => NO_SUCH_SERVICE.to_owned(),
            ApplyError::DestinationExists(..) => "Destination already exists".to_owned(),
            ApplyError::NoSuchDestination(..) => "No such destination".to_owned(),
            // ipvsadm knows no modules in files: what is wrong with one is said in full.
            ApplyError::Scheduler { name, reason } if name.ends_with(".wasm") => reason.clone(),
            ApplyError::Scheduler { .. } => SCHEDULER_NOT_FOUND.to_owned(),
            // Where libipvs can only say "Invalid operation", the engine knows why.
            ApplyError::Invalid(reason) => reason.clone(),
        })
    }
}

/// `-R`: one command a line; a line that cannot be parsed ends it, one that is refused does not.
///
/// The exit status is the last line's.
fn restore(rules: &str, director: &Director, now: Instant) -> Output {
    let mut all = Output::default();
    let mut coming = Coming::default();
    for line in rules.lines() {
        let words = split_words(line);
        if words.is_empty() {
            continue;
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let command = match parse(&words) {
            Ok(Command::Restore) => Err(try_help()),
            other => other,
        };
        if let Ok(Command::Change(Change::AddDestination(key, spec))) = &command
            && is_in_range(spec)
        {
            if coming.key != Some(*key) {
                coming.add(director, &mut all);
                coming.key = Some(*key);
            }
            coming.specs.push(*spec);
            continue;
        }
        coming.add(director, &mut all);
        match command {
            Ok(command) => {
                let one = execute(&command, "", director, now);
                all.stdout.push_str(&one.stdout);
                all.stderr.push_str(&one.stderr);
                all.code = one.code;
            }
            Err(failure) => {
                all.stderr.push_str(&failure.message);
                all.stderr.push('\n');
                all.code = failure.exit_code;
                return all;
            }
        }
    }
    coming.add(director, &mut all);
    all
}

/// Destinations of one service, line after line: together they are added in a fraction of the time.
#[derive(Default)]
struct Coming {
    key: Option<ServiceKey>,
    specs: Vec<DestinationSpec>,
}

impl Coming {
    /// Adds them, and leaves none.
    fn add(&mut self, director: &Director, all: &mut Output) {
        let (Some(key), specs) = (self.key.take(), std::mem::take(&mut self.specs)) else { return };
        for result in director.add_destinations(key, &specs) {
            let one =
                result.map_or_else(|error| Refused::Destination.word(&error).into(), |()| Output::default());
            all.stderr.push_str(&one.stderr);
            all.code = one.code;
        }
    }
}

/// Whether the kernel finds nothing wrong with the numbers of a destination, whatever its service.
const fn is_in_range(spec: &DestinationSpec) -> bool {
    spec.lower_threshold <= spec.upper_threshold
}

/// Splits a line into words at blanks; quotes keep blanks, a backslash keeps the next character, `#` at the start
/// of a word begins a comment.
pub fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(character),
            (_, '\\') => {
                if let Some(next) = characters.next() {
                    word.get_or_insert_default().push(next);
                }
            }
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}
