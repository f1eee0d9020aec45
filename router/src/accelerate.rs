//! The direct attach and its flow cache, as far as the configuration wants them and the host allows.

use tracing::{info, warn};
use uvs_attach::{AttachError, Attachments, CachePlan, Pair};
use uvs_config::{Accelerate, Config};

use crate::clock::Clock;
use crate::setup;

/// An interface that wanted the flow cache where it could be had, and why it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The interface.
    pub interface: String,
    /// What is missing.
    pub why: String,
}

/// What is attached, and what could not be accelerated.
#[derive(Default)]
pub struct Attached {
    /// `None`: no interface is to be attached.
    pub attachments: Option<Attachments>,
    /// In the order of the interfaces.
    pub missing: Vec<Missing>,
}

/// Attaches what the configuration says. Call it as [`Attachments::new`].
///
/// # Errors
/// Something cannot be attached, or a flow cache that must be there cannot.
pub async fn attach(config: &Config, clock: Clock) -> Result<Attached, AttachError> {
    let pairs = setup::direct(config);
    let mut missing: Vec<Missing> = config
        .interfaces
        .iter()
        .filter(|interface| interface.accelerate != Accelerate::Off && interface.direct.is_none())
        .map(|interface| Missing {
            interface: interface.spec.name.clone(),
            why: "it has no link of its own (attach = \"tcx\")".to_owned(),
        })
        .collect();
    let attachments =
        if pairs.is_empty() { None } else { Some(with_cache(config, clock, pairs, &mut missing).await?) };
    for Missing { interface, why } in &missing {
        info!(interface, "not accelerated: {why}");
    }
    Ok(Attached { attachments, missing })
}

/// With a flow cache where one is wanted and can be had.
async fn with_cache(
    config: &Config,
    clock: Clock,
    pairs: Vec<Pair>,
    missing: &mut Vec<Missing>,
) -> Result<Attachments, AttachError> {
    if !pairs.iter().any(|pair| pair.cached) {
        return Attachments::new(pairs, None).await;
    }
    let plan = CachePlan { pin: config.flow_pin.clone(), ..CachePlan::new(config.flows, clock.now()) };
    let refused = match Attachments::new(pairs.clone(), Some(plan)).await {
        Ok(attachments) => {
            info!(connections = config.flows, "established flows are forwarded in the kernel");
            return Ok(attachments);
        }
        Err(error) => error,
    };
    if config.interfaces.iter().any(|interface| interface.accelerate == Accelerate::On) {
        return Err(refused);
    }
    // What keeps it from being attached at all is told by the attempt without a cache.
    let plain: Vec<Pair> = pairs.iter().map(|pair| Pair { cached: false, ..pair.clone() }).collect();
    let attachments = Attachments::new(plain, None).await?;
    warn!("established flows are not forwarded in the kernel: {refused}");
    missing.extend(
        pairs
            .into_iter()
            .filter(|pair| pair.cached)
            .map(|pair| Missing { interface: pair.device, why: refused.to_string() }),
    );
    Ok(attachments)
}
