//! Topics: create, list, describe, alter, add partitions, trim, delete; producer ids.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    AddPartitionsRequest, AdminError, AlterTopicRequest, Broker, CreateTopicRequest, DeleteTopicRequest, LeaderNow,
    PartitionDescription, PartitionStats, ProducerIdentity, TopicDescription, TopicSummary, TrimRequest,
    cluster::placed,
    inner::Inner,
    limits,
    metadata_group::change::{ChangeFailed, refused},
    peers::calls::{Answer, Call, NoAnswer},
    replica::PartitionReplica,
    requests::or_default,
};
use crate::{
    metadata::{
        AddPartitions, AllocateProducerIds, AlterTopic, Change, CreateTopic, DeleteTopic, Metadata, Outcome,
        PartitionInfo, Refusal, Topic, TopicConfig,
    },
    partition::{PartitionResponse, encode_trim},
    raft::{ProposalEnd, Replica},
    types::{BrokerId, Offset, PartitionId, RaftGroupId, TopicId, TopicPartition, ms_u32, ms_u64},
};

impl Broker {
    pub(super) async fn create(&self, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        let inner = &self.inner;
        let deadline = Instant::now() + or_default(request.timeout, limits::ADMIN_TIMEOUT);
        let wish = CreateTopic {
            name: request.name.clone(),
            topic_id: TopicId(inner.rng.u128()),
            partitions: number("partitions", request.partitions)?,
            replication_factor: number("replication factor", request.replication_factor)?,
            configs: request.configs,
        };
        if request.dry_run {
            let metadata = inner.metadata_state().await?;
            let dead = inner.dead_brokers();
            let topic = metadata.read(|state| state.check_create(&wish, &dead)).map_err(refused)?;
            return Ok(inner.describe_new(&topic, 0));
        }
        if let Some(shortage) = inner.disk.shortage() {
            return Err(shortage.into());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let what = format!("topic {:?}", request.name);
        inner.change(Change::CreateTopic(wish), left).await.map_err(|failed| failed.into_admin(&what))?;
        let stats = match request.wait {
            true => self.wait_answers(&request.name, deadline).await?,
            false => BTreeMap::new(),
        };
        let topic = inner.known(&request.name)?;
        Ok(with_stats(inner.describe_new(&topic, 0), &stats))
    }

    /// Until every partition of a topic has a leader that tells its size: it takes records then.
    async fn wait_answers(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<BTreeMap<RaftGroupId, PartitionStats>, AdminError> {
        let inner = &self.inner;
        let started = Instant::now();
        let mut leaders = inner.raft.leaders_changed();
        loop {
            leaders.borrow_and_update();
            let groups = inner.known_groups(name);
            let stats = inner.stats_of(&groups).await;
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

    pub(super) async fn list(&self) -> Result<Vec<TopicSummary>, AdminError> {
        let metadata = self.inner.metadata_state().await?;
        Ok(metadata.read(|state| state.topics().map(summary).collect()))
    }

    pub(super) async fn describe(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let inner = &self.inner;
        inner.topic(name).await?;
        let deadline = Instant::now() + limits::STATS_WITHIN;
        let mut leaders = inner.raft.leaders_changed();
        loop {
            leaders.borrow_and_update();
            let groups = inner.known_groups(name);
            let (stats, notes) = tokio::join!(inner.stats_of(&groups), inner.retention_notes_of(&groups));
            // Leaders that are being elected are waited for, a moment; those that are dead are not.
            let description = describe(inner, &inner.known(name)?);
            let is_whole = |p: &PartitionDescription| p.leader.is_some() && stats.contains_key(&p.raft_group);
            if description.partitions.iter().all(is_whole) || Instant::now() >= deadline {
                return Ok(with_stats(TopicDescription { notes, ..description }, &stats));
            }
            let look_again = Instant::now() + limits::CHANGE_RETRY;
            let _ = timeout_at(deadline.min(look_again), leaders.changed()).await;
        }
    }

    pub(super) async fn alter(&self, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        let inner = &self.inner;
        let AlterTopicRequest { name, set, unset, dry_run } = request;
        let topic_id = inner.topic(&name).await?.id;
        let wish = AlterTopic { name: name.clone(), topic_id, set, unset };
        if dry_run {
            let topic = inner.metadata_state().await?.read(|state| state.check_alter(&wish)).map_err(refused)?;
            return Ok(describe(inner, &topic));
        }
        let what = format!("the change of topic {name:?}");
        let changed = inner.change(Change::AlterTopic(wish), limits::ADMIN_TIMEOUT).await;
        let changed = changed.map_err(|failed| failed.into_admin(&what))?;
        inner.wait_in_use(&name, inner.known_groups(&name), changed.index).await;
        Ok(describe(inner, &inner.known(&name)?))
    }

    pub(super) async fn add(&self, request: AddPartitionsRequest) -> Result<TopicDescription, AdminError> {
        let inner = &self.inner;
        let AddPartitionsRequest { name, partitions, dry_run } = request;
        let topic = inner.topic(&name).await?;
        let (topic_id, have) = (topic.id, topic.partitions.len());
        let partitions = number("partitions", Some(partitions))?;
        let wish = AddPartitions { name: name.clone(), topic_id, partitions };
        if dry_run {
            let metadata = inner.metadata_state().await?;
            let dead = inner.dead_brokers();
            let topic = metadata.read(|state| state.check_add_partitions(&wish, &dead)).map_err(refused)?;
            return Ok(inner.describe_new(&topic, have));
        }
        match inner.change(Change::AddPartitions(wish), limits::ADMIN_TIMEOUT).await {
            Ok(_) => {}
            // An earlier try of ours did it.
            Err(ChangeFailed::Refused {
                refusal: Refusal::PartitionsNotMore { have, asked, .. },
                after_unknown: true,
            }) if have == asked => {}
            Err(failed) => return Err(failed.into_admin(&format!("adding partitions to topic {name:?}"))),
        }
        Ok(inner.describe_new(&inner.known(&name)?, have))
    }

    pub(super) async fn delete(&self, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        let inner = &self.inner;
        let DeleteTopicRequest { name, dry_run } = request;
        let topic = inner.topic(&name).await?;
        if dry_run {
            return Ok(summary(&topic));
        }
        let wish = DeleteTopic { name: name.clone(), topic_id: topic.id };
        match inner.change(Change::DeleteTopic(wish), limits::ADMIN_TIMEOUT).await {
            Ok(_) => {}
            // An earlier try of ours did it: the id is that of no other topic.
            Err(ChangeFailed::Refused { refusal: Refusal::UnknownTopic { .. }, after_unknown: true }) => {}
            Err(failed) => return Err(failed.into_admin(&format!("deleting topic {name:?}"))),
        }
        Ok(summary(&topic))
    }

    pub(super) async fn trim(&self, request: TrimRequest) -> Result<Offset, AdminError> {
        let inner = &self.inner;
        let TrimRequest { topic, partition, before, dry_run } = request;
        let info = inner.partition(&topic, partition).await?;
        let within = limits::TRANSFER_TIMEOUT;
        let call = Call::Trim { group: info.group, before, dry_run, within_ms: ms_u32(within) };
        let Some(leader) = inner.raft.leader_of(info.group) else {
            return Err(AdminError::NotLeader { topic, partition, leader: None });
        };
        if leader.broker == inner.me() {
            return inner.trim_here(info.group, before, dry_run, within).await;
        }
        match inner.call(leader.broker, &call, within).await {
            Ok(Answer::Trim(trimmed)) => trimmed,
            Ok(_) | Err(NoAnswer::Unknown) => {
                let what = format!("the trim of {topic}-{partition}");
                Err(AdminError::OutcomeUnknown { what, waited_ms: ms_u64(within) })
            }
            Err(NoAnswer::NotDone) => {
                let leader = inner.leader_hint(info.group);
                Err(AdminError::NotLeader { topic, partition, leader })
            }
        }
    }

    pub(super) async fn next_producer_id(&self) -> Result<ProducerIdentity, AdminError> {
        let mut block = self.inner.producer_ids.lock().await;
        if block.is_empty() {
            *block = self.inner.allocate_producer_ids(limits::PRODUCER_IDS_WITHIN).await?;
        }
        match block.next() {
            Some(id) => Ok(ProducerIdentity { id, epoch: 0 }),
            None => Err(AdminError::Internal { detail: "an empty block of producer ids".into() }),
        }
    }
}

impl Inner {
    async fn allocate_producer_ids(&self, within: Duration) -> Result<std::ops::Range<i64>, AdminError> {
        let change = Change::AllocateProducerIds(AllocateProducerIds { broker: self.me() });
        // A block lost to an unknown outcome is only a gap: ids are never reused.
        let changed = self.change(change, within).await;
        match changed.map_err(|failed| failed.into_admin("a block of producer ids"))?.outcome {
            Outcome::ProducerIds { first, count } => Ok(first..first.saturating_add(count)),
            other => Err(AdminError::Internal { detail: format!("producer ids were answered {other:?}") }),
        }
    }

    /// Keeps a block of producer ids at hand, so that a new producer needs no metadata leader. Called
    /// whenever this broker reconciles; a failure is tried again then.
    pub async fn keep_producer_ids(&self) {
        let Ok(mut block) = self.producer_ids.try_lock() else { return };
        if block.is_empty()
            && let Ok(fresh) = self.allocate_producer_ids(limits::CALL_WITHIN).await
        {
            *block = fresh;
        }
    }

    /// The metadata group, brought up to date within SAFETY M9's bound.
    pub async fn metadata_state(&self) -> Result<Replica<Metadata>, AdminError> {
        self.refresh_metadata().await;
        self.metadata().ok_or_else(|| AdminError::Unavailable { reason: "this broker is not in a cluster yet".into() })
    }

    /// A topic; an unknown one is looked for in fresh metadata before it is called unknown.
    pub async fn topic(&self, name: &str) -> Result<Topic, AdminError> {
        let known = |metadata: &Replica<Metadata>| metadata.read(|state| state.topic(name).cloned());
        if let Some(topic) = self.metadata().as_ref().and_then(known) {
            return Ok(topic);
        }
        let is_fresh = self.refresh_metadata().await;
        match self.metadata().as_ref().and_then(known) {
            Some(topic) => Ok(topic),
            None if is_fresh => Err(AdminError::UnknownTopic { topic: name.to_string() }),
            None => Err(AdminError::Unavailable {
                reason: format!("topic {name:?} is not known here, and the metadata leader does not answer"),
            }),
        }
    }

    /// A partition's place; an unknown one is looked for in fresh metadata before it is called unknown.
    pub async fn partition(&self, topic: &str, partition: PartitionId) -> Result<PartitionInfo, AdminError> {
        let numbered = |topic: Topic| usize::try_from(partition.0).ok().and_then(|i| topic.partitions.get(i).cloned());
        if let Some(info) = numbered(self.topic(topic).await?) {
            return Ok(info);
        }
        // It may have been added a moment ago.
        let is_fresh = self.refresh_metadata().await;
        match numbered(self.topic(topic).await?) {
            Some(info) => Ok(info),
            None if is_fresh => Err(AdminError::UnknownPartition { topic: topic.to_string(), partition }),
            None => Err(AdminError::Unavailable {
                reason: format!("{topic}-{partition} is not known here, and the metadata leader does not answer"),
            }),
        }
    }

    fn known_groups(&self, name: &str) -> Vec<RaftGroupId> {
        let Some(metadata) = self.metadata() else { return Vec::new() };
        metadata.read(|state| {
            let partitions = state.topic(name).into_iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.group).collect()
        })
    }

    /// As this broker knows it.
    fn known(&self, name: &str) -> Result<Topic, AdminError> {
        let topic = self.metadata().and_then(|metadata| metadata.read(|state| state.topic(name).cloned()));
        topic.ok_or_else(|| AdminError::UnknownTopic { topic: name.to_string() })
    }

    /// A topic whose partitions from number `first` on are new: with notes about where they stand.
    fn describe_new(&self, topic: &Topic, first: usize) -> TopicDescription {
        let new = topic.partitions.get(first..).unwrap_or_default();
        let brokers = self.metadata().map_or(0, |metadata| metadata.read(|state| state.brokers().count()));
        let notes = placed::notes(new, topic.replication_factor, &self.dead_brokers(), brokers);
        TopicDescription { notes, ..describe(self, topic) }
    }

    /// Registered, and not alive as this broker sees it.
    pub fn dead_brokers(&self) -> Vec<BrokerId> {
        let Some(metadata) = self.metadata() else { return Vec::new() };
        let brokers: Vec<BrokerId> = metadata.read(|state| state.brokers().map(|broker| broker.id).collect());
        brokers.into_iter().filter(|broker| !self.is_alive(*broker)).collect()
    }

    /// Who was announced last, for clients to ask: it may be dead by now, and they find out.
    pub fn leader_now(&self, group: RaftGroupId) -> Option<LeaderNow> {
        let leader = self.raft.leader_of(group)?;
        Some(LeaderNow { broker: leader.broker, epoch: leader.term.epoch() })
    }

    pub fn hosted_group(&self, group: RaftGroupId) -> Option<Arc<PartitionReplica>> {
        self.routes.hosted().into_iter().find(|hosted| hosted.group.id() == group)
    }

    fn hosted_groups(&self) -> BTreeMap<RaftGroupId, Arc<PartitionReplica>> {
        self.routes.hosted().into_iter().map(|hosted| (hosted.group.id(), hosted)).collect()
    }

    /// Sizes of partitions, each asked of its leader, all brokers at once.
    async fn stats_of(&self, groups: &[RaftGroupId]) -> BTreeMap<RaftGroupId, PartitionStats> {
        let asked = self.by_leader(groups).into_iter().map(|(leader, groups)| async move {
            let stats = if leader == self.me() {
                self.stats_here(&groups)
            } else {
                let call = Call::Stats { groups: groups.clone() };
                match self.call(leader, &call, limits::CALL_WITHIN).await {
                    Ok(Answer::Stats(stats)) => stats,
                    Ok(_) | Err(_) => Vec::new(),
                }
            };
            groups.into_iter().zip(stats).collect::<Vec<_>>()
        });
        let found = join_all(asked).await.into_iter().flatten();
        found.filter_map(|(group, stats)| stats.map(|stats| (group, stats))).collect()
    }

    /// Of those that this broker leads.
    pub fn stats_here(&self, groups: &[RaftGroupId]) -> Vec<Option<PartitionStats>> {
        let hosted = self.hosted_groups();
        let stats = groups.iter().take(limits::CALL_GROUPS_MAX).map(|group| {
            let hosted = hosted.get(group).filter(|hosted| hosted.is_ready())?;
            Some(hosted.group.read(|state| PartitionStats {
                log_start: state.log_start(),
                high_watermark: state.next_offset(),
                bytes: state.retained_bytes(),
            }))
        });
        stats.collect()
    }

    /// Trims a partition that this broker leads. The purge follows by itself (SAFETY M5).
    pub async fn trim_here(
        &self,
        group: RaftGroupId,
        before: Option<Offset>,
        dry_run: bool,
        within: Duration,
    ) -> Result<Offset, AdminError> {
        let started = Instant::now();
        let Some(hosted) = self.hosted_group(group) else {
            let reason = format!("raft group {group} does not run on broker {}", self.me());
            return Err(AdminError::Unavailable { reason });
        };
        let TopicPartition { topic, partition } = hosted.name.clone();
        let not_leader =
            || AdminError::NotLeader { topic: hosted.name.topic.clone(), partition, leader: self.leader_hint(group) };
        let status = hosted.status();
        if !status.leads || !status.ready {
            return Err(not_leader());
        }
        match timeout(within, hosted.group.read_index()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(AdminError::NotEnoughReplicas),
        }
        let bounds = hosted.bounds();
        let before = before.unwrap_or(bounds.high_watermark);
        if before.0 < 0 || before > bounds.high_watermark {
            return Err(out_of_range(topic, partition, before, bounds.log_start, bounds.high_watermark));
        }
        if dry_run || before <= bounds.log_start {
            return Ok(before.max(bounds.log_start));
        }
        let append_time = hosted.group.read(|state| state.append_time(self.clock.wall()));
        let pending = hosted.group.propose(status.term, encode_trim(append_time, before)).await;
        let unknown = || AdminError::OutcomeUnknown {
            what: format!("the trim of {}", hosted.name),
            waited_ms: ms_u64(started.elapsed()),
        };
        match timeout_at(started + within, pending).await {
            Ok(Ok((_, response))) => match PartitionResponse::decode(&response) {
                Ok(PartitionResponse::LogStart { log_start }) => Ok(log_start),
                Ok(PartitionResponse::TrimOutOfRange { before, next_offset }) => {
                    Err(out_of_range(topic, partition, before, bounds.log_start, next_offset))
                }
                Ok(PartitionResponse::Appended { .. } | PartitionResponse::Dead | PartitionResponse::Resized)
                | Err(_) => Err(AdminError::Internal { detail: "a trim was answered as something else".into() }),
            },
            Ok(Err(ProposalEnd::Refused(_))) => Err(not_leader()),
            Ok(Err(ProposalEnd::Unknown)) | Err(_) => Err(unknown()),
        }
    }
}

fn out_of_range(
    topic: String,
    partition: PartitionId,
    offset: Offset,
    log_start: Offset,
    high_watermark: Offset,
) -> AdminError {
    AdminError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark }
}

/// With the leaders that take writes now: for people, whom a dead one would mislead (SAFETY M7).
fn describe(inner: &Inner, topic: &Topic) -> TopicDescription {
    let hosted = inner.hosted_groups();
    let serving = |group| match hosted.get(&group) {
        Some(hosted) => inner.serving(&hosted.group),
        None => inner.serving_elsewhere(group),
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
        configs: TopicConfig::all(&topic.configs),
        partitions: partitions.collect(),
        notes: Vec::new(),
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
