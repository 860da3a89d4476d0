//! What brokers ask one another, beside Raft: opaque to module `raft`, which carries it. A version
//! byte, then postcard. Brokers of one cluster may run different versions: no struct here ever changes, and
//! variants are only added ([`formats`](crate::formats)). Whoever cannot read a call says that it did nothing.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    console_calls::{ConsoleAnswer, ConsoleCall},
    group_calls::PartitionLag,
};
use crate::{
    broker::{
        AdminError, LeaderNow, PartitionStats,
        groups::{GroupAttempt, GroupCall},
        limits,
        node::Node,
    },
    metadata::{Change, RegisterBroker, Response},
    raft::CallError,
    storage::{Seen, Start, StartId},
    types::{BrokerId, ClusterId, LogIndex, Offset, RaftGroupId, StorageId, WallMs},
};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Who are you, as far as forming a cluster goes?
    Hello { peers_hash: u64 },
    /// Asks the metadata leader to propose a change.
    Change { change: Change, within_ms: u32 },
    /// Asks the metadata leader for an index that covers all that was committed.
    MetadataIndex,
    /// Asks leaders how large these partitions are.
    Stats { groups: Vec<RaftGroupId> },
    /// Asks a partition's leader to move its log start.
    Trim { group: RaftGroupId, before: Option<Offset>, dry_run: bool, within_ms: u32 },
    /// Asks a group's leader to hand its leadership over.
    Transfer { group: RaftGroupId, to: Option<BrokerId>, within_ms: u32 },
    /// What is wrong with the groups you lead, and with you?
    Health,
    /// Asks for the time by the other's wall clock.
    Clock,
    /// Asks the coordinator of the groups, which answers at once or not at all.
    Group { call: Box<GroupCall>, within_ms: u32 },
    /// Asks leaders how far a group is behind that has committed these offsets.
    Lag { readers: Vec<(RaftGroupId, Option<Offset>)> },
    /// What is worth knowing about the partitions that you lead, and about groups' places in them?
    GroupNotes,
    /// Asks what the console shows of a partition's leader, or of the broker itself.
    Console(ConsoleCall),
    /// Asks leaders to answer once what they do goes by the metadata up to this entry.
    LayoutInUse { index: LogIndex, within_ms: u32 },
    /// What do you keep of me?
    Recall,
    /// Keep this of me, if what you keep now is of this start: its number and id.
    Remember { told: Told, after: Option<(u64, StartId)> },
    /// I stop for good; why.
    Alarm { text: String },
    /// Where are the brokers that you reach?
    Where,
    /// The metadata leader asks what a broker says of itself, to register it.
    Introduce,
    /// Asks leaders what is worth knowing about retention in these partitions.
    RetentionNotes { groups: Vec<RaftGroupId> },
    /// Do you lead this group?
    Leads { group: RaftGroupId, within_ms: u32 },
    /// What do you say of yourself to be registered, and which feature level do you support? Brokers of level 1 cannot
    /// read it.
    Describe,
    /// What `Describe` asks, and where do Kafka clients reach you? Brokers below level 3 cannot read it.
    DescribeWithKafka,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Hello(Hello),
    Change(Attempt),
    MetadataIndex(Option<LogIndex>),
    Stats(Vec<Option<PartitionStats>>),
    Trim(Result<Offset, AdminError>),
    Transfer(Result<LeaderNow, AdminError>),
    Health(NodeHealth),
    Clock(WallMs),
    /// Starting, stopping, overloaded, or not able to read the request. Nothing was done.
    Unavailable,
    Group(GroupAttempt),
    /// One for each partition, in the order asked; None: it is not led there. Where the list is shorter, the rest is
    /// not known.
    Lag(Vec<Option<PartitionLag>>),
    /// What is worth knowing about the groups, in sentences.
    GroupNotes(Vec<String>),
    Console(ConsoleAnswer),
    /// Whether it does, within the time.
    LayoutInUse(bool),
    Recalled(Option<Told>),
    /// What is kept instead of what was told. None: that is kept.
    Remembered(Option<Told>),
    Alarmed,
    Where(Vec<(BrokerId, String)>),
    /// What the broker says of itself. None: it is not part of a cluster yet.
    Introduced(Option<RegisterBroker>),
    /// What is worth knowing about retention, in sentences.
    RetentionNotes(Vec<String>),
    /// In which epoch the broker leads. None: it does not, or it cannot be confirmed.
    Leads(Option<LeaderNow>),
    /// No card: not part of a cluster yet.
    Described {
        card: Option<RegisterBroker>,
        feature_level: u32,
    },
    DescribedWithKafka {
        card: Option<RegisterBroker>,
        feature_level: u32,
        /// Empty: the broker has no listener for Kafka clients.
        kafka_address: String,
    },
}

