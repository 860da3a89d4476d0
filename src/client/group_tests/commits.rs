//! What becomes of commits: by hand, the last one, repeated and refused ones.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;

use super::{
    super::{ClientError, Effect, ErrorCode, GroupOptions, Offset, OffsetToCommit, fake::Fake},
    Member, PATIENCE, at, options, produce,
};
use crate::proto::v1;

#[tokio::test]
async fn commits_by_hand_are_refused_by_partition_and_carry_metadata() {
    let fake = Fake::start(1, 2, 1).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    let offset = |partition, offset| OffsetToCommit {
        metadata: "batch 7".into(),
        ..OffsetToCommit::new(at(partition), Offset(offset))
    };
    let error = member.consumer.commit_offsets(vec![offset(0, 1)]).await;
    // Either it was too early, or the join was fast and partition 0 is not assigned yet; or it was very fast.
    assert!(matches!(error, Err(ClientError::NotAMember | ClientError::CommitRefused { .. }) | Ok(())), "{error:?}");
    member.until("both", |seen| seen.held.len() == 2).await;
    let error = member.consumer.commit_offsets(vec![offset(0, 5), offset(9, 5)]).await.expect_err("9 is not there");
    assert_eq!(error.code(), Some(ErrorCode::FencedMember));
    assert!(error.to_string().contains("t-9"), "{error}");
    assert_eq!(fake.lock().groups.offsets[&at(0)], 5);
    assert_eq!(fake.lock().groups.metadata[&at(0)], "batch 7");
    assert_eq!(member.consumer.commit_offsets(vec![]).await, Ok(()));
}

#[tokio::test]
async fn a_commit_is_repeated_until_its_answer_comes() {
    let fake = Fake::start(3, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    member.until("all", |seen| seen.values.len() == 10).await;
    fake.lock().groups.drop_answers = 2;
    member.consumer.commit().await.expect("the third try is answered");
    assert_eq!(fake.lock().groups.commits.len(), 3);
    assert!(fake.lock().groups.commits.iter().all(|(_, _, offset)| *offset == 10));
    // Nobody takes it: after the patience it is said so, and that it may have happened.
    fake.lock().groups.refuse = Some(v1::ErrorCode::NoMetadataLeader);
    member.consumer.seek(&at(0), Offset(3)).expect("ours");
    let patience = Duration::from_millis(600);
    let mut other = Member::open(&fake, GroupOptions { patience, auto_commit: None, ..options() });
    let error = timeout(PATIENCE, other.next()).await.expect("an answer").expect_err("nobody lets it join");
    assert_eq!((error.code(), error.is_retriable()), (Some(ErrorCode::NoMetadataLeader), true));
    fake.lock().groups.refuse = None;
    other.until("it goes on trying", |seen| seen.held.len() <= 1).await;
}

#[tokio::test]
async fn a_commit_of_a_static_member_that_was_replaced_ends_it() {
    let fake = Fake::start(1, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let named = GroupOptions { instance_id: Some("a".into()), auto_commit: None, ..options() };
    let mut member = Member::open(&fake, named);
    member.until("all", |seen| seen.values.len() == 10).await;
    // Another process has its place; its beats do not say so yet.
    fake.lock().groups.fenced = Some("a".into());
    let error = member.consumer.commit().await.expect_err("another process has its place");
    assert_eq!(error.code(), Some(ErrorCode::FencedInstance));
    member.until("it is told", |seen| seen.lost == 1).await;
    let error = timeout(PATIENCE, member.next()).await.expect("an answer").expect_err("it has ended");
    assert_eq!(error.code(), Some(ErrorCode::FencedInstance));
}

/// A topic made anew under a member is assigned to it in a later epoch than its last beat told it.
#[tokio::test]
async fn p4_the_last_commit_of_a_member_whose_epoch_is_past_is_made_in_the_present_one() {
    let fake = Fake::start(1, 2, 1).await;
    produce(&fake, "t", 0..20).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: Some(PATIENCE), ..options() });
    member.until("all", |seen| seen.values.len() == 20).await;
    fake.lock().groups.assign_anew(&member.consumer.member_id());
    member.consumer.close().await.expect("its last commit");
    assert_eq!(fake.lock().groups.offsets, BTreeMap::from([(at(0), 10), (at(1), 10)]));
}

