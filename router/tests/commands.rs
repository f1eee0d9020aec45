//! Every command of uvs that documents, help texts, messages and comments show is one that the command line takes: an
//! option that was renamed, or a command that is gone, is found wherever it is still written.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use uvs_router::cli::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// How much of a command is written where it was found.
#[derive(Clone, Copy, PartialEq)]
enum Written {
    /// All of it, as one types it.
    Whole,
    /// What matters where it stands: `uvs drain` alone may speak of the command.
    InPart,
}

/// The simple commands of a shell's text, in words. Here-documents are left out; what is quoted is looked into.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut ends = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\\' => match rest.next() {
                Some('\n') | None => {}
                Some(other) => word.get_or_insert_default().push(other),
            },
            '\'' | '"' => {
                let mut quoted = String::new();
                while let Some(inner) = rest.next_if(|inner| *inner != next) {
                    quoted.push(inner);
                }
                rest.next();
                found.extend(commands(&quoted).into_iter().filter(|it| it.iter().any(|word| word == "uvs")));
                word.get_or_insert_default().push_str(&quoted);
            }
            '#' if word.is_none() => while rest.next_if(|it| *it != '\n').is_some() {},
            '<' if rest.peek() == Some(&'<') => {
                rest.next();
                let mut end = String::new();
                while let Some(part) = rest.next_if(|it| !it.is_whitespace()) {
                    end.extend(Some(part).filter(|it| !['\'', '"', '-'].contains(it)));
                }
                ends.push(end);
            }
            // A file is no word of the command; a file descriptor is none either.
            '<' | '>' if rest.peek() != Some(&'(') => {
                word = word.filter(|word| word.parse::<u8>().is_err());
                words.extend(word.take());
                while rest.next_if(|it| matches!(it, ' ' | '>' | '&')).is_some() {}
                while rest.next_if(|it| !it.is_whitespace() && !";|)".contains(*it)).is_some() {}
            }
            ' ' | '\t' => words.extend(word.take()),
            '\n' | ';' | '|' | '&' | '(' | ')' | '`' | '<' | '>' => {
                words.extend(word.take());
                found.push(std::mem::take(&mut words));
                for end in if next == '\n' { std::mem::take(&mut ends) } else { Vec::new() } {
                    let text: String = rest.clone().collect();
                    let lines = text.split_inclusive('\n');
                    let inside = lines.take_while(|line| line.trim_end() != end).collect::<String>();
                    rest.nth(inside.chars().count() + end.chars().count());
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word.take());
    found.push(words);
    found.retain(|words| !words.is_empty());
    found
}

/// Names of commands.
fn names() -> BTreeSet<String> {
    Cli::command().get_subcommands().map(|it| it.get_name().to_owned()).collect()
}

/// The words of a command without those that only say how it is run.
fn bare(mut words: &[String]) -> &[String] {
    const ONE: [&str; 10] = ["sudo", "env", "exec", "if", "while", "until", "!", "then", "do", "time"];
    loop {
        let text: Vec<&str> = words.iter().take(3).map(String::as_str).collect();
        let skipped = match text[..] {
            ["ip", "netns", "exec"] => 4,
            ["podman", "exec", _] => 3,
            [first, ..] if ONE.contains(&first) || first.contains('=') && !first.starts_with('-') => 1,
            _ => return words,
        };
        words = words.get(skipped..).unwrap_or_default();
    }
}

/// What `uvs` is told by a simple command; `None`: it is another program's.
fn told(words: &[String], names: &BTreeSet<String>) -> Option<Vec<String>> {
    let words = bare(words);
    let is_uvs = |word: &String| word == "uvs" || word.ends_with("/uvs");
    if words.starts_with(&["cargo".to_owned(), "run".to_owned()]) {
        let at = words.iter().position(|word| word == "--")?;
        let other = ["-p", "--package", "--bin", "--example"];
        let is_ours = words.iter().take(at).all(|word| !other.contains(&word.as_str()));
        return is_ours.then(|| words.iter().skip(at + 1).cloned().collect());
    }
    let at = words.iter().position(is_uvs)?;
    // `watch uvs status`, but not `systemctl restart uvs`.
    let is_known = words.get(at + 1).is_some_and(|next| names.contains(next));
    (is_known || at == 0 && words.len() > 1).then(|| words.iter().skip(at + 1).cloned().collect())
}

/// Whether a word stands for another one.
fn is_placeholder(word: &str) -> bool {
    word.contains(['$', '{', '<', '%'])
        || word.contains("...")
        || word.chars().filter(char::is_ascii_uppercase).count() > 1
}

