//! The cluster as a whole: what clients need to route, health, shutdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, timeout};

use super::{
    assess::{assess, uneven_leaders},
    neighbours, setback,
};
use crate::{
    broker::{
        Broker, BrokerView, ClusterView, HealthReport, PartitionView, TopicView, TopicsWanted,
        inner::Inner,
        limits,
        node::Stage,
        peers::calls::{Answer, Call, NodeHealth},
        replica::PartitionReplica,
    },
    metadata::{self, Metadata, Topic, TopicConfig},
    types::{BrokerId, LogIndex, PartitionId, RaftGroupId, TopicPartition},
};

impl Broker {
    pub(in crate::broker) async fn view(&self, wanted: TopicsWanted) -> ClusterView {
        let inner = &self.inner;
        if let TopicsWanted::Named(names) = &wanted {
            let missing = |state: &Metadata| names.iter().any(|name| state.topic(name).is_none());
            if inner.metadata().is_some_and(|metadata| metadata.read(missing)) {
                inner.refresh_metadata().await;
            }
        }
        let cluster_id = inner.identity.lock().expect("no holder panics").cluster_id;
        let metadata_leader = inner.serving_metadata().leader();
        let routes_stale = inner.is_cut_off();
        let Some(metadata) = inner.metadata() else {
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
            let brokers: Vec<metadata::Broker> = state.brokers().cloned().collect();
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
            Some(topic) => inner.topic_view(&topic),
            None => TopicView { name, id: None, configs: BTreeMap::new(), partitions: Vec::new() },
        });
        ClusterView {
            cluster_id,
            metadata_index,
            metadata_leader,
            routes_stale,
            brokers: brokers.iter().map(|broker| inner.broker_view(broker, &voters)).collect(),
            topics: views.collect(),
        }
    }

    pub(in crate::broker) async fn health_report(&self) -> HealthReport {
        let inner = &self.inner;
        let Some(metadata) = inner.metadata() else {
            let problems = match inner.readiness() {
                crate::broker::Readiness::Ready => Vec::new(),
                crate::broker::Readiness::NotReady(why) => vec![why],
            };
            return HealthReport { healthy: false, problems, ..HealthReport::default() };
        };
        inner.refresh_metadata().await;
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
        let alive: BTreeSet<BrokerId> = brokers.iter().copied().filter(|broker| inner.is_alive(*broker)).collect();
        let nodes = inner.ask_health(&alive).await;
        let metadata_led = inner.serving_metadata().is_served();
        let unserved = inner.unserved().groups;
        let leaderless = |group: &RaftGroupId| unserved.contains(group) || !inner.serving_elsewhere(*group).is_served();
        let mut notes = inner.ask_group_notes(&alive).await;
        let leader_of = |group: &RaftGroupId| inner.raft.leader_of(*group).map(|leader| leader.broker);
        notes.extend(uneven_leaders(&alive, &partitions, leader_of));
        HealthReport { notes, ..assess(&brokers, &alive, &partitions, leaderless, metadata_led, &nodes) }
    }

    /// SAFETY M13. What is not transferred in time fails over by the goodbye that Raft says.
    pub(in crate::broker) async fn stop(&self) {
        let inner = &self.inner;
        if inner.stage.send_replace(Stage::Stopping) == Stage::Stopping {
            return;
        }
        let deadline = Instant::now() + limits::SHUTDOWN_TRANSFERS;
        let led: Vec<Arc<PartitionReplica>> =
            inner.routes.hosted().into_iter().filter(|hosted| hosted.status().leads).collect();
        let transfers = stream::iter(led).for_each_concurrent(limits::TRANSFERS_AT_ONCE, |hosted| async move {
            let left = deadline.saturating_duration_since(Instant::now());
            // For good: if nobody takes over, what waits is answered when the group stops.
            hosted.appender.pause().await.keep();
            match hosted.group.transfer_leader(None, left).await {
                Ok(leader) => tracing::info!(partition = %hosted.name, to = %leader.broker, "leadership handed over"),
                Err(error) => tracing::warn!(partition = %hosted.name, %error, "leadership not handed over"),
            }
        });
        if tokio::time::timeout_at(deadline, transfers).await.is_err() {
            tracing::warn!("not all leaderships were handed over in time: the rest fails over");
        }
        if let Some(metadata) = inner.metadata() {
            let leads = metadata.status().borrow().leads;
            let left = deadline.saturating_duration_since(Instant::now());
            if leads && let Err(error) = metadata.transfer_leader(None, left).await {
                tracing::warn!(%error, "metadata leadership not handed over");
            }
        }
        setback::say_goodbye(inner).await;
        inner.raft.shutdown().await;
        if timeout(limits::SHUTDOWN_TASKS, inner.tasks.stop()).await.is_err() {
            tracing::warn!("a task of this broker does not stop in time: its disk may stall");
        }
        match timeout(limits::SHUTDOWN_FLUSH, inner.store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last writes could not be flushed"),
            // What was not flushed was not acknowledged either.
            Err(_) => tracing::error!("the disk stalls: the last writes are not flushed"),
        }
    }
}

