//! Metadata: brokers, topics, and who leads each partition. Also where topics are made because somebody asked for them.

use futures_util::{StreamExt, stream};

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code},
    views::{self, Endpoint, NOBODY},
    wire::{
        self, MetadataRequest, MetadataResponse, StrBytes, message,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};
use crate::{
    broker::{
        AdminError, BrokerView, ClusterView, CreateTopicRequest, LeaderNow, PartitionView, TopicView, TopicsWanted,
    },
    types::BrokerId,
};

/// Topics of one request that are made at once.
const CREATED_AT_ONCE: usize = 16;
/// From this version on a request says whether it wants topics to be made.
const SAYS_CREATE: i16 = 4;
/// From this version on an answer leaves out the name of a topic that was asked for by an unknown id.
const NAMELESS: i16 = 12;

pub struct MetadataApi;

impl KafkaApi for MetadataApi {
    type Request = MetadataRequest;
    const VERSIONS: (i16, i16) = (0, 13);

    async fn answer(asked: &Asked, request: MetadataRequest) -> MetadataResponse {
        let broker = &asked.client.shared.broker;
        let creates = asked.version < SAYS_CREATE || request.allow_auto_topic_creation;
        let wanted = match request.topics {
            Some(topics) if topics.is_empty() && asked.version == 0 => None,
            wanted => wanted,
        };
        let Some(wanted) = wanted else {
            let view = broker.cluster_view(&CALLER, TopicsWanted::All).await;
            let topics = view.topics.iter().map(|topic| known(&view, topic)).collect();
            return response(&view, broker.id(), topics);
        };
        let (names, unknown_ids) = names(asked, wanted);
        let mut view = broker.cluster_view(&CALLER, wanted_of(&names)).await;
        let mut refused = Vec::new();
        if creates {
            refused = create_missing(asked, &view).await;
            if refused.len() < missing(&view).count() {
                view = broker.cluster_view(&CALLER, wanted_of(&names)).await;
            }
        }
        let mut topics = unknown_ids;
        topics.extend(view.topics.iter().map(|topic| match refused.iter().find(|(name, _)| *name == topic.name) {
            Some((_, code)) if topic.id.is_none() => without(&topic.name, *code),
            _ => known(&view, topic),
        }));
        response(&view, broker.id(), topics)
    }
}

fn wanted_of(names: &[String]) -> TopicsWanted {
    if names.is_empty() { TopicsWanted::None } else { TopicsWanted::Named(names.to_vec()) }
}

/// The names of the topics that are asked for, each once; and the answers for ids that nobody has.
fn names(asked: &Asked, wanted: Vec<MetadataRequestTopic>) -> (Vec<String>, Vec<MetadataResponseTopic>) {
    let (mut names, mut unknown) = (Vec::new(), Vec::new());
    for MetadataRequestTopic { topic_id, name, .. } in wanted {
        // Who names a topic by its id leaves out the name, or leaves it empty.
        match wire::topic_id(topic_id).filter(|_| name.as_ref().is_none_or(|name| name.is_empty())) {
            None => names.push(wire::topic_name(&name.unwrap_or_default())),
            Some(id) => match asked.client.shared.broker.topic_name(id) {
                Some(name) => names.push(name),
                None => unknown.push(message!(MetadataResponseTopic {
                    error_code: Code::UnknownTopicId.value(),
                    topic_id: topic_id,
                    name: (asked.version < NAMELESS).then(StrBytes::default),
                })),
            },
        }
    }
    names.sort_unstable();
    names.dedup();
    (names, unknown)
}

fn missing(view: &ClusterView) -> impl Iterator<Item = &TopicView> {
    view.topics.iter().filter(|topic| topic.id.is_none())
}

/// Makes those that do not exist, if this broker does that. The refused ones, and why.
async fn create_missing(asked: &Asked, view: &ClusterView) -> Vec<(String, Code)> {
    let Some(partitions) = asked.client.shared.auto_create else {
        return missing(view).map(|topic| (topic.name.clone(), Code::UnknownTopicOrPartition)).collect();
    };
    let names: Vec<_> = missing(view).map(|topic| topic.name.clone()).collect();
    let created = names.into_iter().map(|name| async move {
        let request = CreateTopicRequest {
            name: name.clone(),
            partitions: Some(partitions),
            wait: true,
            ..CreateTopicRequest::default()
        };
        match asked.client.shared.broker.create_topic(&CALLER, request).await {
            // Somebody else was quicker, or its leaders take a moment longer: a client asks again.
            Ok(_) | Err(AdminError::TopicExists { .. } | AdminError::OutcomeUnknown { .. }) => None,
            Err(error) => match codes::of_admin(&error) {
                Code::InvalidTopicException => Some((name, Code::InvalidTopicException)),
                // It is not there, and why is no answer to who asked where it is.
                _ => {
                    tracing::warn!(topic = name, %error, "a topic that a Kafka client asked for could not be made");
                    Some((name, Code::LeaderNotAvailable))
                }
            },
        }
    });
    stream::iter(created).buffer_unordered(CREATED_AT_ONCE).filter_map(std::future::ready).collect().await
}

