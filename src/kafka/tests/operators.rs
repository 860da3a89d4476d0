//! What operators ask of partitions and of the cluster, at every version that is served, good and refused.

use super::{
    super::{
        client::CALLER,
        codes::Code,
        wire::{
            describe_topic_partitions_request::{Cursor, TopicRequest},
            *,
        },
    },
    data::{batch, batch_of, produce, versions},
    harness::{Alone, Face, Wire},
};
use crate::broker::{
    TopicsWanted,
    tests::rig::{Cluster, until},
};

/// The log start of a partition, or the code.
async fn delete_records(wire: &mut Wire, version: i16, topic: &str, partition: i32, offset: i64) -> Result<i64, i16> {
    let partition =
        message!(delete_records_request::DeleteRecordsPartition { partition_index: partition, offset: offset });
    let topic =
        message!(delete_records_request::DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] });
    let request = message!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 20_000 });
    let mut said = wire.ask(version, &request).await.topics.remove(0);
    let said = said.partitions.remove(0);
    if said.error_code == 0 { Ok(said.low_watermark) } else { Err(said.error_code) }
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset_in_every_version() {
    let alone = Alone::start(1_321).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").expect("it was just made");
    let mut wire = alone.face.connect();
    for (version, start) in versions(21).zip((0..).step_by(4)) {
        wire.ask(9, &produce(9, "t", id, -1, batch(&["a", "b", "c", "d"]))).await;
        assert_eq!(delete_records(&mut wire, version, "t", 0, start + 3).await, Ok(start + 3));
        assert_eq!(delete_records(&mut wire, version, "t", 0, start + 1).await, Ok(start + 3), "never back");
        assert_eq!(delete_records(&mut wire, version, "t", 0, start + 5).await, Err(Code::OffsetOutOfRange.value()));
        assert_eq!(delete_records(&mut wire, version, "t", 0, -2).await, Err(Code::OffsetOutOfRange.value()));
        assert_eq!(delete_records(&mut wire, version, "t", 0, -1).await, Ok(start + 4), "all that is there");
        for (topic, partition) in [("t", 1), ("t", -1), ("none", 0)] {
            assert_eq!(delete_records(&mut wire, version, topic, partition, 0).await, Err(3));
        }
    }
}

async fn log_dirs(wire: &mut Wire, version: i16, topics: Option<&[(&str, i32)]>) -> DescribeLogDirsResponse {
    let topics = topics.map(|topics| {
        let wanted = topics.iter().map(|(topic, partition)| {
            message!(describe_log_dirs_request::DescribableLogDirTopic {
                topic: (*topic).into(),
                partitions: vec![*partition],
            })
        });
        wanted.collect()
    });
    wire.ask(version, &message!(DescribeLogDirsRequest { topics: topics })).await
}

#[tokio::test]
async fn what_a_broker_keeps_is_told_in_every_version() {
    let alone = Alone::start(1_322).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").expect("it was just made");
    let mut wire = alone.face.connect();
    wire.ask(9, &produce(9, "t", id, -1, batch(&["a"]))).await;
    for version in versions(35) {
        let said = log_dirs(&mut wire, version, None).await;
        let directory = &said.results[0];
        assert_eq!((said.error_code, said.results.len(), directory.error_code), (0, 1, 0));
        let partition = &directory.topics[0].partitions[0];
        assert_eq!((&*directory.topics[0].name, partition.partition_index), ("t", 0));
        assert!(partition.partition_size > 0 && partition.offset_lag == 0 && !partition.is_future_key);
        assert_eq!(directory.usable_bytes > 0, version >= 4, "version {version}");
        let said = log_dirs(&mut wire, version, Some(&[("none", 0), ("t", 7)])).await;
        assert!(said.results[0].topics.is_empty(), "what is not here is not mentioned");
    }
}

