//! The probes themselves, over a [`Network`]. Each has one deadline for all that it does, and ends there with what it
//! was doing.

mod agent;
mod exec;
mod file;
mod http;
mod pattern;
mod tcp;
mod udp;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, timeout_at};

use crate::net::{Network, Remote};
use crate::outcome::{Outcome, Says, Verdict};
use crate::spec::{Kind, ProbeSpec};

pub use pattern::{PatternError, check_regex};

use self::pattern::Patterns;

/// So much of what a server says is read, in bytes.
pub const READ_MAX: usize = 64 * 1024;

/// What ends a probe before it has succeeded.
type Ended = Result<Passed, Verdict>;

/// What a success found.
struct Passed {
    text: String,
    says: Says,
}

impl Passed {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), says: Says::default() }
    }
}

/// What a probe is doing, for whoever wants to know where it stopped.
#[derive(Debug)]
struct Stage(Mutex<&'static str>);

impl Stage {
    fn is(&self, doing: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    fn get(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes probes.
pub struct Prober {
    network: Arc<dyn Network>,
    patterns: Patterns,
}

impl Prober {
    /// Makes them over that network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, patterns: Patterns::default() }
    }

    /// Makes one probe. It is over at its timeout at the latest.
    pub async fn probe(&self, spec: &ProbeSpec) -> Outcome {
        let began = Instant::now();
        let stage = Stage(Mutex::new("starting"));
        let timeout = spec.schedule.timeout;
        let ended = match timeout_at(began + timeout, self.make(&spec.kind, spec, &stage)).await {
            Ok(ended) => ended,
            // Nobody said that the port is unreachable for as long as it was to be listened for.
            Err(_) if stage.get() == udp::LISTENING => {
                Ok(Passed::plain("nothing says that it is unreachable"))
            }
            Err(_) => Err(Verdict::Fail(format!("no end within {timeout:?} while {}", stage.get()))),
        };
        let took = began.elapsed();
        match ended {
            Ok(Passed { text, says }) => Outcome { verdict: Verdict::Pass(text), took, says },
            Err(verdict) => Outcome::plain(verdict, took),
        }
    }

    async fn make(&self, kind: &Kind, spec: &ProbeSpec, stage: &Stage) -> Ended {
        let (network, target) = (&*self.network, &spec.target);
        match kind {
            Kind::Tcp(talk) => tcp::probe(network, target, talk, &self.patterns, stage).await,
            Kind::Udp(talk) => udp::probe(network, target, talk, &self.patterns, stage).await,
            Kind::Http(http) => http::probe(network, target, http, &self.patterns, stage).await,
            Kind::Ping(echo) => {
                stage.is("waiting for the reply");
                network.ping(target, *echo).await?;
                Ok(Passed::plain("replied"))
            }
            Kind::Exec(exec) => exec::probe(exec, stage).await,
            Kind::Agent { send } => agent::probe(network, target, send, stage).await,
            Kind::File(file) => file::probe(file, stage).await,
            Kind::Passive(passive) => Box::pin(self.make(&passive.confirm, spec, stage)).await,
        }
    }
}

/// What an error on a connection says.
fn failed(error: &io::Error) -> Verdict {
    Verdict::Fail(Remote::from(error).to_string())
}

/// What a failure says, with what was being done.
fn fail(text: impl Into<String>) -> Verdict {
    Verdict::Fail(text.into())
}
