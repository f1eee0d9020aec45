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
}
