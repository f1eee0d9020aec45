//! Commands that ask a running director: `uvs adm`, `uvs doctor`, `uvs drain`, `uvs undrain`, `uvs wait`,
//! `uvs explain`, `uvs events`, `uvs plan`, `uvs probe`, `uvs reload`, `uvs sched`, `uvs status` and `uvs top`.

pub mod adm;
pub mod destination;
pub mod doctor;
pub mod events;
mod health;
pub mod plan;
pub mod probe;
pub mod sched;
pub mod status;
pub mod top;
mod watch;

use std::path::PathBuf;

use uvs_control::{Client, ClientError, PATIENCE, SOCKET_VARIABLE, socket_path};

/// Which director is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Which {
    /// The control socket of the director [default: $UVS_SOCKET, else /run/uvs.sock]
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
