//! Bytes on disk and on the wire, held against the literals beside this file.

use super::*;
use crate::formats::frozen;
use crate::replicated::StateDecodeError;
use crate::types::{ClusterId, ProducerId, RaftGroupId};

/// Every command that was ever frozen, and those of groups.
pub(in crate::metadata) const COMMANDS: &str = include_str!("commands.frozen");
pub(in crate::metadata) const RESPONSES: &str = include_str!("responses.frozen");
pub(in crate::metadata) const STATES: &str = include_str!("states.frozen");

pub(super) fn reads_command(_: &str, bytes: &[u8]) -> Result<(), String> {
    Command::decode(bytes).map(drop).map_err(|error| error.to_string())
}

pub(super) fn reads_response(_: &str, bytes: &[u8]) -> Result<(), String> {
    decode_response(bytes).map(drop).map_err(|error| error.to_string())
}

pub(super) fn reads_state(_: &str, bytes: &[u8]) -> Result<(), String> {
    Metadata::decode(bytes).map(drop).map_err(|error| error.to_string())
}

/// Of every kind but those of groups, in the order of the enum.
pub(in crate::metadata) fn changes() -> Vec<(&'static str, Change)> {
    let configs = BTreeMap::from([("retention.ms".to_string(), "9".to_string())]);
    let (name, topic_id) = ("orders".to_string(), TopicId(0x0102));
    let unset = vec!["segment.ms".to_string()];
    vec![
        ("found", Change::Found(Found { cluster_id: ClusterId(300), founders: vec![BrokerId(1), BrokerId(2)] })),
        ("register-broker", Change::RegisterBroker(RegisterBroker { rack: Some("r".to_string()), ..registration(1) })),
        (
            "create-topic",
            Change::CreateTopic(CreateTopic {
                name: name.clone(),
                topic_id,
                partitions: 3,
                replication_factor: -1,
                configs: configs.clone(),
            }),
        ),
        ("add-partitions", Change::AddPartitions(AddPartitions { name: name.clone(), topic_id, partitions: 4 })),
        ("alter-topic", Change::AlterTopic(AlterTopic { name: name.clone(), topic_id, set: configs, unset })),
        ("delete-topic", Change::DeleteTopic(DeleteTopic { name, topic_id })),
        ("allocate-producer-ids", Change::AllocateProducerIds(AllocateProducerIds { broker: BrokerId(2) })),
        (
            "forget-deleted",
            Change::ForgetDeleted(ForgetDeleted { broker: BrokerId(2), groups: vec![RaftGroupId(300)] }),
        ),
        (
            "create-topic-on-live",
            Change::CreateTopicOnLive {
                wish: CreateTopic { topic_id, partitions: 3, ..creation("t", 3, 2) },
                dead: vec![BrokerId(2)],
            },
        ),
        (
            "add-partitions-on-live",
            Change::AddPartitionsOnLive {
                wish: AddPartitions { name: "t".to_string(), topic_id, partitions: 4 },
                dead: vec![BrokerId(2), BrokerId(3)],
            },
        ),
        (
            "found-at",
            Change::FoundAt {
                wish: Found { cluster_id: ClusterId(300), founders: vec![BrokerId(1), BrokerId(2)] },
                feature_level: 2,
            },
        ),
        ("register-broker-at", Change::RegisterBrokerAt { wish: registration(1), feature_level: 2 }),
        (
            "raise-feature-level",
            Change::RaiseFeatureLevel(RaiseFeatureLevel { to: 2, heard: vec![(BrokerId(1), 2), (BrokerId(2), 300)] }),
        ),
        (
            "register-broker-with-kafka",
            Change::RegisterBrokerWithKafka {
                wish: registration(1),
                feature_level: 3,
                kafka_address: "10.0.0.1:9092".to_string(),
            },
        ),
    ]
}

#[test]
fn command_bytes_are_frozen() {
    let commands = changes().into_iter().map(|(name, change)| (name, Command::new(WallMs(1), change)));
    let written = commands.map(|(name, command)| {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command));
        (name, bytes)
    });
    frozen::check(COMMANDS, written, reads_command);
}

#[test]
fn response_bytes_are_frozen() {
    let mut cluster = Cluster::founded(1, |_| None);
    let written = [
        ("producer-ids", Ok(Outcome::ProducerIds { first: ProducerId(1_000), count: 1_000 })),
        ("deleted-forgotten", Ok(Outcome::DeletedForgotten)),
        ("not-founded", Err(Refusal::NotFounded)),
        ("ids-exhausted", Err(Refusal::IdsExhausted)),
        ("too-few-brokers", cluster.apply(Change::CreateTopic(creation("a", 1, 2)))),
        ("feature-level-raised", Ok(Outcome::FeatureLevelRaised { from: 1, to: 2 })),
        (
            "brokers-behind",
            Err(Refusal::BrokersBehind { asked: 2, behind: vec![(BrokerId(1), Some(1)), (BrokerId(2), None)] }),
        ),
        ("level-lowered", Err(Refusal::LevelLowered { asked: 1, level: 2 })),
        ("above-level", Err(Refusal::AboveLevel { needed: 2, level: 1 })),
    ];
    frozen::check(RESPONSES, written.map(|(name, response)| (name, response::encode(&response))), reads_response);
}

