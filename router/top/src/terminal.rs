//! The terminal: taken at the start, given back whatever happens.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::app::Key;

/// The other screen, no cursor, no lines that wrap.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J\x1b[H";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[0m\x1b[?25h\x1b[?1049l";

/// How the terminal was, while we have it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal is ours while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    signals: SignalFd,
    /// What was read and is not a whole key yet.
    unread: Vec<u8>,
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Key(Key),
    /// The terminal has another size.
    Resized,
    /// Somebody wants this to end, or the terminal is gone.
    End,
}

/// Whether `uvs top` can be used here, and why not.
///
/// # Errors
/// A sentence with what to do instead.
pub(crate) fn usable(term: Option<&str>, is_terminal: bool) -> anyhow::Result<()> {
    const INSTEAD: &str = "uvs status --watch prints the same figures as lines, and --json as JSON";
    if !is_terminal {
        bail!("uvs top draws on a terminal, and this is none\n  fix:   {INSTEAD}");
    }
    match term {
        None | Some("" | "dumb" | "unknown") => {
            let what = term
                .filter(|term| !term.is_empty())
                .map_or("is not set".to_owned(), |term| format!("is {term}"));
            bail!(
                "uvs top cannot draw on this terminal: TERM {what}\n  fix:   set TERM to what the terminal is, as in TERM=xterm; or: {INSTEAD}"
            )
        }
        Some(_) => Ok(()),
    }
}

/// Whether colours are wanted: not where `NO_COLOR` is set (<https://no-color.org>), nor on terminals that have none.
pub(crate) fn has_colours(no_color: Option<&str>, term: Option<&str>) -> bool {
    let has_none = |term: &str| term.starts_with("vt") || term.ends_with("-m") || term.ends_with("-mono");
    no_color.is_none_or(str::is_empty) && !term.is_some_and(has_none)
}

/// Gives the terminal back, once.
fn give_back() {
    // Of a thread that panicked while it held the lock the value is whole, too.
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Straight, for whoever panicked may hold the lock of standard output. A terminal that is gone needs nothing.
        let _ = nix::unistd::write(io::stdout(), LEAVE);
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &before);
    }
}

impl Held {
    /// Takes the terminal; a panic gives it back before it says what happened.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        usable(std::env::var("TERM").ok().as_deref(), is_terminal)?;
        let signals = SigSet::from_iter([
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGWINCH,
        ]);
        signals.thread_block().context("signals cannot be waited for")?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("signals cannot be waited for")?;
        let before = tcgetattr(io::stdin().as_fd()).context("the terminal cannot be asked how it is")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
        let held = Self { signals, unread: Vec::new() };
        tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &raw).context("the terminal cannot be set")?;
        nix::unistd::write(io::stdout(), ENTER).context("the terminal cannot be written to")?;
        Ok(held)
    }

    /// Waits for at most so many milliseconds; what came meanwhile.
    pub(crate) fn wait(&mut self, millis: u16) -> anyhow::Result<Vec<Came>> {
        let stdin = io::stdin();
        let mut files = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut files, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("the terminal cannot be waited for"),
        }
        let (typed, signalled) = (files[0].any() == Some(true), files[1].any() == Some(true));
        let mut came = Vec::new();
        while signalled && let Ok(Some(signal)) = self.signals.read_signal() {
            let is_resize = signal.ssi_signo == Signal::SIGWINCH as u32;
            came.push(if is_resize { Came::Resized } else { Came::End });
        }
        if typed {
            let mut bytes = [0; 1024];
            match nix::unistd::read(&stdin, &mut bytes) {
                Ok(0) | Err(nix::errno::Errno::EIO) => came.push(Came::End),
                Ok(read) => {
                    self.unread.extend_from_slice(&bytes[..read]);
                    came.extend(keys(&mut self.unread, false).into_iter().map(Came::Key));
                }
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                Err(error) => return Err(error).context("the terminal cannot be read"),
            }
        } else if !self.unread.is_empty() {
            // Nothing followed: it was the key Esc, or half a key.
            came.extend(keys(&mut self.unread, true).into_iter().map(Came::Key));
        }
        Ok(came)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        give_back();
    }
}

/// The keys in what was read; what may be half of one stays, unless nothing `ended` it.
fn keys(unread: &mut Vec<u8>, ended: bool) -> Vec<Key> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < unread.len() {
        let (key, taken) = match (first(&unread[at..]), ended) {
            (Some(whole), _) => whole,
            (None, false) => break,
            // Half of one that nothing follows: Esc is a key, and whatever else is none.
            (None, true) => ((unread[at] == ESC).then_some(Key::Esc), 1),
        };
        found.extend(key);
        at += taken;
    }
    unread.drain(..at);
    found
}

const ESC: u8 = 0x1b;
/// No sequence of a key is longer.
const SEQUENCE_MAX: usize = 32;

/// The first key, if it is one that means something, and the bytes that it takes; `None`: there may be more of it.
fn first(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let key = match bytes[0] {
        ESC => return sequence(bytes),
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x03 => Key::Interrupt,
        0x0c => Key::Redraw,
        0x02 => Key::PageUp,
        0x06 => Key::PageDown,
        b'<' => Key::Left,
        b'>' => Key::Right,
        byte if byte < b' ' => return Some((None, 1)),
        _ => return character(bytes),
    };
    Some((Some(key), 1))
}

