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

Exit status: 0 it works, 1 it does not or could not be probed.")]
pub struct Args {
    /// What is asked: a TCP connection, HTTP (a status of 200 to 299), a UDP datagram, an ICMP echo
    #[arg(value_enum)]
    pub kind: Asked,
    /// Whom, as ADDRESS:PORT; of a ping ADDRESS
    #[arg(value_name = "TARGET", value_parser = target)]
    pub target: SocketAddr,
    /// Go by way of this destination of the service, by its forwarding method; the target is the VIP then
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub via: Option<SocketAddr>,
    /// The service that it is a destination of, such as tcp/192.0.2.10:443 [default: the one at the target]
    #[arg(long, value_name = "SERVICE", requires = "via")]
    pub service: Option<String>,
    /// What is said first; of http the path
    #[arg(long, value_name = "TEXT")]
    pub send: Option<String>,
    /// What the answer has to hold
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,
    /// When it is over, in milliseconds
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
    /// A UDP datagram.
    Udp,
    /// An ICMP echo.
    Ping,
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
    let Args { kind, target, via, service, send, expect, timeout, json, which } = arguments.clone();
    if kind != Asked::Ping && target.port() == 0 {
        bail!("{} has no port\n  fix: write ADDRESS:PORT", target.ip());
    }
    let kind = match kind {
        Asked::Tcp => Kind::Tcp,
        Asked::Http => Kind::Http,
        Asked::Udp => Kind::Udp,
        Asked::Ping => Kind::Ping,
    };
    let request = Request {
        kind,
        address: target.ip(),
        port: target.port(),
        via,
        service,
        timeout_ms: timeout,
        send,
        expect,
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
