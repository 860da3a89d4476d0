//! What may be written at which feature level, and how the level rises: the rule of `formats`.

use super::frozen::{STATES, changes};
use super::*;
use crate::formats::{FEATURE_LEVEL, frozen};
use crate::group::{Commit, CommitOffset, GroupCommand};
use crate::replicated::StateDecodeError;
use crate::types::PartitionId;

fn raise(to: u32, heard: &[(u64, u32)]) -> Change {
    let heard = heard.iter().map(|(broker, level)| (BrokerId(*broker), *level)).collect();
    Change::RaiseFeatureLevel(RaiseFeatureLevel { to, heard })
}

fn register(id: u64, feature_level: u32) -> Change {
    Change::RegisterBrokerAt { wish: registration(id), feature_level }
}

fn register_with_kafka(id: u64, feature_level: u32, kafka_address: &str) -> Change {
    let kafka_address = kafka_address.to_string();
    Change::RegisterBrokerWithKafka { wish: registration(id), feature_level, kafka_address }
}

/// Founded at level 2, with so many brokers of it.
fn at_level_2(brokers: u64) -> Cluster {
    let mut cluster = Cluster::default();
    let wish = Found { cluster_id: ClusterId(9), founders: (1..=brokers.min(3)).map(BrokerId).collect() };
    cluster.apply(Change::FoundAt { wish, feature_level: 2 }).expect("first founding");
    for id in 1..=brokers {
        cluster.apply(register(id, 2)).expect("a valid registration");
    }
    cluster
}

/// Seen once, by a command that nobody writes: at level 1 the state has no room for what it says, so a replica that began
/// from a snapshot did not know it.
#[test]
fn a_registration_above_the_clusters_level_is_not_applied() {
    let mut cluster = Cluster::founded(3, |_| None);
    for (change, level) in [(register(2, 3), 2), (register_with_kafka(2, 3, "k:9092"), 3)] {
        let before = cluster.state.clone();
        let error = cluster.try_apply(&Command::new(WallMs(1), change).encode()).expect_err("nobody writes that");
        assert!(error.to_string().contains(&format!("of feature level {level}")), "{error}");
        assert_eq!(cluster.state, before);
    }
    assert_eq!(Metadata::decode(&cluster.state.encode()).expect("our own bytes"), cluster.state);
}

/// Raising is refused with the names of those that lag, before anything is written and again when it is applied.
#[test]
fn the_level_rises_once_every_broker_supports_it() {
    let mut cluster = Cluster::founded(3, |_| None);
    let before = cluster.state.clone();
    for (heard, named) in [
        (&[][..], "broker 1 does not say that it supports more than 1"),
        (&[(1, 2), (2, 2)], "broker 3 does not say"),
        (&[(1, 2), (2, 1), (3, 2)], "feature level 2 needs every broker to support it: broker 2 supports up to 1"),
    ] {
        let refused = cluster.state.write(WallMs(0), raise(2, heard)).expect_err("one lags");
        assert!(refused.to_string().contains(named), "{refused}");
        assert_eq!(cluster.apply(raise(2, heard)), Err(refused), "it was written by somebody who knew less");
    }
    assert_eq!(cluster.state.feature_level(), before.feature_level());

    let all = [(1, 2), (2, 2), (3, 2), (7, 1)];
    assert!(cluster.state.write(WallMs(0), raise(2, &all)).is_ok(), "nobody knows broker 7");
    let raised = cluster.apply(raise(2, &all));
    assert_eq!(raised, Ok(Outcome::FeatureLevelRaised { from: 1, to: 2 }));
    let supported: Vec<_> = (1..=4).map(|id| cluster.state.supported_by(BrokerId(id))).collect();
    assert_eq!(supported, [Some(2), Some(2), Some(2), None]);

    let again = cluster.apply(raise(2, &[]));
    assert_eq!(again, Ok(Outcome::FeatureLevelRaised { from: 2, to: 2 }), "and once more changes nothing");
    assert_eq!(cluster.apply(raise(1, &all)), Err(Refusal::LevelLowered { asked: 1, level: 2 }));
    let refused = cluster.apply(raise(9, &[])).expect_err("nobody supports it");
    assert!(refused.to_string().contains("broker 1 supports up to 2, broker 2"), "{refused}");
}

