//! What replicas of a partition are compared by: a batch stands for its records by the CRC-32C in its header.

use bytes::Bytes;

use super::command::{AppendView, CommandError};
use crate::record::{self, BATCH_HEADER_BYTES, BatchError};
use crate::rolling::Mixer;

/// The command's own fields, and each batch's header, which says where it lies, how long it is and the checksum of the
/// rest of it: no pass over the records. What is no append is short, and mixed in as it is.
pub(super) fn mix(command: &Bytes, mixer: &mut Mixer) {
    let Ok(append) = AppendView::parse(command) else { return mixer.bytes(command) };
    mixer.bytes(&command[..command.len() - append.batches.len()]);
    for batch in record::walk(&append.batches) {
        match batch {
            Ok((_, at)) => mixer.bytes(&append.batches[at.start..at.start + BATCH_HEADER_BYTES]),
            // It was never written so: every byte says something.
            Err(_) => return mixer.bytes(command),
        }
    }
}

/// Whether each batch's records are those of its checksum.
pub(super) fn check(command: &Bytes) -> Result<(), String> {
    let append = match AppendView::parse(command) {
        Ok(append) => append,
        // Whether it is a command at all, `apply` has said.
        Err(CommandError::Kind { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let is_whole = |batch: Result<(record::BatchHeader, std::ops::Range<usize>), BatchError>| {
        let (header, at) = batch?;
        record::check_crc(&header, &append.batches[at])
    };
    record::walk(&append.batches).try_for_each(is_whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::tests::{append, batch};
    use crate::partition::{Partition, encode_trim};
    use crate::replicated::Replicated;
    use crate::types::{LeaderEpoch, Offset, WallMs};

    fn mixed(command: &[u8]) -> u128 {
        let mut mixer = Mixer::default();
        Partition::mix(&Bytes::copy_from_slice(command), &mut mixer);
        mixer.finish()
    }

    /// Of an entry of two batches: any byte of a header or of the command changes the hash, any byte of the records
    /// is found by the check.
    #[test]
    fn every_byte_counts_for_the_hash_or_for_the_checksum() {
        let batches = [batch(3, 9, WallMs(5), None), batch(2, 9, WallMs(6), None)];
        let command = append(Offset(7), LeaderEpoch(1), WallMs(9), &batches);
        assert_eq!(Partition::check_checksums(&command), Ok(()));
        for at in 0..command.len() {
            let mut other = command.to_vec();
            other[at] ^= 1;
            let is_mixed = mixed(&other) != mixed(&command);
            let is_checked = Partition::check_checksums(&other.clone().into()).is_err();
            assert!(is_mixed || is_checked, "byte {at} of {}", command.len());
        }
        let trim = encode_trim(WallMs(1), Offset(2));
        assert_eq!(Partition::check_checksums(&trim), Ok(()));
        assert_ne!(mixed(&trim), mixed(&encode_trim(WallMs(1), Offset(3))));
    }
}
