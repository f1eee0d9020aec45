//! Routes that tell of a VIP: into a device of ours, with a protocol number by which a routing daemon knows them. They
//! go with the device.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{self, RouteAttribute, RouteFlags, RouteProtocol};
use uvs_director::spec::{MacAddr, Prefix};

use super::message::route_message;
use super::{Cause, Net, NetError, family};

/// A route to one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipRoute {
    /// The VIP.
    pub vip: IpAddr,
    /// The device that it leads into.
    pub device: String,
    /// On a TAP: the director's address that packets are sent to, and its MAC address. Nobody is asked for that: the
    /// device may be the port of a bridge, which would hear the answer.
    pub via: Option<(IpAddr, MacAddr)>,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// The routing table.
    pub table: u32,
    /// The metric.
    pub metric: u32,
}

impl VipRoute {
    fn message(&self, device: u32) -> route::RouteMessage {
        let via = self.via.map(|(addr, _)| addr);
        let mut message = route_message(Prefix::host(self.vip), via, Some(device), self.table);
        message.header.protocol = RouteProtocol::from(self.protocol);
        if via.is_some() {
            // The host need not have an address in the director's subnet.
            message.header.flags |= RouteFlags::Onlink;
        }
        message.attributes.push(RouteAttribute::Priority(self.metric));
        message
    }

    fn step(&self, verb: &str) -> String {
        format!("{verb} the route to VIP {} out of {}", self.vip, self.device)
    }
}

impl Net {
    /// Adds the route unless it is there. True: it was not. `is_known`: it was, when it was looked for last, and what
    /// is in its place now is not looked at.
    ///
    /// # Errors
    /// When there is no such device, the kernel refuses, or another route to the VIP has that table and metric
    /// (`EEXIST`).
    pub async fn add_vip_route(&self, wanted: &VipRoute, is_known: bool) -> Result<bool, NetError> {
        let step = || wanted.step("add");
        let device = self.link_index(&wanted.device).await.map_err(|error| error.during(step()))?;
        if let Some((addr, mac)) = wanted.via {
            let known =
                self.handle.neighbours().add(device, addr).link_layer_address(&mac.0).replace().execute();
            known.await.map_err(|error| NetError::new(step(), error))?;
        }
        match self.add_route_message(wanted.message(device), step()).await {
            Ok(()) => Ok(true),
            Err(error) if error.errno() != Some(Errno::EEXIST) => Err(error),
            Err(_) if is_known || self.has(wanted, device).await? => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether that very route is there.
    async fn has(&self, wanted: &VipRoute, device: u32) -> Result<bool, NetError> {
        let mut ask = route::RouteMessage::default();
        ask.header.address_family = family(wanted.vip);
        let mut all = std::pin::pin!(self.handle.route().get(ask).execute());
        let (message, to) = (wanted.message(device), Prefix::host(wanted.vip));
        let told = |error| NetError::new("list the routes", Cause::from(error));
        while let Some(found) = all.try_next().await.map_err(told)? {
            let Some(state) = super::route_state(&found) else { continue };
            let metric = found.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Priority(metric) => Some(*metric),
                _ => None,
            });
            if (state.to, state.device, state.table) == (to, Some(device), wanted.table)
                && metric == Some(wanted.metric)
                && found.header.protocol == message.header.protocol
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the route away. One that is not there, as after its device went, is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_vip_route(&self, wanted: &VipRoute) -> Result<(), NetError> {
        let device = match self.link_index(&wanted.device).await {
            Ok(device) => device,
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => return Err(error.during(wanted.step("remove"))),
        };
        match self.remove_route(wanted.message(device), wanted.step("remove")).await {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }
}
