//! The four codecs of record batches, each with a bound on what it may put out.
//!
//! The bound is enforced while decompressing: a length that the data claims is never allocated, except
//! for snappy's, which is first held against the bound and against what its input could expand to.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// xerial's framing of snappy, which Java and librdkafka write and read: this, then two version
/// numbers (i32 each), then blocks behind their compressed length (i32).
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// What xerial's own writer puts into one block.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy copy makes 64 bytes of 3; no data expands more.
const SNAPPY_RATIO_MAX: usize = 22;
/// A deflate match makes 258 bytes of two bits.
const GZIP_RATIO_MAX: usize = 258 * 4;
/// Each further byte of an lz4 match length stands for 255 bytes.
const LZ4_RATIO_MAX: usize = 255;
/// A zstd block makes 128 KiB of four bytes: its header and the byte that it repeats.
const ZSTD_RATIO_MAX: usize = 128 * 1024 / 4;

/// zstd's own default level: a better ratio than gzip at a fraction of its time.
const ZSTD_LEVEL: i32 = 3;
/// Window sizes (as powers of two) that a zstd frame may claim: at least what its ordinary levels use
/// (8 MiB), and no more than libzstd's own default bound (128 MiB), however large the output may be.
const ZSTD_WINDOW_LOG: std::ops::RangeInclusive<u32> = 23..=27;

/// How many bytes one batch may decompress to, unless a caller knows better: eight times the largest
/// batch, more than real data's ratio makes of one.
pub const DECODED_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;

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

/// Why compressed records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("{codec:?} data would decompress to more than the limit of {limit} bytes")]
    OverLimit { codec: Codec, limit: usize },
    #[error("{codec:?} data is malformed: {reason}")]
    Malformed { codec: Codec, reason: String },
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

    /// Its number in a batch's attributes.
    pub fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// What `bytes` of data can decompress to at most, whatever they are: a claim beyond it is a lie. No data
    /// that a codec reads comes to more; most comes to far less.
    pub fn expands_to_max(self, bytes: usize) -> usize {
        let ratio = match self {
            Codec::None => 1,
            Codec::Gzip => GZIP_RATIO_MAX,
            Codec::Snappy => SNAPPY_RATIO_MAX,
            Codec::Lz4 => LZ4_RATIO_MAX,
            Codec::Zstd => ZSTD_RATIO_MAX,
        };
        bytes.saturating_mul(ratio)
    }
}

/// Compresses records so that Kafka's own clients read them. The error is the codec's text.
pub(super) fn compress(codec: Codec, data: Vec<u8>) -> Result<Vec<u8>, String> {
    match codec {
        Codec::None => Ok(data),
        Codec::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&data).and_then(|()| encoder.finish()).map_err(|e| e.to_string())
        }
        Codec::Snappy => compress_xerial(&data).map_err(|e| e.to_string()),
        Codec::Lz4 => {
            // Java's reader refuses blocks that depend on one another.
            let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&data).map_err(|e| e.to_string())?;
            encoder.finish().map_err(|e| e.to_string())
        }
        Codec::Zstd => zstd::bulk::compress(&data, ZSTD_LEVEL).map_err(|e| e.to_string()),
    }
}

fn compress_xerial(data: &[u8]) -> Result<Vec<u8>, snap::Error> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend(1i32.to_be_bytes());
    out.extend(1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block)?;
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

/// Decompresses into at most `limit` bytes. Without compression the result shares `data`'s memory.
pub(super) fn decompress(codec: Codec, data: &Bytes, limit: usize) -> Result<Bytes, DecompressError> {
    match codec {
        Codec::None if data.len() > limit => Err(DecompressError::OverLimit { codec, limit }),
        Codec::None => Ok(data.clone()),
        // Java reads members that follow one another as one stream.
        Codec::Gzip => read_limited(codec, flate2::read::MultiGzDecoder::new(&data[..]), limit),
        Codec::Snappy => decompress_snappy(data, limit),
        Codec::Lz4 => read_limited(codec, FrameDecoder::new(&data[..]), limit),
        Codec::Zstd => {
            let malformed = |e: std::io::Error| DecompressError::Malformed { codec, reason: e.to_string() };
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&data[..]).map_err(malformed)?;
            let window_log = usize::BITS - limit.leading_zeros();
            decoder
                .window_log_max(window_log.clamp(*ZSTD_WINDOW_LOG.start(), *ZSTD_WINDOW_LOG.end()))
                .map_err(malformed)?;
            read_limited(codec, decoder, limit)
        }
    }
}

/// Reads all there is, unless that is more than `limit`.
fn read_limited(codec: Codec, reader: impl Read, limit: usize) -> Result<Bytes, DecompressError> {
    let mut out = Vec::new();
    reader
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut out)
        .map_err(|e| DecompressError::Malformed { codec, reason: e.to_string() })?;
    if out.len() > limit {
        return Err(DecompressError::OverLimit { codec, limit });
    }
    Ok(out.into())
}

