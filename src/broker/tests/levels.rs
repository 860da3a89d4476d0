//! Feature levels: a cluster whose brokers are of different versions, and how it is upgraded (`formats`).

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;

use super::rig::{Cluster, PATIENCE, until};
use crate::{
    broker::{AdminError, BrokerFailed, Caller, FeatureLevelRaised, RaiseFeatureLevelRequest, TransferLeaderRequest},
    formats::FEATURE_LEVEL,
    metadata::{Command, Metadata},
    storage::{EntryKind, Store, StoreOptions, WriterProbe},
    types::{BrokerId, LogIndex, METADATA_GROUP},
};

async fn raise(cluster: &Cluster, id: u64, dry_run: bool) -> Result<FeatureLevelRaised, AdminError> {
    let request = RaiseFeatureLevelRequest { dry_run, ..RaiseFeatureLevelRequest::default() };
    cluster.broker(id).raise_feature_level(&Caller::ANONYMOUS, request).await
}

/// As the broker has it applied.
fn level(cluster: &Cluster, id: u64) -> u32 {
    cluster.broker(id).parts.node.metadata().map_or(0, |metadata| metadata.read(Metadata::feature_level))
}

async fn restart_at(cluster: &mut Cluster, id: u64, level: u32) {
    cluster.end(id).await;
    cluster.levels.insert(id, level);
    cluster.run(id).await;
}

/// The highest level of what lies in a broker's metadata log, and the version of its saved state.
async fn written(cluster: &Cluster, id: u64) -> (u32, Option<u8>) {
    let disk = cluster.disks[&id].copy(id);
    let on_failure = Arc::new(|error: &_| panic!("{error:?}"));
    let kv = Arc::new(disk.open());
    let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), on_failure).await.unwrap();
    let groups = store.groups().await.unwrap();
    let (group, replica) = *groups.iter().find(|(group, _)| *group == METADATA_GROUP).expect("it is registered");
    let log = store.open_log(group, replica).await.unwrap();
    let from = LogIndex(log.purged().map_or(0, |at| at.index.0 + 1));
    let to = LogIndex(log.last().expect("it has registered somebody").index.0 + 1);
    let entries = log.read_all(from, to).await.unwrap();
    let commands = entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
    let levels = commands.map(|entry| Command::decode(&entry.payload).unwrap().change.level());
    let saved = log.load_applied().await.unwrap();
    (levels.max().expect("it has commands"), saved.map(|saved| saved.state[0]))
}

async fn end_of(cluster: &Cluster, id: u64) -> BrokerFailed {
    let broker = cluster.broker(id);
    timeout(PATIENCE, broker.failed()).await.unwrap_or_else(|_| panic!("broker {id} goes on"))
}

#[tokio::test]
async fn a_new_cluster_is_at_the_newest_level() {
    let cluster = Cluster::start(3, 61_000).await;
    let health = cluster.broker(2).health(&Caller::ANONYMOUS).await;
    assert_eq!((health.feature_level, health.feature_level_supported), (FEATURE_LEVEL, FEATURE_LEVEL));
    assert!(!health.notes.iter().any(|note| note.contains("feature level")), "{:?}", health.notes);
    assert_eq!(raise(&cluster, 1, false).await, Ok(FeatureLevelRaised { from: FEATURE_LEVEL, to: FEATURE_LEVEL }));
    // Level 4 changes what an entry does, and brings no new one.
    assert_eq!(written(&cluster, 1).await.0, 3);
}

/// The rolling upgrade: three brokers of level 1 are restarted with level 2 one after the other, then the level rises.
#[tokio::test]
async fn a_cluster_with_a_broker_behind_is_raised_once_that_one_has_caught_up() {
    let mut cluster = Cluster::unstarted(3, 62_000).await;
    cluster.levels = [(1, 1), (2, 1), (3, 1)].into();
    cluster.run_all().await;
    cluster.create("t", 1).await;
    let health = cluster.broker(1).health(&Caller::ANONYMOUS).await;
    assert_eq!((health.feature_level, health.feature_level_supported), (1, 1));

    for id in [1, 2] {
        restart_at(&mut cluster, id, 2).await;
        cluster.wait_ready(id).await;
    }
    // One more, of the new version, while a leader of the old one can only read how that one registers.
    let to_broker_3 = TransferLeaderRequest { partition: None, to: Some(BrokerId(3)), timeout: PATIENCE };
    cluster.broker(1).transfer_leader(&Caller::ANONYMOUS, to_broker_3).await.expect("broker 3 is there");
    let fourth = cluster.add(62_100).await;
    cluster.run(fourth).await;
    cluster.wait_ready(fourth).await;
    cluster.create("u", 1).await;
    cluster.produce("t", 0).await;
    for dry_run in [true, false] {
        let refused = raise(&cluster, 1, dry_run).await.expect_err("broker 3 lags").to_string();
        assert!(refused.contains("broker 3 does not say that it supports more than 1"), "{refused}");
        assert!(![1, 2, 4].iter().any(|id| refused.contains(&format!("broker {id}"))), "{refused}");
    }
    let health = cluster.broker(2).health(&Caller::ANONYMOUS).await;
    assert_eq!((health.feature_level, health.feature_level_supported), (1, 1));
    let named = |note: &String| note.contains("stays at feature level 1") && note.contains("broker 3 does not say");
    assert!(health.notes.iter().any(named), "{:?}", health.notes);
    // All but broker 3 could write more, have registered, and were asked to raise.
    for id in 1..=4 {
        let (highest, state_version) = written(&cluster, id).await;
        assert_eq!((highest, level(&cluster, id)), (1, 1), "broker {id}");
        assert!(state_version.is_none_or(|version| version == 2), "broker {id}: {state_version:?}");
    }

    restart_at(&mut cluster, 3, 2).await;
    cluster.wait_ready(3).await;
    let health = cluster.broker(1).health(&Caller::ANONYMOUS).await;
    assert_eq!((health.feature_level, health.feature_level_supported), (1, 2));
    assert!(health.notes.iter().any(|note| note.contains("flotilla cluster upgrade")), "{:?}", health.notes);
    assert_eq!(raise(&cluster, 3, true).await, Ok(FeatureLevelRaised { from: 1, to: 2 }));
    assert_eq!(level(&cluster, 3), 1, "a dry run");
    assert_eq!(raise(&cluster, 3, false).await, Ok(FeatureLevelRaised { from: 1, to: 2 }));
    assert_eq!(raise(&cluster, 2, false).await, Ok(FeatureLevelRaised { from: 2, to: 2 }), "once more changes nothing");
    for id in 1..=4 {
        until(&format!("broker {id} is at level 2"), || async { level(&cluster, id) == 2 }).await;
    }
    cluster.create("v", 1).await;
    cluster.produce("t", 1).await;

    // What is on disk now is read again, by the same version and not by the one before.
    restart_at(&mut cluster, 2, 2).await;
    cluster.wait_ready(2).await;
    assert_eq!(written(&cluster, 2).await.0, 2);
    assert_eq!(level(&cluster, 2), 2);
}

