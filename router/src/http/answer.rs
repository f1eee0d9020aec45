//! Answers, of whatever.

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;

pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

pub(super) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let text = format!("only {} are answered\n", allowed.replace(", ", " and "));
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    response(status, content_type, Body::of(text))
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
