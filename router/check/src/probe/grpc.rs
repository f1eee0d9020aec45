//! The health service of gRPC (grpc.health.v1.Health/Check), over HTTP/2 with or without TLS.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, TE, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response};
use prost::Message as _;

use super::http::{Way, beside, not_http, over_http2, uri};
use super::tls::H2;
use super::{Ended, Passed, Stage, fail, unmade};
use crate::net::Target;
use crate::outcome::Verdict;
use crate::spec::Grpc;
use crate::text::shown;

/// An answer is not longer than this, in bytes: one number, and what goes before it.
const ANSWER_MAX: usize = 4096;
/// What goes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// grpc/health/v1/health.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

pub(super) async fn probe(way: &Way<'_>, grpc: &Grpc, stage: &Arc<Stage>) -> Ended {
    let request = request(grpc, way.target).map_err(unmade)?;
    let (stream, picked) = way.connect(grpc.tls.as_ref(), &[H2], grpc.host.as_deref(), stage).await?;
    if grpc.tls.is_some() && !picked {
        return Err(fail("it does not offer HTTP/2 (ALPN)"));
    }
    let (tasks, mut sender, connection) = over_http2(stream, stage).await?;
    let exchange = async {
        stage.is("waiting for the head of the answer");
        let answer = sender.send_request(request).await.map_err(|error| not_http(&error))?;
        judge(answer, &grpc.service, stage).await
    };
    let ended = beside(connection, exchange).await;
    drop(tasks);
    ended
}

fn request(grpc: &Grpc, target: &Target) -> Result<Request<Full<Bytes>>, String> {
    let message = HealthCheckRequest { service: grpc.service.clone() };
    let length = u32::try_from(message.encoded_len()).map_err(|error| error.to_string())?;
    let mut body = vec![0];
    body.extend(length.to_be_bytes());
    message.encode(&mut body).map_err(|error| error.to_string())?;
    let scheme = if grpc.tls.is_some() { "https" } else { "http" };
    let uri = uri(scheme, grpc.host.as_deref(), target, "/grpc.health.v1.Health/Check")?;
    let request = Request::builder().method(Method::POST).uri(uri).header(USER_AGENT, "uvs");
    let request = request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers");
    request.body(Full::new(body.into())).map_err(|error| error.to_string())
}

async fn judge(mut answer: Response<Incoming>, service: &str, stage: &Stage) -> Ended {
    let status = answer.status();
    if status != 200 {
        let reason = status.canonical_reason().unwrap_or_default();
        return Err(fail(format!("the answer is not gRPC: status {} {reason}", status.as_u16())));
    }
    let kind = answer.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.starts_with(b"application/grpc") {
        return Err(fail(format!("the answer is not gRPC: its content-type is \"{}\"", shown(kind))));
    }
    // An error may come without a message, and then stands in the head.
    if answer.headers().contains_key("grpc-status") {
        ended(answer.headers(), service)?;
        return Err(fail("the answer has no message"));
    }
    stage.is("reading the answer");
    let mut heard = Vec::new();
    let mut last = None;
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = match frame.map_err(|error| not_http(&error))?.into_data() {
            Ok(data) => {
                heard.extend_from_slice(data.get(..data.len().min(ANSWER_MAX + 1)).unwrap_or_default());
                if heard.len() > ANSWER_MAX {
                    return Err(fail(format!("the answer is longer than {ANSWER_MAX} bytes")));
                }
                continue;
            }
            Err(frame) => frame,
        };
        last = frame.into_trailers().ok();
    }
    let Some(trailers) = last else {
        return Err(fail("the answer has no grpc-status"));
    };
    ended(&trailers, service)?;
    served(&heard)
}

/// What gRPC's own status says (grpc-status in the trailers).
fn ended(headers: &HeaderMap, service: &str) -> Result<(), Verdict> {
    let status = headers.get("grpc-status").map_or(&b""[..], |status| status.as_bytes());
    let message = headers.get("grpc-message").map_or(&b""[..], |message| message.as_bytes());
    let about = if message.is_empty() { String::new() } else { format!(": {}", shown(message)) };
    let code: Option<u16> = core::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    // The codes of google.rpc.Code.
    let name = match code {
        Some(0) => return Ok(()),
        Some(5) => return Err(fail(format!("it knows no service_name \"{service}\" (NOT_FOUND{about})"))),
        Some(12) => return Err(fail(format!("it has no health service (UNIMPLEMENTED{about})"))),
        Some(1) => "CANCELLED",
        Some(2) => "UNKNOWN",
        Some(3) => "INVALID_ARGUMENT",
        Some(4) => "DEADLINE_EXCEEDED",
        Some(7) => "PERMISSION_DENIED",
        Some(8) => "RESOURCE_EXHAUSTED",
        Some(13) => "INTERNAL",
        Some(14) => "UNAVAILABLE",
        Some(16) => "UNAUTHENTICATED",
        _ => return Err(fail(format!("grpc-status \"{}\"{about}", shown(status)))),
    };
    Err(fail(format!("grpc-status {name}{about}")))
}

/// What the message says.
fn served(heard: &[u8]) -> Ended {
    let message = match heard.split_at_checked(PREFIX) {
        Some(([0, length @ ..], message)) if length == message_length(message) => message,
        Some(([0, ..], _)) => return Err(fail("the answer is not one message of the length that it says")),
        Some(_) => return Err(fail("the answer is compressed, which was not asked for")),
        None => return Err(fail("the answer has no message")),
    };
    let message = HealthCheckResponse::decode(message);
    let message = message.map_err(|error| fail(format!("the answer is no HealthCheckResponse: {error}")))?;
    match ServingStatus::try_from(message.status) {
        Ok(ServingStatus::Serving) => Ok(Passed::plain("SERVING")),
        Ok(ServingStatus::NotServing) => Err(fail("NOT_SERVING")),
        Ok(ServingStatus::Unknown) => Err(fail("its state is UNKNOWN")),
        Ok(ServingStatus::ServiceUnknown) => Err(fail("its state is SERVICE_UNKNOWN")),
        Err(_) => Err(fail(format!("its state is {}, which is none", message.status))),
    }
}

fn message_length(message: &[u8]) -> [u8; 4] {
    u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes()
}
