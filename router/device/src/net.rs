//! Links, addresses, routes and rules of one network namespace, by rtnetlink, and its sysctls.
//!
//! ```text
//!   Net::new()  ---- socket, made on this thread: its namespace for good
//!      |
//!      `- task      reads the kernel's answers, on the tokio runtime of the caller
//! ```
//! A namespace belongs to a thread. `Net::new` and the sysctl functions act in the one of the calling
//! thread, so whoever enters a namespace does so before, on a thread with a current-thread runtime.

mod error;
mod events;
mod message;
mod vip;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{BridgeStpState, InfoData, InfoVeth};
use rtnetlink::packet_route::{AddressFamily, address, route, rule};
use rtnetlink::{Handle, IpVersion, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::task::JoinHandle;
use uvs_director::spec::{Family, MacAddr, Prefix};

pub use error::{Cause, NetError};
pub use events::Events;
pub(crate) use message::{RuleMatch, route_message, rule_message, rule_priority, rule_table};
use message::{address_state, family, link_sight, link_state, route_state};
pub use vip::VipRoute;

/// Where one end of a veth pair goes.
#[derive(Clone, Copy, Debug)]
pub enum Namespace<'fd> {
    /// Into the namespace of the [`Net`].
    Here,
    /// Into that of a process.
    Pid(u32),
    /// Into that of an open `/proc/PID/ns/net` or `/run/netns/NAME`.
    Fd(BorrowedFd<'fd>),
}

/// One link, as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<MacAddr>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// The index of the bridge (bond, VRF) it is plugged into.
    pub master: Option<u32>,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
    /// Whether what is behind it (the other end of a veth pair) is in another network namespace.
    pub peer_is_elsewhere: bool,
    /// How many want it to take frames that are for others, too.
    pub promiscuity: u32,
}

/// A link, what it carries at this moment, and what it lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSight {
    /// The link.
    pub state: LinkState,
    /// Whether something is at its other end.
    pub carrier: bool,
    /// Since the link was made.
    pub losses: LinkLosses,
}

/// Packets that a link lost, as the kernel counts them. `rx` is what the link received, `tx` what it was to send: of a
/// TUN or TAP device the process behind it receives what the link sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkLosses {
    /// Received and dropped, as for want of memory.
    pub rx_dropped: u64,
    /// Not sent, as for a full queue.
    pub tx_dropped: u64,
    /// Received broken.
    pub rx_errors: u64,
    /// Not sent for an error.
    pub tx_errors: u64,
}

/// One route of any table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteState {
    /// Where to.
    pub to: Prefix,
    /// Next hop, if any.
    pub via: Option<IpAddr>,
    /// The index of the link it leaves by, if it is one.
    pub device: Option<u32>,
    /// The routing table.
    pub table: u32,
}

/// The links, addresses, routes and rules of one network namespace.
#[derive(Debug)]
pub struct Net {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Net {
    /// Opens a netlink socket in the network namespace of the calling thread; all methods act there, wherever
    /// they are called. Call it within a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new() -> Result<Self, NetError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| NetError::new("open a netlink socket", error))?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// All links.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub async fn links(&self) -> Result<Vec<LinkState>, NetError> {
        let all = self.handle.link().get().execute();
        all.map_ok(link_state).try_collect().await.map_err(|error| NetError::new("list the links", error))
    }

    /// The link of this name.
    ///
    /// # Errors
    /// [`Cause::NoLink`] when there is none.
    pub async fn link(&self, name: &str) -> Result<LinkState, NetError> {
        Ok(self.sight(name).await?.state)
    }

    /// The link of this name, with what it carries and lost.
    ///
    /// # Errors
    /// As [`Self::link`].
    pub async fn sight(&self, name: &str) -> Result<LinkSight, NetError> {
        let step = || format!("look up the link {name}");
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.try_next().await.map_err(|error| NetError::new(step(), error)) {
            Ok(Some(message)) => Ok(link_sight(message)),
            Ok(None) => Err(NetError::new(step(), Cause::NoLink(name.to_owned()))),
            // ERANGE: the name is longer than a link's can be.
            Err(error) if matches!(error.errno(), Some(Errno::ENODEV | Errno::ENXIO | Errno::ERANGE)) => {
                Err(NetError::new(step(), Cause::NoLink(name.to_owned())))
            }
            Err(error) => Err(error),
        }
    }

    /// The index of the link of this name.
    ///
    /// # Errors
    /// [`Cause::NoLink`] when there is none.
    pub async fn link_index(&self, name: &str) -> Result<u32, NetError> {
        Ok(self.link(name).await?.index)
    }

