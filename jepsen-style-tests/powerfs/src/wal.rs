//! Where a write-ahead log of RocksDB ends. Its files are used again, so that what was written before the file got its
//! present name lies behind the end, and nobody misses it.

const BLOCK: usize = 32 << 10;
/// CRC, length and type, as any record has; and the number of the log, which a reader of logs that are used again needs.
const HEADER: usize = 4 + 2 + 1 + 4;
/// A whole record, or the first, a middle or the last part of one.
const TYPES: std::ops::RangeInclusive<u8> = 5..=8;

/// How many bytes from its beginning hold records of the log with this number. Checksums are not looked at.
pub fn live_bytes(bytes: &[u8], number: u32) -> usize {
    let (mut at, mut end) = (0, 0);
    while let Some(header) = bytes.get(at..at + HEADER) {
        // No header lies across two blocks.
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        if !TYPES.contains(&header[6]) || header[7..] != number.to_le_bytes() {
            break;
        }
        at += HEADER + usize::from(u16::from_le_bytes([header[4], header[5]]));
        end = at.min(bytes.len());
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u16, number: u32) -> Vec<u8> {
        let mut record = vec![0xAA; 4];
        record.extend(length.to_le_bytes());
        record.push(5);
        record.extend(number.to_le_bytes());
        record.resize(HEADER + usize::from(length), 0xBB);
        record
    }

    #[test]
    fn a_log_ends_where_records_of_an_older_one_begin() {
        let live = [record(100, 10), record(7, 10)].concat();
        assert_eq!(live_bytes(&live, 10), live.len());
        assert_eq!(live_bytes(&[&live[..], &record(5, 4)].concat(), 10), live.len());
        assert_eq!(live_bytes(&[&live[..], &[0; 64]].concat(), 10), live.len(), "or room was taken in advance");
        assert_eq!(live_bytes(&record(100, 4), 10), 0, "nothing was written since");
        assert_eq!(live_bytes(&[], 10), 0);
    }

    #[test]
    fn no_header_lies_across_two_blocks() {
        let first = record((BLOCK - HEADER - 5) as u16, 10);
        let live = [&first[..], &[0; 5], &record(3, 10)].concat();
        assert_eq!(live_bytes(&live, 10), live.len());
    }
}