impl Inner {
    fn broker_view(&self, broker: &metadata::Broker, voters: &BTreeSet<BrokerId>) -> BrokerView {
        BrokerView {
            id: broker.id,
            client_address: broker.client_address.clone(),
            peer_address: broker.peer_address.clone(),
            http_address: broker.http_address.clone(),
            rack: broker.rack.clone().unwrap_or_default(),
            version: broker.version.clone(),
            alive: self.is_alive(broker.id),
            metadata_voter: voters.contains(&broker.id),
        }
    }

    fn topic_view(&self, topic: &Topic) -> TopicView {
        let partitions = topic.partitions.iter().zip(0..).map(|(info, number)| PartitionView {
            partition: PartitionId(number),
            leader: self.leader_now(info.group),
            replicas: info.replicas.iter().map(|(_, broker)| *broker).collect(),
        });
        TopicView {
            name: topic.name.clone(),
            id: Some(topic.id),
            configs: TopicConfig::all(&topic.configs),
            partitions: partitions.collect(),
        }
    }

    async fn ask_health(&self, alive: &BTreeSet<BrokerId>) -> Vec<(BrokerId, Option<NodeHealth>)> {
        let asked = alive.iter().map(|broker| async move {
            if *broker == self.me() {
                return (*broker, Some(self.health_here()));
            }
            match self.call(*broker, &Call::Health, limits::CALL_WITHIN).await {
                Ok(Answer::Health(health)) => (*broker, Some(health)),
                Ok(_) | Err(_) => (*broker, None),
            }
        });
        join_all(asked).await
    }

    /// Notes and no problems: a broker that does not answer is named among these already.
    async fn ask_group_notes(&self, alive: &BTreeSet<BrokerId>) -> Vec<String> {
        let asked = alive.iter().map(|broker| async move {
            if *broker == self.me() {
                return self.notes_here();
            }
            match self.call(*broker, &Call::GroupNotes, limits::CALL_WITHIN).await {
                Ok(Answer::GroupNotes(notes)) => notes,
                Ok(_) | Err(_) => Vec::new(),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    pub fn health_here(&self) -> NodeHealth {
        let me = self.me();
        let mut health = NodeHealth::default();
        for hosted in self.routes.hosted().iter().filter(|hosted| hosted.is_ready()).take(limits::CALL_GROUPS_MAX) {
            let behind = hosted.group.followers_behind().into_iter();
            let lagging: Vec<BrokerId> =
                behind.filter(|(_, entries)| *entries > limits::LAG_ENTRIES_MAX).map(|(broker, _)| broker).collect();
            if !lagging.is_empty() {
                health.lagging.push((hosted.group.id(), lagging));
            }
        }
        let without_majority = self.unserved().without_majority;
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
        for (name, reason) in self.stopped.lock().expect("no holder panics").values().take(limits::PROBLEMS_MAX) {
            health.problems.push(format!("broker {me}'s replica of {name} has stopped, and is opened again: {reason}"));
        }
        if self.raft.is_stalled() {
            health.problems.push(format!("broker {me}'s disk stalls: one write takes longer than 2 s"));
        }
        health.problems.extend(self.past.alarms());
        health.problems.extend(neighbours::one_way(self));
        let orphans = self.orphans.lock().expect("no holder panics").len();
        if orphans > 0 {
            let text = "replicas that the metadata does not know; their data is kept";
            health.problems.push(format!("broker {me} holds {orphans} {text}"));
        }
        if self.metadata().is_some_and(|metadata| metadata.status().borrow().stopped) {
            health.problems.push(format!("broker {me}'s metadata replica has stopped"));
        }
        health
    }
}
