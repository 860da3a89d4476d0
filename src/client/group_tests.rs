//! Members of a group against fake brokers over real sockets.

mod commits;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    Admin, ClientError, Cluster, ErrorCode, GroupConsumer, GroupEvent, GroupOptions, Offset, OffsetReset,
    OffsetToCommit, PartitionId, Producer, ProducerOptions, TopicPartition, fake::Fake,
};
use crate::{proto::v1, record::Record};

const PATIENCE: Duration = Duration::from_secs(30);

fn cluster(fake: &Fake) -> Cluster {
    Cluster::new(fake.lock().addresses.clone()).expect("addresses are good")
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: PartitionId(partition) }
}

fn options() -> GroupOptions {
    GroupOptions {
        topics: vec!["t".into()],
        session_timeout: Duration::from_secs(2),
        auto_commit: Some(Duration::from_millis(50)),
        ..GroupOptions::new("g")
    }
}

fn open(fake: &Fake, options: GroupOptions) -> GroupConsumer {
    GroupConsumer::open(&cluster(fake), options).expect("the options are good")
}

/// Appends values `from..to`, partition by partition in turn; value n has the key n.
async fn produce(fake: &Fake, topic: &str, values: std::ops::Range<u64>) {
    produce_sized(fake, topic, values, 0).await;
}

async fn produce_sized(fake: &Fake, topic: &str, values: std::ops::Range<u64>, padding: usize) {
    let options = ProducerOptions { linger: Duration::ZERO, batch_bytes: 4_000, ..Default::default() };
    let (producer, mut deliveries) = Producer::open(&cluster(fake), options).await.expect("opens");
    let partitions = fake.lock().topics[topic].len() as u64;
    let topic = producer.topic(topic, PATIENCE).await.expect("known");
    let send = async move {
        for n in values {
            let (key, value) = (Some(Bytes::from(n.to_string())), Some(Bytes::from(vec![b'x'; padding])));
            let record = Record { key, value, ..Default::default() };
            producer.send(topic, Some(PartitionId((n % partitions) as i32)), &record, n).await.expect("taken");
        }
    };
    let receive = async { while deliveries.recv().await.is_some() {} };
    timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("produced in time");
}

/// What a member has seen so far, and whether what it was told makes sense.
#[derive(Default)]
struct Seen {
    held: BTreeSet<TopicPartition>,
    values: Vec<u64>,
    /// The next offset of what is held.
    next: BTreeMap<TopicPartition, Offset>,
    lost: usize,
    replaced: usize,
    /// From where to where each jump led.
    jumps: Vec<(i64, i64)>,
}

impl Seen {
    fn take(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Assigned(of) => {
                for at in of {
                    self.next.remove(&at);
                    assert!(self.held.insert(at), "assigned twice");
                }
            }
            GroupEvent::Revoked(of) => of.iter().for_each(|at| assert!(self.held.remove(at), "{at} was not ours")),
            GroupEvent::Replaced(of) => {
                of.iter().for_each(|at| assert!(self.held.remove(at), "{at} was not ours"));
                self.replaced += of.len();
            }
            GroupEvent::Lost(of) => {
                of.iter().for_each(|at| assert!(self.held.remove(at), "{at} was not ours"));
                self.lost += of.len();
            }
            GroupEvent::Jumped(of) => {
                assert!(self.held.contains(&of.at), "a jump in {}, which is not ours", of.at);
                self.next.insert(of.at.clone(), of.to);
                self.jumps.push((of.from.0, of.to.0));
            }
            GroupEvent::Records(of) => {
                assert!(self.held.contains(&of.at), "records of {}, which is not ours", of.at);
                for record in of.records {
                    let next = self.next.insert(of.at.clone(), Offset(record.offset.0 + 1));
                    assert!(next.is_none_or(|next| next == record.offset), "{}: {next:?} {}", of.at, record.offset);
                    let key = record.record.key.expect("ours have keys");
                    self.values.push(String::from_utf8_lossy(&key).parse().expect("a number"));
                }
            }
        }
    }
}

/// A member and what it saw.
struct Member {
    consumer: GroupConsumer,
    seen: Seen,
}

impl Member {
    fn open(fake: &Fake, options: GroupOptions) -> Member {
        Member { consumer: open(fake, options), seen: Seen::default() }
    }

    async fn next(&mut self) -> Result<(), ClientError> {
        let event = self.consumer.next().await?;
        self.seen.take(event);
        Ok(())
    }

