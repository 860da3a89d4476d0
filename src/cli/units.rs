//! Values with units, as users write them.

use std::{str::FromStr, time::Duration};

use bytesize::ByteSize;

use crate::{client::POLL_INTERVAL_MAX_MIN, types::WallMs};

/// This is longer than anybody waits, and short enough to be added to any clock.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reads `500ms`, `30s`, `5m`, `2h` or `7d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let rule = || format!("{text:?} is not a time: write for example 500ms, 30s, 5m, 2h or 7d");
    if text.starts_with('-') {
        return Err(format!("{text:?} is before now: write for example 500ms, 30s, 5m, 2h or 7d"));
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| rule())?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(rule()),
    };
    let duration = Duration::try_from_secs_f64(number * seconds).ok().filter(|duration| *duration <= DURATION_MAX);
    duration.ok_or_else(|| format!("{text:?} is longer than 100 years"))
}

/// A duration in which something can happen.
pub fn wait(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_millis(1) => Err(format!("{text:?} leaves no time: write at least 1ms")),
        time => Ok(time),
    }
}

/// How long an application may take from one record to the next.
pub fn poll_interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < POLL_INTERVAL_MAX_MIN => Err(format!("{text:?} is below {POLL_INTERVAL_MAX_MIN:?}")),
        time => Ok(time),
    }
}

/// Reads a partition's number.
pub fn partition(text: &str) -> Result<i32, String> {
    let partition = text.parse().ok().filter(|partition: &i32| *partition >= 0);
    partition.ok_or_else(|| format!("{text:?} is no partition: they are numbered from 0"))
}

/// Reads a record's offset.
pub fn offset(text: &str) -> Result<i64, String> {
    let offset = text.parse().ok().filter(|offset: &i64| *offset >= 0);
    offset.ok_or_else(|| format!("{text:?} is no offset: they are numbered from 0"))
}

/// Reads how many of something are wished; none of it would be no wish.
pub fn count<N: FromStr + From<u8> + PartialOrd>(text: &str) -> Result<N, String> {
    let count = text.parse().ok().filter(|count: &N| *count >= N::from(1));
    count.ok_or_else(|| format!("{text:?} is not a number from 1 up"))
}

/// A size of something that is not empty.
pub fn room(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err(format!("{text:?} leaves no room: write for example 1KiB")),
        bytes => Ok(bytes),
    }
}

/// Reads `1024`, `1KiB`, `64kB` or `1MiB`.
pub fn size(text: &str) -> Result<usize, String> {
    let bytes: ByteSize = text.parse().map_err(|e| format!("{text:?} is not a size ({e}): write for example 1KiB"))?;
    usize::try_from(bytes.as_u64()).map_err(|_| format!("{text:?} is too large"))
}

/// Reads `key=value`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no '=': write key=value"))?;
    if key.is_empty() {
        return Err(format!("{text:?} has no key before '='"));
    }
    Ok((key.to_string(), value.to_string()))
}

/// A span of time as [`duration`] reads it, in the largest unit that needs no fraction.
pub fn human_ms(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.into_iter().find(|(_, size)| ms >= *size && ms % size == 0) {
        Some((unit, size)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// A moment for people: as in ISO 8601, or the milliseconds of one that no calendar has.
pub fn human_time(at: WallMs) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| format!("{} ms", at.0), |time| time.to_string())
}

/// Writes a number of bytes for people.
pub fn human_bytes(bytes: i64) -> String {
    u64::try_from(bytes).map_or("?".into(), |bytes| ByteSize(bytes).display().iec().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("2", 2_000), ("1.5m", 90_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5x", "-1s", "1e400s", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for text in ["0", "0s", "-1s", "0.1ms", "36501d", "x", "NaN"] {
            assert!(wait(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        for text in ["-1", "2147483648", "x", ""] {
            assert!(partition(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        for text in ["0", "-1", "2147483648", "1.5", "x"] {
            assert!(count::<i32>(text).is_err_and(|error| error.contains(text)), "{text}");
        }
        assert!(offset("-1").is_err() && room("0").is_err() && room("0KiB").is_err());
        assert_eq!((wait("1ms"), partition("0"), count::<u64>("1")), (Ok(Duration::from_millis(1)), Ok(0), Ok(1)));
    }

    #[test]
    fn times_for_people() {
        for (ms, text) in [(7 * 86_400_000, "7d"), (90_000, "90s"), (60_000, "1m"), (1_500, "1500ms"), (0, "0ms")] {
            assert_eq!(human_ms(ms), text);
        }
        assert_eq!(human_time(WallMs(1_764_000_000_123)), "2025-11-24T16:00:00.123Z");
        assert_eq!(human_time(WallMs(i64::MAX)), format!("{} ms", i64::MAX));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("1024", 1024), ("1KiB", 1024), ("64kB", 64_000), ("1MiB", 1 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("many").is_err());
    }
}
