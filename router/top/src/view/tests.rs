//! Screens, as they are drawn on a terminal of that size.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use uvs_control::event::{Event, Kind};
use uvs_control::sample::{Answer, Module, Request, Scheduler, Trial};
use uvs_control::status::{
    Check, Destination as Checked, Drops, Flow, FlowCache, Health, Interface, Limit, Losses,
};

use super::*;
use crate::app::{Key, tests::sample};
use crate::rows::View;

const PLAIN: Palette = Palette { colours: false };

fn screen(app: &mut App, palette: Palette, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(app, palette, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines =
        buffer.content.chunks(width).map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A director of which every view has something to say.
fn everything(uptime_s: f64) -> Answer {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a test")]
    let seconds = uptime_s as u64;
    let check = |name: &str, state: &str| Check {
        name: name.into(),
        probe: "http 192.168.0.1:8080".into(),
        state: state.into(),
        since_s: 75.0,
        last: Some(if state == "up" { "200 OK".into() } else { "refused".into() }),
        last_age_s: Some(1.0),
        took_s: Some(0.0021),
        against: u32::from(state == "up"),
        needed: 3,
        passed: 40,
        failed: 2,
        ..Check::default()
    };
    let checked = |number: u32, state: &str, admin: &str| Checked {
        destination: format!("192.168.1.{number}:8080"),
        in_service: state == "up",
        weight: u32::from(state == "up"),
        weight_by: if state == "up" { "file".into() } else { "health".into() },
        admin: admin.into(),
        checks: vec![check("web", state)],
        ..Checked::default()
    };
    let module = |origin: &str, failures: u64| Module {
        origin: origin.into(),
        sha256: "5e0a11ce0123456789".into(),
        serving: if failures > 0 { "ejected".into() } else { "module".into() },
        picks: 1000 * seconds,
        timed: 100 * seconds,
        timed_ns: 81_000 * seconds,
        p99_ns: Some(1600),
        fallbacks: failures,
        failures: [("trap".to_owned(), failures)].into(),
        last_failure: (failures > 0).then(|| "trap in schedule: unreachable".to_owned()),
        ..Module::default()
    };
    let scheduler = |index: u32, origin: &str, failures: u64| Scheduler {
        service: format!("tcp 10.0.0.{index}:80"),
        scheduler: "wlc".into(),
        module: module(origin, failures),
        trial: (index == 1).then(|| Trial {
            mode: "shadow".into(),
            module: module("/etc/uvs/next.wasm", 0),
            same: 990,
            different: 10,
            ..Trial::default()
        }),
        ..Scheduler::default()
    };
    let interface = |name: &str, state: &str| Interface {
        name: name.into(),
        received: Flow { frames: 5000 * seconds, bytes: 7_000_000 * seconds, errors: 0 },
        transmitted: Flow { frames: 4000 * seconds, bytes: 300_000 * seconds, errors: 2 },
        datapath: "flow_cache".into(),
        state: state.into(),
        reasons: if state == "up" { vec![] } else { vec!["eth1 has no carrier".into()] },
        mtu: 1500,
        losses: vec![Losses { received_dropped: 7, ..Losses::default() }],
        ..Interface::default()
    };
    Answer {
        limits: vec![Limit { name: "connections".into(), used: 123_456, max: 1_000_000, ..Limit::default() }],
        drops: vec![
            Drops { reason: "no_route".into(), frames: 12 },
            Drops { reason: "bad_checksum".into(), frames: 40 * seconds },
        ],
        interfaces: vec![interface("uvs0", "up"), interface("uvs1", "degraded")],
        flow_cache: Some(FlowCache { packets: 90_000 * seconds, ..FlowCache::default() }),
        health: vec![Health {
            service: "tcp 10.0.0.1:80".into(),
            judged: true,
            quorum: Some(true),
            backup: false,
            destinations: vec![
                checked(1, "up", "ready"),
                checked(2, "down", "ready"),
                checked(3, "up", "drain"),
            ],
        }],
        schedulers: vec![scheduler(1, "wlc", 0), scheduler(2, "/etc/uvs/mine.wasm", 3)],
        ..sample(12, uptime_s)
    }
}

fn happened() -> Vec<Event> {
    let event = |number: u64, kind: Kind, time: &str| Event {
        number,
        kind,
        time: format!("2026-11-30T{time}.000Z"),
        service: Some("tcp 10.0.0.1:80".into()),
        destination: Some("192.168.1.2:8080".into()),
        ..Event::default()
    };
    vec![
        Event { service: None, destination: None, ..event(1, Kind::Ready, "22:00:00") },
        Event {
            check: Some("web".into()),
            reason: Some("refused".into()),
            ..event(2, Kind::CheckDown, "22:03:59")
        },
        event(3, Kind::DestinationDown, "22:04:00"),
    ]
}

/// What it shows of that director after some keys.
fn shown(view: View, service: Option<&str>) -> App {
    let mut app = App::default();
    (app.view, app.service) = (view, service.map(str::to_owned));
    for uptime in [750.0, 752.0] {
        let mut answer = everything(uptime);
        if let Some(service) = service {
            answer.services.retain(|it| it.name == service);
        }
        app.take(app.request(), answer, happened());
    }
    app
}

/// The screens are kept as text in `screens`, so that whoever changes one sees what comes of it. With `UVS_SCREENS=new`
/// they are written anew.
fn is_as_kept(name: &str, buffer: &Buffer) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("screens").join(format!("{name}.txt"));
    let now = text(buffer);
    if std::env::var("UVS_SCREENS").is_ok_and(|it| it == "new") {
        std::fs::write(&file, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(now == kept, "{} was\n{kept}\nand is\n{now}", file.display());
}

#[test]
fn every_view_at_the_usual_sizes() {
    let open = Some("tcp 10.0.0.1:80");
    let views = [
        ("services", View::Services, None),
        ("destinations", View::Destinations, open),
        ("checks", View::Checks, None),
        ("schedulers", View::Schedulers, None),
        ("drops", View::Drops, None),
        ("interfaces", View::Interfaces, None),
        ("events", View::Events, None),
    ];
    for (name, view, service) in views {
        for (width, height) in [(80, 24), (120, 40), (60, 15)] {
            let mut app = shown(view, service);
            is_as_kept(&format!("{name}-{width}x{height}"), &screen(&mut app, PLAIN, width, height));
        }
    }
}

#[test]
fn help_filter_and_trouble_are_shown() {
    let mut app = shown(View::Services, None);
    app.press(Key::Char('?'), 10);
    is_as_kept("help-80x24", &screen(&mut app, PLAIN, 80, 24));
    app.press(Key::Char('?'), 10);
    app.press(Key::Char('/'), 10);
    for c in "10.0.0.1".chars() {
        app.press(Key::Char(c), 10);
    }
    is_as_kept("filter-80x24", &screen(&mut app, PLAIN, 80, 24));
    app.press(Key::Esc, 10);
    app.lose("no director answers at /run/uvs.sock".into());
    is_as_kept("lost-80x24", &screen(&mut app, PLAIN, 80, 24));
    let mut app = App::default();
    app.lose("no director answers at /run/uvs.sock".into());
    is_as_kept("none-60x15", &screen(&mut app, PLAIN, 60, 15));
}

#[test]
fn a_long_list_scrolls_with_its_selection() {
    let mut app = App::default();
    for uptime in [10.0, 12.0] {
        app.take(app.request(), sample(1000, uptime), vec![]);
    }
    app.press(Key::End, 18);
    let drawn = text(&screen(&mut app, PLAIN, 80, 24));
    assert!(drawn.contains("tcp 10.0.3.249:80") && drawn.contains("1000 of 1000"), "{drawn}");
    app.press(Key::Home, 18);
    let drawn = text(&screen(&mut app, PLAIN, 80, 24));
    assert!(drawn.contains("tcp 10.0.0.0:80") && drawn.contains("1 of 1000"), "{drawn}");
}

#[test]
fn without_colours_there_are_none_and_what_is_wrong_still_stands_out() {
    let mut app = shown(View::Services, None);
    app.press(Key::Down, 10);
    let plain = screen(&mut app, PLAIN, 80, 24);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    // The first row has no destination that takes connections; the second one is selected.
    assert!(plain[(0, 4)].modifier.contains(Modifier::BOLD));
    assert!(plain[(0, 5)].modifier.contains(Modifier::REVERSED));
    let coloured = screen(&mut app, Palette { colours: true }, 80, 24);
    assert_eq!(coloured[(0, 4)].fg, Color::Red);
    assert_eq!(text(&plain), text(&coloured), "colour says nothing alone");
}

/// Of any size, with anything on it, in any view.
#[test]
fn no_size_is_too_much() {
    for view in View::ALL {
        for (width, height) in [(1, 1), (39, 7), (40, 8), (41, 9), (300, 3), (80, 200), (500, 100)] {
            let mut app = shown(view, None);
            app.press(Key::Char('/'), 10);
            let drawn = screen(&mut app, PLAIN, width, height);
            let asked = (width, height);
            assert_eq!((drawn.area.width, drawn.area.height), asked);
            app.help = true;
            screen(&mut app, PLAIN, width, height);
        }
    }
}

/// What others name does not reach the terminal as a command.
#[test]
fn names_cannot_command_the_terminal() {
    let mut app = App::default();
    let mut answer = sample(1, 10.0);
    answer.services[0].name = "tcp \x1b[2J\u{9b}1m\n".into();
    answer.config = "\x1b]0;title\x07".into();
    app.take(Request::default(), answer, vec![]);
    let drawn = screen(&mut app, PLAIN, 80, 24);
    assert!(drawn.content.iter().all(|cell| !cell.symbol().chars().any(char::is_control)));
}
