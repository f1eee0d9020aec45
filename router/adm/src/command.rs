//! What a command line means.

use core::fmt;
use core::net::IpAddr;

use uvs_director::Duration;
use uvs_director::spec::{Change, ServiceKey};

use crate::format::Layout;
use crate::settings::Setting;

/// A command line that was refused: what ipvsadm prints on standard error, and its exit status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Without the line feed at its end.
    pub message: String,
    /// 1, 2 or 255.
    pub exit_code: u8,
}

impl Failure {
    /// A mistake in the command line: exit status 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 2 }
    }

    /// What the C program returns as -1: exit status 255.
    pub(crate) fn minus_one(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 255 }
    }
}

/// One invocation of ipvsadm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A -E -D -C -a -e -d -Z`: one change.
    Change(Change),
    /// `--set`: seconds of each timer, `None` (given as 0) leaves it.
    SetTimeouts {
        /// TCP in ESTABLISHED.
        tcp: Option<Duration>,
        /// TCP in FIN_WAIT.
        tcp_fin: Option<Duration>,
        /// UDP.
        udp: Option<Duration>,
    },
    /// `-L`: everything, or one service.
    List {
        /// `None` is the whole table.
        service: Option<ServiceKey>,
        /// Columns and such.
        layout: Layout,
    },
    /// `-L -c`.
    ListConnections {
        /// Ports by number.
        numeric: bool,
        /// With the heading of `--persistent-conn`.
        persistent_conn: bool,
    },
    /// `-L --timeout`.
    ListTimeouts,
    /// `-L --daemon`.
    ListDaemons,
    /// `-S`.
    Save(Layout),
    /// `-R`: rules come on standard input.
    Restore,
    /// `--start-daemon`.
    StartDaemon(DaemonSpec),
    /// `--stop-daemon`.
    StopDaemon(DaemonRole),
    /// `--sysctl`, which is not ipvsadm's: settings to show, or with a value to set, all or none.
    Settings(Vec<(&'static Setting, Option<u32>)>),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

impl Command {
    /// Whether it changes the director, or would.
    pub fn changes(&self) -> bool {
        match self {
            Self::Change(_)
            | Self::SetTimeouts { .. }
            | Self::Restore
            | Self::StartDaemon(_)
            | Self::StopDaemon(_) => true,
            Self::Settings(settings) => settings.iter().any(|(_, value)| value.is_some()),
            Self::List { .. }
            | Self::ListConnections { .. }
            | Self::ListTimeouts
            | Self::ListDaemons
            | Self::Save(_)
            | Self::Help
            | Self::Version => false,
        }
    }
}

/// Which half of connection synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonRole {
    /// Tells others.
    Master,
    /// Listens.
    Backup,
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

/// A synchronisation daemon, with the kernel's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSpec {
    /// Master or backup.
    pub role: DaemonRole,
    /// The multicast interface; `eth0` unless told.
    pub interface: String,
    /// 0 to 255; 0 unless told.
    pub sync_id: u8,
    /// Largest message in bytes; 1472 unless told.
    pub max_len: u16,
    /// Multicast group; 224.0.0.81 unless told.
    pub group: IpAddr,
    /// UDP port; 8848 unless told.
    pub port: u16,
    /// 1 unless told.
    pub ttl: u8,
}

/// What an invocation printed, and its exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status.
    pub code: u8,
}

impl Output {
    /// Success with that text.
    pub fn text(stdout: impl Into<String>) -> Self {
        Self { stdout: stdout.into(), ..Self::default() }
    }
}

impl From<Failure> for Output {
    fn from(failure: Failure) -> Self {
        Self { stdout: String::new(), stderr: format!("{}\n", failure.message), code: failure.exit_code }
    }
}