    /// Makes a veth pair: `name` here and `peer` in `place`. Both are down.
    ///
    /// # Errors
    /// When the kernel refuses, as with a name that is taken.
    pub async fn veth(&self, name: &str, peer: &str, place: Namespace<'_>) -> Result<(), NetError> {
        let mut far = LinkUnspec::new_with_name(peer);
        far = match place {
            Namespace::Here => far,
            Namespace::Pid(pid) => far.setns_by_pid(pid),
            Namespace::Fd(fd) => far.setns_by_fd(fd.as_raw_fd()),
        };
        let pair = LinkVeth::new(name, peer).set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        let made = self.handle.link().add(pair.build()).execute().await;
        made.map_err(|error| NetError::new(format!("make the veth pair {name} and {peer}"), error))
    }

    /// Makes a bridge that forwards at once and learns as usual: no spanning tree, no forward delay, no
    /// multicast snooping, and no IPv6 link-local address of its own. It is down.
    ///
    /// # Errors
    /// When the kernel refuses, as with a name that is taken.
    pub async fn bridge(&self, name: &str) -> Result<(), NetError> {
        let bridge = LinkMessageBuilder::<LinkBridge>::new(name)
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            .build();
        let step = || format!("make the bridge {name}");
        self.handle.link().add(bridge).execute().await.map_err(|error| NetError::new(step(), error))?;
        match write_sysctl(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(bridge = name, %error, "the bridge will have a link-local address");
            }
            _ => {}
        }
        Ok(())
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn set_up(&self, name: &str) -> Result<(), NetError> {
        self.change(name, format!("bring {name} up"), |link| link.up()).await
    }

