//! What packages ship beside the program, made from the definition of the command line: completions and man pages.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// `uvs completions`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  source <(uvs completions bash)                                          for this shell
  uvs completions fish > ~/.config/fish/completions/uvs.fish              for all to come

The Debian package has them for bash, zsh and fish.")]
pub struct CompletionsArgs {
    /// Whose
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// `uvs man`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  mkdir -p ~/.local/share/man/man1 && uvs man ~/.local/share/man/man1     then: man uvs, man uvs-run

The Debian package has them.")]
pub struct ManArgs {
    /// The folder, which is there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Prints the completions of a shell for the command line `of`.
///
/// # Errors
/// Nobody reads them.
pub fn completions(arguments: &CompletionsArgs, mut of: Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut of, "uvs", &mut text);
    match io::stdout().write_all(&text) {
        // Whoever pipes it into `head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).context("the completions cannot be written"),
    }
}

/// Writes a man page for each command of the command line `of` into a folder.
///
/// # Errors
/// It cannot be written there.
pub fn man(arguments: &ManArgs, of: Command) -> anyhow::Result<ExitCode> {
    let pages = write_pages(&arguments.folder, of)
        .with_context(|| format!("the man pages cannot be written to {}", arguments.folder.display()))?;
    println!("{pages} man pages in {}", arguments.folder.display());
    Ok(ExitCode::SUCCESS)
}

fn write_pages(folder: &Path, mut command: Command) -> io::Result<usize> {
    command.build();
    let mut pages = 0;
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        waiting.extend(shown.cloned());
        let page = clap_mangen::Man::new(command).manual("uvs");
        let mut text = Vec::new();
        page.render(&mut text)?;
        std::fs::write(folder.join(page.get_filename()), text)?;
        pages += 1;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let pages = write_pages(folder.path(), Cli::command()).unwrap();
        let names: BTreeSet<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), pages, "none has the name of another: {names:?}");
        for name in ["uvs.1", "uvs-run.1", "uvs-adm.1", "uvs-sched-load.1"] {
            assert!(names.contains(name), "{name} is not among {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains(crate::cli::COMPILE)), "{names:?}");
        let text = std::fs::read_to_string(folder.path().join("uvs-run.1")).unwrap();
        for part in ["CAP_NET_ADMIN", "\\-\\-config", "SIGHUP", "uvs\\-run"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = man(&ManArgs { folder: "/nowhere/man1".into() }, Cli::command()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/man1"), "{error:#}");
    }
}
