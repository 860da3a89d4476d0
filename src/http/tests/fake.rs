//! A broker of one topic whose names and records a test chooses, hostile ones above all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{
    broker::{
        AdminError, BrokerView, BrowseFrom, BrowseRequest, Browsed, Caller, ClusterView, FetchError, Fetched,
        HealthReport, LeaderNow, NodeFigures, PartitionDescription, PartitionStats, PartitionView, Readiness,
        TopicDescription, TopicSummary, TopicView, TopicsWanted,
        groups::{GroupDescription, GroupError, GroupMember, GroupPartition, GroupSummary},
    },
    group::{Assignor, GroupPhase, Subscription},
    http::Backend,
    metadata::TopicConfig,
    metrics::{KafkaClients, Sample},
    record::{BatchBuilder, Codec, Record, append_patched},
    seam::CpuTurns,
    types::{
        BrokerId, ClusterId, GroupName, LeaderEpoch, LogIndex, MemberId, Offset, PartitionId, RaftGroupId, TopicId,
        TopicPartition, WallMs,
    },
};

#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
}

pub struct State {
    pub topic: String,
    pub group: GroupName,
    /// Of Kafka clients.
    pub software: Vec<(String, u64)>,
    pub problems: Vec<String>,
    pub ready: Readiness,
    pub log_start: i64,
    pub batches: Vec<Bytes>,
    pub next_offset: i64,
    /// The first look-up of a topic waits for ever.
    pub hangs: bool,
    /// So many groups, members and brokers in all.
    pub groups: usize,
    pub members: usize,
    pub brokers: u64,
}

impl Fake {
    pub fn new() -> Fake {
        let state = State {
            topic: "orders".into(),
            group: "billing".into(),
            software: vec![("librdkafka 2.15.0".into(), 6), ("(others)".into(), 1)],
            problems: Vec::new(),
            ready: Readiness::Ready,
            log_start: 0,
            batches: Vec::new(),
            next_offset: 0,
            hangs: false,
            groups: 1,
            members: 1,
            brokers: 3,
        };
        Fake { state: Arc::new(Mutex::new(state)) }
    }

    pub fn with(change: impl FnOnce(&mut State)) -> Fake {
        let fake = Fake::new();
        change(&mut fake.state.lock().unwrap());
        fake
    }

    pub fn append(&self, codec: Codec, records: &[Record]) {
        let mut builder = BatchBuilder::new(codec);
        records.iter().for_each(|record| builder.push(record).unwrap());
        let mut state = self.state.lock().unwrap();
        let mut patched = BytesMut::new();
        append_patched(&mut patched, &builder.build().unwrap(), Offset(state.next_offset), LeaderEpoch(3));
        state.batches.push(patched.freeze());
        state.next_offset += records.len() as i64;
    }

    fn get<T>(&self, what: impl FnOnce(&State) -> T) -> T {
        what(&self.state.lock().unwrap())
    }

    fn summary(&self) -> GroupSummary {
        let group = self.get(|state| state.group.clone());
        GroupSummary { group, phase: GroupPhase::Stable, protocol: "flotilla".into(), members: 1 }
    }
}

pub const LEADER: LeaderNow = LeaderNow { broker: BrokerId(2), epoch: LeaderEpoch(3) };

impl Backend for Fake {
    fn id(&self) -> BrokerId {
        BrokerId(1)
    }

    fn readiness(&self) -> Readiness {
        self.get(|state| state.ready.clone())
    }

    fn now(&self) -> WallMs {
        WallMs(1_764_000_000_000)
    }

    fn cpu_turns(&self) -> CpuTurns {
        CpuTurns::new(1)
    }

    async fn health(&self, _: &Caller) -> HealthReport {
        let problems = self.get(|state| state.problems.clone());
        HealthReport {
            healthy: problems.is_empty(),
            problems,
            details: Vec::new(),
            notes: vec!["retention is about to delete unread records".into()],
            brokers_alive: 2,
            brokers: 3,
            partitions: 2,
            partitions_without_leader: 0,
            partitions_under_replicated: 1,
            feature_level: 1,
            feature_level_supported: 2,
        }
    }

    async fn cluster_view(&self, _: &Caller, topics: TopicsWanted) -> ClusterView {
        let broker = |id: u64, alive: bool| BrokerView {
            id: BrokerId(id),
            client_address: format!("n{id}:7070"),
            peer_address: format!("n{id}:7071"),
            http_address: format!("n{id}:7080"),
            kafka_address: format!("n{id}:9092"),
            rack: if id == 1 { "r1".into() } else { String::new() },
            version: "0.1.0".into(),
            alive,
            metadata_voter: true,
        };
        let partition = |number| PartitionView {
            partition: PartitionId(number),
            leader: Some(LEADER),
            replicas: vec![BrokerId(2), BrokerId(1)],
        };
        let views = match topics {
            TopicsWanted::Named(names) => names
                .into_iter()
                .map(|name| TopicView {
                    name,
                    id: Some(TopicId(0xabc)),
                    configs: Vec::new(),
                    partitions: (0..2).map(partition).collect(),
                })
                .collect(),
            TopicsWanted::None | TopicsWanted::All => Vec::new(),
        };
        ClusterView {
            cluster_id: Some(ClusterId(0xabc)),
            metadata_index: LogIndex(7),
            metadata_leader: Some(LeaderNow { broker: BrokerId(2), epoch: LeaderEpoch(1) }),
            routes_stale: false,
            brokers: (1..=self.get(|state| state.brokers)).map(|id| broker(id, id < 3)).collect(),
            topics: views,
        }
    }

