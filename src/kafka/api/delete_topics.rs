//! DeleteTopics: by name, and from version 6 on by id (KIP-516).

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            self, DeleteTopicsRequest, DeleteTopicsResponse, StrBytes, Uuid, delete_topics_request::DeleteTopicState,
            delete_topics_response::DeletableTopicResult, message,
        },
    },
    admin::{self, NotDone, Repeated, Within},
};
use crate::{broker::DeleteTopicRequest, types::TopicId};

/// From this version on a topic is named by either.
const NAMES_EITHER: i16 = 6;

pub struct DeleteTopics;

impl KafkaApi for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: (i16, i16) = (1, 6);

    async fn answer(asked: &Asked, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let within = Within::of(request.timeout_ms);
        let wanted = match asked.version >= NAMES_EITHER {
            true => request.topics,
            false => {
                request.topic_names.into_iter().map(|name| message!(DeleteTopicState { name: Some(name) })).collect()
            }
        };
        let wanted: Vec<_> = wanted.into_iter().map(|topic| meant(asked, &topic)).collect();
        let repeated = Repeated::among(wanted.iter().filter_map(|meant| meant.name.as_deref()));
        let responses = admin::each(wanted, async |meant| {
            let deleted = delete(asked, &meant, &within, &repeated).await;
            let (error_code, error_message) = admin::said(&deleted);
            message!(DeletableTopicResult {
                name: meant.name,
                topic_id: meant.uuid,
                error_code: error_code,
                error_message: error_message,
            })
        });
        message!(DeleteTopicsResponse { responses: responses.await })
    }
}

/// One topic of the request.
struct Meant {
    name: Option<StrBytes>,
    /// The id as the client named it.
    uuid: Uuid,
    id: Option<TopicId>,
    is_named_by_both: bool,
}

fn meant(asked: &Asked, topic: &DeleteTopicState) -> Meant {
    let id = wire::topic_id(topic.topic_id);
    let known = id.and_then(|id| asked.client.shared.broker.topic_name(id)).map(StrBytes::from);
    let is_named_by_both = id.is_some() && topic.name.is_some();
    Meant { name: topic.name.clone().or(known), uuid: topic.topic_id, id, is_named_by_both }
}

async fn delete(asked: &Asked, meant: &Meant, within: &Within, repeated: &Repeated) -> Result<(), NotDone> {
    if meant.is_named_by_both {
        return Err(NotDone::new(Code::InvalidRequest, "a topic is named by its name or by its id, not by both"));
    }
    let Some(name) = &meant.name else {
        return Err(match meant.id {
            Some(_) => NotDone::new(Code::UnknownTopicId, "no topic has this id"),
            None => NotDone::new(Code::InvalidRequest, "a topic without name and id"),
        });
    };
    repeated.check(name)?;
    within.left()?;
    let request = DeleteTopicRequest { name: name.to_string(), topic_id: meant.id, dry_run: false };
    match asked.client.shared.broker.delete_topic(&CALLER, request).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match NotDone::from(error) {
            NotDone { code: Code::UnknownTopicOrPartition, words } if meant.id.is_some() => {
                NotDone { code: Code::UnknownTopicId, words }
            }
            other => other,
        }),
    }
}
