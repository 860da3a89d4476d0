//! Deciding and changing. `check_*` decide with `&self` and are what a dry run calls; `apply` calls
//! the same and then changes the state, so that a dry run and the real thing cannot differ.

use std::ops::Range;

use bytes::Bytes;

use super::codec::MalformedBytes;
use super::command::{
    AddPartitions, AllocateProducerIds, AlterTopic, Change, Command, CreateTopic, DeleteTopic, ForgetDeleted, Found,
    RegisterBroker,
};
use super::limits::{
    ADDRESS_BYTES_MAX, BROKERS_MAX, DELETED_GROUPS_MAX, LABEL_BYTES_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX,
    PRODUCER_ID_BLOCK, REPLICATION_FACTOR_DEFAULT, REPLICATION_FACTOR_MAX, TOPICS_MAX, check_topic_name, clip,
};
use super::placement::Placer;
use super::response::{self, Outcome, Refusal, Response};
use super::state::{Broker, DeletedGroup, LayoutMark, Metadata, PartitionInfo, Topic};
use super::topic_config::TopicConfig;
use crate::formats::{FEATURE_LEVEL, FEATURE_LEVEL_MIN};
use crate::group::{GroupCommand, Groups, PartitionCounts};
use crate::replicated::{Applied, CannotApply, Replicated, SnapshotAt, StateDecodeError};
use crate::seam::plant::{self, Plant};
use crate::types::{
    ALLOCATED_REPLICA_MIN, BrokerId, EntryPosition, PartitionId, ProducerId, RaftGroupId, ReplicaId, TopicId, WallMs,
};

impl Replicated for Metadata {
    const SNAPSHOT_AT: SnapshotAt = SnapshotAt::LastApplied;

    /// Entries that do not come in order are those of a log that lies.
    fn apply(&mut self, at: EntryPosition, command: &Bytes) -> Result<Applied, CannotApply> {
        if let Some(last) = self.applied.filter(|last| at.index <= last.index || at.term < last.term) {
            return Err(CannotApply(format!("it comes after {last}")));
        }
        // Others may be able to read it, so it must not be passed over: nobody writes above the cluster's level, and
        // whoever raised that beyond this broker's knew of no such broker.
        let command = Command::decode(command).map_err(|error| cannot_read(&error))?;
        self.check_supports(&command.change).map_err(|needs| CannotApply(format!("it {needs}")))?;
        self.check_room(&command.change)?;
        self.applied = Some(at);
        if !matches!(command.change, Change::Group(_)) {
            self.layout = LayoutMark(Some(at.index));
        }
        let response = self.change(at, command);
        self.check();
        Ok(Applied { response: response::encode(&response), index_point: None })
    }

    fn checkpoint_due(&self, _: &Bytes) -> bool {
        false
    }

    fn checkpoint_taken(&mut self, _: EntryPosition) {}

    /// Whoever drives a `LastApplied` group purges by its own policy (SAFETY M8).
    fn purge_point(&self) -> Option<EntryPosition> {
        None
    }

    fn can_be_after(&self, at: Option<EntryPosition>) -> bool {
        self.applied.is_none_or(|applied| at.is_some_and(|at| applied.is_up_to(at)))
    }

    fn encode(&self) -> Bytes {
        self.to_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Metadata, StateDecodeError> {
        Metadata::from_bytes(bytes)
    }
}

impl Metadata {
    /// The topic as it would be if it were created now, while the brokers `dead` do not answer.
    pub fn check_create(&self, wish: &CreateTopic, dead: &[BrokerId]) -> Result<Topic, Refusal> {
        self.check_founded()?;
        check_topic_name(&wish.name)?;
        let taken = self.topics.get(&wish.name).or_else(|| self.topic_by_id(wish.topic_id));
        if let Some(topic) = taken {
            return Err(Refusal::TopicExists { name: topic.name.clone() });
        }
        if self.topics.len() >= TOPICS_MAX {
            return Err(Refusal::TooManyTopics { have: self.topics.len() });
        }
        let partitions = if wish.partitions == 0 { 1 } else { wish.partitions };
        let replication_factor = self.check_replication_factor(wish.replication_factor)?;
        TopicConfig::parse_at(self.feature_level, &wish.configs, replication_factor)?;
        let partitions_placed = self.place(0..partitions, replication_factor, dead)?;
        self.groups.check_topic_growth(&wish.name, 0, partitions).map_err(Refusal::Group)?;
        Ok(Topic {
            name: wish.name.clone(),
            id: wish.topic_id,
            configs: wish.configs.clone(),
            replication_factor,
            partitions: partitions_placed,
            created_at: self.clock,
        })
    }

