//! Walking batches that stand back to back, as an entry holds them and a fetch returns them.

use std::ops::Range;

use super::{BatchError, BatchHeader};

/// Visits each batch of `bytes`: its header, and where it lies. Ends at the end of `bytes`, or after
/// the first error, which also stands for a batch that is cut short. Does not check CRCs.
pub fn walk(bytes: &[u8]) -> Walk<'_> {
    Walk { bytes, at: 0 }
}

/// The batches of a buffer, one after the other: see [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Walk<'_> {
    type Item = Result<(BatchHeader, Range<usize>), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let found = BatchHeader::parse(rest).and_then(|header| {
            let total = header.total_bytes();
            if total > rest.len() {
                return Err(BatchError::LengthMismatch { claimed: total as u64, got: rest.len() });
            }
            Ok((header, self.at..self.at + total))
        });
        self.at = match &found {
            Ok((_, range)) => range.end,
            Err(_) => self.bytes.len(),
        };
        Some(found)
    }
}