/// The gate: whatever a command is, its bytes are of no higher level than the cluster's.
#[test]
fn nothing_above_the_clusters_level_is_written() {
    let cluster = Cluster::founded(3, |_| None);
    assert!(changes().iter().any(|(_, change)| change.level() > 1), "else this shows nothing");
    for (name, change) in changes() {
        let level = change.level();
        match cluster.state.write(WallMs(1), change) {
            Ok(bytes) => assert_eq!(Command::decode(&bytes).expect("our own bytes").change.level(), 1, "{name}"),
            Err(Refusal::AboveLevel { needed, level: 1 }) => assert_eq!(needed, level, "{name}"),
            Err(Refusal::BrokersBehind { .. }) => assert_eq!(name, "raise-feature-level"),
            Err(refusal) => panic!("{name}: {refusal}"),
        }
    }
    // Registrations of both forms are wished for; the log has the one that all can read.
    let written = cluster.state.write(WallMs(1), register(4, 2)).expect("it has a form of level 1");
    assert_eq!(Command::decode(&written).expect("our own bytes").change, Change::RegisterBroker(registration(4)));
    let raised = at_level_2(3);
    let written = raised.state.write(WallMs(1), register(4, 2)).expect("as it is");
    assert_eq!(Command::decode(&written).expect("our own bytes").change, register(4, 2));
}

#[test]
fn a_broker_below_the_clusters_level_is_refused() {
    let mut cluster = at_level_2(3);
    let before = cluster.state.clone();
    for (id, change) in [
        (4, register(4, 1)),
        (2, register(2, 1)),
        // As brokers of level 1 register.
        (4, Change::RegisterBroker(registration(4))),
        (2, Change::RegisterBroker(registration(2))),
    ] {
        let refused = cluster.apply(change.clone()).expect_err("it could not read what is written");
        let text = refused.to_string();
        assert!(text.contains(&format!("broker {id}")) && text.contains("the cluster is at 2"), "{text}");
        assert!(text.contains("supports feature level 2"), "{text}");
        assert!(!cluster.state.was_written_lower(&change, &refused), "{text}");
    }
    assert_eq!(cluster.state.levels, before.levels);
    assert!(cluster.apply(register(4, 5)).is_ok(), "it can do more");
    assert_eq!(cluster.state.supported_by(BrokerId(4)), Some(5));
}

/// A registration that was written for level 1 and came behind the raise: the broker is not told that it is too old.
#[test]
fn a_registration_that_a_raise_overtook_is_made_again() {
    let mut cluster = Cluster::founded(2, |_| None);
    let wish = register(3, 2);
    let written = cluster.state.write(WallMs(0), wish.clone()).expect("it has a form of level 1");
    cluster.apply(raise(2, &[(1, 2), (2, 2)])).expect("both support it");
    let refused = cluster.apply_bytes(&written).expect_err("it says no level");
    assert!(cluster.state.was_written_lower(&wish, &refused), "{refused}");
    assert!(cluster.apply(wish).is_ok());
}

