//! A request over HTTP/1.1 or HTTP/2, with or without TLS. Redirects are not followed, and no more is read than what is
//! needed.

use core::error::Error as _;
use core::future::Future;
use core::pin::{Pin, pin};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::rt::Executor;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::pattern::{Patterns, wanted};
use super::tls::{self, H2, HTTP11, Handshakes, Secured};
use super::{Ended, Passed, READ_MAX, Stage, fail, unmade};
use crate::net::{Network, Remote, Stream, Target};
use crate::outcome::Verdict;
use crate::spec::{Http, HttpVersion, Tls};
use crate::text::shown;

/// What the head of an answer may take, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// What leads to a server.
pub(super) struct Way<'w> {
    pub(super) network: &'w dyn Network,
    pub(super) target: &'w Target,
    pub(super) handshakes: &'w Handshakes,
}

impl Way<'_> {
    /// Connects, and makes the handshake of TLS where it is to be spoken. Whether the server has picked HTTP/2, too.
    pub(super) async fn connect(
        &self,
        tls: Option<&Tls>,
        protocols: tls::Protocols,
        host: Option<&str>,
        stage: &Arc<Stage>,
    ) -> Result<(Box<dyn Stream>, bool), Verdict> {
        let prepared = match tls {
            None => None,
            Some(tls) => Some(self.handshakes.prepare(tls, host, self.target, protocols, stage).await?),
        };
        stage.is("connecting");
        let stream = self.network.tcp(self.target).await?;
        let Some(prepared) = prepared else { return Ok((stream, false)) };
        let Secured { stream, h2 } = prepared.shake(stream, stage).await?;
        Ok((Box::new(stream), h2))
    }
}

pub(super) async fn probe(way: &Way<'_>, http: &Http, patterns: &Patterns, stage: &Arc<Stage>) -> Ended {
    let request = asked(http, way.target).map_err(unmade)?;
    let protocols: tls::Protocols = match http.version {
        HttpVersion::Any => &[H2, HTTP11],
        HttpVersion::Http1 => &[HTTP11],
        HttpVersion::Http2 => &[H2],
    };
    let (stream, picked) = way.connect(http.tls.as_ref(), protocols, http.host.as_deref(), stage).await?;
    let known = http.tls.is_none() && http.version == HttpVersion::Http2;
    if http.tls.is_some() && http.version == HttpVersion::Http2 && !picked {
        return Err(fail("it does not offer HTTP/2 (ALPN)"));
    }
    if known || picked {
        let (tasks, mut sender, connection) = over_http2(stream, stage).await?;
        let exchange = async {
            stage.is("waiting for the head of the answer");
            let answer = sender.send_request(request).await.map_err(|error| not_http(&error))?;
            judge(answer, http, patterns, stage).await
        };
        let ended = beside(connection, exchange).await;
        drop(tasks);
        return ended;
    }
    over_http1(stream, before_http2(request), http, patterns, stage).await
}

/// The request, with all that HTTP/2 needs to know in its URI.
fn asked(http: &Http, target: &Target) -> Result<Request<Empty<Bytes>>, String> {
    let method = Method::from_bytes(http.method.as_bytes()).map_err(|error| error.to_string())?;
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    let uri = uri(scheme, http.host.as_deref(), target, &http.path)?;
    let request = Request::builder().method(method).uri(uri).header(USER_AGENT, "uvs");
    request.body(Empty::new()).map_err(|error| error.to_string())
}

/// The address of what is asked for.
pub(super) fn uri(scheme: &str, host: Option<&str>, target: &Target, path: &str) -> Result<Uri, String> {
    let host = host.map_or_else(|| target.addr().to_string(), str::to_owned);
    let path: Uri = path.parse().map_err(|error| format!("path {path:?}: {error}"))?;
    let uri = Uri::builder().scheme(scheme).authority(&*host);
    let uri = uri.path_and_query(path.path_and_query().map_or("/", |path| path.as_str()));
    uri.build().map_err(|error| format!("host {host:?}: {error}"))
}

