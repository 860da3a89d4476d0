//! A version byte, then postcard. Shared by commands, responses and the state.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are not what they should be. Nothing is allocated beyond what the bytes can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBytes {
    #[error("no bytes at all")]
    Empty,
    #[error("format version {found}, this broker reads version {known}")]
    Version { found: u8, known: u8 },
    #[error("{0}")]
    Body(String),
}

pub(super) fn encode<T: Serialize>(version: u8, value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, vec![version])
        .expect("a Vec takes any length and our types have no maps of unknown length");
    Bytes::from(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, MalformedBytes> {
    let (&found, body) = bytes.split_first().ok_or(MalformedBytes::Empty)?;
    if found != known {
        return Err(MalformedBytes::Version { found, known });
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(|e| MalformedBytes::Body(e.to_string()))?;
    if !rest.is_empty() {
        return Err(MalformedBytes::Body(format!("{} bytes too many", rest.len())));
    }
    Ok(value)
}
