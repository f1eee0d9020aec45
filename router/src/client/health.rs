//! `uvs status`: health checks as text.

use uvs_control::destination::Drain;
use uvs_control::status::{Check, Destination, Health};

/// With more destinations than this, those that are in service are only counted.
const LISTED_MAX: usize = 64;

/// The lines about health; none where nothing is checked.
pub(super) fn lines(health: &[Health]) -> Vec<String> {
    if health.is_empty() {
        return Vec::new();
    }
    let all = health.iter().map(|service| service.destinations.len()).sum::<usize>();
    let mut lines = vec![String::new(), format!("{:40} {:>10}  {}", "Health", "weight", "state")];
    for service in health {
        let quorum = match service.quorum {
            _ if !service.judged => "not checked",
            Some(true) => "quorum held",
            Some(false) => "quorum lost",
            None => "no result yet",
        };
        let backup = if service.backup { ", the backups serve" } else { "" };
        let up = service.destinations.iter().filter(|it| it.in_service && it.admin == "ready").count();
        let count = service.destinations.len();
        lines
            .push(format!("{:40} {:>10}  {up} of {count} in service, {quorum}{backup}", service.service, ""));
        for destination in &service.destinations {
            let fine = destination.in_service
                && destination.admin == "ready"
                && destination.checks.iter().all(|check| check.state == "up");
            if all <= LISTED_MAX || !fine {
                of_destination(destination, &mut lines);
            }
        }
    }
    lines
}

fn of_destination(it: &Destination, lines: &mut Vec<String>) {
    let mut state = match (it.in_service, it.backup, it.weight, it.admin.as_str()) {
        (true, _, _, "drain" | "maint") => it.admin.clone(),
        (true, true, 0, _) => "standby".to_owned(),
        (true, ..) => "in service".to_owned(),
        (false, ..) => "out of service".to_owned(),
    };
    match it.admin.as_str() {
        "drain" | "maint" if it.in_service => {}
        "drain" | "maint" => state.push_str(&format!(" for {}, {}", time(it.since_s), it.admin)),
        _ => state.push_str(&format!(" for {}", time(it.since_s))),
    }
    if let Some(drain) = &it.drain {
        state.push_str(&format!("; {}", of_drain(drain)));
    }
    if let Some(held) = it.held_s {
        state.push_str(&format!(", held for its flaps for {} more", time(held)));
    }
    if it.flaps > 0 {
        let times = if it.flaps == 1 { "time" } else { "times" };
        state.push_str(&format!(", went out {} {times}", it.flaps));
    }
    let weight = if it.weight_by == "file" {
        it.weight.to_string()
    } else {
        format!("{} ({})", it.weight, it.weight_by)
    };
    lines.push(format!("  {:38} {weight:>10}  {state}", it.destination));
    lines.extend(it.checks.iter().map(of_check));
}

/// How a drain stands, as in `3 connections left, ends in 12 s by a reset, then remove`.
pub(super) fn of_drain(it: &Drain) -> String {
    if it.phase == "over" && it.open == 0 {
        return "drained".to_owned();
    }
    let mut text = connections(it.open);
    match (it.phase.as_str(), it.deadline_s) {
        ("over", _) => text.push_str(", the deadline is over"),
        ("ending", _) => text.push_str(", being reset"),
        (_, Some(left)) => {
            let how = if it.reset { " by a reset" } else { "" };
            text.push_str(&format!(", ends in {}{how}", time(left)));
        }
        (_, None) => {}
    }
    if let Some(then) = it.then {
        text.push_str(&format!(", then {}", then.name()));
    }
    text
}

/// How many are left.
pub(super) fn connections(open: u64) -> String {
    match open {
        1 => "1 connection left".to_owned(),
        open => format!("{open} connections left"),
    }
}

fn of_check(it: &Check) -> String {
    let mut text = format!("    {}: {}", it.name, it.state);
    if it.against > 0 {
        text.push_str(&format!(" {}/{}", it.against, it.needed));
    }
    text.push_str(&format!(" for {}", time(it.since_s)));
    if let (Some(last), Some(age), Some(took)) = (&it.last, it.last_age_s, it.took_s) {
        text.push_str(&format!("; {} ago in {}: {last}", time(age), time(took)));
    }
    text.push_str(&format!(" [{}]", it.probe));
    if it.overdue {
        text.push_str(" OVERDUE");
    }
    text
}

/// In a unit that leaves few digits.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        ..0.001 => "<1 ms".to_owned(),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_says_how_it_ends() {
        use uvs_control::destination::Then;
        let drain = |phase: &str, open, deadline_s, reset, then| Drain {
            phase: phase.into(),
            open,
            deadline_s,
            reset,
            then,
            ..Drain::default()
        };
        let cases = [
            (drain("waiting", 1, None, false, None), "1 connection left"),
            (drain("waiting", 3, Some(12.0), false, None), "3 connections left, ends in 12 s"),
            (
                drain("waiting", 3, Some(12.0), true, Some(Then::Remove)),
                "3 connections left, ends in 12 s by a reset, then remove",
            ),
            (drain("ending", 3, Some(0.0), true, None), "3 connections left, being reset"),
            (drain("over", 3, Some(0.0), false, None), "3 connections left, the deadline is over"),
            (drain("over", 0, Some(0.0), true, None), "drained"),
        ];
        for (drain, text) in cases {
            assert_eq!(of_drain(&drain), text);
        }
    }

    #[test]
    fn each_destination_has_its_weight_its_state_and_its_checks() {
        let check = Check {
            name: "web".into(),
            probe: "http 10.0.0.1:80".into(),
            state: "up".into(),
            since_s: 3.2,
            against: 1,
            needed: 3,
            last: Some("refused".into()),
            last_age_s: Some(0.25),
            took_s: Some(0.0002),
            ..Check::default()
        };
        let destination = Destination {
            destination: "10.0.0.1:80".into(),
            in_service: true,
            since_s: 7300.0,
            weight: 3,
            weight_by: "agent".into(),
            admin: "ready".into(),
            checks: vec![check],
            ..Destination::default()
        };
        let down = Destination {
            destination: "10.0.0.2:80".into(),
            in_service: false,
            weight: 0,
            weight_by: "health".into(),
            flaps: 4,
            held_s: Some(90.0),
            admin: "drain".into(),
            ..destination.clone()
        };
        let health = Health {
            service: "tcp 192.0.2.10:80".into(),
            judged: true,
            quorum: Some(true),
            destinations: vec![destination, down],
            ..Health::default()
        };
        let text = lines(&[health]).join("\n");
        let check = "    web: up 1/3 for 3 s; 250 ms ago in <1 ms: refused [http 10.0.0.1:80]";
        let wanted = [
            "",
            "Health                                       weight  state",
            "tcp 192.0.2.10:80                                    1 of 2 in service, quorum held",
            "  10.0.0.1:80                             3 (agent)  in service for 2 h",
            check,
            "  10.0.0.2:80                            0 (health)  out of service for 2 h, drain, held for its flaps for 90 s more, went out 4 times",
            check,
        ];
        assert_eq!(text, wanted.join("\n"));
    }
}
