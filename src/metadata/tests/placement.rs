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

fn create_while_dead(
    cluster: &mut Cluster,
    name: &str,
    partitions: i32,
    factor: i32,
    dead: &[u64],
) -> Vec<Vec<BrokerId>> {
    let dead = dead.iter().copied().map(BrokerId).collect();
    let wish = creation(name, partitions, factor);
    cluster.apply(Change::CreateTopic(wish).on_live(dead)).expect("a valid wish");
    let topic = cluster.state.topic(name).expect("it was created");
    topic.partitions.iter().map(|p| p.replicas.iter().map(|(_, broker)| *broker).collect()).collect()
}

/// Seen once: replicas, even preferred leaders, went to brokers known to be dead.
#[test]
fn a_dead_broker_gets_no_replica_while_there_are_enough_others() {
    let mut cluster = Cluster::founded(5, |id| Some(format!("rack-{}", id % 3)));
    for (name, factor, dead) in [("a", 3, vec![2]), ("b", 3, vec![1, 4]), ("c", 1, vec![1, 2, 3, 4])] {
        for replicas in create_while_dead(&mut cluster, name, 12, factor, &dead) {
            assert!(replicas.iter().all(|broker| !dead.contains(&broker.0)), "{name}, dead {dead:?}: {replicas:?}");
        }
    }
    let topic_id = cluster.state.topic("a").expect("it was created").id;
    let wish = AddPartitions { name: "a".to_string(), topic_id, partitions: 20 };
    cluster.apply(Change::AddPartitions(wish).on_live(vec![BrokerId(5)])).expect("a valid wish");
    let added = &cluster.state.topic("a").expect("it was created").partitions[12..];
    assert!(added.iter().all(|p| p.replicas.iter().all(|(_, broker)| broker.0 != 5)), "{added:?}");
}

#[test]
fn with_too_few_live_brokers_the_dead_get_what_is_left_and_lead_nothing() {
    let mut cluster = Cluster::founded(4, |id| Some(format!("rack-{}", id % 2)));
    for replicas in create_while_dead(&mut cluster, "t", 20, 3, &[1, 2]) {
        let live = replicas.iter().filter(|broker| broker.0 > 2).count();
        assert_eq!(live, 2, "both live brokers hold it: {replicas:?}");
        assert!(replicas[0].0 > 2, "a live broker is preferred: {replicas:?}");
    }
    let (replicas, _) = loads(&cluster.state);
    assert!((replicas[&BrokerId(1)] - replicas[&BrokerId(2)]).abs() <= 1, "{replicas:?}");
}
