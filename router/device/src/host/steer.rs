//! Rules that lead packets into a device of ours which the kernel would send elsewhere.
//!
//! ```text
//!   priority 0   iif LINK to H       table T    replies to clients on the host     (local_nodes, clients)
//!            0   iif lo from H to H  table T    clients and servers both here      (clients and servers)
//!            0   local                          the kernel's own, moved behind ours
//!         ...p   iif LINK            table T    replies to clients elsewhere       (replies_from)
//!         ...p   iif lo from H       table T    answers of servers on the host     (local_nodes, servers)
//!        32766   main
//!   table T:     default dev DEVICE
//! ```
//! Rules and routes out of a device outlive a director that was killed, but the device does not, nor does the table's
//! only route with it: a rule whose table is empty is passed over.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use rtnetlink::packet_route::rule;
use uvs_director::spec::{Family, Prefix};

use super::{HostState, LocalNode, RepliesFrom, Undo};
use crate::net::{NetError, RuleMatch, route_message, rule_message, rule_priority, rule_table};

/// The routing tables we take, if they are free.
const TABLES: std::ops::Range<u32> = 20_000..20_256;
/// The table of the kernel's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The table of each device and family.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<(String, Family, u32)>);

impl HostState {
    /// Gives each device (and family) a table whose default route leads into it, and each link a rule for it.
    pub(super) async fn steer_replies(
        &mut self,
        wanted: &[RepliesFrom],
        tables: &mut Tables,
    ) -> Result<(), NetError> {
        for RepliesFrom { link, device, family } in wanted {
            let step = format!("steer replies from {link} into {device}");
            // A rule takes any name, and would wait for such a link for ever.
            self.net.link(link).await.map_err(|error| error.during(&step))?;
            let table = self.table(device, *family, tables, &step).await?;
            let what = RuleMatch { link: Some(link), ..RuleMatch::default() };
            self.add_rule_before_main(*family, what, table, &step).await?;
        }
        Ok(())
    }

    pub(super) async fn steer_local_nodes(
        &mut self,
        wanted: &[LocalNode],
        tables: &mut Tables,
    ) -> Result<(), NetError> {
        let wanted = || wanted.iter().filter(|node| node.servers || node.clients);
        for node in wanted().filter(|node| node.addresses.iter().any(IpAddr::is_ipv4)) {
            let step = || format!("steer packets of the host's own addresses into {}", node.device);
            self.net.link(&node.device).await.map_err(|error| error.during(step()))?;
            // The director sends from these addresses, on behalf of the host's own processes.
            self.set_sysctl(format!("net/ipv4/conf/{}/accept_local", node.device), "1")?;
        }
        for node in wanted().filter(|node| node.servers) {
            for &address in &node.addresses {
                let step = format!("steer answers from {address} into {}", node.device);
                let family = Family::of(address);
                let table = self.table(&node.device, family, tables, &step).await?;
                // Only those: what the director itself sends from the address comes in on the device.
                let what = RuleMatch { link: Some("lo"), from: Some(address), to: None };
                self.add_rule_before_main(family, what, table, &step).await?;
            }
        }
        for family in FAMILIES {
            let mut first = Vec::new();
            for node in wanted().filter(|node| node.clients) {
                let step = format!("steer replies to clients on the host into {}", node.device);
                for link in &node.replies_from {
                    self.net.link(link).await.map_err(|error| error.during(&step))?;
                }
                let addresses: Vec<IpAddr> =
                    node.addresses.iter().copied().filter(|&address| Family::of(address) == family).collect();
                if addresses.is_empty() {
                    continue;
                }
                let table = self.table(&node.device, family, tables, &step).await?;
                for &to in &addresses {
                    let links = node.replies_from.iter().map(|link| RuleMatch {
                        link: Some(link),
                        from: None,
                        to: Some(to),
                    });
                    let own = addresses.iter().filter(|_| node.servers).map(|&from| RuleMatch {
                        link: Some("lo"),
                        from: Some(from),
                        to: Some(to),
                    });
                    first.extend(links.chain(own).map(|what| rule_message(family, what, table, 0)));
                }
            }
            if !first.is_empty() {
                self.add_first_rules(family, first).await?;
            }
        }
        Ok(())
    }

