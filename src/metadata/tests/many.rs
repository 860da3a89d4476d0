//! Many topics in the state machine alone, without partition groups behind them.

use std::time::Instant;

use super::*;
use crate::group::{Commit, CommitOffset, GroupCommand, GroupOutcome, Join, Subscription};
use crate::types::{MemberId, Offset, PartitionId};

/// Prints what `f` took.
fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    println!("{what}: {:.3} s", start.elapsed().as_secs_f64());
    result
}

/// Run with `--nocapture` for times and bytes.
#[test]
fn ten_thousand_topics_fit() {
    let mut cluster = Cluster::founded(3, |_| None);
    timed("10,000 creates of a topic with one partition on three brokers", || {
        for i in 0..10_000 {
            cluster.apply(Change::CreateTopic(creation(&format!("topic-{i:05}"), 1, 3))).expect("a valid wish");
        }
    });
    let bytes = timed("encode", || cluster.state.encode());
    println!("state: {} bytes, {} a topic", bytes.len(), bytes.len() / 10_000);
    let decoded = timed("decode and check", || Metadata::decode(&bytes).expect("our own bytes"));
    assert_eq!(decoded, cluster.state);
    assert!(bytes.len() < 10_000 * 100, "{} bytes", bytes.len());

    // A group that reads all of them and commits all of them.
    let names: Vec<String> = decoded.topics().map(|topic| topic.name.clone()).collect();
    for i in 0..3 {
        let join = Join {
            group: "g".into(),
            member: MemberId(format!("member-{i}")),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            subscription: Subscription { pattern: Some("topic-.*".to_string()), ..Subscription::default() },
            resolved: names.clone(),
            ..Join::default()
        };
        let joined = || cluster.apply(Change::Group(GroupCommand::Join(join)));
        timed("a join that deals out 10,000 topics", joined).expect("a valid join");
    }
    let offset = |topic: &String| CommitOffset {
        topic: topic.clone(),
        partition: PartitionId(0),
        offset: Offset(1_000_000),
        ..CommitOffset::default()
    };
    let server = cluster.state.group(&"g".into()).and_then(|group| group.server()).expect("it has members");
    let commit = |(member, held): (&MemberId, &crate::group::ServerMember)| Commit {
        group: "g".into(),
        member: member.clone(),
        epoch: held.epoch,
        offsets: held.assigned.keys().chain(held.revoking.keys()).map(offset).collect(),
        ..Commit::default()
    };
    let commits = server.members.iter().map(commit).collect();
    let answer = timed("a commit of 10,000 offsets", || cluster.apply(Change::Group(GroupCommand::Commit(commits))));
    let Ok(Outcome::Group(GroupOutcome::Committed { results })) = answer else { panic!("{answer:?}") };
    assert!(results.iter().all(|result| *result == Ok(vec![])));
    assert_eq!(cluster.state.group(&"g".into()).expect("it has members").offset_count(), 10_000);
    let bytes = cluster.state.encode();
    println!("state: {} bytes with the group", bytes.len());
    assert_eq!(Metadata::decode(&bytes).expect("our own bytes"), cluster.state);
}
