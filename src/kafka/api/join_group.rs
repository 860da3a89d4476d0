//! JoinGroup: a member waits for the round of its group that it takes part in.

use std::time::Duration;

use bytes::Bytes;

use super::super::{
    call::{KafkaApi, WaitingApi},
    client::{Asked, CALLER},
    codes::{self, GroupAsk},
    group_views::label,
    wire::{JoinGroupRequest, JoinGroupResponse, StrBytes, join_group_response::JoinGroupResponseMember, message},
};
use crate::broker::groups::{ClassicJoin, ClassicJoined, GroupError};

/// From this version on a new member is told its id before it joins (KIP-394).
const ID_FIRST: i16 = 4;
/// From this version on a refusal names no protocol, not even an empty one.
const NULL_PROTOCOL: i16 = 7;
/// From this version on a leader may be told to leave the assignments as they are (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;

pub struct JoinGroup;

impl KafkaApi for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: (i16, i16) = (0, 9);

    async fn answer(asked: &Asked, request: JoinGroupRequest) -> JoinGroupResponse {
        let member = request.member_id.clone();
        match asked.client.shared.broker.classic_join(&CALLER, wish(asked, request)).await {
            Ok(joined) => joined_as(joined),
            Err(error) => refused(asked.version, member, &error),
        }
    }
}

impl WaitingApi for JoinGroup {}

fn wish(asked: &Asked, request: JoinGroupRequest) -> ClassicJoin {
    let rebalance_ms = match asked.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let protocols = request.protocols.into_iter().map(|protocol| (protocol.name.to_string(), protocol.metadata.into()));
    ClassicJoin {
        group: request.group_id.to_string().into(),
        member: request.member_id.to_string().into(),
        require_member_id: asked.version >= ID_FIRST,
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        client_id: label(asked.client_id.as_deref().unwrap_or_default()),
        // As Java writes an address.
        client_host: format!("/{}", asked.client.from.ip()),
        session_timeout: duration(request.session_timeout_ms),
        rebalance_timeout: duration(rebalance_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        skips_assignment: asked.version >= SKIPS_ASSIGNMENT,
    }
}

fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn joined_as(joined: ClassicJoined) -> JoinGroupResponse {
    let ClassicJoined { generation, member, protocol_type, protocol, leader, members, skip_assignment } = joined;
    let members = members.into_iter().map(|(id, instance, subscription)| {
        message!(JoinGroupResponseMember {
            member_id: id.0.into(),
            group_instance_id: instance.map(StrBytes::from),
            metadata: Bytes::from(subscription),
        })
    });
    message!(JoinGroupResponse {
        generation_id: generation,
        protocol_type: Some(protocol_type.into()),
        protocol_name: Some(protocol.into()),
        leader: leader.0.into(),
        skip_assignment: skip_assignment,
        member_id: member.0.into(),
        members: members.collect(),
    })
}

fn refused(version: i16, member: StrBytes, error: &GroupError) -> JoinGroupResponse {
    let member = match error {
        GroupError::MemberIdRequired { member, .. } => member.0.as_str().into(),
        _ => member,
    };
    message!(JoinGroupResponse {
        error_code: codes::of_group(error, GroupAsk::Join).value(),
        protocol_name: (version < NULL_PROTOCOL).then(StrBytes::default),
        member_id: member,
    })
}
