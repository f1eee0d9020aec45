//! What the host has to look like around the director's devices, made and unmade.
//!
//! ```text
//!   apply:  bridges > links up > addresses > forwarding > routes > rules   each step noted
//!                                            forwarding.rs      steer.rs
//!   keep:   the same steps again, one by one (keep.rs); whatever is as wanted stays untouched
//!   undo:   the notes, last first (undo.rs); what has gone, or was changed by others meanwhile, is passed over
//! ```
//! What was there before is used and left: an existing bridge, an address or a route that is as wanted.

mod forwarding;
mod keep;
mod record;
mod steer;
mod undo;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use nix::errno::Errno;
use rtnetlink::packet_route::route;
use uvs_director::spec::{Family, MacAddr, Prefix};

pub use keep::{Finding, Outcome};
use record::Record;
use undo::{Undo, Wire};

use crate::net::{Cause, Net, NetError, read_sysctl, route_message, write_sysctl};

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
    /// Clients: what comes in on `replies_from` for these addresses goes into the device though it is for the host.
    /// With `servers` as well, so does what processes send from one of these addresses to one of them.
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

/// What was done to the host. It is kept by [`Self::keep`] and undone by [`Self::undo`], and by dropping this, which
/// waits for it on a thread of its own and logs what fails; drop it on a thread of the network namespace it was made
/// in.
#[derive(Debug)]
pub struct HostState {
    net: Net,
    plan: HostPlan,
    steered: steer::Steered,
    done: Vec<Undo>,
    record: Option<Record>,
    /// What was as wanted without us, and the index of the link: others who change it later do not make it ours.
    found_so: HashMap<String, u32>,
}

impl HostState {
    /// Carries the plan out, in the network namespace of the calling thread. Call it within a tokio runtime, and
    /// let it finish: a step under way when the future is dropped is not undone, all others are.
    ///
    /// # Errors
    /// The first step that fails; the steps before are undone.
    pub async fn apply(plan: &HostPlan) -> Result<Self, HostError> {
        Self::apply_recorded(plan, None).await
    }

    /// The same with a record of what is done in a file in `records`, which goes when all is undone. What records of
    /// dead processes in this network namespace say is undone, now where the plan has become another, else together
    /// with what is done by this one: the host will be as it was before the first of them.
    ///
    /// # Errors
    /// As [`Self::apply`]. That no record can be kept is logged.
    pub async fn apply_recorded(plan: &HostPlan, records: Option<&Path>) -> Result<Self, HostError> {
        let net = Net::new().map_err(|failed| HostError { failed, left: Vec::new() })?;
        let mut state = Self::with(net, plan.clone(), Vec::new());
        if let Some(folder) = records {
            state.open_record(folder).await;
        }
        match state.carry_out(plan).await {
            Ok(()) => Ok(state),
            Err(failed) => Err(HostError { failed, left: state.roll_back().await }),
        }
    }

