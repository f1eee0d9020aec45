//! Durations: a number of seconds, or a text with a unit.

use toml::de::DeValue;
use uvs_director::Duration;

use crate::read::{At, Table};

/// A duration key: what it is called in messages, and what it may hold.
pub(crate) struct Span {
    pub(crate) key: &'static str,
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    /// What follows the range in the fix.
    pub(crate) note: &'static str,
}

/// From the shortest unit to the longest, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Table<'_> {
    /// A duration within its range: `2`, `0.5`, `"500ms"`.
    pub(crate) fn duration(&self, span: &Span) -> Option<At<Duration>> {
        let found = self.value(span.key)?;
        let range = format!("use \"{}\" to \"{}\"{}", shown(span.min), shown(span.max), span.note);
        let text = match found.value {
            DeValue::Integer(number) if number.radix() == 10 => format!("{}s", number.as_str()),
            DeValue::Float(number) => format!("{}s", number.as_str()),
            DeValue::String(text) => text.to_string(),
            _ => {
                let fix = format!("write {} = \"500ms\", or a number of seconds", span.key);
                self.wrong_type(span.key, "duration", &found, fix);
                return None;
            }
        };
        match parse(&text) {
            Some(value) if (span.min..=span.max).contains(&value) => Some(At { value, at: found.at }),
            Some(_) => {
                let what = format!("{} {:?} is out of range", span.key, text.trim());
                self.doc.error(&found.at, what, range);
                None
            }
            None => {
                let what = format!("{} {:?} is not a duration", span.key, text.trim());
                let fix =
                    "write a number of seconds, or a text with a unit: us, ms, s, m, h or d, as in \"500ms\"";
                self.doc.error(&found.at, what, fix);
                None
            }
        }
    }
}

/// A duration as the file has it: a number of seconds, or a number and its unit (`30`, `30s`, `500ms`).
///
/// # Errors
/// A sentence: it is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = format!("{text}s");
    parse(text).or_else(|| parse(&seconds)).ok_or_else(|| {
        format!(
            "{text:?} is not a duration; write a number of seconds, or one with a unit: us, ms, s, m or h"
        )
    })
}

/// A number, with or without a fraction, and its unit.
fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    if fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(*nanos)?;
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*nanos) / u128::from(scale);
    Some(Duration::from_nanos(whole.checked_add(u64::try_from(part).ok()?)?))
}

/// In the longest unit that leaves a whole number.
pub(crate) fn shown(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let whole = |&&(name, unit): &&(&str, u64)| name != "min" && nanos != 0 && nanos % unit == 0;
    match UNITS.iter().rev().find(whole) {
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None => format!("{nanos}ns").replace("0ns", "0s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let millis = Duration::from_millis;
        let cases = [
            ("500ms", Some(millis(500))),
            ("1.5s", Some(millis(1500))),
            ("2 m", Some(millis(120_000))),
            ("14d", Some(millis(14 * 86_400_000))),
            ("1h", Some(millis(3_600_000))),
            ("250us", Some(Duration::from_micros(250))),
            ("0.25ms", Some(Duration::from_micros(250))),
            ("1_000ms", Some(millis(1000))),
            ("0s", Some(millis(0))),
            ("", None),
            ("s", None),
            ("5", None),
            ("-1s", None),
            ("1.s", None),
            ("1.2.3s", None),
            ("1e3s", None),
            ("99999999999999999999s", None),
            ("5 parsecs", None),
        ];
        for (text, duration) in cases {
            assert_eq!(parse(text), duration, "{text:?}");
            if let Some(duration) = duration {
                assert_eq!(parse(&shown(duration)), Some(duration), "{text:?}");
            }
        }
    }
}
