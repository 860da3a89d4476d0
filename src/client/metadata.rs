//! What a client knows of the cluster. Pure; may be old, never wrong about which of two leaders is newer.

use std::collections::{BTreeMap, HashMap};

use super::error::LeaderHint;
use crate::{
    proto::v1,
    types::{BrokerId, LeaderEpoch, PartitionId},
};

/// The config of a topic that says how large a batch may be.
const BATCH_BYTES_CONFIG: &str = "max.message.bytes";
/// How long it keeps records, by their timestamps; -1: for ever.
const RETENTION_CONFIG: &str = "retention.ms";
/// Who stamps them.
const STAMPED_CONFIG: &str = "message.timestamp.type";
const STAMPED_BY_LEADER: &str = "LogAppendTime";

/// What is known of a cluster, of brokers' answers: see [`Cluster::look`](super::Cluster::look).
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The index of the metadata group's log that the newest answer was made at.
    index: u64,
    /// The broker that leads the metadata group; 0: none is known.
    pub(super) metadata_leader: BrokerId,
    metadata_leader_epoch: LeaderEpoch,
    brokers: BTreeMap<BrokerId, KnownBroker>,
    topics: HashMap<String, KnownTopic>,
}

/// What is known of one broker, as far as it matters for asking it.
#[derive(Clone, Debug, Default)]
struct KnownBroker {
    client_address: String,
    is_alive: bool,
}

/// What is known of one topic. Another one of the same name has another id, and nothing in common with it.
#[derive(Clone, Debug, Default)]
struct KnownTopic {
    /// The topic's id; it is empty if the broker did not say.
    id: String,
    /// The index of the newest view that named the topic.
    index: u64,
    /// Who leads each partition, by its number.
    leaders: Vec<Leader>,
    /// The largest batch it takes; `None`: not said.
    batch_bytes_max: Option<usize>,
    /// How long records are kept by the timestamps that their producers gave them; `None`: for ever, or not said.
    retention_ms: Option<i64>,
}

/// Who leads a partition, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The broker that leads; 0: nobody, as far as is known.
    pub broker: BrokerId,
    /// The epoch since which the leader leads.
    pub epoch: LeaderEpoch,
}

