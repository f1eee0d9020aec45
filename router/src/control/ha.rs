//! `ha`: virtual routers, and what people want of them.

use uvs_control::ha::{Answer, Request};
use uvs_control::{Error, ErrorKind};
use uvs_ha::vrrp::{Command, CommandError};

use super::peer::Peer;
use crate::ha::Ha;

/// Looks, or does it.
pub(super) fn answer(request: &Request, ha: &Ha, peer: &Peer) -> Result<Answer, Error> {
    let (name, command, word) = match request {
        Request::Status {} => return Ok(ha.look()),
        Request::Failover(whose) => (&whose.name, Command::Failover, "failover"),
        Request::Maint(maint) if maint.on => (&maint.name, Command::Maintenance(true), "maintenance"),
        Request::Maint(maint) => (&maint.name, Command::Maintenance(false), "maintenance is over"),
    };
    tracing::info!(by = %peer, vrrp = name.as_deref().unwrap_or("all"), "{word}");
    ha.command(name.as_deref(), command).map_err(|error| refuse(&ha.look(), &error))?;
    Ok(ha.look())
}

fn refuse(now: &Answer, error: &CommandError) -> Error {
    let groups = &now.groups;
    let names: Vec<&str> = groups
        .iter()
        .flat_map(|group| group.routers.iter().map(|it| &*it.name).chain([&*group.name]))
        .collect();
    let message = match error {
        _ if groups.is_empty() => {
            "this director has no virtual routers; add a [[vrrp]] to its configuration".to_owned()
        }
        CommandError::Unknown(name) => match uvs_config::nearest(name, names.iter().copied()) {
            Some(near) => format!("{error}; did you mean {near:?}?"),
            None => {
                let groups: Vec<&str> = groups.iter().map(|group| &*group.name).collect();
                format!("{error}; there is {}", groups.join(", "))
            }
        },
        CommandError::NotActive { .. } => error.to_string(),
    };
    Error::new(ErrorKind::Refused, message)
}
