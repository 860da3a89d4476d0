//! Placement spreads: over racks first, then by load.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Replicas and preferred leaders per broker, brokers without any included.
fn loads(state: &Metadata) -> (BTreeMap<BrokerId, i64>, BTreeMap<BrokerId, i64>) {
    let none: BTreeMap<BrokerId, i64> = state.brokers().map(|b| (b.id, 0)).collect();
    let (mut replicas, mut leaders) = (none.clone(), none);
    for partition in state.topics().flat_map(|t| &t.partitions) {
        *leaders.get_mut(&partition.replicas[0].1).unwrap() += 1;
        for (_, broker) in &partition.replicas {
            *replicas.get_mut(broker).unwrap() += 1;
        }
    }
    (replicas, leaders)
}

fn spread(loads: &BTreeMap<BrokerId, i64>) -> i64 {
    loads.values().max().unwrap() - loads.values().min().unwrap()
}

fn assert_racks_differ(state: &Metadata) {
    for topic in state.topics() {
        for partition in &topic.partitions {
            let racks: BTreeSet<_> =
                partition.replicas.iter().map(|(_, b)| state.broker(*b).unwrap().rack.clone()).collect();
            assert_eq!(racks.len(), partition.replicas.len(), "{}: {partition:?}", topic.name);
        }
    }
}

#[test]
fn three_racks_of_two_never_share_a_rack_and_stay_within_one_of_even() {
    for replication_factor in 1..=3 {
        let mut cluster = Cluster::founded(6, |id| Some(format!("rack-{}", id % 3)));
        for i in 0..120 {
            let wish = creation(&format!("topic-{i}"), 1 + i % 7, replication_factor);
            cluster.apply(Change::CreateTopic(wish)).unwrap();
            assert_racks_differ(&cluster.state);
            let (replicas, leaders) = loads(&cluster.state);
            assert!(spread(&replicas) <= 1, "factor {replication_factor}, topic {i}: {replicas:?}");
            assert!(spread(&leaders) <= 2, "factor {replication_factor}, topic {i}: {leaders:?}");
        }
    }
}

#[test]
fn without_racks_replicas_stay_within_one_of_even() {
    for brokers in 3..=7 {
        let mut cluster = Cluster::founded(brokers, |_| None);
        for i in 0..60 {
            cluster.apply(Change::CreateTopic(creation(&format!("t{i}"), 5, 3))).unwrap();
            let (replicas, leaders) = loads(&cluster.state);
            assert!(spread(&replicas) <= 1, "{brokers} brokers: {replicas:?}");
            assert!(spread(&leaders) <= 2, "{brokers} brokers: {leaders:?}");
        }
    }
}

#[test]
fn too_few_racks_are_shared_evenly() {
    let mut cluster = Cluster::founded(6, |id| Some(format!("rack-{}", id % 2)));
    cluster.apply(Change::CreateTopic(creation("t", 40, 3))).unwrap();
    for partition in &cluster.state.topic("t").unwrap().partitions {
        let brokers: BTreeSet<_> = partition.replicas.iter().map(|(_, b)| *b).collect();
        assert_eq!(brokers.len(), 3, "{partition:?}");
        let in_zero = brokers.iter().filter(|b| b.0 % 2 == 0).count();
        assert!((1..=2).contains(&in_zero), "{partition:?}");
    }
    assert!(spread(&loads(&cluster.state).0) <= 1);
}

#[test]
fn a_new_broker_takes_its_share_and_deletes_are_counted() {
    let mut cluster = Cluster::founded(3, |_| None);
    let old = creation("old", 12, 3);
    cluster.apply(Change::CreateTopic(old.clone())).unwrap();
    cluster.apply(Change::RegisterBroker(registration(4))).unwrap();
    cluster.apply(Change::CreateTopic(creation("new", 9, 2))).unwrap();
    let (replicas, _) = loads(&cluster.state);
    assert_eq!(replicas[&BrokerId(4)], 9, "one replica of each new partition: {replicas:?}");
    cluster.apply(Change::DeleteTopic(DeleteTopic { name: old.name, topic_id: old.topic_id })).unwrap();
    cluster.apply(Change::CreateTopic(creation("newer", 9, 2))).unwrap();
    let (replicas, _) = loads(&cluster.state);
    assert!(spread(&replicas) <= 1, "{replicas:?}");
}

/// A dead broker's preferred leaders must not all have the same next replica.
#[test]
fn a_brokers_partners_are_many() {
    let mut cluster = Cluster::founded(6, |_| None);
    cluster.apply(Change::CreateTopic(creation("t", 60, 3))).unwrap();
    let partitions = &cluster.state.topic("t").unwrap().partitions;
    let led = partitions.iter().filter(|p| p.replicas[0].1 == BrokerId(1));
    let seconds: BTreeSet<_> = led.map(|p| p.replicas[1].1).collect();
    assert!(seconds.len() >= 3, "{seconds:?}");
}
