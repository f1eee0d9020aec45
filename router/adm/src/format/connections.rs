//! `ipvsadm -Lnc`.

use std::fmt::Write as _;

use uvs_director::view::{ConnectionProtocol, ConnectionView};

use super::{connection_protocol_name, endpoint};

/// The connection list as `ipvsadm -Lnc` prints it, in the order given.
pub fn connections(connections: &[ConnectionView]) -> String {
    connections_as(connections, true, false)
}

/// The connection list: ports by number (`-n`) or by name, and with the heading of `--persistent-conn`.
///
/// The time left is rounded down to whole seconds, minutes are not folded into hours.
pub fn connections_as(connections: &[ConnectionView], numeric: bool, persistent_conn: bool) -> String {
    let mut text = connections_heading(persistent_conn);
    push_connections(&mut text, connections, numeric);
    text
}

/// The first lines of a connection list; [`push_connections`] writes the others.
pub fn connections_heading(persistent_conn: bool) -> String {
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination");
    text.push_str(if persistent_conn { "        pe name          pe_data\n" } else { "\n" });
    text
}

/// Writes a line of the connection list for each connection.
pub fn push_connections(text: &mut String, connections: &[ConnectionView], numeric: bool) {
    for connection in connections {
        let protocol = match connection.protocol {
            ConnectionProtocol::Transport(protocol) => Some(protocol),
            ConnectionProtocol::Ip => None,
        };
        let seconds = connection.expires_in.as_secs();
        let expire = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        let name = |addr| endpoint(addr, protocol, numeric);
        writeln!(
            text,
            "{:<3} {expire:<6} {:<11} {:<18} {:<18} {}",
            connection_protocol_name(connection.protocol),
            connection.state,
            name(connection.client),
            name(connection.virtual_addr),
            name(connection.destination),
        )
        .expect("a String takes everything");
    }
}
