//! `connections`: looks for entries of the table of connections.

use uvs_control::Error;
use uvs_control::connections::{Answer, Connection, Request};
use uvs_director::view::{ConnectionProtocol, ConnectionView};

use super::ends;
use crate::pages::Live;
use crate::words;

/// Without a word about it.
const LIMIT: u32 = 100;
/// The most of an answer.
const LIMIT_MAX: u32 = 1000;

/// Looks at all of them, in slices beside the traffic, and keeps as many as are wanted.
pub(super) fn answer(request: &Request, live: &Live) -> Result<Answer, Error> {
    let Request { client, service, destination, state, limit } = request;
    let filter = ends::filter(client.as_deref(), ("service", service.as_deref()), destination.as_deref())?;
    let wanted = |view: &ConnectionView| {
        filter.matches(view.client, view.virtual_addr, view.destination)
            && state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(view.state))
    };
    let limit = limit.unwrap_or(LIMIT).min(LIMIT_MAX) as usize;
    let mut answer = Answer::default();
    live.director.connections_in_parts(live.clock.now(), |views| {
        for view in views.iter().filter(|view| wanted(view)) {
            answer.found += 1;
            if answer.connections.len() < limit {
                answer.connections.push(connection(view));
            }
        }
        true
    });
    Ok(answer)
}

fn connection(view: &ConnectionView) -> Connection {
    Connection {
        protocol: match view.protocol {
            ConnectionProtocol::Transport(protocol) => protocol.to_string(),
            ConnectionProtocol::Ip => "ip".to_owned(),
        },
        client: view.client.to_string(),
        service: view.virtual_addr.to_string(),
        destination: view.destination.to_string(),
        forwarding: words::method(view.forwarding).to_owned(),
        state: view.state.to_owned(),
        expires_s: view.expires_in.as_secs_f64(),
        template: view.template,
        active: view.active,
    }
}
