//! Who connects when, for how long, and what happens to destinations meanwhile.

use core::str::FromStr;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::service::Random;

/// The longest time there is here, so that no sum of times overflows: about 31 years.
const SECONDS_MAX: f64 = 1e9;

/// A length of time from the command line: `2s`, `500ms`, `1.5m`, `2h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span(pub(crate) f64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("{text:?} is no time; write 500ms, 2s, 1.5m or 2h")),
        };
        let number: f64 =
            number.parse().map_err(|_| format!("{text:?} is no time; write 500ms, 2s, 1.5m or 2h"))?;
        let seconds = number * unit;
        if seconds > SECONDS_MAX {
            return Err(format!("{text:?} is too long; the most is {SECONDS_MAX} s"));
        }
        Ok(Self(seconds))
    }
}

/// Where connections come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Independent of each other, so many a second on average.
    Poisson(f64),
    /// Lines of seconds, client and, if known, duration in seconds.
    Trace(PathBuf),
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("poisson") else {
            let path = PathBuf::from(text);
            return if path.extension().is_some_and(|extension| extension == "csv") {
                Ok(Self::Trace(path))
            } else {
                Err("write poisson, poisson:RATE (a second) or the path of a trace, which ends in .csv"
                    .into())
            };
        };
        let rate = match rest.strip_prefix(':') {
            None if rest.is_empty() => return Ok(Self::Poisson(100.0)),
            None => return Err(format!("{text:?}: write poisson:RATE")),
            Some(rate) => rate.strip_suffix("/s").unwrap_or(rate),
        };
        match rate.parse() {
            Ok(rate) if (1e-6..=1e7).contains(&rate) => Ok(Self::Poisson(rate)),
            _ => Err(format!("{rate:?} is no rate; give connections a second, up to 10 million")),
        }
    }
}

/// How long connections last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Durations {
    /// All as long as each other.
    Fixed(f64),
    /// Exponential, with this mean.
    Exponential(f64),
    /// Pareto with this mean and exponent: many short ones, few very long ones.
    Pareto(f64, f64),
    /// Log-normal with this mean and standard deviation of the logarithm.
    LogNormal(f64, f64),
}

impl FromStr for Durations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage =
            "write exp:2s, fixed:2s, pareto:2s[,EXPONENT] or lognormal:2s[,SIGMA]; the time is the mean";
        let (name, rest) = text.split_once(':').unwrap_or((text, "2s"));
        let (mean, shape) = rest.split_once(',').map_or((rest, None), |(mean, shape)| (mean, Some(shape)));
        let mean = mean.parse::<Span>()?.0;
        let shape = shape.map(|shape| shape.parse::<f64>().map_err(|_| usage.to_owned())).transpose()?;
        match (name, shape) {
            ("fixed", None) => Ok(Self::Fixed(mean)),
            ("exp", None) => Ok(Self::Exponential(mean)),
            ("pareto", shape) => match shape.unwrap_or(1.5) {
                exponent if exponent > 1.0 && exponent <= 100.0 => Ok(Self::Pareto(mean, exponent)),
                _ => Err("the exponent of pareto is over 1 (else it has no mean) and at most 100".into()),
            },
            ("lognormal", shape) => match shape.unwrap_or(1.0) {
                sigma if (0.0..=5.0).contains(&sigma) => Ok(Self::LogNormal(mean, sigma)),
                _ => Err("sigma of lognormal is 0 to 5".into()),
            },
            _ => Err(usage.into()),
        }
    }
}

impl Durations {
    fn draw(self, random: &mut Random) -> f64 {
        let u = 1.0 - random.unit(); // over 0, at most 1
        let seconds = match self {
            Self::Fixed(seconds) => seconds,
            Self::Exponential(mean) => -u.ln() * mean,
            Self::Pareto(mean, exponent) => mean * (exponent - 1.0) / exponent * u.powf(-1.0 / exponent),
            Self::LogNormal(mean, sigma) => {
                let normal = (-2.0 * u.ln()).sqrt() * (core::f64::consts::TAU * random.unit()).cos();
                mean * (sigma * normal - sigma * sigma / 2.0).exp()
            }
        };
        seconds.min(SECONDS_MAX)
    }
}

