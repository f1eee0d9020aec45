//! What the table has to tell of entries whose packets do not all come to the director.

use crate::base::time::Instant;
use crate::track::connection::Connection;

/// Keeps packets of connections away from the director: a flow cache. Told with the entry's shard locked, so that no
/// other worker can have entered the connection again meanwhile.
pub(crate) trait Bypass: Send + Sync {
    /// The entry has left the table.
    fn remove(&self, connection: &Connection);

    /// When the time of the entry is up, as its last packet says wherever that passed.
    fn deadline(&self, connection: &Connection) -> Instant;

    /// The entry stays, and its packets come to the director again.
    fn take_out(&self, connection: &mut Connection);
}
