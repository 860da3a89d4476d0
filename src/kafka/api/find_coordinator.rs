//! FindCoordinator: who takes the requests of a consumer group.
//!
//! The metadata leader coordinates every group. It is named if it is known and has a Kafka listener; else whoever answers this
//! is, since then every broker passes on to the leader what it is asked. (Commits are passed on only then.)

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER, Lane},
    codes::Code,
    views::{Endpoint, NOBODY},
    wire::{
        FindCoordinatorRequest, FindCoordinatorResponse, StrBytes, find_coordinator_response::Coordinator, message,
    },
};
use crate::broker::TopicsWanted;

/// Kafka's types of keys.
const GROUP: i8 = 0;
/// From this version on one request asks for many keys (KIP-699).
const MANY_KEYS: i16 = 4;

pub struct FindCoordinator;

impl KafkaApi for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const VERSIONS: (i16, i16) = (0, 6);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let found = find(asked, request.key_type).await;
        if asked.version >= MANY_KEYS {
            let coordinators = request.coordinator_keys.into_iter().map(|key| coordinator(key, &found)).collect();
            return message!(FindCoordinatorResponse { coordinators: coordinators });
        }
        let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinator(request.key, &found);
        let mut response =
            message!(FindCoordinatorResponse { node_id: node_id, host: host, port: port, error_code: error_code });
        if asked.version >= 1 {
            response.error_message = error_message;
        }
        response
    }
}

type FoundCoordinator = Result<Endpoint, (Code, &'static str)>;

async fn find(asked: &Asked, key_type: i8) -> FoundCoordinator {
    if key_type != GROUP {
        // A code after which clients give up at once: there are no transactions, and no share groups.
        return Err((Code::TransactionalIdAuthorizationFailed, "transactions are not supported"));
    }
    let broker = &asked.client.shared.broker;
    let view = broker.cluster_view(&CALLER, TopicsWanted::None).await;
    let leader = view.metadata_leader.and_then(|leader| view.brokers.iter().find(|known| known.id == leader.broker));
    let me = view.brokers.iter().find(|known| known.id == broker.id());
    let named = leader.filter(|leader| leader.alive).and_then(Endpoint::of).or_else(|| me.and_then(Endpoint::of));
    named.ok_or((Code::CoordinatorNotAvailable, "no broker with a Kafka listener is known"))
}

fn coordinator(key: StrBytes, found: &FoundCoordinator) -> Coordinator {
    match found {
        Ok(Endpoint { id, host, port, .. }) => {
            message!(Coordinator { key: key, node_id: *id, host: host.clone(), port: *port })
        }
        Err((code, why)) => message!(Coordinator {
            key: key,
            node_id: NOBODY,
            port: -1,
            error_code: code.value(),
            error_message: Some(StrBytes::from(*why)),
        }),
    }
}
