//! `adm`: ipvsadm's command line, executed in the director.

use serde::{Deserialize, Serialize};

/// One invocation of `uvs adm`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What stands behind the program's name. Hosts are addresses: the director looks no name up.
    pub arguments: Vec<String>,
    /// Standard input, which only `-R` reads.
    #[serde(default)]
    pub input: String,
    /// A list of connections may come in parts, each an answer of its own, no faster than they are read; after the last
    /// one the connection is closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

/// What it printed, and its exit status. A command line that is refused is an answer too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status, as ipvsadm's.
    pub code: u8,
    /// With `stream`: another part follows, and this one has a part of the standard output only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}