#[tokio::test]
async fn the_cluster_is_described_in_every_version() {
    let alone = Alone::start(1_323).await;
    let mut wire = alone.face.connect();
    let me = alone.broker().cluster_view(&CALLER, TopicsWanted::None).await;
    for version in versions(60) {
        let mut request = DescribeClusterRequest::default();
        request.include_fenced_brokers = version >= 2;
        let said = wire.ask(version, &request).await;
        assert_eq!((said.error_code, said.controller_id), (0, 1));
        assert_eq!(*said.cluster_id, me.cluster_id.expect("it is formed").to_string());
        for (kind, code) in [(2, Code::MismatchedEndpointType), (9, Code::UnsupportedEndpointType)] {
            if version >= 1 {
                let said = wire.ask(version, &message!(DescribeClusterRequest { endpoint_type: kind })).await;
                assert_eq!((said.error_code, said.error_message.is_some()), (code.value(), true));
            }
        }
    }
}

#[tokio::test]
async fn topics_are_described_in_pages_as_metadata_has_them() {
    let alone = Alone::start(1_324).await;
    for (name, partitions) in [("a", 2), ("b", 3)] {
        alone.cluster.create_on(name, partitions, 1).await;
        alone.cluster.led_by(name).await;
    }
    let mut wire = alone.face.connect();
    for version in versions(75) {
        let request = |topics: &[&str], limit, from: Option<(&str, i32)>| {
            let topics = topics.iter().map(|name| message!(TopicRequest { name: (*name).into() }));
            let cursor =
                |(name, number): (&str, i32)| message!(Cursor { topic_name: name.into(), partition_index: number });
            message!(DescribeTopicPartitionsRequest {
                topics: topics.collect(),
                response_partition_limit: limit,
                cursor: from.map(cursor),
            })
        };
        let counts = |said: &DescribeTopicPartitionsResponse| -> Vec<(String, usize, i16)> {
            let topic = |topic: &describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic| {
                (topic.name.as_ref().expect("a name").to_string(), topic.partitions.len(), topic.error_code)
            };
            said.topics.iter().map(topic).collect()
        };
        let said = wire.ask(version, &request(&[], 4, None)).await;
        assert_eq!(counts(&said), [("a".to_string(), 2, 0), ("b".to_string(), 2, 0)]);
        let next = said.next_cursor.expect("there is more");
        assert_eq!((&*next.topic_name, next.partition_index), ("b", 2));
        let partition = &said.topics[0].partitions[0];
        assert_eq!(partition.leader_id, 1);
        let none = Some(Vec::new());
        assert_eq!((&partition.eligible_leader_replicas, &partition.last_known_elr), (&none, &none), "never null");
        let said = wire.ask(version, &request(&[], 4, Some(("b", 2)))).await;
        assert_eq!((counts(&said), said.next_cursor), (vec![("b".to_string(), 1, 0)], None));
        let said = wire.ask(version, &request(&["none", "a"], 2_000, None)).await;
        assert_eq!(counts(&said), [("a".to_string(), 2, 0), ("none".to_string(), 0, 3)]);
    }
}

#[tokio::test]
async fn replicas_are_not_moved_and_it_is_said_so() {
    let alone = Alone::start(1_325).await;
    let mut wire = alone.face.connect();
    for version in versions(45) {
        let partition = |replicas| {
            message!(alter_partition_reassignments_request::ReassignablePartition {
                partition_index: 0,
                replicas: replicas,
            })
        };
        let topic = message!(alter_partition_reassignments_request::ReassignableTopic {
            name: "t".into(),
            partitions: vec![partition(Some(vec![2])), partition(None)],
        });
        let said = wire.ask(version, &message!(AlterPartitionReassignmentsRequest { topics: vec![topic] })).await;
        let partitions = &said.responses[0].partitions;
        let codes: Vec<i16> = partitions.iter().map(|partition| partition.error_code).collect();
        let expected = [Code::InvalidReplicaAssignment, Code::NoReassignmentInProgress].map(Code::value);
        assert_eq!((said.error_code, codes), (0, expected.to_vec()));
        assert!(partitions.iter().all(|partition| partition.error_message.is_some()));
    }
    for version in versions(46) {
        let said = wire.ask(version, &ListPartitionReassignmentsRequest::default()).await;
        assert_eq!((said.error_code, said.topics.len()), (0, 0));
    }
}

