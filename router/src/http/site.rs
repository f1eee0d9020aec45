//! The page: its files, and what they ask for.
//!
//! | request | what |
//! | --- | --- |
//! | `GET /`, `GET /page/...` | the files |
//! | `POST /api/overview` | the director as a whole |
//! | `POST /api/rows` | services, destinations, checks or schedulers: found, sorted, a page of them |
//! | `POST /api/control` | a request of the control socket (docs/control.md), of those that the page makes |
//!
//! Bodies and answers are JSON. What changes something takes the token, or a process that may control the director.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uvs_control::{Error, ErrorKind, REQUEST_MAX};

use super::answer::{JSON, PLAIN, not_allowed, plain};
use super::api::{self, Right};
use super::body::Body;
use super::files;
use super::guard::{self, Token, Who};
use super::recorder::Recorder;
use super::requests::Requests;
use super::slots::State;

/// The longest request of somebody who may only look, in bytes.
const LOOK_MAX: usize = 16 << 10;
/// Long requests that are read at one time.
const LONG: usize = 1;
/// Looks at the table of connections at one time.
const WALKS: usize = 2;
/// How long whoever has a wrong token waits for the next try.
const WRONG: Duration = Duration::from_millis(500);

/// What all doors of a page share.
pub struct Page<R> {
    hosts: Vec<String>,
    token: Option<Token>,
    requests: Arc<R>,
    recorder: Arc<Recorder<R>>,
    long: Semaphore,
    walks: Semaphore,
}

impl<R: Requests> Page<R> {
    /// A page of whom `requests` asks, under those names beside addresses; with `token` people change something.
    pub fn new(requests: R, hosts: Vec<String>, token: Option<Token>) -> Arc<Self> {
        let requests = Arc::new(requests);
        let recorder = Recorder::new(Arc::clone(&requests));
        Arc::new(Self {
            hosts,
            token,
            requests,
            recorder,
            long: Semaphore::new(LONG),
            walks: Semaphore::new(WALKS),
        })
    }
}

/// A page at one door.
pub(super) struct Site<R>(Arc<Page<R>>);

impl<R> Clone for Site<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Why there is no answer.
struct Refusal {
    status: StatusCode,
    error: Error,
}

impl Refusal {
    fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status, error: Error::new(kind, message) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ErrorKind::Malformed | ErrorKind::Version => StatusCode::BAD_REQUEST,
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Timeout => StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Refused => StatusCode::CONFLICT,
            ErrorKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Failed | ErrorKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error }
    }
}

impl<R: Requests> Site<R> {
    pub(super) fn new(page: Arc<Page<R>>) -> Self {
        Self(page)
    }

    /// Why whoever asks this cannot be answered at all.
    pub(super) fn refuses(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let reason = guard::check_host(headers, &self.0.hosts).err()?;
        Some(secured(plain(StatusCode::MISDIRECTED_REQUEST, PLAIN, reason + "\n")))
    }

