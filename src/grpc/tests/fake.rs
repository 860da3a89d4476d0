//! A broker of one partition in memory, whose answers a test can hold back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::super::Backend;
use crate::{
    broker::{
        AddPartitionsRequest, AdminError, AlterTopicRequest, Caller, ClusterView, CreateTopicRequest,
        DeleteTopicRequest, FeatureLevelRaised, FetchError, FetchRequest, Fetched, FoundOffset, HashReplicaRequest,
        HealthReport, LeaderNow, OffsetAt, PartitionDescription, ProduceError, ProduceRequest, ProducerIdentity,
        RaiseFeatureLevelRequest, Readiness, Receipt, ReplicaHash, RereadHash, TopicDescription, TopicSummary,
        TopicsWanted, TransferLeaderRequest, TrimRequest, answer_room,
        groups::{
            CommitRequest, CommittedOffset, CommittedOffsets, GroupDescription, GroupError, GroupMember,
            GroupPartition, GroupSummary, HeartbeatAnswer, HeartbeatRequest, Leaver,
        },
        held::HeldBytes,
    },
    group::{GroupPhase, GroupRefusal, PartitionSet, Subscription},
    metadata::{ConfigEntry, TopicConfig},
    metrics::Metrics,
    raft::{LogHash, Reread},
    record::{BatchHeader, append_patched},
    rolling::Mark,
    seam::CpuTurns,
    storage::StoreFailed,
    types::{
        BrokerId, ClusterId, GroupName, LeaderEpoch, LogIndex, Offset, PartitionId, ProducerEpoch, ProducerId,
        RaftGroupId, TopicId, TopicPartition, WallMs,
    },
};

pub const TOPIC: &str = "orders";
pub const TOPIC_ID: TopicId = TopicId(0xabc);
pub const GROUP: &str = "billing";
pub const EPOCH: LeaderEpoch = LeaderEpoch(3);

#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    /// One permit lets one produce be answered.
    pub answers: Arc<Semaphore>,
    /// The produce budget, in bytes.
    pub budget: Arc<Semaphore>,
    /// How many produces were handed over so far.
    pub submitted: Arc<watch::Sender<usize>>,
    appended: Arc<Notify>,
    /// The room for batches on their way to readers.
    pub room: Arc<HeldBytes>,
}

#[derive(Default)]
struct State {
    batches: Vec<(BatchHeader, Bytes)>,
    next_offset: i64,
    log_start: i64,
    requests: Vec<ProduceRequest>,
    in_flight: usize,
    in_flight_max: usize,
    not_ready: Option<String>,
    fetch_bytes_max: Vec<usize>,
    /// The next fetches fail with it.
    moves_to: Option<i64>,
    /// The topic was deleted, and this one has its name.
    namesake: Option<TopicId>,
    beats: Vec<HeartbeatRequest>,
    commits: Vec<CommitRequest>,
    asked: Vec<Option<Vec<TopicPartition>>>,
}

impl Fake {
    pub fn new() -> Fake {
        Fake {
            state: Arc::default(),
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            budget: Arc::new(Semaphore::new(1 << 30)),
            submitted: Arc::new(watch::Sender::new(0)),
            appended: Arc::default(),
            room: answer_room(64 << 20, Metrics::new().intake()),
        }
    }

    /// A partition that takes produces, and whose leader then turns out to be another.
    pub const FAILS_LATER: i32 = 7;

