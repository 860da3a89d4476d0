//! Consumer groups inside the metadata: formats, the version before them, and what topics do to them.
//! What groups do by themselves is tested in module `group`.

use std::collections::BTreeMap;

use super::frozen::{COMMANDS, RESPONSES, STATES, reads_command, reads_response, reads_state};
use super::*;
use crate::formats::frozen::{self, hex};
use crate::group::{
    ClassicJoinEnd, Commit, CommitOffset, CompleteClassic, Expire, ExpireCause, GroupCommand, GroupOutcome,
    GroupRefusal, Join, JoinClassic, Leave, LeavingMember, OffsetRefusal, PartitionSet, Report, ResolvePattern,
    Subscription, SyncClassic,
};
use crate::replicated::StateDecodeError;
use crate::types::{GroupName, LeaderEpoch, MemberId, Offset, PartitionId};

fn join(member: &str, topics: &[&str]) -> Join {
    Join {
        group: "g".into(),
        member: member.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        subscription: Subscription {
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            ..Subscription::default()
        },
        ..Join::default()
    }
}

fn join_classic() -> JoinClassic {
    JoinClassic {
        group: "k".into(),
        member: "m".into(),
        is_new: true,
        instance: None,
        client_id: "c".to_string(),
        client_host: "h".to_string(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_string(),
        protocols: vec![("range".to_string(), vec![7])],
    }
}

fn commit(group: &str, member: &str, epoch: i32, offset: i64) -> GroupCommand {
    let offset = CommitOffset {
        topic: "t".to_string(),
        partition: PartitionId(1),
        offset: Offset(offset),
        leader_epoch: Some(LeaderEpoch(3)),
        metadata: "x".to_string(),
    };
    let (group, member) = (group.into(), member.into());
    GroupCommand::Commit(vec![Commit { group, member, instance: None, epoch, offsets: vec![offset], sequence: 9 }])
}

fn set(topic: &str, partition: i32) -> PartitionSet {
    BTreeMap::from([(topic.to_string(), vec![PartitionId(partition)])])
}

/// A cluster with topic t of two partitions.
fn cluster() -> Cluster {
    let mut cluster = Cluster::founded(1, |_| None);
    cluster.apply(Change::CreateTopic(creation("t", 2, 1))).expect("a valid wish");
    cluster
}

fn done(cluster: &mut Cluster, command: GroupCommand) -> GroupOutcome {
    match cluster.apply(Change::Group(command)).expect("a valid command") {
        Outcome::Group(outcome) => outcome,
        other => panic!("{other:?} is no answer to a group command"),
    }
}

/// Of every kind of command, in the order of the enum.
pub(in crate::metadata) fn commands() -> Vec<GroupCommand> {
    let (group, member): (GroupName, MemberId) = ("g".into(), "m".into());
    let mut join = join("m", &["t"]);
    join.instance = Some("i".to_string());
    join.subscription.pattern = Some("p".to_string());
    join.resolved = vec!["t".to_string()];
    vec![
        GroupCommand::Join(join),
        GroupCommand::Report(Report {
            group: group.clone(),
            member: member.clone(),
            epoch: 2,
            released: set("t", 1),
            subscription: None,
            resolved: vec![],
        }),
        GroupCommand::Leave(Leave {
            group: group.clone(),
            leavers: vec![LeavingMember { member: member.clone(), instance: Some("i".to_string()) }],
        }),
        GroupCommand::Expire(Expire {
            group: group.clone(),
            members: vec![member.clone()],
            because: ExpireCause::Revocation { epoch: 5 },
        }),
        GroupCommand::ResolvePattern(ResolvePattern {
            group: group.clone(),
            pattern: "p".to_string(),
            topics: vec!["t".to_string()],
        }),
        GroupCommand::JoinClassic(join_classic()),
        GroupCommand::CompleteClassic(CompleteClassic { group: group.clone(), generation: 1, timed_out: true }),
        GroupCommand::SyncClassic(SyncClassic {
            group: group.clone(),
            generation: 1,
            member: member.clone(),
            assignments: vec![(member, vec![7])],
        }),
        commit("g", "m", 2, 300),
        GroupCommand::DeleteGroup { group: group.clone() },
        GroupCommand::DeleteOffsets { group: group.clone(), partitions: set("t", 1) },
        GroupCommand::ExpireOffsets { groups: vec![group.clone()], retention_ms: 1_000 },
        GroupCommand::DeleteUnreadOffsets { group, partitions: set("t", 1) },
    ]
}

#[test]
fn command_bytes_are_frozen() {
    let names = [
        "group-join",
        "group-report",
        "group-leave",
        "group-expire",
        "group-resolve-pattern",
        "group-join-classic",
        "group-complete-classic",
        "group-sync-classic",
        "group-commit",
        "group-delete-group",
        "group-delete-offsets",
        "group-expire-offsets",
        "group-delete-unread-offsets",
    ];
    let written = names.into_iter().zip(commands()).map(|(name, command)| {
        let command = Command::new(WallMs(1), Change::Group(command));
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command));
        (name, bytes)
    });
    frozen::check(COMMANDS, written, reads_command);
}

