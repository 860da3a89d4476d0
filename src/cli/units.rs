//! Values with units, as users write them.

use std::time::Duration;

use bytesize::ByteSize;

/// `500ms`, `30s`, `5m`, `2h`, `7d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let rule = || format!("{text:?} is not a time: write for example 500ms, 30s, 5m, 2h or 7d");
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
    Duration::try_from_secs_f64(number * seconds).map_err(|_| rule())
}

/// `1024`, `1KiB`, `64kB`, `1MiB`.
pub fn size(text: &str) -> Result<usize, String> {
    let bytes: ByteSize = text.parse().map_err(|e| format!("{text:?} is not a size ({e}): write for example 1KiB"))?;
    usize::try_from(bytes.as_u64()).map_err(|_| format!("{text:?} is too large"))
}

/// `key=value`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no '=': write key=value"))?;
    if key.is_empty() {
        return Err(format!("{text:?} has no key before '='"));
    }
    Ok((key.to_string(), value.to_string()))
}

/// Bytes for people.
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
    fn sizes() {
        for (text, bytes) in [("1024", 1024), ("1KiB", 1024), ("64kB", 64_000), ("1MiB", 1 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert!(size("many").is_err());
    }
}
