//! Applying `diff(old, new)` to what `old` is gives what `new` is, in an order a director can follow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use uvs_config::Config;
use uvs_director::PortId;
use uvs_director::spec::{
    Change, DestinationSpec, InterfaceSpec, Link, MacAddr, MarkRule, Options, RouteSpec, ServiceKey,
    ServiceSpec, Timeouts,
};

/// What a director holds, and how it takes changes: strictly.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    interfaces: Vec<InterfaceSpec>,
    routes: Vec<RouteSpec>,
    neighbors: BTreeMap<(PortId, IpAddr), MacAddr>,
    marks: Vec<MarkRule>,
    services: BTreeMap<ServiceKey, (ServiceSpec, BTreeMap<SocketAddr, DestinationSpec>)>,
    timeouts: Timeouts,
    options: Options,
}

impl Model {
    fn of(config: &Config) -> Self {
        Self {
            interfaces: config.interfaces.iter().map(|interface| interface.spec.clone()).collect(),
            routes: config.routes.clone(),
            neighbors: config.neighbors.iter().map(|it| ((it.port, it.addr), it.mac)).collect(),
            marks: config.marks.clone(),
            services: config
                .services
                .iter()
                .map(|service| {
                    let destinations = service.destinations.iter().map(|spec| (spec.addr, *spec)).collect();
                    (service.spec.key, (service.spec.clone(), destinations))
                })
                .collect(),
            timeouts: config.timeouts,
            options: config.options,
        }
    }

    fn apply(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::SetNetwork { interfaces, routes } => {
                for (index, interface) in interfaces.iter().enumerate() {
                    if usize::from(interface.port.0) != index {
                        return Err(format!("{} is not number {index}", interface.name));
                    }
                }
                if routes.iter().any(|route| usize::from(route.port.0) >= interfaces.len()) {
                    return Err("a route leads to no interface".to_owned());
                }
                (self.interfaces, self.routes) = (interfaces, routes);
                self.neighbors.clear();
            }
            Change::SetAddresses(interfaces) => {
                let but_addresses = |all: &[InterfaceSpec]| -> Vec<InterfaceSpec> {
                    all.iter().map(|it| InterfaceSpec { addresses: Vec::new(), ..it.clone() }).collect()
                };
                if but_addresses(&interfaces) != but_addresses(&self.interfaces) {
                    return Err("more than addresses has changed".to_owned());
                }
                self.interfaces = interfaces;
            }
            Change::SetNeighbor { port, addr, mac } => {
                let interface = self.interfaces.get(usize::from(port.0)).ok_or("neighbor on no interface")?;
                if interface.link == Link::Ip {
                    return Err(format!("neighbor {addr} on a layer 3 link"));
                }
                self.neighbors.insert((port, addr), mac);
            }
            Change::SetMarks(rules) => {
                let ports = rules.iter().filter_map(|rule| rule.port);
                if ports.into_iter().any(|port| usize::from(port.0) >= self.interfaces.len()) {
                    return Err("a mark rule for no interface".to_owned());
                }
                self.marks = rules;
            }
            Change::AddService(spec) => {
                let key = spec.key;
                if self.services.insert(key, (spec, BTreeMap::new())).is_some() {
                    return Err(format!("{key} added twice"));
                }
            }
            Change::EditService(spec) => {
                let key = spec.key;
                self.service(key)?.0 = spec;
            }
            Change::RenewScheduler(key) => {
                self.service(key)?;
            }
            Change::RemoveService(key) => {
                self.services.remove(&key).ok_or_else(|| format!("{key} removed but not there"))?;
            }
            Change::AddDestination(key, spec) => {
                if self.service(key)?.1.insert(spec.addr, spec).is_some() {
                    return Err(format!("{} added twice to {key}", spec.addr));
                }
            }
            Change::EditDestination(key, spec) => {
                let there = self.service(key)?.1.insert(spec.addr, spec);
                there.ok_or_else(|| format!("{} edited but not in {key}", spec.addr))?;
            }
            Change::RemoveDestination(key, addr) => {
                let there = self.service(key)?.1.remove(&addr);
                there.ok_or_else(|| format!("{addr} removed but not in {key}"))?;
            }
            Change::SetTimeouts(timeouts) => self.timeouts = timeouts,
            Change::SetOptions(options) => self.options = options,
            other => return Err(format!("a config has no reason for {other:?}")),
        }
        Ok(())
    }

    fn service(
        &mut self,
        key: ServiceKey,
    ) -> Result<&mut (ServiceSpec, BTreeMap<SocketAddr, DestinationSpec>), String> {
        self.services.get_mut(&key).ok_or_else(|| format!("no service {key}"))
    }
}

fn parse(text: &str) -> Config {
    Config::parse(text, "generated.toml").unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    any::<Index>().prop_map(move |index| *index.get(from))
}

