//! `uvs top` and `uvs status --watch` on a director that serves.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use uvs_lab::topology::Method;

use crate::removal::{ENOUGH, Load};
use crate::stage::{Stage, eventually, turn, uvs};

/// Whatever is waited for, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal that shows what is drawn, as far as `uvs top` draws.
struct Screen {
    master: File,
    slave: OwnedFd,
    child: Child,
    /// How the terminal was set before anybody had it.
    before: Termios,
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    /// The begin of a sequence whose end was not read yet.
    unread: Vec<u8>,
    /// All that was written.
    seen: Vec<u8>,
}

impl Screen {
    fn open(mut command: Command, (columns, rows): (u16, u16)) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let before = tcgetattr(pair.slave.as_fd()).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self {
            master: File::from(pair.master),
            slave: pair.slave,
            child,
            before,
            cells: vec![vec![' '; columns.into()]; rows.into()],
            at: (0, 0),
            unread: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Another size: the terminal tells whoever has it.
    fn resize(&mut self, columns: u16, rows: u16) {
        let input = Stdio::from(self.slave.try_clone().unwrap());
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let status =
            Command::new("stty").args(["columns", &columns, "rows", &rows]).stdin(input).status().unwrap();
        assert!(status.success());
        self.cells = vec![vec![' '; columns.parse().unwrap()]; rows.parse().unwrap()];
        // `stty` is of another session: the signal goes to those of the terminal's own.
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGWINCH).unwrap();
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.cells.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    /// Reads for a moment.
    fn read(&mut self) {
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(100_u8)).unwrap();
        if ready[0].any() == Some(true) {
            let mut bytes = [0; 65_536];
            // Nobody has the other end any more: it ends.
            let read = self.master.read(&mut bytes).unwrap_or(0);
            self.seen.extend_from_slice(&bytes[..read]);
            self.unread.extend_from_slice(&bytes[..read]);
            self.draw();
        }
    }

    fn draw(&mut self) {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\x1b' {
                self.put(c);
                continue;
            }
            let mut sequence = String::from(c);
            let mut is_whole = false;
            while let Some(&next) = chars.peek() {
                sequence.push(next);
                chars.next();
                if next.is_ascii_alphabetic() {
                    is_whole = true;
                    break;
                }
            }
            if !is_whole {
                self.unread = sequence.into_bytes();
                return;
            }
            self.obey(&sequence[2..]);
        }
    }

    fn obey(&mut self, sequence: &str) {
        let (figures, what) = sequence.split_at(sequence.len() - 1);
        match what {
            "H" => {
                let mut figures = figures.split(';').map(|it| it.parse::<usize>().unwrap_or(1));
                let mut next = || figures.next().unwrap_or(1).saturating_sub(1);
                self.at = (next(), next());
            }
            "J" => self.cells.iter_mut().for_each(|line| line.fill(' ')),
            _ => {}
        }
    }

    fn put(&mut self, c: char) {
        if let Some(cell) = self.cells.get_mut(self.at.0).and_then(|line| line.get_mut(self.at.1)) {
            *cell = c;
        }
        self.at.1 += 1;
    }

    /// Waits until the screen is `so`.
    fn until(&mut self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            let text = self.text();
            if so(&text) {
                return text;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{what}: {ended:?}\n{text}");
        }
    }

    /// Waits for its end, reading.
    fn end(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read();
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name that stays, of a socket that has another one after each start.
struct Named {
    folder: tempfile::TempDir,
}

impl Named {
    fn of(stage: &mut Stage) -> Self {
        let named = Self { folder: tempfile::tempdir().unwrap() };
        named.name(stage);
        named
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("uvs.sock")
    }

    fn name(&self, stage: &mut Stage) {
        let new = self.folder.path().join("new");
        std::os::unix::fs::symlink(stage.director().get().socket(), &new).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }
}

/// What a program prints, line by line as it comes.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The first line that is `so`.
fn line_that(what: &str, lines: &Receiver<String>, so: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|error| panic!("{what}: {error} after {seen:#?}"));
        if so(&line) {
            return line;
        }
        seen.push(line);
    }
}

fn asking(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(uvs());
    command.args(words).env("UVS_SOCKET", socket).env_remove("NO_COLOR");
    command
}

/// New connections in a second, as the second line has them.
fn rate(text: &str) -> Option<f64> {
    let line = text.lines().nth(1)?;
    line.strip_prefix("conn/s ")?.split(' ').next()?.parse().ok()
}

