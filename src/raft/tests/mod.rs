//! Three nodes in one process over loopback TCP and simulated disks, with the least state machine
//! that can show a lost, repeated or reordered command.

mod behind;
mod cluster;
mod hostile;
mod reads;
mod split;
mod stall;
mod suite;
mod transfer;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    replicated::{Applied, CannotApply, Replicated, SnapshotAt, StateDecodeError},
    types::EntryPosition,
};

/// Remembers every number it was given, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    pub numbers: Vec<u64>,
}

impl Replicated for Journal {
    const SNAPSHOT_AT: SnapshotAt = SnapshotAt::LastApplied;

    fn apply(&mut self, _at: EntryPosition, command: &Bytes) -> Result<Applied, CannotApply> {
        self.numbers.push(command.clone().get_u64());
        let response = Bytes::copy_from_slice(&(self.numbers.len() as u64).to_be_bytes());
        Ok(Applied { response, index_point: None })
    }

    fn checkpoint_due(&self, _command: &Bytes) -> bool {
        false
    }

    fn checkpoint_taken(&mut self, _at: EntryPosition) {}

    fn purge_point(&self) -> Option<EntryPosition> {
        None
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.numbers.iter().for_each(|number| out.put_u64(*number));
        out.freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StateDecodeError> {
        if !bytes.len().is_multiple_of(8) {
            return Err(StateDecodeError::Malformed(format!("{} bytes", bytes.len())));
        }
        let numbers = bytes.chunks(8).map(|mut chunk| chunk.get_u64()).collect();
        Ok(Journal { numbers })
    }
}
