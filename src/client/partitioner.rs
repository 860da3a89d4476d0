//! Which partition a record goes to. Pure; chance and counters come in as arguments.

use crate::types::PartitionId;

/// How a record without an explicit partition gets one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// The key decides, by murmur2, exactly as in Java's client; a record without a key goes where `Sticky` says.
    #[default]
    Key,
    /// One partition is taken until its batch is full, then another: this makes the fewest batches.
    Sticky,
    RoundRobin,
    Random,
}

/// The partition of a key among `count`, as Java's `DefaultPartitioner` computes it: clients in any
/// language keep the records of one key together.
pub fn partition_of_key(key: &[u8], count: i32) -> PartitionId {
    // "toPositive": the sign bit is cut off, not negated.
    PartitionId((murmur2(key) & i32::MAX) % count)
}

/// Returns the 32-bit MurmurHash2 with Kafka's seed. Every producer of a topic must agree on it for ever.
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

    /// The first seven are from Apache Kafka's own test of its hash. All were computed by kafka-clients 4.4.0, once, in
    /// a jshell with its jar: `h = Utils.murmur2(key.getBytes(UTF_8))` and `Utils.toPositive(h) % 6`. They are a
    /// protocol: key, hash, partition of 6.
    const OF_JAVA: [(&[u8], i32, i32); 24] = [
        (b"21", -973932308, 0),
        (b"foobar", -790332482, 0),
        (b"a-little-bit-long-string", -985981536, 2),
        (b"a-little-bit-longer-string", -1486304829, 5),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971, 5),
        (b"abc", 479470107, 3),
        (b"", 275646681, 3),
        (b"a", -1563381124, 4),
        (b"ab", 316155434, 2),
        (b"abcd", -1323649548, 2),
        (b"abcde", 461995741, 1),
        (b"key-0", 29210041, 1),
        (b"key-1", 193331640, 0),
        (b"key-42", -187086521, 3),
        (b"AA", 426800181, 3),
        (b"UA", -624396550, 4),
        (b"WN", -1086799845, 5),
        (b"user:10000001", 1088607187, 1),
        ("\u{e9}t\u{e9}".as_bytes(), -2101193575, 1),
        ("\u{65e5}\u{672c}\u{8a9e}".as_bytes(), 1431860170, 4),
        (b"0123456789abcdef", 1438427052, 0),
        (&[0], 375494588, 2),
        (&[0xff, 0xfe, 0xfd], 998637092, 2),
        (&[0, 0, 0, 0, 0x80], -850477039, 1),
    ];

    #[test]
    fn murmur2_is_javas() {
        for (key, hash, partition) in OF_JAVA {
            assert_eq!((murmur2(key), partition_of_key(key, 6)), (hash, PartitionId(partition)), "{key:?}");
        }
    }

    #[test]
    fn negative_hashes_lose_their_sign_bit() {
        assert_eq!(partition_of_key(b"21", 6).0, (-973932308i32 & 0x7fff_ffff) % 6);
        assert_eq!(partition_of_key(b"abc", 6).0, 479470107 % 6);
        assert_eq!(partition_of_key(b"anything", 1).0, 0);
    }
}