    /// The topic as it would be with the partitions added.
    pub fn check_add_partitions(&self, wish: &AddPartitions, dead: &[BrokerId]) -> Result<Topic, Refusal> {
        let mut topic = self.named(&wish.name, wish.topic_id)?.clone();
        let have = topic.partition_count();
        if wish.partitions <= have {
            return Err(Refusal::PartitionsNotMore { name: topic.name, have, asked: wish.partitions });
        }
        topic.partitions.extend(self.place(have..wish.partitions, topic.replication_factor, dead)?);
        self.groups.check_topic_growth(&wish.name, have, wish.partitions).map_err(Refusal::Group)?;
        Ok(topic)
    }

    /// The topic as it would be with its configs changed.
    pub fn check_alter(&self, wish: &AlterTopic) -> Result<Topic, Refusal> {
        let mut topic = self.named(&wish.name, wish.topic_id)?.clone();
        for key in &wish.unset {
            TopicConfig::check_key(self.feature_level, key)?;
            topic.configs.remove(key);
        }
        topic.configs.extend(wish.set.clone());
        TopicConfig::parse_at(self.feature_level, &topic.configs, topic.replication_factor)?;
        Ok(topic)
    }

    /// Every key that a topic of this cluster may set.
    pub fn config_keys(&self) -> Vec<String> {
        TopicConfig::keys(self.feature_level)
    }

    /// The topic that would go.
    pub fn check_delete(&self, wish: &DeleteTopic) -> Result<&Topic, Refusal> {
        self.named(&wish.name, wish.topic_id)
    }

    fn change(&mut self, at: EntryPosition, command: Command) -> Response {
        self.clock = self.clock.max(command.now);
        match command.change {
            Change::Found(wish) => self.found(wish, FEATURE_LEVEL_MIN),
            Change::FoundAt { wish, feature_level } => self.found(wish, feature_level),
            Change::RegisterBroker(wish) => self.register_broker(wish, None, None),
            Change::RegisterBrokerAt { wish, feature_level } => self.register_broker(wish, Some(feature_level), None),
            Change::RegisterBrokerWithKafka { wish, feature_level, kafka_address } => {
                self.register_broker(wish, Some(feature_level), Some(kafka_address))
            }
            Change::RaiseFeatureLevel(wish) => self.raise_feature_level(wish),
            Change::CreateTopic(wish) => self.create_topic(&wish, &[]),
            Change::CreateTopicOnLive { wish, dead } => self.create_topic(&wish, &dead),
            Change::AddPartitions(wish) => self.add_partitions(&wish, &[]),
            Change::AddPartitionsOnLive { wish, dead } => self.add_partitions(&wish, &dead),
            Change::AlterTopic(wish) => {
                let topic = self.check_alter(&wish)?;
                self.put_topic(topic);
                Ok(Outcome::TopicAltered)
            }
            Change::DeleteTopic(wish) => self.delete_topic(at, &wish),
            Change::AllocateProducerIds(wish) => self.allocate_producer_ids(&wish),
            Change::ForgetDeleted(wish) => self.forget_deleted(&wish),
            Change::Group(command) => self.change_group(command),
        }
    }

    fn found(&mut self, wish: Found, feature_level: u32) -> Response {
        match self.cluster_id {
            Some(cluster_id) if cluster_id == wish.cluster_id => return Ok(Outcome::Founded { cluster_id }),
            Some(cluster_id) => return Err(Refusal::AlreadyFounded { cluster_id }),
            None => {}
        }
        let is_rising = wish.founders.windows(2).all(|pair| pair[0] < pair[1]);
        if wish.founders.is_empty() || wish.founders.len() > BROKERS_MAX || !is_rising {
            return Err(Refusal::InvalidFounders { rule: "must be distinct broker ids in rising order".to_string() });
        }
        if let Some(id) = wish.founders.iter().find(|id| !is_broker_id(**id)) {
            return Err(Refusal::InvalidFounders { rule: format!("{id} {BROKER_ID_RULE}") });
        }
        if feature_level < FEATURE_LEVEL_MIN {
            let rule = format!("feature level {feature_level} cannot be, the first is {FEATURE_LEVEL_MIN}");
            return Err(Refusal::InvalidFounders { rule });
        }
        self.set_feature_level(feature_level);
        self.cluster_id = Some(wish.cluster_id);
        self.founders = wish.founders;
        Ok(Outcome::Founded { cluster_id: wish.cluster_id })
    }

