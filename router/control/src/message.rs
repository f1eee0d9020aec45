//! Requests, answers and errors, and the lines they travel in.

use serde::{Deserialize, Serialize};

use crate::{
    VERSION, adm, announce, connections, destination, event, explain, ha, inspect, plan, probe, sample,
    sched, status, trace,
};

/// What a director can be asked. A family of requests is one variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// ipvsadm's command line.
    Adm(adm::Request),
    /// How the director does.
    Status(status::Request),
    /// What changes from second to second.
    Sample(sample::Request),
    /// The network as the director sees it.
    Inspect(inspect::Request),
    /// Some entries of the table of connections.
    Connections(connections::Request),
    /// The schedulers of services: what they do, and other modules for them.
    Sched(sched::Request),
    /// A check made now.
    Probe(probe::Request),
    /// What happened, and what happens.
    Events(event::Request),
    /// One destination: how it stands, and what people want of it.
    Destination(destination::Request),
    /// What a reload would change.
    Plan(plan::Request),
    /// A reload.
    Reload(plan::ReloadRequest),
    /// Connections, and why they are as they are.
    Explain(explain::Request),
    /// Packets, as they pass.
    Trace(trace::Request),
    /// VIPs that are told to routers.
    Announce(announce::Request),
    /// Virtual routers.
    Ha(ha::Request),
}

/// What it answers; the variant is that of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Adm`].
    Adm(adm::Answer),
    /// To [`Request::Status`].
    Status(Box<status::Answer>),
    /// To [`Request::Sample`].
    Sample(Box<sample::Answer>),
    /// To [`Request::Inspect`].
    Inspect(Box<inspect::Answer>),
    /// To [`Request::Connections`].
    Connections(connections::Answer),
    /// To [`Request::Sched`].
    Sched(sched::Answer),
    /// To [`Request::Probe`].
    Probe(probe::Answer),
    /// To [`Request::Events`]; with `follow` further ones come after it.
    Events(event::Answer),
    /// To [`Request::Destination`].
    Destination(Box<destination::Answer>),
    /// To [`Request::Plan`], and to [`Request::Reload`].
    Plan(plan::Plan),
    /// To [`Request::Explain`].
    Explain(Box<explain::Answer>),
    /// To [`Request::Trace`]; further ones come after it.
    Trace(trace::Answer),
    /// To [`Request::Announce`].
    Announce(announce::Answer),
    /// To [`Request::Ha`].
    Ha(Box<ha::Answer>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For programs.
    pub kind: ErrorKind,
    /// For people: what is wrong and, where it is not obvious, what to do.
    pub message: String,
}

impl Error {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The peer may not speak to the director. The connection is closed.
    Denied,
    /// The line is no request: not JSON, an unknown request, a wrong or unknown field.
    Malformed,
    /// The request has another version than the director's.
    Version,
    /// The request is longer than [`crate::REQUEST_MAX`]. The connection is closed.
    TooLong,
    /// The request, or the next one, did not come in time. The connection is closed.
    Timeout,
    /// The request is understood and refused; nothing was changed.
    Refused,
    /// Doing it failed; the message says how far it came.
    Failed,
    /// The director ends.
    Stopping,
    /// A kind that this client does not know.
    #[serde(other)]
    Other,
}

/// A request as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// An answer as it travels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// [`VERSION`].
    pub version: u32,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub result: Outcome,
}

/// An answer or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Answer(Answer),
    /// It was not.
    Error(Error),
}

/// The line of a request, line feed included.
pub fn encode_request(request: &Request) -> Vec<u8> {
    line(&Incoming { version: VERSION, request: request.clone() })
}

/// The line of an answer or an error, line feed included.
pub fn encode_answer(result: Result<Answer, Error>) -> Vec<u8> {
    let result = match result {
        Ok(answer) => Outcome::Answer(answer),
        Err(error) => Outcome::Error(error),
    };
    line(&Outgoing { version: VERSION, result })
}

fn line(message: &impl Serialize) -> Vec<u8> {
    // JSON has no line feed but those we would ask for.
    let mut line = serde_json::to_vec(message).expect("messages have text keys and no cycles");
    line.push(b'\n');
    line
}

/// A request out of its line.
///
/// # Errors
/// [`ErrorKind::Version`] and [`ErrorKind::Malformed`], worded for whoever wrote the line.
pub fn decode_request(line: &[u8]) -> Result<Request, Error> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let malformed = |error: serde_json::Error| {
        Error::new(
            ErrorKind::Malformed,
            format!(
                "this is no request: {error}; one looks like {{\"version\":{VERSION},\"request\":{{\"status\":{{}}}}}}"
            ),
        )
    };
    // The version first: a request of another one may look like anything.
    let Head { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::Version,
            format!(
                "the request has version {version} and this director speaks version {VERSION}; use the uvs that runs as the director"
            ),
        ));
    }
    serde_json::from_slice::<Incoming>(line).map(|incoming| incoming.request).map_err(malformed)
}

