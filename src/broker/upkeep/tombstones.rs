//! Forgets which groups were deleted here, once nothing can bring them back (SAFETY M11).
//!
//! A tombstone keeps a deleted group from being opened again by metadata that is older than the deletion.
//! Such metadata exists here as long as the log of metadata reaches back before the entry that deleted the
//! group: a start may apply it again. Once the log is purged past that entry there is none: the state below
//! the purge point is on disk, and knows of the deletion. A crash keeps that order, since the purge was
//! queued to the one writer before the tombstone's end is.

use crate::{
    storage::{Store, StoreError},
    types::{LogIndex, RaftGroupId},
};

/// Tombstones looked at in one pass: one short read, and one small write.
const TOMBSTONES_PER_PASS: usize = 1_000;

/// Which tombstones were looked at. Deletions are in no order of group ids, so all are looked at again
/// each time the log was purged, which is once in thousands of entries.
#[derive(Default)]
pub(in crate::broker) struct Tombstones {
    /// All that this purge point allows is done.
    settled: Option<LogIndex>,
    /// Where the next pass goes on, and the purge point that it goes by.
    next: Option<(RaftGroupId, LogIndex)>,
}

impl Tombstones {
    /// One pass, bounded. `purged`, `last`: of the log of metadata here.
    pub async fn pass(
        &mut self,
        store: &Store,
        purged: Option<LogIndex>,
        last: Option<LogIndex>,
    ) -> Result<(), StoreError> {
        let (from, upto) = match (self.next, purged) {
            (Some(next), _) => next,
            (None, Some(purged)) if self.settled < Some(purged) => (RaftGroupId(0), purged),
            (None, _) => return Ok(()),
        };
        let found = store.tombstones(from, TOMBSTONES_PER_PASS).await?;
        let gone = found.iter().filter(|(_, deleted_at)| deleted_at.is_some_and(|at| at <= upto));
        let gone: Vec<RaftGroupId> = gone.map(|(group, _)| *group).collect();
        // The deletion was applied here, so its entry is in the log or was: it is none of those to come.
        let undated = found.iter().filter(|(_, deleted_at)| deleted_at.is_none());
        let dated: Vec<_> = undated.filter_map(|(group, _)| Some((*group, last?))).collect();
        if !gone.is_empty() || !dated.is_empty() {
            store.settle_tombstones(&gone, &dated).await?;
            tracing::debug!(gone = gone.len(), purged = %upto, "tombstones of deleted groups are let go");
        }
        let after = found.last().and_then(|(group, _)| group.0.checked_add(1)).map(RaftGroupId);
        self.next = after.filter(|_| found.len() >= TOMBSTONES_PER_PASS).map(|after| (after, upto));
        if self.next.is_none() {
            self.settled = Some(upto);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        storage::{OpenLogError, SimDisk, StoreOptions, WriterProbe},
        types::ReplicaId,
    };

    async fn open(disk: &SimDisk) -> Store {
        let fail = Arc::new(|error: &_| panic!("{error:?}"));
        Store::open(Arc::new(disk.open()), StoreOptions::default(), WriterProbe::default(), fail).await.unwrap()
    }

    async fn tombstoned(store: &Store, groups: u64) -> Vec<u64> {
        let mut found = vec![];
        for group in 1..=groups {
            if store.tombstoned(RaftGroupId(group)).await.unwrap() {
                found.push(group);
            }
        }
        found
    }

    fn at(index: u64) -> Option<LogIndex> {
        Some(LogIndex(index))
    }

    #[tokio::test]
    async fn m11_a_tombstone_goes_when_the_log_is_purged_past_its_deletion_and_not_before() {
        let disk = SimDisk::new(1);
        let store = open(&disk).await;
        // Not in the order of their ids.
        for (group, deleted_at) in [(1, 30), (2, 10), (3, 20)] {
            store.delete_group(RaftGroupId(group), LogIndex(deleted_at)).await.unwrap();
        }
        let mut tombstones = Tombstones::default();
        tombstones.pass(&store, None, at(99)).await.unwrap();
        assert_eq!(tombstoned(&store, 3).await, [1, 2, 3], "nothing is purged");
        tombstones.pass(&store, at(9), at(99)).await.unwrap();
        assert_eq!(tombstoned(&store, 3).await, [1, 2, 3], "all deletions may be applied again");
        tombstones.pass(&store, at(19), at(99)).await.unwrap();
        assert_eq!(tombstoned(&store, 3).await, [1, 3]);
        store.close().await.unwrap();

        // What is known of the deletions survives a restart.
        let store = open(&disk).await;
        let mut tombstones = Tombstones::default();
        tombstones.pass(&store, at(29), at(99)).await.unwrap();
        assert_eq!(tombstoned(&store, 3).await, [1]);
        let again = store.open_log(RaftGroupId(1), ReplicaId(5_000)).await;
        assert!(matches!(again, Err(OpenLogError::Tombstoned { .. })), "metadata older than its deletion has it");
        tombstones.pass(&store, at(30), at(99)).await.unwrap();
        assert_eq!(tombstoned(&store, 3).await, [0; 0]);
    }

    #[tokio::test]
    async fn one_pass_looks_at_so_many_and_the_next_goes_on() {
        const GROUPS: u64 = TOMBSTONES_PER_PASS as u64 * 2 + 10;
        let store = open(&SimDisk::new(2)).await;
        for group in 1..=GROUPS {
            store.delete_group(RaftGroupId(group), LogIndex(group)).await.unwrap();
        }
        let mut tombstones = Tombstones::default();
        for left in [GROUPS - 1_000, GROUPS - 2_000, 0] {
            tombstones.pass(&store, at(GROUPS), at(GROUPS)).await.unwrap();
            assert_eq!(tombstoned(&store, GROUPS).await.len() as u64, left);
        }
    }

    /// They say nothing of the deletion; but it lies in the log of metadata as it is now.
    #[tokio::test]
    async fn tombstones_of_an_older_version_go_when_the_log_is_purged_past_its_present_end() {
        let disk = SimDisk::new(3);
        let store = open(&disk).await;
        store.undated_tombstone(RaftGroupId(1)).await.unwrap();
        Tombstones::default().pass(&store, at(5), at(50)).await.unwrap();
        for (purged, left) in [(49, &[1][..]), (50, &[])] {
            // At each start it is known already, whatever the log's end is by then.
            Tombstones::default().pass(&store, at(purged), at(1_000)).await.unwrap();
            assert_eq!(tombstoned(&store, 1).await, left, "purged up to {purged}");
        }
    }
}