    /// `supports`: the feature level that it says. `kafka`: where it says that Kafka clients reach it; nothing is said
    /// by one that was registered in the words of a lower level, which takes nothing back.
    fn register_broker(&mut self, wish: RegisterBroker, supports: Option<u32>, kafka: Option<String>) -> Response {
        self.check_founded()?;
        check_broker(&wish)?;
        check_kafka_address(wish.id, kafka.as_deref().unwrap_or_default())?;
        self.check_joins(wish.id, supports)?;
        let broker = wish.id;
        let twin = self.brokers.values().find(|b| b.storage_id == wish.storage_id && b.id != broker);
        if let Some(owner) = twin {
            return Err(Refusal::StorageIdTaken { broker, owner: owner.id, storage_id: wish.storage_id });
        }
        let known = self.brokers.get(&broker);
        if let Some(known) = known
            && known.storage_id != wish.storage_id
        {
            // An emptied directory has forgotten its votes: its replicas must not answer again (SAFETY B5).
            let (registered, offered) = (known.storage_id, wish.storage_id);
            return Err(Refusal::StorageIdMismatch { broker, registered, offered });
        }
        if known.is_none() && self.brokers.len() >= BROKERS_MAX {
            return Err(Refusal::TooManyBrokers { have: self.brokers.len() });
        }
        let (metadata_replica, registered_at) = match known {
            Some(known) => (known.metadata_replica, known.registered_at),
            None if self.founders.contains(&broker) => (ReplicaId(broker.0), self.clock),
            None => {
                let replica = ReplicaId(self.next_replica);
                self.next_replica = self.next_replica.checked_add(1).ok_or(Refusal::IdsExhausted)?;
                (replica, self.clock)
            }
        };
        let RegisterBroker { id, storage_id, client_address, peer_address, http_address, rack, version } = wish;
        #[rustfmt::skip]
        let entry = Broker {
            id, storage_id, client_address, peer_address, http_address, rack, version, metadata_replica, registered_at,
        };
        self.brokers.insert(id, entry);
        if let Some(level) = supports {
            self.levels.insert(id, level);
        }
        match kafka {
            Some(address) if address.is_empty() => drop(self.kafka_addresses.remove(&id)),
            Some(address) => drop(self.kafka_addresses.insert(id, address)),
            None => {}
        }
        Ok(Outcome::BrokerRegistered { metadata_replica })
    }

    fn create_topic(&mut self, wish: &CreateTopic, dead: &[BrokerId]) -> Response {
        // A proposer that did not learn the outcome proposes again with the same id.
        if self.topics.get(&wish.name).is_some_and(|topic| topic.id == wish.topic_id) {
            return Ok(Outcome::TopicCreated { topic_id: wish.topic_id });
        }
        let topic = self.check_create(wish, dead)?;
        self.put_topic(topic);
        self.with_groups(|groups, now, counts| groups.topic_grew(now, &wish.name, 0, counts));
        Ok(Outcome::TopicCreated { topic_id: wish.topic_id })
    }

    fn add_partitions(&mut self, wish: &AddPartitions, dead: &[BrokerId]) -> Response {
        let topic = self.check_add_partitions(wish, dead)?;
        let old = self.topics.get(&wish.name).map_or(0, Topic::partition_count);
        self.put_topic(topic);
        self.with_groups(|groups, now, counts| groups.topic_grew(now, &wish.name, old, counts));
        Ok(Outcome::PartitionsAdded { partitions: wish.partitions })
    }

