//! What every format reads: a record, and the numbers in it.

use crate::{record::Record, types::WallMs};

/// A record as it was read, with what its input said about where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadRecord {
    pub record: Record,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub has_timestamp: bool,
}

/// Returns enough of some input to recognise it by.
pub fn beginning(line: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    let more = if line.len() > SHOWN_BYTES_MAX { "..." } else { "" };
    format!("{}{more}", String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]))
}

pub fn partition(number: i64) -> Option<i32> {
    i32::try_from(number).ok().filter(|partition| *partition >= 0)
}

pub fn not_a_partition(shown: &str) -> String {
    format!("{shown:?} is no partition: they are numbered from 0")
}

pub fn timestamp(ms: i64) -> Option<WallMs> {
    (ms >= 0).then_some(WallMs(ms))
}

pub fn not_a_timestamp(shown: &str) -> String {
    format!("{shown:?} is no timestamp (ms since 1970)")
}
