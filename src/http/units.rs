//! Figures for people, always with their unit. Pure.

use bytesize::ByteSize;

use crate::types::WallMs;

/// A size, as the CLI prints it.
pub fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Digits in groups of three: for counts, not for offsets, which people copy.
pub fn count(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if count < 0 {
        text.push('-');
    }
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time in one or two units, as exact as somebody who looks at lag wants it.
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0);
    if whole < 1.0 {
        return format!("{:.0} ms", whole * 1e3);
    }
    if whole < 60.0 {
        return format!("{whole:.1} s");
    }
    let s = whole as u64;
    let two = |big: u64, big_unit, small: u64, small_unit| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match s {
        0..3_600 => two(s / 60, "min", s % 60, "s"),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// Date and time in UTC, to the millisecond; the number where the calendar ends.
pub fn time(at: WallMs) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// Time of day in UTC.
pub fn time_of_day(at: WallMs) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or("?".into(), |at| at.strftime("%H:%M:%S").to_string())
}

/// What people type: milliseconds since 1970, a date and time with its zone, or one without, taken as UTC.
pub fn parse_time(text: &str) -> Option<WallMs> {
    if let Ok(ms) = text.parse::<i64>() {
        return Some(WallMs(ms));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(WallMs(at.as_millisecond()));
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(WallMs(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_groups() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(i64::MIN), "-9,223,372,036,854,775,808");
    }

    #[test]
    fn spans_have_units() {
        let cases = [
            (0.0, "0 ms"),
            (0.25, "250 ms"),
            (1.26, "1.3 s"),
            (60.0, "1 min"),
            (200.4, "3 min 20 s"),
            (7_500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
            (-1.0, "0 ms"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
        assert!(span(f64::MAX).ends_with('h') && span(f64::NAN) == "0 ms", "{}", span(f64::MAX));
    }

    #[test]
    fn times_are_utc_and_extremes_do_not_panic() {
        assert_eq!(time(WallMs(1_764_000_000_123)), "2025-11-24 16:00:00.123");
        assert_eq!(time_of_day(WallMs(1_764_000_000_123)), "16:00:00");
        assert_eq!(time(WallMs(i64::MAX)), format!("{} ms", i64::MAX));
        for text in
            ["1764000000123", "2025-11-24T16:00:00.123Z", "2025-11-24T16:00:00.123", "2025-11-24T17:00:00.123+01:00"]
        {
            assert_eq!(parse_time(text), Some(WallMs(1_764_000_000_123)), "{text}");
        }
        assert_eq!(parse_time("2025-11-24T16:00"), Some(WallMs(1_764_000_000_000)), "as browsers send it");
        for text in ["", "yesterday", "2025-13-01T00:00", "99999999999999999999"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
