//! `ipvsadm -v`, `-h` and `-L --daemon`.

use std::fmt::Write as _;

use crate::command::DaemonSpec;

/// `ipvsadm -v`: the version whose command line this is.
pub fn version() -> &'static str {
    "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
}

/// `ipvsadm -h`.
pub fn usage() -> String {
    format!("{}{}", version(), include_str!("usage.txt"))
}

/// `ipvsadm -L --daemon`: a line for each synchronisation daemon that runs.
pub fn daemons(daemons: &[DaemonSpec]) -> String {
    let mut text = String::new();
    for daemon in daemons {
        writeln!(
            text,
            "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})",
            daemon.role,
            daemon.interface,
            daemon.sync_id,
            daemon.max_len,
            daemon.group,
            daemon.port,
            daemon.ttl
        )
        .expect("a String takes everything");
    }
    text
}
