//! What the host has to look like around the director's devices, made and unmade.
//!
//! ```text
//!   apply:  bridges > links up > addresses > forwarding > routes > rules   each step noted when done
//!                                            forwarding.rs      steer.rs
//!   undo:   the notes, last first; what has gone meanwhile is passed over
//! ```
//! What was there before is used and left: an existing bridge, an address or a route that is as wanted.

mod forwarding;
mod steer;

use std::fmt;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::packet_route::{route, rule};
use uvs_director::spec::{Family, MacAddr, Prefix};

use crate::net::{Cause, Net, NetError, read_sysctl, route_message, sysctl, write_sysctl};

/// A bridge and what is plugged into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Its name. A bridge that exists is used as it is; otherwise it is made, and deleted in the end.
    pub name: String,
    /// Links of the host to plug in. In the end each goes back to where it was. Addresses on such a link do not work
    /// while it is in a bridge, and its settings as a port of an earlier bridge are not kept.
    pub ports: Vec<String>,
    /// TAP devices of ours to plug in.
    pub taps: Vec<String>,
}

/// Makes everything that comes in on a link and is not for the host itself pass through a device of ours, as
/// replies must that go back to clients through NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepliesFrom {
    /// Where the replies come in.
    pub link: String,
    /// The TUN device they are to pass.
    pub device: String,
    /// Of which family.
    pub family: Family,
}

/// Makes packets between processes of the host itself and the director pass a device, where the kernel would take a
/// shorter way: answers of real servers on the host, and replies to clients on it.
///
/// Only packets of these addresses are led that way, so processes have to use them: servers listen on one, and clients
/// get one from the kernel when the addresses are on the device and what they ask for is routed into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// The TUN device.
    pub device: String,
    /// The host's own addresses that count.
    pub addresses: Vec<IpAddr>,
    /// Real servers: what processes send from these addresses goes into the device, even if it is for another host.
    pub servers: bool,
    /// Clients: what comes in on `replies_from` for these addresses goes into the device though it is for the host. With
    /// `servers` as well, so does what processes send from one of these addresses to one of them.
    pub clients: bool,
    /// Links on which replies of real servers come in.
    pub replies_from: Vec<String>,
}

/// All that is wanted of the host. The devices must exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPlan {
    /// Bridges.
    pub bridges: Vec<Bridge>,
    /// Links that have to be up.
    pub up: Vec<String>,
    /// Addresses: link and address.
    pub addresses: Vec<(String, Prefix)>,
    /// Routes out of a device, such as that of a VIP into a TUN device.
    pub routes: Vec<(Prefix, String)>,
    /// Replies to be steered, by a rule and a routing table of our own.
    pub replies_from: Vec<RepliesFrom>,
    /// Real servers and clients on the host itself.
    pub local_nodes: Vec<LocalNode>,
    /// The links between which the kernel has to route, TUN devices among them; none: nothing is changed. It turns
    /// `ip_forward` on, and reverse path filter and redirects off for these links. Other links keep the
    /// filter and the redirects they have. If something in the plan is IPv6, `net.ipv6.conf.all.forwarding` is turned
    /// on as well; links that take router advertisements go on doing so.
    pub forwarding: Vec<String>,
}

impl HostPlan {
    fn has_ipv6(&self) -> bool {
        let is_v6 = |prefix: &Prefix| prefix.addr().is_ipv6();
        self.addresses.iter().any(|(_, address)| is_v6(address))
            || self.routes.iter().any(|(to, _)| is_v6(to))
            || self.replies_from.iter().any(|replies| replies.family == Family::V6)
    }
}

/// A plan could not be carried out. What had been done of it was undone.
#[derive(Debug)]
pub struct HostError {
    /// The step that failed.
    pub failed: NetError,
    /// What could not be undone.
    pub left: Vec<NetError>,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failed.fmt(f)?;
        if self.left.is_empty() { Ok(()) } else { write!(f, "\nand {}", UndoErrorRef(&self.left)) }
    }
}

impl std::error::Error for HostError {}

/// Some of what had been done could not be undone.
#[derive(Debug)]
pub struct UndoError {
    /// What is left.
    pub left: Vec<NetError>,
}

struct UndoErrorRef<'a>(&'a [NetError]);

impl fmt::Display for UndoErrorRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host is not as it was before:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl fmt::Display for UndoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UndoErrorRef(&self.left).fmt(f)
    }
}

impl std::error::Error for UndoError {}

