//! Figures for people.

use std::fmt::Write as _;

/// A number with three digits and a letter: 1234567 is `1.23M`.
pub fn short(number: f64) -> String {
    let mut value = number;
    for unit in ["", "k", "M", "G", "T"] {
        if value < 999.5 {
            let decimals = match value {
                _ if unit.is_empty() => 0,
                value if value < 9.995 => 2,
                value if value < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.decimals$}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.0}P")
}

/// A number of things.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn count(number: u64) -> String {
    if number < 100_000 { number.to_string() } else { short(number as f64) }
}

/// A rate: below 10 with one decimal.
pub fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        ..9.95 => format!("{per_second:.1}"),
        _ => short(per_second),
    }
}

/// A short time, in the unit that leaves few digits.
pub fn nanos(ns: f64) -> String {
    match ns {
        ..999.5 => format!("{ns:.0} ns"),
        ..999_500.0 => format!("{:.1} us", ns / 1e3),
        ..999_500_000.0 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

/// How long ago, or for how long.
pub fn age(seconds: f64) -> String {
    match seconds {
        ..0.001 => "<1 ms".to_owned(),
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// A duration as a clock shows it: `1 d 01:01:01`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a run")]
pub fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let mut text = String::new();
    if days > 0 {
        write!(text, "{days} d ").expect("a String takes everything");
    }
    write!(text, "{hours:02}:{minutes:02}:{:02}", seconds % 60).expect("a String takes everything");
    text
}

/// Of 2026-11-30T22:04:05.678Z the time of day, 22:04:05.
pub fn time_of_day(time: &str) -> &str {
    let time = time.split_once('T').map_or(time, |(_, time)| time);
    time.split(['.', 'Z']).next().unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_enough() {
        let cases = [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (1234.0, "1.23k"),
            (12_345.0, "12.3k"),
            (123_456.0, "123k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
            (9_999_000_000.0, "10.0G"),
            (18e18, "18000P"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text, "{number}");
        }
        assert_eq!((count(99_999).as_str(), count(100_000).as_str()), ("99999", "100k"));
        assert_eq!([0.0, 0.4, 9.9, 10.0, 4321.0].map(rate), ["0", "0.4", "9.9", "10", "4.32k"]);
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!([90.0, 1500.0, 2.5e6, 3e9].map(nanos), ["90 ns", "1.5 us", "2.5 ms", "3.0 s"]);
        let ages = [0.0001, 0.25, 7.0, 600.0, 7300.0, 400_000.0].map(age);
        assert_eq!(ages, ["<1 ms", "250 ms", "7 s", "10 min", "2 h", "5 d"]);
        assert_eq!((clock(59.9).as_str(), clock(90_061.0).as_str()), ("00:00:59", "1 d 01:01:01"));
        assert_eq!(time_of_day("2026-11-30T22:04:05.678Z"), "22:04:05");
        assert_eq!(time_of_day("soon"), "soon");
    }
}
