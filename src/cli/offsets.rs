//! `consume -o`: where to begin, and perhaps where to end. Pure.

use std::time::Duration;

use super::units;
use crate::{
    client::{Offset, Start, WallMs},
    types::ms_i64,
};

/// What `-o` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: From,
    /// The first offset that is not read; `None` says that there is no end.
    pub end: Option<Offset>,
}

/// A start before the clock is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start(Start),
    /// The time that was so long ago.
    Ago(Duration),
}

impl From {
    pub fn at(self, now: WallMs) -> Start {
        match self {
            From::Start(start) => start,
            From::Ago(ago) => Start::Timestamp(WallMs(now.0.saturating_sub(ms_i64(ago)).max(0))),
        }
    }
}

/// Reads `start`, `end`, `N`, `-N`, `@TIME` or `A:B`.
pub fn parse(text: &str) -> Result<Span, String> {
    let rule =
        || format!("{text:?} is not an offset: write start, end, N, -N (N before the end), @TIME or A:B (B excluded)");
    let number = |text: &str| -> Result<i64, String> { text.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(rule) };
    let plain = |start| Ok(Span { start: From::Start(start), end: None });
    if let Some(time) = text.strip_prefix('@') {
        return Ok(Span { start: parse_time(time)?, end: None });
    }
    if let Some((a, b)) = text.split_once(':') {
        let start = if a.is_empty() || a == "start" { Start::Earliest } else { Start::Offset(Offset(number(a)?)) };
        let end = if b.is_empty() { None } else { Some(Offset(number(b)?)) };
        if let (Start::Offset(start), Some(end)) = (start, end)
            && end <= start
        {
            return Err(format!("{text:?} holds nothing: {end} is excluded, and not behind {start}"));
        }
        return Ok(Span { start: From::Start(start), end });
    }
    match text {
        "start" | "beginning" | "earliest" => plain(Start::Earliest),
        "end" | "latest" => plain(Start::Latest),
        _ => match text.strip_prefix('-') {
            Some(n) => plain(Start::BeforeEnd(number(n)?)),
            None => plain(Start::Offset(Offset(number(text)?))),
        },
    }
}

/// Reads milliseconds since the epoch, a date and time, or `-1h` for an hour ago.
fn parse_time(text: &str) -> Result<From, String> {
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(From::Ago(units::duration(ago)?));
    }
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(From::Start(Start::Timestamp(WallMs(ms))));
    }
    let time: jiff::Timestamp = text.parse().map_err(|error| {
        format!("{text:?} is not a time ({error}): write @1764000000000 (ms), @2026-11-24T12:00:00Z or @-1h")
    })?;
    // No record is older.
    Ok(From::Start(Start::Timestamp(WallMs(time.as_millisecond().max(0)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let plain = |start| Span { start: From::Start(start), end: None };
        let cases = [
            ("start", plain(Start::Earliest)),
            ("end", plain(Start::Latest)),
            ("17", plain(Start::Offset(Offset(17)))),
            ("-5", plain(Start::BeforeEnd(5))),
            ("@1000", plain(Start::Timestamp(WallMs(1000)))),
            ("@1970-01-01T00:00:02Z", plain(Start::Timestamp(WallMs(2000)))),
            ("@1960-01-01T00:00:00Z", plain(Start::Timestamp(WallMs(0)))),
            ("@-1h", Span { start: From::Ago(Duration::from_secs(3600)), end: None }),
            ("3:9", Span { start: From::Start(Start::Offset(Offset(3))), end: Some(Offset(9)) }),
            (":9", Span { start: From::Start(Start::Earliest), end: Some(Offset(9)) }),
            ("3:", plain(Start::Offset(Offset(3)))),
        ];
        for (text, span) in cases {
            assert_eq!(parse(text), Ok(span), "{text}");
        }
        assert_eq!(From::Ago(Duration::from_secs(1)).at(WallMs(5_000)), Start::Timestamp(WallMs(4_000)));
        assert_eq!(From::Ago(Duration::from_secs(9)).at(WallMs(5_000)), Start::Timestamp(WallMs(0)));
    }

    #[test]
    fn nonsense_is_named() {
        for text in
            ["", "-", "--5", "x", "@", "@yesterday", "5:-1", "-1:5", "1:2:3", "9:3", "9:9", "99999999999999999999"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