/// How to take one step back.
#[derive(Debug)]
enum Undo {
    DeleteBridge {
        name: String,
        index: u32,
    },
    Master {
        name: String,
        index: u32,
        before: Option<u32>,
    },
    Down {
        name: String,
        index: u32,
    },
    Mac {
        name: String,
        index: u32,
        before: MacAddr,
    },
    Address {
        index: u32,
        address: Prefix,
    },
    Route(route::RouteMessage),
    Rule(rule::RuleMessage),
    /// A rule that we took away.
    LostRule(rule::RuleMessage),
    Sysctl {
        path: String,
        before: String,
    },
}

/// What was done to the host. It is undone by [`Self::undo`], and by dropping this, which waits for it on a thread of
/// its own and logs what fails; drop it on a thread of the network namespace it was made in.
#[derive(Debug)]
pub struct HostState {
    net: Net,
    done: Vec<Undo>,
}

impl HostState {
    /// Carries the plan out, in the network namespace of the calling thread. Call it within a tokio runtime, and
    /// let it finish: a step under way when the future is dropped is not undone, all others are.
    ///
    /// # Errors
    /// The first step that fails; the steps before are undone.
    pub async fn apply(plan: &HostPlan) -> Result<Self, HostError> {
        let net = Net::new().map_err(|failed| HostError { failed, left: Vec::new() })?;
        let mut state = Self { net, done: Vec::new() };
        match state.carry_out(plan).await {
            Ok(()) => Ok(state),
            Err(failed) => Err(HostError { failed, left: state.roll_back().await }),
        }
    }

    /// Undoes everything, last first. What has gone meanwhile, as links do with their device, is passed over.
    ///
    /// # Errors
    /// All that could not be undone; the rest was.
    pub async fn undo(mut self) -> Result<(), UndoError> {
        let left = self.roll_back().await;
        if left.is_empty() { Ok(()) } else { Err(UndoError { left }) }
    }

    async fn roll_back(&mut self) -> Vec<NetError> {
        let mut left = Vec::new();
        while let Some(step) = self.done.pop() {
            if let Err(error) = take_back(&self.net, step).await
                && !error.is_gone()
            {
                left.push(error);
            }
        }
        left
    }

    async fn carry_out(&mut self, plan: &HostPlan) -> Result<(), NetError> {
        for bridge in &plan.bridges {
            self.make_bridge(bridge).await?;
        }
        for name in &plan.up {
            self.bring_up(name).await?;
        }
        for (name, address) in &plan.addresses {
            self.add_address(name, *address).await?;
        }
        if !plan.forwarding.is_empty() {
            self.enable_forwarding(&plan.forwarding, plan.has_ipv6()).await?;
        }
        for (to, device) in &plan.routes {
            self.add_route(*to, device).await?;
        }
        let mut tables = steer::Tables::default();
        self.steer_replies(&plan.replies_from, &mut tables).await?;
        self.steer_local_nodes(&plan.local_nodes, &mut tables).await
    }

    async fn make_bridge(&mut self, bridge: &Bridge) -> Result<(), NetError> {
        let name = &bridge.name;
        let step = format!("use the bridge {name}");
        let index = match self.net.link(name).await {
            Ok(found) if !found.is_bridge => {
                return Err(NetError::new(step, Cause::NotABridge(name.clone())));
            }
            Ok(found) => {
                // The bridge takes its lowest port's address unless it was given one, and an empty one has none.
                if let Some(before) = found.mac {
                    self.done.push(Undo::Mac { name: name.clone(), index: found.index, before });
                }
                found.index
            }
            Err(error) if matches!(error.cause(), Cause::NoLink(_)) => {
                self.net.bridge(name).await?;
                let index = self.net.link_index(name).await?;
                self.done.push(Undo::DeleteBridge { name: name.clone(), index });
                index
            }
            Err(error) => return Err(error.during(step)),
        };
        self.bring_up(name).await?;
        for port in bridge.ports.iter().chain(&bridge.taps) {
            self.plug_in(port, name, index).await?;
        }
        Ok(())
    }

    async fn plug_in(&mut self, port: &str, bridge: &str, master: u32) -> Result<(), NetError> {
        let step = format!("plug {port} into bridge {bridge}");
        let link = self.net.link(port).await.map_err(|error| error.during(&step))?;
        if link.is_bridge || link.mac.is_none_or(|mac| mac == MacAddr([0; 6])) {
            return Err(NetError::new(step, Cause::NotAPort(port.to_owned())));
        }
        if link.master != Some(master) {
            let addresses = self.net.addresses().await?;
            let is_global = |address: &Prefix| !matches!(address.addr(), std::net::IpAddr::V6(a) if a.is_unicast_link_local());
            if let Some((_, address)) =
                addresses.iter().find(|(index, a)| *index == link.index && is_global(a))
            {
                tracing::warn!(
                    link = port, bridge, %address,
                    "the link's addresses do not work while it is in a bridge: give them to the bridge"
                );
            }
            self.net.change_index(link.index, step, |link| link.controller(master)).await?;
            self.done.push(Undo::Master { name: port.to_owned(), index: link.index, before: link.master });
        }
        self.bring_up(port).await
    }