    /// Answers nothing until permits are added to `answers`.
    pub fn holding() -> Fake {
        Fake { answers: Arc::new(Semaphore::new(0)), ..Fake::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn requests(&self) -> Vec<ProduceRequest> {
        self.state().requests.clone()
    }

    pub fn in_flight_max(&self) -> usize {
        self.state().in_flight_max
    }

    pub fn fetch_bytes_max(&self) -> Vec<usize> {
        self.state().fetch_bytes_max.clone()
    }

    pub fn beats(&self) -> Vec<HeartbeatRequest> {
        self.state().beats.clone()
    }

    pub fn commits(&self) -> Vec<CommitRequest> {
        self.state().commits.clone()
    }

    /// Returns what FetchOffsets named.
    pub fn asked(&self) -> Vec<Option<Vec<TopicPartition>>> {
        self.state().asked.clone()
    }

    pub fn set_ready(&self, ready: Result<(), &str>) {
        self.state().not_ready = ready.err().map(Into::into);
    }

    /// Does what retention does between a look-up and the fetch that follows it.
    pub fn trim_at_next_fetch(&self, log_start: i64) {
        self.state().moves_to = Some(log_start);
    }

    pub fn replace_topic(&self) {
        self.state().namesake = Some(TopicId(TOPIC_ID.0 + 1));
    }

    pub fn append(&self, batch: &[u8]) -> Offset {
        let mut state = self.state();
        let base = Offset(state.next_offset);
        let mut patched = BytesMut::new();
        append_patched(&mut patched, batch, base, EPOCH);
        let header = BatchHeader::parse(&patched).unwrap();
        state.next_offset = header.last_offset().0 + 1;
        state.batches.push((header, patched.freeze()));
        drop(state);
        self.appended.notify_waiters();
        base
    }

    fn check(&self, topic: &str, id: Option<TopicId>, partition: PartitionId) -> Result<(), FetchError> {
        if topic != TOPIC {
            return Err(FetchError::UnknownTopic { topic: topic.into() });
        }
        let now = self.state().namesake.unwrap_or(TOPIC_ID);
        if let Some(meant) = id.filter(|id| *id != now) {
            return Err(FetchError::TopicReplaced { topic: topic.into(), meant, now });
        }
        if partition != PartitionId(0) {
            return Err(FetchError::UnknownPartition { topic: topic.into(), partition });
        }
        Ok(())
    }

    fn try_fetch(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        let mut state = self.state();
        if let Some(log_start) = state.moves_to.take() {
            state.log_start = log_start;
        }
        if !(state.log_start..=state.next_offset).contains(&request.offset.0) {
            return Err(FetchError::OffsetOutOfRange {
                topic: request.topic.clone(),
                partition: request.partition,
                offset: request.offset,
                log_start: Offset(state.log_start),
                high_watermark: Offset(state.next_offset),
            });
        }
        state.fetch_bytes_max.push(request.bytes_max);
        let (mut batches, mut bytes, mut next_offset) = (Vec::new(), 0, request.offset);
        for (header, batch) in state.batches.iter().filter(|(header, _)| header.last_offset() >= request.offset) {
            if !batches.is_empty() && bytes + batch.len() > request.bytes_max {
                break;
            }
            bytes += batch.len();
            batches.push(batch.clone());
            next_offset = Offset(header.last_offset().0 + 1);
        }
        let (high_watermark, log_start) = (Offset(state.next_offset), Offset(state.log_start));
        Ok(Fetched { batches, high_watermark, log_start, next_offset })
    }
}

pub fn description(name: &str) -> TopicDescription {
    let leader = LeaderNow { broker: BrokerId(1), epoch: EPOCH };
    let partition = |partition, leader| PartitionDescription {
        partition: PartitionId(partition),
        leader,
        replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
        raft_group: RaftGroupId(7),
        stats: None,
    };
    TopicDescription {
        name: name.into(),
        id: TOPIC_ID,
        configs: set_configs(&[("retention.ms".into(), "1000".into())].into()),
        partitions: vec![partition(0, Some(leader)), partition(1, None)],
        notes: vec!["a note".into()],
    }
}

/// Lists the configs that are set, without the defaults.
fn set_configs(configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    TopicConfig::entries(configs).into_iter().filter(|entry| !entry.is_default).collect()
}

fn known(group: &GroupName) -> Result<(), GroupError> {
    match group.0.as_str() {
        GROUP => Ok(()),
        _ => Err(GroupError::UnknownGroup { group: group.clone() }),
    }
}

pub fn at_partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.into(), partition: PartitionId(partition) }
}

impl Backend for Fake {
    type Budget = OwnedSemaphorePermit;
    type Waiting = BoxFuture<'static, Result<Receipt, ProduceError>>;

    fn answer_room(&self) -> Arc<HeldBytes> {
        self.room.clone()
    }

    async fn reserve_produce(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.budget.clone().acquire_many_owned(bytes as u32).await.unwrap()
    }

