//! Times as messages have them.

use jiff::Timestamp;

/// Seconds since 1970 of 2026-11-30T22:04:05.678Z.
pub(crate) fn unix(text: &str) -> Option<f64> {
    text.parse::<Timestamp>().ok().map(|time| time.as_duration().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_back() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", Some(0.0)),
            ("2026-11-30T10:00:00.250Z", Some(1_796_032_800.25)),
            ("2024-02-29T23:59:59.000Z", Some(1_709_251_199.0)),
            ("2026-11-30 10:00:00", None),
            ("soon", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(unix(text), want, "{text}");
        }
    }
}
