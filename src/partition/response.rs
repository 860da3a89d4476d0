//! What applying a partition's command came to, as the proposer gets it.

use bytes::Bytes;

use crate::types::Offset;

/// The result of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionResponse {
    /// The batches are in the log from this offset on.
    Appended { base_offset: Offset },
    /// The entry came after one that was never appended: it has no offsets and no effect.
    Dead,
    /// A trim was accepted; this is the log start now.
    LogStart { log_start: Offset },
    /// A trim past the end: refused, no effect.
    TrimOutOfRange { before: Offset, next_offset: Offset },
    /// Segments are closed by the new limits from here on.
    Resized,
}

/// A response that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition response of {len} bytes, first byte {kind:?}, is malformed")]
pub struct ResponseError {
    pub len: usize,
    pub kind: Option<u8>,
}

const APPENDED: u8 = 1;
const DEAD: u8 = 2;
const LOG_START: u8 = 3;
const TRIM_OUT_OF_RANGE: u8 = 4;
const RESIZED: u8 = 5;

impl PartitionResponse {
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(17);
        match *self {
            PartitionResponse::Appended { base_offset } => {
                bytes.push(APPENDED);
                bytes.extend(base_offset.0.to_be_bytes());
            }
            PartitionResponse::Dead => bytes.push(DEAD),
            PartitionResponse::LogStart { log_start } => {
                bytes.push(LOG_START);
                bytes.extend(log_start.0.to_be_bytes());
            }
            PartitionResponse::TrimOutOfRange { before, next_offset } => {
                bytes.push(TRIM_OUT_OF_RANGE);
                bytes.extend(before.0.to_be_bytes());
                bytes.extend(next_offset.0.to_be_bytes());
            }
            PartitionResponse::Resized => bytes.push(RESIZED),
        }
        bytes.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<PartitionResponse, ResponseError> {
        let error = ResponseError { len: bytes.len(), kind: bytes.first().copied() };
        let (kind, rest) = bytes.split_first().ok_or(error.clone())?;
        let offset = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok().map(|bytes| Offset(i64::from_be_bytes(bytes)));
        match *kind {
            APPENDED => offset(rest).map(|base_offset| PartitionResponse::Appended { base_offset }),
            DEAD if rest.is_empty() => Some(PartitionResponse::Dead),
            RESIZED if rest.is_empty() => Some(PartitionResponse::Resized),
            LOG_START => offset(rest).map(|log_start| PartitionResponse::LogStart { log_start }),
            TRIM_OUT_OF_RANGE => rest.split_at_checked(8).and_then(|(before, next_offset)| {
                Some(PartitionResponse::TrimOutOfRange { before: offset(before)?, next_offset: offset(next_offset)? })
            }),
            _ => None,
        }
        .ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::frozen;
    use proptest::prelude::*;

    #[test]
    fn response_bytes_are_frozen() {
        let reads = |_: &str, bytes: &[u8]| PartitionResponse::decode(bytes).map(drop).map_err(|e| e.to_string());
        let written = ["appended", "dead", "resized", "log-start", "trim-out-of-range"];
        let expected: [(PartitionResponse, &[u8]); 5] = [
            (PartitionResponse::Appended { base_offset: Offset(258) }, &[1, 0, 0, 0, 0, 0, 0, 1, 2]),
            (PartitionResponse::Dead, &[2]),
            (PartitionResponse::Resized, &[5]),
            (PartitionResponse::LogStart { log_start: Offset(3) }, &[3, 0, 0, 0, 0, 0, 0, 0, 3]),
            (
                PartitionResponse::TrimOutOfRange { before: Offset(9), next_offset: Offset(4) },
                &[4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4],
            ),
        ];
        let written = written.into_iter().zip(expected.iter().map(|(response, _)| response.encode()));
        frozen::check(include_str!("responses.frozen"), written, reads);
        for (response, bytes) in expected {
            assert_eq!(response.encode(), bytes);
            assert_eq!(PartitionResponse::decode(bytes), Ok(response));
            assert!(PartitionResponse::decode(&bytes[..bytes.len() - 1]).is_err());
            assert!(PartitionResponse::decode(&[bytes, &[0]].concat()).is_err());
        }
    }

    proptest! {
        #[test]
        fn hostile_responses_never_panic(bytes: Vec<u8>) {
            let _ = PartitionResponse::decode(&bytes);
        }
    }
}