    async fn until(&mut self, what: &str, is_done: impl Fn(&Seen) -> bool) {
        let run = async {
            while !is_done(&self.seen) {
                self.next().await.expect("no error");
            }
        };
        let done = timeout(PATIENCE, run).await;
        assert!(done.is_ok(), "not within {PATIENCE:?}: {what}; held: {:?}", self.seen.held);
    }

    /// Goes on for so long, whatever comes.
    async fn run_for(&mut self, time: Duration) {
        let _ = timeout(time, async { while self.next().await.is_ok() {} }).await;
    }
}

/// Lets all members call in turn until it is done.
async fn drive(members: &mut [Member], what: &str, is_done: impl Fn(&[Member]) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_done(members) {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        for member in members.iter_mut() {
            if let Ok(event) = timeout(Duration::from_millis(5), member.consumer.next()).await {
                member.seen.take(event.expect("no error"));
            }
        }
    }
}

fn sizes(members: &[Member]) -> Vec<usize> {
    let mut sizes: Vec<_> = members.iter().map(|member| member.seen.held.len()).collect();
    sizes.sort_unstable();
    sizes
}

fn all_values(members: &[Member]) -> Vec<u64> {
    let mut all: Vec<u64> = members.iter().flat_map(|member| member.seen.values.iter().copied()).collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn members_share_partitions_and_a_graceful_change_repeats_nothing() {
    let fake = Fake::start(3, 6, 1).await;
    produce(&fake, "t", 0..600).await;
    let mut members: Vec<_> = (0..3).map(|_| Member::open(&fake, options())).collect();
    drive(&mut members, "two each", |m| sizes(m) == [2, 2, 2]).await;
    produce(&fake, "t", 600..1_200).await;
    members.push(Member::open(&fake, options()));
    drive(&mut members, "a fourth evens it out", |m| sizes(m) == [1, 1, 2, 2]).await;
    drive(&mut members, "all is read", |m| all_values(m).len() >= 1_200).await;
    let first = members.remove(0);
    first.consumer.close().await.expect("its last commit");
    produce(&fake, "t", 1_200..1_800).await;
    drive(&mut members, "the others take over", |m| sizes(m) == [2, 2, 2]).await;
    drive(&mut members, "all is read", |m| all_values(m).len() + first.seen.values.len() >= 1_800).await;
    let mut all = all_values(&members);
    all.extend(&first.seen.values);
    all.sort_unstable();
    assert_eq!(all, (0..1_800).collect::<Vec<_>>(), "each once: what goes is committed before it goes");
    assert!(members.iter().all(|member| member.seen.lost == 0));
}

#[tokio::test]
async fn what_a_killed_member_had_in_hand_is_read_again() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..100).await;
    fake.lock().groups.ignore_leaves = true;
    let short = GroupOptions { session_timeout: Duration::from_millis(500), records_max: 10, ..options() };
    let mut first = Member::open(&fake, short.clone());
    first.until("30 records", |seen| seen.values.len() == 30).await;
    // The last ten are being processed; what came before them is committed in time.
    let committed = async {
        while fake.lock().groups.offsets.get(&at(0)) != Some(&20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, committed).await.expect("20 are committed");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fake.lock().groups.offsets[&at(0)], 20, "and no more");
    drop(first);
    let mut second = Member::open(&fake, short);
    second.until("the rest", |seen| seen.values.last() == Some(&99)).await;
    assert_eq!(second.seen.values, (20..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_by_hand_is_possible_before_a_partition_goes() {
    let fake = Fake::start(2, 2, 1).await;
    produce(&fake, "t", 0..100).await;
    let manual = GroupOptions { auto_commit: None, ..options() };
    let mut first = Member::open(&fake, manual.clone());
    first.until("all", |seen| seen.values.len() == 100).await;
    assert!(fake.lock().groups.commits.is_empty(), "nobody asked for a commit");
    let second = Member::open(&fake, manual);
    let revoked = async {
        loop {
            if let GroupEvent::Revoked(of) = first.consumer.next().await.expect("no error") {
                first.consumer.commit().await.expect("it is still ours");
                return of;
            }
        }
    };
    let of = timeout(PATIENCE, revoked).await.expect("one is revoked");
    assert_eq!(of.len(), 1);
    assert_eq!(fake.lock().groups.offsets, BTreeMap::from([(at(0), 50), (at(1), 50)]));
    let mut members = [first, second];
    drive(&mut members[1..], "nothing yet", |_| true).await;
    assert!(members[1].seen.held.is_empty(), "it is not given away before the next call");
    members[0].seen.held.remove(&of[0]);
    drive(&mut members, "one each", |m| sizes(m) == [1, 1]).await;
    members[1].run_for(Duration::from_millis(200)).await;
    assert_eq!(members[1].seen.values, Vec::<u64>::new(), "everything was committed");
}

#[tokio::test]
async fn an_expired_member_stops_at_once_and_joins_anew() {
    let fake = Fake::start(2, 2, 1).await;
    let mut member = Member::open(&fake, options());
    member.until("both", |seen| seen.held.len() == 2).await;
    let id = member.consumer.member_id();
    fake.lock().groups.expire(&id);
    member.until("lost", |seen| seen.lost == 2).await;
    member.until("and again", |seen| seen.held.len() == 2).await;
    assert_ne!(member.consumer.member_id(), id);
}

#[tokio::test]
async fn without_a_coordinator_nothing_is_handed_out_after_the_session() {
    let fake = Fake::start(3, 2, 1).await;
    produce(&fake, "t", 0..20).await;
    let session = Duration::from_secs(1);
    let mut member = Member::open(&fake, GroupOptions { session_timeout: session, ..options() });
    member.until("all", |seen| seen.values.len() == 20).await;
    fake.lock().groups.is_hung = true;
    let hung = Instant::now();
    // Data goes on arriving, and the streams of records are healthy.
    let mut n = 20;
    while member.seen.lost == 0 {
        produce(&fake, "t", n..n + 2).await;
        n += 2;
        member.run_for(Duration::from_millis(20)).await;
        assert!(hung.elapsed() < PATIENCE, "it reads on without a coordinator");
    }
    // Counted from the last beat that was answered, which was sent before.
    assert!(hung.elapsed() <= session + Duration::from_millis(900), "{:?}", hung.elapsed());
    assert!(member.seen.held.is_empty());
    let read = member.seen.values.len();
    produce(&fake, "t", n..n + 10).await;
    member.run_for(Duration::from_millis(300)).await;
    assert_eq!(member.seen.values.len(), read);
    fake.lock().groups.is_hung = false;
    member
        .until("all of it, after it is back", |seen| {
            seen.values.iter().copied().collect::<BTreeSet<_>>().len() as u64 == n + 10
        })
        .await;
}

#[tokio::test]
async fn moving_leaders_and_breaking_streams_lose_and_repeat_nothing() {
    let fake = Fake::start(3, 4, 5).await;
    fake.lock().faults.break_consume = 3;
    produce_sized(&fake, "t", 0..400, 400).await;
    let mut members: Vec<_> = (0..2).map(|_| Member::open(&fake, options())).collect();
    for round in 2..10 {
        produce_sized(&fake, "t", round * 200..(round + 1) * 200, 400).await;
        fake.move_leaders();
        drive(&mut members, "this round", |m| all_values(m).len() as u64 >= (round + 1) * 200).await;
    }
    assert_eq!(all_values(&members), (0..2_000).collect::<Vec<_>>());
    assert!(fake.lock().injected > 0, "the run met faults");
}

#[tokio::test]
async fn a_hung_coordinator_is_passed_by() {
    let fake = Fake::start(3, 2, 1).await;
    let mut member = Member::open(&fake, options());
    member.until("both", |seen| seen.held.len() == 2).await;
    // Broker 1 is the coordinator, as metadata says; the others forward.
    fake.lock().hung = Some(1);
    let beats = fake.lock().groups.beats;
    member.run_for(Duration::from_secs(4)).await;
    assert_eq!((member.seen.lost, member.seen.held.len()), (0, 2), "twice its session later");
    assert!(fake.lock().groups.beats > beats + 3);
}

#[tokio::test]
async fn new_topics_that_match_are_read_and_each_topic_is_told_apart() {
    let fake = Fake::start(2, 1, 1).await;
    fake.add_topic("logs-a", 2);
    let pattern = GroupOptions { pattern: Some("logs-.*".into()), ..options() };
    let mut member = Member::open(&fake, pattern);
    member.until("three partitions", |seen| seen.held.len() == 3).await;
    produce(&fake, "logs-a", 0..20).await;
    member.until("its records", |seen| seen.values.len() == 20).await;
    fake.add_topic("logs-b", 2);
    fake.add_topic("other", 2);
    produce(&fake, "logs-b", 100..120).await;
    member.until("a topic created later", |seen| seen.values.len() == 40).await;
    let topics: BTreeSet<_> = member.seen.held.iter().map(|at| at.topic.as_str()).collect();
    assert_eq!(topics, BTreeSet::from(["logs-a", "logs-b", "t"]));
}

#[tokio::test]
async fn the_offset_reset_decides_where_nothing_was_committed() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..100).await;
    let with = |group: &str, offset_reset| GroupOptions { offset_reset, group: group.into(), ..options() };
    let mut earliest = Member::open(&fake, with("a", OffsetReset::Earliest));
    earliest.until("all", |seen| seen.values.len() == 100).await;
    drop(earliest);
    // The fake knows one group: what follows must begin without a commit.
    let forget = |fake: &Fake| fake.lock().groups = Default::default();
    forget(&fake);
    let mut latest = Member::open(&fake, with("b", OffsetReset::Latest));
    latest.until("assigned", |seen| seen.held.len() == 1).await;
    latest.run_for(Duration::from_millis(300)).await;
    assert_eq!(latest.consumer.position(&at(0)), Some(Offset(100)));
    // So it is committed: a restart does not skip what comes in between.
    latest.consumer.close().await.expect("closes");
    produce(&fake, "t", 100..110).await;
    let mut latest = Member::open(&fake, with("b", OffsetReset::Latest));
    latest.until("the new ones", |seen| seen.values.len() == 10).await;
    drop(latest);
    forget(&fake);
    let mut fail = Member::open(&fake, with("c", OffsetReset::Fail));
    fail.until("assigned", |seen| seen.held.len() == 1).await;
    let error = timeout(PATIENCE, fail.next()).await.expect("an answer").expect_err("no committed offset");
    assert_eq!(error, ClientError::NoOffset { partition: at(0) });
    fail.consumer.seek(&at(0), Offset(107)).expect("ours");
    fail.until("what it sought", |seen| seen.values == [107, 108, 109]).await;
}

