//! Plans and reloads of a director without devices.

use std::sync::Arc;

use uvs_config::Modules;
use uvs_control::plan::Field;
use uvs_director::scheduler::{Scheduler, SchedulerFactory};
use uvs_director::spec::Limits;

use super::*;

/// Real schedulers, but for one whose file has gone since it was checked.
struct Vanishing(Schedulers);

impl SchedulerFactory for Vanishing {
    fn create(&self, spec: &SchedulerSpec, service: &str) -> Result<Box<dyn Scheduler>, String> {
        if spec.name == "sh" { Err("it is gone".into()) } else { self.0.create(spec, service) }
    }
}

const NETWORK: &str = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n";

fn config(text: &str) -> Config {
    Config::parse(&format!("{NETWORK}{text}"), "test.toml").unwrap()
}

fn service(port: u16, scheduler: &str, server: u8) -> String {
    format!(
        "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:{port}'\nscheduler = '{scheduler}'\nforward = 'dr'\n\
         destination = [{{ address = '192.0.2.{server}:{port}' }}]\n"
    )
}

fn parts<'p>(director: &'p Director, schedulers: &'p Schedulers, clock: Clock) -> Parts<'p> {
    let (weights, drains) = (Box::leak(Box::default()), Box::leak(Box::default()));
    Parts { director, schedulers, clock, weights, drains, ha: None }
}

fn state(director: &Director) -> String {
    let services: Vec<_> = director
        .services()
        .into_iter()
        .map(|view| (view.spec, view.destinations.iter().map(|one| one.spec).collect::<Vec<_>>()))
        .collect();
    format!("{services:?} {:?} {:?} {:?}", director.interfaces(), director.timeouts(), director.options())
}

