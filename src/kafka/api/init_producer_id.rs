//! InitProducerId: the identity of an idempotent producer (KIP-98). Transactional ones are refused until transactions
//! exist, with a code that no client tries again.

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER, Lane},
    codes::{self, Code},
    wire::{InitProducerIdRequest, InitProducerIdResponse, message},
};
use crate::broker::ProducerIdentity;

pub struct InitProducerId;

impl KafkaApi for InitProducerId {
    type Request = InitProducerIdRequest;
    const VERSIONS: (i16, i16) = (0, 5);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: InitProducerIdRequest) -> InitProducerIdResponse {
        if request.transactional_id.is_some() {
            return refused(Code::TransactionalIdAuthorizationFailed);
        }
        // A producer that names the id it had gets another one: after what made it ask (KIP-360) its sequences begin
        // anew in either case.
        match asked.client.shared.broker.init_producer_id(&CALLER).await {
            Ok(ProducerIdentity { id, epoch }) => {
                message!(InitProducerIdResponse { producer_id: id.0, producer_epoch: epoch.0 })
            }
            Err(error) => refused(match codes::of_admin(&error) {
                // A client asks its coordinator: this is what makes it ask again.
                Code::NotController => Code::CoordinatorNotAvailable,
                code => code,
            }),
        }
    }
}

fn refused(code: Code) -> InitProducerIdResponse {
    message!(InitProducerIdResponse { error_code: code.value(), producer_id: -1, producer_epoch: -1 })
}