#[tokio::test]
async fn a_committed_offset_that_retention_took_is_reset() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..100).await;
    fake.lock().partitions[0].log_start = 40;
    fake.lock().groups.offsets.insert(at(0), 10);
    let mut member = Member::open(&fake, options());
    member.until("the rest", |seen| seen.values.last() == Some(&99)).await;
    assert_eq!(member.seen.values, (40..100).collect::<Vec<_>>());
    assert_eq!(member.seen.jumps, [(10, 40)], "the application is told what it did not get");
    drop(member);
    fake.lock().groups = Default::default();
    fake.lock().groups.offsets.insert(at(0), 10);
    let mut fail = Member::open(&fake, GroupOptions { offset_reset: OffsetReset::Fail, ..options() });
    fail.until("assigned", |seen| seen.held.len() == 1).await;
    let error = timeout(PATIENCE, fail.next()).await.expect("an answer").expect_err("it is gone");
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}

#[tokio::test]
async fn seek_and_pause() {
    let fake = Fake::start(2, 2, 1).await;
    produce(&fake, "t", 0..100).await;
    let mut member = Member::open(&fake, options());
    member.until("all", |seen| seen.values.len() == 100).await;
    member.consumer.pause(&at(1)).expect("ours");
    member.consumer.seek(&at(0), Offset(45)).expect("ours");
    member.seen.next.clear();
    produce(&fake, "t", 100..102).await;
    member.until("again", |seen| seen.values.len() == 106).await;
    assert_eq!(member.seen.values[100..], [90, 92, 94, 96, 98, 100]);
    member.run_for(Duration::from_millis(300)).await;
    assert_eq!((member.seen.values.len(), member.consumer.position(&at(1))), (106, Some(Offset(50))), "1 is paused");
    member.consumer.resume(&at(1)).expect("ours");
    member.until("resumed", |seen| seen.values.len() == 107).await;
    assert!(member.consumer.seek(&at(5), Offset(0)).is_err());
}

