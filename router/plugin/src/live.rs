//! The services that run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::base::lock;
use crate::load::{Refusal, Step};
use crate::running::Running;

/// The services whose scheduler the engine holds. One that it drops is no longer listed.
#[derive(Default)]
pub(crate) struct Live {
    running: Mutex<Vec<Weak<Running>>>,
}

impl Live {
    pub(crate) fn add(&self, running: &Arc<Running>) {
        let mut live = lock(&self.running);
        live.retain(|running| running.strong_count() > 0);
        live.push(Arc::downgrade(running));
    }

    /// Services that run. While the scheduler of one is being replaced both may be alive: the later one counts.
    pub(crate) fn list(&self) -> Vec<Arc<Running>> {
        let mut live = lock(&self.running);
        live.retain(|running| running.strong_count() > 0);
        let mut latest: BTreeMap<String, Arc<Running>> = BTreeMap::new();
        for running in live.iter().filter_map(Weak::upgrade) {
            latest.insert(running.service.clone(), running);
        }
        latest.into_values().collect()
    }

    /// The service of that name, or of that address where it is clear.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub(crate) fn find(&self, service: &str) -> Result<Arc<Running>, Refusal> {
        let running = self.list();
        let plain = |text: &str| text.trim().to_lowercase().replace(['/', '='], " ");
        let wanted = plain(service);
        // The protocol may be left out where it is clear.
        let matches = |name: &str| {
            let name = plain(name);
            name == wanted || name.split_once(' ').is_some_and(|(_, address)| address == wanted)
        };
        let mut found = running.iter().filter(|it| matches(&it.service));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(Arc::clone(one)),
            (Some(one), Some(other)) => {
                let reason = format!("{service:?} may be {} or {}; say which", one.service, other.service);
                Err(Refusal::new(Step::Find, reason))
            }
            (None, _) => {
                let names: Vec<_> = running.iter().map(|it| it.service.as_str()).collect();
                let reason = format!("there is no service {service:?}; there are: {}", names.join(", "));
                Err(Refusal::new(Step::Find, reason))
            }
        }
    }
}
