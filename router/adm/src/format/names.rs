//! Names of ports and flags.

use uvs_director::spec::Protocol;

/// Port, name, and whether it is assigned to TCP and to UDP: the common part of IANA's registry.
///
/// ipvsadm asks the host's `/etc/services`; this crate reads no files, so a listing is the same on every host.
const PORTS: &[(u16, &str, bool, bool)] = &[
    (20, "ftp-data", true, false),
    (21, "ftp", true, false),
    (22, "ssh", true, false),
    (23, "telnet", true, false),
    (25, "smtp", true, false),
    (53, "domain", true, true),
    (67, "bootps", false, true),
    (69, "tftp", false, true),
    (80, "http", true, false),
    (88, "kerberos", true, true),
    (110, "pop3", true, false),
    (111, "sunrpc", true, true),
    (119, "nntp", true, false),
    (123, "ntp", false, true),
    (143, "imap2", true, false),
    (161, "snmp", true, true),
    (162, "snmp-trap", true, true),
    (179, "bgp", true, false),
    (389, "ldap", true, true),
    (443, "https", true, true),
    (465, "submissions", true, false),
    (514, "syslog", false, true),
    (587, "submission", true, false),
    (636, "ldaps", true, true),
    (853, "domain-s", true, true),
    (873, "rsync", true, false),
    (993, "imaps", true, false),
    (995, "pop3s", true, false),
    (1194, "openvpn", true, true),
    (1812, "radius", true, true),
    (1813, "radius-acct", true, true),
    (2049, "nfs", true, true),
    (3306, "mysql", true, false),
    (5060, "sip", true, true),
    (5061, "sip-tls", true, true),
    (5432, "postgresql", true, false),
    (5672, "amqp", true, false),
    (8080, "http-alt", true, true),
];

fn assigned(entry: &(u16, &str, bool, bool), protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => entry.2,
        Protocol::Udp => entry.3,
        Protocol::Sctp => false,
    }
}

/// The port's name, if it has a common one.
pub(super) fn port_name(port: u16, protocol: Protocol) -> Option<&'static str> {
    PORTS.iter().find(|entry| entry.0 == port && assigned(entry, protocol)).map(|entry| entry.1)
}

/// The port with that common name.
pub(crate) fn port_number(name: &str, protocol: Protocol) -> Option<u16> {
    PORTS.iter().find(|entry| entry.1 == name && assigned(entry, protocol)).map(|entry| entry.0)
}

/// The names of a scheduler's three flags, in the order in which ipvsadm prints them.
pub(crate) fn scheduler_flags(scheduler: &str) -> [&'static str; 3] {
    match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    }
}
