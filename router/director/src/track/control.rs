//! What entries share that hang on another one.

use core::sync::atomic::{AtomicBool, AtomicU32};

/// What a template knows about the connections it placed, and an FTP control connection about its data
/// connections. Shared with them.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Connections it placed that are still there.
    pub(crate) controlled: AtomicU32,
    /// One of them was established once.
    pub(crate) assured: AtomicBool,
    /// The template belongs to a one-packet service.
    pub(crate) one_packet: bool,
}