#[tokio::test]
async fn p4_a_commit_by_hand_of_a_past_epoch_waits_for_the_present_one() {
    let fake = Fake::start(1, 2, 1).await;
    produce(&fake, "t", 0..20).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    member.until("all", |seen| seen.values.len() == 20).await;
    for round in 0..20 {
        fake.lock().groups.assign_anew(&member.consumer.member_id());
        let seek = |p| member.consumer.seek(&at(p), Offset(round)).expect("it is ours");
        (0..2).for_each(seek);
        member.consumer.commit().await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(fake.lock().groups.offsets, BTreeMap::from([(at(0), round), (at(1), round)]));
    }
}

/// The first try took what it could, so that the refusal of the rest is the answer, within the patience.
#[tokio::test]
async fn p4_the_refusal_stands_where_no_beat_is_answered_in_time() {
    let fake = Fake::start(1, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let patience = Duration::from_millis(600);
    let long = Duration::from_secs(30);
    let by_hand = GroupOptions { auto_commit: None, patience, session_timeout: long, ..options() };
    let mut member = Member::open(&fake, by_hand);
    member.until("all", |seen| seen.values.len() == 10).await;
    fake.lock().groups.hang_when_fenced = true;
    fake.lock().groups.assign_anew(&member.consumer.member_id());
    let error = timeout(long / 2, member.consumer.commit()).await.expect("within the patience, and some");
    assert_eq!(error.expect_err("it was fenced").code(), Some(ErrorCode::FencedMember));
}

/// A commit that is given up after a try whose answer was lost may have been done: it is not called undone.
#[tokio::test]
async fn a_commit_without_an_answer_is_in_doubt_when_its_member_is_expelled() {
    let fake = Fake::start(1, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    member.until("all", |seen| seen.values.len() == 10).await;
    let id = member.consumer.member_id();
    fake.lock().groups.drop_answers = 1;
    let expelled = async {
        while fake.lock().groups.commits.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.lock().groups.expire(&id);
    };
    let (result, ()) =
        timeout(PATIENCE, async { tokio::join!(member.consumer.commit(), expelled) }).await.expect("ends");
    let error = result.expect_err("the member is gone");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    assert_eq!(fake.lock().groups.offsets[&at(0)], 10, "it was done");
}

/// An application may keep its offsets itself, and commit them as soon as it hears of a partition: before anybody knows
/// what was committed of it.
#[tokio::test]
async fn what_is_committed_while_its_beginning_is_asked_for_is_where_it_begins() {
    let fake = Fake::start(1, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    fake.lock().groups.holds_offsets = true;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    member.until("assigned", |seen| !seen.held.is_empty()).await;
    while fake.lock().groups.held_offsets == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kept = vec![OffsetToCommit::new(at(0), Offset(5))];
    member.consumer.commit_offsets(kept).await.expect("it holds the partition");
    fake.lock().groups.holds_offsets = false;
    member.until("the last", |seen| seen.values.contains(&9)).await;
    assert_eq!(member.seen.values, (5..10).collect::<Vec<_>>());
}

/// A member whose session ended, and who is the same member to its coordinator still, gets its partitions back. It must
/// not ask where they begin while a commit of theirs is under way: it would be told of the one before, and read again what
/// was committed in the end (found by `flotilla chaos --seed 3`: links that stalled for longer than a session).
#[tokio::test]
async fn what_comes_back_begins_behind_a_commit_that_was_under_way() {
    let fake = Fake::start(1, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let session = Duration::from_millis(500);
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, session_timeout: session, ..options() });
    member.until("all", |seen| seen.values.len() == 10).await;
    fake.lock().groups.holds_commits = true;
    let lost_and_back = async {
        while fake.lock().groups.held_commits == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.lock().groups.refuse = Some(v1::ErrorCode::NoMetadataLeader);
        // Its session is over then.
        tokio::time::sleep(2 * session).await;
        let beats = fake.lock().groups.beats;
        fake.lock().groups.start_sessions_anew();
        fake.lock().groups.refuse = None;
        // The first of them brings the partition back.
        while fake.lock().groups.beats < beats + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.lock().groups.holds_commits = false;
    };
    let (result, ()) =
        timeout(PATIENCE, async { tokio::join!(member.consumer.commit(), lost_and_back) }).await.expect("ends");
    assert_eq!((result, fake.lock().groups.offsets[&at(0)]), (Ok(()), 10));
    produce(&fake, "t", 10..11).await;
    member.until("the new one", |seen| seen.values.contains(&10)).await;
    assert_eq!(member.seen.lost, 1);
    assert_eq!(member.seen.values, (0..11).collect::<Vec<_>>(), "what was committed is not read again");
}
