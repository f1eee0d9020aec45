//! The small HTTP server behind `[metrics] listen`.
//!
//! | path | what |
//! | --- | --- |
//! | `/metrics` | Prometheus text |
//! | `/services` | `ipvsadm -Ln` |
//! | `/connections` | `ipvsadm -Lnc` |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::page;

/// Connections served at one time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 32;

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const PLAIN: &str = "text/plain; charset=utf-8";
const INDEX: &str =
    "uvs director\n/metrics      Prometheus\n/services     as ipvsadm -Ln\n/connections  as ipvsadm -Lnc\n";

/// What the server shows. Called off the control thread: a listing of a million connections takes its time.
pub trait Pages: Send + Sync + 'static {
    /// Prometheus text.
    fn metrics(&self) -> String;
    /// The services, in the format of `ipvsadm -Ln`.
    fn services(&self) -> String;
    /// The connections, in the format of `ipvsadm -Lnc`.
    fn connections(&self) -> String;
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
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely out of file descriptors, which does not pass in an instant.
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&pages), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for metrics ended early");
            }
            drop(slot);
        });
    }
}

async fn answer(
    pages: Arc<impl Pages>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // HEAD gets the headers of GET; hyper leaves the body out.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response =
            plain(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are answered\n".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let path = request.uri().path().to_owned();
    let page = tokio::task::spawn_blocking(move || match path.as_str() {
        "/" => plain(StatusCode::OK, PLAIN, INDEX.to_owned()),
        "/metrics" => plain(StatusCode::OK, page::CONTENT_TYPE, pages.metrics()),
        "/services" => plain(StatusCode::OK, PLAIN, pages.services()),
        "/connections" => plain(StatusCode::OK, PLAIN, pages.connections()),
        _ => plain(StatusCode::NOT_FOUND, PLAIN, format!("nothing here\n\n{INDEX}")),
    });
    Ok(page.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a page could not be made");
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            PLAIN,
            "the page could not be made; see the log\n".to_owned(),
        )
    }))
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
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
        fn metrics(&self) -> String {
            "uvs_up 1\n".to_owned()
        }

        fn services(&self) -> String {
            "IP Virtual Server\n".to_owned()
        }

        fn connections(&self) -> String {
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
}