/// With a topic, and one that was deleted.
fn with_topics() -> Cluster {
    let mut cluster = Cluster::founded(2, |_| None);
    cluster.apply(Change::CreateTopic(creation("gone", 1, 1))).expect("a valid wish");
    let topic_id = cluster.state.topic("gone").expect("it was created").id;
    cluster.apply(Change::DeleteTopic(DeleteTopic { name: "gone".to_string(), topic_id })).expect("it exists");
    let mut wish = creation("t", 1, 2);
    wish.configs.insert("segment.ms".to_string(), "5".to_string());
    cluster.apply(Change::CreateTopic(wish)).expect("a valid wish");
    cluster
}

#[test]
fn state_bytes_are_frozen() {
    let state = with_topics().state;
    let mut cluster = with_topics();
    let mut raised = |to| {
        let heard = vec![(BrokerId(1), to), (BrokerId(2), to)];
        cluster.apply(Change::RaiseFeatureLevel(RaiseFeatureLevel { to, heard })).expect("both support it");
        let (wish, kafka_address) = (registration(2), "10.0.0.2:9092".to_string());
        if to == 3 {
            let said = Change::RegisterBrokerWithKafka { wish, feature_level: 3, kafka_address };
            cluster.apply(said).expect("a valid registration");
        }
        cluster.state.encode()
    };
    let (level_2, level_3) = (raised(2), raised(3));
    let written =
        [("empty", Metadata::new().encode()), ("topics", state.encode()), ("level-2", level_2), ("level-3", level_3)];
    frozen::check(STATES, written, reads_state);
    assert_eq!(Metadata::decode(&frozen::literal(STATES, "topics")).expect("our own bytes"), state);
}

#[test]
fn a_newer_state_is_refused_by_its_version() {
    let mut bytes = Metadata::new().encode().to_vec();
    bytes[0] = 5;
    let error = Metadata::decode(&bytes).unwrap_err();
    assert!(matches!(error, StateDecodeError::Version { found: 5, known: 4 }), "{error}");
    bytes[0] = 2;
    bytes.push(0);
    assert!(matches!(Metadata::decode(&bytes).unwrap_err(), StateDecodeError::Malformed(_)));
}

/// Each invariant of the state, broken one at a time, is an error and not a state.
#[test]
fn a_state_that_breaks_an_invariant_is_refused() {
    type Break = fn(&mut Metadata);
    let mut cluster = Cluster::founded(3, |_| None);
    cluster.apply(Change::CreateTopic(creation("gone", 1, 3))).expect("a valid wish");
    let topic_id = cluster.state.topic("gone").expect("it was created").id;
    cluster.apply(Change::DeleteTopic(DeleteTopic { name: "gone".to_string(), topic_id })).expect("it exists");
    cluster.apply(Change::CreateTopic(creation("t", 2, 3))).expect("a valid wish");
    fn t(state: &mut Metadata) -> &mut Topic {
        state.topics.get_mut("t").expect("it was created")
    }
    let breaks: [(&str, Break); 12] = [
        ("group 2 is there twice", |s| t(s).partitions[1].group = RaftGroupId(2)),
        ("impossible partition", |s| t(s).partitions[1].group = RaftGroupId(0)),
        ("both alive and deleted", |s| t(s).partitions[1].group = RaftGroupId(1)),
        ("is there twice", |s| t(s).partitions[1].replicas[0].0 = t(s).partitions[0].replicas[0].0),
        ("was never allocated", |s| s.next_replica -= 1),
        ("impossible partition", |s| s.next_group -= 1),
        ("next ids went back", |s| s.next_producer_id = ProducerId(-1)),
        ("no partitions", |s| t(s).partitions.clear()),
        ("is stored under", |s| t(s).name = "u".to_string()),
        // Seen once: the next partition that was added asked for so many brokers.
        ("replication factor -1", |s| t(s).replication_factor = -1),
        ("replication factor 16", |s| t(s).replication_factor = 16),
        ("topic config", |s| drop(t(s).configs.insert("no".to_string(), "no".to_string()))),
    ];
    for (expected, break_it) in breaks {
        let mut state = cluster.state.clone();
        break_it(&mut state);
        let error = Metadata::decode(&state.encode()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
