//! What a demo found out, for people and as JSON.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;
use uvs_lab::server::Answer;
use uvs_lab::topology::{DIP, Method, SERVICE_PORT, VIP};

use super::keep::Guide;

/// Lines of a connection list that are shown.
const CONNECTIONS_SHOWN: usize = 26;
/// Errors of one kind that are shown.
const ERRORS_KEPT: usize = 5;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether every answer was right.
    pub(super) ok: bool,
    methods: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Guide>,
}

/// What became of one method.
#[derive(Debug, Serialize)]
#[serde(into = "OutcomeDocument")]
#[derive(Clone)]
pub(super) struct Outcome {
    method: Method,
    tcp: Tally,
    udp: Tally,
    /// What is wrong beside single answers.
    pub(super) problems: Vec<String>,
    /// One request's way.
    pub(super) picture: String,
    /// The director's connections.
    pub(super) connections: String,
}

/// [`Outcome`] as it is printed in JSON.
#[derive(Serialize)]
struct OutcomeDocument {
    method: &'static str,
    ok: bool,
    tcp: Tally,
    udp: Tally,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl From<Outcome> for OutcomeDocument {
    fn from(outcome: Outcome) -> Self {
        let ok = outcome.ok();
        let Outcome { method, tcp, udp, problems, .. } = outcome;
        Self { method: method.name(), ok, tcp, udp, problems }
    }
}

/// Requests over one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    requests: u32,
    answered: u32,
    by: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    /// The client's addresses that were used.
    #[serde(skip)]
    clients: HashSet<SocketAddr>,
}

impl Tally {
    /// Makes requests 1, 2... and counts who answers. After `failures_max` failures the rest count as
    /// unanswered.
    pub(super) fn gather(
        requests: u32,
        failures_max: usize,
        mut ask: impl FnMut(u32) -> Result<Answer>,
    ) -> Self {
        let mut tally = Self { requests, ..Self::default() };
        let mut failures = 0;
        for number in 1..=requests {
            match ask(number) {
                Ok(answer) => {
                    tally.answered += 1;
                    *tally.by.entry(answer.server).or_default() += 1;
                    tally.clients.insert(answer.client);
                }
                Err(error) => {
                    tally.error(format!("request {number}: {error:#}"));
                    failures += 1;
                }
            }
            if failures == failures_max && number < requests {
                tally.error(format!("the other {} requests were not made", requests - number));
                break;
            }
        }
        tally
    }

    /// Notes what is wrong.
    pub(super) fn error(&mut self, text: String) {
        if self.errors.len() < ERRORS_KEPT {
            self.errors.push(text);
        }
    }

    fn ok(&self) -> bool {
        self.answered == self.requests && self.errors.is_empty()
    }

    /// Whether every request was a connection of its own. A client that takes a port again, while the director
    /// still remembers its last connection, gets the same real server: nothing is scheduled then.
    fn all_scheduled(&self) -> bool {
        u32::try_from(self.clients.len()) == Ok(self.answered)
    }

    fn count(&self, server: &str) -> u32 {
        self.by.get(server).copied().unwrap_or_default()
    }
}

impl Outcome {
    pub(super) fn new(method: Method, tcp: Tally, udp: Tally) -> Self {
        let (problems, picture, connections) = Default::default();
        Self { method, tcp, udp, problems, picture, connections }
    }

    /// The method could not be shown at all.
    pub(super) fn failed(method: Method, error: &anyhow::Error) -> Self {
        let mut outcome = Self::new(method, Tally::default(), Tally::default());
        outcome.problems.push(format!("{error:#}"));
        outcome
    }

    /// Whether every answer was right and nothing else was wrong.
    pub(super) fn ok(&self) -> bool {
        self.problems.is_empty() && self.tcp.ok() && self.udp.ok() && self.tcp.requests > 0
    }

    /// A server has to have answered what clients got from it, and nothing else.
    pub(super) fn compare_with_server(&mut self, name: &str, (tcp, udp): (u64, u64)) {
        let got = (u64::from(self.tcp.count(name)), u64::from(self.udp.count(name)));
        if got != (tcp, udp) {
            self.problems.push(format!(
                "{name} answered {tcp} TCP and {udp} UDP requests, but the client got {} and {} answers from it",
                got.0, got.1
            ));
        }
    }

