//! Topics: create, list, describe, alter, add partitions, delete; beside it trims, sizes and producer ids.

pub mod producer_ids;
mod stats;
mod trim;

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Instant, timeout_at};

use super::{
    cluster::placed,
    disk::DiskGuard,
    errors::AdminError,
    limits,
    metadata_group::{
        MetadataGroup,
        change::{ChangeFailed, Changed},
    },
    node::Node,
    notes::Notes,
    replicas::Replicas,
    requests::{
        AddPartitionsRequest, AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, PartitionDescription,
        PartitionStats, TopicDescription, TopicSummary, or_default,
    },
};
use crate::{
    metadata::{
        AddPartitions, AlterTopic, Change, ConfigEntry, CreateTopic, DeleteTopic, Metadata, Refusal, Topic, TopicConfig,
    },
    types::{PartitionId, RaftGroupId, TopicId, ms_u64},
};

/// A broker's part in topics: any broker takes any of these requests.
pub struct Topics {
    node: Arc<Node>,
    metadata: Arc<MetadataGroup>,
    replicas: Arc<Replicas>,
    disk: Arc<DiskGuard>,
    notes: Arc<Notes>,
}

impl Topics {
    pub fn new(
        metadata: Arc<MetadataGroup>,
        replicas: Arc<Replicas>,
        disk: Arc<DiskGuard>,
        notes: Arc<Notes>,
    ) -> Topics {
        Topics { node: Arc::clone(&metadata.node), metadata, replicas, disk, notes }
    }