/// Below level 3 there is no room for it; from then on the last word counts, whatever the level of the words.
#[test]
fn where_kafka_clients_reach_a_broker_is_registered_from_level_3_on() {
    let mut cluster = at_level_2(3);
    let told = |cluster: &Cluster| (1..=3).map(|id| cluster.state.kafka_address(BrokerId(id)).is_some()).collect();
    let none: Vec<bool> = told(&cluster);
    let written =
        cluster.state.write(WallMs(0), register_with_kafka(1, 3, "k1:9092")).expect("it has a form of level 2");
    assert_eq!(Command::decode(&written).expect("our own bytes").change, register(1, 3));
    cluster.apply_bytes(&written).expect("a valid registration");
    assert_eq!((told(&cluster), none), (vec![false; 3], vec![false; 3]));

    cluster.apply(raise(3, &[(2, 3), (3, 3)])).expect("all support it, broker 1 by its registration");
    for id in 1..=2 {
        let said = register_with_kafka(id, 3, &format!("k{id}:9092"));
        let written = cluster.state.write(WallMs(0), said.clone()).expect("as it is");
        assert_eq!(Command::decode(&written).expect("our own bytes").change, said);
        cluster.apply_bytes(&written).expect("a valid registration");
    }
    assert_eq!(told(&cluster), [true, true, false]);
    // It was written before the raise and came after it.
    cluster.apply(register(1, 3)).expect("a valid registration");
    assert_eq!(cluster.state.kafka_address(BrokerId(1)), Some("k1:9092"), "it says nothing of it");
    cluster.apply(register_with_kafka(1, 3, "moved:9092")).expect("a valid registration");
    assert_eq!(cluster.state.kafka_address(BrokerId(1)), Some("moved:9092"));
    cluster.apply(register_with_kafka(1, 3, "")).expect("a valid registration");
    assert_eq!(told(&cluster), [false, true, false], "it has no listener for Kafka clients any more");

    let before = cluster.state.clone();
    let refused = cluster.apply(register_with_kafka(2, 3, &"k".repeat(262))).expect_err("no address is so long");
    assert!(refused.to_string().contains("kafka_address"), "{refused}");
    assert_eq!(cluster.state.kafka_addresses, before.kafka_addresses);
}

/// A registration of level 1 that a raise to level 3 overtook: the broker is not told that it is too old.
#[test]
fn a_registration_with_a_kafka_address_that_a_raise_overtook_is_made_again() {
    let mut cluster = Cluster::founded(2, |_| None);
    let wish = register_with_kafka(3, 3, "k3:9092");
    let written = cluster.state.write(WallMs(0), wish.clone()).expect("it has a form of level 1");
    assert_eq!(Command::decode(&written).expect("our own bytes").change, Change::RegisterBroker(registration(3)));
    cluster.apply(raise(3, &[(1, 3), (2, 3)])).expect("both support it");
    let refused = cluster.apply_bytes(&written).expect_err("it says no level");
    assert!(cluster.state.was_written_lower(&wish, &refused), "{refused}");
    assert!(cluster.apply(wish).is_ok());
}

/// The level of the state counts where an entry is applied, so all replicas agree, and those of snapshots with them.
#[test]
fn groups_that_hold_nothing_stay_from_level_4_on() {
    let mut cluster = at_level_2(2);
    cluster.apply(raise(3, &[(1, 4), (2, 4)])).expect("both support it");
    cluster.apply(Change::CreateTopic(creation("t", 1, 1))).expect("a valid topic");
    let offset = CommitOffset { topic: "t".into(), ..CommitOffset::default() };
    let commit = Commit { group: "g".into(), offsets: vec![offset], ..Commit::default() };
    let partitions = [("t".to_string(), vec![PartitionId(0)])].into();
    let forget = Change::Group(GroupCommand::DeleteOffsets { group: "g".into(), partitions });
    for (level, stays) in [(3, false), (4, true)] {
        cluster.apply(raise(level, &[])).expect("both support it");
        cluster.apply(Change::Group(GroupCommand::Commit(vec![commit.clone()]))).expect("never refused as a whole");
        cluster.apply(forget.clone()).expect("there is a group");
        assert_eq!(cluster.state.group(&"g".into()).is_some(), stays, "level {level}");
        let decoded = Metadata::decode(&cluster.state.encode()).expect("our own bytes");
        assert_eq!(decoded, cluster.state, "level {level}");
    }
    // Below the level nobody makes such a state.
    let error = Metadata { feature_level: 3, ..cluster.state }.index().expect_err("it is impossible");
    assert!(error.contains("holds nothing"), "{error}");
}

