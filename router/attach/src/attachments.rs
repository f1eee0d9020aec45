//! Which interface is attached to which link, now.

use std::sync::Arc;

use tracing::{error, info, warn};
use uvs_device::net::{Cause, LinkState, Net, NetError};
use uvs_director::PortId;
use uvs_director::spec::MacAddr;

use crate::cache::{Cache, CachePlan, Link};
use crate::error::AttachError;
use crate::membership::Membership;
use crate::program::{Hooks, OBJECT, Port, Programs};

/// What is to be attached: an interface of the director and a link of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The TAP device, which must exist.
    pub device: String,
    /// The director's MAC address on it.
    pub mac: MacAddr,
    /// The director's MTU on it, in bytes.
    pub mtu: u32,
    /// The network card or veth.
    pub link: String,
    /// The interface, as the director numbers it.
    pub port: PortId,
    /// Whether what comes in over the link may be in the flow cache.
    pub cached: bool,
}

/// What [`Attachments::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// An interface was attached again, and its neighbours may have forgotten it.
    pub again: bool,
    /// What flows were placed for does not hold: `Director::links_moved` is to be called.
    pub links_moved: bool,
}

/// The programs on all links. Dropped, it takes them away.
pub struct Attachments {
    net: Net,
    programs: Programs,
    cache: Option<Arc<Cache>>,
    attached: Vec<Attachment>,
}

struct Attachment {
    pair: Pair,
    tap: u32,
    /// `None`: the link is not there, or cannot be attached to.
    held: Option<Held>,
    /// What was said last about why it is not held.
    told: Option<String>,
}

/// What ties an interface to a link.
struct Held {
    port: Port,
    /// The same link, as the flow cache wants to know it.
    link: Link,
    hooks: Hooks,
    _membership: Option<Membership>,
}

impl Attachments {
    /// Attaches all pairs, in the network namespace of the calling thread. Call it within a tokio runtime with I/O
    /// enabled, and use what it gives on this thread.
    ///
    /// # Errors
    /// The first that cannot be attached; nothing is attached then.
    ///
    /// # Panics
    /// When there is none.
    pub async fn new(pairs: Vec<Pair>, plan: Option<CachePlan>) -> Result<Self, AttachError> {
        Self::with_object(pairs, plan, OBJECT).await
    }

    /// The same with the programs of another object, for the test of one that was just compiled.
    ///
    /// # Errors
    /// As [`Self::new`].
    ///
    /// # Panics
    /// As [`Self::new`], and when the object is not made of `bpf/attach.bpf.c`.
    pub async fn with_object(
        pairs: Vec<Pair>,
        plan: Option<CachePlan>,
        object: &[u8],
    ) -> Result<Self, AttachError> {
        let first = pairs.first().expect("who attaches nothing loads nothing");
        let refused = |refusal| AttachError::refused(first, refusal);
        let mut programs = Programs::load(object, plan.as_ref()).map_err(refused)?;
        let cache =
            plan.as_ref().map(|plan| programs.take_cache(plan)).transpose().map_err(refused)?.map(Arc::new);
        let net = Net::new().map_err(|cause| link_error(first, cause))?;
        let mut all = Self { net, programs, cache, attached: Vec::new() };
        for pair in pairs {
            let net = &all.net;
            let tap = net.link(&pair.device).await.map_err(|cause| link_error(&pair, cause))?;
            let link = net.link(&pair.link).await.map_err(|cause| link_error(&pair, cause))?;
            let held = all.programs.hold(&pair, tap.index, &link)?;
            info!(interface = pair.device, link = pair.link, "attached by tcx");
            all.attached.push(Attachment { pair, tap: tap.index, held: Some(held), told: None });
        }
        all.programs.keep_pins();
        all.tell_cache();
        Ok(all)
    }

    /// The flow cache, if there is one.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// Tells the cache which links there are. True: others than before.
    fn tell_cache(&self) -> bool {
        let Some(cache) = &self.cache else { return false };
        let mut moved = false;
        for attachment in self.attached.iter().filter(|attachment| attachment.pair.cached) {
            let link = attachment.held.as_ref().map(|held| held.link);
            moved |= cache.set_link(attachment.pair.port, link);
        }
        moved
    }

    /// Each pair, and whether it is attached.
    pub fn states(&self) -> impl Iterator<Item = (&Pair, bool)> {
        self.attached.iter().map(|attachment| (&attachment.pair, attachment.held.is_some()))
    }

