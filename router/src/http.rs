//! The HTTP server behind `[metrics] listen` and `[http]`.
//!
//! | path | what |
//! | --- | --- |
//! | `/metrics` | Prometheus text |
//! | `/services` | `ipvsadm -Ln` |
//! | `/connections` | `ipvsadm -Lnc` |
//! | `/healthz` | whether the process lives, in JSON |
//! | `/readyz` | whether it serves, in JSON |
//! | `/`, `/page/...`, `/api/...` | the page (`site`), where a door has one |
//!
//! A client that is slow or silent takes nothing from others: there are so many slots, a few of them for one peer,
//! and whoever finds none free gets that of the client that stood still longest. A long page is made as it is read,
//! part by part, and given up when nobody reads on. Nothing is made on the thread that serves.

mod answer;
mod api;
mod body;
mod files;
mod guard;
mod rates;
mod recorder;
mod requests;
mod rows;
mod site;
mod slots;
mod stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::Instant;

use crate::alive::{self, Standing};
use crate::metrics::page;
use answer::{JSON, PLAIN, not_allowed, plain, response};
use body::{Body, Shared};
pub use guard::{Token, Who};
pub use requests::Requests;
pub use site::Page;
use site::Site;
use slots::{Slot, Slots};
use stream::{Patient, Stream};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// To send the head of its request; and, by itself, what follows it.
    request: Duration,
    /// To read on.
    write: Duration,
    /// To do nothing while others wait for its slot.
    idle: Duration,
}

const PATIENCE: Patience = Patience {
    request: Duration::from_secs(10),
    write: Duration::from_secs(10),
    idle: Duration::from_secs(1),
};

/// The longest answer that waits to be written of one connection, in bytes; the kernel holds some more.
const BUFFER: usize = 64 << 10;

const INDEX: &str = "uvs director\n/metrics      Prometheus\n/services     as ipvsadm -Ln\n/connections  as ipvsadm -Lnc\n\
    /healthz      does it live?\n/readyz       does it serve? ?service=tcp/192.0.2.10:80: does that one?\n";
const FAILED: &str = "the page could not be made; see the log\n";

/// What the server shows. Called off the control thread: a listing of a million connections takes its time.
pub trait Pages: Send + Sync + 'static {
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// Whether the process lives.
    fn alive(&self) -> Standing;
    /// Whether it serves, and that service if one is named as in `tcp 192.0.2.10:80`.
    fn ready(&self, service: Option<&str>) -> Standing;
    /// The services, in the format of `ipvsadm -Ln`.
    fn services(&self) -> String;
    /// The connections, in the format of `ipvsadm -Lnc`, part by part; once `take` returns false nobody wants more.
    /// It waits while the reader does: nothing may be locked meanwhile.
    fn connections(&self, take: &mut dyn FnMut(String) -> bool);
}

/// Who a client of a Unix socket is, or why it may not come in.
pub type Admit = Box<dyn Fn(&UnixStream) -> Result<Who, String> + Send + Sync>;

/// A place where clients come in.
pub enum Door {
    /// An address.
    Tcp(TcpListener),
    /// A Unix socket, and who may come in there.
    Unix(UnixListener, Admit),
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Takes the address, which the configuration has in the table `table`.
///
/// # Errors
/// What the operating system says, with the address and a way out.
pub async fn bind(address: SocketAddr, table: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for HTTP; change `listen` under [{table}], or end who uses it")
    })
}

/// Serves until it is dropped; with a page, where there is one here.
pub async fn serve<R: Requests>(
    door: impl Into<Door>,
    pages: Arc<impl Pages>,
    page: Option<Arc<Page<R>>>,
) -> Infallible {
    serve_with(door.into(), pages, page, PATIENCE).await
}

