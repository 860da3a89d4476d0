//! Which partition a key goes to: murmur2 as Java's Kafka client has it. Written down again here,
//! apart from the client's, so that a wrong partitioner there is seen.

/// `partitions` must not be 0.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let words = data.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (i, &byte) in tail.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * i);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn murmur2_gives_javas_values() {
    // From UtilsTest.testMurmur2 of the Java client.
    for (key, hash) in [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)] {
        assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
    }
}