    fn produce(
        &self,
        _: &Caller,
        request: ProduceRequest,
        budget: Self::Budget,
    ) -> Result<Self::Waiting, ProduceError> {
        let (topic, partition) = (request.topic.clone(), request.partition);
        if topic != TOPIC {
            return Err(ProduceError::UnknownTopic { topic });
        }
        let not_leader = move |topic| {
            let hint = LeaderNow { broker: BrokerId(2), epoch: EPOCH };
            ProduceError::NotLeader { topic, partition, leader: Some(hint) }
        };
        if ![0, Self::FAILS_LATER].contains(&partition.0) {
            return Err(not_leader(topic));
        }
        let header = BatchHeader::parse(&request.batch).map_err(ProduceError::InvalidBatch)?;
        let mut state = self.state();
        let expected = Offset(state.next_offset);
        if let Some(offset) = request.expected_offset.filter(|offset| *offset != expected) {
            return Err(ProduceError::WrongOffset { expected: offset, actual: expected });
        }
        state.requests.push(request.clone());
        state.in_flight += 1;
        state.in_flight_max = state.in_flight_max.max(state.in_flight);
        drop(state);
        let base_offset = self.append(&request.batch);
        self.submitted.send_modify(|count| *count += 1);
        let this = self.clone();
        let receipt = Receipt {
            topic,
            partition,
            base_offset,
            count: header.count,
            epoch: EPOCH,
            index: LogIndex(base_offset.0 as u64 + 10),
            durable_on: vec![BrokerId(1), BrokerId(2)],
            duplicate: false,
            log_append_time: None,
            log_start: Offset(0),
        };
        Ok(async move {
            this.answers.acquire().await.unwrap().forget();
            this.state().in_flight -= 1;
            drop(budget);
            if partition.0 == Self::FAILS_LATER { Err(not_leader(receipt.topic)) } else { Ok(receipt) }
        }
        .boxed())
    }

    async fn fetch(&self, _: &Caller, request: FetchRequest) -> Result<Fetched, FetchError> {
        self.check(&request.topic, request.topic_id, request.partition)?;
        let deadline = tokio::time::Instant::now() + request.wait;
        loop {
            let appended = self.appended.notified();
            let fetched = self.try_fetch(&request)?;
            if !fetched.batches.is_empty() || tokio::time::timeout_at(deadline, appended).await.is_err() {
                return Ok(fetched);
            }
        }
    }

    async fn fetch_kept(&self, _: &Caller, request: FetchRequest) -> Result<(Offset, Fetched), FetchError> {
        match self.fetch(&Caller::ANONYMOUS, request.clone()).await {
            Err(FetchError::OffsetOutOfRange { log_start, .. }) if log_start > request.offset => {
                let fetched = self.fetch(&Caller::ANONYMOUS, FetchRequest { offset: log_start, ..request }).await?;
                Ok((log_start, fetched))
            }
            ended => ended.map(|fetched| (request.offset, fetched)),
        }
    }

    fn client_address(&self, of: BrokerId) -> String {
        if of == BrokerId(2) { "two:7070".into() } else { String::new() }
    }

    fn topic_id(&self, topic: &str) -> Option<TopicId> {
        (topic == TOPIC).then(|| self.state().namesake.unwrap_or(TOPIC_ID))
    }

    async fn find_offset(
        &self,
        _: &Caller,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionId,
        at: OffsetAt,
    ) -> Result<FoundOffset, FetchError> {
        self.check(topic, topic_id, partition)?;
        let state = self.state();
        let offset = match at {
            OffsetAt::Earliest => Offset(state.log_start),
            OffsetAt::Latest => Offset(state.next_offset),
            // By batch, as a broker that reads no records finds it.
            OffsetAt::Time(time) => {
                let found = state.batches.iter().find(|(header, _)| header.max_timestamp >= time);
                found.map_or(Offset(state.next_offset), |(header, _)| header.base_offset)
            }
            OffsetAt::MaxTimestamp => {
                let found = state.batches.iter().rev().max_by_key(|(header, _)| header.max_timestamp);
                found.map_or(Offset(state.next_offset), |(header, _)| header.base_offset)
            }
        };
        Ok(FoundOffset { offset, epoch: EPOCH, timestamp: None })
    }

    async fn create_topic(&self, _: &Caller, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        match request.name.as_str() {
            TOPIC => Err(AdminError::TopicExists { topic: request.name }),
            name => Ok(TopicDescription { configs: set_configs(&request.configs), ..description(name) }),
        }
    }

