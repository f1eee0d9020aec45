#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use uvs_config::NOTIFY_EVENTS;

use super::queue::WAITING_MAX;
use super::*;

fn hook(name: &str, command: &[&str], events: &[&'static str]) -> Notify {
    Notify {
        name: name.into(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        user: None,
        events: events.to_vec(),
        services: Vec::new(),
        destinations: Vec::new(),
        timeout: Duration::from_secs(20),
    }
}

fn event(kind: Kind, service: &str) -> Event {
    Event { kind, service: Some(service.to_owned()), ..Event::default() }
}

fn destination(kind: Kind, service: &str, destination: usize) -> Event {
    Event {
        destination: Some(format!("10.0.{}.{}:80", destination / 256, destination % 256)),
        ..event(kind, service)
    }
}

const WEB: &str = "tcp 192.0.2.10:80";

/// Programs may be told of every type of event, but of those about them.
#[test]
fn the_configuration_knows_every_type_of_event() {
    use Kind::{
        BackupDown, BackupUp, Certificate, CheckDown, CheckOverdue, CheckUnchecked, CheckUnmade, CheckUp,
        DestinationDown, DestinationHeld, DestinationUp, DrainEnded, DrainStarted, Notified, NotifyDropped,
        NotifyFailed, Other, QuorumDown, QuorumUp, Ready, ReloadFailed, Reloaded, Stopping, VrrpBackup,
        VrrpDeleted, VrrpFault, VrrpLowerPriority, VrrpMaster, VrrpMismatch, VrrpPriority, VrrpStop, Weight,
        WeightMended,
    };
    let told = |kind: Kind| match kind {
        Ready | Stopping | CheckUp | CheckDown | CheckUnmade | CheckUnchecked | CheckOverdue
        | Certificate | DestinationUp | DestinationDown | DestinationHeld | QuorumUp | QuorumDown
        | BackupUp | BackupDown | Weight | WeightMended | DrainStarted | DrainEnded | Reloaded
        | ReloadFailed | VrrpMaster | VrrpBackup | VrrpFault | VrrpStop | VrrpDeleted | VrrpLowerPriority
        | VrrpPriority | VrrpMismatch => true,
        Notified | NotifyFailed | NotifyDropped | Other => false,
    };
    for name in NOTIFY_EVENTS {
        let kind: Kind = serde_json::from_value((*name).into()).unwrap();
        assert!(kind.name() == *name && told(kind), "{name}");
    }
    for kind in [Notified, NotifyFailed, NotifyDropped, Other] {
        assert!(!NOTIFY_EVENTS.contains(&kind.name()));
    }
}

#[test]
fn what_waits_is_replaced_by_what_came_after_it_and_the_order_stays() {
    let (up, down) = (Arc::new(hook("up", &[], &[])), Arc::new(hook("down", &[], &[])));
    let mut queue = Queue::default();
    let mut push = |hook: &Arc<Notify>, event: Event| {
        queue.push(Job { hook: Arc::clone(hook), event: Arc::new(event) }).merged
    };
    assert!(!push(&up, event(Kind::QuorumUp, WEB)));
    assert!(!push(&down, event(Kind::QuorumDown, WEB)), "it is another program");
    assert!(!push(&up, destination(Kind::DestinationUp, WEB, 1)), "it is another thing");
    assert!(!push(&up, destination(Kind::DestinationUp, WEB, 2)));
    assert!(push(&up, event(Kind::QuorumUp, WEB)));
    assert!(push(&up, destination(Kind::DestinationDown, WEB, 1)));
    let mut told = Vec::new();
    while let Some(job) = queue.next() {
        assert!(queue.next().is_none(), "one after the other");
        queue.done(&job);
        told.push((job.hook.name.to_string(), job.event.kind, job.event.destination.clone()));
    }
    let expected = [
        ("down", Kind::QuorumDown, None),
        ("up", Kind::DestinationUp, Some("10.0.0.2:80")),
        ("up", Kind::QuorumUp, None),
        ("up", Kind::DestinationDown, Some("10.0.0.1:80")),
    ];
    assert_eq!(told, expected.map(|(hook, kind, of)| (hook.to_owned(), kind, of.map(str::to_owned))));
}

#[test]
fn services_do_not_wait_for_each_other_and_what_waits_is_bounded() {
    let hook = Arc::new(hook("told", &[], &[]));
    let mut queue = Queue::default();
    for number in 0..WAITING_MAX + 10 {
        let event = Arc::new(destination(Kind::DestinationDown, WEB, number));
        let pushed = queue.push(Job { hook: Arc::clone(&hook), event });
        let dropped = pushed.dropped.map(|job| job.event.destination.clone().unwrap());
        let oldest = number.checked_sub(WAITING_MAX).map(|number| format!("10.0.0.{number}:80"));
        assert_eq!(dropped, oldest);
    }
    assert_eq!(queue.len(), WAITING_MAX);
    let event = Arc::new(event(Kind::QuorumDown, "udp 192.0.2.10:53"));
    queue.push(Job { hook, event });
    let (first, second) = (queue.next().unwrap(), queue.next().unwrap());
    assert_eq!(first.event.service.as_deref(), Some(WEB));
    assert_eq!(second.event.service.as_deref(), Some("udp 192.0.2.10:53"), "though it came last");
    assert!(queue.next().is_none());
}

#[test]
fn a_program_hears_of_what_it_names_and_of_what_is_of_nobody() {
    let config = uvs_config::Config::parse(
        "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n\
         [[notify]]\nname = 'told'\ncommand = ['/bin/true', '{event}', 'of {rip}:{rport} {']\n\
         events = ['destination_down', 'quorum_down', 'stopping']\nservices = ['tcp/192.0.2.10:80']\n\
         destinations = ['192.0.2.21:80']\n\
         [[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:80'\nforward = 'nat'\n\
         destination = [{ address = '192.0.2.21:80' }]\n",
        "test.toml",
    )
    .unwrap();
    let hook = &config.notify[0];
    let of = |kind, service: &str, addr: &str| Event {
        destination: Some(addr.to_owned()),
        reason: Some("{event} \u{1f}".into()),
        ..event(kind, service)
    };
    let down = of(Kind::DestinationDown, WEB, "192.0.2.21:80");
    assert!(message::concerns(hook, &down));
    assert!(!message::concerns(hook, &of(Kind::DestinationUp, WEB, "192.0.2.21:80")));
    assert!(!message::concerns(hook, &of(Kind::DestinationDown, WEB, "192.0.2.22:80")));
    assert!(!message::concerns(hook, &of(Kind::DestinationDown, "tcp 192.0.2.11:80", "192.0.2.21:80")));
    assert!(message::concerns(hook, &event(Kind::QuorumDown, WEB)));
    assert!(!message::concerns(hook, &event(Kind::QuorumDown, "tcp 192.0.2.11:80")));
    assert!(message::concerns(hook, &Event { kind: Kind::Stopping, ..Event::default() }));
    let (command, environment) = message::of(hook, &down);
    assert_eq!(command, ["/bin/true", "destination_down", "of 192.0.2.21:80 {"]);
    let value =
        |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
    for (name, wanted) in [
        ("UVS_EVENT", Some("destination_down")),
        ("UVS_SERVICE", Some(WEB)),
        ("UVS_PROTOCOL", Some("tcp")),
        ("UVS_VIP", Some("192.0.2.10")),
        ("UVS_VPORT", Some("80")),
        ("UVS_RIP", Some("192.0.2.21")),
        ("UVS_REASON", Some("{event} \u{1f}")),
        ("UVS_WEIGHT", None),
        ("UVS_NOTIFY", Some("told")),
    ] {
        assert_eq!(value(name), wanted, "{name}");
    }
    let (_, environment) = message::of(hook, &event(Kind::QuorumDown, "fwmark 7 IPv6"));
    assert!(environment.contains(&("UVS_PROTOCOL", "fwmark 7 IPv6".to_owned())));
    assert!(!environment.iter().any(|(name, _)| *name == "UVS_VIP"));
}

/// Programs, told of what happens until they are stopped; what was said of them.
async fn told(hooks: Vec<Notify>, happens: Vec<Event>) -> (Vec<Event>, Vec<(Arc<str>, Sample)>) {
    let text = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n";
    let config =
        uvs_config::Config { notify: hooks, ..uvs_config::Config::parse(text, "test.toml").unwrap() };
    let events = Arc::<Events>::default();
    let running = Hooks::start(&config, &events).unwrap();
    happens.into_iter().for_each(|event| events.tell(event));
    running.stop().await;
    (events.history(&Request::default()).events, running.stats.report().samples)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn programs_are_told_in_order_and_their_ends_are_events() {
    let folder = tempfile::tempdir().unwrap();
    let heard = folder.path().join("heard");
    let script = format!("echo $1 $UVS_SERVICE $UVS_DESTINATION >> {}", heard.display());
    let all = &["quorum_up", "quorum_down", "destination_down", "stopping"];
    let hooks = vec![
        hook("told", &["/bin/sh", "-c", &script, "sh", "{event}"], all),
        hook("fails", &["/bin/sh", "-c", "echo no disk; exit 3"], &["quorum_down"]),
        hook("missing", &["/nonexistent/program"], &["quorum_down"]),
    ];
    let happens = vec![
        destination(Kind::DestinationDown, WEB, 7),
        event(Kind::QuorumDown, WEB),
        event(Kind::BackupUp, WEB),
        Event { kind: Kind::Stopping, ..Event::default() },
    ];
    let (events, samples) = told(hooks, happens).await;
    let mut heard = lines(&heard);
    let of_director = heard.iter().position(|line| line == "stopping").unwrap();
    heard.remove(of_director);
    assert_eq!(heard, [format!("destination_down {WEB} 10.0.0.7:80"), format!("quorum_down {WEB}")]);
    let reasons: Vec<&str> = events.iter().filter_map(|event| event.reason.as_deref()).collect();
    let says = |part: &str| reasons.iter().any(|reason| reason.contains(part));
    assert!(says("notify told of destination_down: exit status 0, after"), "{reasons:?}");
    assert!(says("notify fails of quorum_down: exit status 3: no disk, after"), "{reasons:?}");
    assert!(says("notify missing of quorum_down: /nonexistent/program cannot be run"), "{reasons:?}");
    let kinds = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((kinds(Kind::Notified), kinds(Kind::NotifyFailed)), (3, 2));
    let runs: Vec<[u64; 4]> = samples.iter().map(|(_, sample)| sample.runs).collect();
    assert_eq!(runs, [[0, 1, 0, 0], [0, 0, 0, 1], [3, 0, 0, 0]]);
}

/// Processes that run `sleep` for that long, whose number nobody else has.
fn sleepers(seconds: &str) -> usize {
    let lines =
        std::fs::read_dir("/proc").unwrap().flatten().map(|it| std::fs::read(it.path().join("cmdline")));
    let wanted = format!("sleep\0{seconds}\0");
    lines.flatten().filter(|line| *line == wanted.as_bytes()).count()
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_what_it_has_started() {
    let seconds = format!("8{:08}", std::process::id());
    let script = format!("trap '' TERM; sleep {seconds} & sleep {seconds} & wait");
    let stuck = Notify {
        timeout: Duration::from_millis(300),
        ..hook("stuck", &["/bin/sh", "-c", &script], &["ready"])
    };
    let (_, samples) = told(vec![stuck], vec![Event { kind: Kind::Ready, ..Event::default() }]).await;
    assert_eq!(samples[0].1.runs, [0, 0, 1, 0]);
    assert_eq!(sleepers(&seconds), 0);
    // One whose time is longer than that of the end goes with the director.
    let seconds = format!("7{:08}", std::process::id());
    let stuck = hook("stuck", &["/bin/sleep", &seconds], &["ready"]);
    let began = Instant::now();
    told(vec![stuck], vec![Event { kind: Kind::Ready, ..Event::default() }]).await;
    assert!(began.elapsed() >= STOP_WITHIN);
    for _ in 0..500 {
        if sleepers(&seconds) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is left");
}