fn response(view: &ClusterView, me: BrokerId, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    let mut brokers: Vec<_> = listed(view).filter_map(Endpoint::of).collect();
    brokers.sort_unstable_by_key(|broker| broker.id);
    message!(MetadataResponse {
        brokers: brokers.into_iter().map(broker).collect(),
        cluster_id: view.cluster_id.map(|id| StrBytes::from(id.to_string())),
        controller_id: controller(view, me),
        topics: topics,
    })
}

/// The leader of a partition, if the answer lists it: clients cannot go on with one that they do not know.
fn leader_listed(view: &ClusterView, known: &PartitionView) -> Option<LeaderNow> {
    let is_listed =
        |leader: &LeaderNow| listed(view).any(|broker| broker.id == leader.broker && Endpoint::of(broker).is_some());
    known.leader.filter(is_listed)
}

/// Those that can be reached.
fn listed(view: &ClusterView) -> impl Iterator<Item = &BrokerView> {
    view.brokers.iter().filter(|broker| is_listed(view, broker))
}

/// Whether clients are sent to a broker. One that is cut off does not know who can be reached.
pub fn is_listed(view: &ClusterView, broker: &BrokerView) -> bool {
    broker.alive || view.routes_stale
}

/// Whom clients ask for changes: any broker takes what Kafka's controller takes, and passes it on.
pub fn controller(view: &ClusterView, me: BrokerId) -> i32 {
    let leads = view.metadata_leader.map(|leader| leader.broker);
    let leads = leads.filter(|leads| listed(view).any(|known| known.id == *leads && Endpoint::of(known).is_some()));
    views::node_id(leads.unwrap_or(me))
}

fn broker(endpoint: Endpoint) -> MetadataResponseBroker {
    let Endpoint { id, host, port, rack } = endpoint;
    message!(MetadataResponseBroker { node_id: id, host: host, port: port, rack: rack })
}

/// A topic that has a name and nothing else.
fn without(name: &str, code: Code) -> MetadataResponseTopic {
    message!(MetadataResponseTopic { error_code: code.value(), name: Some(name.into()) })
}

fn known(view: &ClusterView, topic: &TopicView) -> MetadataResponseTopic {
    let Some(id) = topic.id else { return without(&topic.name, Code::UnknownTopicOrPartition) };
    message!(MetadataResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: wire::uuid(id),
        partitions: topic.partitions.iter().map(|known| partition(view, known)).collect(),
    })
}

pub fn partition(view: &ClusterView, known: &PartitionView) -> MetadataResponsePartition {
    let is_alive = |id: &BrokerId| view.brokers.iter().any(|broker| broker.id == *id && broker.alive);
    let (alive, dead): (Vec<_>, Vec<_>) = known.replicas.iter().copied().partition(is_alive);
    let ids = |of: Vec<BrokerId>| of.into_iter().map(views::node_id).collect::<Vec<_>>();
    let (code, leader_id, leader_epoch) = match leader_listed(view, known) {
        Some(LeaderNow { broker, epoch }) => (Code::None, views::node_id(broker), epoch.0),
        None => (Code::LeaderNotAvailable, NOBODY, -1),
    };
    message!(MetadataResponsePartition {
        error_code: code.value(),
        partition_index: known.partition.0,
        leader_id: leader_id,
        leader_epoch: leader_epoch,
        replica_nodes: ids(known.replicas.clone()),
        isr_nodes: ids(alive),
        offline_replicas: ids(dead),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderEpoch, LogIndex, PartitionId};

    #[test]
    fn a_leader_that_is_not_listed_is_none() {
        let broker = |id, alive| BrokerView {
            id: BrokerId(id),
            client_address: String::new(),
            peer_address: String::new(),
            http_address: String::new(),
            kafka_address: format!("kafka-{id}:9092"),
            rack: String::new(),
            version: String::new(),
            alive,
            metadata_voter: true,
        };
        let mut view = ClusterView {
            cluster_id: None,
            metadata_index: LogIndex(1),
            metadata_leader: None,
            routes_stale: false,
            brokers: vec![broker(1, false), broker(2, true)],
            topics: Vec::new(),
        };
        let led_by = |id| PartitionView {
            partition: PartitionId(0),
            leader: Some(LeaderNow { broker: BrokerId(id), epoch: LeaderEpoch(3) }),
            replicas: vec![BrokerId(1), BrokerId(2)],
        };
        let said = |view: &ClusterView, leader| {
            let said = partition(view, &led_by(leader));
            (said.error_code, said.leader_id)
        };
        assert_eq!(said(&view, 2), (0, 2));
        assert_eq!(said(&view, 1), (Code::LeaderNotAvailable.value(), NOBODY));
        // Who is cut off lists all it knows.
        view.routes_stale = true;
        assert_eq!(said(&view, 1), (0, 1));
        view.brokers[0].kafka_address.clear();
        assert_eq!(said(&view, 1), (Code::LeaderNotAvailable.value(), NOBODY));
    }
}