    /// Takes over what dead ones left, or undoes it.
    async fn open_record(&mut self, folder: &Path) {
        let plan = format!("{:?}", self.plan);
        let (mut record, leftovers) = match Record::open(folder, &plan) {
            Ok(opened) => opened,
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(
                    "what is done to the host cannot be noted in {folder}, and stays if uvs is killed: {error}"
                );
                return;
            }
        };
        for leftover in &leftovers {
            let is_kept = |step: &Undo| leftover.plan == plan && !step.is_worthless_without_devices();
            let (kept, obsolete): (Vec<Undo>, Vec<Undo>) = leftover.steps.iter().cloned().partition(is_kept);
            tracing::warn!(
                pid = leftover.pid,
                taken_over = kept.len(),
                undone = obsolete.len(),
                "an earlier director ended without undoing what it had done to this host"
            );
            for step in obsolete.into_iter().rev() {
                if let Err(error) = step.take_back(&self.net).await
                    && !error.is_gone()
                {
                    tracing::warn!("what an earlier director left: {error}");
                }
            }
            for step in kept {
                record::note(&mut self.done, step);
            }
        }
        record.renew(&self.done);
        leftovers.into_iter().for_each(|leftover| leftover.remove(Some(&record)));
        self.record = Some(record);
    }

    fn with(net: Net, plan: HostPlan, done: Vec<Undo>) -> Self {
        Self { record: None, net, plan, steered: steer::Steered::default(), done, found_so: HashMap::new() }
    }

    /// Undoes everything, last first. What has gone meanwhile, as links do with their device, is passed over, and so is
    /// what somebody else has changed.
    ///
    /// # Errors
    /// All that could not be undone; the rest was.
    pub async fn undo(mut self) -> Result<(), UndoError> {
        let left = self.roll_back().await;
        if left.is_empty() { Ok(()) } else { Err(UndoError { left }) }
    }

    /// The network it is about.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Talks to the kernel over another socket, for the answers on this one may be lost.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn reconnect(&mut self) -> Result<(), NetError> {
        self.net = Net::new()?;
        Ok(())
    }

    /// Ends without undoing anything, as a process does that is killed. The record, if there is one, stays.
    pub fn abandon(mut self) {
        self.done.clear();
        self.record = None;
    }

    async fn roll_back(&mut self) -> Vec<NetError> {
        let (mut left, mut steps) = (Vec::new(), Vec::new());
        while let Some(step) = self.done.pop() {
            if let Err(error) = step.clone().take_back(&self.net).await
                && !error.is_gone()
            {
                left.push(error);
                steps.push(step);
            }
        }
        match self.record.take() {
            Some(record) if steps.is_empty() => record.remove(),
            // Whoever comes next may try again.
            Some(mut record) => {
                steps.reverse();
                record.renew(&steps);
            }
            None => {}
        }
        left
    }

    /// Notes a step before it is taken, here and in the record.
    fn note(&mut self, step: Undo) {
        if record::note(&mut self.done, step.clone())
            && let Some(record) = &mut self.record
        {
            record.did(&step, &self.done);
        }
    }

    /// Notes a step unless the thing was once found as wanted.
    fn note_change_of(&mut self, (thing, index): (String, u32), step: Undo) {
        if self.found_so.get(&thing) != Some(&index) {
            self.note(step);
        }
    }

    /// Takes the note of a step back that was not taken.
    fn forget(&mut self, step: &Undo) {
        if let Some(at) = self.done.iter().rposition(|known| known == step) {
            self.done.remove(at);
            if let Some(record) = &mut self.record {
                record.not(step, &self.done);
            }
        }
    }

    async fn carry_out(&mut self, plan: &HostPlan) -> Result<(), NetError> {
        for bridge in &plan.bridges {
            self.ensure_bridge(&bridge.name).await?;
            for port in bridge.ports.iter().chain(&bridge.taps) {
                self.ensure_port(port, &bridge.name).await?;
            }
        }
        for name in &plan.up {
            self.ensure_up(name).await?;
        }
        for (name, address) in &plan.addresses {
            self.ensure_address(name, *address).await?;
        }
        if !plan.forwarding.is_empty() {
            self.ensure_forwarding(&plan.forwarding, plan.has_ipv6()).await?;
        }
        for (to, device) in &plan.routes {
            self.ensure_route(*to, device).await?;
        }
        self.steer_replies(&plan.replies_from).await?;
        self.steer_local_nodes(&plan.local_nodes).await
    }

    // Each of the following makes one thing as it is wanted, and returns whether that took a change.

    async fn ensure_bridge(&mut self, name: &str) -> Result<bool, NetError> {
        let step = format!("use the bridge {name}");
        let made = match self.net.link(name).await {
            Ok(found) if !found.is_bridge => {
                return Err(NetError::new(step, Cause::NotABridge(name.to_owned())));
            }
            Ok(found) => {
                let ours = Undo::DeleteBridge { name: name.to_owned(), index: Some(found.index) };
                // The bridge takes its lowest port's address unless it was given one, and an empty one has none.
                if let Some(before) = found.mac.filter(|_| !self.done.contains(&ours)) {
                    self.note(Undo::Mac { name: name.to_owned(), index: found.index, before });
                }
                false
            }
            Err(error) if matches!(error.cause(), Cause::NoLink(_)) => {
                let mut note = Undo::DeleteBridge { name: name.to_owned(), index: None };
                self.note(note.clone());
                if let Err(error) = self.net.bridge(name).await {
                    self.forget(&note);
                    return Err(error);
                }
                note = Undo::DeleteBridge {
                    name: name.to_owned(),
                    index: Some(self.net.link_index(name).await?),
                };
                self.note(note);
                true
            }
            Err(error) => return Err(error.during(step)),
        };
        Ok(self.ensure_up(name).await? || made)
    }

    async fn ensure_port(&mut self, port: &str, bridge: &str) -> Result<bool, NetError> {
        let step = format!("plug {port} into bridge {bridge}");
        let link = self.net.link(port).await.map_err(|error| error.during(&step))?;
        if link.is_bridge || link.mac.is_none_or(|mac| mac == MacAddr([0; 6])) {
            return Err(NetError::new(step, Cause::NotAPort(port.to_owned())));
        }
        let master = self.net.link_index(bridge).await.map_err(|error| error.during(&step))?;
        let elsewhere = link.master != Some(master);
        if elsewhere {
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
            let note = Undo::Master {
                name: port.to_owned(),
                index: link.index,
                bridge: bridge.to_owned(),
                before: link.master,
            };
            self.note_change_of((format!("{port} in {bridge}"), link.index), note);
            self.net.change_index(link.index, step, |link| link.controller(master)).await?;
        } else {
            self.found_so.insert(format!("{port} in {bridge}"), link.index);
        }
        Ok(self.ensure_up(port).await? || elsewhere)
    }

    async fn ensure_up(&mut self, name: &str) -> Result<bool, NetError> {
        let link = self.net.link(name).await?;
        let thing = (format!("{name} up"), link.index);
        if link.up {
            self.found_so.insert(thing.0, thing.1);
        } else {
            self.note_change_of(thing, Undo::Down { name: name.to_owned(), index: link.index });
            self.net.set_up(name).await?;
        }
        Ok(!link.up)
    }

    async fn ensure_address(&mut self, name: &str, address: Prefix) -> Result<bool, NetError> {
        match self.net.add_address(name, address).await {
            Ok(()) => {
                let index = self.net.link_index(name).await?;
                self.note(Undo::Address { name: name.to_owned(), index, address });
                Ok(true)
            }
            // It is as wanted, and was before us.
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ensure_route(&mut self, to: Prefix, device: &str) -> Result<bool, NetError> {
        let step = format!("add the route to {to} out of {device}");
        let index = self.net.link_index(device).await.map_err(|error| error.during(&step))?;
        let main = u32::from(route::RouteHeader::RT_TABLE_MAIN);
        let message = route_message(to, None, Some(index), main);
        let note = Undo::Route(Wire(message.clone()));
        match self.net.add_route_message(message, step).await {
            Ok(()) => {
                self.note(note);
                Ok(true)
            }
            Err(error) if error.errno() == Some(Errno::EEXIST) && self.done.contains(&note) => Ok(false),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let same = |route: &crate::net::RouteState| {
                    route.table == main
                        && (route.to.network(), route.to.prefix_len()) == (to.network(), to.prefix_len())
                        && (route.via, route.device) == (None, Some(index))
                };
                if self.net.routes().await?.iter().any(same) { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Notes a setting that another one is about to change.
    fn note_sysctl(&mut self, path: String) {
        if let Ok(before) = read_sysctl(&path) {
            self.note(Undo::Sysctl { path, before, set: None });
        }
    }

    /// Changes a setting, notes what it was, and returns that.
    fn set_sysctl(&mut self, path: String, value: &str) -> Result<String, NetError> {
        let failed = |error| NetError::new(format!("set {path} to {value}"), error);
        let before = read_sysctl(&path).map_err(failed)?;
        let thing = (path.clone(), 0);
        if before == value {
            self.found_so.insert(thing.0, thing.1);
        } else {
            let set = Some(value.to_owned());
            self.note_change_of(thing, Undo::Sysctl { path: path.clone(), before: before.clone(), set });
            write_sysctl(&path, value).map_err(failed)?;
        }
        Ok(before)
    }
}

impl Drop for HostState {
    fn drop(&mut self) {
        if self.done.is_empty() && self.record.is_none() {
            return;
        }
        // The runtime we were made in may be this very thread's, which is busy here. A new thread is in the same
        // network namespace as its parent.
        let (done, record) = (std::mem::take(&mut self.done), self.record.take());
        let worker = std::thread::Builder::new().name("uvs-undo".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let left = runtime.map_err(|error| NetError::new("start a runtime", error)).and_then(|runtime| {
                runtime.block_on(async {
                    let mut state = Self::with(Net::new()?, HostPlan::default(), done);
                    state.record = record;
                    Ok(state.roll_back().await)
                })
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
