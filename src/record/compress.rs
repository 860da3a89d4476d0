//! The four codecs of record batches, each with a bound on what it may put out.

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// The codec with this number in a batch's attributes, if there is one.
    pub fn from_bits(bits: i16) -> Option<Codec> {
        match bits {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Why compressed records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    #[error("{codec:?} data would decompress to more than the limit of {limit} bytes")]
    OverLimit { codec: Codec, limit: usize },
    #[error("{codec:?} data is malformed: {reason}")]
    Malformed { codec: Codec, reason: String },
}
