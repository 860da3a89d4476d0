//! What does a consumer group cost the one thread that applies the metadata log? A commit comes often; dealing out
//! the partitions of 1,000 members is the longest that one entry can take.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla::{
    group::{Assignor, Commit, CommitOffset, GroupCommand, Groups, Join, Leave, LeavingMember, Subscription},
    types::{MemberId, Offset, PartitionId, WallMs},
};

const GROUP: &str = "billing";
const TOPIC: &str = "orders";
/// The most that a group may have.
const MEMBERS: usize = 1_000;
const PARTITIONS: i32 = 4_000;
const NOW: WallMs = WallMs(1_700_000_000_000);
const ASSIGNORS: [Assignor; 3] = [Assignor::Sticky, Assignor::Range, Assignor::RoundRobin];

fn apply(groups: &mut Groups, command: GroupCommand) {
    apply_with(PARTITIONS, groups, command);
}

fn apply_with(partitions: i32, groups: &mut Groups, command: GroupCommand) {
    groups.apply(NOW, command, &|topic| (topic == TOPIC).then_some(partitions)).expect("it is allowed");
}

fn join(member: usize, assignor: Assignor) -> GroupCommand {
    GroupCommand::Join(Join {
        group: GROUP.into(),
        member: MemberId(format!("member-{member}")),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        subscription: Subscription { topics: vec![TOPIC.into()], pattern: None, assignor },
        ..Join::default()
    })
}

fn leave(member: usize) -> GroupCommand {
    let leaver = LeavingMember { member: MemberId(format!("member-{member}")), instance: None };
    GroupCommand::Leave(Leave { group: GROUP.into(), leavers: vec![leaver] })
}

/// They join while there is little to deal out, which takes less of our time, and then there is much.
fn with_members(count: usize, assignor: Assignor) -> Groups {
    let mut groups = Groups::default();
    (0..count).for_each(|member| apply_with(1, &mut groups, join(member, assignor)));
    groups.topic_grew(NOW, TOPIC, 1, &|topic| (topic == TOPIC).then_some(PARTITIONS));
    groups
}

/// By nobody, as before a group has members: who may commit is judged in the same way for all.
fn commit(partitions: i32, offset: i64) -> GroupCommand {
    let one = |partition| CommitOffset {
        topic: TOPIC.into(),
        partition: PartitionId(partition),
        offset: Offset(offset),
        ..CommitOffset::default()
    };
    let offsets = (0..partitions).map(one).collect();
    GroupCommand::Commit(vec![Commit { group: GROUP.into(), epoch: -1, offsets, ..Commit::default() }])
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_apply");
    for partitions in [1, 100] {
        let mut groups = Groups::default();
        apply(&mut groups, commit(PARTITIONS, 1));
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("commit", partitions), |bencher| {
            let command = || commit(partitions, 2);
            bencher.iter_batched(command, |command| apply(&mut groups, command), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn deals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group_apply");
    group.sample_size(20).throughput(Throughput::Elements(MEMBERS as u64));
    for assignor in ASSIGNORS {
        let before = with_members(MEMBERS - 1, assignor);
        let full = with_members(MEMBERS, assignor);
        let name = format!("{assignor:?}").to_lowercase();
        group.bench_function(BenchmarkId::new("join-last", &name), |bencher| {
            let given = || (before.clone(), join(MEMBERS - 1, assignor));
            bencher.iter_batched(given, |(mut groups, join)| apply(&mut groups, join), BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("leave-first", &name), |bencher| {
            let given = || (full.clone(), leave(0));
            bencher.iter_batched(given, |(mut groups, leave)| apply(&mut groups, leave), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, commits, deals);
criterion_main!(benches);
