//! LeaveGroup: members say goodbye, or are sent away by their instance ids (KIP-345).

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    group_views::may_be_member,
    wire::{
        LeaveGroupRequest, LeaveGroupResponse, leave_group_request::MemberIdentity,
        leave_group_response::MemberResponse, message,
    },
};
use crate::{
    broker::groups::{GroupError, Leaver},
    group::limits::MEMBERS_PER_GROUP_MAX,
    types::GroupName,
};

/// From this version on one request is about many members.
const MANY_MEMBERS: i16 = 3;

pub struct LeaveGroup;

impl KafkaApi for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: (i16, i16) = (0, 5);

    async fn answer(asked: &Asked, request: LeaveGroupRequest) -> LeaveGroupResponse {
        let is_one = asked.version < MANY_MEMBERS;
        let members = match is_one {
            true => vec![message!(MemberIdentity { member_id: request.member_id })],
            false => request.members,
        };
        let left = match leave(asked, &request.group_id.to_string().into(), &members).await {
            Ok(left) => left,
            Err(error) => {
                return message!(LeaveGroupResponse { error_code: codes::of_group(&error, GroupAsk::Member).value() });
            }
        };
        if is_one {
            let code = left.first().copied().unwrap_or(Code::UnknownMemberId);
            return message!(LeaveGroupResponse { error_code: code.value() });
        }
        let members = members.into_iter().zip(left).map(|(member, code)| {
            message!(MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code.value(),
            })
        });
        message!(LeaveGroupResponse { members: members.collect() })
    }
}

/// What became of each, in their order. As many at once as a group may have.
async fn leave(asked: &Asked, group: &GroupName, members: &[MemberIdentity]) -> Result<Vec<Code>, GroupError> {
    let mut codes = Vec::with_capacity(members.len());
    for members in members.chunks(MEMBERS_PER_GROUP_MAX) {
        let is_possible =
            |member: &&MemberIdentity| may_be_member(&member.member_id, member.group_instance_id.as_deref());
        let leavers = members.iter().filter(is_possible).map(|member| Leaver {
            member: member.member_id.to_string().into(),
            instance: member.group_instance_id.as_deref().map(str::to_string),
        });
        let left = asked.client.shared.broker.group_leave(&CALLER, group, leavers.collect()).await?;
        let mut left = left.into_iter();
        codes.extend(members.iter().map(|member| match is_possible(&member).then(|| left.next()).flatten() {
            Some((_, None)) => Code::None,
            Some((_, Some(error))) => codes::of_group(&error, GroupAsk::Member),
            None => Code::UnknownMemberId,
        }));
    }
    Ok(codes)
}
