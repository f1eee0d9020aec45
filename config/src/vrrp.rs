//! `[[vrrp]]` and `[[vrrp_script]]`: virtual routers that this director takes part in, and what their priorities
//! follow.
//!
//! Read before services, because a VIP may be an address of one; what follows the services is looked up after them.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::Arc;

use uvs_director::spec::{InterfaceSpec, Link, Prefix, ServiceKey};
use uvs_director::{Duration, PortId};
use uvs_ha::plan::{AnnouncePlan, GroupPlan, RouterPlan, TrackPlan};
use uvs_ha::wire::{ChecksumForm, Interval, Password, TTL, Version};

use crate::address::{edge_name, is_edge, is_link_local, not_a_host, read_address};
use crate::command::{command, user};
use crate::duration::Span;
use crate::model::{Service, TrackScript, Tracked, TrackedWhat, Vrrp};
use crate::network::Network;
use crate::problem::Location;
use crate::read::{At, Doc, Integer, Keys, Table};
use crate::suggest::nearest;

pub(crate) const VRRP: Keys = &[
    "name",
    "interface",
    "vrid",
    "addresses",
    "excluded_addresses",
    "priority",
    "version",
    "advert_int",
    "preempt",
    "preempt_delay",
    "group",
    "source",
    "peers",
    "min_ttl",
    "password",
    "checksum",
    "track_primary",
    "track",
    "garp_master_repeat",
    "garp_interval",
    "garp_master_delay",
    "garp_master_refresh",
];
pub(crate) const TRACK: Keys = &["interface", "service", "script", "weight", "reverse"];
pub(crate) const SCRIPT: Keys =
    &["name", "command", "user", "group", "interval", "timeout", "rise", "fall", "init_fail"];

const HOUR: Duration = Duration::from_secs(3600);
const ADVERT_INT: Span = Span {
    key: "advert_int",
    min: Duration::from_millis(10),
    max: Duration::from_secs(255),
    note: ", in whole hundredths of a second; version 3 has up to \"40.95s\", version 2 whole seconds",
};
const PREEMPT_DELAY: Span =
    Span { key: "preempt_delay", min: Duration::ZERO, max: Duration::from_secs(1000), note: " (0 is none)" };
const GARP_INTERVAL: Span =
    Span { key: "garp_interval", min: Duration::ZERO, max: HOUR, note: " (0: all at once)" };
const GARP_DELAY: Span =
    Span { key: "garp_master_delay", min: Duration::ZERO, max: HOUR, note: " (0: no second round)" };
const GARP_REFRESH: Span = Span {
    key: "garp_master_refresh",
    min: Duration::ZERO,
    max: Duration::from_secs(86_400),
    note: " (0: never)",
};
const SCRIPT_INTERVAL: Span = Span { key: "interval", min: Duration::from_millis(100), max: HOUR, note: "" };
const SCRIPT_TIMEOUT: Span = Span {
    key: "timeout",
    min: Duration::from_millis(100),
    max: HOUR,
    note: ", the longest that a run lasts",
};

/// What is read before the services.
pub(crate) struct Drafts<'a> {
    drafts: Vec<Draft<'a>>,
    scripts: Vec<TrackScript>,
    /// Each virtual address, and the interface of its virtual router.
    pub(crate) addresses: Vec<(IpAddr, PortId)>,
}

struct Draft<'a> {
    at: Location,
    plan: RouterPlan,
    group: Option<&'a str>,
    /// Those that follow a service, by its name.
    services: Vec<(At<&'a str>, TrackPlan)>,
}

