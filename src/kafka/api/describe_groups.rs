//! DescribeGroups: the members of groups, and what they read.

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    group_views::{self, AnswerRoom, DEAD},
    wire::{
        self, DescribeGroupsRequest, DescribeGroupsResponse, StrBytes,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        message,
    },
};
use crate::{
    broker::groups::{GroupDescription, GroupError, GroupMember},
    group::GroupPhase,
};

/// From this version on a group that does not exist is an error, told in words (KIP-1043).
const SAYS_UNKNOWN: i16 = 6;
/// Groups of one request that are looked at at once.
const AT_ONCE: usize = 8;
/// An upper bound of what a member's lengths take in an answer.
const MEMBER_BYTES: usize = 64;

pub struct DescribeGroups;

impl KafkaApi for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: (i16, i16) = (0, 6);

    async fn answer(asked: &Asked, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let mut room = AnswerRoom::new();
        let mut groups = Vec::with_capacity(request.groups.len());
        let broker = &asked.client.shared.broker;
        let mut described = stream::iter(request.groups)
            .map(|group| async move {
                let described = broker.describe_group(&CALLER, &group.to_string().into()).await;
                (group, described)
            })
            .buffered(AT_ONCE);
        while let Some((group, described)) = described.next().await {
            groups.push(match described {
                Ok(known) => fitting(group, known, &mut room),
                Err(error) => refused(asked.version, group, &error),
            });
        }
        message!(DescribeGroupsResponse { groups: groups })
    }
}

fn fitting(group: StrBytes, known: GroupDescription, room: &mut AnswerRoom) -> DescribedGroup {
    let described = described(group, known);
    let bytes = |member: &DescribedGroupMember| {
        let labels = member.member_id.len() + member.client_id.len() + member.client_host.len();
        MEMBER_BYTES + labels + member.member_metadata.len() + member.member_assignment.len()
    };
    match room.take(MEMBER_BYTES + described.members.iter().map(bytes).sum::<usize>()) {
        true => described,
        false => message!(DescribedGroup { group_id: described.group_id, error_code: Code::InvalidRequest.value() }),
    }
}

fn described(group: StrBytes, known: GroupDescription) -> DescribedGroup {
    // As Kafka has it: while members join they have no protocol yet.
    let has_protocol = match known.summary.phase {
        GroupPhase::Stable | GroupPhase::Rebalancing => true,
        GroupPhase::Empty | GroupPhase::Joining | GroupPhase::Syncing => false,
    };
    let protocol = if has_protocol { StrBytes::from(known.assignor) } else { StrBytes::default() };
    message!(DescribedGroup {
        group_id: group,
        group_state: group_views::state(known.summary.phase).into(),
        protocol_type: group_views::protocol_type(&known.summary),
        protocol_data: protocol,
        members: known.members.into_iter().map(|known| member(known, has_protocol)).collect(),
    })
}

fn member(known: GroupMember, has_protocol: bool) -> DescribedGroupMember {
    let GroupMember { member, instance, client_id, client_host, subscription, assigned, classic, .. } = known;
    let (subscription, assignment) = match classic {
        Some((subscription, assignment)) => (Bytes::from(subscription), Bytes::from(assignment)),
        // Told in the words of Kafka's consumers, which is what tools read.
        None => {
            let partitions = assigned.iter().map(|(topic, numbers)| (topic.as_str(), numbers.as_slice()));
            (wire::consumer_subscription(&subscription.topics), wire::consumer_assignment(partitions))
        }
    };
    let mut described = message!(DescribedGroupMember {
        member_id: member.0.into(),
        group_instance_id: instance.map(StrBytes::from),
        client_id: client_id.into(),
        client_host: client_host.into(),
    });
    if has_protocol {
        (described.member_metadata, described.member_assignment) = (subscription, assignment);
    }
    described
}

fn refused(version: i16, group: StrBytes, error: &GroupError) -> DescribedGroup {
    let code = codes::of_group(error, GroupAsk::Admin);
    let mut described = message!(DescribedGroup { group_id: group });
    if code == Code::GroupIdNotFound {
        described.group_state = DEAD.into();
        if version < SAYS_UNKNOWN {
            return described;
        }
    }
    described.error_code = code.value();
    described.error_message = (version >= SAYS_UNKNOWN).then(|| codes::words(error));
    described
}