#[test]
fn a_change_that_fails_takes_the_others_back() {
    let running = config(&(service(80, "rr", 21) + &service(81, "rr", 22)));
    let schedulers = || check::schedulers(&Modules::default()).unwrap();
    let director = Director::new(Limits::default(), 1, Arc::new(Vanishing(schedulers())));
    let clock = Clock::start();
    for change in Config::diff(None, &running) {
        director.apply(change, clock.now()).unwrap();
    }
    let before = state(&director);
    let settings = "[options]\nsloppy_tcp = true\n[timeouts]\ntcp = 5\n";
    let wanted = config(
        &(settings.to_owned() + &service(80, "wlc", 23) + &service(82, "rr", 22) + &service(83, "sh", 22)),
    );
    let wanted = check::judge(wanted, &schedulers()).unwrap();
    match apply(&running, wanted, parts(&director, &schedulers(), clock)) {
        Outcome::Refused(reasons) => {
            assert_eq!(reasons, ["scheduler \"sh\": it is gone"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&director), before);
}

#[test]
fn what_was_done_by_hand_is_undone() {
    let running = config(&service(80, "rr", 21));
    let director =
        Director::new(Limits::default(), 1, Arc::new(check::schedulers(&Modules::default()).unwrap()));
    let clock = Clock::start();
    for change in Config::diff(None, &running) {
        director.apply(change, clock.now()).unwrap();
    }
    let before = state(&director);
    for line in [
        "-D -t 192.0.2.10:80",
        "-A -u 192.0.2.11:53 -s sh -p",
        "--sysctl sloppy_tcp=1 drop_packet=3",
        "--set 1 2 3",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = uvs_adm::run(&words, "", &director, clock.now());
        assert_eq!(output.code, 0, "{line}: {output:?}");
    }
    let interfaces = running.interfaces_for(director.services().into_iter().map(|service| service.spec.key));
    assert_ne!(interfaces, director.interfaces(), "another VIP");
    director.apply(Change::SetNetwork { interfaces, routes: Vec::new() }, clock.now()).unwrap();
    let schedulers = check::schedulers(&Modules::default()).unwrap();
    let parts = parts(&director, &schedulers, clock);
    let wanted = || check::judge(running.clone(), &schedulers);
    let planned = plan(wanted(), &running, parts).unwrap();
    assert!(planned.changes.iter().all(|change| change.by_hand), "{planned:#?}");
    let lines: Vec<String> = planned.changes.iter().map(Described::line).collect();
    let want = [
        "~ network: addresses of uvs0 removed 192.0.2.11/32, addresses of uvs0 added 192.0.2.10/32",
        "~ timeouts: tcp 1 s -> 900 s, tcp_fin 2 s -> 120 s, udp 3 s -> 300 s",
        "~ options: sloppy_tcp true -> false, drop_packet 3 -> 0",
        "+ service tcp 192.0.2.10:80: scheduler rr",
        "+ destination 192.0.2.21:80 of tcp 192.0.2.10:80: forward dr, weight 1",
        "- service udp 192.0.2.11:53",
    ];
    assert_eq!(lines, want);
    let (in_force, by_hand) = (Arc::new(running.clone()), ByHand::default());
    for again in [false, true] {
        let (differs, services) = by_hand.look(&in_force, parts);
        assert_eq!(differs, planned.changes, "status says the same, again: {again}");
        assert_eq!(services.len(), director.services().len());
    }
    match apply(&running, wanted().unwrap(), parts) {
        Outcome::Done { plan, .. } => assert_eq!(*plan, planned, "a reload does what was planned"),
        other => panic!("{other:?}"),
    }
    assert_eq!(state(&director), before);
    assert_eq!(plan(wanted(), &running, parts).unwrap().changes, [], "and nothing is left to do");
    assert_eq!(by_hand.look(&in_force, parts).0, [], "what was found out before is not told again");
    let other = Arc::new(uvs_config::Config { services: Vec::new(), ..running.clone() });
    assert_ne!(by_hand.look(&other, parts).0, [], "another configuration is in force");
    // Each thing that may be done by hand is found, and so is that it is undone.
    for (done, undone) in [
        ("-e -t 192.0.2.10:80 -r 192.0.2.21:80 -g -w 7", "-e -t 192.0.2.10:80 -r 192.0.2.21:80 -g -w 1"),
        ("-A -u 192.0.2.11:53", "-D -u 192.0.2.11:53"),
        ("--set 7 0 0", "--set 900 0 0"),
        ("--sysctl sloppy_tcp=1", "--sysctl sloppy_tcp=0"),
    ] {
        for (line, count) in [(done, 1), (undone, 0)] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(uvs_adm::run(&words, "", &director, clock.now()).code, 0, "{line}");
            assert_eq!(by_hand.look(&in_force, parts).0.len(), count, "{line}");
        }
    }
}

#[test]
fn a_plan_is_what_the_reload_does_with_a_changed_file() {
    let check = |interval: u8| {
        format!("[[check]]\nname = 'web'\ntype = 'tcp'\ninterval = '{interval}s'\ntimeout = '1s'\n")
    };
    let checked = "checks = ['web']\n";
    let old = service(80, "rr", 21) + &service(81, "rr", 22) + &service(82, "rr", 23) + checked + &check(2);
    let new = "transit = 'any'\n".to_owned()
        + NETWORK
        + "[[mark]]\nmark = 7\nprotocol = 'udp'\n[[neighbor]]\naddress = '192.0.2.21'\nmac = '02:00:00:00:00:21'\n"
        + "[[route]]\nto = '198.51.100.0/24'\nvia = '192.0.2.254'\n"
        + &service(80, "sh", 21)
            .replace("address = '192.0.2.21:80'", "address = '192.0.2.21:80', weight = 0")
        + "persistent = 60\n"
        + &service(82, "rr", 24)
        + &service(83, "rr", 22)
        + checked
        + &check(3);
    let running = config(&old);
    let schedulers = Arc::new(check::schedulers(&Modules::default()).unwrap());
    let director = Director::new(Limits::default(), 1, schedulers.clone());
    let clock = Clock::start();
    let weights = Weights::default();
    let settled = weights.hold().settle(&running, None);
    for change in Config::diff(None, &settled) {
        director.apply(change, clock.now()).unwrap();
    }
    weights.hold().settled(&settled, None);
    let parts = Parts { weights: &weights, ..parts(&director, &schedulers, clock) };
    let wanted = || Config::parse(&new, "test.toml").and_then(|it| check::judge(it, &schedulers));
    let planned = plan(wanted(), &running, parts).unwrap();
    let lines: Vec<String> = planned.changes.iter().map(Described::line).collect();
    let want = [
        "~ network: routes added to 198.51.100.0/24 via 192.0.2.254",
        "+ neighbor 192.0.2.21: mac 02:00:00:00:00:21",
        "~ options: transit servers -> any",
        "~ service tcp 192.0.2.10:80: scheduler rr -> sh, persistent 60 s",
        "~ destination 192.0.2.21:80 of tcp 192.0.2.10:80: weight 1 -> 0",
        "+ destination 192.0.2.24:82 of tcp 192.0.2.10:82: forward dr, weight 1",
        "- destination 192.0.2.23:82 of tcp 192.0.2.10:82",
        "+ service tcp 192.0.2.10:83: scheduler rr",
        "+ destination 192.0.2.22:83 of tcp 192.0.2.10:83: forward dr, weight 0",
        "~ marks: rules added mark 7 for udp",
        "- service tcp 192.0.2.10:81",
        "~ check web: interval 2s -> 3s",
        "- health of tcp 192.0.2.10:82",
    ];
    assert_eq!(lines, want);
    assert!(planned.changes.iter().all(|change| !change.by_hand && !change.effect.is_empty()));
    match apply(&running, wanted().unwrap(), parts) {
        Outcome::Done { plan, config, .. } => {
            assert_eq!(*plan, planned);
            assert_eq!(super::plan(wanted(), &config, parts).unwrap().changes, []);
        }
        other => panic!("{other:?}"),
    }
}

/// What becomes of checks stands in a plan as it stands in the file.
#[test]
fn a_plan_says_of_health_what_the_file_says() {
    let check = |expect: &str| format!("[[check]]\nname = 'web'\ntype = 'tcp'\nsend = 'hi'\n{expect}");
    let program =
        |name: &str, more: &str| format!("[[notify]]\nname = '{name}'\ncommand = ['/bin/true']\n{more}");
    let health = |lines: &str, own: &str| {
        let service = service(80, "rr", 21) + "checks = ['web']\n";
        service.replace(":80' }", &format!(":80', {own} }}")) + "[service.health]\n" + lines
    };
    let old = health("quorum = '50%'\nstart = 'up'\n", "weight = 1")
        + &check("expect = 'ho'\n")
        + &program("told", "")
        + &program("gone", "timeout = 5\n");
    let new = health("quorum = 1\nstart = 'up'\non_down = 'drain'\n", "checks = [], check = { port = 99 }")
        + &check("expect_regex = 'h[oi]'\ninterval = '2s'\n")
        + &program("told", "events = ['weight']\n")
        + &program("new", "");
    let running = config(&old);
    let schedulers = Arc::new(check::schedulers(&Modules::default()).unwrap());
    let director = Director::new(Limits::default(), 1, schedulers.clone());
    let clock = Clock::start();
    let weights = Weights::default();
    let settled = weights.hold().settle(&running, None);
    for change in Config::diff(None, &settled) {
        director.apply(change, clock.now()).unwrap();
    }
    weights.hold().settled(&settled, None);
    let parts = Parts { weights: &weights, ..parts(&director, &schedulers, clock) };
    let planned = plan(check::judge(config(&new), &schedulers), &running, parts).unwrap();
    let lines: Vec<String> = planned.changes.iter().map(Described::line).collect();
    let want = [
        "~ check web: expect ho -> none, expect_regex h[oi], interval 2s",
        "- notify gone",
        "+ notify new: command [\"/bin/true\"]",
        "~ notify told: events [\"weight\"]",
        "~ health of tcp 192.0.2.10:80: quorum 50% -> 1, on_down drain, check of 192.0.2.21:80 { port = 99 }, \
         checks of 192.0.2.21:80 []",
    ];
    assert_eq!(lines, want);
    // What is written otherwise and means the same is no change.
    let same =
        new.replace("interval = '2s'", "interval = 2").replace("quorum = 1", "quorum = 1\nhysteresis = 0");
    let planned = plan(check::judge(config(&same), &schedulers), &config(&new), parts).unwrap();
    let checks = planned.changes.iter().filter(|it| ["check", "health", "notify"].contains(&&*it.what));
    assert_eq!(checks.count(), 0, "{planned:#?}");
}

#[test]
fn what_was_exported_is_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lc.wasm"), uvs_plugin::SHIPPED[2].1).unwrap();
    let rest = "[[scheduler]]\nname = 'mine'\nmodule = 'lc.wasm'\n[[check]]\nname = 'web'\ntype = 'tcp'\n\
                [[mark]]\nmark = 7\ninterface = 'uvs0'\n[limits]\nneighbors = 99\n";
    let more = "checks = ['web']\n[service.health]\nquorum = 1\nstart = 'up'\n[[service.health.backup]]\n\
                address = '192.0.2.29'\n[[service.destination]]\naddress = '192.0.2.24'\ncheck = { port = 99 }\nchecks = []\n";
    let checked = service(90, "mine", 21).replace("destination =", "# destination =") + more;
    std::fs::write(folder.path().join("more.toml"), checked).unwrap();
    let text = format!("include = ['more.toml']\n{NETWORK}{rest}{}", service(80, "rr", 21));
    let file = folder.path().join("uvs.toml");
    let running = Config::parse(&text, &file).unwrap();
    let schedulers = Arc::new(check::schedulers(&Modules::default()).unwrap());
    let Judged { config: running, catalogue } = check::judge(running, &schedulers).unwrap();
    schedulers.accept(catalogue);
    let director = Director::new(Limits::default(), 1, schedulers.clone());
    let clock = Clock::start();
    let weights = Weights::default();
    let settled = weights.hold().settle(&running, None);
    for change in Config::diff(None, &settled) {
        director.apply(change, clock.now()).unwrap();
    }
    weights.hold().settled(&settled, None);
    let parts = Parts { weights: &weights, ..parts(&director, &schedulers, clock) };
    let same = |why: &str| {
        let text = export(&running, parts);
        let elsewhere =
            Config::parse(&text, "elsewhere.toml").unwrap_or_else(|it| panic!("{why}: {it}\n{text}"));
        let judged = check::judge(elsewhere, &schedulers);
        let plan = plan(judged, &running, parts).unwrap_or_else(|it| panic!("{why}: {it:?}\n{text}"));
        assert_eq!(plan.changes, [], "{why}:\n{text}");
    };
    same("as it began");
    for line in [
        "-E -t 192.0.2.10:80 -s mine",
        "-E -t 192.0.2.10:80 -s wlc -p 77 -M 255.255.255.0",
        "-a -t 192.0.2.10:80 -r 192.0.2.22 -i -w 0",
        "-a -t 192.0.2.10:80 -r 192.0.2.23 -i -w 65535 -x 100 -y 50 --tun-type gue --tun-port 6080 --tun-csum",
        "-a -t 192.0.2.10:80 -r 192.0.2.24 -i --tun-type gue --tun-port 6081 --tun-remcsum",
        "-a -t 192.0.2.10:80 -r 192.0.2.25 -i --tun-type gre --tun-csum",
        "-a -t 192.0.2.10:80 -r 192.0.2.26:8080 -m",
        "-e -t 192.0.2.10:80 -r 192.0.2.21:80 -g -w 9",
        "-d -t 192.0.2.10:80 -r 192.0.2.24",
        "-A -f 7 -s sh -b sh-fallback,sh-port",
        "-a -f 7 -r 192.0.2.22 -g",
        "-a -f 7 -r 192.0.2.23:8080 -m",
        "-A -f 8 -s rr -p 60 -o",
        "-A -u 192.0.2.10:53 -s mh -b mh-port -o",
        "-a -u 192.0.2.10:53 -r 192.0.2.22 -m",
        "-A -t 192.0.2.10:0 -s rr -p",
        "-a -t 192.0.2.10:0 -r 192.0.2.22 -g -x 5",
        "-A --sctp-service 192.0.2.10:5060 -s lblc",
        "-e -t 192.0.2.10:90 -r 192.0.2.24:90 -g -x 7",
        "-a -t 192.0.2.10:90 -r 192.0.2.27:90 -g -w 3",
        "-d -t 192.0.2.10:90 -r 192.0.2.29:90",
        "--sysctl sloppy_tcp=1 drop_packet=3 conn_reuse_mode=0 am_droprate=7",
        "--set 1 2 3",
        "-D -f 8",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = uvs_adm::run(&words, "", &director, clock.now());
        assert_eq!(output.code, 0, "{line}: {output:?}");
        weights.hold().changed(&director, None, clock.now());
        same(line);
    }
    let gone = uvs_adm::run(&["-C"], "", &director, clock.now());
    assert_eq!(gone.code, 0);
    let interfaces = running.interfaces_for([]);
    director.apply(Change::SetAddresses(interfaces), clock.now()).unwrap();
    same("all of it gone");
}

