//! Whether the director lives and is ready to serve, for whoever supervises it: `/healthz` and `/readyz`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use uvs_director::Instant;

/// A thread that has done nothing for so long is stuck: each does something at least once in a second.
const STUCK: Duration = Duration::from_secs(10);

/// The moment at which a thread last went round its loop.
#[derive(Debug, Default)]
pub struct Beat(AtomicU64);

impl Beat {
    /// It goes round now.
    pub fn at(&self, now: Instant) {
        let nanos = now.since(Instant::ZERO).as_nanos();
        self.0.store(u64::try_from(nanos).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long it has done nothing, where that is too long.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let last = Instant::ZERO + Duration::from_nanos(self.0.load(Relaxed));
        Some(now.since(last)).filter(|silent| *silent >= STUCK)
    }
}

/// How the control loop does.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Its beat.
    pub control: Beat,
    /// It has begun to end the director.
    pub stopping: AtomicBool,
}

/// What `/healthz` and `/readyz` answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Whether all is well.
    pub ok: bool,
    /// Why not; a sentence each.
    pub reasons: Vec<String>,
    /// The service that was asked for, if there is none of that name.
    #[serde(skip)]
    pub unknown: bool,
}

impl Standing {
    /// Well, unless there are reasons.
    pub fn of(reasons: Vec<String>) -> Self {
        Self { ok: reasons.is_empty(), reasons, unknown: false }
    }

    /// There is nothing of that name.
    pub fn unknown(reason: String) -> Self {
        Self { ok: false, reasons: vec![reason], unknown: true }
    }
}

/// Threads that are stuck, a sentence each. `workers` are the beats of the workers, and of the timer behind them.
pub fn stuck<'b>(workers: impl Iterator<Item = &'b Beat>, pulse: &Pulse, now: Instant) -> Vec<String> {
    let say =
        |who: String, silent: Duration| format!("{who} has made no progress for {} s", silent.as_secs());
    let beats: Vec<&Beat> = workers.collect();
    let timer = beats.len().saturating_sub(1);
    let name = |at: usize| if at == timer { "the timer".to_owned() } else { format!("worker {at}") };
    let threads = beats.iter().enumerate();
    let threads = threads.filter_map(|(at, beat)| beat.stuck(now).map(|silent| say(name(at), silent)));
    let control = pulse.control.stuck(now).map(|silent| say("the control loop".to_owned(), silent));
    threads.chain(control).collect()
}

/// The service that a query such as `service=tcp/192.0.2.10:80` names; `None`: it names none.
pub fn service_of(query: Option<&str>) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("service="))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| str::from_utf8(code).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
        rest = after;
    }
    Some(String::from_utf8_lossy(&bytes).replacen('/', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_nothing_is_named() {
        let beats = [Beat::default(), Beat::default(), Beat::default()];
        let pulse = Pulse::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let look = |now| stuck(beats.iter(), &pulse, at(now));
        assert_eq!(look(9), [""; 0], "they have just begun");
        for beat in &beats {
            beat.at(at(20));
        }
        pulse.control.at(at(20));
        assert_eq!(look(29), [""; 0]);
        beats[0].at(at(25));
        pulse.control.at(at(25));
        let (one, timer) =
            ("worker 1 has made no progress for 11 s", "the timer has made no progress for 11 s");
        assert_eq!(look(31), [one, timer]);
        beats[1].at(at(31));
        beats[2].at(at(31));
        assert_eq!(
            look(36),
            ["worker 0 has made no progress for 11 s", "the control loop has made no progress for 11 s"]
        );
    }

    #[test]
    fn a_query_names_a_service() {
        let cases = [
            (None, None),
            (Some(""), None),
            (Some("x=1"), None),
            (Some("service=tcp/192.0.2.10:80"), Some("tcp 192.0.2.10:80")),
            (Some("x=1&service=tcp%20%5B2001:db8::1%5D:80&y"), Some("tcp [2001:db8::1]:80")),
            (Some("service=fwmark+7"), Some("fwmark 7")),
            (Some("service="), Some("")),
            (Some("service=%"), Some("%")),
            (Some("service=%zz%4"), Some("%zz%4")),
            (Some("service=%ff"), Some("\u{fffd}")),
        ];
        for (query, service) in cases {
            assert_eq!(service_of(query).as_deref(), service, "{query:?}");
        }
    }
}