async fn serve_with<R: Requests>(
    door: Door,
    pages: Arc<impl Pages>,
    page: Option<Arc<Page<R>>>,
    patience: Patience,
) -> Infallible {
    let slots = Arc::<Slots>::default();
    let place = Arc::new(Place {
        pages,
        site: page.map(Site::new),
        metrics: Shared::default(),
        services: Shared::default(),
    });
    loop {
        let accepted = match &door {
            Door::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                // Answers are short and whole: none waits for what was sent before it.
                let _ = stream.set_nodelay(true);
                Some((Box::new(stream) as Box<dyn Stream>, Some(peer.ip()), Who::Anybody(peer.ip())))
            }),
            Door::Unix(listener, admit) => listener.accept().await.map(|(stream, _)| match admit(&stream) {
                Ok(who) => Some((Box::new(stream) as Box<dyn Stream>, None, who)),
                Err(reason) => {
                    tracing::info!(reason, "a client of the HTTP socket was refused");
                    None
                }
            }),
        };
        match accepted {
            Ok(Some((stream, peer, who))) => {
                let slot = slots.take(peer, patience.idle).await;
                tokio::spawn(talk(stream, slot, who, Arc::clone(&place), patience));
            }
            Ok(None) => {}
            Err(error) => {
                // Most likely out of file descriptors, which does not pass in an instant.
                tracing::warn!(%error, "a connection for HTTP could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Answers one client until it leaves, or has to.
async fn talk<R: Requests>(
    stream: Box<dyn Stream>,
    slot: Slot,
    who: Who,
    place: Arc<Place<impl Pages, R>>,
    patience: Patience,
) {
    let state = slot.state();
    let service = service_fn(|request| {
        let (place, state, who) = (Arc::clone(&place), Arc::clone(&state), who.clone());
        async move { answer(place, request, who, patience, &state).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.request)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Patient::new(stream, patience.write, slot.state())), service);
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "a connection for HTTP ended early");
        },
        () = slot.taken_away() => tracing::debug!("a connection for HTTP made room for another"),
    }
}

/// What all connections of a door share.
struct Place<P, R> {
    pages: Arc<P>,
    site: Option<Site<R>>,
    metrics: Shared,
    services: Shared,
}

async fn answer<R: Requests>(
    place: Arc<Place<impl Pages, R>>,
    request: Request<Incoming>,
    who: Who,
    patience: Patience,
    state: &slots::State,
) -> Result<Response<Body>, Infallible> {
    // Probes and Prometheus call the director by whatever name it has in their lists.
    let is_for_programs = matches!(request.uri().path(), "/metrics" | "/healthz" | "/readyz");
    if let Some(site) = place.site.clone().filter(|_| !is_for_programs) {
        if let Some(refusal) = site.refuses(request.headers()) {
            return Ok(refusal);
        }
        if !matches!(request.uri().path(), "/services" | "/connections") {
            let answer = site.answer(request, &who, patience.request, state).await;
            let nothing = || plain(StatusCode::NOT_FOUND, PLAIN, format!("nothing here\n\n{INDEX}"));
            return Ok(answer.unwrap_or_else(nothing));
        }
    }
    let _working = state.working();
    Ok(text(place, &request).await)
}

/// What is text.
async fn text<R: Requests>(place: Arc<Place<impl Pages, R>>, request: &Request<Incoming>) -> Response<Body> {
    // HEAD gets the headers of GET; hyper leaves the body out.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    let asked = Instant::now();
    let made = match request.uri().path() {
        "/" => Some(plain(StatusCode::OK, PLAIN, INDEX.to_owned())),
        "/metrics" => {
            let make = move || place.metrics.get(asked, || place.pages.metrics());
            blocking(make).await.map(|body| response(StatusCode::OK, page::CONTENT_TYPE, body))
        }
        "/services" => {
            let make = move || place.services.get(asked, || place.pages.services());
            blocking(make).await.map(|body| response(StatusCode::OK, PLAIN, body))
        }
        "/healthz" => Some(standing(&place.pages.alive())),
        "/readyz" => {
            let service = alive::service_of(request.uri().query());
            blocking(move || standing(&place.pages.ready(service.as_deref()))).await
        }
        "/connections" => {
            let pages = Arc::clone(&place.pages);
            let body = Body::made_meanwhile(move |take| pages.connections(take)).await;
            body.map(|body| response(StatusCode::OK, PLAIN, body))
        }
        _ => Some(plain(StatusCode::NOT_FOUND, PLAIN, format!("nothing here\n\n{INDEX}"))),
    };
    made.unwrap_or_else(|| plain(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, FAILED.to_owned()))
}
/// 200 if all is well, 503 if not, 404 where nothing of that name is there; and why.
fn standing(standing: &Standing) -> Response<Body> {
    let status = match standing {
        Standing { ok: true, .. } => StatusCode::OK,
        Standing { unknown: true, .. } => StatusCode::NOT_FOUND,
        Standing { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = serde_json::to_string(standing).unwrap_or_default() + "\n";
    let mut response = plain(status, JSON, text);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes a page where nobody waits for it; `None`: that failed, and the log says so.
async fn blocking<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let made = tokio::task::spawn_blocking(make).await;
    made.inspect_err(|error| tracing::error!(%error, "a page could not be made")).ok()
}
