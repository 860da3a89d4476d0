//! W2: a group whose members come, read, commit, and leave or are killed; and somebody who asks what was committed.
//!
//! The client does not say of which generation an assignment is. So the history's generations are a counter: each
//! assignment that a member hears of gets the next number. It is sound, because a member hears of what it was given
//! after it was given, and the client promises that what comes too late is not handed to the application.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use flotilla::client::{
    Admin, ClientError, Effect, GroupConsumer, GroupEvent, GroupOptions, GroupRecords, Offset, OffsetToCommit,
    PartitionId, TopicPartition,
};
use logcheck::{
    event::{Body, Commit, From, Outcome, Poll, Polled, Protocol, Rebalance, Record, Run, Stored},
    payload::{self, DAMAGED},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Context, Scribe, Stage, errors, process};
use crate::error::ChaosError;

/// The group's number in histories.
pub const NUMBER: u32 = 0;
pub const MEMBERS: u32 = 3;
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE_MAX: Duration = Duration::from_secs(10);
const LIFE_MS: std::ops::Range<u64> = 6_000..25_000;
const BETWEEN_LIVES_MS: std::ops::Range<u64> = 100..2_000;
/// A member commits a partition so often at most.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
const RECORDS_MAX: usize = 2_000;
const ASK_EVERY: Duration = Duration::from_millis(400);
const CALL_MAX: Duration = Duration::from_secs(5);

/// What all lives of all members draw numbers from.
#[derive(Debug, Default)]
pub struct Numbers {
    generation: AtomicI32,
    commit: AtomicU64,
    life: AtomicU32,
}

impl Numbers {
    pub fn generation(&self) -> i32 {
        self.generation.fetch_add(1, Relaxed) + 1
    }

    pub fn commit(&self) -> u64 {
        self.commit.fetch_add(1, Relaxed)
    }

    pub fn life(&self) -> u32 {
        self.life.fetch_add(1, Relaxed)
    }
}

/// One place in the group, filled by one member after the other until the run ends.
pub async fn run(context: Context, place: u32, numbers: Arc<Numbers>) -> Result<(), ChaosError> {
    let mut random = fastrand::Rng::with_seed(u64::from(place));
    while *context.stage.borrow() != Stage::Ending {
        let life = numbers.life();
        let (own, numbers, random_seed) = (context.clone(), numbers.clone(), random.u64(..));
        let lived = tokio::task::spawn_blocking(move || live(own, life, numbers, random_seed)).await;
        lived.map_err(|error| ChaosError::Broken(error.to_string()))??;
        tokio::select! {
            () = sleep(Duration::from_millis(random.u64(BETWEEN_LIVES_MS))) => {}
            () = context.ending() => {}
        }
    }
    Ok(())
}