/// A character in UTF-8; what is none is passed over.
fn character(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let len = match bytes[0] {
        ..0x80 => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((None, 1)),
    };
    match str::from_utf8(&bytes[..len.min(bytes.len())]) {
        Ok(text) => Some((text.chars().next().map(Key::Char), len)),
        // It ends in the middle of a character, which is right as far as it goes.
        Err(error) if error.error_len().is_none() => None,
        Err(_) => Some((None, 1)),
    }
}

/// What begins with Esc: `ESC [ figures letter`, `ESC O letter`, or the key Esc and another (ECMA-48).
fn sequence(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let by_letter = |letter: u8| match letter {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        b'Z' => Some(Key::BackTab),
        _ => None,
    };
    match *bytes.get(1)? {
        b'O' => Some((by_letter(*bytes.get(2)?), 3)),
        b'[' => {
            let end = bytes[2..].iter().take(SEQUENCE_MAX).position(|byte| !(0x20..0x40).contains(byte));
            let Some(end) = end else {
                return (bytes.len() > SEQUENCE_MAX).then_some((None, bytes.len().min(SEQUENCE_MAX)));
            };
            let (figures, letter) = (&bytes[2..2 + end], bytes[2 + end]);
            let key = match (letter, figures) {
                (b'~', b"1" | b"7") => Some(Key::Home),
                (b'~', b"4" | b"8") => Some(Key::End),
                (b'~', b"5") => Some(Key::PageUp),
                (b'~', b"6") => Some(Key::PageDown),
                (letter, _) => by_letter(letter),
            };
            Some((key, end + 3))
        }
        _ => Some((Some(Key::Esc), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_out_of_what_terminals_send() {
        let cases: [(&[u8], &[Key]); 8] = [
            (b"q", &[Key::Char('q')]),
            (b"\r", &[Key::Enter]),
            (b"\x1b[A\x1b[B\x1bOC", &[Key::Up, Key::Down, Key::Right]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", &[Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\x7f\x03\x0c", &[Key::Backspace, Key::Interrupt, Key::Redraw]),
            ("/ä".as_bytes(), &[Key::Char('/'), Key::Char('ä')]),
            (b"\t\x1b[Z", &[Key::Tab, Key::BackTab]),
            (b"\x1b[<0;10;10M1", &[Key::Char('1')]),
        ];
        for (bytes, want) in cases {
            let mut unread = bytes.to_vec();
            assert_eq!(keys(&mut unread, false), want, "{bytes:?}");
            assert!(unread.is_empty());
        }
    }

    #[test]
    fn half_a_key_waits_and_esc_alone_is_one() {
        let mut unread = b"j\x1b".to_vec();
        assert_eq!(keys(&mut unread, false), [Key::Char('j')]);
        unread.extend_from_slice(b"[");
        assert_eq!(keys(&mut unread, false), []);
        unread.extend_from_slice(b"A");
        assert_eq!(keys(&mut unread, false), [Key::Up]);
        let mut unread = b"\x1b".to_vec();
        assert_eq!(keys(&mut unread, false), []);
        assert_eq!(keys(&mut unread, true), [Key::Esc]);
        assert!(unread.is_empty());
    }

    /// Whatever is pasted: it ends, and nothing stays for ever.
    #[test]
    fn any_bytes_are_taken() {
        for first in 0..=255_u8 {
            for second in [0x1b, b'[', b'A', 0xc3, 0xff, b'<', b'M'] {
                let mut unread = vec![first, second, b'1', 0x1b, b'[', b'9'];
                keys(&mut unread, false);
                keys(&mut unread, true);
                assert!(unread.is_empty(), "{first} {second}: {unread:?}");
            }
        }
    }

    #[test]
    fn where_it_cannot_draw_it_says_what_does() {
        for (term, is_terminal, part) in [
            (Some("dumb"), true, "TERM is dumb"),
            (None, true, "TERM is not set"),
            (Some("xterm"), false, "this is none"),
        ] {
            let error = usable(term, is_terminal).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("uvs status --watch"), "{error}");
        }
        assert!(usable(Some("xterm-256color"), true).is_ok());
    }

    #[test]
    fn colours_are_for_those_who_want_them() {
        let cases = [
            (None, Some("xterm"), true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (None, Some("vt100"), false),
        ];
        for (no_color, term, want) in cases {
            assert_eq!(has_colours(no_color, term), want, "{no_color:?} {term:?}");
        }
    }

    const PANICS: &str = "UVS_TOP_TEST_PANICS";

    /// The terminal is as it was before anything is said of the panic. This test is its own child, in a terminal of
    /// its own.
    #[test]
    fn a_panic_gives_the_terminal_back() {
        use std::io::Read as _;
        use std::os::fd::AsFd as _;
        use std::process::{Command, Stdio};

        if std::env::var_os(PANICS).is_some() {
            let _held = Held::take().unwrap();
            panic!("on purpose");
        }
        let pair = nix::pty::openpty(None, None).unwrap();
        let before = tcgetattr(pair.slave.as_fd()).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::tests::a_panic_gives_the_terminal_back", "--nocapture"])
            .env(PANICS, "1")
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        assert!(!child.wait().unwrap().success());
        let after = tcgetattr(pair.slave.as_fd()).unwrap();
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
        drop(pair.slave);
        // What is left to read ends with an error, since nobody has the other end any more.
        let mut seen = Vec::new();
        let _ = std::fs::File::from(pair.master).read_to_end(&mut seen);
        let seen = String::from_utf8_lossy(&seen);
        let at = |part: &str| seen.find(part).unwrap_or_else(|| panic!("{part:?} is in {seen:?}"));
        let (enter, leave) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(enter < leave && leave < at("on purpose"), "{seen:?}");
    }
}