/// All virtual routers and scripts.
pub(crate) fn read<'a>(tables: &'a [Table<'a>], scripts: &[Table<'_>], network: &Network) -> Drafts<'a> {
    let scripts = read_scripts(scripts);
    let mut drafts = Drafts { drafts: Vec::new(), scripts, addresses: Vec::new() };
    let mut places: HashMap<IpAddr, Location> = HashMap::new();
    let mut names: HashMap<&str, Location> = HashMap::new();
    for table in tables {
        let reader = Reader { table, network, scripts: &drafts.scripts };
        let name = table.required_string("name", "web").filter(|name| is_name(table.doc, "vrrp", name));
        if let Some(name) = &name
            && let Some(there) = names.insert(name.value, table.at.clone())
        {
            let fix = format!("rename it or the one in {}", table.doc.refer(&name.at, &there));
            table.doc.error(&name.at, format!("a second vrrp {:?}", name.value), fix);
        }
        let Some(draft) = reader.read(name, &mut places) else { continue };
        let port = network.named_port(&draft.plan.interface);
        let addresses = draft.plan.addresses.iter().chain(&draft.plan.unadvertised);
        drafts.addresses.extend(addresses.filter_map(|addr| Some((*addr, port?))));
        drafts.drafts.push(draft);
    }
    drafts
}

fn is_name(doc: &Doc<'_>, what: &str, name: &At<&str>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.value.is_empty() && name.value.len() <= 64 && name.value.chars().all(plain);
    if !good {
        let what = format!("{what} name {:?} is not one", name.value);
        doc.error(&name.at, what, "use up to 64 letters, digits, -, _ and .");
    }
    good
}

struct Reader<'r, 'a> {
    table: &'a Table<'a>,
    network: &'r Network,
    scripts: &'r [TrackScript],
}