#[test]
fn a_file_that_is_refused_changes_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let named = |module: &str, mtu: u32| {
        let (_, bytes) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == module).unwrap();
        std::fs::write(folder.path().join(format!("{module}.wasm")), bytes).unwrap();
        let mine = format!("[[scheduler]]\nname = 'mine'\nmodule = '{module}.wasm'\n");
        format!("{NETWORK}mtu = {mtu}\n{mine}{}", service(80, "mine", 21))
    };
    std::fs::write(&file, named("rr", 1500)).unwrap();
    let schedulers = Arc::new(check::schedulers(&Modules::default()).unwrap());
    let Judged { config: running, catalogue } = check::load(&file, &schedulers).unwrap();
    schedulers.accept(catalogue);
    let director = Director::new(Limits::default(), 1, schedulers.clone());
    let clock = Clock::start();
    for change in Config::diff(None, &running) {
        director.apply(change, clock.now()).unwrap();
    }
    let (names, before) = (schedulers.catalogue(), state(&director));
    let broken = named("sh", 1500) + &service(81, "/nowhere.wasm", 22);
    for (text, why) in [(named("sh", 9000), "it needs a restart"), (broken, "a module is missing")] {
        std::fs::write(&file, text).unwrap();
        match reload(&file, &running, parts(&director, &schedulers, clock)) {
            Outcome::Refused(_) => {}
            other => panic!("{why}: {other:?}"),
        }
        assert!(
            Arc::ptr_eq(&names, &schedulers.catalogue()),
            "{why}: the names were not even replaced for a while"
        );
        assert_eq!(state(&director), before, "{why}");
    }
}

