//! `uvs drain`, `uvs undrain`, `uvs wait` and `uvs explain destination`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use uvs_control::destination::{Answer, Ask, Drain, Left, Request, Terms, Then};
use uvs_control::{ClientError, ErrorKind};

use super::{Which, health};

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(500);
/// Where nobody watches, what is left is told so often at least.
const TELL: Duration = Duration::from_secs(5);
/// Of the bar, in characters.
const BAR: usize = 30;

const NAME: &str = "\
SERVICE/DEST is tcp/192.0.2.10:443/192.168.10.11:443: protocol and address of the service, address of the destination.
What is clear without it may be left out: the service, its protocol, the destination's port.";

/// `uvs drain`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = NAME, after_long_help = format!("{NAME}\n\n{DRAIN}"))]
pub struct DrainArgs {
    /// Which destination of which service
    #[arg(value_name = "SERVICE/DEST")]
    pub name: String,
    /// When it ends, whatever is left, as in 30s: flows of UDP are forgotten
    #[arg(long, value_name = "TIME", value_parser = uvs_config::parse_duration)]
    pub deadline: Option<Duration>,
    /// What follows its end: the director does it, whether this command still runs or not
    #[arg(long, value_name = "WHAT", value_enum)]
    pub then: Option<ThenArg>,
    /// At the deadline both ends of what is left of TCP get a reset
    #[arg(long, requires = "deadline")]
    pub reset: bool,
    /// Begin it, and do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
    /// Tell in lines of JSON
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// What follows a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ThenArg {
    /// It is removed from its service, until the configuration is read again
    Remove,
    /// It is in maintenance, and not checked
    Maint,
    /// It serves again
    Ready,
}

impl From<ThenArg> for Then {
    fn from(then: ThenArg) -> Self {
        match then {
            ThenArg::Remove => Self::Remove,
            ThenArg::Maint => Self::Maint,
            ThenArg::Ready => Self::Ready,
        }
    }
}

const DRAIN: &str = "\
From now on no new connections go there; those that are there go on. The command ends when none is left, or soon after
the deadline. Ctrl-C ends the command and not the drain, which `uvs undrain` ends. It survives a reload of the
configuration, not a restart. Without --reset, TCP that is left at the deadline goes on for as long as it can.

Example:
  uvs drain tcp/192.0.2.10:443/192.168.10.11:443 --deadline 30s --reset --then maint

Exit status: 0 it is over and nothing is left (with --no-wait: it has begun), 1 failed, 2 wrong usage, 3 the deadline is
over and connections are left, 130 Ctrl-C.";

