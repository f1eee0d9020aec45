//! Why a change is refused.

use crate::base::spec::ServiceKey;

/// Why a change was refused. Nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// That service is there already.
    #[error("service {0} already exists")]
    ServiceExists(ServiceKey),
    /// No such service.
    #[error("no service {0}")]
    NoSuchService(ServiceKey),
    /// That destination is there already.
    #[error("service {0} already has destination {1}")]
    DestinationExists(ServiceKey, core::net::SocketAddr),
    /// No such destination.
    #[error("service {0} has no destination {1}")]
    NoSuchDestination(ServiceKey, core::net::SocketAddr),
    /// The scheduler could not be made.
    #[error("scheduler {name:?}: {reason}")]
    Scheduler {
        /// As it was asked for.
        name: String,
        /// What the factory said.
        reason: String,
    },
    /// The change contradicts itself or what is there.
    #[error("{0}")]
    Invalid(String),
}