/// What no command makes is not read either.
#[test]
fn a_state_with_impossible_kafka_addresses_is_refused() {
    type Break = fn(&mut Metadata);
    let breaks: [Break; 4] = [
        |state| drop(state.kafka_addresses.insert(BrokerId(7), "k7:9092".to_string())),
        |state| drop(state.kafka_addresses.insert(BrokerId(1), String::new())),
        |state| drop(state.kafka_addresses.insert(BrokerId(1), "k".repeat(262))),
        |state| state.feature_level = 2,
    ];
    let mut cluster = at_level_2(2);
    cluster.apply(raise(3, &[(1, 3), (2, 3)])).expect("both support it");
    cluster.apply(register_with_kafka(1, 3, "k1:9092")).expect("a valid registration");
    for break_it in breaks {
        let mut state = cluster.state.clone();
        break_it(&mut state);
        let error = state.index().expect_err("it is impossible");
        assert!(error.contains("Kafka clients are told"), "{error}");
    }
}

/// A snapshot is read by brokers of the cluster's level.
#[test]
fn a_state_is_written_as_its_level_allows() {
    let mut cluster = Cluster::founded(2, |_| None);
    assert_eq!(cluster.state.encode()[0], 2);
    cluster.apply(raise(2, &[(1, 2), (2, 3)])).expect("both support it");
    let bytes = cluster.state.encode();
    assert_eq!(bytes[0], 3);
    assert_eq!(Metadata::decode(&bytes).expect("our own bytes"), cluster.state);
    cluster.apply(raise(3, &[(1, 3), (2, 3)])).expect("both support it");
    cluster.apply(register_with_kafka(2, 3, "k2:9092")).expect("a valid registration");
    let bytes = cluster.state.encode();
    assert_eq!(bytes[0], STATE_VERSION);
    assert_eq!(Metadata::decode(&bytes).expect("our own bytes"), cluster.state);
    assert_eq!(Metadata::decode(&bytes).expect("our own bytes").kafka_address(BrokerId(2)), Some("k2:9092"));
    let old = Metadata::decode(&frozen::literal(STATES, "topics")).expect("version 2 is read");
    assert_eq!((old.feature_level(), old.supported_by(BrokerId(1))), (1, None));
    // Brokers and what they support belong together.
    cluster.state.levels.remove(&BrokerId(1));
    let error = Metadata::decode(&cluster.state.encode()).expect_err("broker 1 said nothing").to_string();
    assert!(error.contains("feature level 3"), "{error}");
}

/// Of a newer version: the replica stops where it is, and says what it would take to go on.
#[test]
fn what_this_version_cannot_read_stops_it_with_the_level_that_is_needed() {
    let next = FEATURE_LEVEL + 1;
    let mut cluster = at_level_2(2);
    for id in 1..=2 {
        cluster.apply(register(id, next)).expect("a newer version");
    }
    let before = cluster.state.clone();
    let stopped = cluster.try_apply(&Command::new(WallMs(9), raise(next, &[])).encode()).expect_err("too new");
    let text = stopped.to_string();
    assert!(text.contains(&format!("needs feature level {next}")), "{text}");
    assert!(text.contains(&format!("supports up to {FEATURE_LEVEL}")), "{text}");
    assert_eq!(cluster.state, before, "as it was");

    // A snapshot of such a cluster.
    let newer = Metadata { feature_level: next, ..before.clone() };
    let error = Metadata::decode(&newer.encode()).expect_err("too new");
    assert!(matches!(error, StateDecodeError::FeatureLevel(needs) if needs.needed == next), "{error}");
    assert!(error.to_string().contains(&format!("needs feature level {next}")), "{error}");

    // A variant that nobody raised the level for: at least it is not passed over.
    let mut unknown = Command::new(WallMs(1), raise(2, &[])).encode().to_vec();
    unknown[2] = 99;
    let text = cluster.try_apply(&unknown.into()).expect_err("no such variant").to_string();
    assert!(text.contains(&format!("a feature level above {FEATURE_LEVEL}")), "{text}");
    assert_eq!(cluster.state, before, "as it was");

    let mut fresh = Cluster::default();
    let wish = Found { cluster_id: ClusterId(9), founders: vec![BrokerId(1)] };
    let founded = Command::new(WallMs(1), Change::FoundAt { wish, feature_level: next }).encode();
    let text = fresh.try_apply(&founded).expect_err("too new").to_string();
    assert!(text.contains(&format!("needs feature level {next}")), "{text}");
}