    async fn list_topics(&self, _: &Caller) -> Result<Vec<TopicSummary>, AdminError> {
        Ok(vec![TopicSummary { name: TOPIC.into(), id: TOPIC_ID, partitions: 2, replication_factor: 3 }])
    }

    async fn describe_topic(&self, _: &Caller, name: &str) -> Result<TopicDescription, AdminError> {
        match name {
            TOPIC => Ok(description(name)),
            _ => Err(AdminError::UnknownTopic { topic: name.into() }),
        }
    }

    async fn alter_topic(&self, _: &Caller, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        Ok(description(&request.name))
    }

    async fn add_partitions(&self, _: &Caller, request: AddPartitionsRequest) -> Result<TopicDescription, AdminError> {
        Ok(description(&request.name))
    }

    async fn trim_partition(&self, _: &Caller, request: TrimRequest) -> Result<Offset, AdminError> {
        Ok(request.before.unwrap_or(Offset(self.state().next_offset)))
    }

    async fn delete_topic(&self, _: &Caller, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        Ok(TopicSummary { name: request.name, id: TOPIC_ID, partitions: 2, replication_factor: 3 })
    }

    async fn init_producer_id(&self, _: &Caller) -> Result<ProducerIdentity, AdminError> {
        Ok(ProducerIdentity { id: ProducerId(9), epoch: ProducerEpoch(0) })
    }

    async fn cluster_view(&self, _: &Caller, _: TopicsWanted) -> ClusterView {
        ClusterView {
            cluster_id: Some(ClusterId(0xc1)),
            metadata_index: LogIndex(5),
            metadata_leader: None,
            routes_stale: false,
            brokers: Vec::new(),
            topics: Vec::new(),
        }
    }

    async fn health(&self, _: &Caller) -> HealthReport {
        let (problems, notes) = (vec!["broker 3 is down".into()], vec!["a note".into()]);
        HealthReport {
            problems,
            notes,
            details: vec!["a detail".into()],
            brokers: 3,
            feature_level: 1,
            ..HealthReport::default()
        }
    }

    /// A replica of two entries, read again as far as asked.
    async fn hash_replica(&self, _: &Caller, request: HashReplicaRequest) -> Result<ReplicaHash, AdminError> {
        let mark = |next, sum| Mark { next: LogIndex(next), sum };
        let log = LogHash {
            first: LogIndex(1),
            marks: vec![mark(0, 0), mark(2, 0x0102)],
            state: request.with_state.then_some(7),
        };
        let reread = request.reread.map(|(from, to)| match from.0 {
            99 => RereadHash::Damaged(StoreFailed::damaged("blob file 17: checksum mismatch")),
            _ => {
                let wrong = vec![(LogIndex(1), "its CRC differs".to_string())];
                RereadHash::Read(Reread { from, next: to, sum: 9, bytes: 5, wrong })
            }
        });
        Ok(ReplicaHash { broker: BrokerId(1), group: RaftGroupId(3), log, reread })
    }

    async fn raise_feature_level(
        &self,
        _: &Caller,
        request: RaiseFeatureLevelRequest,
    ) -> Result<FeatureLevelRaised, AdminError> {
        match request.to {
            None | Some(1..=2) => Ok(FeatureLevelRaised { from: 1, to: request.to.unwrap_or(2) }),
            Some(to) => Err(AdminError::InvalidRequest { detail: format!("broker 3 does not support level {to}") }),
        }
    }

    async fn transfer_leader(&self, _: &Caller, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        match request.to {
            Some(broker) => Ok(LeaderNow { broker, epoch: EPOCH }),
            None => Err(AdminError::TransferFailed { reason: "no other voter is alive".into() }),
        }
    }

    async fn group_join(&self, _: &Caller, request: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        self.group_heartbeat(&Caller::ANONYMOUS, request).await
    }

    async fn group_heartbeat(&self, _: &Caller, request: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        known(&request.group)?;
        let answer = HeartbeatAnswer {
            member: "m-1".into(),
            epoch: request.epoch + 1,
            assigned: PartitionSet::from([(TOPIC.into(), vec![PartitionId(0), PartitionId(1)])]),
            next_beat: Duration::from_millis(1_500),
            rebalancing: true,
        };
        self.state().beats.push(request);
        Ok(answer)
    }

