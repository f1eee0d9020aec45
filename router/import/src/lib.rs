//! From keepalived.conf, from rules of ipvsadm and from a running director to a configuration of uvs.
//!
//! ```text
//!   files --> lexer --> tree --> grammar --> (keepalived's own terms) --> inherit --> output --> TOML
//!               |          `-- blocks within blocks                         |           |
//!               `-- comments, conditions, definitions, sequences, includes  |           |
//!                                       rules of ipvsadm --> ipvsadm --------------------'
//! ```
//! What comes out is what the program runs that the file was written for, which is not always what was written:
//! [`Remark`]s say where that is so, what is different here and what has no counterpart. Nothing here does I/O but
//! through [`Files`], and no input is a reason to panic, to go on for ever or to take memory without bound.

mod checker;
mod checks;
mod define;
mod files;
mod grammar;
mod group;
mod imported;
mod ipvsadm;
mod keepalived;
mod lexer;
mod method;
mod model;
mod network;
mod output;
mod remark;
mod resolve;
mod scripts;
mod sequence;
mod tree;
mod value;
mod words;

pub use files::{Files, alternatives};
pub use imported::{Done, Fault, Imported};
pub use ipvsadm::ipvsadm;
pub use keepalived::keepalived;
pub use network::{ArmWish, Wish};
pub use output::Attached;
pub use remark::{At, Kind, Remark, together};