impl<'a> Reader<'_, 'a> {
    fn read(&self, name: Option<At<&'a str>>, places: &mut HashMap<IpAddr, Location>) -> Option<Draft<'a>> {
        let (table, doc) = (self.table, self.table.doc);
        let interface = table.required_string("interface", "uvs0");
        let interface = interface.and_then(|name| Some((self.network.named(doc, &name)?, name.at)));
        let interface = interface.and_then(|(interface, at)| {
            if interface.spec.link == Link::Ip {
                let what = format!(
                    "{} is a TUN device, which has no neighbours to advertise to",
                    interface.spec.name
                );
                doc.error(&at, what, "name an interface with device = \"tap\"");
                return None;
            }
            Some(interface)
        });
        let byte = |key, label, note, min| {
            let found = table.integer(&Integer { key, label, min, max: 255, note });
            found.and_then(|found| u8::try_from(found.value).ok())
        };
        table.require("vrid", "51");
        let vrid = byte("vrid", "VRID", ", the same on all nodes", 1);
        let priority = byte("priority", "priority", "; 255 is for the owner of the addresses", 1);
        table.require("addresses", "[\"192.0.2.10\"]");
        let addresses = self.addresses("addresses", places);
        let unadvertised = self.addresses("excluded_addresses", places).unwrap_or_default();
        let version = table.integer(&Integer {
            key: "version",
            label: "VRRP version",
            min: 2,
            max: 3,
            note: "; keepalived's default over IPv4 is 2",
        });
        let version = version.map_or(Version::V3, |it| if it.value == 2 { Version::V2 } else { Version::V3 });
        let interval = self.interval();
        let peers = table.list("peers", "192.0.2.3", read_address).unwrap_or_default();
        let peers: Vec<IpAddr> = peers.into_iter().map(|peer| peer.value).collect();
        let words = [("rfc5798", ChecksumForm::Rfc5798), ("rfc9568", ChecksumForm::Rfc9568)];
        let checksum = table.choice("checksum", &words, &[]).map_or(ChecksumForm::Rfc5798, |it| it.value);
        let (announce, password) = (self.announce(), self.password());
        let group = table.string("group", "all").filter(|name| is_name(doc, "group", name));
        let preempt_delay = table.duration(&PREEMPT_DELAY);
        let preempt = table.boolean("preempt").unwrap_or(false);
        if let Some(delay) = preempt_delay.as_ref().filter(|it| !preempt && !it.value.is_zero()) {
            let what = "preempt_delay, but it never preempts: it takes over when nobody is Active";
            doc.warn(&delay.at, what, "add preempt = true, or remove it");
        }
        let min_ttl = byte("min_ttl", "lowest TTL", "", 1);
        let (mut track, services) = self.track();
        let interface = interface?;
        if table.boolean("track_primary").unwrap_or(true) {
            track.insert(0, TrackPlan::fault(&interface_name(&interface.spec)));
        }
        let addresses = addresses?;
        let source = self.source(&interface.spec, &interface.own, &addresses, &peers);
        let plan = RouterPlan {
            name: Arc::from(name?.value),
            interface: Arc::from(&*interface.spec.name),
            vrid: vrid?,
            version,
            priority: priority.unwrap_or(100),
            interval: interval?,
            source: source?,
            addresses,
            unadvertised,
            preempt,
            preempt_delay: preempt_delay.map_or(Duration::ZERO, |it| it.value),
            peers,
            ttl_min: min_ttl.unwrap_or(TTL),
            password,
            checksum,
            announce,
            track,
        };
        Some(Draft { at: table.at.clone(), plan, group: group.map(|it| it.value), services })
    }

    /// Virtual addresses: nobody's own, each in one virtual router.
    fn addresses(&self, key: &'static str, places: &mut HashMap<IpAddr, Location>) -> Option<Vec<IpAddr>> {
        let (table, doc) = (self.table, self.table.doc);
        let found = table.list(key, "192.0.2.10", |text| match text.parse::<IpAddr>() {
            Ok(addr) => not_a_host(addr).map_or(Ok(addr), |fault| Err(format!("{addr} is {fault}"))),
            Err(_) if text.parse::<Prefix>().is_ok() => {
                Err(format!("{text:?} has a prefix length: a virtual address is one address"))
            }
            Err(_) => Err(format!("{text:?} is not an IP address")),
        })?;
        for At { value: addr, at } in &found {
            if let Some(owner) = self.network.owner(*addr) {
                let what =
                    format!("virtual address {addr} is an address of interface {} itself", owner.spec.name);
                doc.error(
                    at,
                    what,
                    "remove it from the addresses of the interface: it is whoever's is Active",
                );
            }
            if let Some((_, subnet)) = self.network.connected(*addr)
                && is_edge(subnet, *addr)
            {
                let what = format!("{addr} is the {} address of {subnet}", edge_name(subnet, *addr));
                doc.error(at, what, "use another address of the subnet");
            }
            if let Some(there) = places.insert(*addr, at.clone()) {
                let fix = format!("remove it or the one in {}", doc.refer(at, &there));
                doc.error(at, format!("virtual address {addr} is given twice"), fix);
            }
        }
        Some(found.into_iter().map(|it| it.value).collect())
    }

    fn interval(&self) -> Option<Interval> {
        let Some(found) = self.table.duration(&ADVERT_INT) else {
            return (!self.table.has("advert_int")).then_some(Interval::DEFAULT);
        };
        let centis = u16::try_from(found.value.as_millis() / 10).ok().and_then(Interval::from_centis);
        let is_whole = centis.is_some_and(|centis| centis.duration() == found.value);
        if !is_whole {
            let what = format!("advert_int {:?} is not in whole hundredths of a second", found.value);
            self.table.doc.error(&found.at, what, "write advert_int = \"1s\", or \"100ms\"");
            return None;
        }
        centis
    }

    fn password(&self) -> Option<Password> {
        let found = self.table.parsed("password", "secret12", |text| match text.len() {
            1..=8 if text.is_ascii() => Ok(Password::new(text.as_bytes())),
            _ => Err("a password of VRRP has 1 to 8 ASCII characters".to_owned()),
        });
        found.map(|it| it.value)
    }

    fn announce(&self) -> AnnouncePlan {
        let (table, usual) = (self.table, AnnouncePlan::default());
        let repeat = Integer {
            key: "garp_master_repeat",
            label: "repetitions of gratuitous ARP",
            min: 1,
            max: 255,
            note: "",
        };
        let repeat = table.integer(&repeat).and_then(|found| u8::try_from(found.value).ok());
        let span = |span, usual| table.duration(span).map_or(usual, |found| found.value);
        AnnouncePlan {
            repeat: repeat.unwrap_or(usual.repeat),
            gap: span(&GARP_INTERVAL, usual.gap),
            delay: span(&GARP_DELAY, usual.delay),
            refresh: span(&GARP_REFRESH, usual.refresh),
        }
    }

    /// What it advertises from: what the file says, or the interface's first address of that family. Over IPv6 that is
    /// link-local, unless the peers are not.
    fn source(
        &self,
        interface: &InterfaceSpec,
        own: &[Prefix],
        addresses: &[IpAddr],
        peers: &[IpAddr],
    ) -> Option<IpAddr> {
        let (table, doc) = (self.table, self.table.doc);
        let is_v4 = addresses.first().is_none_or(IpAddr::is_ipv4);
        let of_family = |prefix: &&Prefix| prefix.addr().is_ipv4() == is_v4;
        let link_local = || {
            let Link::Ethernet(mac) = interface.link else { return None };
            let given = own.iter().find(|it| is_link_local(it.addr()) && it.prefix_len() < 128);
            let has_v6 = own.iter().any(|it| it.addr().is_ipv6());
            given.map(|it| it.addr()).or_else(|| has_v6.then(|| IpAddr::V6(mac.link_local())))
        };
        if table.has("source") {
            let found = table.parsed("source", "192.0.2.2", read_address)?;
            let is_own = own.iter().any(|prefix| prefix.addr() == found.value)
                || !is_v4 && link_local() == Some(found.value);
            if !is_own {
                let what = format!("source {} is no address of interface {}", found.value, interface.name);
                doc.error(&found.at, what, "name one of its own addresses, or remove source");
                return None;
            }
            if !is_v4 && peers.is_empty() && !is_link_local(found.value) {
                let what = format!(
                    "source {} is not link-local: over IPv6 a group is spoken to from such",
                    found.value
                );
                doc.error(&found.at, what, "name the link-local address of the interface, or remove source");
                return None;
            }
            return Some(found.value);
        }
        let global = || {
            let all = || own.iter().filter(of_family).filter(|it| !is_link_local(it.addr()));
            let around = all().find(|prefix| addresses.first().is_some_and(|addr| prefix.contains(*addr)));
            around.or_else(|| all().next()).map(|it| it.addr())
        };
        let to_global = peers.iter().any(|peer| !is_link_local(*peer));
        let source = if is_v4 || to_global { global() } else { link_local() };
        if source.is_none() {
            let family = if is_v4 { "IPv4" } else { "IPv6" };
            let what = format!("interface {} has no {family} address to advertise from", interface.name);
            doc.error(&table.place("interface"), what, "add one to its addresses: each node has its own");
        }
        source
    }

    /// What its priority follows; what follows services is for later.
    fn track(&self) -> (Vec<TrackPlan>, Vec<(At<&'a str>, TrackPlan)>) {
        let doc = self.table.doc;
        let (mut plans, mut services) = (Vec::new(), Vec::new());
        for table in self.table.tables("track", TRACK, |_| None) {
            let named = [("interface", "uvs1"), ("service", "tcp/192.0.2.10:80"), ("script", "disk")];
            let there: Vec<&str> = named.iter().map(|it| it.0).filter(|key| table.has(key)).collect();
            let [key] = there[..] else {
                let what = "it follows one thing: an interface, a service or a script";
                doc.error(
                    &table.at,
                    what,
                    "write track = [{ service = \"tcp/192.0.2.10:80\", weight = -20 }]",
                );
                continue;
            };
            let example = named.iter().find(|it| it.0 == key).map_or("", |it| it.1);
            let Some(found) = table.string(key, example) else { continue };
            let weight = self.weight(&table);
            let reverse = table.boolean("reverse").unwrap_or(false);
            let plan = |name: String, presumed_up| TrackPlan {
                name: name.into(),
                weight: weight.unwrap_or(0),
                reverse,
                presumed_up,
            };
            match key {
                "interface" => {
                    if let Some(interface) = self.network.named(doc, &found) {
                        plans.push(plan(interface_name(&interface.spec), true));
                    }
                }
                "script" => match self.scripts.iter().find(|script| *script.name == *found.value) {
                    Some(script) => plans.push(plan(script_name(&script.name), !script.init_fail)),
                    None => {
                        let near = nearest(found.value, self.scripts.iter().map(|it| &*it.name));
                        let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
                        let what = format!("there is no script {:?}{near}", found.value);
                        doc.error(&found.at, what, "add a [[vrrp_script]] with that name");
                    }
                },
                _ => services.push((found, plan(String::new(), false))),
            }
        }
        (plans, services)
    }

    fn weight(&self, table: &Table<'_>) -> Option<i16> {
        let found = table.signed("weight", -253, 253, "; 0: while that is down, this node takes no part")?;
        i16::try_from(found).ok()
    }
}

/// How the links of an interface are called, of that name, where priorities follow them.
pub fn tracked_interface(name: &str) -> String {
    format!("interface {name}")
}

fn interface_name(interface: &InterfaceSpec) -> String {
    tracked_interface(&interface.name)
}

fn script_name(name: &str) -> String {
    format!("script {name}")
}

impl Drafts<'_> {
    /// What the drafts come to, once the services are known.
    pub(crate) fn finish(self, doc: &Doc<'_>, network: &Network, services: &[Service]) -> Vrrp {
        let Self { drafts, scripts, addresses } = self;
        let keys: Vec<(String, ServiceKey)> =
            services.iter().map(|service| (service.spec.key.to_string(), service.spec.key)).collect();
        let mut vrrp = Vrrp { scripts, addresses, ..Vrrp::default() };
        let mut places: HashMap<Arc<str>, Location> = HashMap::new();
        let mut groups: Vec<GroupPlan> = Vec::new();
        for interface in &network.interfaces {
            let name = interface_name(&interface.spec).into();
            vrrp.tracked.push(Tracked { name, what: TrackedWhat::Interface(interface.spec.port) });
        }
        for script in &vrrp.scripts {
            let name = script_name(&script.name).into();
            vrrp.tracked.push(Tracked { name, what: TrackedWhat::Script(Arc::clone(&script.name)) });
        }
        for Draft { at, mut plan, group, services: followed } in drafts {
            for (found, track) in followed {
                let wanted = found.value.replacen('/', " ", 1);
                let Some((name, key)) = keys.iter().find(|(name, _)| *name == wanted) else {
                    let near = nearest(&wanted, keys.iter().map(|(name, _)| &**name));
                    let near = near.map_or(String::new(), |near| format!(", perhaps {near:?}"));
                    let what = format!("there is no service {:?}{near}", found.value);
                    doc.error(&found.at, what, "name one as in \"tcp/192.0.2.10:80\"");
                    continue;
                };
                let is_checked = |service: &&Service| {
                    service.spec.key == *key
                        && service.health.as_ref().is_some_and(|it| !it.all_checks().is_empty())
                };
                if !services.iter().any(|service| is_checked(&service)) {
                    let what = format!("service {name} has no checks: nothing says whether it is up");
                    doc.error(&found.at, what, "add checks to the service, or remove this");
                }
                let name: Arc<str> = format!("service {name}").into();
                vrrp.tracked.push(Tracked { name: Arc::clone(&name), what: TrackedWhat::Service(*key) });
                plan.track.push(TrackPlan { name, ..track });
            }
            if let Some(name) = group {
                match groups.iter_mut().find(|group| *group.name == *name) {
                    Some(group) => group.members.push(Arc::clone(&plan.name)),
                    None => {
                        let members = vec![Arc::clone(&plan.name)];
                        groups.push(GroupPlan { name: name.into(), members, track: Vec::new() });
                        places.entry(name.into()).or_insert_with(|| at.clone());
                    }
                }
            }
            places.insert(Arc::clone(&plan.name), at);
            vrrp.plan.routers.push(plan);
        }
        // What follows the same twice is followed once.
        let mut seen = std::collections::HashSet::new();
        vrrp.tracked.retain(|tracked| seen.insert(Arc::clone(&tracked.name)));
        vrrp.plan.groups = groups;
        let names_of_groups = vrrp.plan.groups.iter().map(|group| &group.name);
        for name in names_of_groups.filter(|name| vrrp.plan.routers.iter().any(|it| it.name == **name)) {
            let what = format!("{name} is the name of a group and of a virtual router");
            doc.error(&places[name], what, "give one of them another name: uvs ha means one by it");
        }
        if let Err(wrong) = vrrp.plan.check()
            && let Some(at) = places.get(&wrong.of)
        {
            // It says how to mend it after the last semicolon.
            let (what, fix) = wrong.what.rsplit_once("; ").unwrap_or((&wrong.what, "correct it"));
            doc.error(at, format!("vrrp {}: {what}", wrong.of), fix);
        }
        warn_of_lonely(doc, &vrrp, network, services);
        vrrp
    }
}

