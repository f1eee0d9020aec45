//! The probes themselves, over a [`Network`]. Each has one deadline for all that it does, and ends there with what it
//! was doing.

mod agent;
mod certificate;
mod dns;
mod exec;
mod file;
mod grpc;
mod http;
mod pattern;
mod tcp;
mod tls;
mod trust;
mod udp;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, timeout_at};

use crate::net::{Network, Remote};
use crate::outcome::{Outcome, Says, Text, Verdict};
use crate::spec::{Kind, ProbeSpec};

pub use certificate::date;
pub use dns::{check_name, record_type, response_code};
pub use pattern::{PatternError, check_regex};

use self::pattern::Patterns;
use self::tls::Handshakes;

/// So much of what a server says is read, in bytes.
pub const READ_MAX: usize = 64 * 1024;

/// What ends a probe before it has succeeded.
type Ended = Result<Passed, Verdict>;

/// What a success found.
struct Passed {
    text: Text,
    says: Says,
}

impl Passed {
    fn plain(text: impl Into<Text>) -> Self {
        Self { text: text.into(), says: Says::default() }
    }
}

/// How far a probe has come, for whoever wants to know where it stopped.
#[derive(Debug)]
struct Stage(Mutex<Progress>);

#[derive(Clone, Copy, Debug)]
struct Progress {
    doing: &'static str,
    /// When the certificate expires that the server has shown, in seconds since 1970.
    expires: Option<i64>,
}

impl Stage {
    fn new(doing: &'static str) -> Self {
        Self(Mutex::new(Progress { doing, expires: None }))
    }

    fn is(&self, doing: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).doing = doing;
    }

    fn expires(&self, expires: Option<i64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).expires = expires;
    }

    fn get(&self) -> Progress {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes probes.
pub struct Prober {
    network: Arc<dyn Network>,
    patterns: Patterns,
    handshakes: Handshakes,
}

impl Prober {
    /// Makes them over that network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self { network, patterns: Patterns::default(), handshakes: Handshakes::default() }
    }

    /// Makes one probe. It is over at its timeout at the latest.
    pub async fn probe(&self, spec: &ProbeSpec) -> Outcome {
        let began = Instant::now();
        let stage = Arc::new(Stage::new("starting"));
        let timeout = spec.schedule.timeout;
        let ended = match timeout_at(began + timeout, self.make(&spec.kind, spec, &stage)).await {
            Ok(ended) => ended,
            // Nobody said that the port is unreachable for as long as it was to be listened for.
            Err(_) if stage.get().doing == udp::LISTENING => {
                Ok(Passed::plain("nothing says that it is unreachable"))
            }
            Err(_) => {
                let text = format!("no end within {timeout:?} while {}", stage.get().doing);
                // A disk that does not answer says nothing of the server.
                Err(if stage.get().doing == tls::READING { unmade(text) } else { fail(text) })
            }
        };
        let took = began.elapsed();
        let mut outcome = match ended {
            Ok(Passed { text, says }) => Outcome { verdict: Verdict::Pass(text), took, says },
            Err(verdict) => Outcome::plain(verdict, took),
        };
        if let Some(expires) = stage.get().expires {
            certified(&mut outcome, expires, &spec.kind);
        }
        outcome
    }

    /// What keeps much while it waits is on the heap: a future is as large as its largest way, and most go the first.
    async fn make(&self, kind: &Kind, spec: &ProbeSpec, stage: &Arc<Stage>) -> Ended {
        let (network, target) = (&*self.network, &spec.target);
        match kind {
            Kind::Tcp(talk) => tcp::probe(network, target, talk, &self.patterns, stage).await,
            Kind::Udp(talk) => udp::probe(network, target, talk, &self.patterns, stage).await,
            Kind::Http(http) => {
                let way = http::Way { network, target, handshakes: &self.handshakes };
                Box::pin(http::probe(&way, http, &self.patterns, stage)).await
            }
            Kind::Grpc(grpc) => {
                let way = http::Way { network, target, handshakes: &self.handshakes };
                Box::pin(grpc::probe(&way, grpc, stage)).await
            }
            Kind::Dns(dns) => Box::pin(dns::probe(network, target, dns, &self.patterns, stage)).await,
            Kind::Ping(echo) => {
                stage.is("waiting for the reply");
                network.ping(target, *echo).await?;
                Ok(Passed::plain("replied"))
            }
            Kind::Exec(exec) => Box::pin(exec::probe(exec, stage)).await,
            Kind::Agent { send } => Box::pin(agent::probe(network, target, send, stage)).await,
            Kind::File(file) => Box::pin(file::probe(file, stage)).await,
            Kind::Passive(passive) => Box::pin(self.make(&passive.confirm, spec, stage)).await,
        }
    }
}

/// Tells when the certificate expires, and says so in words where that is soon.
fn certified(outcome: &mut Outcome, expires: i64, kind: &Kind) {
    let soon = kind.tls().is_some_and(|tls| {
        let left = certificate::from_now(expires);
        u64::try_from(left).map_or(true, |left| left < tls.expiry_warning.as_secs())
    });
    outcome.says.expires = Some(expires);
    outcome.says.expires_soon = soon;
    if let Verdict::Pass(text) = &mut outcome.verdict
        && soon
    {
        text.to_mut().push_str(&certificate::soon(expires));
    }
}

/// What an error on a connection says.
fn failed(error: &io::Error) -> Verdict {
    fail(Remote::from(error).to_string())
}

/// What a failure says, with what was being done.
fn fail(text: impl Into<Text>) -> Verdict {
    Verdict::Fail(text.into())
}

/// Why a probe cannot be made.
fn unmade(text: impl Into<Text>) -> Verdict {
    Verdict::Unmade(text.into())
}
