//! DescribeTopicPartitions: what Metadata says of topics, in pages (KIP-966).

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER, Lane},
        codes::Code,
        limits,
        wire::{
            self, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
            describe_topic_partitions_response::{
                Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
            },
            message,
        },
    },
    metadata,
};
use crate::broker::{ClusterView, TopicView, TopicsWanted};

pub struct DescribeTopicPartitions;

impl KafkaApi for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const VERSIONS: (i16, i16) = (0, 0);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
        let mut names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
        names.sort_unstable();
        names.dedup();
        let wanted = if names.is_empty() { TopicsWanted::All } else { TopicsWanted::Named(names) };
        let view = asked.client.shared.broker.cluster_view(&CALLER, wanted).await;
        let room = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let from = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        page(&view, from, room.clamp(1, limits::DESCRIBED_PARTITIONS_MAX))
    }
}

/// Topics come in the order of their names. `from`: a topic and the number of a partition. `room`: for how many
/// partitions.
fn page(view: &ClusterView, from: Option<(String, i32)>, mut room: usize) -> DescribeTopicPartitionsResponse {
    let (first_topic, first_partition) = from.unwrap_or_default();
    let mut response = DescribeTopicPartitionsResponse::default();
    for topic in view.topics.iter().filter(|topic| topic.name >= first_topic) {
        let skipped = if topic.name == first_topic { usize::try_from(first_partition).unwrap_or(0) } else { 0 };
        if room == 0 {
            response.next_cursor = cursor(topic, skipped);
            return response;
        }
        response.topics.push(described(view, topic, skipped, room));
        let rest = topic.partitions.len().saturating_sub(skipped);
        if rest > room {
            response.next_cursor = cursor(topic, skipped.saturating_add(room));
            return response;
        }
        room -= rest;
    }
    response
}

fn cursor(topic: &TopicView, partition: usize) -> Option<Cursor> {
    let partition_index = i32::try_from(partition).unwrap_or(i32::MAX);
    Some(message!(Cursor { topic_name: topic.name.as_str().into(), partition_index: partition_index }))
}

fn described(
    view: &ClusterView,
    topic: &TopicView,
    skipped: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let name = Some(topic.name.as_str().into());
    let Some(id) = topic.id else {
        let code = Code::UnknownTopicOrPartition.value();
        return message!(DescribeTopicPartitionsResponseTopic { error_code: code, name: name });
    };
    let partitions = topic.partitions.iter().skip(skipped).take(room).map(|known| {
        // As Metadata has it: what is said in one place is said in the other.
        let known = metadata::partition(view, known);
        message!(DescribeTopicPartitionsResponsePartition {
            error_code: known.error_code,
            partition_index: known.partition_index,
            leader_id: known.leader_id,
            leader_epoch: known.leader_epoch,
            replica_nodes: known.replica_nodes,
            isr_nodes: known.isr_nodes,
            offline_replicas: known.offline_replicas,
            // Kafka's own client reads no null here, though the schema has one.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
        })
    });
    message!(DescribeTopicPartitionsResponseTopic {
        name: name,
        topic_id: wire::uuid(id),
        partitions: partitions.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::PartitionView,
        types::{LogIndex, PartitionId, TopicId},
    };

    fn view(topics: &[(&str, i32)]) -> ClusterView {
        let topic = |(name, partitions): &(&str, i32)| TopicView {
            name: name.to_string(),
            id: (*partitions > 0).then_some(TopicId(1)),
            configs: Vec::new(),
            partitions: (0..*partitions)
                .map(|number| PartitionView { partition: PartitionId(number), leader: None, replicas: Vec::new() })
                .collect(),
        };
        ClusterView {
            cluster_id: None,
            metadata_index: LogIndex(0),
            metadata_leader: None,
            routes_stale: false,
            brokers: Vec::new(),
            topics: topics.iter().map(topic).collect(),
        }
    }

    #[test]
    fn pages_follow_one_another_without_gap_or_repeat() {
        let view = view(&[("a", 3), ("b", 0), ("c", 5), ("d", 1)]);
        let whole: Vec<(String, i32)> = [("a", 3), ("c", 5), ("d", 1)]
            .iter()
            .flat_map(|(name, partitions)| (0..*partitions).map(|number| (name.to_string(), number)))
            .collect();
        for room in 1..=10 {
            let (mut seen, mut from, mut unknown) = (Vec::new(), None, 0);
            loop {
                let response = page(&view, from, room);
                let count: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
                assert!(count <= room, "{count} of {room}");
                for topic in &response.topics {
                    unknown += usize::from(topic.error_code != 0);
                    let name = topic.name.as_ref().expect("a name").to_string();
                    seen.extend(topic.partitions.iter().map(|known| (name.clone(), known.partition_index)));
                }
                let Some(next) = response.next_cursor else { break };
                from = Some((next.topic_name.to_string(), next.partition_index));
            }
            assert_eq!((&seen, unknown), (&whole, 1), "room for {room}");
        }
    }

    #[test]
    fn a_cursor_from_anywhere_is_answered() {
        let view = view(&[("a", 3)]);
        for (topic, partition) in [("", -1), ("a", -5), ("a", 3), ("a", i32::MAX), ("z", 0)] {
            let response = page(&view, Some((topic.to_string(), partition)), 10);
            assert_eq!(response.next_cursor, None);
        }
    }
}