    /// `servers` real servers have to have got equal shares, as equal as the number of requests allows.
    pub(super) fn expect_equal_shares(&mut self, servers: usize) {
        let expected = servers;
        let servers = u32::try_from(servers).unwrap_or(u32::MAX).max(1);
        for (protocol, tally) in [("TCP", &self.tcp), ("UDP", &self.udp)] {
            if !tally.all_scheduled() {
                continue;
            }
            let (low, high) = (tally.requests / servers, tally.requests.div_ceil(servers));
            let left_out = low > 0 && tally.by.len() < expected;
            if left_out || tally.by.values().any(|count| !(low..=high).contains(count)) {
                self.problems.push(format!(
                    "the scheduler has to give each of {servers} real servers {low} to {high} of {} {protocol} \
                     connections, and gave {:?}",
                    tally.requests, tally.by
                ));
            }
        }
    }
}

impl Report {
    pub(super) fn new(methods: Vec<Outcome>, kept: Option<Guide>) -> Self {
        Self { ok: methods.iter().all(Outcome::ok), methods, kept }
    }
}

/// What is about to be shown.
pub(super) fn opening(args: &super::Args, user_namespace: bool) -> String {
    format!(
        "uvs demo: {n} TCP and {n} UDP requests from 10.0.0.2 to the virtual service {VIP}:{SERVICE_PORT}, placed by\n\
         scheduler {}, in network namespaces{}. The director is `uvs run` on TAP devices; its kernel has no\n\
         address and forwards nothing. Servers and clients are on the kernel's own TCP/IP.\n",
        args.scheduler,
        if user_namespace { " of a user namespace (no root)" } else { "" },
        n = args.requests,
    )
}

