//! What holds after any sequence of commands.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::group::{
    Commit, CommitOffset, CompleteClassic, Expire, ExpireCause, GroupCommand, Join, JoinClassic, Leave, LeavingMember,
    Report, ResolvePattern, Subscription, SyncClassic,
};
use crate::types::{GroupName, MemberId, Offset, PartitionId, RaftGroupId, ReplicaId};

/// A command by small numbers: names and brokers collide often.
#[derive(Clone, Debug)]
enum Step {
    Register { id: u64, storage: u128, rack: u8 },
    Create { name: u8, fresh: u128, partitions: i32, factor: i32 },
    Add { name: u8, partitions: i32 },
    Alter { name: u8, retention: i64 },
    Delete { name: u8 },
    ProducerIds { broker: u64 },
    Forget { broker: u64, groups: Vec<u64> },
    Group { kind: u8, group: u8, member: u8, epoch: i32, topics: Vec<u8> },
    Garbage(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..9u64, 0..2u128, 0..4u8).prop_map(|(id, storage, rack)| Step::Register { id, storage, rack }),
        5 => (0..6u8, any::<u128>(), -1..6i32, -1..5i32)
            .prop_map(|(name, fresh, partitions, factor)| Step::Create { name, fresh, partitions, factor }),
        2 => (0..6u8, 0..9i32).prop_map(|(name, partitions)| Step::Add { name, partitions }),
        1 => (0..6u8, -2..3i64).prop_map(|(name, retention)| Step::Alter { name, retention }),
        3 => (0..6u8).prop_map(|name| Step::Delete { name }),
        1 => (0..9u64).prop_map(|broker| Step::ProducerIds { broker }),
        1 => (0..9u64, vec(0..40u64, 0..8)).prop_map(|(broker, groups)| Step::Forget { broker, groups }),
        8 => (0..14u8, 0..3u8, 0..4u8, -1..9i32, vec(0..6u8, 0..4)).prop_map(|(kind, group, member, epoch, topics)| {
            Step::Group { kind, group, member, epoch, topics }
        }),
        1 => vec(any::<u8>(), 0..40).prop_map(Step::Garbage),
    ]
}

/// The bytes to apply in `state`.
fn command(state: &Metadata, step: &Step) -> bytes::Bytes {
    let name = |n: &u8| format!("topic-{n}");
    let id = |n: &u8| state.topic(&name(n)).map_or(TopicId(0), |t| t.id);
    let change = match step {
        Step::Register { id, storage, rack } => {
            let mut broker = registration(*id);
            broker.storage_id.0 += storage;
            broker.rack = (*rack > 0).then(|| format!("rack-{rack}"));
            Change::RegisterBroker(broker)
        }
        Step::Create { name: n, fresh, partitions, factor } => {
            Change::CreateTopic(CreateTopic { topic_id: TopicId(*fresh), ..creation(&name(n), *partitions, *factor) })
        }
        Step::Add { name: n, partitions } => {
            Change::AddPartitions(AddPartitions { name: name(n), topic_id: id(n), partitions: *partitions })
        }
        Step::Alter { name: n, retention } => Change::AlterTopic(AlterTopic {
            name: name(n),
            topic_id: id(n),
            set: BTreeMap::from([("retention.ms".to_string(), retention.to_string())]),
            unset: vec![],
        }),
        Step::Delete { name: n } => Change::DeleteTopic(DeleteTopic { name: name(n), topic_id: id(n) }),
        Step::ProducerIds { broker } => Change::AllocateProducerIds(AllocateProducerIds { broker: BrokerId(*broker) }),
        Step::Forget { broker, groups } => Change::ForgetDeleted(ForgetDeleted {
            broker: BrokerId(*broker),
            groups: groups.iter().copied().map(RaftGroupId).collect(),
        }),
        Step::Group { kind, group, member, epoch, topics } => {
            Change::Group(group_command(*kind, *group, *member, *epoch, topics.iter().map(name).collect()))
        }
        Step::Garbage(bytes) => return bytes::Bytes::from(bytes.clone()),
    };
    Command::new(WallMs(5), change).encode()
}

