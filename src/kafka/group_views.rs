//! Groups as Kafka's messages name them.

use super::{limits, wire::StrBytes};
use crate::{
    broker::groups::GroupSummary,
    group::{
        GroupPhase, consumer_protocol,
        limits::{LABEL_BYTES_MAX, MEMBER_ID_BYTES_MAX},
    },
};

/// How module `broker` names the protocol of members whose partitions the server assigns.
const SERVER_ASSIGNED: &str = "flotilla";

/// The state of a group that does not exist.
pub(super) const DEAD: &str = "Dead";

/// Kafka's name of a state.
pub(super) fn state(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Empty => "Empty",
        GroupPhase::Stable => "Stable",
        // Old clients know none of the names that Kafka has for server-assigned groups.
        GroupPhase::Joining | GroupPhase::Rebalancing => "PreparingRebalance",
        GroupPhase::Syncing => "CompletingRebalance",
    }
}

/// Whether the server assigns the partitions of its members.
pub(super) fn is_server_assigned(group: &GroupSummary) -> bool {
    group.protocol == SERVER_ASSIGNED
}

/// Kafka's tools show groups of consumers, and those without members. Server-assigned members are consumers too.
pub(super) fn protocol_type(group: &GroupSummary) -> StrBytes {
    match is_server_assigned(group) {
        true => consumer_protocol::CONSUMER.into(),
        false => group.protocol.as_str().into(),
    }
}

/// Kafka's name of a group's type (KIP-848): who assigns.
pub(super) fn group_type(group: &GroupSummary) -> &'static str {
    if is_server_assigned(group) { "consumer" } else { "classic" }
}

/// Whether any member could have this id, or this instance id.
pub(super) fn may_be_member(id: &str, instance: Option<&str>) -> bool {
    id.len() <= MEMBER_ID_BYTES_MAX && instance.is_none_or(|instance| instance.len() <= LABEL_BYTES_MAX)
}

/// What a client says of itself, as far as a group keeps it: Kafka takes any text.
pub(super) fn label(text: &str) -> String {
    let mut label: String = text.chars().filter(|c| !c.is_control()).collect();
    label.truncate(label.floor_char_boundary(LABEL_BYTES_MAX));
    label
}

/// Room for the groups of one answer, in bytes.
pub(super) struct AnswerRoom {
    left: usize,
}

impl AnswerRoom {
    pub fn new() -> AnswerRoom {
        AnswerRoom { left: limits::GROUPS_ANSWER_BYTES_MAX }
    }

    /// Whether as many bytes fit beside those that were taken before.
    pub fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_kept_as_far_as_they_may_be() {
        assert_eq!(label("rdkafka"), "rdkafka");
        assert_eq!(label("a\nb\u{7f}c"), "abc");
        let long = "ä".repeat(LABEL_BYTES_MAX);
        assert_eq!(label(&long), "ä".repeat(LABEL_BYTES_MAX / 2));
    }

    #[test]
    fn an_answer_has_room_for_so_many_bytes() {
        let mut room = AnswerRoom::new();
        assert!(room.take(limits::GROUPS_ANSWER_BYTES_MAX - 1));
        assert!(!room.take(2), "it would be one too many");
        assert!(room.take(1), "what did not fit took nothing");
        assert!(!room.take(1));
    }
}
