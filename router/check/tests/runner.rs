//! The checks as they run: real servers on the loopback, real time.

use core::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time;

use tokio::runtime::Builder;
use uvs_check::core::{Bounds, Edit, Event, Order, State, What};
use uvs_check::net::{System, Target};
use uvs_check::runner::{Runner, Sink};
use uvs_check::spec::{
    CheckPlan, DestinationPlan, Exec, Kind, Passive, Plan, ProbeSpec, Schedule, ServicePlan, Talk,
};
use uvs_check::weight::{Admin, Writer};
use uvs_director::spec::{Protocol, ServiceKey};
use uvs_director::view::Observations;
use uvs_director::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

struct Tell {
    orders: Sender<Order>,
    events: Sender<Event>,
    seen: Seen,
}

/// What the data path sees of one destination, while somebody watches.
type Seen = Arc<Mutex<Option<(SocketAddr, Observations)>>>;

impl Sink for Tell {
    fn orders(&mut self, orders: &[Order]) {
        for order in orders {
            let _ = self.orders.send(*order);
        }
    }

    fn event(&mut self, event: &Event) {
        let _ = self.events.send(event.clone());
    }

    fn watch(&mut self, _: &ServiceKey, each: &mut dyn FnMut(SocketAddr, &Observations)) {
        if let Some((addr, seen)) = &*self.seen.lock().expect("nobody panicked") {
            each(*addr, seen);
        }
    }

    fn unwatch(&mut self, _: &ServiceKey) {
        *self.seen.lock().expect("nobody panicked") = None;
    }
}

fn start() -> (Runner, Receiver<Order>, Receiver<Event>) {
    start_with(Seen::default())
}

fn start_with(seen: Seen) -> (Runner, Receiver<Order>, Receiver<Event>) {
    let ((orders, ordered), (events, told)) = (channel(), channel());
    let began = time::Instant::now();
    let now = move || Instant::ZERO + began.elapsed();
    let sink = Tell { orders, events, seen };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(core::future::pending::<()>()));
    let runner = Runner::start(&handle, Arc::new(System), Bounds::default(), 1, now, sink);
    (runner, ordered, told)
}

const KEY: ServiceKey = ServiceKey::Address {
    protocol: Protocol::Tcp,
    addr: SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 80)), 80),
};

fn plan(addr: SocketAddr, kind: Kind) -> Plan {
    let schedule = Schedule::every(Duration::from_millis(50), Duration::from_millis(500));
    let probe = Arc::new(ProbeSpec { kind, target: Target::direct(addr), schedule });
    let check = CheckPlan { name: "it".into(), probe, rise: 2, fall: 2, unmade: Default::default() };
    let destination = DestinationPlan {
        addr,
        weight: Some(7),
        adm: None,
        admin: Admin::Ready,
        backup: false,
        serves: false,
        checks: vec![check],
    };
    let (quorum, policy) = Default::default();
    Plan {
        drain: None,
        services: vec![ServicePlan {
            key: KEY,
            quorum,
            policy,
            judged: true,
            destinations: vec![destination],
        }],
    }
}

fn wait(orders: &Receiver<Order>, weight: u32) -> Order {
    let began = time::Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let order = orders.recv_timeout(left).unwrap_or_else(|_| panic!("weight {weight} is not ordered"));
        if order.weight == weight {
            return order;
        }
    }
}

#[test]
fn a_server_that_dies_goes_out_of_service_and_comes_back() {
    let (runner, orders, events) = start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    runner.apply(plan(addr, Kind::Tcp(Talk::default())));
    assert_eq!(wait(&orders, 7).by, Writer::File);
    drop(listener);
    let down = wait(&orders, 0);
    assert_eq!((down.by, down.destination), (Writer::Health, addr));
    let view = runner.view(PATIENCE).expect("it answers");
    let check = &view[0].destinations[0].checks[0];
    assert_eq!(check.state, State::Down);
    assert_eq!(check.last.as_ref().map(|last| &*last.text), Some("refused"));
    let _again = std::net::TcpListener::bind(addr).unwrap();
    wait(&orders, 7);
    drop(runner);
    let told: Vec<What> = events.into_iter().map(|event| event.what).collect();
    assert!(
        told.iter()
            .any(|what| matches!(what, What::Check { to: State::Down, reason, .. } if reason == "refused"))
    );
}

