//! Cables, links, addresses and routes of hosts: `uvs_device::net`, one call at a time in the host's namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use uvs_device::net::{LinkState, Namespace, Net as Netlink, NetError};
use uvs_director::spec::{MacAddr, Prefix};

use crate::host::Host;

/// The network of one host. Each call is done when it returns; none may be made from async code.
#[derive(Clone, Copy, Debug)]
pub struct Net<'h> {
    host: &'h Host,
}

/// One end of a cable.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// In which host.
    pub host: &'a Host,
    /// The interface's name there, at most 15 bytes.
    pub name: &'a str,
    /// Its MAC address.
    pub mac: MacAddr,
}

impl Host {
    /// Its network.
    pub fn net(&self) -> Net<'_> {
        Net { host: self }
    }
}

impl Net<'_> {
    /// Sets an interface up.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn up(self, name: &str) -> Result<()> {
        self.call(async |net| net.set_up(name).await)
    }

    /// Sets an interface down: the cable is pulled.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn down(self, name: &str) -> Result<()> {
        self.call(async |net| net.set_down(name).await)
    }

    /// Sets the largest IP packet of an interface, in bytes.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn set_mtu(self, name: &str, mtu: u32) -> Result<()> {
        self.call(async |net| net.set_mtu(name, mtu).await)
    }

    /// Sets the MAC address of an interface.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn set_mac(self, name: &str, mac: MacAddr) -> Result<()> {
        self.call(async |net| net.set_mac(name, mac).await)
    }

    /// Moves an interface to another host, where it is down and without addresses.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn move_to(self, name: &str, host: &Host) -> Result<()> {
        let there = host.keeper_id().as_raw().unsigned_abs();
        self.call(async |net| net.move_to_pid(name, there).await)
    }

    /// Plugs an interface into a bridge.
    ///
    /// # Errors
    /// One of them is not there, or the kernel refuses.
    pub fn plug(self, name: &str, bridge: &str) -> Result<()> {
        self.call(async |net| net.set_master(name, bridge).await)
    }

    /// Takes an interface out of the bridge it is in.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn unplug(self, name: &str) -> Result<()> {
        self.call(async |net| net.clear_master(name).await)
    }

    /// Makes a bridge and sets it up.
    ///
    /// # Errors
    /// The name is taken, or the kernel has no bridges.
    pub fn add_bridge(self, name: &str, mac: MacAddr) -> Result<()> {
        self.call(async |net| {
            net.bridge(name).await?;
            net.set_mac(name, mac).await?;
            net.set_up(name).await
        })
    }

    /// Removes an interface (of a cable both ends).
    ///
    /// # Errors
    /// There is no such interface.
    pub fn delete(self, name: &str) -> Result<()> {
        self.call(async |net| net.delete_link(name).await)
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// There is no such interface, or it has the address.
    pub fn add_address(self, name: &str, address: Prefix) -> Result<()> {
        self.call(async |net| net.add_address(name, address).await)
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// There is no such interface, or it has no such address.
    pub fn remove_address(self, name: &str, address: Prefix) -> Result<()> {
        self.call(async |net| net.remove_address(net.link_index(name).await?, address).await)
    }

    /// Adds a route by way of `via`.
    ///
    /// # Errors
    /// `via` is not on a connected subnet, or there is such a route.
    pub fn add_route(self, to: Prefix, via: IpAddr) -> Result<()> {
        self.call(async |net| net.add_route(to, Some(via), None).await)
    }

    /// Sets the default gateway.
    ///
    /// # Errors
    /// As [`Net::add_route`].
    pub fn add_default_route(self, via: IpAddr) -> Result<()> {
        let any = if via.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.add_route(Prefix::new(any, 0).expect("0 is a prefix length"), via)
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn links(self) -> Result<Vec<LinkState>> {
        self.call(async |net| net.links().await)
    }

    /// All addresses, each with the index of its interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(self) -> Result<Vec<(u32, Prefix)>> {
        self.call(async |net| net.addresses().await)
    }

    fn call<T: Send>(self, ask: impl AsyncFnOnce(&Netlink) -> Result<T, NetError> + Send) -> Result<T> {
        self.host
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
                runtime.block_on(async { Ok(ask(&Netlink::new()?).await?) })
            })?
            .map_err(|error: anyhow::Error| error.context(format!("on host {}", self.host.name())))
    }
}

/// Lays a cable (a veth pair) between two hosts, both ends up.
///
/// # Errors
/// A name is taken or too long, or the kernel refuses.
pub fn connect(one: End<'_>, other: End<'_>) -> Result<()> {
    let lay = async |net: &Netlink| {
        net.veth(one.name, other.name, Namespace::Fd(other.host.as_fd())).await?;
        net.set_mac(one.name, one.mac).await?;
        net.set_up(one.name).await
    };
    one.host.net().call(lay)?;
    other
        .host
        .net()
        .call(async |net| {
            net.set_mac(other.name, other.mac).await?;
            net.set_up(other.name).await
        })
        .with_context(|| format!("cannot connect it to host {}", one.host.name()))
}
