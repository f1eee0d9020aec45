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

use super::keep::Finding;
use super::undo::{Undo, Wire};
use super::{HostState, LocalNode, RepliesFrom};
use crate::net::{NetError, RuleMatch, route_message, rule_message, rule_priority, rule_table};

/// The routing tables we take, if they are free.
const TABLES: std::ops::Range<u32> = 20_000..20_256;
/// The table of the kernel's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What steers packets, as it was made, so that it can be made again.
#[derive(Debug, Default)]
pub(super) struct Steered {
    /// The table of each device and family.
    tables: Vec<(String, Family, u32)>,
    /// Rules before that of the main table, each with the link that it is about.
    rules: Vec<(Option<String>, rule::RuleMessage)>,
    /// Rules of priority 0, before that of the local table.
    first: Vec<(Family, Vec<rule::RuleMessage>)>,
}

impl HostState {
    /// Gives each device (and family) a table whose default route leads into it, and each link a rule for it.
    pub(super) async fn steer_replies(&mut self, wanted: &[RepliesFrom]) -> Result<(), NetError> {
        for RepliesFrom { link, device, family } in wanted {
            let step = format!("steer replies from {link} into {device}");
            // A rule takes any name, and would wait for such a link for ever.
            self.net.link(link).await.map_err(|error| error.during(&step))?;
            let table = self.table(device, *family, &step).await?;
            let what = RuleMatch { link: Some(link), ..RuleMatch::default() };
            self.add_rule_before_main(*family, what, table, &step).await?;
        }
        Ok(())
    }

