//! The few words of shell that the recordings' commands are written in: `;`, `&&`, `|`, `<`, `>`, quotes.

use std::collections::HashMap;

use uvs_adm::{Output, format};
use uvs_director::spec::{Change, Options, Protocol};
use uvs_director::view::{ConnectionView, ServiceView};

use super::lab::Lab;

/// Why a line cannot be run here.
#[derive(Debug)]
pub(crate) struct Unsupported(pub(crate) String);

/// What a line printed, standard output and error together, and its exit status.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) output: String,
    pub(crate) code: u8,
}

/// One command of a pipeline.
#[derive(Debug, Default, PartialEq, Eq)]
struct Simple {
    words: Vec<String>,
    input: Option<String>,
    output: Option<String>,
    pipe_in: bool,
    /// Runs only when the one before succeeded.
    and: bool,
}

/// Runs lines; files that they write live here.
#[derive(Default)]
pub(crate) struct Shell {
    files: HashMap<String, String>,
}

impl Shell {
    pub(crate) fn run(&mut self, line: &str, lab: &mut Lab) -> Result<Ran, Unsupported> {
        if let Some(text) = all_settings(line, lab) {
            return Ok(Ran { output: text, code: 0 });
        }
        let mut ran = Ran::default();
        let mut piped = String::new();
        let commands = split(line)?;
        for (index, command) in commands.iter().enumerate() {
            if command.and && ran.code != 0 {
                continue;
            }
            let input = match (&command.input, command.pipe_in) {
                (Some(file), _) => self.file(file)?,
                (None, true) => std::mem::take(&mut piped),
                (None, false) => String::new(),
            };
            let one = self.call(&command.words, &input, lab)?;
            ran.code = one.code;
            if let Some(file) = &command.output {
                self.files.insert(file.clone(), one.stdout);
            } else if commands.get(index + 1).is_some_and(|next| next.pipe_in) {
                piped = one.stdout;
            } else {
                ran.output.push_str(&one.stdout);
            }
            ran.output.push_str(&one.stderr);
        }
        Ok(ran)
    }

    fn file(&self, name: &str) -> Result<String, Unsupported> {
        self.files.get(name).cloned().ok_or_else(|| Unsupported(format!("no file {name} was written")))
    }

    fn call(&self, words: &[String], input: &str, lab: &mut Lab) -> Result<Output, Unsupported> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((&program, arguments)) = words.split_first() else { return Ok(Output::default()) };
        match program {
            "ipvsadm" => Ok(uvs_adm::run(arguments, input, &lab.director, lab.now)),
            "cat" => proc_file(arguments, lab),
            "echo" => Ok(Output::text(format!("{}\n", arguments.join(" ")))),
            "diff" => {
                let text = |name: &str| if name == "-" { Ok(input.to_owned()) } else { self.file(name) };
                let [a, b] = arguments else { return Err(unknown(&words)) };
                let same = text(a)? == text(b)?;
                let stdout = if same { String::new() } else { format!("{a} and {b} differ\n") };
                Ok(Output { stdout, stderr: String::new(), code: u8::from(!same) })
            }
            "ip" => match lab.ip(arguments) {
                Ok(()) => Ok(Output::default()),
                Err(error) => Err(Unsupported(format!("{error:#}"))),
            },
            "modprobe" if matches!(arguments, ["sctp"]) => Ok(Output::default()),
            "modprobe" if matches!(arguments, ["ip_vs_ftp"]) => {
                let options = Options { ftp: true, ..lab.director.options() };
                match lab.director.apply(Change::SetOptions(options), lab.now) {
                    Ok(()) => Ok(Output::default()),
                    Err(error) => Err(Unsupported(format!("{error}"))),
                }
            }
            "nft" => match lab.nft(&arguments.join(" ")) {
                Ok(()) => Ok(Output::default()),
                Err(error) => Err(Unsupported(format!("{error:#}"))),
            },
            _ => Err(unknown(&words)),
        }
    }
}

fn unknown(words: &[&str]) -> Unsupported {
    Unsupported(format!("the replayer does not know the command {}", words.join(" ")))
}

/// The one loop that is recorded: every setting with its value.
fn all_settings(line: &str, lab: &Lab) -> Option<String> {
    let loops = line.starts_with("for f in /proc/sys/net/ipv4/vs/*; do echo");
    loops.then(|| lab.settings())
}

