//! A request over HTTP/1.1. Redirects are not followed, and no more is read than what is needed.

use core::error::Error as _;
use core::future::Future;
use core::pin::pin;
use std::io;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;

use super::pattern::{Patterns, wanted};
use super::{Ended, Passed, READ_MAX, Stage, fail};
use crate::net::{Network, Remote, Stream, Target};
use crate::outcome::Verdict;
use crate::spec::Http;
use crate::text::shown;

/// What the head of an answer may take, in bytes.
const HEAD_MAX: usize = 16 * 1024;

pub(super) async fn probe(
    network: &dyn Network,
    target: &Target,
    http: &Http,
    patterns: &Patterns,
    stage: &Stage,
) -> Ended {
    let request = request(http, target).map_err(Verdict::Unmade)?;
    stage.is("connecting");
    let stream = network.tcp(target).await?;
    over_http1(stream, request, http, patterns, stage).await
}

fn request(http: &Http, target: &Target) -> Result<Request<Empty<Bytes>>, String> {
    let host = match &http.host {
        Some(host) => host.clone(),
        None => target.addr().to_string(),
    };
    let method = Method::from_bytes(http.method.as_bytes()).map_err(|error| error.to_string())?;
    let uri: Uri = http.path.parse().map_err(|error| format!("path {:?}: {error}", http.path))?;
    let request = Request::builder().method(method).uri(uri);
    let request = request.header(HOST, host).header(USER_AGENT, "uvs").header(CONNECTION, "close");
    request.body(Empty::new()).map_err(|error| error.to_string())
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

/// Does `work` while `connection` carries it, and is over with it.
async fn beside<T>(connection: impl Future, work: impl Future<Output = T>) -> T {
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
    let said = format!("status {} {reason}", status.as_u16());
    let said = said.trim_end();
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
fn not_http(error: &hyper::Error) -> Verdict {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return fail(Remote::from(inner).to_string());
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
    fail(shown(error.to_string().as_bytes()))
}
