//! What entries share that hang on another one.

use core::sync::atomic::{AtomicBool, AtomicU32};

/// What a template knows about the connections it placed, and an FTP control connection about its data
/// connections. Shared with them.
#[derive(Debug)]
pub(crate) struct Control {
    /// No other one of this director has it.
    pub(crate) number: u64,
    /// Connections it placed that are still there.
    pub(crate) controlled: AtomicU32,
    /// One of them was established once.
    pub(crate) assured: AtomicBool,
    /// The template belongs to a one-packet service.
    pub(crate) one_packet: bool,
}

impl Control {
    /// One that nothing hangs on yet; [`Table::control`](crate::track::table::Table::control) numbers them.
    pub(crate) fn new(number: u64, one_packet: bool) -> Self {
        Self { number, controlled: AtomicU32::new(0), assured: AtomicBool::new(false), one_packet }
    }
}
