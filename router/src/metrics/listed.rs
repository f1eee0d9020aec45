//! Of which destinations there are series: of all, or of as many as there may be.

use std::collections::HashSet;
use std::net::SocketAddr;

use uvs_check::weight::Admin;
use uvs_director::spec::ServiceKey;
use uvs_director::view::ServiceView;

/// The destinations on a page. Where there are too many, those in trouble come first, each in the order of the listing:
/// alerts look for them, and the sums over all are in the series of services.
pub(super) struct Listed {
    /// `None`: all.
    only: Option<HashSet<(ServiceKey, SocketAddr)>>,
    omitted: usize,
}

impl Listed {
    pub(super) fn of(services: &[ServiceView], checked: &[uvs_check::core::ServiceView], max: usize) -> Self {
        let total: usize = services.iter().map(|service| service.destinations.len()).sum();
        if total <= max {
            return Self { only: None, omitted: 0 };
        }
        // Of what is checked and removed from the director meanwhile nobody asks.
        let out = checked.iter().flat_map(|service| {
            let trouble = service
                .destinations
                .iter()
                .filter(move |it| it.slots.admin() != Admin::Ready || (service.judged && !it.in_service));
            trouble.map(move |it| (service.key, it.addr))
        });
        let out: HashSet<_> = out.collect();
        let all = || {
            services.iter().flat_map(|service| {
                let key = service.spec.key;
                service.destinations.iter().map(move |it| ((key, it.spec.addr), it))
            })
        };
        let trouble = all().filter(|(name, it)| it.spec.weight == 0 || it.overloaded || out.contains(name));
        let mut only: HashSet<_> = trouble.map(|(name, _)| name).take(max).collect();
        let rest = all().map(|(name, _)| name);
        for name in rest {
            if only.len() >= max {
                break;
            }
            only.insert(name);
        }
        Self { omitted: total - only.len(), only: Some(only) }
    }

    pub(super) fn has(&self, service: ServiceKey, destination: SocketAddr) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&(service, destination)))
    }

    /// How many there are beside them.
    pub(super) const fn omitted(&self) -> usize {
        self.omitted
    }
}