fn group_command(kind: u8, group: u8, member: u8, epoch: i32, topics: Vec<String>) -> GroupCommand {
    let (group, member) = (GroupName(format!("group-{group}")), MemberId(format!("member-{member}")));
    let first = || topics.iter().map(|t| (t.clone(), vec![PartitionId(0), PartitionId(1)])).collect();
    let offset = |topic: &String| CommitOffset {
        topic: topic.clone(),
        partition: PartitionId(0),
        offset: Offset(i64::from(epoch)),
        ..CommitOffset::default()
    };
    let offsets = topics.iter().map(offset).collect();
    match kind {
        0 => {
            let pattern = topics.is_empty().then(|| "p".to_string());
            let subscription = Subscription { topics, pattern, ..Subscription::default() };
            let (session_timeout_ms, rebalance_timeout_ms) = (10_000, 10_000);
            GroupCommand::Join(Join {
                group,
                member,
                session_timeout_ms,
                rebalance_timeout_ms,
                subscription,
                ..Join::default()
            })
        }
        1 => GroupCommand::Report(Report { group, member, epoch, released: first(), ..Report::default() }),
        2 => GroupCommand::Leave(Leave { group, leavers: vec![LeavingMember { member, instance: None }] }),
        3 => GroupCommand::Expire(Expire { group, members: vec![member], because: ExpireCause::Revocation { epoch } }),
        4 => GroupCommand::ResolvePattern(ResolvePattern { group, pattern: "p".to_string(), topics }),
        5 => GroupCommand::JoinClassic(JoinClassic {
            group,
            member,
            is_new: epoch % 2 == 0,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".to_string(),
            protocols: vec![("range".to_string(), topics.concat().into_bytes())],
            ..JoinClassic::default()
        }),
        6 => GroupCommand::CompleteClassic(CompleteClassic { group, generation: epoch, timed_out: topics.is_empty() }),
        7 => GroupCommand::SyncClassic(SyncClassic { group, generation: epoch, member, assignments: vec![] }),
        8 => GroupCommand::Commit(vec![Commit { group, member, instance: None, epoch, offsets, sequence: 0 }]),
        9 => GroupCommand::Commit(vec![Commit {
            group,
            member: MemberId::default(),
            instance: None,
            epoch,
            offsets,
            sequence: 0,
        }]),
        10 => GroupCommand::DeleteGroup { group },
        11 => GroupCommand::DeleteOffsets { group, partitions: first() },
        12 => GroupCommand::DeleteUnreadOffsets { group, partitions: first() },
        _ => GroupCommand::ExpireOffsets { groups: vec![group], retention_ms: epoch.unsigned_abs().into() },
    }
}

/// Everything ever handed out, and to what.
#[derive(Default)]
struct Ledger {
    groups: BTreeMap<RaftGroupId, (TopicId, usize)>,
    replicas: BTreeMap<ReplicaId, (RaftGroupId, BrokerId)>,
    initial: BTreeMap<RaftGroupId, Vec<(ReplicaId, BrokerId)>>,
    producer_ids: BTreeSet<i64>,
}

impl Ledger {
    /// SAFETY B5 and B6: an id that was handed out once never means anything else, and a group's
    /// initial members never change, whatever was deleted in between.
    fn check(&mut self, state: &Metadata, response: &Response) {
        for broker in state.brokers() {
            let place = (crate::types::METADATA_GROUP, broker.id);
            assert_eq!(*self.replicas.entry(broker.metadata_replica).or_insert(place), place, "{broker:?}");
        }
        for topic in state.topics() {
            for (i, partition) in topic.partitions.iter().enumerate() {
                let place = (topic.id, i);
                assert_eq!(*self.groups.entry(partition.group).or_insert(place), place, "{partition:?}");
                let initial = self.initial.entry(partition.group).or_insert_with(|| partition.initial.clone());
                assert_eq!(*initial, partition.initial);
                for (replica, broker) in partition.replicas.iter().chain(&partition.initial) {
                    let place = (partition.group, *broker);
                    assert_eq!(*self.replicas.entry(*replica).or_insert(place), place, "{partition:?}");
                }
                let brokers: BTreeSet<_> = partition.replicas.iter().map(|(_, b)| *b).collect();
                assert_eq!(brokers.len(), partition.replicas.len(), "one broker twice: {partition:?}");
            }
        }
        if let Ok(Outcome::ProducerIds { first, count }) = response {
            assert!(
                (first.0..first.0 + *count).all(|id| self.producer_ids.insert(id)),
                "handed out twice from {first}"
            );
        }
    }
}

