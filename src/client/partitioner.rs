//! Which partition a record goes to. Pure; chance and counters come in as arguments.

/// How a record without an explicit partition gets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By murmur2 of the key, exactly as Java's client does it; without a key as `Sticky`.
    #[default]
    Key,
    /// One partition until its batch is full, then another: fewest batches.
    Sticky,
    RoundRobin,
    Random,
}

/// The partition of a key among `count`, as Java's `DefaultPartitioner` computes it: clients in any
/// language keep the records of one key together.
pub fn partition_of_key(key: &[u8], count: i32) -> i32 {
    // "toPositive": the sign bit is cut off, not negated.
    (murmur2(key) & i32::MAX) % count
}

/// 32-bit MurmurHash2 with Kafka's seed. Every producer of a topic must agree on it for ever.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let words = data.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0u32, |rest, byte| rest << 8 | u32::from(*byte));
        h = (h ^ rest).wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ h >> 15) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Apache Kafka's own test of its hash; these values are a protocol.
    #[test]
    fn murmur2_is_javas() {
        let vectors: [(&str, i32); 7] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
            ("", 275646681),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn negative_hashes_lose_their_sign_bit() {
        assert_eq!(partition_of_key(b"21", 6), (-973932308i32 & 0x7fff_ffff) % 6);
        assert_eq!(partition_of_key(b"abc", 6), 479470107 % 6);
        assert_eq!(partition_of_key(b"anything", 1), 0);
    }
}
