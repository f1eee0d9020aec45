//! `uvs adm`, and `uvs` under the name of ipvsadm.
//!
//! ```text
//!   arguments, standard input --> names of hosts become addresses --> director --> what it printed, its exit status
//! ```
//! What a command line means is for the director to say; help and version are answered here, for they need none.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use uvs_adm::{Command, Output};
use uvs_control::adm::Request;
use uvs_control::{Answer, ClientError, ErrorKind, REQUEST_MAX};

use super::Which;

/// `uvs adm`. Nothing in it is for clap: all of it is ipvsadm's language.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// As ipvsadm's; `--socket PATH` names the director, `--sysctl` shows and sets net.ipv4.vs.*
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// What ipvsadm's own help does not have.
const MORE: &str = "
Of uvs, not of ipvsadm:
  --sysctl [NAME[=VALUE]]...      show settings (all without a name), or set them; names as
                                  under net.ipv4.vs
  --export                        print what runs as a configuration (TOML) for uvs check, uvs run
  --socket PATH                   the control socket of the director (default: $UVS_SOCKET,
                                  else /run/uvs/uvs.sock)
A change holds until the director reads its configuration again (uvs reload, SIGHUP) or ends; uvs plan shows
what that would undo.
";

/// Runs `uvs adm ARGUMENTS`, or `ipvsadm ARGUMENTS` when `as_ipvsadm`.
///
/// # Errors
/// No director answers, standard input cannot be read, an argument is not UTF-8.
pub fn run(arguments: &[OsString], as_ipvsadm: bool) -> anyhow::Result<ExitCode> {
    let (which, arguments) = split_socket(arguments)?;
    let words: Vec<&str> = arguments
        .iter()
        .map(|word| word.to_str().with_context(|| format!("argument {word:?} is not UTF-8")))
        .collect::<anyhow::Result<_>>()?;
    let command = uvs_adm::parse(&words);
    match &command {
        Ok(Command::Help) => {
            let more = if as_ipvsadm { "" } else { MORE };
            return print(&Output::text(uvs_adm::format::usage() + more));
        }
        Ok(Command::Version) => return print(&Output::text(uvs_adm::format::version())),
        _ => {}
    }
    let streams = matches!(command, Ok(Command::ListConnections { .. }));
    let input = match command {
        Ok(Command::Restore) => uvs_adm::with_addresses_in_rules(&rules()?, &mut look_up),
        _ => String::new(),
    };
    let arguments = absolute_modules(uvs_adm::with_addresses(&words, &mut look_up));
    let request = Request { arguments, input, stream: streams };
    if !streams {
        return print(&output(which.connect()?.ask(&uvs_control::Request::Adm(request))?)?.0);
    }
    list(&which, request)
}

/// Prints a list as it comes.
fn list(which: &Which, request: Request) -> anyhow::Result<ExitCode> {
    let mut client = which.connect()?;
    let mut answer = match client.ask(&uvs_control::Request::Adm(request.clone())) {
        // A director of an earlier version tells everything in one answer.
        Err(ClientError::Refused(error)) if error.kind == ErrorKind::Malformed => {
            client.ask(&uvs_control::Request::Adm(Request { stream: false, ..request }))
        }
        answer => answer,
    };
    loop {
        let (part, more) = output(answer.context("the list of connections is not whole")?)?;
        let written = io::stdout().lock().write_all(part.stdout.as_bytes());
        // As of a filter whose reader has seen enough: `uvs adm -Lnc | head`.
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return Ok(ExitCode::SUCCESS);
        }
        written.context("standard output cannot be written")?;
        if !more {
            return print(&Output { stdout: String::new(), ..part });
        }
        answer = client.more();
    }
}

/// What is to be printed, and whether there is more.
fn output(answer: Answer) -> anyhow::Result<(Output, bool)> {
    match answer {
        Answer::Adm(it) => Ok((Output { stdout: it.stdout, stderr: it.stderr, code: it.code }, it.more)),
        other => bail!("the director answered something else: {other:?}"),
    }
}

/// `--socket PATH` or `--socket=PATH`, wherever it stands (ipvsadm has no such option), and the rest.
fn split_socket(arguments: &[OsString]) -> anyhow::Result<(Which, Vec<OsString>)> {
    let (mut which, mut rest) = (Which::default(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let path = if word == "--socket" {
            words.next().context("--socket wants the path of a director's socket")?.into()
        } else if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--socket=")) {
            PathBuf::from(path)
        } else {
            rest.push(word.clone());
            continue;
        };
        which.socket = Some(path);
    }
    Ok((which, rest))
}

fn rules() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(REQUEST_MAX as u64)
        .read_to_end(&mut bytes)
        .context("the rules on standard input cannot be read")?;
    if bytes.len() >= REQUEST_MAX {
        bail!("the rules on standard input have more than {REQUEST_MAX} bytes; give them in parts");
    }
    String::from_utf8(bytes).context("the rules on standard input are not UTF-8")
}

/// Where a scheduler is named by a path, the director has to find it from its own folder.
fn absolute_modules(mut words: Vec<String>) -> Vec<String> {
    for index in 0..words.len() {
        let named = |option: &str| index > 0 && words[index - 1] == option;
        let is_path = words[index].ends_with(".wasm") && (named("-s") || named("--scheduler"));
        if is_path
            && let Ok(path) = std::path::absolute(&words[index])
            && let Some(path) = path.to_str()
        {
            words[index] = path.to_owned();
        }
    }
    words
}

fn look_up(name: &str) -> Vec<IpAddr> {
    // A name nobody knows is an illegal address in ipvsadm's words, which the director says.
    (name, 0).to_socket_addrs().map(|found| found.map(|addr| addr.ip()).collect()).unwrap_or_default()
}

fn print(output: &Output) -> anyhow::Result<ExitCode> {
    let printed = io::stdout().lock().write_all(output.stdout.as_bytes()).and_then(|()| io::stdout().flush());
    // As of a filter whose reader has seen enough: `uvs adm -Lnc | head`.
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error).context("standard output cannot be written");
    }
    io::stderr().lock().write_all(output.stderr.as_bytes()).context("standard error cannot be written")?;
    Ok(ExitCode::from(output.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_socket_is_named_anywhere() {
        let cases = [
            ("--socket /a -L -n", Some("/a"), "-L -n"),
            ("--socket=/a -L", Some("/a"), "-L"),
            ("-L --socket /a -n", Some("/a"), "-L -n"),
            ("-L --socket=/a", Some("/a"), "-L"),
            ("", None, ""),
        ];
        for (line, socket, rest) in cases {
            let line = words(line);
            let (which, left) = split_socket(&line).unwrap();
            assert_eq!(which.socket, socket.map(PathBuf::from), "{line:?}");
            assert_eq!(left, words(rest), "{line:?}");
        }
        assert!(split_socket(&words("--socket")).is_err());
    }

    #[test]
    fn modules_are_named_so_that_the_director_finds_them() {
        let line = ["-A", "-t", "a.wasm", "-s", "mine.wasm"].map(str::to_owned).to_vec();
        let changed = absolute_modules(line);
        assert_eq!(changed[2], "a.wasm", "no scheduler");
        assert!(changed[4].starts_with('/') && changed[4].ends_with("/mine.wasm"), "{changed:?}");
        let named = ["-A", "-s", "rr"].map(str::to_owned).to_vec();
        assert_eq!(absolute_modules(named.clone()), named);
    }
}