impl Call {
    /// The feature level that this call came with. Any broker may be asked all the same: one that cannot read a call
    /// answers that it did nothing.
    pub fn level(&self) -> u32 {
        match self {
            Call::Hello { .. }
            | Call::MetadataIndex
            | Call::Stats { .. }
            | Call::Trim { .. }
            | Call::Transfer { .. }
            | Call::Health
            | Call::Clock
            | Call::Group { .. }
            | Call::Lag { .. }
            | Call::GroupNotes
            | Call::Console(ConsoleCall::Browse(_) | ConsoleCall::Figures { .. })
            | Call::LayoutInUse { .. }
            | Call::Recall
            | Call::Remember { .. }
            | Call::Alarm { .. }
            | Call::Where
            | Call::Introduce
            | Call::RetentionNotes { .. }
            | Call::Leads { .. } => 1,
            Call::Change { change, .. } => change.level(),
            Call::Describe => 2,
            Call::DescribeWithKafka | Call::Console(ConsoleCall::KafkaClients) => 3,
        }
    }
}

/// What a broker tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub storage_id: StorageId,
    /// The number and the id of the start.
    pub start: (u64, StartId),
    pub commit_no: u64,
}

impl Told {
    pub fn of(seen: &Seen) -> Told {
        let Seen { storage_id, start, commit_no, alarm: _ } = *seen;
        Told { storage_id, start: (start.number, start.id), commit_no }
    }

    pub fn seen(&self) -> Seen {
        let (number, id) = self.start;
        let start = Start { number, id };
        Seen { storage_id: self.storage_id, start, commit_no: self.commit_no, alarm: String::new() }
    }
}

/// One try to propose a change at the metadata leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Attempt {
    /// Applied there at this index.
    Applied {
        index: LogIndex,
        response: Response,
    },
    /// It was not proposed, or was refused: ask again.
    NoEffect,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub broker: BrokerId,
    pub peers_hash: u64,
    /// It has neither Raft state nor a cluster.
    pub is_empty: bool,
    pub cluster_id: Option<ClusterId>,
    /// The broker's list of peers, for people.
    pub peers: String,
}

/// One broker's part of a health report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Voters that are far behind, of groups led there.
    pub lagging: Vec<(RaftGroupId, Vec<BrokerId>)>,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The call was not executed.
    NotDone,
    /// The call was sent and not answered, so that it may have been executed.
    Unknown,
}

impl Node {
    pub async fn call(&self, to: BrokerId, call: &Call, within: Duration) -> Result<Answer, NoAnswer> {
        match self.raft.call(to, encode(call), within).await {
            Ok(bytes) => match decode(&bytes) {
                Some(Answer::Unavailable) => Err(NoAnswer::NotDone),
                Some(answer) => Ok(answer),
                None => Err(NoAnswer::Unknown),
            },
            Err(CallError::Unreachable(_) | CallError::Busy(_)) => Err(NoAnswer::NotDone),
            Err(CallError::NoAnswer { .. }) => Err(NoAnswer::Unknown),
        }
    }
}

pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, vec![VERSION]).expect("a Vec takes any length, and our lists know theirs");
    Bytes::from(bytes)
}

/// Reads what a peer sent. None: it is of another version, or garbage. Allocates no more than the bytes could hold.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > limits::CALL_BYTES_MAX {
        return None;
    }
    let (&version, body) = bytes.split_first()?;
    (version == VERSION).then(|| postcard::from_bytes(body).ok()).flatten()
}