impl Metadata {
    /// Whether some broker has said which ones there are.
    pub(super) fn knows_brokers(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The partitions' leaders, by partition; `None` if the topic is not known (yet).
    pub fn topic(&self, name: &str) -> Option<&[Leader]> {
        self.topics.get(name).map(|topic| topic.leaders.as_slice())
    }

    /// The topic that has the name, as far as is known; empty if it is not.
    pub(super) fn topic_id(&self, name: &str) -> &str {
        self.topics.get(name).map_or("", |topic| topic.id.as_str())
    }

    /// The largest batch that a topic takes (`max.message.bytes`), as it is known now.
    pub(super) fn batch_bytes_max(&self, name: &str) -> Option<usize> {
        self.topics.get(name)?.batch_bytes_max
    }

    /// How long a topic keeps records, by the timestamps that producers give them. `None`: for ever, its leaders stamp
    /// them, or it is not known.
    pub fn retention_ms(&self, name: &str) -> Option<i64> {
        self.topics.get(name)?.retention_ms
    }

    pub(super) fn topic_names(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    /// Who leads a partition, if that is known.
    pub fn leader(&self, topic: &str, partition: PartitionId) -> Option<Leader> {
        let partition = usize::try_from(partition.0).ok()?;
        self.topics.get(topic)?.leaders.get(partition).copied().filter(|l| l.broker.0 != 0)
    }

    /// Returns where clients reach a broker.
    pub(super) fn address(&self, broker: BrokerId) -> Option<&str> {
        self.brokers.get(&broker).map(|b| b.client_address.as_str()).filter(|a| !a.is_empty())
    }

    /// Where clients reach a broker that is alive, as far as is known.
    pub(super) fn live_address(&self, broker: BrokerId) -> Option<&str> {
        self.brokers.get(&broker).filter(|b| b.is_alive).and_then(|_| self.address(broker))
    }

    /// Returns all client addresses: those of brokers said to be alive, and the others.
    pub(super) fn addresses(&self) -> (Vec<String>, Vec<String>) {
        let (live, dead): (Vec<_>, Vec<_>) = self.brokers.values().partition(|b| b.is_alive);
        let known = |brokers: Vec<&KnownBroker>| {
            let addresses = brokers.into_iter().map(|b| b.client_address.clone());
            addresses.filter(|address| !address.is_empty()).collect()
        };
        (known(live), known(dead))
    }

    /// Takes in a broker's view. An older view brings no older leader back, whoever it comes from.
    pub(super) fn update(&mut self, answer: v1::GetMetadataResponse) {
        let is_cut_off = is_cut_off(&answer);
        let index = answer.metadata_index;
        let (leader, epoch) = (BrokerId(answer.metadata_leader), LeaderEpoch(answer.metadata_leader_epoch));
        if leader.0 != 0 && (epoch >= self.metadata_leader_epoch || self.metadata_leader.0 == 0) {
            (self.metadata_leader, self.metadata_leader_epoch) = (leader, epoch);
        }
        let is_news = !is_cut_off && index >= self.index;
        self.index = self.index.max(index);
        self.update_brokers(answer.brokers, is_cut_off, is_news);
        for topic in answer.topics {
            if !topic.partitions.is_empty() {
                self.update_topic(topic, index, is_news);
            } // Else it is not known there; it may be, a moment later.
        }
    }

    fn update_brokers(&mut self, brokers: Vec<v1::BrokerInfo>, is_cut_off: bool, is_news: bool) {
        if brokers.is_empty() {
            return;
        }
        let known =
            |b: v1::BrokerInfo| (BrokerId(b.id), KnownBroker { client_address: b.client_address, is_alive: b.alive });
        if is_news {
            self.brokers = brokers.into_iter().map(known).collect();
            return;
        }
        for (id, broker) in brokers.into_iter().map(known) {
            match self.brokers.get_mut(&id) {
                // Who is cut off takes all others for dead.
                Some(known) if !is_cut_off => known.is_alive = broker.is_alive,
                Some(_) => {}
                None => drop(self.brokers.insert(id, broker)),
            }
        }
    }

    fn update_topic(&mut self, topic: v1::TopicRouting, index: u64, is_news: bool) {
        let known = self.topics.entry(topic.name).or_default();
        if known.id != topic.id {
            if index < known.index {
                return; // It has not heard that the topic was replaced.
            }
            // Epochs of the one say nothing about the other.
            *known = KnownTopic { id: topic.id, ..KnownTopic::default() };
        }
        known.index = known.index.max(index);
        if is_news || known.batch_bytes_max.is_none() {
            known.batch_bytes_max = topic.configs.get(BATCH_BYTES_CONFIG).and_then(|max| max.parse().ok());
            let is_stamped = topic.configs.get(STAMPED_CONFIG).is_some_and(|by| by == STAMPED_BY_LEADER);
            let keeps_ms = topic.configs.get(RETENTION_CONFIG).and_then(|keeps| keeps.parse().ok());
            known.retention_ms = keeps_ms.filter(|keeps| !is_stamped && *keeps >= 0);
        }
        let known = &mut known.leaders;
        for p in topic.partitions {
            // Partitions come numbered without gaps; a wild number is not worth memory.
            let Ok(i) = usize::try_from(p.partition) else { continue };
            if i > known.len() {
                continue;
            }
            if i == known.len() {
                known.push(Leader::default());
            }
            let now = Leader { broker: BrokerId(p.leader), epoch: LeaderEpoch(p.epoch) };
            if now.broker.0 != 0 && (now.epoch > known[i].epoch || known[i].broker.0 == 0) {
                known[i] = now;
            }
        }
    }

    /// Takes in a leader hint. Returns whether the leader is another one now.
    pub(super) fn learn_leader(&mut self, topic: &str, partition: PartitionId, hint: &LeaderHint) -> bool {
        let leaders = self.topics.get_mut(topic).map(|topic| &mut topic.leaders);
        let known = leaders.and_then(|leaders| leaders.get_mut(usize::try_from(partition.0).ok()?));
        let Some(known) = known else { return false };
        if hint.broker.0 == 0 || hint.epoch < known.epoch || (known.broker, known.epoch) == (hint.broker, hint.epoch) {
            return false;
        }
        *known = Leader { broker: hint.broker, epoch: hint.epoch };
        if !hint.address.is_empty() {
            let alive = || KnownBroker { is_alive: true, ..KnownBroker::default() };
            let known = self.brokers.entry(hint.broker).or_insert_with(alive);
            known.client_address = hint.address.clone();
        }
        true
    }
}

/// The broker that answered is not in touch with the others: it says so, or takes most of them for dead, which it may
/// see before it says so.
pub(super) fn is_cut_off(answer: &v1::GetMetadataResponse) -> bool {
    let alive = answer.brokers.iter().filter(|broker| broker.alive).count();
    answer.routes_stale || !answer.brokers.is_empty() && alive <= answer.brokers.len() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader as it is known.
    fn led(broker: u64, epoch: i32) -> Leader {
        Leader { broker: BrokerId(broker), epoch: LeaderEpoch(epoch) }
    }

    fn answer(leaders: &[(u64, i32)]) -> v1::GetMetadataResponse {
        let partitions = leaders.iter().enumerate().map(|(i, &(leader, epoch))| v1::PartitionRouting {
            partition: i as i32,
            leader,
            epoch,
            replicas: vec![],
        });
        let topic = v1::TopicRouting { name: "t".into(), partitions: partitions.collect(), ..Default::default() };
        v1::GetMetadataResponse { topics: vec![topic], ..Default::default() }
    }

    #[test]
    fn an_older_view_brings_no_older_leader_back() {
        let mut m = Metadata::default();
        m.update(answer(&[(1, 4), (0, 0)]));
        assert_eq!(m.leader("t", PartitionId(0)), Some(led(1, 4)));
        assert_eq!(m.leader("t", PartitionId(1)), None);
        let hint = LeaderHint { broker: BrokerId(2), address: "b:1".into(), epoch: LeaderEpoch(5) };
        assert!(m.learn_leader("t", PartitionId(0), &hint));
        assert!(!m.learn_leader("t", PartitionId(0), &hint));
        m.update(answer(&[(1, 4), (3, 1)]));
        assert_eq!(m.leader("t", PartitionId(0)), Some(led(2, 5)));
        assert_eq!(m.leader("t", PartitionId(1)), Some(led(3, 1)));
        assert_eq!(m.address(BrokerId(2)), Some("b:1"));
    }

    #[test]
    fn a_namesakes_leaders_are_not_compared_with_its_predecessors() {
        let of = |id: &str, metadata_index, leaders: &[(u64, i32)]| {
            let mut answer = answer(leaders);
            (answer.topics[0].id, answer.metadata_index) = (id.into(), metadata_index);
            answer
        };
        let mut m = Metadata::default();
        m.update(of("a", 10, &[(1, 40), (2, 40)]));
        m.update(of("b", 20, &[(3, 1)]));
        assert_eq!((m.topic_id("t"), m.topic("t")), ("b", Some(&[led(3, 1)][..])));
        // From a broker that is late.
        m.update(of("a", 15, &[(1, 41), (2, 41)]));
        assert_eq!((m.topic_id("t"), m.leader("t", PartitionId(1))), ("b", None));
    }

    #[test]
    fn a_broker_that_is_cut_off_changes_nobodys_mind() {
        let broker = |id, address: &str, alive| v1::BrokerInfo {
            id,
            client_address: address.into(),
            alive,
            ..Default::default()
        };
        let mut m = Metadata::default();
        // With nothing else known its word is better than none.
        let cut_off = v1::GetMetadataResponse {
            brokers: vec![broker(1, "a:1", true), broker(2, "b:1", false), broker(3, "c:1", true)],
            metadata_leader: 1,
            metadata_leader_epoch: 3,
            routes_stale: true,
            metadata_index: 9,
            ..answer(&[(1, 3)])
        };
        m.update(cut_off.clone());
        let (live, dead) = (vec!["a:1".to_string(), "c:1".to_string()], vec!["b:1".to_string()]);
        assert_eq!((m.metadata_leader.0, m.addresses()), (1, (live, dead)));
        let other = v1::GetMetadataResponse {
            brokers: vec![broker(1, "a:1", false), broker(2, "b:2", true), broker(3, "c:1", true)],
            metadata_leader: 2,
            metadata_leader_epoch: 4,
            metadata_index: 9,
            ..answer(&[(2, 4)])
        };
        m.update(other);
        m.update(cut_off);
        assert_eq!((m.metadata_leader.0, m.leader("t", PartitionId(0))), (2, Some(led(2, 4))));
        assert_eq!(m.addresses(), (vec!["b:2".to_string(), "c:1".to_string()], vec!["a:1".to_string()]));
        assert_eq!((m.live_address(BrokerId(1)), m.address(BrokerId(1))), (None, Some("a:1")));
    }

    #[test]
    fn who_takes_most_others_for_dead_is_cut_off_whatever_it_says() {
        let view = |alive: &[bool], routes_stale| {
            let brokers = alive.iter().map(|&alive| v1::BrokerInfo { alive, ..Default::default() });
            is_cut_off(&v1::GetMetadataResponse { brokers: brokers.collect(), routes_stale, ..Default::default() })
        };
        assert!(!view(&[true, true, false], false));
        assert!(view(&[true, false, false], false));
        assert!(view(&[true, true, true], true));
        assert!(!view(&[true], false));
        assert!(!view(&[], false), "a broker that names none says nothing");
    }

    #[test]
    fn p21_how_long_records_are_kept_is_known_where_producers_date_them() {
        let kept = |configs: &[(&str, &str)]| {
            let mut view = answer(&[(1, 1)]);
            view.topics[0].configs = configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let mut m = Metadata::default();
            m.update(view);
            m.retention_ms("t")
        };
        assert_eq!(kept(&[("retention.ms", "1000"), ("message.timestamp.type", "CreateTime")]), Some(1_000));
        assert_eq!(kept(&[("retention.ms", "1000"), ("message.timestamp.type", "LogAppendTime")]), None);
        assert_eq!((kept(&[("retention.ms", "-1")]), kept(&[])), (None, None));
    }

    #[test]
    fn wild_partition_numbers_take_no_memory() {
        let mut m = Metadata::default();
        let mut wild = answer(&[(1, 1)]);
        wild.topics[0].partitions[0].partition = i32::MAX;
        m.update(wild);
        assert_eq!(m.topic("t").map(<[Leader]>::len), Some(0));
    }
}
