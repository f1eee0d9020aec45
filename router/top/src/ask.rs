//! Whoever asks the director, so that the keys never wait for an answer.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use uvs_control::event::{self, Event};
use uvs_control::sample::{self, Request};
use uvs_control::{Answer, Client, ClientError, PATIENCE};

/// So many of the latest events are shown.
const EVENTS: u32 = 500;
/// For rates of what was asked for the first time: as soon as they mean something.
const SOON: Duration = Duration::from_millis(400);
/// Between tries to reach a director that is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// What came of asking.
pub(crate) type Told = (Request, Result<(sample::Answer, Vec<Event>), String>);

/// A thread that asks.
pub(crate) struct Asker {
    wanted: Sender<Request>,
    told: Receiver<Told>,
}

impl Asker {
    /// Asks for `request` from now on, every `interval`.
    pub(crate) fn start(socket: PathBuf, interval: Duration, request: Request) -> anyhow::Result<Self> {
        let (wanted, wants) = channel();
        let (tell, told) = channel();
        thread::Builder::new()
            .name("asker".into())
            .spawn(move || ask(&socket, interval, request, &wants, &tell))
            .context("no thread can be started")?;
        Ok(Self { wanted, told })
    }

    /// Asks for something else from now on, at once.
    pub(crate) fn want(&self, request: Request) {
        // It ends with this only.
        let _ = self.wanted.send(request);
    }

    /// What has come since.
    pub(crate) fn take(&self) -> impl Iterator<Item = Told> + '_ {
        self.told.try_iter()
    }
}

fn ask(
    socket: &Path,
    interval: Duration,
    mut request: Request,
    wants: &Receiver<Request>,
    tell: &Sender<Told>,
) {
    let mut client = None;
    let mut is_first = true;
    loop {
        let began = Instant::now();
        let answer = once(&mut client, socket, &request);
        let pause = match &answer {
            Ok(_) if is_first => SOON.min(interval),
            Ok(_) => interval,
            Err(_) => AGAIN,
        };
        is_first = answer.is_err();
        if tell.send((request.clone(), answer.map_err(|error| error.to_string()))).is_err() {
            return;
        }
        // A director that takes long to answer is not asked more often than that.
        let pause = pause.saturating_sub(began.elapsed()).max(began.elapsed());
        match wants.recv_timeout(pause) {
            Ok(other) => {
                // Of several the last one counts.
                let other = wants.try_iter().last().unwrap_or(other);
                is_first |= other != request;
                request = other;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn once(
    client: &mut Option<Client>,
    socket: &Path,
    request: &Request,
) -> Result<(sample::Answer, Vec<Event>), ClientError> {
    let mut asked = match client.take() {
        Some(client) => client,
        None => Client::connect(socket, PATIENCE)?,
    };
    let else_said = |answer: Answer| ClientError::Broken {
        path: socket.to_owned(),
        reason: format!("it answered something else: {answer:?}"),
    };
    let sample = match asked.ask(&uvs_control::Request::Sample(request.clone()))? {
        Answer::Sample(sample) => *sample,
        other => return Err(else_said(other)),
    };
    let latest = event::Request { last: Some(EVENTS), ..event::Request::default() };
    let events = match asked.ask(&uvs_control::Request::Events(latest))? {
        Answer::Events(events) => events.events,
        other => return Err(else_said(other)),
    };
    *client = Some(asked);
    Ok((sample, events))
}