/// A slow application must neither lose its membership nor fill memory.
#[tokio::test]
async fn a_slow_application_keeps_its_membership_and_reads_no_further_than_its_budget() {
    let fake = Fake::start(1, 8, 1).await;
    // 48 MiB: more than the connection's window, which then is full.
    produce_sized(&fake, "t", 0..12_000, 4_000).await;
    let budget = GroupOptions { buffer_bytes_max: 256 << 10, buffer_records_max: 1_000, ..options() };
    let mut member = Member::open(&fake, budget);
    member.until("all partitions", |seen| seen.held.len() == 8).await;
    let beats = fake.lock().groups.beats;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(fake.lock().groups.beats > beats + 10, "it beats while nothing is taken");
    let buffered = member.consumer.buffered();
    assert!((1..=256 << 10).contains(&(buffered * 4_000)), "{buffered} records are buffered");
    member.until("all of it", |seen| seen.values.len() == 12_000).await;
    assert_eq!(member.seen.lost, 0);
}

#[tokio::test]
async fn a_group_that_refuses_for_good_ends_the_member() {
    let fake = Fake::start(1, 1, 1).await;
    fake.lock().groups.refuse = Some(v1::ErrorCode::GroupProtocolMismatch);
    let mut member = Member::open(&fake, options());
    for _ in 0..2 {
        let error = timeout(PATIENCE, member.next()).await.expect("an answer").expect_err("refused");
        assert_eq!((error.code(), error.is_retriable()), (Some(ErrorCode::GroupProtocolMismatch), false));
    }
    let error = member.consumer.commit_offsets(vec![OffsetToCommit::new(at(0), Offset(1))]);
    assert_eq!(error.await.expect_err("it has ended").code(), Some(ErrorCode::GroupProtocolMismatch));
    assert!(member.consumer.close().await.is_err());
    let nothing = GroupConsumer::open(&cluster(&fake), GroupOptions::new("g"));
    assert!(nothing.is_err(), "it subscribes to nothing");
}

