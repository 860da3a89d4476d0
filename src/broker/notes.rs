//! What is worth knowing about partitions and groups, and is no problem: sentences for health reports and for the
//! descriptions of topics. Each broker speaks of what it leads.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{
    inner::Inner,
    limits,
    peers::calls::{Answer, Call},
};
use crate::types::{BrokerId, RaftGroupId};

impl Inner {
    /// For a health report.
    pub fn notes_here(&self) -> Vec<String> {
        let mut notes = self.retention_notes(|_| true);
        notes.extend(self.groups.lag.notes());
        notes
    }

    /// About retention in these partitions, as their leaders know it.
    pub async fn retention_notes_of(&self, groups: &[RaftGroupId]) -> Vec<String> {
        let asked = self.by_leader(groups).into_iter().map(|(leader, groups)| async move {
            if leader == self.me() {
                return self.retention_notes_here(&groups);
            }
            match self.call(leader, &Call::RetentionNotes { groups }, limits::CALL_WITHIN).await {
                Ok(Answer::RetentionNotes(notes)) => notes,
                Ok(_) | Err(_) => Vec::new(),
            }
        });
        bounded(join_all(asked).await.into_iter().flatten().collect())
    }

    /// Of those partitions that this broker leads.
    pub fn retention_notes_here(&self, groups: &[RaftGroupId]) -> Vec<String> {
        self.retention_notes(|group| groups.contains(&group))
    }

    fn retention_notes(&self, is_asked: impl Fn(RaftGroupId) -> bool) -> Vec<String> {
        let now = self.clock.wall();
        let hosted = self.routes.hosted().into_iter();
        let led = hosted.filter(|hosted| is_asked(hosted.group.id()) && hosted.is_ready());
        bounded(led.flat_map(|hosted| hosted.retention_notes(now)).collect())
    }

    /// Who is to be asked about partitions: those whose leader is known.
    pub fn by_leader(&self, groups: &[RaftGroupId]) -> BTreeMap<BrokerId, Vec<RaftGroupId>> {
        let mut by_leader: BTreeMap<BrokerId, Vec<RaftGroupId>> = BTreeMap::new();
        for group in groups {
            if let Some(leader) = self.raft.leader_of(*group) {
                by_leader.entry(leader.broker).or_default().push(*group);
            }
        }
        by_leader
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
