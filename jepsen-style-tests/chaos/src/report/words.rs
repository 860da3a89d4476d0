//! Figures for people, with their units. Pure.

/// Digits in groups of three.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 fault`, `2 faults`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A duration of microseconds, in three digits or so.
pub fn micros(micros: u64) -> String {
    let exact = micros as f64;
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.1} ms", exact / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", exact / 1e3),
        1_000_000..10_000_000 => format!("{:.2} s", exact / 1e6),
        _ => format!("{:.1} s", exact / 1e6),
    }
}

pub fn millis(millis: u64) -> String {
    micros(millis.saturating_mul(1_000))
}

/// A rate without its unit.
pub fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// Minutes and seconds of a run, from nanoseconds: `2:05`, and `1:02:05` after an hour.
pub fn clock(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds / 3_600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// Date and time in UTC; the number where this calendar ends.
pub fn utc(millis: i64) -> String {
    let seconds = millis.div_euclid(1_000);
    let (mut days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    if !(0..100 * 366).contains(&days) {
        return format!("{millis} ms after 1970");
    }
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{:02} UTC", days + 1, second % 60)
}

/// At most so many characters, and a sign if there were more.
pub fn clip(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{} […]", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2].map(|number| counted(number, "fault")), ["1 fault", "2 faults"]);
        let durations = [0, 999, 1_000, 12_345, 999_000, 1_500_000, 12_345_678];
        assert_eq!(durations.map(micros), ["0 µs", "999 µs", "1.0 ms", "12 ms", "999 ms", "1.50 s", "12.3 s"]);
        assert_eq!([0.25, 9.96, 1_234.5].map(rate), ["0.2", "10.0", "1,235"]);
        assert_eq!([59, 125, 3_725].map(|s| clock(s * 1_000_000_000)), ["0:59", "2:05", "1:02:05"]);
        assert_eq!((clip("aäb", 3), clip("aäb", 2)), ("aäb".into(), "aä […]".into()));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_796_097_599_999), "2026-12-01 03:59:59 UTC");
        assert_eq!(utc(1_735_603_200_000), "2024-12-31 00:00:00 UTC");
        assert_eq!(utc(-1), "-1 ms after 1970");
        assert_eq!(utc(i64::MAX), format!("{} ms after 1970", i64::MAX));
    }
}
