//! K2: a group of Kafka consumers, by the classic protocol, whose members come, read, commit and leave. Like W2, with another
//! client: what is said there of generations holds here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use logcheck::event::{Body, Commit, From, Outcome, Poll, Polled, Protocol, Rebalance as Noted, Run};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    message::BorrowedMessage,
};
use tokio::time::sleep;

use super::{POLL, RECORDS_MAX, add, cannot_open, code, config, is_ending, on_thread};
use crate::{
    error::ChaosError,
    workload::{Context, Scribe, group::Numbers, process},
};

/// The group's number in histories.
pub const NUMBER: u32 = 1;
pub const MEMBERS: u32 = 3;
const SESSION_MS: &str = "6000";
const HEARTBEAT_MS: &str = "1000";
/// How long the others wait for a member that does not poll.
const POLL_INTERVAL_MS: &str = "10000";
const LIFE_MS: std::ops::Range<u64> = 8_000..25_000;
const BETWEEN_LIVES_MS: std::ops::Range<u64> = 100..2_000;
/// A member commits a partition so often at most.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// One place in the group, filled by one member after the other until the run ends.
pub async fn run(context: Context, place: u32, numbers: Arc<Numbers>) -> Result<(), ChaosError> {
    let mut random = fastrand::Rng::with_seed(u64::from(place));
    while !is_ending(&context) {
        let (own, numbers, lives_ms) = (context.clone(), numbers.clone(), random.u64(LIFE_MS));
        on_thread(move || live(own, numbers, Duration::from_millis(lives_ms))).await?;
        tokio::select! {
            () = sleep(Duration::from_millis(random.u64(BETWEEN_LIVES_MS))) => {}
            () = context.ending() => {}
        }
    }
    Ok(())
}

/// A member from its birth until it leaves.
fn live(context: Context, numbers: Arc<Numbers>, long: Duration) -> Result<(), ChaosError> {
    let life = numbers.life();
    let mut config = config(&context, &format!("kafka-member-{life}"));
    config
        .set("group.id", &*context.names.kafka_group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    config.set("session.timeout.ms", SESSION_MS).set("heartbeat.interval.ms", HEARTBEAT_MS);
    config.set("max.poll.interval.ms", POLL_INTERVAL_MS);
    let mut scribe = context.worker(&format!("kafka-member-{life}"))?;
    let process = process::KAFKA_MEMBERS + life;
    scribe.note(process, Body::Subscribe { group: NUMBER, keys: (0..context.partitions).collect() })?;
    let member =
        Member { context: context.clone(), scribe, process, life, numbers, held: BTreeMap::new(), answer: None };
    let shared = Shared(Arc::new(Mutex::new(Watched { member, failed: None })));
    let consumer: BaseConsumer<Shared> =
        config.create_with_context(shared.clone()).map_err(cannot_open("a member of a group"))?;
    consumer.subscribe(&[&context.topic]).map_err(cannot_open("a member of a group"))?;
    let end = Instant::now() + long;
    while Instant::now() < end && !is_ending(&context) {
        shared.lock().member.begin()?;
        read(&consumer, &shared)?;
        shared.with(Member::complete)?;
        shared.with(|member| member.commit_due(&consumer))?;
    }
    shared.with(|member| member.scribe.note(member.process, Body::Leave { group: NUMBER, member: member.life }))?;
    // It gives back what it has, commits that, and says goodbye: in its destructor.
    drop(consumer);
    shared.finish()
}

/// One answer: what is there, until there is no more.
fn read(consumer: &BaseConsumer<Shared>, shared: &Shared) -> Result<(), ChaosError> {
    let mut wait = POLL;
    for _ in 0..RECORDS_MAX {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => shared.with(|member| member.got(&message))?,
            // It goes on by itself.
            Some(Err(error)) => {
                shared.lock().member.erred(code(&error));
                break;
            }
        }
        wait = Duration::ZERO;
    }
    Ok(())
}

/// A member, and what went wrong where nobody could be told.
struct Watched {
    member: Member,
    failed: Option<ChaosError>,
}

/// What librdkafka calls back, on the thread that polls.
#[derive(Clone)]
struct Shared(Arc<Mutex<Watched>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().expect("nobody panics with the member")
    }

    fn with(&self, work: impl FnOnce(&mut Member) -> Result<(), ChaosError>) -> Result<(), ChaosError> {
        let mut watched = self.lock();
        match watched.failed.take() {
            Some(failed) => Err(failed),
            None => work(&mut watched.member),
        }
    }

    /// The consumer is gone, and with it the other owner.
    fn finish(self) -> Result<(), ChaosError> {
        self.with(Member::complete)?;
        let watched =
            Arc::into_inner(self.0).ok_or_else(|| ChaosError::Broken("a member that is still called".into()))?;
        watched.into_inner().expect("nobody panics with the member").member.scribe.finish()
    }
}

impl ClientContext for Shared {}

impl ConsumerContext for Shared {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Shared>, rebalance: &Rebalance<'_>) {
        let mut watched = self.lock();
        let done = match rebalance {
            Rebalance::Assign(partitions) => watched.member.assigned(&keys(partitions)),
            Rebalance::Revoke(partitions) => watched.member.revoked(consumer, &keys(partitions)),
            Rebalance::Error(_) => Ok(()),
        };
        if let Err(error) = done {
            watched.failed = Some(error);
        }
    }
}

