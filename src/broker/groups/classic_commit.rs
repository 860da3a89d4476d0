//! OffsetCommit as Kafka takes it: of any size, in the order in which it came, and by Kafka's rules of who may.
//!
//! Promises: a member's commits are applied in the order of the calls ([`turns`](super::turns)); what one entry cannot
//! hold goes in several, one after the other, and each offset that is not committed is named. Only the coordinator takes
//! them, if Kafka's clients can find it. Leaves out: judging members and partitions, which `apply` does.
//!
//! **Why only the coordinator.** A broker that stood still finds in its sockets what its clients have meanwhile sent to its
//! successor, with what came after it. Such a commit carries no number; passed on, or tried again in a later term, it
//! would take back what was acknowledged since. (A run of chaos with librdkafka saw that: a leader paused for four
//! seconds.) Kafka's brokers refuse it alike.

use super::{classic_rules, limits, part::Groups, turns::Turn};
use crate::{
    broker::{
        errors::Effect,
        requests::groups::{CommitRequest, GroupError, OffsetToCommit},
    },
    group::{OffsetRefusal, limits::OFFSET_METADATA_BYTES_MAX},
    types::{GroupName, MemberId, TopicPartition},
};

/// Offsets that were not committed, and why.
type RefusedOffsets = Vec<(TopicPartition, GroupError)>;

impl Groups {
    /// `turn`: taken when the request came. A generation below zero is none: who is no member commits, which it may
    /// while there are none.
    pub async fn classic_commit(
        &self,
        mut commit: CommitRequest,
        mut turn: Turn,
    ) -> Result<RefusedOffsets, GroupError> {
        classic_rules::group_name(&commit.group)?;
        if commit.member.is_empty() && commit.epoch >= 0 {
            let (group, member) = (commit.group, commit.member);
            return Err(GroupError::UnknownMember { group, member });
        }
        let (offsets, mut refused) = without_long_metadata(&commit.group, &commit.member, &mut commit.offsets);
        let mut pieces = pieces(offsets).into_iter();
        turn.wait().await;
        let is_passed_on = !self.is_coordinator_found_by_kafka();
        let mut is_first = true;
        while let Some(offsets) = pieces.next() {
            let places: Vec<TopicPartition> = offsets.iter().map(|offset| offset.at.clone()).collect();
            match self.commit(CommitRequest { offsets, ..commit.clone() }, is_passed_on).await {
                Ok(more) => refused.extend(more),
                Err(error) => {
                    if error.effect() == Effect::None {
                        turn.settled();
                    }
                    if is_first {
                        return Err(error);
                    }
                    let rest = pieces.flatten().map(|offset| offset.at);
                    refused.extend(places.into_iter().chain(rest).map(|at| (at, error.clone())));
                    return Ok(refused);
                }
            }
            is_first = false;
        }
        turn.settled();
        Ok(refused)
    }
}

/// What fits an entry, and the others with their refusal.
fn without_long_metadata(
    group: &GroupName,
    member: &MemberId,
    offsets: &mut Vec<OffsetToCommit>,
) -> (Vec<OffsetToCommit>, RefusedOffsets) {
    let max = OFFSET_METADATA_BYTES_MAX;
    let (good, long): (Vec<_>, Vec<_>) =
        std::mem::take(offsets).into_iter().partition(|offset| offset.metadata.len() <= max);
    let refused = long.into_iter().map(|OffsetToCommit { at, metadata, .. }| {
        // Limited to far less.
        let refusal = OffsetRefusal::MetadataTooLarge { bytes: metadata.len() as u32, max: max as u32 };
        (at.clone(), GroupError::OffsetRefused { group: group.clone(), member: member.clone(), at, refusal })
    });
    (good, refused.collect())
}

/// In pieces that one request may hold, in order.
fn pieces(offsets: Vec<OffsetToCommit>) -> Vec<Vec<OffsetToCommit>> {
    let mut pieces: Vec<Vec<OffsetToCommit>> = Vec::new();
    let mut bytes = 0;
    for offset in offsets {
        let more = offset.at.topic.len() + offset.metadata.len() + OFFSET_NUMBERS_BYTES;
        let fits = |piece: &&mut Vec<OffsetToCommit>| {
            piece.len() < limits::OFFSETS_PER_REQUEST_MAX && bytes + more <= limits::COMMIT_PIECE_BYTES_MAX
        };
        match pieces.last_mut().filter(fits) {
            Some(piece) => piece.push(offset),
            None => {
                pieces.push(vec![offset]);
                bytes = 0;
            }
        }
        bytes += more;
    }
    pieces
}

/// An upper bound of what the numbers, tags and lengths of one offset take.
const OFFSET_NUMBERS_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Offset, PartitionId};

    fn offset(number: usize, metadata: usize) -> OffsetToCommit {
        let at = TopicPartition { topic: "t".into(), partition: PartitionId(number as i32) };
        let metadata = "x".repeat(metadata);
        OffsetToCommit { at, topic_id: None, offset: Offset(1), leader_epoch: None, metadata }
    }

    #[test]
    fn pieces_hold_what_one_request_may_in_order() {
        let sizes = |offsets: Vec<OffsetToCommit>| {
            let numbers: Vec<_> = offsets.iter().map(|offset| offset.at.clone()).collect();
            let pieces = pieces(offsets);
            assert_eq!(pieces.iter().flatten().map(|offset| offset.at.clone()).collect::<Vec<_>>(), numbers);
            pieces.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(vec![]), [0; 0]);
        let max = limits::OFFSETS_PER_REQUEST_MAX;
        assert_eq!(sizes((0..2 * max + 1).map(|n| offset(n, 0)).collect()), [max, max, 1]);
        let each = 1_000;
        let fit = limits::COMMIT_PIECE_BYTES_MAX / (1 + each + OFFSET_NUMBERS_BYTES);
        assert_eq!(sizes((0..2 * fit).map(|n| offset(n, each)).collect()), [fit, fit]);
        let huge = limits::COMMIT_PIECE_BYTES_MAX + 1;
        assert_eq!(sizes(vec![offset(0, 0), offset(1, huge), offset(2, 0)]), [1, 1, 1]);
    }

    #[test]
    fn long_metadata_is_refused_by_itself() {
        let max = OFFSET_METADATA_BYTES_MAX;
        let mut asked = vec![offset(0, max), offset(1, max + 1), offset(2, 0)];
        let (good, refused) = without_long_metadata(&"g".into(), &"m".into(), &mut asked);
        assert_eq!(good.iter().map(|offset| offset.at.partition.0).collect::<Vec<_>>(), [0, 2]);
        let [(at, GroupError::OffsetRefused { refusal, .. })] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(at.partition.0, 1);
        assert_eq!(*refusal, OffsetRefusal::MetadataTooLarge { bytes: 4_097, max: 4_096 });
    }
}