/// One plain block (as librdkafka and Go clients may write), or xerial's frames.
fn decompress_snappy(data: &[u8], limit: usize) -> Result<Bytes, DecompressError> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        decompress_snappy_block(data, &mut out, limit)?;
        return Ok(out.into());
    }
    let mut rest = data;
    while !rest.is_empty() {
        // Streams that follow one another repeat the header.
        if rest.starts_with(XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_BYTES..).ok_or_else(|| snappy_malformed("header is cut short"))?;
            continue;
        }
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| snappy_malformed("block is cut short"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, after) = after.split_at_checked(len).ok_or_else(|| snappy_malformed("block is cut short"))?;
        decompress_snappy_block(block, &mut out, limit)?;
        rest = after;
    }
    Ok(out.into())
}

fn decompress_snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), DecompressError> {
    let claimed = snap::raw::decompress_len(block).map_err(|e| snappy_malformed(&e.to_string()))?;
    if claimed > limit - out.len() {
        return Err(DecompressError::OverLimit { codec: Codec::Snappy, limit });
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(snappy_malformed("block claims more than it can hold"));
    }
    let at = out.len();
    out.resize(at + claimed, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, &mut out[at..]).map_err(|e| snappy_malformed(&e.to_string()))?;
    out.truncate(at + written);
    Ok(())
}

fn snappy_malformed(reason: &str) -> DecompressError {
    DecompressError::Malformed { codec: Codec::Snappy, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn codec() -> impl Strategy<Value = Codec> {
        prop::sample::select(&ALL[..])
    }

    #[test]
    fn codec_numbers_are_frozen() {
        for (bits, codec) in (0..).zip(ALL) {
            assert_eq!((codec.bits(), Codec::from_bits(bits)), (bits, Some(codec)));
        }
        assert_eq!(Codec::from_bits(5), None);
    }

    #[test]
    fn output_stops_at_the_limit() {
        let data = vec![7; 1_000_000];
        for codec in ALL {
            let packed = Bytes::from(compress(codec, data.clone()).unwrap());
            assert_eq!(decompress(codec, &packed, 1_000_000).unwrap(), data, "{codec:?}");
            let over = decompress(codec, &packed, 999_999);
            assert_eq!(over, Err(DecompressError::OverLimit { codec, limit: 999_999 }));
        }
    }

    /// Else an honest batch would be refused for what its header claims.
    #[test]
    fn nothing_expands_beyond_its_codecs_ratio() {
        for codec in ALL {
            for len in [1, 100, 4_096, 1 << 20, 64 << 20] {
                let packed = compress(codec, vec![0; len]).unwrap();
                assert!(codec.expands_to_max(packed.len()) >= len, "{codec:?}: {len} bytes in {}", packed.len());
            }
        }
        // The densest that the format of zstd allows: blocks that repeat one byte 128 Ki times.
        let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
        for last in [0, 0, 0, 1] {
            let block = (128 * 1024) << 3 | 1 << 1 | last;
            packed.extend(&u32::to_le_bytes(block)[..3]);
            packed.push(7);
        }
        let len = packed.len();
        let out = decompress(Codec::Zstd, &packed.into(), 1 << 20).unwrap();
        assert!(out.len() == 512 * 1024 && out.len() <= Codec::Zstd.expands_to_max(len));
    }

    #[test]
    fn snappy_is_read_plain_and_framed() {
        let data: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let plain = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::Snappy, &plain.into(), 100_000).unwrap(), data);
        let framed = compress(Codec::Snappy, data.clone()).unwrap();
        assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
        let twice = [&framed[..], &framed[..]].concat();
        assert_eq!(decompress(Codec::Snappy, &twice.into(), 200_000).unwrap(), [&data[..], &data[..]].concat());
    }

    #[test]
    fn snappy_claim_beyond_its_input_is_not_allocated() {
        // A varint that claims 2^31 bytes, and nothing behind it.
        let claim = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x08]);
        assert!(matches!(decompress(Codec::Snappy, &claim, usize::MAX), Err(DecompressError::Malformed { .. })));
        assert!(matches!(decompress(Codec::Snappy, &claim, 1 << 20), Err(DecompressError::OverLimit { .. })));
    }

    #[test]
    fn zstd_window_beyond_the_limit_is_refused() {
        // Magic, a descriptor without single segment, a window descriptor of 2^(10+21) bytes, one raw block.
        let huge = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0, 0, b'a']);
        assert!(matches!(decompress(Codec::Zstd, &huge, 1 << 26), Err(DecompressError::Malformed { .. })));
        let fair = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x09, 0, 0, b'a']);
        assert_eq!(decompress(Codec::Zstd, &fair, 1).unwrap(), &b"a"[..]);
    }

    proptest! {
        #[test]
        fn codecs_round_trip(codec in codec(), data in prop::collection::vec(0u8..4, 0..200_000)) {
            let packed = Bytes::from(compress(codec, data.clone()).unwrap());
            prop_assert_eq!(decompress(codec, &packed, data.len()).unwrap(), data);
        }

        #[test]
        fn hostile_data_is_an_error_or_within_the_limit(codec in codec(), data: Vec<u8>, flip: prop::sample::Index) {
            let limit = 1000;
            let _ = decompress(codec, &data.clone().into(), limit);
            let mut packed = compress(codec, data).unwrap();
            if !packed.is_empty() {
                let at = flip.index(packed.len());
                packed[at] ^= 1 << (at % 8);
            }
            if let Ok(out) = decompress(codec, &packed.into(), limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }
}