    async fn figures(&self, _: &Caller, of: BrokerId, history: bool) -> Option<NodeFigures> {
        if of == BrokerId(3) {
            return None;
        }
        let sample = Sample {
            at: WallMs(1_764_000_000_000),
            produced_bytes_per_s: 2_048.0,
            produced_records_per_s: 20.0,
            consumed_bytes_per_s: 1_024.0,
            consumed_records_per_s: 10.0,
            produce_p99_s: Some(0.004),
            write_p50_s: Some(0.001),
            write_p99_s: None,
        };
        let history = if history { vec![sample] } else { Vec::new() };
        Some(NodeFigures { disk_free_bytes: Some(1 << 30), disk_reserve_bytes: 1 << (29 + of.0), history })
    }

    async fn kafka_clients(&self, _: &Caller, of: BrokerId) -> Option<KafkaClients> {
        (of != BrokerId(3)).then(|| KafkaClients {
            connections: 9,
            fetch_sessions: 4,
            fetch_session_partitions: 1_000,
            software: self.get(|state| state.software.clone()),
            requests: vec![("Fetch".into(), 12, 70_000), ("Fetch".into(), 17, 5)],
        })
    }

    async fn list_topics(&self, _: &Caller) -> Result<Vec<TopicSummary>, AdminError> {
        let topic = |name: String| TopicSummary { name, id: TopicId(7), partitions: 2, replication_factor: 2 };
        Ok(vec![topic(self.get(|state| state.topic.clone())), topic("clicks".into())])
    }

    async fn describe_topic(&self, _: &Caller, name: &str) -> Result<TopicDescription, AdminError> {
        if self.get(|state| state.hangs) {
            std::future::pending::<()>().await;
        }
        let (topic, end) = self.get(|state| (state.topic.clone(), state.next_offset));
        if topic != name {
            return Err(AdminError::UnknownTopic { topic: name.into() });
        }
        let stats = PartitionStats { log_start: Offset(0), high_watermark: Offset(end), bytes: 1_536 };
        let partition = |number, leader, stats| PartitionDescription {
            partition: PartitionId(number),
            leader,
            replicas: vec![BrokerId(2), BrokerId(1)],
            raft_group: RaftGroupId(7),
            stats,
        };
        Ok(TopicDescription {
            name: topic,
            id: TopicId(5),
            configs: TopicConfig::entries(&BTreeMap::new())
                .into_iter()
                .filter(|entry| entry.key == "retention.ms")
                .collect(),
            partitions: vec![partition(0, Some(LEADER), Some(stats)), partition(1, None, None)],
            notes: Vec::new(),
        })
    }

    async fn browse(&self, _: &Caller, request: BrowseRequest) -> Result<Browsed, FetchError> {
        let BrowseRequest { topic, partition, from, .. } = request;
        let state = self.state.lock().unwrap();
        if topic != state.topic {
            return Err(FetchError::UnknownTopic { topic });
        }
        let (log_start, high_watermark) = (Offset(state.log_start), Offset(state.next_offset));
        let offset = match from {
            BrowseFrom::Offset(offset) => offset,
            BrowseFrom::Start | BrowseFrom::Time(_) => log_start,
            BrowseFrom::BeforeEnd(records) => log_start.max(Offset(high_watermark.0 - i64::from(records))),
        };
        if offset < log_start || offset > high_watermark {
            return Err(FetchError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark });
        }
        let batches = if offset == high_watermark { Vec::new() } else { state.batches.clone() };
        let fetched = Fetched { batches, high_watermark, log_start, next_offset: high_watermark };
        Ok(Browsed { leader: BrokerId(2), offset, fetched })
    }

    async fn list_groups(&self, _: &Caller) -> Result<Vec<GroupSummary>, GroupError> {
        let others = 1..self.get(|state| state.groups);
        let others = others.map(|n| GroupSummary { group: GroupName(format!("other-{n:03}")), ..self.summary() });
        Ok(std::iter::once(self.summary()).chain(others).collect())
    }

    async fn describe_group(&self, _: &Caller, group: &GroupName) -> Result<GroupDescription, GroupError> {
        let summary = self.summary();
        if summary.group != *group {
            return Err(GroupError::UnknownGroup { group: group.clone() });
        }
        let topic = self.get(|state| state.topic.clone());
        let at = |number| TopicPartition { topic: topic.clone(), partition: PartitionId(number) };
        let member = |n: usize| GroupMember {
            member: MemberId(format!("m-{n}")),
            instance: None,
            client_id: "app".into(),
            client_host: "127.0.0.1".into(),
            subscription: Subscription { topics: vec![topic.clone()], pattern: None, assignor: Assignor::Sticky },
            assigned: BTreeMap::from([(topic.clone(), vec![PartitionId(0)])]),
            revoking: BTreeMap::new(),
            classic: None,
        };
        let read = GroupPartition {
            at: at(0),
            member: Some("m-1".into()),
            committed: Some(Offset(4)),
            metadata: "m".into(),
            bounds: Some((Offset(0), Offset(9))),
            lag: Some(5),
            lag_time: Some(Duration::from_millis(90_500)),
            retention_threatens: true,
        };
        let unread = GroupPartition::unread(at(1));
        Ok(GroupDescription {
            summary,
            epoch: 6,
            assignor: "sticky".into(),
            coordinator: Some(BrokerId(1)),
            members: (1..=self.get(|state| state.members)).map(member).collect(),
            partitions: vec![read, unread],
        })
    }
}
