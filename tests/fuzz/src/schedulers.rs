//! Schedulers without modules.

use uvs_director::scheduler::{Scheduler, SchedulerFactory, Wlc};
use uvs_director::spec::SchedulerSpec;

/// Knows the shipped names; `wlc` picks behind all of them.
pub(crate) struct Shipped;

impl SchedulerFactory for Shipped {
    fn create(&self, spec: &SchedulerSpec, _: &str) -> Result<Box<dyn Scheduler>, String> {
        if uvs_config::SHIPPED.contains(&spec.name.as_str()) {
            Ok(Box::new(Wlc::default()))
        } else {
            Err(format!("unknown scheduler {:?}", spec.name))
        }
    }
}