#[test]
fn response_bytes_are_frozen() {
    let outcomes = [
        GroupOutcome::Joined { epoch: 1 },
        GroupOutcome::Reported { epoch: 1 },
        GroupOutcome::Left { refused: vec![None, Some(GroupRefusal::UnknownMember)] },
        GroupOutcome::Expired { members: 3 },
        GroupOutcome::PatternResolved,
        GroupOutcome::JoinedClassic(ClassicJoinEnd::Waits),
        GroupOutcome::JoinedClassic(ClassicJoinEnd::Current),
        GroupOutcome::CompletedClassic { generation: Some(1) },
        GroupOutcome::SyncedClassic,
        GroupOutcome::Committed { results: vec![Ok(vec![(1, OffsetRefusal::OldEpoch { since: 4 })])] },
        GroupOutcome::GroupDeleted,
        GroupOutcome::OffsetsDeleted { refused: vec![("t".to_string(), PartitionId(1), OffsetRefusal::InUse)] },
        GroupOutcome::OffsetsExpired { offsets: 5, groups: 6 },
    ];
    let text = || "x".to_string();
    let refusals = [
        GroupRefusal::InvalidRequest { detail: text() },
        GroupRefusal::UnknownGroup,
        GroupRefusal::UnknownMember,
        GroupRefusal::WrongEpoch { found: 1, current: 2 },
        GroupRefusal::FencedInstance { instance: text() },
        GroupRefusal::Rebalancing,
        GroupRefusal::NotEmpty { members: 1 },
        GroupRefusal::ProtocolMismatch { detail: text() },
        GroupRefusal::Void { detail: text() },
        GroupRefusal::LimitReached { detail: text() },
    ];
    let of_offsets = [
        OffsetRefusal::UnknownTopic,
        OffsetRefusal::UnknownPartition,
        OffsetRefusal::NotHeld,
        OffsetRefusal::OldEpoch { since: 1 },
        OffsetRefusal::InUse,
        OffsetRefusal::NegativeOffset,
        OffsetRefusal::MetadataTooLarge { bytes: 2, max: 1 },
        OffsetRefusal::LimitReached { detail: text() },
    ];
    let outcomes = outcomes.into_iter().map(|outcome| Ok(Outcome::Group(outcome)));
    let refusals = refusals.into_iter().map(|refusal| Err(Refusal::Group(refusal)));
    let committed = of_offsets.into_iter().enumerate().map(|(i, refusal)| (i as u32, refusal)).collect();
    let commits = Ok(Outcome::Group(GroupOutcome::Committed { results: vec![Ok(committed)] }));
    let names = [
        "group-joined",
        "group-reported",
        "group-left",
        "group-expired",
        "group-pattern-resolved",
        "group-joined-classic-waits",
        "group-joined-classic-current",
        "group-completed-classic",
        "group-synced-classic",
        "group-committed",
        "group-group-deleted",
        "group-offsets-deleted",
        "group-offsets-expired",
        "group-invalid-request",
        "group-unknown-group",
        "group-unknown-member",
        "group-wrong-epoch",
        "group-fenced-instance",
        "group-rebalancing",
        "group-not-empty",
        "group-protocol-mismatch",
        "group-void",
        "group-limit-reached",
        "group-committed-refusals",
    ];
    let all = outcomes.chain(refusals).chain([commits]).map(|response| response::encode(&response));
    frozen::check(RESPONSES, names.into_iter().zip(all), reads_response);
}

/// One group of each kind, with all that a group can have.
fn groups_of_all_kinds() -> Cluster {
    let mut cluster = cluster();
    let mut first = join("a", &["t"]);
    first.subscription.pattern = Some("p".to_string());
    (first.resolved, first.client_id) = (vec!["t".to_string()], "c".to_string());
    first.instance = Some("i".to_string());
    done(&mut cluster, GroupCommand::Join(first.clone()));
    done(&mut cluster, GroupCommand::Join(Join { member: "a2".into(), ..first }));
    done(&mut cluster, commit("g", "a2", 2, 300));
    done(&mut cluster, GroupCommand::Join(join("b", &["t"])));
    done(&mut cluster, GroupCommand::JoinClassic(join_classic()));
    let (group, generation) = ("k".into(), 0);
    done(&mut cluster, GroupCommand::CompleteClassic(CompleteClassic { group, generation, timed_out: false }));
    done(&mut cluster, commit("o", "", 0, 5));
    cluster
}