    fn delete_topic(&mut self, at: EntryPosition, wish: &DeleteTopic) -> Response {
        let topic = self.check_delete(wish)?;
        let partitions = topic.partition_count();
        let replication_factor = topic.replication_factor;
        let topic = self.topics.remove(&wish.name).expect("it was just found");
        self.by_id.remove(&topic.id);
        self.loads.remove(&topic.partitions);
        for PartitionInfo { group, replicas, .. } in topic.partitions {
            self.by_group.remove(&group);
            self.deleted.insert(group, DeletedGroup { topic_id: topic.id, at: at.index, replicas });
        }
        while self.deleted.len() > DELETED_GROUPS_MAX {
            self.deleted.pop_first();
        }
        self.with_groups(|groups, now, counts| groups.topic_deleted(now, &wish.name, counts));
        Ok(Outcome::TopicDeleted { partitions, replication_factor })
    }

    fn allocate_producer_ids(&mut self, wish: &AllocateProducerIds) -> Response {
        self.check_founded()?;
        if !self.brokers.contains_key(&wish.broker) {
            return Err(Refusal::UnknownBroker { broker: wish.broker });
        }
        let first = self.next_producer_id;
        if plant::on(Plant::ProducerIdsTwice) {
            return Ok(Outcome::ProducerIds { first, count: PRODUCER_ID_BLOCK });
        }
        self.next_producer_id = first.0.checked_add(PRODUCER_ID_BLOCK).map(ProducerId).ok_or(Refusal::IdsExhausted)?;
        Ok(Outcome::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }

    fn forget_deleted(&mut self, wish: &ForgetDeleted) -> Response {
        for group in &wish.groups {
            let Some(deleted) = self.deleted.get_mut(group) else { continue };
            deleted.replicas.retain(|(_, broker)| *broker != wish.broker);
            if deleted.replicas.is_empty() {
                self.deleted.remove(group);
            }
        }
        Ok(Outcome::DeletedForgotten)
    }

    fn change_group(&mut self, command: GroupCommand) -> Response {
        self.check_founded()?;
        let changed = self.with_groups(|groups, now, counts| groups.apply(now, command, counts));
        changed.map(Outcome::Group).map_err(Refusal::Group)
    }

    /// Groups, the clock, and what topics there are.
    fn with_groups<T>(&mut self, change: impl FnOnce(&mut Groups, WallMs, PartitionCounts<'_>) -> T) -> T {
        let Metadata { groups, topics, clock, .. } = self;
        let counts = |name: &str| topics.get(name).map(Topic::partition_count);
        change(groups, *clock, &counts)
    }

    pub(super) fn check_founded(&self) -> Result<(), Refusal> {
        self.cluster_id.map(|_| ()).ok_or(Refusal::NotFounded)
    }

    /// The topic with this name and id: a late command must not reach a namesake (SAFETY M11).
    fn named(&self, name: &str, id: TopicId) -> Result<&Topic, Refusal> {
        let topic = self.topics.get(name).filter(|topic| topic.id == id);
        topic.ok_or_else(|| Refusal::UnknownTopic { name: clip(name) })
    }

    fn check_replication_factor(&self, asked: i32) -> Result<i32, Refusal> {
        let have = self.brokers.len();
        if !(0..=REPLICATION_FACTOR_MAX).contains(&asked) {
            let rule = format!("must be from 1 to {REPLICATION_FACTOR_MAX}");
            return Err(Refusal::InvalidReplicationFactor { asked, rule });
        }
        let brokers = i32::try_from(have).expect("limited to BROKERS_MAX");
        // Founders count before they have registered: a topic made in a cluster's first second must not
        // quietly get fewer replicas than it would get a second later.
        let expected = brokers.max(i32::try_from(self.founders.len()).expect("limited to BROKERS_MAX"));
        let wanted = if asked == 0 { REPLICATION_FACTOR_DEFAULT.min(expected) } else { asked };
        if wanted > brokers {
            return Err(Refusal::TooFewBrokers { asked: wanted, have });
        }
        Ok(wanted)
    }

    /// New partitions with the next free ids, which are not taken yet: see [`Metadata::put_topic`].
    fn place(
        &self,
        numbers: Range<i32>,
        replication_factor: i32,
        dead: &[BrokerId],
    ) -> Result<Vec<PartitionInfo>, Refusal> {
        let Range { start: have, end: total } = numbers;
        if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&total) {
            let rule = format!("a topic has from 1 to {PARTITIONS_PER_TOPIC_MAX}");
            return Err(Refusal::InvalidPartitions { asked: total, rule });
        }
        let new = u64::try_from(total - have).expect("the caller asked for more than there are");
        let width = u64::try_from(replication_factor).expect("checked to be 1 or more");
        let (asked, have, max) = (new as usize, self.partitions_total(), PARTITIONS_MAX);
        if have + asked > max {
            return Err(Refusal::TooManyPartitions { asked, have, max });
        }
        self.next_group.checked_add(new).ok_or(Refusal::IdsExhausted)?;
        self.next_replica.checked_add(new * width).ok_or(Refusal::IdsExhausted)?;
        // Reachable only if brokers could go: placement must not run short.
        if self.brokers.len() < width as usize {
            return Err(Refusal::TooFewBrokers { asked: replication_factor, have: self.brokers.len() });
        }
        let mut placer = Placer::new(self, width as usize, dead);
        let one = |i: u64| {
            let group = RaftGroupId(self.next_group + i);
            let first = self.next_replica + i * width;
            let brokers = placer.place(group, width as usize);
            let replicas: Vec<_> = (first..).map(ReplicaId).zip(brokers).collect();
            PartitionInfo { group, initial: replicas.clone(), replicas }
        };
        Ok((0..new).map(one).collect())
    }

    /// Stores a topic that a check has made, and takes the ids that it was given.
    fn put_topic(&mut self, topic: Topic) {
        for (number, partition) in (0..).map(PartitionId).zip(&topic.partitions) {
            self.by_group.insert(partition.group, (topic.name.clone(), number));
            self.next_group = self.next_group.max(partition.group.0 + 1);
            for (replica, _) in &partition.replicas {
                self.next_replica = self.next_replica.max(replica.0 + 1);
            }
        }
        self.by_id.insert(topic.id, topic.name.clone());
        self.loads.add(&topic.partitions);
        if let Some(old) = self.topics.insert(topic.name.clone(), topic) {
            self.loads.remove(&old.partitions);
        }
    }
}

/// An unknown variant and damaged bytes look alike.
fn cannot_read(error: &MalformedBytes) -> CannotApply {
    let version = env!("CARGO_PKG_VERSION");
    CannotApply(format!(
        "it cannot be read ({error}): it needs a feature level above {FEATURE_LEVEL}, which version {version} of the broker \
         supports, or it is damaged"
    ))
}

const BROKER_ID_RULE: &str = "must be from 1 to 65535";

/// Ids from 65,536 on are handed out as replica ids; below, a founder's broker id is its replica id in the
/// metadata group.
fn is_broker_id(id: BrokerId) -> bool {
    (1..ALLOCATED_REPLICA_MIN).contains(&id.0)
}

fn check_broker(wish: &RegisterBroker) -> Result<(), Refusal> {
    let refuse = |field: &str, value: &str, rule: &str| {
        let (field, value, rule) = (field.to_string(), clip(value), rule.to_string());
        Err(Refusal::InvalidBroker { broker: wish.id, field, value, rule })
    };
    if !is_broker_id(wish.id) {
        return refuse("id", &wish.id.to_string(), BROKER_ID_RULE);
    }
    for (field, value) in [
        ("client_address", &wish.client_address),
        ("peer_address", &wish.peer_address),
        ("http_address", &wish.http_address),
    ] {
        if value.is_empty() || value.len() > ADDRESS_BYTES_MAX {
            return refuse(field, value, "must be 1 to 261 bytes long");
        }
    }
    for (field, value) in [("rack", wish.rack.as_deref().unwrap_or("none")), ("version", &wish.version)] {
        if value.is_empty() || value.len() > LABEL_BYTES_MAX {
            return refuse(field, value, "must be 1 to 255 bytes long");
        }
    }
    Ok(())
}

fn check_kafka_address(broker: BrokerId, address: &str) -> Result<(), Refusal> {
    if address.len() <= ADDRESS_BYTES_MAX {
        return Ok(());
    }
    let rule = "must be at most 261 bytes long".to_string();
    Err(Refusal::InvalidBroker { broker, field: "kafka_address".to_string(), value: clip(address), rule })
}