/// What a method does, as one would tell it.
fn introduction(method: Method) -> String {
    match method {
        Method::Nat => format!(
            "NAT (ipvsadm -m): the director rewrites addresses and ports, both ways\n\
             \n\
             \x20 client 10.0.0.2 --+-- c0 {DIP}  director  r0 192.168.10.1 --+-- rs1 192.168.10.11:8080\n\
             \x20                       VIP {VIP}                           +-- rs2 192.168.10.12:8080\n\
             \x20                                                                +-- rs3 192.168.10.13:8080\n\
             \x20                                                     (their gateway is 192.168.10.1)\n"
        ),
        Method::Direct => format!(
            "DR (ipvsadm -g): the director changes MAC addresses only; real servers hold the VIP and answer directly\n\
             \n\
             \x20 client 10.0.0.2 --+-- director c0 {DIP}, VIP {VIP}\n\
             \x20                   +-- rs1 10.0.0.11, VIP on lo (arp_ignore=1, arp_announce=2)\n\
             \x20                   +-- rs2 10.0.0.12, VIP on lo\n\
             \x20                   +-- rs3 10.0.0.13, VIP on lo\n"
        ),
        Method::Tunnel => format!(
            "TUN (ipvsadm -i): the director puts packets inside packets; real servers may be anywhere, and answer directly\n\
             \n\
             \x20 client 10.0.0.2 --+-- director c0 {DIP}, VIP {VIP}\n\
             \x20                   +-- 10.0.0.254  router  10.1.0.254 --+-- rs1 10.1.0.11, VIP on lo, uvs realserver\n\
             \x20                                        |               +-- rs3 10.1.0.13, VIP on lo, uvs realserver\n\
             \x20                                        10.2.0.254 ----- rs2 10.2.0.12, VIP on lo, uvs realserver\n"
        ),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n{}", "=".repeat(100), introduction(self.method))?;
        if self.tcp.requests > 0 {
            writeln!(f, "Who answered          TCP    UDP")?;
            let mut names: Vec<_> = self.tcp.by.keys().chain(self.udp.by.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                writeln!(f, "  {name:<16}{:>7}{:>7}", self.tcp.count(name), self.udp.count(name))?;
            }
            writeln!(f, "  {:<16}{:>7}{:>7}", "of requests", self.tcp.requests, self.udp.requests)?;
            write!(f, "\n{}", self.picture)?;
            writeln!(f, "\nThe director's connections, as `ipvsadm -Lnc` prints them")?;
            let lines: Vec<_> = self.connections.lines().collect();
            for line in lines.iter().take(CONNECTIONS_SHOWN) {
                writeln!(f, "  {line}")?;
            }
            if lines.len() > CONNECTIONS_SHOWN {
                writeln!(f, "  ... and {} more", lines.len() - CONNECTIONS_SHOWN)?;
            }
            writeln!(f)?;
        }
        for (protocol, tally) in [("TCP", &self.tcp), ("UDP", &self.udp)] {
            for error in &tally.errors {
                writeln!(f, "error: {protocol} {error}")?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "error: {problem}")?;
        }
        if self.ok() {
            let total = self.tcp.requests + self.udp.requests;
            writeln!(f, "{}: ok, {total} requests, each answered once and with the right bytes", self.method)
        } else {
            writeln!(f, "{}: failed", self.method)
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(guide) = &self.kept {
            write!(f, "\n{guide}")?;
        }
        let mut verdicts = String::new();
        for (number, outcome) in self.methods.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let verdict = if outcome.ok() { "ok" } else { "failed" };
            write!(verdicts, "{separator}{} {verdict}", outcome.method)?;
        }
        writeln!(f, "\nuvs demo: {verdicts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u32) -> SocketAddr {
        ([10, 0, 0, 2], u16::try_from(port).unwrap()).into()
    }

    fn tally(shares: &[u32]) -> Tally {
        let by = shares.iter().enumerate().map(|(n, &count)| (format!("rs{}", n + 1), count)).collect();
        let sum = shares.iter().sum();
        let clients = (0..sum).map(|n| client(4000 + n)).collect();
        Tally { requests: sum, answered: sum, by, errors: Vec::new(), clients }
    }

    #[test]
    fn json_is_as_promised() {
        let outcome = Outcome::new(Method::Nat, tally(&[4, 4, 4]), tally(&[4, 4, 4]));
        let report = Report::new(vec![outcome], None);
        let counts = r#"{"requests":12,"answered":12,"by":{"rs1":4,"rs2":4,"rs3":4}}"#;
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            format!(
                r#"{{"ok":true,"methods":[{{"method":"nat","ok":true,"tcp":{counts},"udp":{counts}}}]}}"#
            )
        );
    }

    #[test]
    fn one_wrong_answer_fails_all() {
        let mut wrong = tally(&[4, 4, 4]);
        wrong.error("request 3: no answer".to_owned());
        let mut unanswered = tally(&[4, 4, 4]);
        unanswered.answered = 11;
        for bad in [wrong, unanswered] {
            let good = Outcome::new(Method::Nat, tally(&[4, 4, 4]), tally(&[4, 4, 4]));
            let report = Report::new(vec![good, Outcome::new(Method::Direct, tally(&[4, 4, 4]), bad)], None);
            assert!(!report.ok);
            assert!(report.to_string().ends_with("uvs demo: nat ok, dr failed\n"), "{report}");
        }
        let failed = Outcome::failed(Method::Tunnel, &anyhow::anyhow!("no tun"));
        assert!(!failed.ok() && failed.to_string().contains("error: no tun"));
    }

    #[test]
    fn shares_are_as_equal_as_the_number_allows() {
        let cases: [(&[u32], bool); 6] = [
            (&[4, 4, 4], true),
            (&[5, 4, 4], true),
            (&[5, 5, 4], true),
            (&[6, 4, 4], false),
            (&[7, 7], false),
            (&[1], true),
        ];
        for (shares, fair) in cases {
            let mut outcome = Outcome::new(Method::Nat, tally(shares), tally(shares));
            outcome.expect_equal_shares(3);
            assert_eq!(outcome.ok(), fair, "{shares:?}: {:?}", outcome.problems);
        }
    }

    #[test]
    fn a_request_that_reached_a_second_server_is_noticed() {
        let mut outcome = Outcome::new(Method::Nat, tally(&[2]), tally(&[2]));
        outcome.compare_with_server("rs1", (2, 2));
        assert!(outcome.ok());
        outcome.compare_with_server("rs2", (0, 1));
        assert!(!outcome.ok());
    }

    #[test]
    fn after_some_failures_the_rest_is_not_tried() {
        let mut asked = 0;
        let tally = Tally::gather(100, 3, |number| {
            asked += 1;
            if number == 1 {
                Ok(Answer { server: "rs1".to_owned(), client: client(1) })
            } else {
                Err(anyhow::anyhow!("silence"))
            }
        });
        assert_eq!((asked, tally.answered, tally.ok()), (4, 1, false));
        assert!(tally.errors.last().unwrap().contains("96 requests were not made"), "{:?}", tally.errors);
    }
}
