//! The command line, the listings and the exit codes of ipvsadm 1.31, over a [`uvs_director::Director`].
//!
//! ```text
//!   arguments --> parse --> Command --> execute --> Output {stdout, stderr, code}
//!                   `-> Failure                        |
//!                                                    format (also used on its own)
//! ```
//!
//! Nothing here does I/O: ports have names out of a fixed table, host names are refused, and the rules of `-R`
//! come in as a string.

mod address;
mod command;
mod execute;
pub mod format;
mod legal;
mod options;
mod parse;

pub use command::{Command, DaemonRole, DaemonSpec, Failure, Output};
pub use execute::{execute, run, split_words};
pub use parse::parse;
