//! What a program is told, in its arguments and its environment, and whether it is.

use std::net::SocketAddr;

use uvs_config::Notify;
use uvs_control::event::Event;

/// Whether that event is for that program. What is said of services and destinations bears on events that are of one.
pub(super) fn concerns(hook: &Notify, event: &Event) -> bool {
    let service = |name: &String| hook.services.iter().any(|key| key.to_string() == *name);
    let destination = |name: &String| hook.destinations.iter().any(|addr| addr.to_string() == *name);
    hook.events.contains(&event.kind.name())
        && (hook.services.is_empty() || event.service.as_ref().is_none_or(service))
        && (hook.destinations.is_empty() || event.destination.as_ref().is_none_or(destination))
}

/// The command with what stands for its placeholders, and the environment. What an event has not got is empty in
/// arguments, and not in the environment.
pub(super) fn of(hook: &Notify, event: &Event) -> (Vec<String>, Vec<(&'static str, String)>) {
    let said = said(event);
    let expand = |word: &String| expand(word, &said);
    let command = hook.command.iter().map(expand).collect();
    let mut environment: Vec<(&'static str, String)> =
        said.into_iter().filter_map(|(_, name, value)| Some((name, value?))).collect();
    environment.push(("UVS_NOTIFY", hook.name.to_string()));
    environment.push(("UVS_TIME", event.time.clone()));
    environment.push(("UVS_NUMBER", event.number.to_string()));
    (command, environment)
}

/// By the names of placeholders, and of variables.
fn said(event: &Event) -> [(&'static str, &'static str, Option<String>); 20] {
    let (protocol, vip) = event.service.as_deref().map_or((None, None), protocol_and_vip);
    let destination: Option<SocketAddr> = event.destination.as_deref().and_then(|text| text.parse().ok());
    [
        ("event", "UVS_EVENT", Some(event.kind.name().to_owned())),
        ("service", "UVS_SERVICE", event.service.clone()),
        ("protocol", "UVS_PROTOCOL", protocol),
        ("vip", "UVS_VIP", vip.map(|vip| vip.ip().to_string())),
        ("vport", "UVS_VPORT", vip.map(|vip| vip.port().to_string())),
        ("destination", "UVS_DESTINATION", event.destination.clone()),
        ("rip", "UVS_RIP", destination.map(|addr| addr.ip().to_string())),
        ("rport", "UVS_RPORT", destination.map(|addr| addr.port().to_string())),
        ("check", "UVS_CHECK", event.check.clone()),
        ("from", "UVS_FROM", event.from.clone()),
        ("weight", "UVS_WEIGHT", event.weight.map(|weight| weight.to_string())),
        ("of", "UVS_OF", event.of.map(|of| of.to_string())),
        ("left", "UVS_LEFT", event.left.map(|left| left.to_string())),
        ("reset", "UVS_RESET", event.reset.map(|reset| reset.to_string())),
        ("vrrp", "UVS_VRRP", event.vrrp.clone()),
        ("vrrp_type", "UVS_VRRP_TYPE", event.vrrp_type.clone()),
        ("state", "UVS_STATE", event.state.clone()),
        ("priority", "UVS_PRIORITY", event.priority.map(|priority| priority.to_string())),
        ("by", "UVS_BY", event.by.clone()),
        ("reason", "UVS_REASON", event.reason.clone()),
    ]
}

/// Of a service such as `tcp 192.0.2.10:80` or `fwmark 7`, which has no VIP.
fn protocol_and_vip(service: &str) -> (Option<String>, Option<SocketAddr>) {
    match service.split_once(' ').map(|(protocol, rest)| (protocol, rest.parse::<SocketAddr>())) {
        Some((protocol, Ok(vip))) => (Some(protocol.to_owned()), Some(vip)),
        _ => (Some(service.to_owned()), None),
    }
}

/// Each placeholder once: what stands for one may have braces of its own.
fn expand(word: &str, said: &[(&'static str, &'static str, Option<String>)]) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let known = said.iter().find_map(|(name, _, value)| {
            let after = from.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((value.as_deref().unwrap_or_default(), after))
        });
        let (value, after) = known.unwrap_or_else(|| from.split_at(1));
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    text
}