fn proc_file(arguments: &[&str], lab: &Lab) -> Result<Output, Unsupported> {
    let [path] = arguments else { return Err(unknown(arguments)) };
    let director = &lab.director;
    let text = match *path {
        "/proc/net/ip_vs" => format::proc_services(&services(lab)),
        "/proc/net/ip_vs_conn" => format::proc_connections(&connections(lab)),
        "/proc/net/ip_vs_conn_sync" => format::proc_connections_sync(&connections(lab)),
        "/proc/net/ip_vs_stats" => format::proc_stats(&director.status()),
        "/proc/net/ip_vs_stats_percpu" => {
            let status = director.status();
            format::proc_stats_percpu(&[status.total], &status)
        }
        "/proc/net/ip_vs_app" => {
            format::proc_apps(&[format::App { protocol: Protocol::Tcp, port: 21, users: 0, name: "ftp" }])
        }
        other => return Err(Unsupported(format!("the replayer has no file {other}"))),
    };
    Ok(Output::text(text))
}

/// The director's services.
pub(crate) fn services(lab: &Lab) -> Vec<ServiceView> {
    lab.director.services()
}

/// The director's connections.
pub(crate) fn connections(lab: &Lab) -> Vec<ConnectionView> {
    lab.director.connections(lab.now)
}

fn split(line: &str) -> Result<Vec<Simple>, Unsupported> {
    let mut commands = vec![Simple::default()];
    let mut words = Words { rest: line.chars().collect(), at: 0 };
    while let Some(token) = words.next() {
        let command = commands.last_mut().expect("it is never empty");
        match token {
            Token::Word(word) => command.words.push(word),
            Token::Mark(';') => commands.push(Simple::default()),
            Token::Mark('&') => commands.push(Simple { and: true, ..Simple::default() }),
            Token::Mark('|') => commands.push(Simple { pipe_in: true, ..Simple::default() }),
            Token::Mark(mark) => {
                let Some(Token::Word(file)) = words.next() else {
                    return Err(Unsupported(format!("no file after {mark} in {line:?}")));
                };
                // `2>/dev/null`: nothing here says anything on standard error that a recording kept.
                if mark == '>' && command.words.last().is_some_and(|word| word == "2") {
                    command.words.pop();
                } else if mark == '>' {
                    command.output = Some(file);
                } else {
                    command.input = Some(file);
                }
            }
        }
    }
    Ok(commands)
}

enum Token {
    Word(String),
    /// `;`, `|`, `<`, `>`, and `&` for `&&`.
    Mark(char),
}

struct Words {
    rest: Vec<char>,
    at: usize,
}

impl Words {
    fn next(&mut self) -> Option<Token> {
        while self.peek()?.is_whitespace() {
            self.at += 1;
        }
        let first = self.peek()?;
        if ";|<>&".contains(first) {
            self.at += 1;
            if first == '&' && self.peek() == Some('&') {
                self.at += 1;
            }
            return Some(Token::Mark(first));
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(character) = self.peek() {
            match quote {
                None if character.is_whitespace() || ";|<>&".contains(character) => break,
                None if character == '\'' || character == '"' => quote = Some(character),
                Some(open) if character == open => quote = None,
                _ => word.push(character),
            }
            self.at += 1;
        }
        Some(Token::Word(word))
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(words: &[&str]) -> Simple {
        Simple { words: words.iter().map(ToString::to_string).collect(), ..Simple::default() }
    }

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let file = |name: &str| Some(name.to_owned());
        let cases = [
            ("ipvsadm -Ln", vec![plain(&["ipvsadm", "-Ln"])]),
            ("ipvsadm -C; ipvsadm -Ln", vec![plain(&["ipvsadm", "-C"]), plain(&["ipvsadm", "-Ln"])]),
            ("a > f", vec![Simple { output: file("f"), ..plain(&["a"]) }]),
            ("a 2>/dev/null; b", vec![plain(&["a"]), plain(&["b"])]),
            (
                "a < f | b - && c",
                vec![
                    Simple { input: file("f"), ..plain(&["a"]) },
                    Simple { pipe_in: true, ..plain(&["b", "-"]) },
                    Simple { and: true, ..plain(&["c"]) },
                ],
            ),
            ("nft 'a; b | c'", vec![plain(&["nft", "a; b | c"])]),
        ];
        for (line, want) in cases {
            assert_eq!(split(line).unwrap(), want, "{line}");
        }
    }
}