    /// Takes a link down.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn set_down(&self, name: &str) -> Result<(), NetError> {
        self.change(name, format!("take {name} down"), |link| link.down()).await
    }

    /// Plugs a link into a bridge, out of the one it was in.
    ///
    /// # Errors
    /// When one of them does not exist or the kernel refuses.
    pub async fn set_master(&self, name: &str, bridge: &str) -> Result<(), NetError> {
        let step = format!("plug {name} into bridge {bridge}");
        let master = self.link_index(bridge).await.map_err(|error| error.during(&step))?;
        self.change(name, step, |link| link.controller(master)).await
    }

    /// Takes a link out of the bridge it is in.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn clear_master(&self, name: &str) -> Result<(), NetError> {
        self.change(name, format!("take {name} out of its bridge"), |link| link.nocontroller()).await
    }

    /// Sets a link's MAC address.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn set_mac(&self, name: &str, mac: MacAddr) -> Result<(), NetError> {
        let step = format!("set the MAC address of {name} to {mac}");
        self.change(name, step, |link| link.address(mac.0.to_vec())).await
    }

    /// Sets a link's MTU in bytes.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), NetError> {
        self.change(name, format!("set the MTU of {name} to {mtu}"), |link| link.mtu(mtu)).await
    }

    /// Moves a link into the network namespace of a process. It arrives down and without addresses.
    ///
    /// # Errors
    /// When there is no such link or process, or the kernel refuses.
    pub async fn move_to_pid(&self, name: &str, pid: u32) -> Result<(), NetError> {
        let step = format!("move {name} into the network namespace of process {pid}");
        self.change(name, step, |link| link.setns_by_pid(pid)).await
    }

    /// Deletes a link, and the other end of a veth pair with it.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetError> {
        let step = || format!("delete the link {name}");
        let index = self.link_index(name).await.map_err(|error| error.during(step()))?;
        self.handle.link().del(index).execute().await.map_err(|error| NetError::new(step(), error))
    }

    /// Changes the link of this name.
    async fn change(
        &self,
        name: &str,
        step: String,
        edit: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetError> {
        match self.link_index(name).await {
            Ok(index) => self.change_index(index, step, edit).await,
            Err(error) => Err(error.during(step)),
        }
    }

    /// Changes the link of this index.
    pub(crate) async fn change_index(
        &self,
        index: u32,
        step: String,
        edit: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), NetError> {
        let message = edit(LinkUnspec::new_with_index(index)).build();
        self.handle.link().change(message).execute().await.map_err(|error| NetError::new(step, error))
    }

    /// Adds an address, with its subnet, to a link.
    ///
    /// # Errors
    /// When there is no such link, or the address is there already (`EEXIST`).
    pub async fn add_address(&self, name: &str, address: Prefix) -> Result<(), NetError> {
        let step = || format!("add the address {address} to {name}");
        let index = self.link_index(name).await.map_err(|error| error.during(step()))?;
        let request = self.handle.address().add(index, address.addr(), address.prefix_len());
        request.execute().await.map_err(|error| NetError::new(step(), error))
    }

    /// Removes an address from the link of this index.
    ///
    /// # Errors
    /// When it is not there, or the kernel refuses.
    pub async fn remove_address(&self, index: u32, address: Prefix) -> Result<(), NetError> {
        let mut message = address::AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix_len();
        message.header.family = family(address.addr());
        message.attributes.push(address::AddressAttribute::Local(address.addr()));
        let removed = self.handle.address().del(message).execute().await;
        removed.map_err(|error| NetError::new(format!("remove the address {address}"), error))
    }

    /// All addresses, each with the index of its link.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub async fn addresses(&self) -> Result<Vec<(u32, Prefix)>, NetError> {
        let all = self.handle.address().get().execute();
        let found = all.try_filter_map(async |message| Ok(address_state(&message)));
        found.try_collect().await.map_err(|error| NetError::new("list the addresses", error))
    }

    /// Adds a route to the main table: through the gateway `via`, out of the link `device`, or both.
    ///
    /// # Errors
    /// When there is no such link, the gateway cannot be reached, or there is a route to `to` already (`EEXIST`).
    pub async fn add_route(
        &self,
        to: Prefix,
        via: Option<IpAddr>,
        device: Option<&str>,
    ) -> Result<(), NetError> {
        let step = || {
            let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
            let device = device.map(|device| format!(" out of {device}")).unwrap_or_default();
            format!("add the route to {to}{via}{device}")
        };
        let index = match device {
            Some(name) => Some(self.link_index(name).await.map_err(|error| error.during(step()))?),
            None => None,
        };
        self.add_route_message(
            route_message(to, via, index, route::RouteHeader::RT_TABLE_MAIN.into()),
            step(),
        )
        .await
    }

    pub(crate) async fn add_route_message(
        &self,
        message: route::RouteMessage,
        step: String,
    ) -> Result<(), NetError> {
        self.handle.route().add(message).execute().await.map_err(|error| NetError::new(step, error))
    }

    pub(crate) async fn remove_route(
        &self,
        message: route::RouteMessage,
        step: String,
    ) -> Result<(), NetError> {
        self.handle.route().del(message).execute().await.map_err(|error| NetError::new(step, error))
    }

    /// All routes of both families, of all tables, but for multipath ones without a device.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub async fn routes(&self) -> Result<Vec<RouteState>, NetError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = route::RouteMessage::default();
            ask.header.address_family = family;
            let all = self.handle.route().get(ask).execute();
            let routes: Vec<_> =
                all.try_collect().await.map_err(|error| NetError::new("list the routes", error))?;
            found.extend(routes.iter().filter_map(route_state));
        }
        Ok(found)
    }

    /// Adds a rule (`message::rule_message`, or one as the kernel described it).
    pub(crate) async fn add_rule(&self, message: rule::RuleMessage, step: &str) -> Result<(), NetError> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = message;
        request.execute().await.map_err(|error| NetError::new(step, error))
    }

    /// Removes a rule, given as the kernel describes it.
    ///
    /// # Errors
    /// When it is not there, or the kernel refuses.
    pub async fn delete_rule(&self, message: rule::RuleMessage) -> Result<(), NetError> {
        self.remove_rule(message).await
    }

    pub(crate) async fn remove_rule(&self, message: rule::RuleMessage) -> Result<(), NetError> {
        let removed = self.handle.rule().del(message).execute().await;
        removed.map_err(|error| NetError::new("remove a rule", error))
    }

    /// All policy rules of one family, as the kernel describes them.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub async fn rules(&self, of: Family) -> Result<Vec<rule::RuleMessage>, NetError> {
        let version = match of {
            Family::V4 => IpVersion::V4,
            Family::V6 => IpVersion::V6,
        };
        let all = self.handle.rule().get(version).execute();
        all.try_collect().await.map_err(|error| NetError::new("list the rules", error))
    }
}

/// Reads a setting under `/proc/sys`, such as `net/ipv4/ip_forward`, in the network namespace of this thread.
///
/// # Errors
/// Those of reading a file; `NotFound`: the kernel, or the link it names, lacks it.
pub fn read_sysctl(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/sys/{path}"))?.trim_end().to_owned())
}

/// Writes a setting under `/proc/sys`, in the network namespace of this thread, unless it has that value, and
/// returns the one before.
///
/// # Errors
/// Those of reading and writing a file.
pub fn write_sysctl(path: &str, value: &str) -> io::Result<String> {
    let old = read_sysctl(path)?;
    if old != value {
        std::fs::write(format!("/proc/sys/{path}"), value)?;
    }
    Ok(old)
}

/// [`write_sysctl`], with an error that says what was to be set and how to fix it.
///
/// # Errors
/// See [`NetError`].
pub fn sysctl(path: &str, value: &str) -> Result<String, NetError> {
    write_sysctl(path, value).map_err(|error| NetError::new(format!("set {path} to {value}"), error))
}
