//! Heartbeat: a member is alive, and hears whether its group rebalances.

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    wire::{HeartbeatRequest, HeartbeatResponse, message},
};
use crate::broker::groups::ClassicBeat;

pub struct Heartbeat;

impl KafkaApi for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: (i16, i16) = (0, 4);

    async fn answer(asked: &Asked, request: HeartbeatRequest) -> HeartbeatResponse {
        let beat = ClassicBeat {
            group: request.group_id.to_string().into(),
            generation: request.generation_id,
            member: request.member_id.to_string().into(),
            instance: request.group_instance_id.map(|instance| instance.to_string()),
        };
        let heard = asked.client.shared.broker.classic_heartbeat(&CALLER, beat).await;
        let code = heard.map_or_else(|error| codes::of_group(&error, GroupAsk::Member), |()| Code::None);
        message!(HeartbeatResponse { error_code: code.value() })
    }
}