    pub async fn create(&self, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        let deadline = Instant::now() + or_default(request.timeout, limits::ADMIN_TIMEOUT);
        let wish = CreateTopic {
            name: request.name.clone(),
            topic_id: TopicId(self.node.rng.u128()),
            partitions: number("partitions", request.partitions)?,
            replication_factor: number("replication factor", request.replication_factor)?,
            configs: request.configs,
        };
        if request.dry_run {
            let metadata = self.metadata.refreshed().await?;
            let dead = self.node.dead_brokers();
            let topic = metadata.read(|state| state.check_create(&wish, &dead)).map_err(AdminError::from)?;
            return Ok(self.describe_new(&topic, 0));
        }
        if let Some(shortage) = self.disk.shortage() {
            return Err(shortage.into());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let what = format!("topic {:?}", request.name);
        self.metadata.change(Change::CreateTopic(wish), left).await.map_err(|failed| failed.into_admin(&what))?;
        let stats = match request.wait {
            true => self.wait_answers(&request.name, deadline).await?,
            false => BTreeMap::new(),
        };
        let topic = self.metadata.topic(&request.name).await?;
        Ok(with_stats(self.describe_new(&topic, 0), &stats))
    }

    /// Waits until every partition of a topic has a leader that tells its size: it takes records then.
    async fn wait_answers(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<BTreeMap<RaftGroupId, PartitionStats>, AdminError> {
        let started = Instant::now();
        let mut leaders = self.node.raft.leaders_changed();
        loop {
            leaders.borrow_and_update();
            let groups = self.known_groups(name);
            let stats = self.stats_of(&groups).await;
            if !groups.is_empty() && stats.len() == groups.len() {
                return Ok(stats);
            }
            // Also looks again by itself: the topic may reach this broker's metadata after its leaders do.
            let look_again = Instant::now() + limits::CHANGE_RETRY * 2;
            let _ = timeout_at(deadline.min(look_again), leaders.changed()).await;
            if Instant::now() >= deadline {
                let missing = groups.len().saturating_sub(stats.len());
                let what =
                    format!("topic {name:?} is created, but leaders of {missing} partitions do not answer yet; it");
                return Err(AdminError::OutcomeUnknown { what, waited_ms: ms_u64(started.elapsed()) });
            }
        }
    }

    pub async fn list(&self) -> Result<Vec<TopicSummary>, AdminError> {
        let metadata = self.metadata.refreshed().await?;
        Ok(metadata.read(|state| state.topics().map(summary).collect()))
    }

    pub async fn describe(&self, name: &str) -> Result<TopicDescription, AdminError> {
        self.metadata.topic(name).await?;
        let deadline = Instant::now() + limits::STATS_WITHIN;
        let mut leaders = self.node.raft.leaders_changed();
        loop {
            leaders.borrow_and_update();
            let groups = self.known_groups(name);
            let (stats, notes) = tokio::join!(self.stats_of(&groups), self.notes.of(&groups));
            // Leaders that are being elected are waited for, a moment; those that are dead are not.
            // What is known here may be catching up, and have an older topic's end before this one's beginning.
            let description = self.describe_known(&self.metadata.topic(name).await?);
            let is_whole = |p: &PartitionDescription| p.leader.is_some() && stats.contains_key(&p.raft_group);
            if description.partitions.iter().all(is_whole) || Instant::now() >= deadline {
                return Ok(with_stats(TopicDescription { notes, ..description }, &stats));
            }
            let look_again = Instant::now() + limits::CHANGE_RETRY;
            let _ = timeout_at(deadline.min(look_again), leaders.changed()).await;
        }
    }

    /// The configs of topics, as they were at least when this was called; one answer for each name, in that order.
    pub async fn configs(&self, names: &[String]) -> Vec<Result<Vec<ConfigEntry>, AdminError>> {
        let is_fresh = self.metadata.refresh().await;
        let configs = names.iter().map(|name| match self.metadata.known(name) {
            Some(topic) => Ok(TopicConfig::entries(&topic.configs)),
            None if is_fresh => Err(AdminError::UnknownTopic { topic: name.clone() }),
            None => Err(AdminError::Unavailable {
                reason: format!("topic {name:?} is not known here, and the metadata leader does not answer"),
            }),
        });
        configs.collect()
    }

    pub async fn alter(&self, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        let AlterTopicRequest { name, set, mut unset, replaces, dry_run } = request;
        let fresh = if dry_run { Some(self.metadata.refreshed().await?) } else { None };
        let topic = self.named(&name, None).await?;
        if replaces {
            unset = self.node.metadata().map_or(Vec::new(), |metadata| metadata.read(Metadata::config_keys));
        }
        let wish = |topic: &Topic| AlterTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            set: set.clone(),
            unset: unset.clone(),
        };
        if let Some(metadata) = fresh {
            let topic = metadata.read(|state| state.check_alter(&wish(&topic))).map_err(AdminError::from)?;
            return Ok(self.describe_known(&topic));
        }
        let what = format!("the change of topic {name:?}");
        let (_, changed) = self.change_named(topic, None, &what, |topic| Change::AlterTopic(wish(topic))).await?;
        self.wait_in_use(&name, self.known_groups(&name), changed.index).await;
        Ok(self.describe_known(&self.metadata.topic(&name).await?))
    }

    pub async fn add(&self, request: AddPartitionsRequest) -> Result<TopicDescription, AdminError> {
        let AddPartitionsRequest { name, partitions, dry_run } = request;
        let fresh = if dry_run { Some(self.metadata.refreshed().await?) } else { None };
        let topic = self.named(&name, None).await?;
        let partitions = number("partitions", Some(partitions))?;
        let wish = |topic: &Topic| AddPartitions { name: topic.name.clone(), topic_id: topic.id, partitions };
        if let Some(metadata) = fresh {
            let (dead, have) = (self.node.dead_brokers(), topic.partitions.len());
            let checked = metadata.read(|state| state.check_add_partitions(&wish(&topic), &dead));
            return Ok(self.describe_new(&checked.map_err(AdminError::from)?, have));
        }
        let what = format!("adding partitions to topic {name:?}");
        let (before, _) = self.change_named(topic, None, &what, |topic| Change::AddPartitions(wish(topic))).await?;
        Ok(self.describe_new(&self.metadata.topic(&name).await?, before.partitions.len()))
    }

    pub async fn delete(&self, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        let DeleteTopicRequest { name, topic_id, dry_run } = request;
        if dry_run {
            self.metadata.refreshed().await?;
            return Ok(summary(&self.named(&name, topic_id).await?));
        }
        let topic = self.named(&name, topic_id).await?;
        let wish = |topic: &Topic| DeleteTopic { name: topic.name.clone(), topic_id: topic.id };
        let what = format!("deleting topic {name:?}");
        let (deleted, _) = self.change_named(topic, topic_id, &what, |topic| Change::DeleteTopic(wish(topic))).await?;
        Ok(summary(&deleted))
    }

    /// The topic of this name, and of this id if one is meant.
    async fn named(&self, name: &str, meant: Option<TopicId>) -> Result<Topic, AdminError> {
        let is_meant = |topic: &Topic| meant.is_none_or(|meant| meant == topic.id);
        if let Some(known) = self.metadata.known(name).filter(is_meant) {
            return Ok(known);
        }
        let topic = self.metadata.topic_now(name).await?;
        if is_meant(&topic) { Ok(topic) } else { Err(AdminError::UnknownTopic { topic: topic.name }) }
    }

    /// Changes a topic. If there is none of its id any more, a copy of the metadata that is late had an earlier one: what has the
    /// name now is changed, unless an id is meant. Gives what was changed, as it was.
    ///
    /// If it is gone after a try without an answer, that try may have done it, and so may somebody else: two must not both be
    /// told that they deleted one topic.
    async fn change_named(
        &self,
        mut topic: Topic,
        meant: Option<TopicId>,
        what: &str,
        change: impl Fn(&Topic) -> Change,
    ) -> Result<(Topic, Changed), AdminError> {
        let deadline = Instant::now() + limits::ADMIN_TIMEOUT;
        for _ in 0..limits::NAMESAKES_TRIED_MAX {
            let within = deadline.saturating_duration_since(Instant::now());
            match self.metadata.change(change(&topic), within).await {
                Err(ChangeFailed::Refused { refusal: Refusal::UnknownTopic { .. }, after_unknown: false }) => {
                    if meant.is_some() {
                        return Err(AdminError::UnknownTopic { topic: topic.name });
                    }
                    topic = self.metadata.topic_now(&topic.name).await?;
                }
                ended => return ended.map(|changed| (topic, changed)).map_err(|failed| failed.into_admin(what)),
            }
        }
        Err(AdminError::Unavailable {
            reason: format!("topic {:?} was deleted and made anew again and again", topic.name),
        })
    }

    fn known_groups(&self, name: &str) -> Vec<RaftGroupId> {
        let Some(metadata) = self.node.metadata() else { return Vec::new() };
        metadata.read(|state| {
            let partitions = state.topic(name).into_iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.group).collect()
        })
    }

