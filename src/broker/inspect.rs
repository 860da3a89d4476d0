//! A broker as a simulation sees it from outside, between two of its steps: nothing here waits, changes anything, or
//! keeps the broker alive.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{Broker, parts::Parts, replica::Bounds};
use crate::{
    metadata::Metadata,
    partition::Partition,
    raft::{Replica, ReplicaLook, Status},
    replicated::Replicated,
    storage::LogEntry,
    types::{BrokerId, LogIndex, METADATA_GROUP, RaftGroupId, ReplicaId},
};

/// Looks into one broker for as long as that lives.
#[derive(Clone)]
pub struct Inspector(Weak<Parts>);

/// One Raft group as this broker's replica of it stands.
#[derive(Clone, Debug)]
pub struct GroupLook {
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    pub raft: ReplicaLook,
    pub status: Status,
    /// Of a partition only.
    pub bounds: Option<Bounds>,
}

impl Broker {
    pub fn inspector(&self) -> Inspector {
        Inspector(Arc::downgrade(&self.parts))
    }
}

impl Inspector {
    /// Every group that has a replica here, the metadata group first. Nothing once the broker is gone.
    pub fn look(&self) -> Vec<GroupLook> {
        let Some(parts) = self.0.upgrade() else { return vec![] };
        let metadata = parts.node.metadata().map(|metadata| look(&metadata, None));
        let hosted = parts.replicas.hosted();
        let partitions = hosted.iter().map(|hosted| look(&hosted.group, Some(hosted.bounds())));
        metadata.into_iter().chain(partitions).collect()
    }

    /// Entries `from..to` of a group's log, if they are all in memory.
    pub fn recent(&self, group: RaftGroupId, from: LogIndex, to: LogIndex) -> Option<Vec<LogEntry>> {
        self.of(
            group,
            |metadata| metadata.log().read_recent(from, to, usize::MAX),
            |partition| partition.log().read_recent(from, to, usize::MAX),
        )?
    }

    /// The whole applied state of a group, as a checkpoint would hold it, and behind it what a checkpoint may have
    /// left out, which shows once a replica has begun from one; and whether it is a checkpoint: a state that was taken as
    /// one knows of that from then on, before the next entry is applied (`Replicated::checkpoint_taken`).
    pub fn state(&self, group: RaftGroupId) -> Option<(Bytes, bool)> {
        let partition = |state: &Partition| {
            let beside = (state.log_start(), state.next_offset(), state.producer_count());
            let bytes: Bytes = [&state.encode()[..], format!("{beside:?}").as_bytes()].concat().into();
            (bytes, state.checkpoints().last().map(|checkpoint| checkpoint.position.index))
        };
        self.of(
            group,
            |metadata| (metadata.read(Replicated::encode), false),
            |of| {
                let (bytes, checkpoint) = of.read(partition);
                (bytes, checkpoint.is_some_and(|index| LogIndex(index.0 + 1) == of.state_next()))
            },
        )
    }

    /// The voters of a group, as this broker's replica of it has them.
    pub fn voters(&self, group: RaftGroupId) -> Option<Vec<BrokerId>> {
        let voters = self.of(group, Replica::voters, Replica::voters)?;
        Some(voters.into_iter().map(|(_, broker)| broker).collect())
    }

    fn of<T>(
        &self,
        group: RaftGroupId,
        metadata: impl FnOnce(&Replica<Metadata>) -> T,
        partition: impl FnOnce(&Replica<Partition>) -> T,
    ) -> Option<T> {
        let parts = self.0.upgrade()?;
        if group == METADATA_GROUP {
            return parts.node.metadata().as_ref().map(metadata);
        }
        parts.replicas.hosted_group(group).map(|hosted| partition(&hosted.group))
    }
}

fn look<S: Replicated>(replica: &Replica<S>, bounds: Option<Bounds>) -> GroupLook {
    GroupLook {
        group: replica.id(),
        replica: replica.replica(),
        raft: replica.look(),
        status: replica.status().borrow().clone(),
        bounds,
    }
}
