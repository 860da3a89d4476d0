//! Sizes of partitions, each told by its leader, and whether leaders go by a change of their topic.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::Topics;
use crate::{
    broker::{
        limits,
        peers::calls::{Answer, Call},
        requests::{
            PartitionStats,
            here::{DirectoryView, ReplicaSize},
        },
    },
    types::{BrokerId, LogIndex, RaftGroupId, ms_u32},
};

impl Topics {
    /// Sizes of partitions, each asked of its leader, all brokers at once.
    pub(super) async fn stats_of(&self, groups: &[RaftGroupId]) -> BTreeMap<RaftGroupId, PartitionStats> {
        let asked = self.node.by_leader(groups).into_iter().map(|(leader, groups)| async move {
            let stats = if leader == self.node.me() {
                self.stats_here(&groups)
            } else {
                let call = Call::Stats { groups: groups.clone() };
                match self.node.call(leader, &call, limits::CALL_WITHIN).await {
                    Ok(Answer::Stats(stats)) => stats,
                    Ok(_) | Err(_) => Vec::new(),
                }
            };
            groups.into_iter().zip(stats).collect::<Vec<_>>()
        });
        let found = join_all(asked).await.into_iter().flatten();
        found.filter_map(|(group, stats)| stats.map(|stats| (group, stats))).collect()
    }

    /// The sizes of those partitions that this broker leads.
    pub fn stats_here(&self, groups: &[RaftGroupId]) -> Vec<Option<PartitionStats>> {
        let hosted = self.replicas.hosted_groups();
        let stats = groups.iter().take(limits::CALL_GROUPS_MAX).map(|group| {
            let hosted = hosted.get(group).filter(|hosted| hosted.is_ready())?;
            Some(hosted.group.read(|state| PartitionStats {
                log_start: state.log_start(),
                high_watermark: state.next_offset(),
                bytes: state.retained_bytes(),
            }))
        });
        stats.collect()
    }

    /// What the replicas here keep.
    pub fn directory(&self) -> DirectoryView {
        let replicas = self.replicas.hosted().into_iter().map(|hosted| ReplicaSize {
            at: hosted.name.clone(),
            bytes: hosted.group.read(|state| state.retained_bytes()),
        });
        DirectoryView { free_bytes: self.disk.free_bytes(), replicas: replicas.collect() }
    }

    /// Waits, for a bounded time, until the leaders of a topic's partitions go by the metadata up to `index`.
    pub(super) async fn wait_in_use(&self, topic: &str, groups: Vec<RaftGroupId>, index: LogIndex) {
        let leaders = groups.into_iter().filter_map(|group| self.node.raft.leader_of(group));
        let leaders: BTreeSet<BrokerId> = leaders.map(|leader| leader.broker).collect();
        let asked = leaders.into_iter().map(|leader| async move {
            let within = limits::CALL_WITHIN;
            if leader == self.node.me() {
                return (leader, self.replicas.uses_layout(index, within).await);
            }
            let within_ms = ms_u32(within);
            let answer = self.node.call(leader, &Call::LayoutInUse { index, within_ms }, within).await;
            (leader, matches!(answer, Ok(Answer::LayoutInUse(true))))
        });
        let silent: Vec<BrokerId> =
            join_all(asked).await.into_iter().filter(|(_, uses)| !uses).map(|(leader, _)| leader).collect();
        if !silent.is_empty() {
            // It is decided, and holds as soon as they hear of it: whoever leads in their place may already know.
            tracing::warn!(topic, ?silent, "leaders that did not say in time that they go by the new rules");
        }
    }
}