/// What checks put in force is a change all the same.
#[test]
fn another_weight_of_a_destination_that_is_checked_is_told() {
    let text = |weight: &str| {
        let checked = service(80, "rr", 21).replace("'dr'", "'dr'\nchecks = ['tcp']");
        let checked = checked.replace("21:80'", &format!("21:80', weight = {weight}"));
        format!("[[check]]\nname = 'tcp'\ntype = 'tcp'\n{checked}")
    };
    let running = config(&text("2"));
    let schedulers = check::schedulers(&Modules::default()).unwrap();
    let director =
        Director::new(Limits::default(), 1, Arc::new(check::schedulers(&Modules::default()).unwrap()));
    let clock = Clock::start();
    let parts = parts(&director, &schedulers, clock);
    let settled = parts.weights.hold().settle(&running, None);
    for change in Config::diff(None, &settled) {
        director.apply(change, clock.now()).unwrap();
    }
    parts.weights.hold().settled(&settled, None);
    let told = |weight: &str| {
        let wanted = check::judge(config(&text(weight)), &schedulers).unwrap();
        let plan = prepare(&running, &wanted, parts, &parts.weights.hold()).plan;
        plan.changes.iter().map(|it| (it.what.clone(), it.fields.clone(), it.by_hand)).collect::<Vec<_>>()
    };
    let weight = |new: &str| {
        let field = Field::new("weight", Some("2".to_owned()), Some(new.to_owned()));
        vec![("destination".to_owned(), vec![field], false)]
    };
    assert_eq!(told("2"), []);
    assert_eq!(told("7"), weight("7"));
    assert_eq!(told("0"), weight("0"));
}
