//! What a client knows of the cluster. Pure; may be old, never wrong about which of two leaders is newer.

use std::collections::{BTreeMap, HashMap};

use crate::proto::v1;

#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub cluster_id: String,
    /// How old the answer was: the metadata group's index.
    pub index: u64,
    /// 0: none known.
    pub metadata_leader: u64,
    brokers: BTreeMap<u64, v1::BrokerInfo>,
    topics: HashMap<String, KnownTopic>,
}

/// One topic of a name. Another one of the same name has another id, and nothing in common with it.
#[derive(Clone, Debug, Default)]
struct KnownTopic {
    /// Empty: the broker did not say.
    id: String,
    /// The newest view that named it.
    index: u64,
    /// By partition.
    leaders: Vec<Leader>,
}

/// Who leads a partition. `broker` 0: nobody, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    pub broker: u64,
    pub epoch: i32,
}

impl Metadata {
    pub fn brokers(&self) -> impl Iterator<Item = &v1::BrokerInfo> {
        self.brokers.values()
    }

    /// The partitions' leaders, by partition; `None` if the topic is not known (yet).
    pub fn topic(&self, name: &str) -> Option<&[Leader]> {
        self.topics.get(name).map(|topic| topic.leaders.as_slice())
    }

    /// The topic that has the name, as far as is known; empty if it is not.
    pub fn topic_id(&self, name: &str) -> &str {
        self.topics.get(name).map_or("", |topic| topic.id.as_str())
    }

    pub fn topic_names(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        let partition = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.leaders.get(partition).copied().filter(|l| l.broker != 0)
    }

    /// Where clients reach a broker.
    pub fn address(&self, broker: u64) -> Option<&str> {
        self.brokers.get(&broker).map(|b| b.client_address.as_str()).filter(|a| !a.is_empty())
    }

    /// All client addresses, those of live brokers first.
    pub fn addresses(&self) -> Vec<String> {
        let (live, dead): (Vec<_>, Vec<_>) = self.brokers.values().partition(|b| b.alive);
        live.into_iter().chain(dead).map(|b| b.client_address.clone()).filter(|a| !a.is_empty()).collect()
    }

    /// Takes in a broker's view. An older view brings no older leader back.
    pub fn update(&mut self, answer: v1::GetMetadataResponse) {
        if !answer.cluster_id.is_empty() {
            self.cluster_id = answer.cluster_id;
        }
        let index = answer.metadata_index;
        self.index = self.index.max(index);
        self.metadata_leader = answer.metadata_leader;
        if !answer.brokers.is_empty() {
            self.brokers = answer.brokers.into_iter().map(|b| (b.id, b)).collect();
        }
        for topic in answer.topics {
            if topic.partitions.is_empty() {
                continue; // Not known there; it may be, a moment later.
            }
            let known = self.topics.entry(topic.name).or_default();
            if known.id != topic.id {
                if index < known.index {
                    continue; // It has not heard that the topic was replaced.
                }
                // Epochs of the one say nothing about the other.
                *known = KnownTopic { id: topic.id, ..KnownTopic::default() };
            }
            known.index = known.index.max(index);
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
                let now = Leader { broker: p.leader, epoch: p.epoch };
                if now.broker != 0 && (now.epoch > known[i].epoch || known[i].broker == 0) {
                    known[i] = now;
                }
            }
        }
    }

    /// Takes in a leader hint. Returns whether the leader is another one now.
    pub fn learn_leader(&mut self, topic: &str, partition: i32, hint: &v1::LeaderHint) -> bool {
        let leaders = self.topics.get_mut(topic).map(|topic| &mut topic.leaders);
        let known = leaders.and_then(|leaders| leaders.get_mut(usize::try_from(partition).ok()?));
        let Some(known) = known else { return false };
        if hint.broker == 0 || hint.epoch < known.epoch || (known.broker, known.epoch) == (hint.broker, hint.epoch) {
            return false;
        }
        *known = Leader { broker: hint.broker, epoch: hint.epoch };
        if !hint.address.is_empty() {
            let info = self.brokers.entry(hint.broker).or_insert_with(|| v1::BrokerInfo {
                id: hint.broker,
                alive: true,
                ..Default::default()
            });
            info.client_address = hint.address.clone();
        }
        true
    }

    /// Forgets a topic that turned out not to exist.
    pub fn forget_topic(&mut self, name: &str) {
        self.topics.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(m.leader("t", 0), Some(Leader { broker: 1, epoch: 4 }));
        assert_eq!(m.leader("t", 1), None);
        let hint = v1::LeaderHint { broker: 2, address: "b:1".into(), epoch: 5 };
        assert!(m.learn_leader("t", 0, &hint));
        assert!(!m.learn_leader("t", 0, &hint));
        m.update(answer(&[(1, 4), (3, 1)]));
        assert_eq!(m.leader("t", 0), Some(Leader { broker: 2, epoch: 5 }));
        assert_eq!(m.leader("t", 1), Some(Leader { broker: 3, epoch: 1 }));
        assert_eq!(m.address(2), Some("b:1"));
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
        assert_eq!((m.topic_id("t"), m.topic("t")), ("b", Some(&[Leader { broker: 3, epoch: 1 }][..])));
        // From a broker that is late.
        m.update(of("a", 15, &[(1, 41), (2, 41)]));
        assert_eq!((m.topic_id("t"), m.leader("t", 1)), ("b", None));
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