/// The same as HTTP/1.1 asks: the host in a header.
fn before_http2<B>(mut request: Request<B>) -> Request<B> {
    let uri = core::mem::take(request.uri_mut()).into_parts();
    if let Some(host) = uri.authority.and_then(|host| host.as_str().parse().ok()) {
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
    *request.uri_mut() = uri.path_and_query.map(Uri::from).unwrap_or_default();
    request
}

async fn over_http1(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
    http: &Http,
    patterns: &Patterns,
    stage: &Stage,
) -> Ended {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX).ignore_invalid_headers_in_responses(false);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| not_http(&error))?;
    let exchange = async {
        stage.is("waiting for the head of the answer");
        let answer = sender.send_request(request).await.map_err(|error| not_http(&error))?;
        judge(answer, http, patterns, stage).await
    };
    beside(connection, exchange).await
}

/// Tasks of one connection, which end with it.
#[derive(Clone, Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async { drop(task.await) });
    }
}

/// Ends them: tasks hold [`Tasks`] themselves, so that those do not go by themselves.
#[derive(Debug)]
pub(super) struct Ends(Tasks);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// HTTP/2 on a connection: the tasks that it needs, where requests go in, and what carries them.
pub(super) type Opened<B> = (Ends, http2::SendRequest<B>, Pin<Box<dyn Future<Output = ()> + Send>>);

/// Opens HTTP/2 on the connection. All of it is over when [`Ends`] goes.
pub(super) async fn over_http2<B>(stream: Box<dyn Stream>, stage: &Stage) -> Result<Opened<B>, Verdict>
where
    B: Body<Data: Send, Error: Into<Box<dyn core::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let tasks = Ends(Tasks::default());
    let mut builder = http2::Builder::new(tasks.0.clone());
    let header = u32::try_from(HEAD_MAX).unwrap_or(u32::MAX);
    let window = u32::try_from(READ_MAX).unwrap_or(u32::MAX);
    builder.max_header_list_size(header).initial_stream_window_size(window);
    builder.initial_connection_window_size(window);
    stage.is("opening HTTP/2");
    let opened = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| not_http(&error))?;
    Ok((tasks, sender, Box::pin(async { drop(connection.await) })))
}

/// Does `work` while `connection` carries it, and is over with it.
pub(super) async fn beside<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
    let mut connection = pin!(connection);
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        _ = &mut connection => {}
    }
    // A connection that is over lets what waits for it know.
    work.await
}

async fn judge(mut answer: Response<Incoming>, http: &Http, patterns: &Patterns, stage: &Stage) -> Ended {
    let status = answer.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let said = format!("status {} {reason}", status.as_u16()).trim_end().to_owned();
    if !http.status.iter().any(|range| range.contains(&status.as_u16())) {
        let ranges: Vec<String> = http
            .status
            .iter()
            .map(|range| match (range.start(), range.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            })
            .collect();
        return Err(fail(format!("{said}, not {}", ranges.join(", "))));
    }
    let Some(pattern) = &http.body else { return Ok(Passed::plain(said)) };
    stage.is("reading the body");
    let mut body = Vec::new();
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(|error| not_http(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        body.extend_from_slice(data.get(..data.len().min(READ_MAX - body.len())).unwrap_or_default());
        if patterns.is_in(pattern, &body)? {
            return Ok(Passed::plain(format!("{said}, with {}", wanted(pattern))));
        }
        if body.len() >= READ_MAX {
            return Err(fail(format!("{said}, but no {} in the first {READ_MAX} bytes", wanted(pattern))));
        }
    }
    Err(fail(format!("{said}, but no {} in the body", wanted(pattern))))
}

/// What an error of the protocol says.
pub(super) fn not_http(error: &hyper::Error) -> Verdict {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return fail(tls::said(inner).unwrap_or_else(|| Remote::from(inner).to_string()));
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() {
        return fail("closed before the answer was complete");
    }
    if error.is_parse_too_large() {
        return fail("the head of the answer is too large");
    }
    if error.is_parse() {
        return fail(format!("the answer is not HTTP: {}", shown(error.to_string().as_bytes())));
    }
    match error.source() {
        // It is h2's, which says what it is without the name of the protocol.
        Some(inner) => fail(format!("HTTP/2: {}", shown(inner.to_string().as_bytes()))),
        None => fail(shown(error.to_string().as_bytes())),
    }
}
