//! The control socket: who may speak, what is answered, and where it is done.
//!
//! ```text
//!   socket --> server --> Handle::answer --+--> looks: beside others, off the control thread
//!    (peer checked,                        `--> changes: Job --> control loop --> work, one at a time
//!     lines bounded)
//! ```
//! A family of requests is a file here: it says which of its requests only look, and does both kinds. Of changes and
//! reloads the control loop starts one at a time, and goes on to listen to signals meanwhile.

mod adm;
mod announce;
mod browser;
mod connections;
mod destination;
mod ends;
mod events;
mod explain;
mod ha;
mod health;
mod inspect;
mod lists;
mod name;
mod peer;
mod plan;
mod probe;
mod reasons;
mod rights;
mod sample;
mod sched;
mod server;
mod socket;
mod status;
mod trace;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uvs_config::Config;
use uvs_control::plan::Plan;
use uvs_control::{Answer, Error, ErrorKind, Request};

pub use inspect::network_of;
pub use peer::Peer;
pub use server::{CLIENTS_MAX, serve};
pub use socket::{ControlSocket, open, open_browser, parse_where};

use crate::pages::Live;
use crate::reload::ByHand;

/// A request that changes something, on its way to the control loop.
#[derive(Debug)]
pub struct Job {
    request: Request,
    peer: Peer,
    reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Job {
    /// Whether it is a reload, which the control loop does itself.
    pub fn is_reload(&self) -> bool {
        matches!(self.request, Request::Reload(_))
    }

    /// Who wants it, and where its outcome goes.
    pub fn into_reload(self) -> (String, Reply) {
        (self.peer.to_string(), Reply(self.reply))
    }
}

/// Where the outcome of a reload goes.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Result<Answer, Error>>);

impl Reply {
    /// What was done, or why not.
    pub fn send(self, outcome: Result<Plan, Error>) {
        // A client that has gone meanwhile hears nothing.
        let _ = self.0.send(outcome.map(Answer::Plan));
    }
}

/// Whoever answers clients has one.
#[derive(Clone)]
pub struct Handle {
    live: Arc<Live>,
    by_hand: Arc<ByHand>,
    config_file: Arc<Path>,
    jobs: mpsc::Sender<Job>,
}

impl Handle {
    /// A handle, and the end of the queue that belongs to the control loop.
    pub fn new(live: Arc<Live>, config_file: &Path) -> (Self, mpsc::Receiver<Job>) {
        // A client waits for its answer before it asks again: the queue never has to make one wait.
        let (jobs, queue) = mpsc::channel(CLIENTS_MAX);
        (Self { live, by_hand: Arc::default(), config_file: config_file.into(), jobs }, queue)
    }

    /// Answers a request of `peer`, at once or when its turn comes.
    pub(crate) async fn answer(&self, request: Request, peer: &Peer) -> Result<Answer, Error> {
        match request {
            Request::Adm(request) if adm::only_looks(&request) => {
                let live = Arc::clone(&self.live);
                blocking(move || adm::look(&request, &live)).await.map(Answer::Adm)
            }
            Request::Status(status) => {
                let (live, file) = (Arc::clone(&self.live), Arc::clone(&self.config_file));
                let by_hand = Arc::clone(&self.by_hand);
                let answer = blocking(move || status::answer(status, &live, &by_hand, &file)).await?;
                Ok(Answer::Status(Box::new(answer)))
            }
            Request::Sample(request) => {
                let (live, file) = (Arc::clone(&self.live), self.config_file.display().to_string());
                let answer = blocking(move || sample::answer(&request, &live, file)).await?;
                Ok(Answer::Sample(Box::new(answer)))
            }
            Request::Inspect(request) => {
                let answer = inspect::answer(request, Arc::clone(&self.live)).await?;
                Ok(Answer::Inspect(Box::new(answer)))
            }
            Request::Connections(request) => {
                let live = Arc::clone(&self.live);
                blocking(move || connections::answer(&request, &live)).await?.map(Answer::Connections)
            }
            Request::Sched(request) => {
                // Modules take their turn service by service: none waits for another's compilation, nor a reload for
                // it.
                let (live, peer) = (Arc::clone(&self.live), *peer);
                blocking(move || sched::answer(&request, &live, &peer)).await?.map(Answer::Sched)
            }
            // It waits for the network and for nothing else; it is over at its timeout.
            Request::Probe(request) => probe::answer(request, &self.live).await.map(Answer::Probe),
            // Whoever follows them comes another way.
            Request::Events(request) => Ok(Answer::Events(events::history(request, &self.live))),
            Request::Destination(request) => {
                let (live, peer) = (Arc::clone(&self.live), *peer);
                let answer = blocking(move || destination::answer(&request, &live, &peer)).await??;
                Ok(Answer::Destination(Box::new(answer)))
            }
            Request::Explain(request) => {
                let live = Arc::clone(&self.live);
                let answer = blocking(move || explain::answer(&request, &live)).await??;
                Ok(Answer::Explain(Box::new(answer)))
            }
            // The thread of announcements does it, and reloads are not in its way.
            Request::Announce(request) => {
                announce::answer(request, &self.live, peer).await.map(Answer::Announce)
            }
            Request::Ha(request) => {
                let (live, peer) = (Arc::clone(&self.live), *peer);
                let answer = blocking(move || ha::answer(&request, &live.ha, &peer)).await??;
                Ok(Answer::Ha(Box::new(answer)))
            }
            // It comes another way: it lasts as long as the client likes.
            Request::Trace(_) => Err(Error::new(ErrorKind::Malformed, "a trace is no question of this kind")),
            change @ (Request::Adm(_) | Request::Plan(_) | Request::Reload(_)) => {
                self.in_turn(change, peer).await
            }
        }
    }

    async fn in_turn(&self, request: Request, peer: &Peer) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Error::new(ErrorKind::Stopping, "the director is stopping; ask again once it runs");
        self.jobs.send(Job { request, peer: *peer, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Whether the answer may be as long as the connection table.
fn lists_connections(request: &Request) -> bool {
    match request {
        Request::Adm(request) => adm::lists_connections(request),
        Request::Connections(_) => true,
        _ => false,
    }
}

/// Does a change, on a director that runs `config` (what that says of services, timeouts and options may have been
/// changed since). Tells whether the links have to hear of addresses. The control loop starts one at a time.
pub async fn work(job: Job, config: Arc<Config>, live: Arc<Live>) -> bool {
    let (result, announce) = match job.request {
        Request::Adm(request) => match adm::change(request, &job.peer, config, live).await {
            Ok((answer, announce)) => (Ok(Answer::Adm(answer)), announce),
            Err(error) => (Err(error), false),
        },
        Request::Plan(request) => {
            (plan::answer(request, &job.peer, config, live).await.map(Answer::Plan), false)
        }
        Request::Status(_)
        | Request::Sample(_)
        | Request::Inspect(_)
        | Request::Connections(_)
        | Request::Sched(_)
        | Request::Probe(_)
        | Request::Events(_)
        | Request::Destination(_)
        | Request::Explain(_)
        | Request::Trace(_)
        | Request::Announce(_)
        | Request::Ha(_)
        | Request::Reload(_) => {
            (Err(Error::new(ErrorKind::Malformed, "it is none of the control loop's requests")), false)
        }
    };
    // A client that has gone meanwhile hears nothing; what it asked for is done.
    let _ = job.reply.send(result);
    announce
}

/// Runs what may take its time where nobody waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request on the control socket died");
        Error::new(ErrorKind::Failed, "the director failed while it answered; see its log")
    })
}
