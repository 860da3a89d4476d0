//! Record payloads that say which value they are, so that damage, a stranger's record and one of another partition are
//! told from each other without a look-up.
//!
//! ```text
//! magic[4] | run u32 LE | key u32 LE | value u64 LE | crc32c of all but itself u32 LE | padding drawn from the value
//! ```

/// The least length of a payload.
pub const PAYLOAD_BYTES_MIN: usize = 24;

const MAGIC: [u8; 4] = *b"lgck";

/// What a polled record is recorded as if its payload is not one of the run's. No send has such a value.
pub const DAMAGED: u64 = u64::MAX;
/// A payload of another run.
pub const OTHER_RUN: u64 = u64::MAX - 1;
/// A payload that was sent to another key.
pub const OTHER_KEY: u64 = u64::MAX - 2;
/// Values of sends are below this.
pub const VALUES_END: u64 = OTHER_KEY;

/// Makes the payload of a value. It has at least [`PAYLOAD_BYTES_MIN`] bytes.
pub fn make(run: u32, key: u32, value: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.max(PAYLOAD_BYTES_MIN));
    bytes.extend(MAGIC);
    bytes.extend(run.to_le_bytes());
    bytes.extend(key.to_le_bytes());
    bytes.extend(value.to_le_bytes());
    bytes.extend([0; 4]);
    let mut state = value;
    while bytes.len() < length {
        bytes.push(padding(&mut state));
    }
    let crc = checksum(&bytes);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The value of a payload that was polled from `key`, or what it is instead: one of [`DAMAGED`], [`OTHER_RUN`] and
/// [`OTHER_KEY`].
pub fn read(run: u32, key: u32, bytes: &[u8]) -> u64 {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes);
    let (Some(of_run), Some(of_key), Some(low), Some(high), Some(crc)) =
        (word(4), word(8), word(12), word(16), word(20))
    else {
        return DAMAGED;
    };
    if bytes[..4] != MAGIC || crc != checksum(bytes) {
        return DAMAGED;
    }
    match (of_run == run, of_key == key) {
        (true, true) => u64::from(low) | u64::from(high) << 32,
        (true, false) => OTHER_KEY,
        (false, _) => OTHER_RUN,
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), &bytes[24..])
}

/// Bytes that no codec can take away, so that a batch is as long as it looks.
fn padding(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_value_it_is() {
        for length in [0, 24, 25, 100] {
            let payload = make(7, 3, 12_345_678_901, length);
            assert_eq!(payload.len(), length.max(PAYLOAD_BYTES_MIN));
            assert_eq!(read(7, 3, &payload), 12_345_678_901);
            assert_eq!(read(8, 3, &payload), OTHER_RUN);
            assert_eq!(read(7, 4, &payload), OTHER_KEY);
            for at in 0..payload.len() {
                let mut damaged = payload.clone();
                damaged[at] ^= 1;
                assert_eq!(read(7, 3, &damaged), DAMAGED, "byte {at}");
                assert_eq!(read(7, 3, &payload[..at]), DAMAGED, "cut at {at}");
            }
        }
    }
}