#[cfg(test)]
pub(in crate::broker) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        broker::{
            BrowseFrom, BrowseRequest, NodeFigures,
            groups::{GroupError, GroupReply},
        },
        formats::frozen,
        group::GroupRefusal,
        metadata::{AllocateProducerIds, Refusal},
        metrics::KafkaClients,
        raft::TransferError,
        types::PartitionId,
    };

    #[test]
    fn calls_survive_the_wire() {
        let calls = [
            Call::Hello { peers_hash: 7 },
            Call::Trim { group: RaftGroupId(3), before: Some(Offset(9)), dry_run: true, within_ms: 5 },
            Call::Clock,
        ];
        for call in calls {
            assert_eq!(decode::<Call>(&encode(&call)), Some(call));
        }
        assert_eq!(decode::<Call>(&[VERSION + 1, 0]), None);
    }

    pub const FROZEN: &str = include_str!("calls.frozen");

    fn reads(name: &str, bytes: &[u8]) -> Result<(), String> {
        let is_read = match name.starts_with("call-") {
            true => decode::<Call>(bytes).is_some(),
            false => decode::<Answer>(bytes).is_some(),
        };
        is_read.then_some(()).ok_or_else(|| "it is no call, or no answer".to_string())
    }

    fn told() -> Told {
        Told { storage_id: StorageId(1), start: (2, StartId(3)), commit_no: 4 }
    }

    fn calls() -> Vec<(&'static str, Call)> {
        let delete = GroupCall::Delete { group: "g".into() };
        let keep = GroupCall::KeepAlive { group: "g".into(), member: "m".into() };
        let browse = BrowseRequest {
            topic: "t".into(),
            partition: PartitionId(3),
            from: BrowseFrom::Offset(Offset(7)),
            bytes_max: 5,
        };
        let change = Change::AllocateProducerIds(AllocateProducerIds { broker: BrokerId(2) });
        vec![
            ("call-hello", Call::Hello { peers_hash: 5 }),
            ("call-change", Call::Change { change, within_ms: 5 }),
            ("call-metadata-index", Call::MetadataIndex),
            ("call-stats", Call::Stats { groups: vec![RaftGroupId(7)] }),
            ("call-trim", Call::Trim { group: RaftGroupId(3), before: Some(Offset(9)), dry_run: true, within_ms: 5 }),
            ("call-transfer", Call::Transfer { group: RaftGroupId(3), to: Some(BrokerId(2)), within_ms: 5 }),
            ("call-health", Call::Health),
            ("call-clock", Call::Clock),
            ("call-group-delete", Call::Group { call: Box::new(delete), within_ms: 5 }),
            ("call-group-keep-alive", Call::Group { call: Box::new(keep), within_ms: 5 }),
            ("call-lag", Call::Lag { readers: vec![(RaftGroupId(7), None)] }),
            ("call-group-notes", Call::GroupNotes),
            ("call-console-browse", Call::Console(ConsoleCall::Browse(browse))),
            ("call-console-figures", Call::Console(ConsoleCall::Figures { history: true })),
            ("call-layout-in-use", Call::LayoutInUse { index: LogIndex(7), within_ms: 5 }),
            ("call-recall", Call::Recall),
            ("call-remember", Call::Remember { told: told(), after: Some((5, StartId(6))) }),
            ("call-alarm", Call::Alarm { text: "t".into() }),
            ("call-where", Call::Where),
            ("call-introduce", Call::Introduce),
            ("call-retention-notes", Call::RetentionNotes { groups: vec![RaftGroupId(7)] }),
            ("call-leads", Call::Leads { group: RaftGroupId(7), within_ms: 5 }),
            ("call-describe", Call::Describe),
            ("call-describe-with-kafka", Call::DescribeWithKafka),
            ("call-console-kafka-clients", Call::Console(ConsoleCall::KafkaClients)),
        ]
    }

    fn answers() -> Vec<(&'static str, Answer)> {
        let done = GroupAttempt::Answered(Ok(GroupReply::Done));
        let figures = NodeFigures { disk_free_bytes: Some(9), disk_reserve_bytes: 4, history: vec![] };
        let kafka = KafkaClients {
            connections: 5,
            fetch_sessions: 4,
            fetch_session_partitions: 3,
            software: vec![("s".into(), 2)],
            requests: vec![("a".into(), 12, 1)],
        };
        let hello = Hello {
            broker: BrokerId(1),
            peers_hash: 5,
            is_empty: true,
            cluster_id: Some(ClusterId(9)),
            peers: "p".into(),
        };
        let health = NodeHealth { lagging: vec![(RaftGroupId(7), vec![BrokerId(2)])], problems: vec!["p".into()] };
        let card = RegisterBroker {
            id: BrokerId(1),
            storage_id: StorageId(2),
            client_address: "c".into(),
            peer_address: "p".into(),
            http_address: "h".into(),
            rack: Some("r".into()),
            version: "v".into(),
        };
        let refusal = GroupRefusal::WrongEpoch { found: 1, current: 2 };
        let refused = GroupError::Refused { group: "g".into(), member: "m".into(), refusal };
        let applied = Attempt::Applied { index: LogIndex(7), response: Err(Refusal::NotFounded) };
        vec![
            ("answer-hello", Answer::Hello(hello)),
            ("answer-change", Answer::Change(applied)),
            ("answer-metadata-index", Answer::MetadataIndex(Some(LogIndex(7)))),
            ("answer-stats", Answer::Stats(vec![None])),
            ("answer-trim", Answer::Trim(Ok(Offset(9)))),
            ("answer-trim-refused", Answer::Trim(Err(AdminError::NotEnoughReplicas))),
            ("answer-health", Answer::Health(health)),
            ("answer-clock", Answer::Clock(WallMs(5))),
            ("answer-unavailable", Answer::Unavailable),
            ("answer-group-not-done", Answer::Group(GroupAttempt::NotDone)),
            ("answer-group-done", Answer::Group(done)),
            ("answer-lag", Answer::Lag(vec![None])),
            ("answer-group-notes", Answer::GroupNotes(vec![])),
            ("answer-console-figures", Answer::Console(ConsoleAnswer::Figures(figures))),
            ("answer-layout-in-use", Answer::LayoutInUse(true)),
            ("answer-recalled", Answer::Recalled(Some(told()))),
            ("answer-remembered", Answer::Remembered(None)),
            ("answer-alarmed", Answer::Alarmed),
            ("answer-where", Answer::Where(vec![(BrokerId(2), "a".into())])),
            ("answer-introduced", Answer::Introduced(Some(card))),
            ("answer-retention-notes", Answer::RetentionNotes(vec!["n".into()])),
            ("answer-leads", Answer::Leads(None)),
            // What a layer below refused travels whole.
            ("answer-group-refused", Answer::Group(GroupAttempt::Answered(Err(refused)))),
            ("answer-transfer-refused", Answer::Transfer(Err(AdminError::TransferRefused(TransferError::NoCandidate)))),
            ("answer-described", Answer::Described { card: None, feature_level: 2 }),
            (
                "answer-described-with-kafka",
                Answer::DescribedWithKafka { card: None, feature_level: 3, kafka_address: "k".into() },
            ),
            ("answer-console-kafka-clients", Answer::Console(ConsoleAnswer::KafkaClients(kafka))),
        ]
    }

    /// Brokers of different versions talk: numbers of variants never change, nor what they hold.
    #[test]
    fn call_bytes_are_frozen() {
        let calls = calls().into_iter().map(|(name, call)| (name, encode(&call)));
        frozen::check(FROZEN, calls.chain(answers().into_iter().map(|(name, answer)| (name, encode(&answer)))), reads);
    }

    proptest! {
        #[test]
        fn hostile_calls_never_panic(bytes: Vec<u8>) {
            let _ = (decode::<Call>(&bytes), decode::<Answer>(&bytes));
        }
    }
}
