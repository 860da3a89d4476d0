//! SyncGroup: the group leader hands in the assignments, and each member waits for its own.

use bytes::Bytes;

use super::super::{
    call::{KafkaApi, WaitingApi},
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    wire::{SyncGroupRequest, SyncGroupResponse, message},
};
use crate::broker::groups::{ClassicSync, ClassicSynced};

/// From this version on a member must say which protocol it believes was chosen (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

pub struct SyncGroup;

impl KafkaApi for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: (i16, i16) = (0, 5);

    async fn answer(asked: &Asked, request: SyncGroupRequest) -> SyncGroupResponse {
        let is_silent = request.protocol_type.is_none() || request.protocol_name.is_none();
        if asked.version >= NAMES_PROTOCOL && is_silent {
            return refused(Code::InconsistentGroupProtocol);
        }
        let assignments =
            request.assignments.into_iter().map(|given| (given.member_id.to_string().into(), given.assignment.into()));
        let sync = ClassicSync {
            group: request.group_id.to_string().into(),
            generation: request.generation_id,
            member: request.member_id.to_string().into(),
            instance: request.group_instance_id.map(|instance| instance.to_string()),
            protocol_type: request.protocol_type.map(|name| name.to_string()),
            protocol: request.protocol_name.map(|name| name.to_string()),
            assignments: assignments.collect(),
        };
        match asked.client.shared.broker.classic_sync(&CALLER, sync).await {
            Ok(ClassicSynced { protocol_type, protocol, assignment }) => message!(SyncGroupResponse {
                protocol_type: Some(protocol_type.into()),
                protocol_name: Some(protocol.into()),
                assignment: Bytes::from(assignment),
            }),
            Err(error) => refused(codes::of_group(&error, GroupAsk::Member)),
        }
    }
}

impl WaitingApi for SyncGroup {}

fn refused(code: Code) -> SyncGroupResponse {
    message!(SyncGroupResponse { error_code: code.value() })
}