fn keys(partitions: &TopicPartitionList) -> Vec<u32> {
    partitions.elements().iter().map(|partition| partition.partition() as u32).collect()
}

/// How a member has a partition.
struct Held {
    generation: i32,
    /// The offset after the last record that it got.
    next: Option<i64>,
    /// What it committed, or tried to, of that.
    committed: Option<i64>,
    committed_at: Instant,
}

struct Member {
    context: Context,
    scribe: Scribe,
    process: u32,
    life: u32,
    numbers: Arc<Numbers>,
    held: BTreeMap<u32, Held>,
    /// What is being collected: the operation, and what came so far.
    answer: Option<(u64, Polled)>,
}

impl Member {
    /// What comes from now on is one answer.
    fn begin(&mut self) -> Result<(), ChaosError> {
        if self.answer.is_none() {
            let op = self.scribe.begin(self.process, Body::Poll(Poll { from: From::Group, node: 0 }))?;
            self.answer = Some((op, Polled { outcome: Outcome::Ok, ..Polled::default() }));
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), ChaosError> {
        let Some((op, mut polled)) = self.answer.take() else { return Ok(()) };
        match polled.runs.is_empty() && polled.error != 0 {
            true => polled.outcome = Outcome::Fail,
            false => polled.error = 0,
        }
        self.scribe.complete(self.process, op, Body::Polled(polled))
    }

    fn got(&mut self, message: &BorrowedMessage<'_>) -> Result<(), ChaosError> {
        self.begin()?;
        if let Some(held) = self.held.get_mut(&(message.partition() as u32)) {
            held.next = Some(message.offset() + 1);
        }
        self.context.tally.read(1);
        let run = self.context.run;
        let runs: Option<&mut Vec<Run>> = self.answer.as_mut().map(|(_, polled)| &mut polled.runs);
        runs.into_iter().for_each(|runs| add(runs, run, message));
        Ok(())
    }

    fn erred(&mut self, error: i16) {
        if let Some((_, polled)) = &mut self.answer {
            polled.error = error;
        }
    }

    fn assigned(&mut self, keys: &[u32]) -> Result<(), ChaosError> {
        // What came before is of what it had.
        self.complete()?;
        let generation = self.numbers.generation();
        for key in keys {
            let held = Held { generation, next: None, committed: None, committed_at: Instant::now() };
            self.held.insert(*key, held);
        }
        self.rebalanced(generation, vec![], keys.to_vec())
    }

    fn revoked(&mut self, consumer: &BaseConsumer<Shared>, keys: &[u32]) -> Result<(), ChaosError> {
        self.complete()?;
        for key in keys {
            self.commit(consumer, *key)?;
            self.held.remove(key);
        }
        let generation = self.numbers.generation();
        self.rebalanced(generation, keys.to_vec(), vec![])
    }

    fn rebalanced(&mut self, generation: i32, revoked: Vec<u32>, assigned: Vec<u32>) -> Result<(), ChaosError> {
        let (group, protocol, member) = (NUMBER, Protocol::Consumer, self.life);
        let noted = Noted { group, protocol, generation, member, revoked, assigned };
        self.scribe.note(self.process, Body::Rebalance(noted))
    }

    fn commit_due(&mut self, consumer: &BaseConsumer<Shared>) -> Result<(), ChaosError> {
        let is_due = |held: &Held| held.committed_at.elapsed() >= COMMIT_EVERY;
        let due: Vec<u32> = self.held.iter().filter(|(_, held)| is_due(held)).map(|(key, _)| *key).collect();
        due.into_iter().try_for_each(|key| self.commit(consumer, key))
    }

    /// Commits what was got of a partition, if that is news. One at a time: of several, librdkafka does not say which failed.
    fn commit(&mut self, consumer: &BaseConsumer<Shared>, key: u32) -> Result<(), ChaosError> {
        let Some(held) = self.held.get_mut(&key) else { return Ok(()) };
        let Some(offset) = held.next.filter(|next| held.committed != Some(*next)) else { return Ok(()) };
        (held.committed, held.committed_at) = (Some(offset), Instant::now());
        let (id, generation) = (self.numbers.commit(), held.generation);
        let commit = Commit { group: NUMBER, key, offset, generation, member: self.life, id };
        let op = self.scribe.begin(self.process, Body::Commit(commit))?;
        let committed =
            wanted(&self.context.topic, key, offset, id).and_then(|wanted| consumer.commit(&wanted, CommitMode::Sync));
        let (outcome, error) = match committed {
            Ok(()) => (Outcome::Ok, 0),
            Err(error) => (Outcome::Info, code(&error)),
        };
        self.scribe.complete(self.process, op, Body::Committed { outcome, error })
    }
}

fn wanted(topic: &str, key: u32, offset: i64, id: u64) -> rdkafka::error::KafkaResult<TopicPartitionList> {
    let mut wanted = TopicPartitionList::new();
    let mut partition = wanted.add_partition(topic, key as i32);
    partition.set_offset(Offset::Offset(offset))?;
    partition.set_metadata(id.to_string());
    Ok(wanted)
}
