//! What is worth knowing about partitions and groups, and is no problem: sentences for health reports and for the
//! descriptions of topics. Each broker speaks of what it leads.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    groups::lag_table::LagTable,
    limits,
    node::Node,
    peers::calls::{Answer, Call},
    replicas::Replicas,
};
use crate::types::RaftGroupId;

/// What this broker can say of partitions and groups.
pub struct Notes {
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    lag: Arc<LagTable>,
}

impl Notes {
    pub fn new(node: Arc<Node>, replicas: Arc<Replicas>, lag: Arc<LagTable>) -> Notes {
        Notes { node, replicas, lag }
    }

    /// For a health report.
    pub fn here(&self) -> Vec<String> {
        let mut notes = self.retention_notes(|_| true);
        notes.extend(self.lag.notes());
        notes
    }

    /// About retention in these partitions, as their leaders know it.
    pub async fn of(&self, groups: &[RaftGroupId]) -> Vec<String> {
        let asked = self.node.by_leader(groups).into_iter().map(|(leader, groups)| async move {
            if leader == self.node.me() {
                return self.of_here(&groups);
            }
            match self.node.call(leader, &Call::RetentionNotes { groups }, limits::CALL_WITHIN).await {
                Ok(Answer::RetentionNotes(notes)) => notes,
                Ok(_) | Err(_) => Vec::new(),
            }
        });
        bounded(join_all(asked).await.into_iter().flatten().collect())
    }

    /// Of those partitions that this broker leads.
    pub fn of_here(&self, groups: &[RaftGroupId]) -> Vec<String> {
        self.retention_notes(|group| groups.contains(&group))
    }

    fn retention_notes(&self, is_asked: impl Fn(RaftGroupId) -> bool) -> Vec<String> {
        let now = self.node.clock.wall();
        let hosted = self.replicas.hosted().into_iter();
        let led = hosted.filter(|hosted| is_asked(hosted.group.id()) && hosted.is_ready());
        bounded(led.flat_map(|hosted| hosted.retention_notes(now)).collect())
    }
}

fn bounded(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(limits::RETENTION_NOTES_MAX);
    if more > 0 {
        notes.truncate(limits::RETENTION_NOTES_MAX);
        notes.push(format!("and {more} more about retention"));
    }
    notes
}
