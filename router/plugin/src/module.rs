//! A compiled module.

use core::fmt;
use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::base::hex;
use crate::bindings::SchedulerIndices;
use crate::guest::Guest;
use crate::host::Host;
use crate::optional::ObserverIndices;

/// A compiled component that fits the contract. A clone is another handle.
#[derive(Clone)]
pub struct Module {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) host: Host,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) indices: SchedulerIndices,
    /// Of the optional part, if it has that.
    pub(crate) observer: Option<ObserverIndices>,
    pub(crate) name: String,
    pub(crate) bytes: usize,
    pub(crate) sha256: [u8; 32],
    pub(crate) cached: bool,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("bytes", &self.bytes())
            .field("sha256", &self.sha256())
            .finish()
    }
}

impl Module {
    /// Where it came from: a path, or the name of a shipped scheduler.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Size of the component in bytes.
    pub fn bytes(&self) -> usize {
        self.inner.bytes
    }

    /// SHA-256 of the component, in hex.
    pub fn sha256(&self) -> String {
        hex(&self.inner.sha256)
    }

    /// Whether its code came out of the cache instead of the compiler.
    pub fn was_cached(&self) -> bool {
        self.inner.cached
    }

    /// The engine it was compiled by.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// What an instance is made of: the component, and where its exports are.
    pub(crate) fn parts(&self) -> (&InstancePre<Guest>, &SchedulerIndices, Option<&ObserverIndices>) {
        let Inner { pre, indices, observer, .. } = &*self.inner;
        (pre, indices, observer.as_ref())
    }

    /// Whether it wants to hear how destinations take connections (the optional interface `feedback`).
    pub fn observes(&self) -> bool {
        self.inner.observer.is_some()
    }

    /// Whether this is its only handle: nobody runs it.
    pub(crate) fn is_unused(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.inner.sha256
    }
}