#[tokio::test]
async fn the_producers_of_a_partition_are_told() {
    let alone = Alone::start(1_327).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").expect("it was just made");
    let mut wire = alone.face.connect();
    let producer = 77;
    let sent = produce(9, "t", id, -1, batch_of(&["a", "b", "c"], Some((producer, 0))));
    assert_eq!(wire.ask(9, &sent).await.responses[0].partition_responses[0].error_code, 0);
    for version in versions(61) {
        let wanted =
            message!(describe_producers_request::TopicRequest { name: "t".into(), partition_indexes: vec![0, 7, 0] });
        let said = wire.ask(version, &message!(DescribeProducersRequest { topics: vec![wanted] })).await;
        let partitions = &said.topics[0].partitions;
        let codes: Vec<(i32, i16)> = partitions.iter().map(|said| (said.partition_index, said.error_code)).collect();
        assert_eq!(codes, [(0, 0), (7, 3), (0, Code::InvalidRequest.value())]);
        let told: Vec<_> =
            partitions[0].active_producers.iter().map(|told| (told.producer_id, told.last_sequence)).collect();
        assert_eq!(told, [(producer, 2)]);
        let told = &partitions[0].active_producers[0];
        assert_eq!((told.producer_epoch, told.coordinator_epoch, told.current_txn_start_offset), (0, -1, -1));
    }
}

/// Each partition that is named in the answer, and its code.
async fn elect(wire: &mut Wire, version: i16, kind: i8, of: Option<&[(&str, i32)]>) -> (i16, Vec<(i32, i16)>) {
    let topics = of.map(|of| {
        let topics = of.iter().map(|(topic, partition)| {
            message!(elect_leaders_request::TopicPartitions { topic: (*topic).into(), partitions: vec![*partition] })
        });
        topics.collect()
    });
    let mut request = message!(ElectLeadersRequest { topic_partitions: topics, timeout_ms: 20_000 });
    if version >= 1 {
        request.election_type = kind;
    }
    let said = wire.ask(version, &request).await;
    let partitions = said.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    (said.error_code, partitions.map(|partition| (partition.partition_id, partition.error_code)).collect())
}

/// Three brokers: leadership comes back to the preferred leader, and who does not lead says so.
#[tokio::test]
async fn preferred_leaders_are_elected_and_who_does_not_lead_says_so() {
    let cluster = Cluster::start(3, 1_326).await;
    cluster.create_on("t", 1, 3).await;
    let view = cluster.any().cluster_view(&CALLER, TopicsWanted::Named(vec!["t".into()])).await;
    let replicas = view.topics[0].partitions[0].replicas.clone();
    let (preferred, other) = (replicas[0], replicas[1]);
    let node = &cluster.nodes[&other.0];
    let face = Face::of(&node.broker, node.metrics.clone());
    let mut wire = face.connect();
    cluster.led_by("t").await;
    for version in versions(43) {
        // To the preferred one first, wherever it is.
        let (code, _) = elect(&mut wire, version, 0, Some(&[("t", 0)])).await;
        assert_eq!(code, 0);
        until("it leads", || async { cluster.leader("t").await == Some(preferred.0) }).await;
        until("the asked broker knows", || async {
            let view = node.broker.cluster_view(&CALLER, TopicsWanted::Named(vec!["t".into()])).await;
            view.topics[0].partitions[0].leader.is_some_and(|leader| leader.broker == preferred)
        })
        .await;
        let needless = (0, vec![(0, Code::ElectionNotNeeded.value())]);
        assert_eq!(elect(&mut wire, version, 0, Some(&[("t", 0)])).await, needless);
        assert_eq!(elect(&mut wire, version, 0, None).await, (0, vec![]), "who names none hears of none that is well");
        assert_eq!(elect(&mut wire, version, 0, Some(&[("t", 9)])).await, (0, vec![(9, 3)]));
        if version >= 1 {
            assert_eq!(elect(&mut wire, version, 1, Some(&[("t", 0)])).await.0, Code::InvalidRequest.value());
        }
        let trimmed = delete_records(&mut wire, 2, "t", 0, 0).await;
        assert_eq!(trimmed, Err(Code::NotLeaderOrFollower.value()));
    }
}