/// Why the command line does not take that.
fn judge(arguments: &[String], written: Written) -> Result<(), String> {
    use ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, InvalidSubcommand,
        InvalidValue, MissingRequiredArgument, MissingSubcommand, TooFewValues, ValueValidation,
    };
    if arguments.first().is_some_and(|first| first == "adm") {
        return judge_adm(&arguments[1..], written);
    }
    let words = std::iter::once("uvs").chain(arguments.iter().map(String::as_str));
    let Err(error) = Cli::command().try_get_matches_from(words) else { return Ok(()) };
    match error.kind() {
        DisplayHelp | DisplayVersion => Ok(()),
        DisplayHelpOnMissingArgumentOrSubcommand
        | MissingRequiredArgument
        | MissingSubcommand
        | TooFewValues
            if written == Written::InPart =>
        {
            Ok(())
        }
        InvalidValue if written == Written::InPart => Ok(()),
        // `uvs COMMAND --help`
        InvalidSubcommand if arguments.first().is_some_and(|it| is_placeholder(it)) => Ok(()),
        InvalidValue | ValueValidation if arguments.iter().any(|it| is_placeholder(it)) => Ok(()),
        _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// The same of ipvsadm's words.
fn judge_adm(words: &[String], written: Written) -> Result<(), String> {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(at) = words.iter().position(|word| *word == "--socket") {
        words.drain(at..words.len().min(at + 2));
    }
    let own = ["--export", "--help", "-h"];
    if words.is_empty() || words.iter().any(|word| own.contains(word)) {
        return Ok(());
    }
    let Err(failure) = uvs_adm::parse(&words) else { return Ok(()) };
    let is_unknown = failure.message.contains("unknown option");
    let is_whole = written == Written::Whole && !words.iter().any(|word| is_placeholder(word));
    if is_unknown || is_whole { Err(failure.message) } else { Ok(()) }
}

/// What was found, where.
#[derive(Default)]
struct Found {
    commands: usize,
    wrong: Vec<String>,
}

impl Found {
    fn judge(&mut self, at: &str, arguments: &[String], written: Written) {
        self.commands += 1;
        if let Err(why) = judge(arguments, written) {
            self.wrong.push(format!("{at}: uvs {}: {why}", arguments.join(" ")));
        }
    }

    fn text(&mut self, at: &str, text: &str, written: Written, names: &BTreeSet<String>) {
        for words in commands(text) {
            if let Some(arguments) = told(&words, names) {
                self.judge(at, &arguments, written);
            }
        }
    }

    /// Blocks for a shell, and `uvs ...` in the middle of a sentence.
    fn document(&mut self, name: &str, text: &str, names: &BTreeSet<String>) {
        let (mut block, mut prose) = (String::new(), String::new());
        let mut open: Option<(String, usize)> = None;
        for (line, number) in text.lines().zip(1..) {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let Some((info, begun)) = open.take() else {
                    open = Some((info.to_owned(), number));
                    continue;
                };
                let shell = match info.split(',').next().unwrap_or_default() {
                    "sh" | "bash" => block.clone(),
                    // What a person types stands behind a prompt.
                    "console" => block
                        .lines()
                        .filter_map(|line| line.strip_prefix("$ "))
                        .map(|line| format!("{line}\n"))
                        .collect(),
                    _ => String::new(),
                };
                self.text(&format!("{name}:{begun}"), &shell, Written::Whole, names);
                block.clear();
            } else if open.is_some() {
                block.push_str(line);
                block.push('\n');
            } else {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        for code in prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2)) {
            let code = code.replace('\n', " ").replace("\\|", "|").replace(['[', ']'], "");
            for variant in variants(&code) {
                self.text(&format!("{name}: `{code}`"), &variant, Written::InPart, names);
            }
        }
    }

    /// Messages and comments: from `uvs COMMAND` as far as what follows looks like its arguments.
    fn source(&mut self, name: &str, text: &str) {
        for (line, number) in text.lines().zip(1..) {
            for (at, _) in line.match_indices("uvs ") {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|it| it.is_alphanumeric() || "-_./".contains(it)) {
                    continue;
                }
                let end = ['"', '`', ',', ';', '(', ')', '|', '&', '#'];
                let said = line[at + 4..].split(end).next().unwrap_or_default();
                let said = said.split(". ").next().unwrap_or_default();
                let said = said.split("  ").next().unwrap_or_default().trim_end_matches(['.', ':']);
                let arguments = arguments_of(said);
                if !arguments.is_empty() {
                    self.judge(&format!("{name}:{number}"), &arguments, Written::InPart);
                }
            }
        }
    }

    /// The examples in the help of a command and of those below it.
    fn help(&mut self, path: &str, command: &mut clap::Command, names: &BTreeSet<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
            // What an example does stands behind it, with some space between.
            let example = line.split("   ").next().unwrap_or_default();
            if example.starts_with("uvs ") || example.contains("; uvs ") || example.contains("| uvs ") {
                let example = example.split("  ").next().unwrap_or_default();
                self.text(&format!("{path} --help: {example}"), example, Written::Whole, names);
            }
        }
        for below in command.get_subcommands_mut() {
            let path = format!("{path} {}", below.get_name());
            self.help(&path, below, names);
        }
    }
}

