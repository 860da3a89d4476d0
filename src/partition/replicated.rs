//! The partition as the Raft side drives it: commands are decoded here, applied by `state`, and encoded by `encoding`.

use bytes::Bytes;

use super::command::{CommandView, TrimView};
use super::state::{Checkpoint, Partition, Segment};
use super::{checked, encoding};
use crate::replicated::{Applied, CannotApply, Replicated, SnapshotAt, StateDecodeError};
use crate::rolling::Mixer;
use crate::seam::plant::{self, Plant};
use crate::types::EntryPosition;

impl Replicated for Partition {
    const SNAPSHOT_AT: SnapshotAt = SnapshotAt::PurgePoint;

    /// An error if the command is not one of ours, or of a newer version: a replica that cannot apply what the
    /// others apply must stop.
    fn apply(&mut self, at: EntryPosition, command: &Bytes) -> Result<Applied, CannotApply> {
        let (response, index_point) = match CommandView::parse(command) {
            Ok(CommandView::Append(append)) => self.apply_append(at, &append)?,
            Ok(CommandView::Trim(trim)) => (self.apply_trim(trim), None),
            Ok(CommandView::Resize(resize)) => (self.apply_resize(resize), None),
            Err(error) => return Err(CannotApply(error.to_string())),
        };
        Ok(Applied { response: response.encode(), index_point })
    }

    /// True before a live append that would extend a full or old segment; and before a trim into the current segment,
    /// because no checkpoint at or below its log start could ever be near it otherwise. Never twice without a live
    /// entry in between: the second would say the same.
    fn checkpoint_due(&self, command: &Bytes) -> bool {
        match CommandView::parse(command) {
            Ok(CommandView::Append(append)) => {
                append.base_offset == self.next_offset && self.segment_is_due(append.append_time)
            }
            Ok(CommandView::Trim(TrimView { before, .. })) => {
                let in_segment = before > self.last_checkpoint().0.max(self.log_start) && before <= self.next_offset;
                in_segment && self.segment.first_append.is_some()
            }
            Ok(CommandView::Resize(_)) => false,
            // `apply` will say so.
            Err(_) => false,
        }
    }

    fn checkpoint_taken(&mut self, at: EntryPosition) {
        let last = self.checkpoints.last().map(|last| last.position);
        assert!(last < Some(at), "checkpoint at {at} after one at {last:?}");
        self.checkpoints.push(Checkpoint {
            position: at,
            next_offset: self.next_offset,
            bytes_before: self.bytes,
            segment_max_timestamp: self.segment.max_timestamp,
        });
        self.segment = Segment::default();
        // A reader that starts from this checkpoint finds a point right behind it.
        self.bytes_to_point = 0;
    }

    /// The newest checkpoint at or below the log start. None, or an older one, also right after a snapshot was
    /// installed, until the trim that follows it is applied: the state is what it was *at* the checkpoint, before the
    /// log start moved.
    fn purge_point(&self) -> Option<EntryPosition> {
        let upto = if plant::on(Plant::PurgesWhatIsKept) { self.next_offset } else { self.log_start };
        let newest = self.checkpoints_up_to(upto).checked_sub(1)?;
        Some(self.checkpoints[newest].position)
    }

    fn has_checkpoint(&self, at: EntryPosition) -> bool {
        self.checkpoints.binary_search_by_key(&at, |checkpoint| checkpoint.position).is_ok()
    }

    /// A checkpoint at a later entry than the last one would break an assert when the next is taken.
    fn can_be_after(&self, at: Option<EntryPosition>) -> bool {
        self.checkpoints.last().is_none_or(|last| at.is_some_and(|at| last.position.is_up_to(at)))
    }

    fn mix(command: &Bytes, mixer: &mut Mixer) {
        checked::mix(command, mixer);
    }

    fn check_checksums(command: &Bytes) -> Result<(), String> {
        checked::check(command)
    }

    fn encode(&self) -> Bytes {
        encoding::encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, StateDecodeError> {
        encoding::decode(bytes)
    }
}