/// VIPs that are no virtual addresses while others are: each director answers for them.
fn warn_of_lonely(doc: &Doc<'_>, vrrp: &Vrrp, network: &Network, services: &[Service]) {
    if vrrp.plan.routers.is_empty() {
        return;
    }
    let mut told = std::collections::HashSet::new();
    for service in services {
        let ServiceKey::Address { addr, .. } = service.spec.key else { continue };
        let vip = addr.ip();
        // What an interface has as its own is not meant to move.
        let is_virtual = vrrp.addresses.iter().any(|(it, _)| *it == vip);
        if !is_virtual && network.owner(vip).is_none() && told.insert(vip) {
            let what = format!("VIP {vip} is in no [[vrrp]]: this director answers for it whoever is Active");
            let fix = "add it to the addresses or excluded_addresses of one";
            doc.warn(&service.location, what, fix);
        }
    }
}

fn read_scripts(tables: &[Table<'_>]) -> Vec<TrackScript> {
    let mut scripts: Vec<TrackScript> = Vec::new();
    for table in tables {
        let doc = table.doc;
        let name = table.required_string("name", "disk").filter(|name| is_name(doc, "vrrp_script", name));
        if let Some(name) = &name
            && scripts.iter().any(|script| *script.name == *name.value)
        {
            doc.error(&name.at, format!("a second vrrp_script {:?}", name.value), "rename one of them");
        }
        let command = command(table, "[\"/usr/local/bin/is-well\"]", &[], "it counts as failed without it");
        let interval = table.duration(&SCRIPT_INTERVAL).map_or(Duration::from_secs(1), |it| it.value);
        let timeout = table.duration(&SCRIPT_TIMEOUT).map_or(interval, |it| it.value);
        let count = |key, label| {
            let found = table.integer(&Integer { key, label, min: 1, max: 255, note: " results in a row" });
            found.and_then(|found| u32::try_from(found.value).ok()).unwrap_or(1)
        };
        let (rise, fall) = (count("rise", "rise"), count("fall", "fall"));
        let init_fail = table.boolean("init_fail").unwrap_or(false);
        let user = user(table);
        if let (Some(name), Some(command)) = (name, command) {
            let name = Arc::from(name.value);
            scripts.push(TrackScript { name, command, user, interval, timeout, rise, fall, init_fail });
        }
    }
    scripts
}
