//! What is left of deleted groups (SAFETY M11). A tombstone remembers which entry of the metadata log
//! deleted its group: metadata forgets it once all brokers have confirmed, and a restart forgets the rest,
//! so nothing else can tell when the tombstone may go.

use super::{Family, ScanLimit, Store, StoreError, WriteBatch, formats, keys, store::damaged};
use crate::types::{LogIndex, RaftGroupId};

/// A deleted group, and the entry of the metadata log that deleted it. None: a version that did not say.
pub type Tombstone = (RaftGroupId, Option<LogIndex>);

impl Store {
    #[cfg(test)]
    pub async fn tombstoned(&self, group: RaftGroupId) -> Result<bool, StoreError> {
        Ok(self.0.get(Family::State, &keys::tombstone(group)).await?.is_some())
    }

    /// The tombstones of groups from `from` on, by id, so many at most.
    pub async fn tombstones(&self, from: RaftGroupId, max: usize) -> Result<Vec<Tombstone>, StoreError> {
        let limit = ScanLimit { pairs: max, bytes: usize::MAX };
        let found = self.0.scan(Family::State, keys::tombstones(from), limit, false).await?;
        let tombstones = found.into_iter().map(|(key, value)| {
            let group = keys::read_tombstone(&key).ok_or_else(|| damaged("a tombstone has a malformed key".into()))?;
            let deleted_at = formats::read_tombstone(value)
                .map_err(|error| damaged(format!("the tombstone of raft group {group} cannot be read: {error}")))?;
            Ok((group, deleted_at))
        });
        tombstones.collect()
    }

    /// Lets tombstones go, and writes down when groups were deleted of whose deletion that was not known.
    /// Unsynced: what a crash undoes is done again.
    pub async fn settle_tombstones(
        &self,
        cleared: &[RaftGroupId],
        dated: &[(RaftGroupId, LogIndex)],
    ) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for group in cleared {
            batch.delete(Family::State, keys::tombstone(*group));
        }
        for (group, deleted_at) in dated {
            batch.put(Family::State, keys::tombstone(*group), formats::tombstone(*deleted_at));
        }
        Ok(self.0.writer.write(batch, false).await?)
    }

    /// Leaves a tombstone as version 1 did, without the entry that deleted the group.
    #[cfg(test)]
    pub(crate) async fn undated_tombstone(&self, group: RaftGroupId) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(Family::State, keys::tombstone(group), &b"\x01"[..]);
        Ok(self.0.writer.write(batch, true).await?)
    }
}