fn destination() -> impl Strategy<Value = String> {
    // Direct routing keeps the port, so the port is left out wherever the method is free.
    let forward = pick(&[
        "forward = \"nat\"\n",
        "forward = \"dr\"\n",
        "forward = \"tun\"\n",
        "forward = \"tun\"\ntunnel = { type = \"gre\" }\n",
        "forward = \"tun\"\ntunnel = { type = \"gue\", port = 6080 }\n",
    ]);
    let threshold = pick(&["", "upper_threshold = 9\n"]);
    (forward, 0u32..4, threshold)
        .prop_map(|(forward, weight, threshold)| format!("weight = {weight}\n{forward}{threshold}"))
}

fn service(head: &'static str) -> impl Strategy<Value = String> {
    let hosts = subsequence((11..17).collect::<Vec<u8>>(), 0..=6).prop_shuffle();
    let scheduler = pick(uvs_config::SHIPPED);
    let options = pick(&["", "a", "b"]);
    let sticky = pick(&["", "persistent = 60\n", "persistent = true\nnetmask = 24\n"]);
    (hosts, proptest::collection::vec(destination(), 6), scheduler, options, sticky).prop_map(
        move |(hosts, bodies, scheduler, options, sticky)| {
            let mut text = format!(
                "[[service]]\n{head}\nscheduler = \"{scheduler}\"\noptions = \"{options}\"\n{sticky}"
            );
            for (host, body) in hosts.iter().zip(bodies) {
                text += &format!("[[service.destination]]\naddress = \"192.168.10.{host}\"\n{body}");
            }
            text
        },
    )
}

const RULES: [&str; 3] = [
    "[[mark]]\nmark = 7\ninterface = \"a\"\ndestination_ports = 80\n",
    "[[mark]]\nmark = 8\ndestination = \"192.168.10.100/32\"\n",
    "[[mark]]\nmark = 7\nprotocol = \"tcp\"\nsource_mac = \"!02:00:00:00:00:15\"\n",
];

/// The text of a valid config. A few values of each kind, so that two of them have much in common.
fn text() -> impl Strategy<Value = String> {
    let network = pick(&[
        "addresses = [\"192.168.10.1/24\"]\n",
        "addresses = [\"192.168.10.1/24\"]\nmtu = 9000\n",
        "addresses = [\"192.168.10.1/24\", \"192.168.10.2/24\"]\n",
    ]);
    let more = pick(&[
        "",
        "[[interface]]\nname = \"b\"\ndevice = \"tun\"\naddresses = [\"10.0.0.1/24\"]\n",
        "[[interface]]\nname = \"c\"\ndevice = \"tap\"\naddresses = [\"10.0.0.1/24\"]\n",
    ]);
    let route = pick(&[
        "",
        "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"192.168.10.254\"\n",
        "[[route]]\nto = \"0.0.0.0/0\"\ninterface = \"a\"\n",
    ]);
    let neighbor = |host: u8| {
        format!("[[neighbor]]\naddress = \"192.168.10.{host}\"\nmac = \"02:00:00:00:00:{host:02}\"\n")
    };
    let neighbors = subsequence((11..15).collect::<Vec<u8>>(), 0..=4)
        .prop_map(move |hosts| hosts.into_iter().map(neighbor).collect::<String>());
    let settings = pick(&[
        "",
        "[timeouts]\ntcp = 60\n",
        "[timeouts]\nudp = 1\n[options]\nexpire_nodest_conn = true\n",
        "[options]\nconn_reuse_mode = 0\n",
        "compat = \"ipvs\"\n",
    ]);
    let rules = subsequence(vec![RULES[0], RULES[1], RULES[2]], 0..=3).prop_shuffle();
    let rules = rules.prop_map(|rules| rules.concat());
    let services = subsequence(vec![0usize, 1, 2, 3, 4, 5], 0..=6).prop_shuffle();
    let bodies = [
        "protocol = \"tcp\"\naddress = \"192.168.10.100:80\"",
        "protocol = \"udp\"\naddress = \"192.168.10.100:80\"",
        "protocol = \"tcp\"\naddress = \"192.168.10.100:443\"",
        "protocol = \"tcp\"\naddress = \"192.168.10.1:80\"",
        "mark = 7",
        "mark = 8",
    ]
    .map(service);
    (settings, network, more, route, neighbors, rules, services, bodies).prop_map(
        |(settings, network, more, route, neighbors, rules, services, bodies)| {
            let services: String = services.into_iter().map(|index| bodies[index].as_str()).collect();
            format!(
                "{settings}[[interface]]\nname = \"a\"\ndevice = \"tap\"\n{network}{more}{route}{neighbors}{rules}{services}"
            )
        },
    )
}

