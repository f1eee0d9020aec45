//! The direct attach and its flow cache, as far as the configuration wants them and the host allows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tracing::{info, warn};
use uvs_attach::{AttachError, Attachments, Cache, CachePlan, Pair};
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
    /// The flow cache, if there is one.
    pub cache: Option<Arc<Cache>>,
    /// Interfaces attached directly, their links, and whether they are.
    pub links: Vec<(String, String, AtomicBool)>,
    /// In the order of the interfaces.
    pub missing: Vec<Missing>,
}

/// Attaches what the configuration says, and tells what that is. Call it as [`Attachments::new`].
///
/// # Errors
/// Something cannot be attached, or a flow cache that must be there cannot.
pub async fn attach(config: &Config, clock: Clock) -> Result<(Option<Attachments>, Attached), AttachError> {
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
    let cache = attachments.as_ref().and_then(Attachments::cache).cloned();
    let shown = |(pair, attached): (&Pair, bool)| (pair.device.clone(), pair.link.clone(), attached.into());
    let links = attachments.iter().flat_map(Attachments::states).map(shown).collect();
    Ok((attachments, Attached { cache, links, missing }))
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
