//! `uvs probe`: a check made now by the running director.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use uvs_control::Answer;
use uvs_control::probe::{Kind, Request, TIMEOUT_MAX_MS, Verdict};

use super::Which;

/// `uvs probe`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Examples:
  uvs probe ping 192.168.10.11                                straight to a realserver
  uvs probe tcp 10.0.0.100:80 --via 192.168.10.11:80          to the VIP, by way of that destination (NAT, DR or TUN),
                                                              as a client's packets go
  uvs probe http 10.0.0.100:80 --via 192.168.10.11:80 --send /health
  uvs probe https 192.168.10.11:443 --host www.example.org    the certificate has to be of that name
  uvs probe dns 192.168.10.11:53 --send www.example.org --record AAAA
  uvs probe check 192.168.10.11:80 --check web                what the configuration's [[check]] asks there, now

Exit status: 0 it works, 1 it does not or could not be probed.")]
pub struct Args {
    /// What is asked: a TCP connection, HTTP or HTTPS (a status of 200 to 299), gRPC's health service, a UDP datagram,
    /// a name server, an ICMP echo, HAProxy's agent, or a check of the configuration, of whatever type
    #[arg(value_enum)]
    pub kind: Asked,
    /// Whom, as ADDRESS:PORT; of a ping ADDRESS; of a check the destination as uvs status names it
    #[arg(value_name = "TARGET", value_parser = target)]
    pub target: SocketAddr,
    /// Go by way of this destination of the service, by its forwarding method; the target is the VIP then
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub via: Option<SocketAddr>,
    /// The service that it is a destination of, such as tcp/192.0.2.10:443 [default: the one at the target]
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// What is said first; of http and https the path, of grpc the name of a service, of dns the name that is asked for
    #[arg(long, value_name = "TEXT")]
    pub send: Option<String>,
    /// What the answer has to hold
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,
    /// Of http, https and grpc: the host that is named, and that a certificate has to be of [default: ADDRESS:PORT]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Of grpc: over TLS
    #[arg(long)]
    pub tls: bool,
    /// Over TLS: whatever the certificate is
    #[arg(long)]
    pub insecure: bool,
    /// Of dns: the type of records [default: A]
    #[arg(long, value_name = "TYPE")]
    pub record: Option<String>,
    /// Of check: which
    #[arg(long, value_name = "NAME", required_if_eq("kind", "check"))]
    pub check: Option<String>,
    /// When it is over, in milliseconds; of check at the timeout that it has
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MAX_MS))]
    pub timeout: u64,
    /// Print it as JSON, for programs (docs/control.md says what is in it)
    #[arg(long)]
    pub json: bool,
    /// Which director
    #[command(flatten)]
    pub which: Which,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Asked {
    /// A TCP connection.
    Tcp,
    /// HTTP.
    Http,
    /// HTTPS.
    Https,
    /// gRPC's health service.
    Grpc,
    /// A UDP datagram.
    Udp,
    /// A question to a name server.
    Dns,
    /// An ICMP echo.
    Ping,
    /// HAProxy's agent.
    Agent,
    /// A check of the configuration.
    Check,
}

fn target(text: &str) -> Result<SocketAddr, String> {
    let addr = text.parse().or_else(|_| text.parse::<IpAddr>().map(|addr| SocketAddr::new(addr, 0)));
    addr.map_err(|_| "it is no address, nor address and port (IPv6 in brackets: [::1]:80)".to_owned())
}

/// Asks and prints.
///
/// # Errors
/// No director answers, or it refuses.
pub fn run(arguments: &Args) -> anyhow::Result<ExitCode> {
    let Args { kind, target, timeout, .. } = *arguments;
    if !matches!(kind, Asked::Ping | Asked::Check) && target.port() == 0 {
        bail!("{} has no port\n  fix: write ADDRESS:PORT", target.ip());
    }
    if arguments.service.is_some() && arguments.via.is_none() && kind != Asked::Check {
        bail!("--service says nothing here\n  fix: add --via with a destination of it, or leave it out");
    }
    let kind = match kind {
        Asked::Tcp => Kind::Tcp,
        Asked::Http => Kind::Http,
        Asked::Https => Kind::Https,
        Asked::Grpc => Kind::Grpc,
        Asked::Udp => Kind::Udp,
        Asked::Dns => Kind::Dns,
        Asked::Ping => Kind::Ping,
        Asked::Agent => Kind::Agent,
        Asked::Check => Kind::Check,
    };
    let Args { via, service, send, expect, host, tls, insecure, record, check, json, which, .. } =
        arguments.clone();
    let request = Request {
        via,
        service,
        send,
        expect,
        host,
        tls,
        insecure,
        record,
        check,
        ..Request::new(kind, target, timeout)
    };
    let answer = match which.connect()?.ask(&uvs_control::Request::Probe(request))? {
        Answer::Probe(answer) => answer,
        other => bail!("the director answered something else: {other:?}"),
    };
    let text = if json {
        serde_json::to_string_pretty(&answer)?
    } else {
        let word = match answer.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Unmade => "not probed",
        };
        let micros = answer.took_us;
        format!("{word} after {}.{:03} ms: {}", micros / 1000, micros % 1000, answer.text)
    };
    writeln!(std::io::stdout().lock(), "{text}").context("standard output cannot be written")?;
    Ok(if answer.verdict == Verdict::Pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