    /// A topic whose partitions from number `first` on are new: with notes about where they stand.
    fn describe_new(&self, topic: &Topic, first: usize) -> TopicDescription {
        let new = topic.partitions.get(first..).unwrap_or_default();
        let brokers = self.node.metadata().map_or(0, |metadata| metadata.read(|state| state.brokers().count()));
        let notes = placed::notes(new, topic.replication_factor, &self.node.dead_brokers(), brokers);
        TopicDescription { notes, ..self.describe_known(topic) }
    }

    /// Describes a topic with the leaders that take writes now: people would be misled by a dead one (SAFETY M7).
    fn describe_known(&self, topic: &Topic) -> TopicDescription {
        let hosted = self.replicas.hosted_groups();
        let serving = |group| match hosted.get(&group) {
            Some(hosted) => self.node.serving(&hosted.group),
            None => self.node.serving_elsewhere(group),
        };
        let partitions = topic.partitions.iter().zip(0..).map(|(info, number)| PartitionDescription {
            partition: PartitionId(number),
            leader: serving(info.group).leader(),
            replicas: info.replicas.iter().map(|(_, broker)| *broker).collect(),
            raft_group: info.group,
            stats: None,
        });
        TopicDescription {
            name: topic.name.clone(),
            id: topic.id,
            configs: TopicConfig::entries(&topic.configs),
            partitions: partitions.collect(),
            notes: Vec::new(),
        }
    }
}

fn with_stats(mut of: TopicDescription, stats: &BTreeMap<RaftGroupId, PartitionStats>) -> TopicDescription {
    for partition in &mut of.partitions {
        partition.stats = stats.get(&partition.raft_group).copied();
    }
    of
}

fn summary(topic: &Topic) -> TopicSummary {
    TopicSummary {
        name: topic.name.clone(),
        id: topic.id,
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        replication_factor: u32::try_from(topic.replication_factor).unwrap_or(0),
    }
}

/// Metadata counts in i32 and takes 0 for its default.
fn number(what: &str, asked: Option<u32>) -> Result<i32, AdminError> {
    match asked {
        None => Ok(0),
        Some(0) => Err(AdminError::InvalidRequest { detail: format!("{what}: 0 asked for, at least 1 is needed") }),
        Some(n) => i32::try_from(n)
            .map_err(|_| AdminError::InvalidRequest { detail: format!("{what}: {n} asked for, that is too many") }),
    }
}
