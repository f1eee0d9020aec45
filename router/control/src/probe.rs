//! `probe`: a check made now, from the director's own address, straight or the way that clients' packets take.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The longest that a probe may take, in milliseconds: less than a client waits for its answer.
pub const TIMEOUT_MAX_MS: u64 = 30_000;

/// What is to be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked.
    pub kind: Kind,
    /// Whom: with `via`, the VIP.
    pub address: IpAddr,
    /// The port there; of a ping 0.
    #[serde(default)]
    pub port: u16,
    /// A destination of the service: the probe goes by its forwarding method to the VIP, as a client's packets do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<SocketAddr>,
    /// The service that the destination is of, as `status` names it; left out: the one with that address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// When it is over, in milliseconds, 1 to 30000.
    pub timeout_ms: u64,
    /// What is said first, over TCP and UDP and to an agent; the path, over HTTP; the service, of gRPC; the name that a
    /// name server is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// What the answer has to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Of `http`, `https` and `grpc`: the host that is named, over TLS by SNI, too, and that the certificate has to be
    /// of; left out: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of `grpc`: over TLS.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tls: bool,
    /// Over TLS: whatever the certificate is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure: bool,
    /// Of `dns`: the type of records, such as `AAAA`; left out: `A`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Of `check`: the name of the `[[check]]` of that destination (`address` and `port`, and `service` where several
    /// have it) that is made now, as the configuration says; nothing else counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde wants")]
fn is_false(switch: &bool) -> bool {
    !switch
}

impl Request {
    /// That, within so many milliseconds, and nothing else.
    pub fn new(kind: Kind, target: SocketAddr, timeout_ms: u64) -> Self {
        Self {
            kind,
            address: target.ip(),
            port: target.port(),
            via: None,
            service: None,
            timeout_ms,
            send: None,
            expect: None,
            host: None,
            tls: false,
            insecure: false,
            record: None,
            check: None,
        }
    }
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A connection.
    Tcp,
    /// A GET, answered by a status of 200 to 299.
    Http,
    /// The same over TLS.
    Https,
    /// The health service of gRPC, which says that it serves.
    Grpc,
    /// A datagram.
    Udp,
    /// A question to a name server.
    Dns,
    /// An ICMP echo.
    Ping,
    /// HAProxy's agent: its line.
    Agent,
    /// A check of the configuration, of whatever type.
    Check,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// `pass`, `fail`, or `unmade`: the probe could not be made, which says nothing of the server.
    pub verdict: Verdict,
    /// Why, or what was found.
    pub text: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// See [`Answer::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Pass,
    /// It does not.
    Fail,
    /// There was no probe.
    Unmade,
}
