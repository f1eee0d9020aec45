//! Commands that ask a running director: `uvs adm`, `uvs announce`, `uvs doctor`, `uvs drain`, `uvs undrain`,
//! `uvs wait`, `uvs explain`, `uvs events`, `uvs ha`, `uvs plan`, `uvs probe`, `uvs reload`, `uvs sched`,
//! `uvs status`, `uvs top` and `uvs trace`.

pub mod adm;
pub mod announce;
pub mod destination;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod ha;
mod health;
mod packet;
mod pcapng;
pub mod plan;
pub mod probe;
pub mod sched;
pub mod status;
pub mod top;
pub mod trace;
mod watch;

use std::path::PathBuf;

use uvs_control::{Client, ClientError, PATIENCE, SOCKET_VARIABLE, socket_path};

/// Which director is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Which {
    /// The control socket of the director [default: $UVS_SOCKET, else /run/uvs/uvs.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Which {
    /// Connects to it.
    ///
    /// # Errors
    /// It does not run, or may not be asked.
    pub fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.path(), PATIENCE)
    }

    /// Where its socket is.
    pub fn path(&self) -> PathBuf {
        socket_path(self.socket.clone(), std::env::var_os(SOCKET_VARIABLE))
    }
}

/// Ends this process with status 0 at SIGINT or SIGTERM.
fn end_by_signals() -> anyhow::Result<()> {
    use anyhow::Context as _;
    use nix::sys::signal::{SigSet, Signal};
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("signals cannot be waited for")?;
    let wait = move || {
        if signals.wait().is_ok() {
            end_between_lines();
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("signals cannot be waited for")?;
    Ok(())
}

/// Ends this process with status 0, when nobody prints.
fn end_between_lines() {
    let _output = std::io::stdout().lock();
    std::process::exit(0);
}