/// `NUMBER@FROM[-TO]`: something happens to a destination, and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// The destination, from 1.
    pub(crate) destination: usize,
    pub(crate) from: f64,
    pub(crate) to: Option<f64>,
}

impl FromStr for Outage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("{text:?}: write NUMBER@FROM or NUMBER@FROM-TO, such as 2@10s-20s");
        let (destination, times) = text.split_once('@').ok_or_else(usage)?;
        let destination = destination.parse().ok().filter(|&number| number > 0).ok_or_else(usage)?;
        let (from, to) = times.split_once('-').map_or((times, None), |(from, to)| (from, Some(to)));
        let from = from.parse::<Span>()?.0;
        let to = to.map(|to| to.parse::<Span>().map(|to| to.0)).transpose()?;
        if to.is_some_and(|to| to <= from) {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Self { destination, from, to })
    }
}

/// One connection that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// Seconds from the start.
    pub(crate) at: f64,
    pub(crate) client: u32,
    pub(crate) seconds: f64,
}

/// All connections of a run, in order of time; the same for every policy.
pub(crate) fn arrivals(
    arrivals: &Arrivals,
    durations: Durations,
    clients: u32,
    end: f64,
    seed: u64,
) -> Result<Vec<Arrival>> {
    let mut random = Random::new(seed);
    match arrivals {
        Arrivals::Poisson(rate) => {
            ensure!(
                rate * end <= 2e7,
                "{rate} connections a second for {end} s are too many\n  fix:   ask for at most 20 million in all"
            );
            let mut all = Vec::new();
            let mut at = 0.0;
            loop {
                at += -(1.0 - random.unit()).ln() / rate;
                if at >= end {
                    return Ok(all);
                }
                let client = random.below(clients);
                all.push(Arrival { at, client, seconds: durations.draw(&mut random) });
            }
        }
        Arrivals::Trace(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            trace(&text, path, durations, end, &mut random)
        }
    }
}

fn trace(
    text: &str,
    path: &Path,
    durations: Durations,
    end: f64,
    random: &mut Random,
) -> Result<Vec<Arrival>> {
    let mut clients: HashMap<&str, u32> = HashMap::new();
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split(',').map(str::trim);
        let (time, client, seconds) = (fields.next().unwrap_or_default(), fields.next(), fields.next());
        let Some(at) = seconds_of(time) else {
            if number == 0 {
                continue; // a heading
            }
            bail!("{}:{}: {time:?} is no time in seconds", path.display(), number + 1);
        };
        let seconds = match seconds.filter(|text| !text.is_empty()) {
            None => durations.draw(random),
            Some(text) => seconds_of(text).with_context(|| {
                format!("{}:{}: {text:?} is no time in seconds", path.display(), number + 1)
            })?,
        };
        let next = u32::try_from(clients.len()).context("more clients than there are addresses")?;
        let client = *clients.entry(client.unwrap_or_default()).or_insert(next);
        if at < end {
            all.push(Arrival { at, client, seconds });
        }
    }
    ensure!(
        !all.is_empty(),
        "{}: no connection in the first {end} s\n  fix:   lines are SECONDS,CLIENT[,DURATION IN SECONDS]",
        path.display()
    );
    all.sort_by(|a, b| a.at.total_cmp(&b.at));
    Ok(all)
}