    async fn group_leave(
        &self,
        _: &Caller,
        group: &GroupName,
        leavers: Vec<Leaver>,
    ) -> Result<Vec<(Leaver, Option<GroupError>)>, GroupError> {
        known(group)?;
        let stranger = |member: &str| GroupError::UnknownMember { group: group.clone(), member: member.into() };
        let left = |leaver: Leaver| {
            let error = (leaver.member != "m-1").then(|| stranger(&leaver.member.0));
            (leaver, error)
        };
        Ok(leavers.into_iter().map(left).collect())
    }

    async fn commit_offsets(
        &self,
        _: &Caller,
        request: CommitRequest,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        known(&request.group)?;
        let fenced = {
            let refusal = GroupRefusal::WrongEpoch { found: 1, current: 2 };
            GroupError::Refused { group: GROUP.into(), member: request.member.clone(), refusal }
        };
        let odd = request.offsets.iter().filter(|offset| offset.at.partition.0 % 2 == 1);
        let refused = odd.map(|offset| (offset.at.clone(), fenced.clone())).collect();
        self.state().commits.push(request);
        Ok(refused)
    }

    async fn fetch_offsets(
        &self,
        _: &Caller,
        group: &GroupName,
        at: Option<Vec<TopicPartition>>,
    ) -> Result<CommittedOffsets, GroupError> {
        known(group)?;
        self.state().asked.push(at);
        let offsets = vec![CommittedOffset {
            at: at_partition(0),
            offset: Offset(5),
            leader_epoch: Some(EPOCH),
            metadata: "here".into(),
            committed_at: WallMs(77),
        }];
        Ok(CommittedOffsets { offsets, topics: vec![(TOPIC.into(), TOPIC_ID)] })
    }

    async fn list_groups(&self, _: &Caller) -> Result<Vec<GroupSummary>, GroupError> {
        let one = |phase| GroupSummary { group: GROUP.into(), phase, protocol: "flotilla".into(), members: 1 };
        Ok([GroupPhase::Empty, GroupPhase::Stable, GroupPhase::Rebalancing].map(one).into())
    }

    async fn describe_group(&self, _: &Caller, group: &GroupName) -> Result<GroupDescription, GroupError> {
        known(group)?;
        let set = |p| PartitionSet::from([(TOPIC.into(), vec![PartitionId(p)])]);
        let partition = GroupPartition {
            at: at_partition(0),
            member: Some("m-1".into()),
            committed: Some(Offset(5)),
            metadata: "here".into(),
            bounds: Some((Offset(2), Offset(9))),
            lag: Some(4),
            lag_time: Some(Duration::from_millis(1_234)),
            retention_threatens: true,
        };
        let unknown = GroupPartition::unread(at_partition(1));
        Ok(GroupDescription {
            summary: self.list_groups(&Caller::ANONYMOUS).await?.swap_remove(1),
            epoch: 8,
            assignor: "sticky".into(),
            coordinator: Some(BrokerId(3)),
            members: vec![GroupMember {
                member: "m-1".into(),
                instance: Some("i".into()),
                client_id: "c".into(),
                client_host: "h".into(),
                subscription: Subscription {
                    topics: vec![TOPIC.into()],
                    pattern: Some("o.*".into()),
                    ..Default::default()
                },
                assigned: set(0),
                revoking: set(1),
                classic: None,
            }],
            partitions: vec![partition, unknown],
        })
    }

    async fn delete_group(&self, _: &Caller, group: &GroupName, dry_run: bool) -> Result<(), GroupError> {
        known(group)?;
        if dry_run { Ok(()) } else { Err(GroupError::NotEmpty { group: group.clone(), members: 1 }) }
    }

    async fn delete_offsets(
        &self,
        _: &Caller,
        group: &GroupName,
        at: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        known(group)?;
        let held = |at| (at, GroupError::NotEmpty { group: GROUP.into(), members: 1 });
        Ok(at.into_iter().filter(|at| at.partition.0 % 2 == 1).map(held).collect())
    }

    fn readiness(&self) -> Readiness {
        match &self.state().not_ready {
            Some(reason) => Readiness::NotReady(reason.clone()),
            None => Readiness::Ready,
        }
    }

    fn now(&self) -> WallMs {
        WallMs(1_000)
    }

    fn cpu_turns(&self) -> CpuTurns {
        CpuTurns::new(1)
    }
}
