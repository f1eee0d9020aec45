//! One forwarding method on its stage: the network, the servers, the director, the requests.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use uvs_lab::Host;
use uvs_lab::capture::{Capture, Heard};
use uvs_lab::director::{Decapsulator, Director};
use uvs_lab::server::{Server, UdpRequest, ask_tcp, ask_udp};
use uvs_lab::topology::{Method, Plan, Topology};

use super::picture::{self, Stations};
use super::report::{Outcome, Tally};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// After this many requests without an answer the rest are not made.
const FAILURES_MAX: usize = 3;
/// How long an answer that should not be there may take.
const GRACE: Duration = Duration::from_millis(50);
/// The port of real servers behind NAT: another than the service's, so that it is seen to be mapped.
const NAT_PORT: u16 = 8080;

/// A network with servers and a director at work. The fields go in this order.
#[derive(Debug)]
pub(super) struct Stage {
    director: Director,
    decapsulators: Vec<Decapsulator>,
    servers: Vec<Server>,
    pub(super) topology: Topology,
}

impl Stage {
    /// Builds the network and starts everything in it.
    pub(super) fn build(method: Method, scheduler: &str, uvs: &Path) -> Result<Self> {
        let mut plan = Plan { scheduler: scheduler.to_owned(), ..Plan::default() };
        if method == Method::Nat {
            plan.real_port = NAT_PORT;
        }
        let topology = Topology::build(method, &plan).context("cannot build the network")?;
        let servers = topology
            .real_servers
            .iter()
            .map(|server| Server::start(&server.host, server.listen))
            .collect::<Result<_>>()?;
        let decapsulators = match method {
            Method::Tunnel => topology
                .real_servers
                .iter()
                // Where the demo can hear what it does.
                .map(|server| Decapsulator::start_with(server, uvs, &["--decapsulate", "userspace"]))
                .collect::<Result<_>>()?,
            Method::Nat | Method::Direct => Vec::new(),
        };
        let director = Director::start(&topology.director, uvs, &topology.config)
            .context("cannot start the director")?;
        Ok(Self { director, decapsulators, servers, topology })
    }

    /// Makes the requests and looks at what came of them. `scheduler` is its name as the user gave it.
    pub(super) fn play(&mut self, requests: u32, scheduler: &str) -> Outcome {
        let client = &self.topology.clients[0].host;
        let service = self.topology.service;
        let captures: Result<Vec<_>> = self.topology.hosts().map(Capture::start).collect();
        let mut first = None;
        let tcp = client.run(|| {
            Tally::gather(requests, FAILURES_MAX, |number| {
                let answer = ask_tcp(service, &format!("/{number}"), PATIENCE)?;
                first.get_or_insert(answer.client);
                Ok(answer)
            })
        });
        // Listening stops here: the picture shows the first connection.
        let heard = captures.and_then(listen_to);
        let udp = client.run(|| ask_all_udp(service, requests));

        let mut outcome = match (tcp, udp) {
            (Ok(tcp), Ok(udp)) => Outcome::new(self.topology.method, tcp, udp),
            (Err(error), _) | (_, Err(error)) => return Outcome::failed(self.topology.method, &error),
        };
        for server in &self.servers {
            outcome.compare_with_server(server.name(), server.served());
        }
        if shares_equally(scheduler) {
            outcome.expect_equal_shares(self.servers.len());
        }
        outcome.picture = match (heard, first) {
            (Ok(heard), Some(client)) => picture::draw(&heard, client, &self.stations())
                .unwrap_or_else(|why| format!("(no picture: {why})\n")),
            (Err(error), _) => format!("(no picture: {error:#})\n"),
            (_, None) => "(no picture: no request was answered)\n".to_owned(),
        };
        match self.director.connections() {
            Ok(list) => outcome.connections = list,
            Err(error) => outcome.problems.push(format!("{error:#}")),
        }
        for decapsulator in &mut self.decapsulators {
            if let Err(error) = decapsulator.process().check() {
                outcome.problems.push(format!("{error:#}"));
            }
        }
        if let Err(error) = self.director.process().check() {
            outcome.problems.push(format!("{error:#}"));
        } else if !outcome.ok() {
            outcome.problems.push(format!("the director's log:\n{}", self.director.log()));
        }
        outcome
    }

    /// Who has which MAC address.
    fn stations(&self) -> Stations {
        let mut stations = Stations::default();
        for host in self.topology.hosts() {
            for link in host.net().links().unwrap_or_default() {
                if let Some(mac) = link.mac {
                    stations.add(mac, host.name());
                }
            }
        }
        // The addresses of the director's TAPs are its own, not those of its kernel's end.
        for segment in [1, 2] {
            stations.add(uvs_lab::topology::mac(segment, 1), self.topology.director.name());
        }
        stations
    }

    /// All hosts with what they are for, for a person to enter.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.topology.hosts()
    }
}

fn listen_to(captures: Vec<Capture>) -> Result<Vec<Heard>> {
    let mut heard = Vec::new();
    for capture in captures {
        heard.extend(capture.take()?);
    }
    heard.sort_by_key(|frame| frame.at);
    Ok(heard)
}

/// Makes UDP requests one after the other, and keeps their sockets to hear an answer too many.
fn ask_all_udp(service: SocketAddr, requests: u32) -> Tally {
    let mut answered: Vec<UdpRequest> = Vec::new();
    let mut tally = Tally::gather(requests, FAILURES_MAX, |number| {
        let request = ask_udp(service, &number.to_string())?;
        let answer = request.answer(PATIENCE)?;
        answered.push(request);
        Ok(answer)
    });
    thread::sleep(GRACE);
    for request in &answered {
        if let Err(error) = request.check_no_more() {
            tally.error(format!("{error:#}"));
        }
    }
    tally
}

/// Whether a scheduler gives destinations of equal weight equal numbers of connections, whatever their load.
fn shares_equally(scheduler: &str) -> bool {
    ["rr", "wrr"].contains(&scheduler)
}