fn seconds_of(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_kinds_are_read() {
        assert_eq!(
            ["2s", "500ms", "1.5m", "2h", "7"].map(|t| t.parse::<Span>().unwrap().0),
            [2.0, 0.5, 90.0, 7200.0, 7.0]
        );
        for wrong in ["", "2x", "s", "1.2.3", "-1s", "1e9s", "999999999h"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?}");
        }
        assert_eq!("poisson".parse(), Ok(Arrivals::Poisson(100.0)));
        assert_eq!("poisson:20/s".parse(), Ok(Arrivals::Poisson(20.0)));
        assert_eq!("a/b.csv".parse(), Ok(Arrivals::Trace("a/b.csv".into())));
        for wrong in ["poison", "poisson:", "poisson:-1", "poisson:nan", "poisson:inf", "poisson9"] {
            assert!(wrong.parse::<Arrivals>().is_err(), "{wrong:?}");
        }
        assert_eq!("exp:1s".parse(), Ok(Durations::Exponential(1.0)));
        assert_eq!("fixed".parse(), Ok(Durations::Fixed(2.0)));
        assert_eq!("pareto:1s,2".parse(), Ok(Durations::Pareto(1.0, 2.0)));
        assert_eq!("lognormal:1s".parse(), Ok(Durations::LogNormal(1.0, 1.0)));
        for wrong in ["uniform:1s", "pareto:1s,1", "exp:1s,2", "lognormal:1s,x", "pareto:1s,nan"] {
            assert!(wrong.parse::<Durations>().is_err(), "{wrong:?}");
        }
        assert_eq!("2@10s".parse(), Ok(Outage { destination: 2, from: 10.0, to: None }));
        assert_eq!("1@10-1m".parse(), Ok(Outage { destination: 1, from: 10.0, to: Some(60.0) }));
        for wrong in ["2", "0@1s", "2@", "2@5s-5s", "x@1s", "1@1s-"] {
            assert!(wrong.parse::<Outage>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn durations_have_the_mean_they_are_given() {
        for text in ["fixed:3s", "exp:3s", "pareto:3s,3", "lognormal:3s,0.5"] {
            let (durations, mut random) = (text.parse::<Durations>().unwrap(), Random::new(5));
            let n = 200_000;
            let mean = (0..n).map(|_| durations.draw(&mut random)).sum::<f64>() / n as f64;
            assert!((mean - 3.0).abs() < 0.06, "{text}: {mean}");
        }
    }

    #[test]
    fn poisson_arrivals_come_at_their_rate_and_repeat() {
        let make = |seed| arrivals(&Arrivals::Poisson(50.0), Durations::Fixed(1.0), 10, 100.0, seed).unwrap();
        let all = make(1);
        assert!((4700..5300).contains(&all.len()), "{}", all.len());
        assert!(all.is_sorted_by(|a, b| a.at <= b.at) && all.iter().all(|a| a.client < 10 && a.at < 100.0));
        assert_eq!(all, make(1));
        assert_ne!(all, make(2));
        assert!(arrivals(&Arrivals::Poisson(1e7), Durations::Fixed(1.0), 1, 1e6, 1).is_err(), "bounded");
    }

    #[test]
    fn a_trace_is_sorted_and_its_mistakes_have_a_line() {
        let read =
            |text: &str| trace(text, Path::new("t.csv"), Durations::Fixed(2.0), 10.0, &mut Random::new(1));
        let all = read("time,client,duration\n# comment\n2,b,0.5\n1.5,a\n\n3,b,\n99,a\n").unwrap();
        assert_eq!(
            all,
            [
                Arrival { at: 1.5, client: 1, seconds: 2.0 },
                Arrival { at: 2.0, client: 0, seconds: 0.5 },
                Arrival { at: 3.0, client: 0, seconds: 2.0 },
            ]
        );
        assert_eq!(read("1,a\nx,a").unwrap_err().to_string(), "t.csv:2: \"x\" is no time in seconds");
        assert!(read("1,a,soon").unwrap_err().to_string().contains("t.csv:1"));
        assert!(read("NaN,a\ninf,a\n").is_err() && read("").is_err());
    }
}
