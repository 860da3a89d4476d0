//! The cluster as a whole: what clients need to route, and its health.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{
    assess::{assess, uneven_leaders},
    neighbours,
    past::Memory,
};
use crate::{
    broker::{
        disk::DiskGuard,
        limits,
        metadata_group::MetadataGroup,
        node::Node,
        notes::Notes,
        peers::calls::{Answer, Call, NodeHealth},
        replicas::Replicas,
        requests::{BrokerView, ClusterView, HealthReport, PartitionView, Readiness, TopicView, TopicsWanted},
        upkeep::{clock::ClockView, majorities::Unserved},
    },
    metadata::{self, Metadata, Topic, TopicConfig},
    types::{BrokerId, LogIndex, PartitionId, RaftGroupId, TopicPartition},
};

/// What this broker can tell of the cluster.
pub struct Views {
    pub node: Arc<Node>,
    pub metadata: Arc<MetadataGroup>,
    pub replicas: Arc<Replicas>,
    pub disk: Arc<DiskGuard>,
    pub memory: Arc<Memory>,
    pub notes: Arc<Notes>,
    pub clock_view: watch::Receiver<ClockView>,
}

impl Views {
    /// What clients need to find their way.
    pub async fn view(&self, wanted: TopicsWanted) -> ClusterView {
        if let TopicsWanted::Named(names) = &wanted {
            let missing = |state: &Metadata| names.iter().any(|name| state.topic(name).is_none());
            if self.node.metadata().is_some_and(|metadata| metadata.read(missing)) {
                self.metadata.refresh().await;
            }
        }
        let cluster_id = self.node.cluster_id();
        let metadata_leader = self.node.serving_metadata().leader();
        let routes_stale = self.node.is_cut_off();
        let Some(metadata) = self.node.metadata() else {
            return ClusterView {
                cluster_id,
                metadata_index: LogIndex(0),
                metadata_leader,
                routes_stale,
                brokers: Vec::new(),
                topics: Vec::new(),
            };
        };
        let voters: BTreeSet<BrokerId> = metadata.voters().into_iter().map(|(_, broker)| broker).collect();
        let metadata_index = metadata.applied().borrow().unwrap_or_default();
        // Copied out: Raft's books are not read under the metadata's lock.
        let (brokers, topics) = metadata.read(|state| {
            let brokers: Vec<_> = state.brokers().map(|broker| known(state, broker)).collect();
            let topics: Vec<(String, Option<Topic>)> = match &wanted {
                TopicsWanted::None => Vec::new(),
                TopicsWanted::All => state.topics().map(|topic| (topic.name.clone(), Some(topic.clone()))).collect(),
                TopicsWanted::Named(names) => {
                    names.iter().map(|name| (name.clone(), state.topic(name).cloned())).collect()
                }
            };
            (brokers, topics)
        });
        let views = topics.into_iter().map(|(name, topic)| match topic {
            Some(topic) => self.topic_view(&topic),
            None => TopicView { name, id: None, configs: Vec::new(), partitions: Vec::new() },
        });
        ClusterView {
            cluster_id,
            metadata_index,
            metadata_leader,
            routes_stale,
            brokers: brokers.iter().map(|broker| self.broker_view(broker, &voters)).collect(),
            topics: views.collect(),
        }
    }

    pub fn broker(&self, of: BrokerId) -> Option<BrokerView> {
        let metadata = self.node.metadata()?;
        let voters = metadata.voters().into_iter().map(|(_, broker)| broker).collect();
        let known = metadata.read(|state| state.broker(of).map(|broker| known(state, broker)))?;
        Some(self.broker_view(&known, &voters))
    }

    pub async fn health(&self) -> HealthReport {
        let Some(metadata) = self.node.metadata() else {
            let problems = match self.node.readiness() {
                Readiness::Ready => Vec::new(),
                Readiness::NotReady(why) => vec![why],
            };
            return HealthReport { healthy: false, problems, ..HealthReport::default() };
        };
        self.metadata.refresh().await;
        let (brokers, partitions) = metadata.read(|state| {
            let brokers: Vec<BrokerId> = state.brokers().map(|broker| broker.id).collect();
            let partitions = state.topics().flat_map(|topic| {
                topic.partitions.iter().zip(0..).map(|(info, number)| {
                    let name = TopicPartition { topic: topic.name.clone(), partition: PartitionId(number) };
                    (info.group, name, info.replicas.iter().map(|(_, broker)| *broker).collect::<Vec<_>>())
                })
            });
            (brokers, partitions.collect::<Vec<_>>())
        });
        let alive: BTreeSet<BrokerId> = brokers.iter().copied().filter(|broker| self.node.is_alive(*broker)).collect();
        let nodes = self.ask_health(&alive).await;
        let metadata_led = self.node.serving_metadata().is_served();
        let unserved = Unserved::look(&self.node, &self.replicas).groups;
        let leaderless =
            |group: &RaftGroupId| unserved.contains(group) || !self.node.serving_elsewhere(*group).is_served();
        let mut notes = self.ask_group_notes(&alive).await;
        let leader_of = |group: &RaftGroupId| self.node.raft.leader_of(*group).map(|leader| leader.broker);
        notes.extend(uneven_leaders(&alive, &partitions, leader_of));
        let levels = self.metadata.feature_levels().await;
        notes.extend(levels.note);
        HealthReport {
            notes,
            feature_level: levels.cluster,
            feature_level_supported: levels.supported,
            ..assess(&brokers, &alive, &partitions, leaderless, metadata_led, &nodes)
        }
    }