proptest! {
    #[test]
    fn ids_are_never_reused_and_initial_never_changes(steps in vec(step(), 1..60)) {
        let mut cluster = Cluster::founded(4, |_| None);
        let mut ledger = Ledger::default();
        for step in &steps {
            let before = cluster.state.clone();
            let bytes = command(&cluster.state, step);
            let Ok(response) = cluster.try_apply(&bytes) else {
                prop_assert_eq!(&cluster.state, &before, "garbage stops the replica where it was");
                continue;
            };
            ledger.check(&cluster.state, &response);
            if response.is_err() {
                // Only what every entry moves may differ: a refusal changes nothing.
                let mut after = cluster.state.clone();
                (after.applied, after.clock) = (before.applied, before.clock);
                prop_assert_eq!(after, before);
            }
        }
    }

    /// A replica that starts from a snapshot and one that applied everything go on alike (SAFETY M8).
    #[test]
    fn a_decoded_state_goes_on_like_the_original(steps in vec(step(), 1..40), cut in 0..40usize) {
        let mut original = Cluster::founded(4, |id| Some(format!("rack-{}", id % 2)));
        let mut copy = original.clone();
        for (i, step) in steps.iter().enumerate() {
            if i == cut {
                copy.state = Metadata::decode(&original.state.encode()).expect("our own bytes");
            }
            let bytes = command(&original.state, step);
            prop_assert_eq!(original.try_apply(&bytes), copy.try_apply(&bytes));
            prop_assert_eq!(&original.state, &copy.state);
            prop_assert_eq!(original.state.encode(), copy.state.encode());
        }
    }

    /// A dry run and the real thing agree, and the dry run changes nothing.
    #[test]
    fn a_check_says_what_apply_does(steps in vec(step(), 0..20), name in 0..6u8, partitions in -1..6i32, factor in -1..6i32, dead in vec(1..6u64, 0..4)) {
        let dead: Vec<BrokerId> = dead.into_iter().map(BrokerId).collect();
        let mut cluster = Cluster::founded(4, |_| None);
        for step in &steps {
            let bytes = command(&cluster.state, step);
            let _ = cluster.try_apply(&bytes);
        }
        let wish = CreateTopic { topic_id: TopicId(1), ..creation(&format!("topic-{name}"), partitions, factor) };
        let checked = cluster.state.check_create(&wish, &dead);
        match (checked, cluster.apply(Change::CreateTopic(wish).on_live(dead))) {
            (Ok(mut planned), Ok(_)) => {
                let real = cluster.state.topic(&planned.name).expect("it was created").clone();
                planned.created_at = real.created_at;
                prop_assert_eq!(planned, real);
            }
            (checked, applied) => prop_assert_eq!(checked.unwrap_err(), applied.unwrap_err()),
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), version in 0..3u8) {
        let mut versioned = vec![version];
        versioned.extend(&bytes);
        for bytes in [bytes, versioned] {
            let _ = Command::decode(&bytes);
            let _ = decode_response(&bytes);
            let _ = Metadata::decode(&bytes);
        }
    }

    /// A damaged state is an error, or a state that keeps the invariants: applying to it is safe.
    #[test]
    fn a_flipped_state_is_refused_or_sound(steps in vec(step(), 0..20), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut cluster = Cluster::founded(4, |_| None);
        for step in &steps {
            let bytes = command(&cluster.state, step);
            let _ = cluster.try_apply(&bytes);
        }
        let mut bytes = cluster.state.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(state) = Metadata::decode(&bytes) {
            let mut damaged = Cluster { state, index: 0 };
            damaged.state.applied = None;
            let _ = damaged.apply(Change::CreateTopic(creation("after", 3, 2)));
            for kind in 0..14 {
                let topics = vec!["after".to_string(), "topic-0".to_string()];
                let _ = damaged.apply(Change::Group(group_command(kind, kind % 3, kind % 4, 3, topics)));
            }
            let topic = damaged.state.topics().next().expect("just created").clone();
            let _ = damaged.apply(Change::DeleteTopic(DeleteTopic { name: topic.name, topic_id: topic.id }));
            damaged.state.topics().for_each(|t| { let _ = t.config(); });
        }
    }
}