    /// Adds a rule behind that of the local table and right before the first other one, as the kernel does when it is
    /// given no priority, but never at 0, where only rules before the local table belong.
    async fn add_rule_before_main(
        &mut self,
        of: Family,
        what: RuleMatch<'_>,
        table: u32,
        step: &str,
    ) -> Result<(), NetError> {
        let rules = self.net.rules(of).await?;
        let others = rules.iter().filter(|rule| rule_table(rule) != LOCAL_TABLE);
        let first = others.map(rule_priority).filter(|&priority| priority > 0).min();
        let message = rule_message(of, what, table, first.map_or(1, |first| (first - 1).max(1)));
        self.add_rule(message, step).await
    }

    async fn add_rule(&mut self, message: rule::RuleMessage, step: &str) -> Result<(), NetError> {
        self.net.add_rule(message.clone(), step).await?;
        self.done.push(Undo::Rule(message));
        Ok(())
    }

    /// Adds rules of priority 0 and sees to it that they come before that of the local table, which every host has at 0.
    /// The rule that comes last among equals is the one added last, so the local one is added anew; a copy stands in for
    /// it meanwhile. Once ours are gone, everything is as before.
    async fn add_first_rules(
        &mut self,
        of: Family,
        messages: Vec<rule::RuleMessage>,
    ) -> Result<(), NetError> {
        let step = "steer packets to the host's own addresses";
        let rules = self.net.rules(of).await?;
        let is_local = |rule: &rule::RuleMessage| rule_table(rule) == LOCAL_TABLE;
        let at_zero = || rules.iter().filter(|rule| rule_priority(rule) == 0);
        if at_zero().skip_while(|rule| !is_local(rule)).any(|rule| !is_local(rule)) {
            let why = "a rule of priority 0 stands behind that of the local table and must stay behind it; \
                       give it another priority (ip rule)";
            return Err(NetError::new(step, io::Error::other(why)));
        }
        for message in messages {
            self.add_rule(message, step).await?;
        }
        for local in at_zero().filter(|rule| is_local(rule)) {
            let with = |priority| {
                let mut copy = local.clone();
                copy.attributes.retain(|attribute| !matches!(attribute, rule::RuleAttribute::Priority(_)));
                copy.attributes.push(rule::RuleAttribute::Priority(priority));
                copy
            };
            self.add_rule(with(1), step).await?;
            self.net.remove_rule(with(0)).await?;
            self.done.push(Undo::LostRule(with(0)));
            self.net.add_rule(with(0), step).await?;
            self.done.pop();
            self.net.remove_rule(with(1)).await?;
            self.done.pop();
        }
        Ok(())
    }

    async fn table(
        &mut self,
        device: &str,
        of: Family,
        tables: &mut Tables,
        step: &str,
    ) -> Result<u32, NetError> {
        let known = tables.0.iter().find(|(name, family, _)| (name.as_str(), *family) == (device, of));
        if let Some(&(_, _, table)) = known {
            return Ok(table);
        }
        let table = self.make_table(device, of, step).await?;
        tables.0.push((device.to_owned(), of, table));
        Ok(table)
    }

    async fn make_table(&mut self, device: &str, of: Family, step: &str) -> Result<u32, NetError> {
        let index = self.net.link_index(device).await.map_err(|error| error.during(step))?;
        let unspecified = match of {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let everything = Prefix::new(unspecified, 0).expect("0 is a prefix length");
        let mut taken: BTreeSet<u32> = self.net.routes().await?.iter().map(|route| route.table).collect();
        taken.extend(self.net.rules(of).await?.iter().map(rule_table));
        for table in TABLES.filter(|table| !taken.contains(table)) {
            let message = route_message(everything, None, Some(index), table);
            let adding = format!("{step}: add its default route to table {table}");
            match self.net.add_route_message(message.clone(), adding).await {
                Ok(()) => {
                    self.done.push(Undo::Route(message));
                    return Ok(table);
                }
                // Another director took it since we looked.
                Err(error) if error.errno() == Some(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        let (first, last) = (TABLES.start, TABLES.end - 1);
        let full = io::Error::other(format!("none of the routing tables {first} to {last} is free"));
        Err(NetError::new(step, full))
    }
}