/// An answer out of its line.
///
/// # Errors
/// A sentence: it is no answer of this version.
pub(crate) fn decode_answer(line: &[u8]) -> Result<Result<Answer, Error>, String> {
    let outgoing: Outgoing =
        serde_json::from_slice(line).map_err(|error| format!("its answer is not understood: {error}"))?;
    Ok(match outgoing.result {
        // An error is worth reading whatever version it comes from: it may be about just that.
        Outcome::Error(error) => Err(error),
        Outcome::Answer(_) if outgoing.version != VERSION => {
            return Err(format!(
                "it answers in version {} and this client speaks version {VERSION}",
                outgoing.version
            ));
        }
        Outcome::Answer(answer) => Ok(answer),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &[u8]) -> &str {
        str::from_utf8(line).unwrap()
    }

    /// What `docs/control.md` shows is what is sent: other programs are written after it.
    #[test]
    fn messages_look_as_the_documentation_says() {
        let adm =
            Request::Adm(adm::Request { arguments: vec!["-L".into(), "-n".into()], ..Default::default() });
        let answer = Answer::Adm(adm::Answer { stdout: "a\n".into(), ..Default::default() });
        let denied = Error::new(ErrorKind::TooLong, "too long");
        let cases = [
            (encode_request(&adm), r#"{"version":1,"request":{"adm":{"arguments":["-L","-n"],"input":""}}}"#),
            (
                encode_request(&Request::Status(status::Request {})),
                r#"{"version":1,"request":{"status":{}}}"#,
            ),
            (
                encode_request(&Request::Events(event::Request {
                    follow: true,
                    ..event::Request::default()
                })),
                r#"{"version":1,"request":{"events":{"follow":true}}}"#,
            ),
            (
                encode_answer(Ok(answer)),
                r#"{"version":1,"answer":{"adm":{"stdout":"a\n","stderr":"","code":0}}}"#,
            ),
            (encode_answer(Err(denied)), r#"{"version":1,"error":{"kind":"too_long","message":"too long"}}"#),
        ];
        for (line, want) in cases {
            assert_eq!(text(&line), format!("{want}\n"));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        let cases = [
            ("", ErrorKind::Malformed, "EOF", "nothing"),
            ("GET / HTTP/1.1", ErrorKind::Malformed, "expected value", "another protocol"),
            ("{}", ErrorKind::Malformed, "missing field `version`", "no version"),
            ("[1]", ErrorKind::Malformed, "request", "a list"),
            (r#"{"version":2,"request":"?"}"#, ErrorKind::Version, "version 2", "of the future"),
            (r#"{"version":-1}"#, ErrorKind::Malformed, "invalid value", "no version at all"),
            (r#"{"version":1}"#, ErrorKind::Malformed, "missing field `request`", "no request"),
            (
                r#"{"version":1,"request":{"reboot":{}}}"#,
                ErrorKind::Malformed,
                "expected one of `adm`, `status`, `sample`, `inspect`, `connections`, `sched`, `probe`, `events`, \
                 `destination`, `plan`, `reload`, `explain`, `trace`, `announce`",
                "an unknown request",
            ),
            (
                r#"{"version":1,"request":{"adm":{"arguments":[],"inptu":""}}}"#,
                ErrorKind::Malformed,
                "unknown field `inptu`",
                "a misspelt field",
            ),
            (
                r#"{"version":1,"request":{"adm":{"arguments":"-L"}}}"#,
                ErrorKind::Malformed,
                "expected a sequence",
                "a wrong type",
            ),
            (
                r#"{"version":1,"request":{"status":{}}} {}"#,
                ErrorKind::Malformed,
                "trailing",
                "two in a line",
            ),
        ];
        for (line, kind, part, why) in cases {
            let error = decode_request(line.as_bytes()).expect_err(why);
            assert_eq!(error.kind, kind, "{why}: {error}");
            assert!(error.message.contains(part), "{why}: {error}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let ok = r#"{"adm":{"stdout":"","stderr":"","code":0}}"#;
        let cases = [
            (format!(r#"{{"version":2,"answer":{ok}}}"#), "version 2", "another version"),
            ("nonsense".to_owned(), "not understood", "no JSON"),
            (r#"{"version":1}"#.to_owned(), "not understood", "neither answer nor error"),
        ];
        for (line, part, why) in cases {
            let error = decode_answer(line.as_bytes()).expect_err(why);
            assert!(error.contains(part), "{why}: {error}");
        }
        let line = r#"{"version":7,"error":{"kind":"sunday","message":"not today"}}"#;
        let error = decode_answer(line.as_bytes()).unwrap().unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Other, "not today"), "an error is passed on as it is");
    }

    proptest! {
        #[test]
        fn requests_come_through_in_one_line(arguments: Vec<String>, input: String) {
            let request = Request::Adm(adm::Request { arguments, input, stream: false });
            let line = encode_request(&request);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(decode_request(&line[..line.len() - 1]).unwrap(), request);
        }

        #[test]
        fn answers_come_through(stdout: String, stderr: String, code: u8) {
            let answer = Answer::Adm(adm::Answer { stdout, stderr, code, more: false });
            let line = encode_answer(Ok(answer.clone()));
            prop_assert_eq!(decode_answer(&line).unwrap().unwrap(), answer);
        }

        #[test]
        fn any_bytes_are_answered(line: Vec<u8>) {
            prop_assert!(decode_request(&line).is_err());
        }
    }
}