#[test]
fn top_follows_a_director_and_its_terminal() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let service = stage.topology.service;
    let named = Named::of(&mut stage);
    let socket = named.path();
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);
    let mut screen = Screen::open(asking(&socket, &["top"]), (80, 24));
    let name = format!("tcp {service}");
    let text =
        screen.until("rates", |text| text.contains(&name) && rate(text).is_some_and(|rate| rate > 0.0));
    assert!(text.contains("3/3") && text.contains("1 Services"), "{text}");
    screen.type_in("\r");
    let servers: Vec<String> =
        stage.topology.real_servers.iter().map(|server| server.listen.to_string()).collect();
    screen.until("destinations", |text| servers.iter().all(|server| text.contains(server)));
    screen.type_in("4");
    screen.until("the scheduler", |text| text.contains("Picks/s") && text.contains("module"));
    screen.type_in("6");
    screen.until("interfaces", |text| text.contains("Datapath") && text.contains("up"));
    screen.type_in("7");
    screen.until("events", |text| text.contains("the director is ready"));
    screen.type_in("?");
    screen.until("help", |text| text.contains("quit") && text.contains("Ctrl-L"));
    screen.type_in("\x1b");
    screen.until("no help", |text| text.contains("the director is ready"));
    screen.resize(120, 40);
    screen.type_in("1");
    let text = screen.until("all columns", |text| text.contains("Pkt/s out") && text.contains(&name));
    assert!(text.lines().nth(39).is_some_and(|line| line.contains("? help")), "the keys stand below\n{text}");
    load.end();

    assert!(stage.director().stop(Signal::SIGTERM).success());
    screen.until("it is gone", |text| text.contains("no director; trying again"));
    stage.director().start_again();
    named.name(&mut stage);
    screen.until("it is back", |text| !text.contains("no director") && text.contains(&name));

    kill(Pid::from_raw(screen.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(screen.end(), 0);
    let after = tcgetattr(screen.slave.as_fd()).unwrap();
    assert_eq!(
        (after.local_flags, after.input_flags),
        (screen.before.local_flags, screen.before.input_flags)
    );
    let seen = String::from_utf8_lossy(&screen.seen).into_owned();
    assert!(seen.ends_with("\x1b[?1049l"), "the terminal has its own screen again");
}

#[test]
fn top_says_where_it_cannot_draw() {
    let Some(_turn) = turn() else { return };
    let said = Command::new(uvs()).args(["top"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(error.contains("uvs status --watch"), "{error}");
}

#[test]
fn status_watches_on_through_a_restart_and_ends_when_told() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let service = stage.topology.service;
    let named = Named::of(&mut stage);
    let socket = named.path();
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);
    let watch = |words: &[&str]| {
        let mut child = asking(&socket, words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(&mut child);
        (child, lines)
    };
    let (mut text, text_lines) = watch(&["status", "--watch=1"]);
    let (mut json, json_lines) = watch(&["status", "--watch", "1", "--json"]);
    let line = line_that("connections", &text_lines, |line| {
        line.contains(" conn/s ") && !line.contains(" conn/s 0 ") && line.contains(" services 2 down 0")
    });
    assert!(line.starts_with("20") && line.contains("Z conn/s "), "it begins with the time: {line}");
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let served = |line: &str| object(line)["per_second"]["connections"].as_f64().is_some_and(|it| it > 0.0);
    let first = object(&line_that("connections", &json_lines, served));
    let names = first["services"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), [format!("tcp {service}"), format!("udp {service}")]);
    load.end();

    assert!(stage.director().stop(Signal::SIGTERM).success());
    line_that("it is gone", &text_lines, |line| line.contains("no director; trying again"));
    line_that("it is gone", &json_lines, |line| object(line)["error"].is_string());
    stage.director().start_again();
    named.name(&mut stage);
    line_that("it is back", &text_lines, |line| line.contains(" conn/s "));
    line_that("it is back", &json_lines, |line| object(line)["per_second"].is_object());
    for child in [&mut text, &mut json] {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// Asked for all it has every 100 ms, with 1,000 services and 10,000 destinations, the director forwards on.
#[test]
fn a_large_director_is_sampled_while_it_serves() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let service = stage.topology.service;
    let mut rules = String::new();
    for index in 0..1000 {
        let vip = format!("10.77.{}.{}:80", index / 250, index % 250 + 1);
        rules.push_str(&format!("-A -t {vip} -s rr\n"));
        for number in 1..=10 {
            rules.push_str(&format!(
                "-a -t {vip} -r 10.78.{}.{}:8080 -m\n",
                index / 250,
                (index % 25) * 10 + number
            ));
        }
    }
    let said = stage.director().adm_with("-R", &rules);
    assert_eq!(said.code, Some(0), "{}", said.err.chars().take(500).collect::<String>());
    let mut load = Load::start(stage.client(), service);
    load.go_on(ENOUGH);
    let socket = stage.director().get().socket().to_owned();
    let mut client = uvs_control::Client::connect(&socket, PATIENCE).unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        let request = uvs_control::sample::Request { destinations: true, ..Default::default() };
        let answer = client.ask(&uvs_control::Request::Sample(request)).unwrap();
        slowest = slowest.max(began.elapsed());
        let uvs_control::Answer::Sample(sample) = answer else { panic!("{answer:?}") };
        // The lab has one by TCP and one by UDP, with three each.
        assert_eq!(sample.services.len(), 1002);
        assert_eq!(sample.services.iter().map(|it| it.destinations.len()).sum::<usize>(), 10_006);
        thread::sleep(Duration::from_millis(100));
    }
    println!("the slowest sample of 10,006 destinations took {slowest:?}");
    let tries = load.end();
    let failed = tries.iter().filter(|it| it.result.is_err()).count();
    assert_eq!(failed, 0, "of {} connections", tries.len());
    let mut screen = Screen::open(asking(&socket, &["top"]), (80, 24));
    screen.until("services", |text| text.contains("of 1002"));
    screen.type_in("2");
    screen.until("destinations", |text| text.contains("of 10006"));
    screen.type_in("q");
    assert_eq!(screen.end(), 0);
    eventually("it is let go", || screen.child.try_wait().unwrap());
}