proptest! {
    #[test]
    fn diff_leads_from_nothing_to_a_config(new in text()) {
        let new = parse(&new);
        let mut model = Model::default();
        for change in Config::diff(None, &new) {
            model.apply(change).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(model, Model::of(&new));
    }

    #[test]
    fn diff_leads_from_one_config_to_another(old in text(), new in text()) {
        let (old, new) = (parse(&old), parse(&new));
        let (before, after) = (Model::of(&old), Model::of(&new));
        let mut model = before.clone();
        let changes = Config::diff(Some(&old), &new);
        let network = changes.iter().any(|change| matches!(change, Change::SetNetwork { .. }));
        for change in changes {
            let last = model.clone();
            if matches!(change, Change::SetMarks(_)) {
                for key in before.services.keys().chain(after.services.keys()) {
                    prop_assert!(model.services.contains_key(key), "marks are set when {} is not there", key);
                }
                for (key, (_, want)) in &after.services {
                    let there = &model.services[key].1;
                    prop_assert!(want.keys().all(|addr| there.contains_key(addr)), "{} is not ready", key);
                }
            }
            model.apply(change.clone()).map_err(TestCaseError::fail)?;
            // A neighbour is set again after SetNetwork; every other step leads somewhere.
            prop_assert!(
                network && matches!(change, Change::SetNetwork { .. }) || model != last,
                "{:?} changes nothing", change
            );
            for (key, (_, destinations)) in &model.services {
                let had = before.services.get(key).is_some_and(|(_, them)| !them.is_empty());
                let has = after.services.get(key).is_some_and(|(_, them)| !them.is_empty());
                prop_assert!(!(had && has && destinations.is_empty()), "{} is left empty by {:?}", key, change);
            }
        }
        prop_assert_eq!(model, after);
    }

    #[test]
    fn diff_of_equal_configs_is_empty(text in text()) {
        prop_assert_eq!(Config::diff(Some(&parse(&text)), &parse(&text)), []);
    }
}

const TWO: &str = r#"
[[interface]]
name = "uvs0"
device = "tap"
addresses = ["192.0.2.1/24"]
[[service]]
protocol = "tcp"
address = "192.0.2.10:80"
forward = "nat"
destination = [{ address = "192.0.2.21:80" }, { address = "192.0.2.22:80", weight = 5 }]
"#;

#[test]
fn a_weight_is_edited_in_place_and_nothing_else_happens() {
    let (old, new) = (parse(TWO), parse(&TWO.replace("weight = 5", "weight = 0")));
    let key = new.services[0].spec.key;
    let want = Change::EditDestination(key, new.services[0].destinations[1]);
    assert_eq!(Config::diff(Some(&old), &new), [want]);
}

#[test]
fn moved_and_reordered_text_is_no_change() {
    let (old, new) = (parse(TWO), parse(&format!("# a comment\n\n{TWO}\n[timeouts]\ntcp = 900\n")));
    assert_eq!(Config::diff(Some(&old), &new), []);
}

#[test]
fn the_start_sets_the_network_first_and_destinations_in_the_order_of_the_file() {
    let config = parse(TWO);
    let service = &config.services[0];
    let key = service.spec.key;
    let interfaces = vec![config.interfaces[0].spec.clone()];
    let want = [
        Change::SetNetwork { interfaces, routes: Vec::new() },
        // Without `compat`, templates do not keep clients at a quiesced destination, which is not the default of IPVS.
        Change::SetOptions(config.options),
        Change::AddService(service.spec.clone()),
        Change::AddDestination(key, service.destinations[0]),
        Change::AddDestination(key, service.destinations[1]),
    ];
    assert_eq!(Config::diff(None, &config), want);
}

#[test]
fn packets_move_from_one_service_to_another_without_a_gap() {
    let rule = "[[mark]]\nmark = 7\ndestination = \"192.0.2.10/32\"\n";
    let marked =
        TWO.replace("protocol = \"tcp\"\naddress = \"192.0.2.10:80\"", "mark = 7").replace(":80\"", "\"");
    let (old, new) = (parse(TWO), parse(&format!("{marked}{rule}")));
    let said = |from: &Config, to: &Config| -> Vec<String> {
        let kind = |change: &Change| format!("{change:?}").split(['(', ' ']).next().unwrap_or("").to_owned();
        Config::diff(Some(from), to).iter().map(kind).collect()
    };
    let want =
        ["SetAddresses", "AddService", "AddDestination", "AddDestination", "SetMarks", "RemoveService"];
    // The VIP is the director's own address only while a service names it.
    assert_eq!(said(&old, &new), want);
    assert_eq!(said(&new, &old), want);
    let moved = parse(&format!("{marked}{}", rule.replace("192.0.2.10", "192.0.2.11")));
    assert_eq!(Config::diff(Some(&new), &moved), [Change::SetMarks(moved.marks.clone())]);
}

#[test]
fn another_module_behind_the_same_name_renews_the_scheduler() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["a.wasm", "b.wasm"] {
        std::fs::write(folder.path().join(name), "module").expect("written");
    }
    let text = format!(
        "{TWO}scheduler = \"mine\"\n[[scheduler]]\nname = \"mine\"\nmodule = \"a.wasm\"\noptions = \"x\"\n"
    );
    let load = |text: String| Config::parse(&text, folder.path().join("edge.toml")).expect("valid");
    let old = load(text.clone());
    assert_eq!(old.services[0].spec.scheduler.options, "x", "the scheduler's options unless there are own");
    let new = load(text.replace("a.wasm", "b.wasm"));
    assert_eq!(Config::diff(Some(&old), &new), [Change::RenewScheduler(new.services[0].spec.key)]);
    let new = load(text.replace("\"x\"", "\"y\""));
    assert_eq!(Config::diff(Some(&old), &new), [Change::EditService(new.services[0].spec.clone())]);
}