    pub(super) async fn steer_local_nodes(&mut self, wanted: &[LocalNode]) -> Result<(), NetError> {
        let wanted = || wanted.iter().filter(|node| node.servers || node.clients);
        for node in wanted().filter(|node| node.addresses.iter().any(IpAddr::is_ipv4)) {
            let step = || format!("steer packets of the host's own addresses into {}", node.device);
            self.net.link(&node.device).await.map_err(|error| error.during(step()))?;
            self.ensure_accept_local(&node.device)?;
        }
        for node in wanted().filter(|node| node.servers) {
            for &address in &node.addresses {
                let step = format!("steer answers from {address} into {}", node.device);
                let family = Family::of(address);
                let table = self.table(&node.device, family, &step).await?;
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
                let table = self.table(&node.device, family, &step).await?;
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

    /// Lets the director send from the host's own addresses, on behalf of its processes.
    fn ensure_accept_local(&mut self, device: &str) -> Result<bool, NetError> {
        Ok(self.set_sysctl(format!("net/ipv4/conf/{device}/accept_local"), "1")? != "1")
    }

    /// Makes again what is missing of what was made, and tells `found` of each.
    pub(super) async fn keep_steered(&mut self, found: &mut Vec<Finding>) {
        let local = self.plan.local_nodes.iter().filter(|node| node.servers || node.clients);
        let local: Vec<String> = local
            .filter(|node| node.addresses.iter().any(IpAddr::is_ipv4))
            .map(|node| node.device.clone())
            .collect();
        for device in local {
            let what =
                format!("packets from the host's own addresses are taken from {device} (accept_local)");
            let kept = self.ensure_accept_local(&device);
            Finding::note(found, what, &[&device], kept);
        }
        for (device, family, table) in self.steered.tables.clone() {
            let what = format!("the default route of table {table} out of {device}");
            let kept = self.ensure_table(&device, family, table, "steer packets").await;
            Finding::note(found, what, &[&device], kept);
        }
        for (link, message) in self.steered.rules.clone() {
            let what = format!("the rule {} for table {}", rule_priority(&message), rule_table(&message));
            let kept = self.ensure_rule(message).await;
            Finding::note(found, what, link.as_deref().as_slice(), kept);
        }
        for (family, messages) in self.steered.first.clone() {
            let what = "the rules for packets to the host's own addresses".to_owned();
            let kept = self.ensure_first_rules(family, &messages).await;
            Finding::note(found, what, &[], kept);
        }
    }

    /// Adds a rule of ours that is not there any more. The kernel refuses a second one like it.
    async fn ensure_rule(&mut self, message: rule::RuleMessage) -> Result<bool, NetError> {
        match self.net.add_rule(message, "add a rule again").await {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ensure_first_rules(
        &mut self,
        of: Family,
        messages: &[rule::RuleMessage],
    ) -> Result<bool, NetError> {
        let mut added = false;
        for message in messages {
            added |= self.ensure_rule(message.clone()).await?;
        }
        if added {
            self.move_local_rules_behind(of, "steer packets to the host's own addresses").await?;
        }
        Ok(added)
    }

    async fn ensure_table(
        &mut self,
        device: &str,
        of: Family,
        table: u32,
        step: &str,
    ) -> Result<bool, NetError> {
        let index = self.net.link_index(device).await.map_err(|error| error.during(step))?;
        let message = route_message(everything(of), None, Some(index), table);
        let adding = format!("{step}: add the default route out of {device} to table {table}");
        match self.net.add_route_message(message.clone(), adding).await {
            Ok(()) => {
                self.note(Undo::Route(Wire(message)));
                Ok(true)
            }
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
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
        self.add_rule(message.clone(), step).await?;
        self.steered.rules.push((what.link.map(str::to_owned), message));
        Ok(())
    }

    async fn add_rule(&mut self, message: rule::RuleMessage, step: &str) -> Result<(), NetError> {
        let note = Undo::Rule(Wire(message.clone()));
        self.note(note.clone());
        let added = self.net.add_rule(message, step).await;
        if added.is_err() {
            self.forget(&note);
        }
        added
    }

    /// Adds rules of priority 0 and sees to it that they come before that of the local table, which every host has at
    /// 0. The rule that comes last among equals is the one added last, so the local one is added anew; a copy stands in
    /// for it meanwhile. Once ours are gone, everything is as before.
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
        for message in &messages {
            self.add_rule(message.clone(), step).await?;
        }
        self.steered.first.push((of, messages));
        self.move_local_rules_behind(of, step).await
    }

    /// Adds the rules of the local table anew, so that they come last of those of priority 0.
    async fn move_local_rules_behind(&mut self, of: Family, step: &str) -> Result<(), NetError> {
        let rules = self.net.rules(of).await?;
        let is_local =
            |rule: &&rule::RuleMessage| rule_priority(rule) == 0 && rule_table(rule) == LOCAL_TABLE;
        for local in rules.iter().filter(is_local) {
            let with = |priority| {
                let mut copy = local.clone();
                copy.attributes.retain(|attribute| !matches!(attribute, rule::RuleAttribute::Priority(_)));
                copy.attributes.push(rule::RuleAttribute::Priority(priority));
                copy
            };
            self.add_rule(with(1), step).await?;
            let lost = Undo::LostRule(Wire(with(0)));
            self.note(lost.clone());
            self.net.remove_rule(with(0)).await?;
            self.net.add_rule(with(0), step).await?;
            self.forget(&lost);
            self.net.remove_rule(with(1)).await?;
            self.forget(&Undo::Rule(Wire(with(1))));
        }
        Ok(())
    }

    async fn table(&mut self, device: &str, of: Family, step: &str) -> Result<u32, NetError> {
        let known =
            self.steered.tables.iter().find(|(name, family, _)| (name.as_str(), *family) == (device, of));
        if let Some(&(_, _, table)) = known {
            return Ok(table);
        }
        let table = self.make_table(device, of, step).await?;
        self.steered.tables.push((device.to_owned(), of, table));
        Ok(table)
    }

    async fn make_table(&mut self, device: &str, of: Family, step: &str) -> Result<u32, NetError> {
        let mut taken: BTreeSet<u32> = self.net.routes().await?.iter().map(|route| route.table).collect();
        taken.extend(self.net.rules(of).await?.iter().map(rule_table));
        for table in TABLES.filter(|table| !taken.contains(table)) {
            // False: another director took it since we looked.
            if self.ensure_table(device, of, table, step).await? {
                return Ok(table);
            }
        }
        let (first, last) = (TABLES.start, TABLES.end - 1);
        let full = io::Error::other(format!("none of the routing tables {first} to {last} is free"));
        Err(NetError::new(step, full))
    }
}

/// The prefix of all addresses of a family.
fn everything(of: Family) -> Prefix {
    let unspecified = match of {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Prefix::new(unspecified, 0).expect("0 is a prefix length")
}
