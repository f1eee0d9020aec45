//! The small HTTP server behind `[metrics] listen`.
//!
//! | path | what |
//! | --- | --- |
//! | `/metrics` | Prometheus text |
//! | `/services` | `ipvsadm -Ln` |
//! | `/connections` | `ipvsadm -Lnc` |
//! | `/healthz` | whether the process lives, in JSON |
//! | `/readyz` | whether it serves, in JSON |
//!
//! A client that is slow or silent takes nothing from others: there are so many slots, a few of them for one peer,
//! and whoever finds none free gets that of the client that stood still longest. A long page is made as it is read,
//! part by part, and given up when nobody reads on.

mod body;
mod slots;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::alive::{self, Standing};
use crate::metrics::page;
use body::{Body, Shared};
use slots::{Slot, Slots};
use stream::Patient;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// To send its request.
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

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
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

/// Takes the address.
///
/// # Errors
/// What the operating system says, with the address and a way out.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for metrics; change `listen` under [metrics], or end who uses it")
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, pages: Arc<impl Pages>) -> Infallible {
    serve_with(listener, pages, PATIENCE).await
}

async fn serve_with(listener: TcpListener, pages: Arc<impl Pages>, patience: Patience) -> Infallible {
    let slots = Arc::<Slots>::default();
    let site = Arc::new(Site { pages, metrics: Shared::default(), services: Shared::default() });
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely out of file descriptors, which does not pass in an instant.
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let slot = slots.take(peer.ip(), patience.idle).await;
        tokio::spawn(talk(stream, slot, Arc::clone(&site), patience));
    }
}

/// Answers one client until it leaves, or has to.
async fn talk(stream: TcpStream, slot: Slot, site: Arc<Site<impl Pages>>, patience: Patience) {
    let state = slot.state();
    let service = service_fn(|request| {
        let (site, state) = (Arc::clone(&site), Arc::clone(&state));
        async move {
            let _working = state.working();
            answer(site, request).await
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.request)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Patient::new(stream, patience.write, slot.state())), service);
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "a connection for metrics ended early");
        },
        () = slot.taken_away() => tracing::debug!("a connection for metrics made room for another"),
    }
}

/// What all connections share.
struct Site<P> {
    pages: Arc<P>,
    metrics: Shared,
    services: Shared,
}

