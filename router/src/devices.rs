//! The devices of the data plane, of which one can be replaced while the others go on.
//!
//! ```text
//!   keeper --replace--> Devices (list, version) <--current, where the version is another-- worker
//! ```
//! A worker works on a list of its own and compares one number for each batch, so that nothing is locked on the packet
//! path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use uvs_device::Device;
use uvs_director::PortId;

/// Devices by port, as they were at one moment.
pub type List = Arc<[Arc<Device>]>;

/// All devices, by port.
#[derive(Debug)]
pub struct Devices {
    list: Mutex<List>,
    version: AtomicU64,
}

impl Devices {
    /// These.
    pub fn new(devices: Vec<Device>) -> Self {
        Self { list: Mutex::new(devices.into_iter().map(Arc::new).collect()), version: AtomicU64::new(0) }
    }

    /// How often a device was replaced.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The devices now, and the version of that list at least.
    pub fn current(&self) -> (u64, List) {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version(), Arc::clone(&list))
    }

    /// Puts a device in the place of the one there, which closes once the last worker has noticed.
    pub fn replace(&self, port: PortId, device: Device) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let mut devices = list.to_vec();
        if let Some(place) = devices.get_mut(usize::from(port.0)) {
            *place = Arc::new(device);
        }
        *list = devices.into();
        self.version.fetch_add(1, Ordering::Release);
    }
}