#[test]
fn state_bytes_are_frozen() {
    frozen::check(STATES, [("groups", groups_of_all_kinds().state.encode())], reads_state);
}

/// What version 1 wrote for `frozen::with_topics`, before there were groups.
#[test]
fn a_state_of_version_1_is_read() {
    let bytes = frozen::literal(STATES, "version-1");
    let old = Metadata::decode(&bytes).expect("version 1");
    assert_eq!(old.topics().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t"]);
    assert!(old.groups().is_empty());
    // It goes on as version 2, which is the same and an empty list of groups.
    let mut new = bytes.clone();
    new[0] = 2;
    new.push(0);
    assert_eq!(hex(&old.encode()), hex(&new));
    assert_eq!(Metadata::decode(&new).expect("version 2"), old);
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(Metadata::decode(&longer), Err(StateDecodeError::Malformed(_))));
    for end in 0..bytes.len() {
        assert!(Metadata::decode(&bytes[..end]).is_err(), "cut to {end} bytes");
    }
}

#[test]
fn nothing_is_done_before_the_cluster_is_founded() {
    let mut cluster = Cluster::default();
    for command in commands() {
        assert_eq!(cluster.apply(Change::Group(command)), Err(Refusal::NotFounded));
    }
}

/// Whatever changes topics changes what groups hold of them in the same entry.
#[test]
fn topics_and_their_groups_change_together() {
    let mut cluster = cluster();
    done(&mut cluster, GroupCommand::Join(join("a", &["t", "u"])));
    done(&mut cluster, commit("g", "a", 1, 5));
    let assigned = |cluster: &Cluster| {
        let group = cluster.state.group(&"g".into()).expect("it has a member").server().expect("server-assigned");
        let set = group.members["a"].assigned_set();
        set.into_iter().map(|(topic, partitions)| (topic, partitions.len())).collect::<Vec<_>>()
    };
    assert_eq!(assigned(&cluster), [("t".to_string(), 2)]);
    let u = creation("u", 1, 1);
    cluster.apply(Change::CreateTopic(u.clone())).expect("a valid wish");
    assert_eq!(assigned(&cluster), [("t".to_string(), 2), ("u".to_string(), 1)]);
    let more = AddPartitions { name: "u".to_string(), topic_id: u.topic_id, partitions: 3 };
    cluster.apply(Change::AddPartitions(more)).expect("a valid wish");
    assert_eq!(assigned(&cluster), [("t".to_string(), 2), ("u".to_string(), 3)]);
    // One that the member committed, and where it begins in those that are new.
    assert_eq!(cluster.state.group(&"g".into()).expect("it has a member").offset_count(), 1 + 3);
    let topic_id = cluster.state.topic("t").expect("it exists").id;
    cluster.apply(Change::DeleteTopic(DeleteTopic { name: "t".to_string(), topic_id })).expect("it exists");
    assert_eq!(assigned(&cluster), [("u".to_string(), 3)]);
    assert_eq!(cluster.state.group(&"g".into()).expect("it has a member").offset_count(), 3);
    // A repeated creation that changes nothing deals nothing out either.
    let epoch = cluster.state.group(&"g".into()).expect("it has a member").epoch();
    cluster.apply(Change::CreateTopic(u)).expect("the same again");
    assert_eq!(cluster.state.group(&"g".into()).expect("it has a member").epoch(), epoch);
}

/// A topic that would have groups hold more than their limit is refused, by the dry run too.
#[test]
fn a_topic_that_groups_have_no_room_for_is_refused() {
    let mut cluster = cluster();
    for group in 0..50 {
        let group = GroupName(format!("g{group}"));
        done(&mut cluster, GroupCommand::Join(Join { group, ..join("a", &["big", "t"]) }));
    }
    let wish = |partitions| creation("big", partitions, 1);
    // 50 groups hold 100 partitions of t; 500,000 are allowed.
    let refused = cluster.state.check_create(&wish(9_999), &[]).expect_err("above the limit");
    assert!(matches!(&refused, Refusal::Group(GroupRefusal::LimitReached { .. })), "{refused}");
    assert_eq!(cluster.apply(Change::CreateTopic(wish(9_999))), Err(refused));
    assert!(cluster.state.topic("big").is_none());
    assert!(cluster.state.check_create(&wish(9_998), &[]).is_ok());
    cluster.apply(Change::CreateTopic(wish(9_997))).expect("below the limit");
    let (name, topic_id) = ("big".to_string(), wish(1).topic_id);
    let more = |partitions| AddPartitions { name: name.clone(), topic_id, partitions };
    let refused = cluster.state.check_add_partitions(&more(9_999), &[]).expect_err("above the limit");
    assert_eq!(cluster.apply(Change::AddPartitions(more(9_999))), Err(refused));
    cluster.apply(Change::AddPartitions(more(9_998))).expect("at the limit");
}
