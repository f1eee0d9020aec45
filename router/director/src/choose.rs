//! Where a new connection goes: services, schedulers, persistence, FTP's data connections.

pub(crate) mod defence;
pub(crate) mod ftp;
pub(crate) mod reals;
pub(crate) mod removed;
pub(crate) mod schedule;
pub(crate) mod service;