#[tokio::test]
async fn admin_calls_about_groups() {
    let fake = Fake::start(2, 1, 1).await;
    let admin = Admin::new(cluster(&fake), Duration::from_secs(5));
    let commit = [OffsetToCommit::new(at(0), Offset(7))];
    assert!(admin.commit_offsets("g", &commit).await.expect("no members").is_empty());
    assert_eq!(admin.committed_offsets("g").await.expect("answers")[0].offset, Offset(7));
    let mut member = Member::open(&fake, options());
    member.until("assigned", |seen| seen.held.len() == 1).await;
    let error = admin.commit_offsets("g", &commit).await.expect_err("it has a member");
    assert_eq!(error.code(), Some(ErrorCode::GroupNotEmpty));
    assert_eq!(admin.list_groups().await.expect("answers")[0].members, 1);
    let error = admin.describe_group("x").await.expect_err("unknown");
    assert!(error.is_not_found());
    member.consumer.close().await.expect("leaves");
    assert!(admin.delete_offsets("g", &[at(0)]).await.expect("answers").is_empty());
    assert!(admin.committed_offsets("g").await.expect("answers").is_empty());
    admin.delete_group("g").send().await.expect("it is empty");
}

#[tokio::test]
async fn an_answer_about_groups_has_a_largest_size() {
    let fake = Fake::start(1, 1, 1).await;
    let admin = Admin::new(cluster(&fake), PATIENCE);
    for (mebibytes, is_taken) in [(79, true), (81, false)] {
        fake.lock().groups.list_bytes = mebibytes << 20;
        let listed = admin.list_groups().await.map(|groups| groups.len());
        match is_taken {
            true => assert_eq!(listed, Ok(1)),
            false => assert!(listed.as_ref().is_err_and(|error| error.to_string().contains("too large")), "{listed:?}"),
        }
    }
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_said_and_the_reset_applies() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    for (offset_reset, to) in [(OffsetReset::Earliest, 0), (OffsetReset::Latest, 10)] {
        fake.lock().groups = Default::default();
        fake.lock().groups.offsets.insert(at(0), 1_000_000_000_000);
        let mut member = Member::open(&fake, GroupOptions { offset_reset, ..options() });
        member.until("the jump is said", |seen| !seen.jumps.is_empty()).await;
        assert_eq!(member.seen.jumps, [(1_000_000_000_000, to)]);
        assert_eq!(member.consumer.position(&at(0)), Some(Offset(to)));
        member.until("all from there", |seen| seen.values.len() as i64 == 10 - to).await;
        // The same by a seek.
        member.consumer.seek(&at(0), Offset(11)).expect("ours");
        member.until("it is said again", |seen| seen.jumps.len() == 2).await;
        assert_eq!(member.seen.jumps[1], (11, to));
        member.consumer.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_commit_by_hand_fails_if_the_member_was_expelled_since_it_was_given_records() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..10).await;
    let mut member = Member::open(&fake, GroupOptions { auto_commit: None, ..options() });
    member.until("all", |seen| seen.values.len() == 10).await;
    let id = member.consumer.member_id();
    fake.lock().groups.expire(&id);
    let expelled = async {
        while member.consumer.member_id() == id {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, expelled).await.expect("its next beat says so");
    assert_eq!(member.consumer.commit().await, Err(ClientError::NotAMember));
    assert!(fake.lock().groups.commits.is_empty(), "nothing was committed");
    member.until("it hears of it", |seen| seen.lost == 1).await;
    member.until("and reads them again", |seen| seen.values.len() == 20).await;
    assert_eq!(member.consumer.commit().await, Ok(()));
    assert_eq!(fake.lock().groups.offsets[&at(0)], 10);
}

#[tokio::test]
async fn a_join_whose_answer_is_lost_makes_no_second_member() {
    let fake = Fake::start(2, 2, 1).await;
    fake.lock().groups.drop_joins = 3;
    let long = GroupOptions { session_timeout: Duration::from_secs(60), ..options() };
    let mut member = Member::open(&fake, GroupOptions { client_id: "billing".into(), ..long.clone() });
    member.until("both partitions", |seen| seen.held.len() == 2).await;
    assert_eq!(fake.lock().groups.members.len(), 1, "no ghost holds partitions");
    assert!(member.consumer.member_id().starts_with("billing-"), "{}", member.consumer.member_id());
    member.consumer.close().await.expect("closes");
    // One that ends while it joins leaves nobody behind.
    fake.lock().groups.drop_joins = u32::MAX;
    let joining = Member::open(&fake, long);
    let joined = async {
        while fake.lock().groups.members.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, joined).await.expect("its join is done");
    joining.consumer.close().await.expect("closes");
    assert_eq!(fake.lock().groups.members.len(), 0);
}

/// The driver beats on by itself; what is stuck is the application.
#[tokio::test]
async fn a_stuck_application_leaves_the_group_and_comes_back_when_it_calls() {
    let fake = Fake::start(1, 2, 1).await;
    let stuck = GroupOptions { poll_interval_max: Duration::from_secs(1), ..options() };
    let mut member = Member::open(&fake, stuck.clone());
    member.until("both partitions", |seen| seen.held.len() == 2).await;
    // In a call it may wait for as long as it likes.
    member.run_for(Duration::from_secs(3)).await;
    assert_eq!((member.seen.lost, fake.lock().groups.left.len()), (0, 0));
    let id = member.consumer.member_id();
    let left = async {
        while fake.lock().groups.left.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, left).await.expect("it has left");
    assert_eq!(fake.lock().groups.left, [id]);
    assert_eq!(member.consumer.member_id(), "");
    member.until("it is told", |seen| seen.lost == 2).await;
    member.until("and is a member again", |seen| seen.held.len() == 2).await;
    assert!(GroupConsumer::open(&cluster(&fake), GroupOptions { poll_interval_max: Duration::ZERO, ..stuck }).is_err());
}

/// The topic is deleted and made anew under a member: it reads the new one from its first record, and no offset of the
/// one is committed for the other.
#[tokio::test]
async fn a_member_begins_a_replaced_topic_anew() {
    let fake = Fake::start(2, 1, 1).await;
    produce(&fake, "t", 0..50).await;
    let mut member = Member::open(&fake, options());
    member.until("the old topic", |seen| seen.values.len() == 50).await;
    fake.add_topic("t", 1);
    let before = fake.lock().groups.commits.len();
    produce(&fake, "t", 1_000..1_080).await;
    fake.move_leaders();
    member.until("the new topic", |seen| seen.values.len() == 130).await;
    assert_eq!((member.seen.replaced, member.seen.lost), (1, 0));
    assert_eq!(member.seen.values[50..], (1_000..1_080).collect::<Vec<_>>());
    member.consumer.close().await.expect("its last commit");
    let s = fake.lock();
    let after: Vec<i64> = s.groups.commits[before..].iter().map(|commit| commit.2).collect();
    assert!(after.is_sorted(), "an offset of the old topic lies among those of the new one: {after:?}");
    assert_eq!(s.groups.offsets[&at(0)], 80);
}