async fn answer(
    site: Arc<Site<impl Pages>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // HEAD gets the headers of GET; hyper leaves the body out.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let text = "only GET and HEAD are answered\n".to_owned();
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let asked = Instant::now();
    let made = match request.uri().path() {
        "/" => Some(plain(StatusCode::OK, PLAIN, INDEX.to_owned())),
        "/metrics" => {
            let make = move || site.metrics.get(asked, || site.pages.metrics());
            blocking(make).await.map(|body| response(StatusCode::OK, page::CONTENT_TYPE, body))
        }
        "/services" => {
            let make = move || site.services.get(asked, || site.pages.services());
            blocking(make).await.map(|body| response(StatusCode::OK, PLAIN, body))
        }
        "/healthz" => Some(standing(&site.pages.alive())),
        "/readyz" => {
            let service = alive::service_of(request.uri().query());
            blocking(move || standing(&site.pages.ready(service.as_deref()))).await
        }
        "/connections" => {
            let pages = Arc::clone(&site.pages);
            let body = Body::made_meanwhile(move |take| pages.connections(take)).await;
            body.map(|body| response(StatusCode::OK, PLAIN, body))
        }
        _ => Some(plain(StatusCode::NOT_FOUND, PLAIN, format!("nothing here\n\n{INDEX}"))),
    };
    Ok(made.unwrap_or_else(|| plain(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, FAILED.to_owned())))
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

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    response(status, content_type, Body::of(text))
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Fixed;

    impl Pages for Fixed {
        fn alive(&self) -> Standing {
            Standing::of(Vec::new())
        }

        fn ready(&self, service: Option<&str>) -> Standing {
            match service {
                None => Standing::of(vec!["it rests".to_owned()]),
                Some(service) => Standing::unknown(format!("no {service}")),
            }
        }

        fn metrics(&self) -> String {
            "uvs_up 1\n".to_owned()
        }

        fn services(&self) -> String {
            "IP Virtual Server\n".to_owned()
        }

        fn connections(&self, _: &mut dyn FnMut(String) -> bool) {
            panic!("a page that fails");
        }
    }

    async fn ask(server: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn pages_are_served_and_failures_contained() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let server = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, Arc::new(Fixed)));
        let cases = [
            ("GET /metrics", "200 OK", "uvs_up 1\n"),
            ("GET /metrics?x=1", "200 OK", "uvs_up 1\n"),
            ("GET /services", "200 OK", "IP Virtual Server\n"),
            ("GET /", "200 OK", INDEX),
            ("GET /connections", "500 Internal Server Error", "see the log\n"),
            ("GET /healthz", "200 OK", "{\"ok\":true,\"reasons\":[]}\n"),
            ("GET /readyz", "503 Service Unavailable", "{\"ok\":false,\"reasons\":[\"it rests\"]}\n"),
            ("GET /readyz?service=tcp/a:1", "404 Not Found", "{\"ok\":false,\"reasons\":[\"no tcp a:1\"]}\n"),
            ("GET /nothing", "404 Not Found", INDEX),
            ("POST /metrics", "405 Method Not Allowed", "only GET and HEAD are answered\n"),
            ("HEAD /metrics", "200 OK", "\r\n\r\n"),
        ];
        for (request, status, end) in cases {
            let text = ask(server, request).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {text}");
            assert!(text.ends_with(end), "{request}: {text}");
        }
        assert!(ask(server, "GET /metrics").await.contains("content-type: text/plain; version=0.0.4"));
        task.abort();
    }

    #[tokio::test]
    async fn an_address_in_use_is_a_clear_error() {
        let first = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = format!("{:#}", bind(address).await.unwrap_err());
        assert!(error.contains(&address.to_string()) && error.contains("[metrics]"), "{error}");
    }

    /// A page without end.
    struct Endless;

    impl Pages for Endless {
        fn alive(&self) -> Standing {
            Standing::of(Vec::new())
        }

        fn ready(&self, _: Option<&str>) -> Standing {
            self.alive()
        }

        fn metrics(&self) -> String {
            "uvs_up 1\n".to_owned()
        }

        fn services(&self) -> String {
            String::new()
        }

        fn connections(&self, take: &mut dyn FnMut(String) -> bool) {
            while take("x".repeat(10_000)) {}
        }
    }

    const SHORT: Patience = Patience {
        request: Duration::from_secs(60),
        write: Duration::from_millis(500),
        idle: Duration::from_millis(300),
    };

    #[tokio::test]
    async fn who_does_not_read_on_is_cut_off_and_the_page_is_given_up() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let server = listener.local_addr().unwrap();
        let pages = Arc::new(Endless);
        let task = tokio::spawn(serve_with(listener, Arc::clone(&pages), SHORT));
        let mut stalled = TcpStream::connect(server).await.unwrap();
        stalled.write_all(b"GET /connections HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let given_up = async {
            while Arc::strong_count(&pages) < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            while Arc::strong_count(&pages) > 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), given_up).await.expect("it is made no longer");
        // What the kernel took is still there; then the connection is over, and the page is not whole.
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stalled.read_to_end(&mut rest)).await;
        let _ = end.expect("the server closed it");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "as if it had been whole");
        task.abort();
    }

    #[tokio::test]
    async fn silent_and_stalled_clients_make_room() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let server = listener.local_addr().unwrap();
        let patience = Patience { write: Duration::from_secs(60), ..SHORT };
        let task = tokio::spawn(serve_with(listener, Arc::new(Endless), patience));
        let mut idlers = Vec::new();
        for number in 0..2 * slots::SLOTS {
            let mut idler = TcpStream::connect(server).await.unwrap();
            if number % 2 == 0 {
                idler.write_all(b"GET /connections HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            }
            idlers.push(idler);
        }
        let page = tokio::time::timeout(Duration::from_secs(20), ask(server, "GET /metrics")).await;
        assert!(page.expect("it has a turn").ends_with("uvs_up 1\n"));
        task.abort();
    }

    #[tokio::test]
    async fn a_page_that_many_want_at_once_is_made_a_few_times_only() {
        struct Counted(std::sync::atomic::AtomicUsize);
        impl Pages for Counted {
            fn alive(&self) -> Standing {
                Standing::of(Vec::new())
            }

            fn ready(&self, _: Option<&str>) -> Standing {
                self.alive()
            }

            fn metrics(&self) -> String {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(300));
                "uvs_up 1\n".to_owned()
            }
            fn services(&self) -> String {
                String::new()
            }
            fn connections(&self, _: &mut dyn FnMut(String) -> bool) {}
        }
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let server = listener.local_addr().unwrap();
        let pages = Arc::new(Counted(0.into()));
        let task = tokio::spawn(serve(listener, Arc::clone(&pages)));
        let asking: Vec<_> = (0..slots::PER_PEER)
            .map(|_| tokio::spawn(async move { ask(server, "GET /metrics").await }))
            .collect();
        for one in asking {
            assert!(one.await.unwrap().ends_with("uvs_up 1\n"));
        }
        let made = pages.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(made <= 4, "{made} times");
        task.abort();
    }
}
