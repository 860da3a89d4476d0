//! Bytes on disk and on the wire. Changing a literal here is a version bump and a changelog line.

use super::*;
use crate::replicated::StateDecodeError;
use crate::types::{ClusterId, ProducerId, RaftGroupId};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn command_bytes_are_frozen() {
    let configs = BTreeMap::from([("retention.ms".to_string(), "9".to_string())]);
    let (name, topic_id) = ("orders".to_string(), TopicId(0x0102));
    for (change, frozen) in [
        (
            Change::Found(Found { cluster_id: ClusterId(300), founders: vec![BrokerId(1), BrokerId(2)] }),
            "010200ac02020102",
        ),
        (
            Change::RegisterBroker(RegisterBroker { rack: Some("r".to_string()), ..registration(1) }),
            "0102010181a0010d31302e302e302e313a373037300d31302e302e302e313a373037310d31302e302e302e313a3730383001017205302e312e30",
        ),
        (
            Change::CreateTopic(CreateTopic {
                name: name.clone(),
                topic_id,
                partitions: 3,
                replication_factor: -1,
                configs: configs.clone(),
            }),
            "010202066f726465727382020601010c726574656e74696f6e2e6d730139",
        ),
        (
            Change::AddPartitions(AddPartitions { name: name.clone(), topic_id, partitions: 4 }),
            "010203066f7264657273820208",
        ),
        (
            Change::AlterTopic(AlterTopic {
                name: name.clone(),
                topic_id,
                set: configs,
                unset: vec!["segment.ms".to_string()],
            }),
            "010204066f72646572738202010c726574656e74696f6e2e6d730139010a7365676d656e742e6d73",
        ),
        (Change::DeleteTopic(DeleteTopic { name, topic_id }), "010205066f72646572738202"),
        (Change::AllocateProducerIds(AllocateProducerIds { broker: BrokerId(2) }), "01020602"),
        (
            Change::ForgetDeleted(ForgetDeleted { broker: BrokerId(2), groups: vec![RaftGroupId(300)] }),
            "0102070201ac02",
        ),
        (
            Change::CreateTopicOnLive {
                wish: CreateTopic { topic_id, partitions: 3, ..creation("t", 3, 2) },
                dead: vec![BrokerId(2)],
            },
            "010209017482020604000102",
        ),
        (
            Change::AddPartitionsOnLive {
                wish: AddPartitions { name: "t".to_string(), topic_id, partitions: 4 },
                dead: vec![BrokerId(2), BrokerId(3)],
            },
            "01020a0174820208020203",
        ),
    ] {
        let command = Command::new(WallMs(1), change);
        let bytes = command.encode();
        assert_eq!(hex(&bytes), frozen, "{command:?}");
        assert_eq!(Command::decode(&bytes), Ok(command));
    }
}

#[test]
fn response_bytes_are_frozen() {
    let mut cluster = Cluster::founded(1, |_| None);
    for (bytes, frozen) in [
        (response::encode(&Ok(Outcome::ProducerIds { first: ProducerId(1_000), count: 1_000 })), "010006d00fd00f"),
        (response::encode(&Ok(Outcome::DeletedForgotten)), "010007"),
        (response::encode(&Err(Refusal::NotFounded)), "010101"),
        (response::encode(&Err(Refusal::IdsExhausted)), "010113"),
        (response::encode(&cluster.apply(Change::CreateTopic(creation("a", 1, 2)))), "01010f0401"),
    ] {
        assert_eq!(hex(&bytes), frozen);
    }
}

#[test]
fn state_bytes_are_frozen() {
    assert_eq!(hex(&Metadata::new().encode()), "020000000100000000808004010000");
    let mut cluster = Cluster::founded(2, |_| None);
    cluster.apply(Change::CreateTopic(creation("gone", 1, 1))).expect("a valid wish");
    let topic_id = cluster.state.topic("gone").expect("it was created").id;
    cluster.apply(Change::DeleteTopic(DeleteTopic { name: "gone".to_string(), topic_id })).expect("it exists");
    let mut wish = creation("t", 1, 2);
    wish.configs.insert("segment.ms".to_string(), "5".to_string());
    cluster.apply(Change::CreateTopic(wish)).expect("a valid wish");
    let bytes = cluster.state.encode();
    assert_eq!(
        hex(&bytes),
        "02010106904e01eeff83060102010202010181a0010d31302e302e302e313a373037300d31302e302e302e313a373037310d31302e302e302e313a373038300005302e312e3001d00f020282a0010d31302e302e302e323a373037300d31302e302e302e323a373037310d31302e302e302e323a373038300005302e312e3002a01f0101740174fb0e010a7365676d656e742e6d730135040102028180040282800401028180040282800401904e0101b0bdc2a678050180800402838004030000"
    );
    assert_eq!(Metadata::decode(&bytes).expect("our own bytes"), cluster.state);
}

#[test]
fn a_newer_state_is_refused_by_its_version() {
    let mut bytes = Metadata::new().encode().to_vec();
    bytes[0] = 3;
    let error = Metadata::decode(&bytes).unwrap_err();
    assert!(matches!(error, StateDecodeError::Version { found: 3, known: 2 }), "{error}");
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
    let breaks: [(&str, Break); 10] = [
        ("group 2 is there twice", |s| t(s).partitions[1].group = RaftGroupId(2)),
        ("impossible partition", |s| t(s).partitions[1].group = RaftGroupId(0)),
        ("both alive and deleted", |s| t(s).partitions[1].group = RaftGroupId(1)),
        ("is there twice", |s| t(s).partitions[1].replicas[0].0 = t(s).partitions[0].replicas[0].0),
        ("was never allocated", |s| s.next_replica -= 1),
        ("impossible partition", |s| s.next_group -= 1),
        ("next ids went back", |s| s.next_producer_id = ProducerId(-1)),
        ("no partitions", |s| t(s).partitions.clear()),
        ("is stored under", |s| t(s).name = "u".to_string()),
        ("topic config", |s| drop(t(s).configs.insert("no".to_string(), "no".to_string()))),
    ];
    for (expected, break_it) in breaks {
        let mut state = cluster.state.clone();
        break_it(&mut state);
        let error = Metadata::decode(&state.encode()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}
