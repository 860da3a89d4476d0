//! Offsets of a topic that is gone are not taken for offsets of its namesake (SAFETY M11).
//!
//! Looked at by the coordinator before it proposes, not in `apply`: the topic could be replaced between the two, but
//! then the member's holding of it is a later one, and `apply` refuses the commit for its old epoch.

use super::coordinator::tenure::Tenure;
use crate::broker::requests::groups::OffsetToCommit;

/// What is to be committed, and what is refused at once, with their places in the request.
pub struct Sorted {
    pub good: Vec<(u32, OffsetToCommit)>,
    pub refused: Vec<u32>,
}

impl Tenure {
    /// Sorts out the offsets of topics whose name another topic has. None: what is known here could not be
    /// confirmed, and a refusal of a deposed coordinator is worth nothing.
    pub async fn without_namesakes(&self, offsets: Vec<OffsetToCommit>) -> Option<Sorted> {
        let sorted = self.sort(offsets.clone());
        if sorted.refused.is_empty() {
            return Some(sorted);
        }
        self.confirmed_now().await.then(|| self.sort(offsets))
    }

    fn sort(&self, offsets: Vec<OffsetToCommit>) -> Sorted {
        let (good, refused): (Vec<_>, Vec<_>) = self.metadata.read(|state| {
            (0..).zip(offsets).partition(|(_, offset): &(u32, OffsetToCommit)| {
                let now = state.topic(&offset.at.topic).map(|topic| topic.id);
                // No topic at all: `apply` says so.
                now.is_none() || offset.topic_id.is_none() || now == offset.topic_id
            })
        });
        Sorted { good, refused: refused.into_iter().map(|(place, _)| place).collect() }
    }
}
