//! Times as messages have them.

/// Seconds since 1970 of 2026-11-30T22:04:05.678Z.
pub(crate) fn unix(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|it| it.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let (hour, minute): (i64, i64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    // Days of the civil calendar, years beginning in March (Howard Hinnant, "chrono-compatible low-level date
    // algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let whole = (days * 86_400 + hour * 3600 + minute * 60) as f64;
    Some(whole + second)
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