    async fn bring_up(&mut self, name: &str) -> Result<(), NetError> {
        let link = self.net.link(name).await?;
        if !link.up {
            self.net.set_up(name).await?;
            self.done.push(Undo::Down { name: name.to_owned(), index: link.index });
        }
        Ok(())
    }

    async fn add_address(&mut self, name: &str, address: Prefix) -> Result<(), NetError> {
        match self.net.add_address(name, address).await {
            Ok(()) => {
                let index = self.net.link_index(name).await?;
                self.done.push(Undo::Address { index, address });
                Ok(())
            }
            // It is as wanted, and was before us.
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn add_route(&mut self, to: Prefix, device: &str) -> Result<(), NetError> {
        let step = format!("add the route to {to} out of {device}");
        let index = self.net.link_index(device).await.map_err(|error| error.during(&step))?;
        let main = u32::from(route::RouteHeader::RT_TABLE_MAIN);
        let message = route_message(to, None, Some(index), main);
        match self.net.add_route_message(message.clone(), step).await {
            Ok(()) => {
                self.done.push(Undo::Route(message));
                Ok(())
            }
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let same = |route: &crate::net::RouteState| {
                    route.table == main
                        && (route.to.network(), route.to.prefix_len()) == (to.network(), to.prefix_len())
                        && (route.via, route.device) == (None, Some(index))
                };
                if self.net.routes().await?.iter().any(same) { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Notes a setting that another one is about to change.
    fn note_sysctl(&mut self, path: String) {
        if let Ok(before) = read_sysctl(&path) {
            self.done.push(Undo::Sysctl { path, before });
        }
    }

    /// Changes a setting, notes what it was, and returns that.
    fn set_sysctl(&mut self, path: String, value: &str) -> Result<String, NetError> {
        let before = sysctl(&path, value)?;
        if before != value {
            self.done.push(Undo::Sysctl { path, before: before.clone() });
        }
        Ok(before)
    }
}

impl Drop for HostState {
    fn drop(&mut self) {
        if self.done.is_empty() {
            return;
        }
        // The runtime we were made in may be this very thread's, which is busy here. A new thread is in the same
        // network namespace as its parent.
        let done = std::mem::take(&mut self.done);
        let worker = std::thread::Builder::new().name("uvs-undo".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let left = runtime.map_err(|error| NetError::new("start a runtime", error)).and_then(|runtime| {
                runtime.block_on(async { Ok(Self { net: Net::new()?, done }.roll_back().await) })
            });
            for error in left.unwrap_or_else(|error| vec![error]) {
                tracing::warn!(%error, "the host is not as it was before");
            }
        });
        match worker.map(std::thread::JoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::warn!("the host is not as it was before: undoing it panicked"),
            Err(error) => tracing::warn!(%error, "the host is not as it was before: no thread to undo it"),
        }
    }
}

async fn take_back(net: &Net, step: Undo) -> Result<(), NetError> {
    match step {
        Undo::DeleteBridge { name, index } => match net.link(&name).await {
            // Somebody else's by now.
            Ok(link) if link.index != index => Ok(()),
            Ok(_) => net.delete_link(&name).await,
            Err(error) => Err(error),
        },
        Undo::Master { name, index, before } => {
            let step = format!("put {name} back to where it was plugged in");
            // That bridge may have gone, and ours must not keep the port.
            let there = net.links().await?.iter().any(|link| Some(link.index) == before);
            let master = before.filter(|_| there).unwrap_or(0);
            net.change_index(index, step, |link| link.controller(master)).await
        }
        Undo::Down { name, index } => {
            net.change_index(index, format!("take {name} down again"), |link| link.down()).await
        }
        Undo::Mac { name, index, before } => match net.link(&name).await {
            Ok(link) if link.index == index && link.mac != Some(before) => net.set_mac(&name, before).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        Undo::Address { index, address } => net.remove_address(index, address).await,
        Undo::Route(message) => net.remove_route(message, "remove a route".to_owned()).await,
        Undo::Rule(message) => net.remove_rule(message).await,
        Undo::LostRule(message) => net.add_rule(message, "put a rule back").await,
        Undo::Sysctl { path, before } => match write_sysctl(&path, &before) {
            Ok(_) => Ok(()),
            Err(error) => Err(NetError::new(format!("set {path} back to {before}"), error)),
        },
    }
}
