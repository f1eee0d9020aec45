//! What only changes and timers touch, one at a time.

use crate::choose::service::Trash;

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Control {
    pub(super) trash: Trash,
    pub(super) next_destination_id: u32,
}