    /// Looks whether all is as it should be, mends what can be mended and logs what it finds. A link that has gone is
    /// attached again when one of its name comes back; a link's new MAC address is told to the programs.
    ///
    /// To be called every second or so.
    pub async fn check(&mut self) -> Checked {
        let mut again = false;
        for attachment in &mut self.attached {
            if let Ok(tap) = self.net.link(&attachment.pair.device).await
                && tap.index != attachment.tap
            {
                // The device was made anew.
                attachment.let_go(&mut self.programs);
                attachment.tap = tap.index;
            }
            match self.net.link(&attachment.pair.link).await {
                Ok(link) => again |= attachment.follow(&mut self.programs, &link),
                Err(cause) if matches!(cause.cause(), Cause::NoLink(_)) => {
                    attachment.let_go(&mut self.programs);
                    attachment.tell("the link has gone: waiting for one of its name".to_owned());
                }
                // Nothing is known, so nothing is changed.
                Err(cause) => attachment.tell(cause.to_string()),
            }
        }
        Checked { again, links_moved: self.tell_cache() }
    }
}

impl Attachment {
    /// Holds on to the link as it is now. True: it had to be attached anew.
    fn follow(&mut self, programs: &mut Programs, link: &LinkState) -> bool {
        if self.held.as_ref().is_some_and(|held| held.port.link != link.index) {
            // The link of that name is another one by now.
            self.let_go(programs);
        }
        if let Some(held) = self.held.take() {
            self.held = held.renewed(programs, link);
            if self.held.is_some() {
                return false;
            }
            warn!(interface = self.pair.device, link = self.pair.link, "somebody has detached the programs");
        }
        match programs.hold(&self.pair, self.tap, link) {
            Ok(held) => {
                self.held = Some(held);
                self.told = None;
                info!(interface = self.pair.device, link = self.pair.link, "attached again");
                true
            }
            Err(error) => {
                self.tell(error.to_string());
                false
            }
        }
    }

    fn let_go(&mut self, programs: &mut Programs) {
        if let Some(held) = self.held.take() {
            programs.forget(held.port.link);
        }
    }

    /// Logs what keeps it from being attached, once.
    fn tell(&mut self, what: String) {
        if self.told.as_ref() != Some(&what) {
            error!(interface = self.pair.device, link = self.pair.link, "{what}");
            self.told = Some(what);
        }
    }
}

impl Held {
    /// The same if the programs are still in their places.
    fn renewed(self, programs: &mut Programs, link: &LinkState) -> Option<Self> {
        let hooks = programs.renew(self.hooks)?;
        let mut port = Port { to_peer: leads_to_peer(link), ..self.port };
        if let Some(host) = link.mac.filter(|host| *host != port.host && *host != port.director) {
            port.host = host;
            info!(link = link.name, %host, "the link has another MAC address");
        }
        if port != self.port {
            programs.set_port(&port).ok()?;
        }
        Some(Self { port, link: link_of(&port), hooks, ..self })
    }
}

impl Programs {
    /// Ties an interface to a link.
    fn hold(&mut self, pair: &Pair, tap: u32, link: &LinkState) -> Result<Held, AttachError> {
        let host = check_kind(pair, link)?;
        let membership = match Membership::join(link.index, pair.mac) {
            Ok(membership) => Some(membership),
            // One that takes everything needs not be told.
            Err(_) if link.is_veth || link.promiscuity > 0 => None,
            Err(cause) => return Err(AttachError::Filtered { link: pair.link.clone(), cause }),
        };
        let to_peer = leads_to_peer(link);
        let port = Port { tap, link: link.index, director: pair.mac, host, cached: pair.cached, to_peer };
        let refused = |refusal| AttachError::refused(pair, refusal);
        self.set_port(&port).map_err(refused)?;
        let hooks = self.attach(&pair.device, &pair.link).map_err(refused)?;
        Ok(Held { port, link: link_of(&port), hooks, _membership: membership })
    }
}

fn link_of(port: &Port) -> Link {
    Link { index: port.link, host: port.host, to_peer: port.to_peer }
}

/// Whether what leaves by the link comes to a namespace at once, without a queue.
fn leads_to_peer(state: &LinkState) -> bool {
    state.is_veth && state.peer_is_elsewhere
}

/// The link's own address, if it is one that frames can be exchanged with.
fn check_kind(pair: &Pair, link: &LinkState) -> Result<MacAddr, AttachError> {
    if link.is_bridge {
        let fix = format!(
            "plug the interface into it, without attach and link: bridge = {{ name = \"{}\" }}",
            link.name
        );
        return Err(AttachError::unfit(pair, format!("{} is a bridge", link.name), fix));
    }
    if link.master.is_some() {
        let why = format!("{} is a port of a bridge or part of a bond", link.name);
        let fix = "name the bridge in bridge = { name = \"...\" } instead, or the bond as the link";
        return Err(AttachError::unfit(pair, why, fix));
    }
    let Some(host) = link.mac.filter(|mac| *mac != MacAddr([0; 6])) else {
        let why = format!("{} carries no Ethernet", link.name);
        return Err(AttachError::unfit(pair, why, "name a network card or a veth"));
    };
    if host == pair.mac {
        return Err(AttachError::SameMac { device: pair.device.clone(), link: pair.link.clone(), mac: host });
    }
    Ok(host)
}

fn link_error(pair: &Pair, cause: NetError) -> AttachError {
    AttachError::Link { device: pair.device.clone(), link: pair.link.clone(), cause }
}
