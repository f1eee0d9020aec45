use core::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use uvs_check::spec::{Grpc, Tls};

use super::https;
use crate::*;

/// What a server answers: the head's status and kind, the body, and the trailers.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    kind: &'static str,
    body: &'static [u8],
    trailers: &'static [(&'static str, &'static str)],
}

const SERVING: Answer = Answer {
    status: 200,
    kind: "application/grpc",
    body: b"\0\0\0\0\x02\x08\x01",
    trailers: &[("grpc-status", "0")],
};

/// One that knows the services "" and "shop.Cart".
async fn answers(request: Request<Incoming>, answer: Answer) -> Result<Response<Body>, Infallible> {
    let fits = request.uri().path() == "/grpc.health.v1.Health/Check"
        && request.method() == "POST"
        && request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc")
        && request.headers().get("te").is_some_and(|te| te == "trailers");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let known = [&b"\0\0\0\0\0"[..], b"\0\0\0\0\x0b\x0a\x09shop.Cart"].contains(&&body[..]);
    let answer = match fits && known {
        true => answer,
        false => Answer { body: b"", trailers: &[("grpc-status", "5"), ("grpc-message", "what?")], ..answer },
    };
    let mut trailers = HeaderMap::new();
    for (name, value) in answer.trailers {
        trailers.insert(*name, value.parse().expect("a value"));
    }
    let mut frames = vec![Ok(Frame::data(Bytes::from_static(answer.body)))];
    if !trailers.is_empty() {
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let head = Response::builder().status(answer.status).header("content-type", answer.kind);
    Ok(head.body(body).expect("an answer"))
}

type Body = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn health(answer: Answer) -> SocketAddr {
    server(move |stream| {
        Box::pin(async move {
            let service = service_fn(move |request| answers(request, answer));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        })
    })
    .await
}

fn kind(service: &str) -> Kind {
    Kind::Grpc(Box::new(Grpc { service: service.into(), ..Grpc::default() }))
}

#[tokio::test]
async fn a_service_that_serves_is_up() {
    let addr = health(SERVING).await;
    for service in ["", "shop.Cart"] {
        assert_eq!(asked(kind(service), addr).await, Verdict::Pass("SERVING".into()));
    }
    fails(&asked(kind("shop.Car"), addr).await, "it knows no service_name \"shop.Car\" (NOT_FOUND: what?)");
}

#[tokio::test]
async fn whatever_else_is_answered_is_a_failure_with_its_reason() {
    let cases = [
        (Answer { body: b"\0\0\0\0\x02\x08\x02", ..SERVING }, "NOT_SERVING"),
        (Answer { body: b"\0\0\0\0\0", ..SERVING }, "its state is UNKNOWN"),
        (Answer { body: b"\0\0\0\0\x02\x08\x03", ..SERVING }, "its state is SERVICE_UNKNOWN"),
        (Answer { body: b"\0\0\0\0\x02\x08\x09", ..SERVING }, "its state is 9, which is none"),
        (Answer { body: b"", ..SERVING }, "the answer has no message"),
        (Answer { body: b"\0\0\0\0\x03\x08\x01", ..SERVING }, "not one message of the length that it says"),
        (Answer { body: b"\x01\0\0\0\x02\x08\x01", ..SERVING }, "compressed"),
        (Answer { body: b"\0\0\0\0\x02\xff\xff", ..SERVING }, "no HealthCheckResponse"),
        (Answer { body: &[0; 100_000], ..SERVING }, "longer than 4096 bytes"),
        (Answer { trailers: &[], ..SERVING }, "the answer has no grpc-status"),
        (
            Answer { trailers: &[("grpc-status", "12")], ..SERVING },
            "it has no health service (UNIMPLEMENTED)",
        ),
        (
            Answer { trailers: &[("grpc-status", "14"), ("grpc-message", "gone")], ..SERVING },
            "grpc-status UNAVAILABLE: gone",
        ),
        (Answer { trailers: &[("grpc-status", "many")], ..SERVING }, "grpc-status \"many\""),
        (Answer { status: 404, ..SERVING }, "the answer is not gRPC: status 404 Not Found"),
        (Answer { kind: "text/html", ..SERVING }, "its content-type is \"text/html\""),
    ];
    for (answer, reason) in cases {
        fails(&ends(kind(""), health(answer).await, reason).await, reason);
    }
}

#[tokio::test]
async fn over_tls_it_needs_http2() {
    let identity = https::self_signed();
    let tls = Tls { verify: false, ..Tls::default() };
    let kind = || Kind::Grpc(Box::new(Grpc { tls: Some(tls.clone()), ..Grpc::default() }));
    let web = https::secure(&identity, &[b"h2"]).await;
    // It speaks HTTP/2, and is no gRPC.
    fails(&asked(kind(), web).await, "the answer is not gRPC: its content-type is \"\"");
    fails(&asked(kind(), https::secure(&identity, &[]).await).await, "it does not offer HTTP/2 (ALPN)");
    let verified = Kind::Grpc(Box::new(Grpc { tls: Some(Tls::default()), ..Grpc::default() }));
    fails(&asked(verified, web).await, "its certificate");
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_a_failure_with_its_reason() {
    let cases: [(&'static [&'static [u8]], End, &str); 6] = [
        (&[], End::Holds, "no end within 400ms while waiting for the head of the answer"),
        (&[], End::Closes, "closed"),
        // Reset, or closed if the end is seen by who writes.
        (&[], End::Resets, "se"),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], End::Closes, "HTTP/2"),
        (&[&[0xff; 4096]], End::Repeats, "HTTP/2"),
        (&[], End::Dribbles, ""),
    ];
    for (pieces, end, reason) in cases {
        fails(&ends(kind(""), says(pieces, end).await, reason).await, reason);
    }
}

async fn asked(kind: Kind, addr: SocketAddr) -> Verdict {
    patient(kind, addr).await.verdict
}