    /// The answer; `None`: there is nothing of that path.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        who: &Who,
        patience: Duration,
        state: &State,
    ) -> Option<Response<Body>> {
        let path = request.uri().path();
        let response = if path.starts_with("/api/") {
            if request.method() != Method::POST {
                not_allowed("POST")
            } else {
                match self.api(request, who, patience, state).await {
                    Ok(text) => plain(StatusCode::OK, JSON, text),
                    Err(refusal) => refused(refusal),
                }
            }
        } else if request.method() != Method::GET && request.method() != Method::HEAD {
            not_allowed("GET, HEAD")
        } else {
            files::file(path)?
        };
        Some(secured(response))
    }

    async fn api(
        &self,
        request: Request<Incoming>,
        who: &Who,
        patience: Duration,
        state: &State,
    ) -> Result<String, Refusal> {
        let headers = request.headers();
        guard::check_origin(headers)
            .map_err(|reason| Refusal::new(StatusCode::FORBIDDEN, ErrorKind::Denied, reason))?;
        let may_change = self.may_change(headers, who).await?;
        let path = request.uri().path().to_owned();
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let is_long = length.is_none_or(|length: usize| length > LOOK_MAX);
        // Who may only look has nothing to say that is long.
        let (limit, _long) = match is_long && may_change {
            true => (REQUEST_MAX, self.0.long.acquire().await.ok()),
            false => (LOOK_MAX, None),
        };
        let body = read(request.into_body(), limit, patience).await?;
        let _working = state.working();
        match path.as_str() {
            "/api/overview" => {
                let moment = self.0.recorder.look().await?;
                let (changes, total) = (self.changes(who, may_change), self.0.recorder.total());
                json(move || api::overview(&moment, total, changes)).await
            }
            "/api/rows" => {
                let query = api::decode(&body)?;
                let (moment, recorder) = (self.0.recorder.look().await?, Arc::clone(&self.0.recorder));
                json(move || api::rows(&moment, &query, |keys| recorder.histories(keys.iter().copied())))
                    .await
            }
            "/api/control" => {
                let decode = move || uvs_control::decode_request(&body);
                let request = tokio::task::spawn_blocking(decode).await.map_err(|_| failed())??;
                self.control(request, who, may_change).await
            }
            _ => {
                Err(Refusal::new(StatusCode::NOT_FOUND, ErrorKind::Malformed, format!("there is no {path}")))
            }
        }
    }

    async fn control(
        &self,
        request: uvs_control::Request,
        who: &Who,
        may_change: bool,
    ) -> Result<String, Refusal> {
        let right = api::right(&request)?;
        if right == Right::Change && !may_change {
            return Err(self.only_looks(who));
        }
        // The table of connections may be long.
        let _walk = match right {
            Right::Walk => self.0.walks.acquire().await.ok(),
            Right::Look | Right::Change => None,
        };
        let answer = self.0.requests.answer(request, who.clone()).await?;
        json(move || answer).await
    }

    /// Whether whoever this is may change something. A wrong token is told, not taken for none.
    async fn may_change(&self, headers: &HeaderMap, who: &Who) -> Result<bool, Refusal> {
        let peer = match who {
            Who::Process { .. } => return Ok(true),
            Who::Anybody(peer) => *peer,
        };
        let Some(said) = guard::bearer(headers) else { return Ok(false) };
        let Some(token) = self.0.token.clone() else { return Err(self.only_looks(who)) };
        let right = tokio::task::spawn_blocking(move || token.is(&said)).await.map_err(|_| failed())?;
        match right {
            Ok(true) => Ok(true),
            Ok(false) => {
                tracing::warn!(%peer, "a wrong token for the page");
                tokio::time::sleep(WRONG).await;
                Err(Refusal::new(StatusCode::UNAUTHORIZED, ErrorKind::Denied, "that is not the token"))
            }
            Err(reason) => {
                tracing::error!("nothing can be changed from the page: {reason}");
                let message = "the token file of the director is not as it should be; its log says why";
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Failed, message))
            }
        }
    }

    fn only_looks(&self, who: &Who) -> Refusal {
        match self.changes(who, false) {
            "token" => {
                let message = "this takes the token (Authorization: Bearer TOKEN)";
                Refusal::new(StatusCode::UNAUTHORIZED, ErrorKind::Denied, message)
            }
            _ => {
                let message =
                    "this page is for reading; set token_file under [http] to change something here";
                Refusal::new(StatusCode::FORBIDDEN, ErrorKind::Denied, message)
            }
        }
    }

    /// How something can be changed: `yes`, `token` (with it), `no`.
    fn changes(&self, who: &Who, may_change: bool) -> &'static str {
        match who {
            _ if may_change => "yes",
            Who::Anybody(_) if self.0.token.is_some() => "token",
            _ => "no",
        }
    }
}

/// The body of a request, as long as it may be and no slower than it may be.
async fn read(body: Incoming, limit: usize, patience: Duration) -> Result<Bytes, Refusal> {
    match timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Error::new(ErrorKind::TooLong, format!("this request has {limit} bytes at most")).into())
        }
        Ok(Err(error)) => {
            Err(Error::new(ErrorKind::Malformed, format!("the request did not come: {error}")).into())
        }
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the request did not come in time").into()),
    }
}

/// Made where nobody waits for it.
async fn json<T: serde::Serialize>(make: impl FnOnce() -> T + Send + 'static) -> Result<String, Refusal> {
    let made = tokio::task::spawn_blocking(move || serde_json::to_string(&make())).await;
    made.ok().and_then(Result::ok).ok_or_else(failed)
}

fn failed() -> Refusal {
    tracing::error!("an answer to a page could not be made");
    Error::new(ErrorKind::Failed, "the director failed while it answered; see its log").into()
}

fn refused(Refusal { status, error }: Refusal) -> Response<Body> {
    let text = serde_json::json!({ "error": error }).to_string();
    let mut response = plain(status, JSON, text);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn secured(mut response: Response<Body>) -> Response<Body> {
    files::secure(response.headers_mut());
    response
}