/// `uvs undrain`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = NAME)]
pub struct UndrainArgs {
    /// Which destination of which service
    #[arg(value_name = "SERVICE/DEST")]
    pub name: String,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs wait`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = format!("{NAME}\n\nExit status: 0 it is so, 1 failed, 2 wrong usage, 3 it was not so in time."))]
#[command(group = clap::ArgGroup::new("state").required(true))]
pub struct WaitArgs {
    /// Which destination of which service
    #[arg(value_name = "SERVICE/DEST")]
    pub name: String,
    /// Until it gets no connections any more and has none, or is gone
    #[arg(long, group = "state")]
    pub drained: bool,
    /// Until it gets connections: its weight is above 0
    #[arg(long, group = "state")]
    pub up: bool,
    /// For so long, as in 30s or 500ms [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = uvs_config::parse_duration)]
    pub timeout: Option<Duration>,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// `uvs explain destination`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = NAME)]
pub struct ExplainArgs {
    /// Which destination of which service
    #[arg(value_name = "SERVICE/DEST")]
    pub name: String,
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// Asks once. Each time anew: who waits for long keeps nobody from the director.
fn ask(which: &Which, name: &str, ask: Ask) -> Result<Answer, ClientError> {
    let request = uvs_control::Request::Destination(Request { name: name.to_owned(), ask });
    match which.connect()?.ask(&request)? {
        uvs_control::Answer::Destination(answer) => Ok(*answer),
        _ => Err(ClientError::Refused(uvs_control::Error::new(
            ErrorKind::Other,
            "the director answered something else",
        ))),
    }
}

/// How it stands; `None`: it is gone.
fn look(which: &Which, name: &str) -> anyhow::Result<Option<Answer>> {
    match ask(which, name, Ask::Look {}) {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::Refused => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `uvs drain`.
///
/// # Errors
/// No director answers, or it refuses.
pub fn drain(arguments: &DrainArgs) -> anyhow::Result<ExitCode> {
    let DrainArgs { name, deadline, then, reset, no_wait, json, which } = arguments;
    let interrupt = Interrupt::listen()?;
    let deadline_ms = deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let then = then.map(Then::from);
    let began = ask(which, name, Ask::Drain(Terms { deadline_ms, reset: *reset, then }))?;
    let mut told = Told::new(*json, began.left.open);
    told.of(&began)?;
    if *no_wait {
        told.end()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut now = began;
    let end = loop {
        if let Some(end) = end_of(&now, then) {
            break end;
        }
        if interrupt.within(LOOK)? {
            told.end()?;
            eprintln!(
                "the drain goes on; uvs wait {0} --drained waits for its end, uvs undrain {0} stops it",
                now.name
            );
            return Ok(ExitCode::from(130));
        }
        let Some(answer) = look(which, &now.name)? else {
            now.left = Left::default();
            break if then == Some(Then::Remove) {
                End::Done("drained and removed")
            } else {
                End::Done("gone")
            };
        };
        now = answer;
        told.of(&now)?;
    };
    told.end()?;
    match end {
        End::Stopped => bail!("{} is drained no longer: somebody else has stopped that", now.name),
        End::Late => {
            eprintln!("{}: the deadline is over, {}", now.name, of_left(&now));
            Ok(ExitCode::from(3))
        }
        End::Done(what) => {
            if !json {
                writeln!(std::io::stdout().lock(), "{}: {what}", now.name)
                    .context("standard output cannot be written")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done(&'static str),
    /// Connections are left.
    Late,
    /// Somebody else ended it.
    Stopped,
}

/// Whether a drain is over, by how its destination stands.
fn end_of(it: &Answer, then: Option<Then>) -> Option<End> {
    let is_over = it.drain.as_ref().is_none_or(|drain| drain.phase == "over");
    match (it.admin.as_str(), then) {
        _ if !is_over => None,
        ("ready", Some(Then::Ready)) => Some(End::Done("drained, and ready again")),
        ("ready", _) => Some(End::Stopped),
        ("maint", Some(Then::Maint)) => Some(End::Done("drained, and in maintenance")),
        // What follows is being done.
        (_, Some(_)) => None,
        _ if it.left.open > 0 => Some(End::Late),
        _ => Some(End::Done("drained")),
    }
}

/// `uvs undrain`.
///
/// # Errors
/// No director answers, or it refuses.
pub fn undrain(UndrainArgs { name, which }: &UndrainArgs) -> anyhow::Result<ExitCode> {
    let answer = ask(which, name, Ask::Undrain {})?;
    writeln!(std::io::stdout().lock(), "{}: {}", answer.name, answer.admin)
        .context("standard output cannot be written")?;
    Ok(ExitCode::SUCCESS)
}

/// `uvs wait`.
///
/// # Errors
/// No director answers, or there is no such destination.
pub fn wait(WaitArgs { name, drained, up: _, timeout, which }: &WaitArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut now = Some(ask(which, name, Ask::Look {})?);
    // Since when it has no connections: one that was placed a moment before is entered a moment later.
    let mut empty: Option<Instant> = None;
    loop {
        let is_empty = now.as_ref().is_some_and(|it| it.weight == 0 && it.left.open == 0);
        empty = is_empty.then(|| empty.unwrap_or_else(Instant::now));
        let so = match &now {
            None => *drained,
            Some(_) if *drained => empty.is_some_and(|since| since.elapsed() >= LOOK),
            Some(it) => it.weight > 0,
        };
        if so {
            return Ok(ExitCode::SUCCESS);
        }
        let Some(it) = &now else { bail!("{name} is gone") };
        let left = timeout.map_or(LOOK, |timeout| timeout.saturating_sub(began.elapsed()));
        if left.is_zero() {
            eprintln!(
                "{}: not in time; weight {}, {}, {} connections left",
                it.name, it.weight, it.admin, it.left.open
            );
            return Ok(ExitCode::from(3));
        }
        thread::sleep(left.min(LOOK));
        let whole = it.name.clone();
        now = look(which, &whole)?;
    }
}

/// `uvs explain destination`.
///
/// # Errors
/// No director answers, or there is no such destination.
pub fn explain(ExplainArgs { name, json, which }: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let answer = ask(which, name, Ask::Explain {})?;
    let text = if *json { serde_json::to_string_pretty(&answer)? + "\n" } else { explained(&answer) };
    std::io::stdout().lock().write_all(text.as_bytes()).context("standard output cannot be written")?;
    Ok(ExitCode::SUCCESS)
}

fn explained(it: &Answer) -> String {
    let by = it.weight_by.as_deref().unwrap_or("nobody");
    let mut text = format!("{}: weight {}, by {by}; {}\n", it.name, it.weight, of_left(it));
    if let Some(drain) = &it.drain {
        let by = match &*drain.by {
            "health" => ", since it is down",
            "weight" => ", since its weight is 0",
            "removal" => ", since it was removed",
            _ => "",
        };
        text.push_str(&format!(
            "  drained for {}: {}{by}\n",
            health::time(drain.age_s),
            health::of_drain(drain)
        ));
    }
    for slot in &it.slots {
        let said = slot.value.as_deref().unwrap_or("-");
        let age = slot.age_s.map_or(String::new(), |age| format!("for {}", health::time(age)));
        let mark = if slot.decides { "<-- has the last word" } else { "" };
        let line = format!("  {:22} {said:16} {age:12} {mark}", slot.writer);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn of_left(it: &Answer) -> String {
    let mut text = health::connections(it.left.open);
    if it.left.ended > 0 {
        text.push_str(&format!(", {} that are over", it.left.ended));
    }
    text
}

/// The same, and when it ends.
fn progress(it: &Answer) -> String {
    match &it.drain {
        Some(drain) => health::of_drain(&Drain { open: it.left.open, ..drain.clone() }),
        None => of_left(it),
    }
}

/// Ctrl-C, taken instead of dying of it.
pub(super) struct Interrupt(SignalFd);

impl Interrupt {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.thread_block().context("SIGINT cannot be blocked")?;
        let file = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Self(file.context("SIGINT cannot be waited for")?))
    }

    /// Waits for so long; whether it came.
    pub(super) fn within(&self, time: Duration) -> anyhow::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut files = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let millis = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut files, millis) {
            Ok(0) | Err(Errno::EINTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Err(error).context("SIGINT cannot be waited for"),
        }
    }
}

/// What was told of a drain so far: a bar on a terminal, lines elsewhere.
struct Told {
    json: bool,
    bar: bool,
    began_with: u64,
    last: Option<(u64, Instant)>,
}

impl Told {
    fn new(json: bool, began_with: u64) -> Self {
        Self { json, bar: !json && std::io::stdout().is_terminal(), began_with, last: None }
    }

    fn of(&mut self, it: &Answer) -> anyhow::Result<()> {
        let open = it.left.open;
        let is_news = self.last.is_none_or(|(last, at)| last != open || at.elapsed() >= TELL);
        if !self.bar && !is_news {
            return Ok(());
        }
        self.last = Some((open, Instant::now()));
        self.began_with = self.began_with.max(open);
        let mut out = std::io::stdout().lock();
        let written = if self.json {
            writeln!(out, "{}", serde_json::to_string(it)?)
        } else if self.bar {
            write!(out, "\r\x1b[K{} {}", bar(open, self.began_with), progress(it)).and_then(|()| out.flush())
        } else {
            writeln!(out, "{}: {}", it.name, progress(it)).and_then(|()| out.flush())
        };
        written.context("standard output cannot be written")
    }

    fn end(&self) -> anyhow::Result<()> {
        if self.bar {
            writeln!(std::io::stdout()).context("standard output cannot be written")?;
        }
        Ok(())
    }
}

/// How much is done.
fn bar(left: u64, of: u64) -> String {
    let done = of.saturating_sub(left);
    let filled = usize::try_from(done * BAR as u64 / of.max(1)).unwrap_or(BAR).min(BAR);
    let filled = if of == 0 { BAR } else { filled };
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR - filled))
}

#[cfg(test)]
mod tests {
    use uvs_control::destination::Slot;

    use super::*;

    #[test]
    fn a_drain_is_over_when_all_of_it_is_done() {
        let of = |admin: &str, phase: Option<&str>, open| Answer {
            admin: admin.into(),
            drain: phase.map(|phase| Drain { phase: phase.into(), ..Drain::default() }),
            left: Left { open, ..Left::default() },
            ..Answer::default()
        };
        let cases = [
            (of("drain", Some("waiting"), 3), None, None),
            (of("drain", Some("waiting"), 0), None, None),
            (of("drain", Some("ending"), 3), None, None),
            (of("drain", Some("over"), 0), None, Some(End::Done("drained"))),
            (of("drain", Some("over"), 2), None, Some(End::Late)),
            (of("drain", Some("over"), 2), Some(Then::Maint), None),
            (of("maint", None, 2), Some(Then::Maint), Some(End::Done("drained, and in maintenance"))),
            (of("ready", None, 2), Some(Then::Ready), Some(End::Done("drained, and ready again"))),
            (of("ready", None, 2), None, Some(End::Stopped)),
        ];
        for (answer, then, end) in cases {
            assert_eq!(end_of(&answer, then), end, "{answer:?}");
        }
    }

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(10, 10), format!("[{}]", "-".repeat(30)));
        assert_eq!(bar(5, 10), format!("[{}{}]", "#".repeat(15), "-".repeat(15)));
        assert_eq!(bar(0, 10), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(0, 0), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(20, 10), format!("[{}]", "-".repeat(30)));
    }

    #[test]
    fn an_explanation_names_who_has_the_last_word() {
        let slot = |writer: &str, value: Option<&str>, decides| Slot {
            writer: writer.into(),
            value: value.map(str::to_owned),
            age_s: value.map(|_| 12.0),
            decides,
        };
        let answer = Answer {
            name: "tcp/10.0.0.100:80/192.168.20.11:8080".into(),
            left: Left { open: 1, ended: 2, templates: 0 },
            weight_by: Some("administrative state".into()),
            slots: vec![
                slot("file", Some("3"), false),
                slot("adm", None, false),
                slot("administrative state", Some("drain"), true),
            ],
            ..Answer::default()
        };
        let text = explained(&answer);
        let want = [
            "tcp/10.0.0.100:80/192.168.20.11:8080: weight 0, by administrative state; 1 connection left, 2 that are over",
            "  file                   3                for 12 s",
            "  adm                    -",
            "  administrative state   drain            for 12 s     <-- has the last word",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }
}