/// `a|b` without blanks stands for `a`, and for `b`.
fn variants(code: &str) -> Vec<String> {
    let words: Vec<Vec<&str>> = code
        .split(' ')
        .map(|word| if word.len() > 1 { word.split('|').collect() } else { vec![word] })
        .collect();
    let most = words.iter().map(Vec::len).max().unwrap_or(1);
    let pick = |number: usize| {
        let picked: Vec<&str> = words.iter().map(|word| word[number.min(word.len() - 1)]).collect();
        picked.join(" ")
    };
    (0..most).map(pick).collect()
}

/// The arguments at the beginning of the rest of a sentence.
fn arguments_of(said: &str) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut command = Cli::command();
    for word in said.split_whitespace() {
        let below = command.get_subcommands().find(|it| it.get_name() == word).cloned();
        let is_value = || {
            let mut values = command.get_positionals().flat_map(clap::Arg::get_possible_values);
            values.any(|value| value.get_name() == word)
        };
        let is_argument = match &below {
            Some(_) => true,
            None if arguments.is_empty() => return Vec::new(),
            // An arrow of a picture.
            None if word.starts_with("---") => false,
            None if is_value() => true,
            None => {
                word.starts_with('-') && word.len() > 1 || is_placeholder(word) || word.contains(['/', '='])
            }
        };
        if !is_argument {
            break;
        }
        arguments.push(word.to_owned());
        if let Some(below) = below {
            command = below;
        }
    }
    arguments
}

/// Files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let skipped = ["target", "node_modules", "golden", "prebuilt", ".git"];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !skipped.contains(&name.as_str()) {
                files(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

#[test]
fn commands_in_documents_messages_and_help_are_right() {
    let (root, names) = (root(), names());
    let (mut documents, mut sources, mut help) = (Found::default(), Found::default(), Found::default());
    let mut all = Vec::new();
    let endings = [".md", ".rs", ".toml", ".yml", ".js", ".json", ".service", "Containerfile", "README"];
    files(&root, &endings, &mut all);
    for path in all {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        // What was once is history; tests say what is wrong on purpose.
        let is_test = name.contains("tests") && name.ends_with(".rs");
        if name == "CHANGELOG.md" || is_test {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        if name.ends_with(".md") {
            documents.document(&name, &text, &names);
        } else {
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            sources.source(&name, text);
        }
    }
    help.help("uvs", &mut Cli::command(), &names);
    let found = [&documents, &sources, &help];
    let wrong: Vec<_> = found.iter().flat_map(|it| it.wrong.iter().cloned()).collect();
    assert!(wrong.is_empty(), "{} commands are wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!(
        "{} in documents, {} in sources, {} in help",
        found[0].commands, found[1].commands, found[2].commands
    );
    for (of, least) in found.iter().zip([250, 150, 50]) {
        assert!(of.commands >= least, "{} were found, where there were {least}", of.commands);
    }
}

#[test]
fn what_is_wrong_is_found() {
    let names = names();
    let wrong = |text: &str| {
        let mut found = Found::default();
        found.document("page.md", text, &names);
        found.wrong.len()
    };
    let cases = [
        ("```sh\nuvs check edge.toml && sudo uvs status --josn\n```", 1, "behind another command"),
        ("```sh\nip netns exec client uvs probe tcp 192.0.2.1:80 --nosuch\n```", 1, "behind other words"),
        ("```sh\ncat > a <<'EOF'\nuvs statsu\nEOF\nuvs statsu\n```", 1, "not in a here-document"),
        ("```sh\ncargo run --release -- demo --nosuch\n```", 1, "by cargo"),
        ("```sh\ncargo run -p uvs-bench -- versus\n```", 0, "another program"),
        ("```sh\nsudo systemctl enable --now uvs\nsystemctl reload uvs\n```", 0, "a unit"),
        ("```sh\ntest \"$(uvs statsu --json)\"\n```", 1, "in quotes"),
        ("```console\n$ uvs status --nosuch\nuvs status --nosuch\n```", 1, "behind a prompt"),
        ("```sh\nuvs drain\n```", 1, "nothing to drain"),
        ("say `uvs drain` or `uvs drain SERVICE/DEST --deadlin 30s`", 1, "in a sentence"),
        ("say `uvs wait SERVICE/DEST --drained|--ip`", 1, "one of two"),
        ("```sh\nuvs adm -A -t 192.0.2.1:80 -s rr\nuvs adm --nosuch\n```", 1, "words of ipvsadm"),
        ("```sh\nuvs status > file 2>&1; uvs status 2> /dev/null\n```", 0, "redirections"),
    ];
    for (text, want, why) in cases {
        assert_eq!(wrong(text), want, "{why}: {text}");
    }
    let mut found = Found::default();
    found.source("a.rs", "say(\"ask uvs probe udp ADDRESS:PORT --nosuch and see\"); // uvs is uvs all over");
    assert_eq!((found.wrong.len(), found.commands), (1, 1), "{:?}", found.wrong);
}
