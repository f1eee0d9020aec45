//! A terminal with a lab in it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

/// How long one block may take; most have a second or two of waiting in them.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the shell prints when it waits for the next command, with the command that failed, if one has.
const READY: &str = "<<<ready";

/// A pseudo-terminal and the shell of `uvs lab` in it.
pub(super) struct Terminal {
    master: File,
    shell: Child,
    /// Everything that was printed.
    seen: Vec<u8>,
}

impl Terminal {
    pub(super) fn open(uvs: &Path) -> Self {
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(uvs).arg("lab").stdin(end()).stdout(end()).stderr(end());
        // Readline has no bracketed paste on a dumb terminal, as CI is.
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("INPUTRC");
        let shell = command.spawn().expect("util-linux has setsid");
        let mut terminal = Self { master: File::from(pair.master), shell, seen: Vec::new() };
        terminal.wait_for("lab:").unwrap_or_else(|error| panic!("{error}\n{}", terminal.all()));
        // The quotes keep what is typed from being taken for what it prints.
        let tell = "trap 'failed=\"$failed \\`$BASH_COMMAND\\`\"' ERR; \
                    PROMPT_COMMAND='echo \"<<\"\"<ready$failed>>>\"; failed='";
        terminal.paste(tell).unwrap_or_else(|error| panic!("{error}\n{}", terminal.all()));
        terminal
    }

    /// Pastes a block, presses Enter, and waits for the shell. What it printed, without what the terminal echoed.
    pub(super) fn paste(&mut self, block: &str) -> Result<String, String> {
        let from = self.seen.len();
        // As terminals do: between the marks of a bracketed paste, with carriage returns for line ends.
        let typed = format!("\x1b[200~{}\x1b[201~\r", block.trim_end().replace('\n', "\r"));
        self.master.write_all(typed.as_bytes()).map_err(|error| format!("cannot type: {error}"))?;
        let printed = self.wait_from(from, READY)?;
        let (printed, after) = printed.rsplit_once(READY).expect("it was waited for");
        // Readline ends its bracketed paste when it has the whole command.
        let (_, printed) = printed.rsplit_once("\x1b[?2004l").ok_or("the shell knows no bracketed paste")?;
        let failed = after.split(">>>").next().unwrap_or_default().trim().to_owned();
        let printed = printed.replace('\r', "");
        if !failed.is_empty() {
            return Err(format!("failed: {failed}; it printed:\n{printed}"));
        }
        Ok(printed.trim().to_owned())
    }

    /// Everything so far.
    pub(super) fn all(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace('\r', "")
    }

    fn wait_for(&mut self, text: &str) -> Result<String, String> {
        self.wait_from(0, text)
    }

    /// What was printed since `from`, once `text` and the end of its line are in it.
    fn wait_from(&mut self, from: usize, text: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = String::from_utf8_lossy(&self.seen[from..]);
            if printed.split_once(text).is_some_and(|(_, after)| after.contains(['#', '>'])) {
                return Ok(printed.into_owned());
            }
            if Instant::now() > deadline {
                return Err(format!("not within {PATIENCE:?}: {text:?}"));
            }
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::from(100_u8)).map_err(|error| error.to_string())?;
            if ready[0].any() != Some(true) {
                continue;
            }
            let mut buffer = [0; 4096];
            match self.master.read(&mut buffer) {
                Ok(read) if read > 0 => self.seen.extend_from_slice(&buffer[..read]),
                _ => return Err("the shell has ended".to_owned()),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Hung up, the shell ends, and the lab with everything in it.
        let _ = self.master.write_all(b"\x03\rexit\r");
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            // What it says is read, so that it never waits for us.
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::from(50_u8));
            if ready[0].any() == Some(true) {
                let _ = self.master.read(&mut [0; 4096]);
            }
            if matches!(self.shell.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