/// What Kafka clients of a broker are told, as another broker has it applied.
fn kafka_address(cluster: &Cluster, of: u64, seen_by: u64) -> String {
    cluster.broker(seen_by).broker(BrokerId(of)).map(|known| known.kafka_address).unwrap_or_default()
}

/// At level 2 there is no room for it; nobody is restarted for it once there is.
#[tokio::test]
async fn brokers_register_by_themselves_where_kafka_clients_reach_them_once_the_level_has_room_for_it() {
    let mut cluster = Cluster::unstarted(3, 65_000).await;
    cluster.levels = [(1, 2), (2, 2), (3, 2)].into();
    cluster.run_all().await;
    for id in 1..=3 {
        restart_at(&mut cluster, id, FEATURE_LEVEL).await;
        cluster.wait_ready(id).await;
    }
    // One more, whose only registration so far is one of level 2.
    let fourth = cluster.add(65_100).await;
    cluster.run(fourth).await;
    cluster.wait_ready(fourth).await;
    let addresses = |cluster: &Cluster| (1..=4).map(|of| kafka_address(cluster, of, 1)).collect::<Vec<_>>();
    assert_eq!((level(&cluster, 1), addresses(&cluster)), (2, vec![String::new(); 4]));

    assert_eq!(raise(&cluster, 2, false).await, Ok(FeatureLevelRaised { from: 2, to: FEATURE_LEVEL }));
    let expected: Vec<String> = (1..=4).map(|id| format!("kafka-{id}:9092")).collect();
    until("all have registered again", || async { addresses(&cluster) == expected }).await;

    // It is read again from disk, and by one that comes later.
    let fifth = cluster.add(65_200).await;
    cluster.run(fifth).await;
    cluster.wait_ready(fifth).await;
    restart_at(&mut cluster, 1, FEATURE_LEVEL).await;
    cluster.wait_ready(1).await;
    assert_eq!(addresses(&cluster), expected);
    assert_eq!(kafka_address(&cluster, fifth, fifth), format!("kafka-{fifth}:9092"));
}

/// It is told at once, whether it was there before or not.
#[tokio::test]
async fn a_broker_below_the_clusters_level_does_not_join() {
    let mut cluster = Cluster::start(3, 63_000).await;
    let newcomer = cluster.add(63_100).await;
    cluster.levels.insert(newcomer, 1);
    cluster.run(newcomer).await;
    restart_at(&mut cluster, 3, 1).await;
    for id in [3, newcomer] {
        let failed = end_of(&cluster, id).await.to_string();
        assert!(failed.contains(&format!("broker {id}")), "{failed}");
        assert!(failed.contains(&format!("supports feature level {FEATURE_LEVEL}")), "{failed}");
    }
    for id in [3, newcomer] {
        restart_at(&mut cluster, id, FEATURE_LEVEL).await;
        cluster.wait_ready(id).await;
    }
    let health = cluster.broker(1).health(&Caller::ANONYMOUS).await;
    assert_eq!((health.brokers, health.feature_level_supported), (4, FEATURE_LEVEL));
}

/// Of a version that does not exist yet: now, and whenever it starts again.
#[tokio::test]
async fn a_broker_that_cannot_read_an_entry_stops_and_says_which_level_it_takes() {
    let mut cluster = Cluster::start(1, 64_000).await;
    let metadata = cluster.broker(1).parts.node.metadata().expect("it is ready");
    let term = metadata.status().borrow().term;
    // Version, time, a variant that this version does not know.
    drop(metadata.propose(term, Bytes::from_static(&[1, 2, 99])).await);
    drop(metadata);
    for restart in [false, true] {
        if restart {
            cluster.end(1).await;
            cluster.run(1).await;
        }
        let failed = end_of(&cluster, 1).await.to_string();
        assert!(failed.contains(&format!("needs a feature level above {FEATURE_LEVEL}")), "{failed}");
        assert!(failed.contains("use a newer broker"), "{failed}");
    }
}
