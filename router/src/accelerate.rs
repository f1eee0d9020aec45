//! The direct attach and its flow cache, as far as the configuration wants them and the host allows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tracing::{info, warn};
use uvs_attach::{AttachError, Attachments, Cache, CachePlan, Pair};
use uvs_config::{Accelerate, Config};
use uvs_director::spec::Link;

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

/// How the frames of an interface pass, and what would be faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// The interface.
    pub interface: String,
    /// `flow_cache`, `tcx`, `bridge`, `tap` or `tun`.
    pub label: &'static str,
    /// What to do for a faster one, if there is one.
    pub faster: Option<String>,
}

/// What is attached, and what could not be accelerated.
#[derive(Default)]
pub struct Attached {
    /// In the order of the interfaces.
    pub datapaths: Vec<Datapath>,
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
    let datapaths = datapaths(config, cache.is_some(), &missing);
    for Datapath { interface, label, faster } in &datapaths {
        let faster = faster.as_ref().map(|faster| format!("; faster: {faster}")).unwrap_or_default();
        info!(interface, datapath = label, "frames pass by {label}{faster}");
    }
    let links = attachments.iter().flat_map(Attachments::states).map(shown).collect();
    Ok((attachments, Attached { datapaths, cache, links, missing }))
}

/// How the frames of each interface pass. `has_cache`: the attached interfaces that want a flow cache have it.
fn datapaths(config: &Config, has_cache: bool, missing: &[Missing]) -> Vec<Datapath> {
    config
        .interfaces
        .iter()
        .map(|interface| {
            let name = &interface.spec.name;
            let wants = interface.accelerate != Accelerate::Off;
            let layer_2 = matches!(interface.spec.link, Link::Ethernet(_));
            let (label, faster) = match (&interface.direct, &interface.bridge) {
                (Some(_), _) if wants && has_cache => ("flow_cache", None),
                (Some(_), _) if wants => {
                    ("tcx", missing.iter().find(|it| it.interface == *name).map(|it| it.why.clone()))
                }
                (Some(_), _) => {
                    ("tcx", Some("accelerate = \"auto\" passes established flows in the kernel".into()))
                }
                (None, Some(_)) => {
                    ("bridge", Some("attach = \"tcx\" and a link in place of the bridge".into()))
                }
                (None, None) if layer_2 => ("tap", Some("attach = \"tcx\" and a link of the host".into())),
                (None, None) => ("tun", Some("a TAP with attach = \"tcx\" and a link of the host".into())),
            };
            Datapath { interface: name.clone(), label, faster }
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn datapaths_of(keys: &str, has_cache: bool, why: Option<&str>) -> (&'static str, Option<String>) {
        let text = format!("[[interface]]\nname = \"uvs0\"\naddresses = [\"192.0.2.1/24\"]\n{keys}\n");
        let config = Config::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{text}\n{error}"));
        let missing: Vec<Missing> =
            why.map(|why| Missing { interface: "uvs0".into(), why: why.into() }).into_iter().collect();
        let [path] = datapaths(&config, has_cache, &missing).try_into().expect("one interface");
        (path.label, path.faster)
    }

    #[test]
    fn the_fastest_datapath_is_the_default_and_the_next_one_is_said() {
        let tcx = "device = \"tap\"\nattach = \"tcx\"\nlink = \"eth0\"";
        assert_eq!(datapaths_of(tcx, true, None), ("flow_cache", None));
        assert_eq!(datapaths_of(tcx, false, Some("no CAP_BPF")), ("tcx", Some("no CAP_BPF".into())));
        let off = datapaths_of(&format!("{tcx}\naccelerate = \"off\""), false, None);
        assert_eq!(off.0, "tcx");
        assert!(off.1.unwrap().contains("accelerate"));
        let bridge = datapaths_of("device = \"tap\"\nbridge = { name = \"br0\" }", false, None);
        assert_eq!(bridge.0, "bridge");
        assert!(bridge.1.unwrap().contains("attach = \"tcx\""));
        assert_eq!(datapaths_of("device = \"tap\"", false, None).0, "tap");
        assert_eq!(datapaths_of("device = \"tun\"", false, None).0, "tun");
    }
}