    fn broker_view(&self, (broker, kafka): &(metadata::Broker, String), voters: &BTreeSet<BrokerId>) -> BrokerView {
        BrokerView {
            id: broker.id,
            client_address: broker.client_address.clone(),
            peer_address: broker.peer_address.clone(),
            http_address: broker.http_address.clone(),
            kafka_address: kafka.clone(),
            rack: broker.rack.clone().unwrap_or_default(),
            version: broker.version.clone(),
            alive: self.node.is_alive(broker.id),
            metadata_voter: voters.contains(&broker.id),
        }
    }

    fn topic_view(&self, topic: &Topic) -> TopicView {
        let partitions = topic.partitions.iter().zip(0..).map(|(info, number)| PartitionView {
            partition: PartitionId(number),
            leader: self.node.leader_now(info.group),
            replicas: info.replicas.iter().map(|(_, broker)| *broker).collect(),
        });
        TopicView {
            name: topic.name.clone(),
            id: Some(topic.id),
            configs: TopicConfig::entries(&topic.configs),
            partitions: partitions.collect(),
        }
    }

    async fn ask_health(&self, alive: &BTreeSet<BrokerId>) -> Vec<(BrokerId, Option<NodeHealth>)> {
        let asked = alive.iter().map(|broker| async move {
            if *broker == self.node.me() {
                return (*broker, Some(self.health_here()));
            }
            match self.node.call(*broker, &Call::Health, limits::CALL_WITHIN).await {
                Ok(Answer::Health(health)) => (*broker, Some(health)),
                Ok(_) | Err(_) => (*broker, None),
            }
        });
        join_all(asked).await
    }

    /// Notes and no problems: a broker that does not answer is named among these already.
    async fn ask_group_notes(&self, alive: &BTreeSet<BrokerId>) -> Vec<String> {
        let asked = alive.iter().map(|broker| async move {
            if *broker == self.node.me() {
                return self.notes.here();
            }
            match self.node.call(*broker, &Call::GroupNotes, limits::CALL_WITHIN).await {
                Ok(Answer::GroupNotes(notes)) => notes,
                Ok(_) | Err(_) => Vec::new(),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    pub fn health_here(&self) -> NodeHealth {
        let me = self.node.me();
        let mut health = NodeHealth::default();
        for hosted in self.replicas.led().iter().take(limits::CALL_GROUPS_MAX) {
            let behind = hosted.group.followers_behind().into_iter();
            let lagging: Vec<BrokerId> =
                behind.filter(|(_, entries)| *entries > limits::LAG_ENTRIES_MAX).map(|(broker, _)| broker).collect();
            if !lagging.is_empty() {
                health.lagging.push((hosted.group.id(), lagging));
            }
        }
        let without_majority = Unserved::look(&self.node, &self.replicas).without_majority;
        if without_majority > 0 {
            let text = "Raft groups that no majority answers: they take no writes";
            health.problems.push(format!("broker {me} leads {without_majority} {text}"));
        }
        if let Some(shortage) = self.disk.shortage() {
            let free = shortage.free_bytes;
            health.problems.push(format!("broker {me}'s disk is nearly full ({free} bytes free): it refuses writes"));
        }
        let clock = *self.clock_view.borrow();
        if clock.is_off() {
            health.problems.push(format!("broker {me}'s clock is {clock}: retention by time stops where it leads"));
        }
        for (name, reason) in self.replicas.stopped().values().take(limits::PROBLEMS_MAX) {
            health.problems.push(format!("broker {me}'s replica of {name} has stopped, and is opened again: {reason}"));
        }
        if self.node.raft.is_stalled() {
            health.problems.push(format!("broker {me}'s disk stalls: one write takes longer than 2 s"));
        }
        health.problems.extend(self.memory.past.alarms());
        health.problems.extend(neighbours::one_way(&self.node));
        let orphans = self.replicas.orphan_count();
        if orphans > 0 {
            let text = "replicas that the metadata does not know; their data is kept";
            health.problems.push(format!("broker {me} holds {orphans} {text}"));
        }
        if self.node.metadata().is_some_and(|metadata| metadata.status().borrow().stopped) {
            health.problems.push(format!("broker {me}'s metadata replica has stopped"));
        }
        health
    }
}

/// A broker, and where Kafka clients reach it.
fn known(state: &Metadata, broker: &metadata::Broker) -> (metadata::Broker, String) {
    (broker.clone(), state.kafka_address(broker.id).unwrap_or_default().to_string())
}