#[test]
fn what_is_seen_of_clients_counts_until_a_probe_passes() {
    let seen = Seen::default();
    let (runner, orders, _events) = start_with(Arc::clone(&seen));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let inhibit = Duration::from_millis(100);
    let confirm = Box::new(Kind::Tcp(Talk::default()));
    let passive = Passive { failures: 3, inhibit, inhibit_max: inhibit, confirm };
    runner.apply(plan(addr, Kind::Passive(passive)));
    wait(&orders, 7);
    drop(listener);
    let now_seen = |failed: u32| {
        let (failed, failed_in_a_row) = (failed.into(), failed);
        *seen.lock().unwrap() = Some((addr, Observations { failed, failed_in_a_row, ..Default::default() }));
    };
    let began = time::Instant::now();
    // Each look counts what is new to it.
    for failed in 0.. {
        now_seen(failed);
        match orders.recv_timeout(Duration::from_millis(20)) {
            Ok(order) => {
                assert_eq!((order.weight, order.by), (0, Writer::Health));
                break;
            }
            Err(_) => assert!(began.elapsed() < PATIENCE, "nothing happens"),
        }
    }
    let _again = std::net::TcpListener::bind(addr).unwrap();
    wait(&orders, 7);
    runner.apply(Plan::default());
    while seen.lock().unwrap().is_some() {
        assert!(began.elapsed() < PATIENCE, "it is still watched");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_people_want_wins_and_a_plan_takes_all_back() {
    let (runner, orders, _events) = start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    runner.apply(plan(addr, Kind::Tcp(Talk::default())));
    wait(&orders, 7);
    runner.edit(KEY, addr, Edit::Adm(Some(3)));
    assert_eq!(wait(&orders, 3).by, Writer::Adm);
    runner.edit(KEY, addr, Edit::Admin(Admin::Maint));
    assert_eq!(wait(&orders, 0).by, Writer::Admin);
    runner.edit(KEY, addr, Edit::Admin(Admin::Ready));
    wait(&orders, 3);
    runner.apply(plan(addr, Kind::Tcp(Talk::default())));
    assert_eq!(wait(&orders, 7).by, Writer::File, "the file wins at a reload");
    let one = runner.view_of(KEY, PATIENCE).expect("it answers").expect("it is in the plan");
    assert_eq!((one.key, one.destinations[0].weight), (KEY, 7));
    runner.apply(Plan::default());
    assert_eq!(runner.view(PATIENCE).map(|view| view.len()), Some(0));
    assert!(runner.view_of(KEY, PATIENCE).expect("it answers").is_none());
}

#[test]
fn to_end_it_ends_what_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("pid");
    let (runner, _orders, _events) = start();
    let script = format!("echo $$ > {}; exec sleep 60", list.display());
    let command = vec!["/bin/sh".into(), "-c".into(), script];
    let exec = Exec { command, user: None, dynamic: false, environment: Vec::new() };
    let mut plan = plan(([127, 0, 0, 1], 9).into(), Kind::Exec(exec.into()));
    let check = &mut plan.services[0].destinations[0].checks[0];
    Arc::make_mut(&mut check.probe).schedule.timeout = Duration::from_secs(60);
    runner.apply(plan);
    let began = time::Instant::now();
    let pid = loop {
        match std::fs::read_to_string(&list) {
            Ok(pid) if pid.ends_with('\n') => break pid.trim().to_owned(),
            _ => assert!(began.elapsed() < PATIENCE, "it does not start"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(runner);
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while !stat().is_empty() && !stat().contains(") Z ") {
        assert!(began.elapsed() < PATIENCE, "{pid} lives on: {}", stat());
        std::thread::sleep(Duration::from_millis(5));
    }
}
