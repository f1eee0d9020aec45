//! The command line, the listings and the exit codes of ipvsadm 1.31, over a [`uvs_director::Director`].
//!
//! ```text
//!   arguments --> parse --> Command --> execute --> Output {stdout, stderr, code}
//!                   `-> Failure                        |
//!                                                    format (also used on its own)
//! ```
//!
//! Nothing here does I/O: ports have names out of a fixed table, names of hosts are put into addresses beforehand
//! ([`with_addresses`], with a look-up that the caller brings), and the rules of `-R` come in as a string.

mod address;
mod command;
mod execute;
pub mod format;
mod legal;
mod names;
mod options;
mod parse;
mod settings;

pub use command::{Command, DaemonRole, DaemonSpec, Failure, Output};
pub use execute::{execute, list_connections, run, split_words};
pub use names::{Lookup, with_addresses, with_addresses_in_rules};
pub use parse::parse;
pub use settings::Setting;
