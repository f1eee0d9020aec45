//! What the kernel tells unasked.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

use super::NetError;

/// Links, addresses and rules: routes are left out, for on a router they change all the time.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Changes of links, addresses and rules in one network namespace, by whomever.
pub struct Events {
    changes: BoxStream<'static, ()>,
    task: JoinHandle<()>,
}

impl Events {
    /// Listens in the network namespace of the calling thread. Call it within a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new() -> Result<Self, NetError> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)
            .map_err(|error| NetError::new("listen for changes of links", error))?;
        let task = tokio::spawn(async move {
            // Without a handle that could ask, the connection would end.
            let _handle = handle;
            connection.await;
        });
        Ok(Self { changes: messages.map(|_| ()).boxed(), task })
    }

    /// Waits for the next change; `None`: there will be no more. Some may be lost when there are very many at once.
    pub async fn next(&mut self) -> Option<()> {
        self.changes.next().await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}
