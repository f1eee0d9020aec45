//! Whether the director lives and is ready to serve, for whoever supervises it: `/healthz` and `/readyz`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use uvs_director::Instant;
use uvs_director::spec::{Family, Protocol, ServiceKey};

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

/// The service of a name such as `tcp 192.0.2.10:80` or `fwmark 7`, whether it is there or not.
pub fn key_of(name: &str) -> Option<ServiceKey> {
    let (kind, rest) = name.split_once(' ')?;
    if kind == "fwmark" {
        let (mark, family) = match rest.strip_suffix(" IPv6") {
            Some(mark) => (mark, Family::V6),
            None => (rest, Family::V4),
        };
        return Some(ServiceKey::Mark { mark: mark.parse().ok()?, family });
    }
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.to_string() == kind)?;
    Some(ServiceKey::Address { protocol, addr: rest.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_name() {
        for name in [
            "tcp 192.0.2.10:80",
            "udp [2001:db8::1]:53",
            "sctp 192.0.2.10:0",
            "fwmark 7",
            "fwmark 4294967295 IPv6",
        ] {
            assert_eq!(key_of(name).map(|key| key.to_string()).as_deref(), Some(name));
        }
        for name in [
            "",
            "tcp",
            "tcp 192.0.2.10",
            "TCP 192.0.2.10:80",
            "fwmark x",
            "fwmark 7 IPv4",
            "icmp 192.0.2.10:80",
        ] {
            assert_eq!(key_of(name), None, "{name:?}");
        }
    }

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