/// A member from its birth to its end, on a runtime of its own: dropped with it, all of it is gone at once, as if its
/// process had been killed.
fn live(context: Context, life: u32, numbers: Arc<Numbers>, seed: u64) -> Result<(), ChaosError> {
    let broken = |error: std::io::Error| ChaosError::Program { program: "a member's runtime".into(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let (lives_ms, is_killed) = (random.u64(LIFE_MS), random.bool());
    let mut scribe = context.worker(&format!("member-{life}"))?;
    let left: Result<Option<GroupConsumer>, ChaosError> = runtime.block_on(async {
        let options = GroupOptions {
            topics: vec![context.topic.to_string()],
            client_id: format!("member-{life}"),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE_MAX,
            auto_commit: None,
            records_max: RECORDS_MAX,
            ..GroupOptions::new(&*context.names.group)
        };
        let consumer =
            GroupConsumer::open(&context.client()?, options).map_err(ChaosError::client("joining a group"))?;
        let process = process::MEMBERS + life;
        let keys = (0..context.partitions).collect();
        scribe.note(process, Body::Subscribe { group: NUMBER, keys })?;
        let mut member = Member { context, scribe: &mut scribe, process, life, numbers, held: BTreeMap::new() };
        let consumer = member.read(consumer, Duration::from_millis(lives_ms)).await?;
        match consumer {
            Some(consumer) if !is_killed => {
                member.scribe.note(process, Body::Leave { group: NUMBER, member: life })?;
                // Whether the group heard of it makes no difference to what it promises.
                let _ = consumer.close().await;
                Ok(None)
            }
            consumer => {
                member.scribe.note(process, Body::Crash)?;
                Ok(consumer)
            }
        }
    });
    runtime.shutdown_background();
    drop(left?);
    scribe.finish()
}

/// How a member has a partition.
struct Held {
    generation: i32,
    /// The offset after the last record that it got.
    next: Option<i64>,
    /// What is committed of that.
    committed: Option<i64>,
    committed_at: Instant,
}

struct Member<'a> {
    context: Context,
    scribe: &'a mut Scribe,
    process: u32,
    life: u32,
    numbers: Arc<Numbers>,
    held: BTreeMap<u32, Held>,
}

impl Member<'_> {
    /// Reads and commits. None: the group refused it for good.
    async fn read(&mut self, mut consumer: GroupConsumer, life: Duration) -> Result<Option<GroupConsumer>, ChaosError> {
        let end = Instant::now() + life;
        loop {
            let op = self.scribe.begin(self.process, Body::Poll(Poll { from: From::Group, node: 0 }))?;
            let next = tokio::select! {
                next = consumer.next() => next,
                () = sleep_until(end) => return Ok(Some(consumer)),
                () = self.context.ending() => return Ok(Some(consumer)),
            };
            let mut polled = Polled { outcome: Outcome::Ok, ..Polled::default() };
            if let Err(error) = &next {
                // An error hands nothing over.
                (polled.outcome, polled.error) = (Outcome::Fail, errors::code(error));
            }
            if let Ok(GroupEvent::Records(records)) = &next {
                polled.runs = vec![self.got(records)];
            }
            self.scribe.complete(self.process, op, Body::Polled(polled))?;
            match next {
                Ok(GroupEvent::Records(records)) => self.commit_due(&mut consumer, &records.at).await?,
                Ok(GroupEvent::Assigned(partitions)) => self.assigned(&partitions)?,
                Ok(GroupEvent::Revoked(partitions)) => {
                    for at in &partitions {
                        self.commit(&mut consumer, at).await?;
                    }
                    self.gone(&partitions)?;
                }
                Ok(GroupEvent::Lost(partitions) | GroupEvent::Replaced(partitions)) => self.gone(&partitions)?,
                Ok(GroupEvent::Jumped(_)) => {}
                Err(error) if error.is_retriable() || matches!(error, ClientError::NotAMember) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    fn got(&mut self, records: &GroupRecords) -> Run {
        let key = records.at.partition.0 as u32;
        let value = |bytes: &[u8]| payload::read(self.context.run, key, bytes);
        let all = records.records.iter().map(|found| Record {
            offset: found.offset.0,
            value: found.record.value.as_deref().map_or(DAMAGED, value),
        });
        let records: Vec<Record> = all.collect();
        self.context.tally.read(records.len() as u64);
        if let (Some(held), Some(last)) = (self.held.get_mut(&key), records.last()) {
            held.next = Some(last.offset + 1);
        }
        Run { key, records, ..Run::default() }
    }

    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), ChaosError> {
        let generation = self.numbers.generation();
        let assigned: Vec<u32> = partitions.iter().map(|at| at.partition.0 as u32).collect();
        for key in &assigned {
            let held = Held { generation, next: None, committed: None, committed_at: Instant::now() };
            self.held.insert(*key, held);
        }
        self.rebalance(generation, vec![], assigned)
    }

    fn gone(&mut self, partitions: &[TopicPartition]) -> Result<(), ChaosError> {
        let revoked: Vec<u32> = partitions.iter().map(|at| at.partition.0 as u32).collect();
        for key in &revoked {
            self.held.remove(key);
        }
        let generation = self.numbers.generation();
        self.rebalance(generation, revoked, vec![])
    }

    fn rebalance(&mut self, generation: i32, revoked: Vec<u32>, assigned: Vec<u32>) -> Result<(), ChaosError> {
        let (group, protocol, member) = (NUMBER, Protocol::Consumer, self.life);
        let rebalance = Rebalance { group, protocol, generation, member, revoked, assigned };
        self.scribe.note(self.process, Body::Rebalance(rebalance))
    }

    async fn commit_due(&mut self, consumer: &mut GroupConsumer, at: &TopicPartition) -> Result<(), ChaosError> {
        let held = self.held.get(&(at.partition.0 as u32));
        if held.is_some_and(|held| held.committed_at.elapsed() >= COMMIT_EVERY) {
            self.commit(consumer, at).await?;
        }
        Ok(())
    }

    /// Commits what was got of a partition, if that is news.
    async fn commit(&mut self, consumer: &mut GroupConsumer, at: &TopicPartition) -> Result<(), ChaosError> {
        let key = at.partition.0 as u32;
        let Some(held) = self.held.get_mut(&key) else { return Ok(()) };
        let Some(offset) = held.next.filter(|next| held.committed != Some(*next)) else { return Ok(()) };
        (held.committed, held.committed_at) = (Some(offset), Instant::now());
        let (id, generation) = (self.numbers.commit(), held.generation);
        let commit = Commit { group: NUMBER, key, offset, generation, member: self.life, id };
        let op = self.scribe.begin(self.process, Body::Commit(commit))?;
        let mut wanted = OffsetToCommit::new(at.clone(), Offset(offset));
        wanted.metadata = id.to_string();
        let (outcome, error) = match consumer.commit_offsets(vec![wanted]).await {
            Ok(()) => (Outcome::Ok, 0),
            Err(error) if error.effect() == Effect::Nothing => (Outcome::Fail, errors::code(&error)),
            Err(error) => (Outcome::Info, errors::code(&error)),
        };
        self.scribe.complete(self.process, op, Body::Committed { outcome, error })
    }
}

/// Asks what a group has committed until the run ends.
pub async fn ask(context: Context, name: Arc<str>, group: u32) -> Result<(), ChaosError> {
    let admin = Admin::new(context.client()?, CALL_MAX);
    let mut scribe = context.worker(&format!("commits-{group}"))?;
    let process = process::COMMITS + group;
    loop {
        let mut ops = vec![];
        for key in 0..context.partitions {
            ops.push((key, scribe.begin(process, Body::FetchCommit { group, key })?));
        }
        let asked = tokio::select! {
            asked = admin.committed_offsets(&name) => asked,
            () = context.ending() => break,
        };
        for (key, op) in ops {
            let at = TopicPartition::new(&*context.topic, PartitionId(key as i32));
            let body = match &asked {
                Ok(offsets) => {
                    let found = offsets.iter().find(|found| found.at == at);
                    let stored = found
                        .and_then(|found| Some(Stored { offset: found.offset.0, id: found.metadata.parse().ok()? }));
                    Body::FetchedCommit { outcome: Outcome::Ok, error: 0, stored }
                }
                // The group is there from its first member on.
                Err(error) => Body::FetchedCommit { outcome: Outcome::Info, error: errors::code(error), stored: None },
            };
            scribe.complete(process, op, body)?;
        }
        sleep(ASK_EVERY).await;
    }
    scribe.finish()
}
