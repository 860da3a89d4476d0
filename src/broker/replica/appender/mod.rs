//! The task that owns a partition's order while this broker leads it.
//!
//! It feeds [`core::Core`] with arrivals, outcomes, time and the group's status, and does what it
//! says: propose, one admission awaited before the next (SAFETY M2), and answer.

#[cfg(feature = "internals")]
pub mod benched;
mod core;
#[cfg(test)]
mod core_tests;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::rules::TopicRules;
use crate::{
    broker::{LeaderNow, ProduceBudget, ProduceError, Receipt, disk::Shortage, limits},
    metrics::{IntakeProbe, Limit, RequestProbe, TopicTraffic},
    partition::{AppendBuilder, Partition, PartitionResponse, TimestampBounds},
    raft::{Pending, ProposalEnd, Refusal, Replica, Status},
    record::BatchHeader,
    seam::Clock,
    types::{BrokerId, EntryPosition, LogIndex, Offset, Term, TopicPartition, ms_i64},
};
use core::{Answer, Arrival, Core, Done, Failed, FlightEnd, FlightId, Plan, Rules};

/// Who waits for a batch, and its share of the produce budget until it is answered.
pub struct Reply {
    pub answer: oneshot::Sender<Result<Receipt, ProduceError>>,
    pub arrived: Instant,
    pub bytes: usize,
    pub _budget: ProduceBudget,
}

/// A validated batch on its way to the appender.
pub struct Produce {
    pub batch: Bytes,
    pub header: BatchHeader,
    pub expected_offset: Option<Offset>,
    pub deadline: Instant,
    pub reply: Reply,
}

/// Hears when nothing is in flight, or the term is over.
struct Settle(oneshot::Sender<()>);

/// An appender proposes nothing as long as one of these lives. Dropped with the future that asked for
/// it: handlers are cancelled whenever a client goes away (SAFETY M18).
#[must_use]
pub struct Paused {
    pauses: watch::Sender<usize>,
    is_kept: bool,
}

impl Paused {
    fn new(pauses: &watch::Sender<usize>) -> Paused {
        pauses.send_modify(|count| *count += 1);
        Paused { pauses: pauses.clone(), is_kept: false }
    }

    /// It proposes nothing any more: the broker stops.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if !self.is_kept {
            self.pauses.send_modify(|count| *count -= 1);
        }
    }
}

/// What the task needs of the broker.
pub struct AppenderDeps {
    pub name: TopicPartition,
    pub group: Replica<Partition>,
    pub rules: Arc<Mutex<TopicRules>>,
    pub clock: Arc<dyn Clock>,
    pub probe: RequestProbe,
    pub intake: IntakeProbe,
    pub traffic: TopicTraffic,
    /// Why nothing new may be written now.
    pub shortage: Arc<dyn Fn() -> Option<Shortage> + Send + Sync>,
    /// Whether this broker's wall clock is near those of most others.
    pub clock_agrees: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Who leads now, for NOT_LEADER.
    pub leader_hint: Arc<dyn Fn() -> Option<LeaderNow> + Send + Sync>,
}

/// Handle to the task; the task ends when the last handle is dropped, or with its group.
pub struct Appender {
    arrivals: mpsc::Sender<Produce>,
    settle: mpsc::Sender<Settle>,
    /// How many ask it to pause.
    pauses: watch::Sender<usize>,
}

/// Transfers of one partition that wait for its flights at once: they are rare.
const SETTLING_MAX: usize = 4;

impl Appender {
    pub fn start(deps: AppenderDeps) -> Appender {
        let (arrivals, arrived) = mpsc::channel(limits::QUEUE_BATCHES_MAX);
        let (settle, settles) = mpsc::channel(SETTLING_MAX);
        let pauses = watch::Sender::new(0);
        let (core, pauses_seen) = (Core::default(), pauses.subscribe());
        let task = Task { deps, core, term: None, arrived, settles, pauses: pauses_seen, settling: Vec::new() };
        tokio::spawn(task.run());
        Appender { arrivals, settle, pauses }
    }

    /// Queues a batch behind all earlier ones; hands it back if the queue is full or the task has ended.
    #[expect(clippy::result_large_err, reason = "boxing would cost every refused batch an allocation")]
    pub fn enqueue(&self, produce: Produce) -> Result<(), mpsc::error::TrySendError<Produce>> {
        self.arrivals.try_send(produce)
    }

    /// Stops proposing and waits, bounded, until nothing is in flight. What arrives waits in the queue
    /// until all that paused it let go.
    pub async fn pause(&self) -> Paused {
        let paused = Paused::new(&self.pauses);
        let (settled, wait) = oneshot::channel();
        let settled = async {
            if self.settle.send(Settle(settled)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = tokio::time::timeout(limits::SETTLE_MAX, settled).await;
        paused
    }
}

struct Task {
    deps: AppenderDeps,
    core: Core<Reply>,
    /// The term in which this session leads. None: it does not lead.
    term: Option<Term>,
    arrived: mpsc::Receiver<Produce>,
    settles: mpsc::Receiver<Settle>,
    pauses: watch::Receiver<usize>,
    /// Who waits for flights to land.
    settling: Vec<oneshot::Sender<()>>,
}

type Admission = Pin<Box<dyn Future<Output = (FlightId, Pending)> + Send>>;
type Outcome = Pin<Box<dyn Future<Output = (FlightId, Result<(EntryPosition, Bytes), ProposalEnd>)> + Send>>;

/// Whether to go on.
#[derive(PartialEq)]
enum Next {
    Again,
    Stop,
}

impl Task {
    async fn run(mut self) {
        let mut status = self.deps.group.status();
        loop {
            let Some(term) = self.follow(&mut status).await else { break };
            self.deps.group.read(|partition| self.core.begin(term, partition));
            self.term = Some(term);
            self.heed_pauses();
            tracing::info!(partition = %self.deps.name, %term, "appender begins");
            let next = self.lead(term, &mut status).await;
            let answers = self.core.end(Instant::now());
            self.answer(answers);
            self.term = None;
            self.settling.clear();
            tracing::info!(partition = %self.deps.name, %term, "appender ends");
            if next == Next::Stop {
                break;
            }
        }
        self.refuse_rest();
    }

    /// Waits until this replica is leader-ready (SAFETY M1), and returns the term. None: the group or the handle is
    /// gone.
    async fn follow(&mut self, status: &mut watch::Receiver<Status>) -> Option<Term> {
        loop {
            let now = status.borrow_and_update().clone();
            if now.stopped {
                return None;
            }
            if now.leads && now.ready {
                return Some(now.term);
            }
            tokio::select! {
                biased;
                changed = status.changed() => changed.ok()?,
                settle = self.settles.recv() => self.settle(settle?),
                arrival = self.arrived.recv() => {
                    // Answered NOT_LEADER: the core has no session.
                    let arrival = arrival?;
                    self.arrive(arrival);
                }
            }
        }
    }

    /// Leads until `term` is over.
    async fn lead(&mut self, term: Term, status: &mut watch::Receiver<Status>) -> Next {
        let mut admitting: Option<Admission> = None;
        let mut flying: FuturesUnordered<Outcome> = FuturesUnordered::new();
        loop {
            if admitting.is_none() {
                admitting = self.next_proposal();
            }
            self.report_settled();
            let wake = self.core.next_wake();
            let has_room = self.core.has_room();
            tokio::select! {
                biased;
                changed = status.changed() => {
                    let now = status.borrow_and_update().clone();
                    if changed.is_err() || now.stopped {
                        return Next::Stop;
                    }
                    if now.term != term || !now.leads || !now.ready {
                        return Next::Again;
                    }
                }
                (id, pending) = admitted(&mut admitting), if admitting.is_some() => {
                    admitting = None;
                    flying.push(Box::pin(async move { (id, pending.await) }));
                }
                Some((id, outcome)) = flying.next() => {
                    let end = self.read_outcome(outcome);
                    let answers = self.core.landed(id, end, Instant::now());
                    self.answer(answers);
                }
                changed = self.pauses.changed() => match changed {
                    Ok(()) => self.heed_pauses(),
                    Err(_) => return Next::Stop,
                },
                settle = self.settles.recv() => match settle {
                    Some(settle) => self.settle(settle),
                    None => return Next::Stop,
                },
                arrival = self.arrived.recv(), if has_room => match arrival {
                    Some(arrival) => self.arrive(arrival),
                    None => return Next::Stop,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    let answers = self.core.tick(Instant::now());
                    self.answer(answers);
                }
            }
        }
    }

    /// Resyncs if that is due, then takes everything that has arrived into one entry.
    fn next_proposal(&mut self) -> Option<Admission> {
        if self.core.wants_resync() {
            self.deps.group.read(|partition| self.core.resync(partition));
        }
        while self.core.has_room()
            && let Ok(arrival) = self.arrived.try_recv()
        {
            self.arrive(arrival);
        }
        let now = Instant::now();
        if !self.core.wants_to_propose(now) {
            return None;
        }
        if let Some(Shortage { broker, free_bytes, reserve_bytes }) = (self.deps.shortage)() {
            // What waits here would use up the reserve: it is refused as if it had just come.
            let failed = Failed::DiskFull { broker, free_bytes, reserve_bytes };
            let wall = self.deps.clock.wall();
            let answers = self.deps.group.read(|partition| self.core.refuse_queued(partition, wall, now, failed));
            self.answer(answers);
            return None;
        }
        let rules = self.deps.rules.lock().expect("no holder panics").checks((self.deps.clock_agrees)());
        let wall = self.deps.clock.wall();
        let mut answers = Vec::new();
        let plan = self.deps.group.read(|partition| self.core.plan(partition, rules, wall, now, &mut answers));
        self.answer(answers);
        let plan = plan?;
        self.deps.probe.entry_proposed(plan.batches.len() as u64);
        let (id, term, command) = (plan.id, plan.term, build(&plan));
        let group = self.deps.group.clone();
        Some(Box::pin(async move { (id, group.propose(term, command).await) }))
    }

    fn arrive(&mut self, produce: Produce) {
        let Produce { batch, header, expected_offset, deadline, reply } = produce;
        let arrival = Arrival { batch, header, expected_offset, deadline, waiter: reply };
        let answer = self.core.enqueue(arrival, Instant::now());
        self.answer(answer);
    }

    fn heed_pauses(&mut self) {
        match *self.pauses.borrow_and_update() {
            0 => self.core.unpause(),
            1.. => self.core.pause(),
        }
    }

    /// Answered only once nothing more is proposed: the pause came before the question.
    fn settle(&mut self, settle: Settle) {
        self.heed_pauses();
        self.settling.push(settle.0);
        self.report_settled();
    }

    fn report_settled(&mut self) {
        if !self.settling.is_empty() && self.core.is_settled() {
            for settled in self.settling.drain(..) {
                // Whoever waited may have given up.
                let _ = settled.send(());
            }
        }
    }

    fn read_outcome(&self, outcome: Result<(EntryPosition, Bytes), ProposalEnd>) -> FlightEnd {
        match outcome {
            Ok((position, response)) => match PartitionResponse::decode(&response) {
                Ok(PartitionResponse::Appended { base_offset }) => FlightEnd::Live { position, base_offset },
                Ok(PartitionResponse::Dead) => {
                    self.deps.probe.entry_dead();
                    FlightEnd::Dead
                }
                Ok(
                    PartitionResponse::LogStart { .. }
                    | PartitionResponse::TrimOutOfRange { .. }
                    | PartitionResponse::Resized,
                )
                | Err(_) => {
                    tracing::error!(partition = %self.deps.name, %position, "an append was answered as something else");
                    FlightEnd::Unknown
                }
            },
            Err(ProposalEnd::Refused(Refusal::LeaseExpired)) => FlightEnd::LeaseExpired,
            Err(ProposalEnd::Refused(Refusal::NotLeader | Refusal::Transferring)) => FlightEnd::NotLeader,
            Err(ProposalEnd::Unknown) => FlightEnd::Unknown,
        }
    }

    /// The acknowledgement: a live outcome means committed and applied, hence fsynced on a majority,
    /// which the receipt names.
    fn answer(&self, answers: impl IntoIterator<Item = Answer<Reply>>) {
        let mut durable: Option<(LogIndex, Vec<BrokerId>)> = None;
        for (reply, result) in answers {
            let result = match result {
                Ok(done) => {
                    let records = u64::try_from(done.count).unwrap_or(0);
                    self.deps.probe.produce_acknowledged(records, reply.bytes as u64, reply.arrived.elapsed());
                    self.deps.traffic.produced(records, reply.bytes as u64);
                    self.receipt(done, &mut durable)
                }
                Err(failed) => Err(self.error(failed)),
            };
            // Whoever asked may be gone; what happened stands.
            let _ = reply.answer.send(result);
        }
    }

    fn receipt(&self, done: Done, cached: &mut Option<(LogIndex, Vec<BrokerId>)>) -> Result<Receipt, ProduceError> {
        let Done { base_offset, position, count, duplicate, stamp } = done;
        let durable_on = match cached {
            Some((index, on)) if *index == position.index => on.clone(),
            Some(_) | None => {
                let on = self.deps.group.durable_on(position.index);
                *cached = Some((position.index, on.clone()));
                on
            }
        };
        let voters = self.deps.group.voters().len();
        if durable_on.len() <= voters / 2 {
            // Committed means flushed on a majority; but the books are those of a leader's term, and
            // without them we do not vouch for it.
            let over = self.term.is_none_or(|term| self.deps.group.status().borrow().term != term);
            if !over {
                tracing::error!(partition = %self.deps.name, %position, ?durable_on, voters, "committed without a known majority");
            }
            let TopicPartition { topic, partition } = self.deps.name.clone();
            return Err(ProduceError::OutcomeUnknown { topic, partition, waited: Duration::ZERO });
        }
        let TopicPartition { topic, partition } = self.deps.name.clone();
        let (epoch, index) = (position.term.epoch(), position.index);
        Ok(Receipt {
            topic,
            partition,
            base_offset,
            count,
            epoch,
            index,
            durable_on,
            duplicate,
            log_append_time: stamp,
            log_start: self.deps.group.read(Partition::log_start),
        })
    }

    fn error(&self, failed: Failed) -> ProduceError {
        let TopicPartition { topic, partition } = self.deps.name.clone();
        match failed {
            Failed::NotLeader => ProduceError::NotLeader { topic, partition, leader: (self.deps.leader_hint)() },
            Failed::NotEnoughReplicas { waited } => ProduceError::NotEnoughReplicas { topic, partition, waited },
            Failed::TimedOut { waited } => ProduceError::TimedOut { topic, partition, waited },
            Failed::OutcomeUnknown { waited } => ProduceError::OutcomeUnknown { topic, partition, waited },
            Failed::OutOfOrderSequence { producer, expected, got } => {
                ProduceError::OutOfOrderSequence { producer, expected, got }
            }
            Failed::Fenced { producer, current, got } => ProduceError::FencedProducer { producer, epoch: got, current },
            Failed::WrongOffset { expected, actual } => ProduceError::WrongOffset { expected, actual },
            Failed::TimestampTooFar { timestamp } => {
                let ahead_max = self.deps.rules.lock().expect("no holder panics").timestamp_after_max;
                ProduceError::InvalidTimestamp { timestamp, ahead_max }
            }
            Failed::TimestampTooOld { timestamp } => {
                let behind_max = self.deps.rules.lock().expect("no holder panics").timestamp_before_max;
                ProduceError::TimestampTooOld { timestamp, behind_max }
            }
            Failed::DiskFull { broker, free_bytes, reserve_bytes } => {
                ProduceError::DiskFull { broker, free_bytes, reserve_bytes }
            }
            Failed::QueueFull => {
                self.deps.intake.refused_at(Limit::ProduceQueue);
                let reason = format!("too many batches of {topic}-{partition} wait already");
                ProduceError::Unavailable { reason }
            }
            Failed::Moving => {
                self.deps.intake.refused_at(Limit::LeadershipMove);
                let reason = format!("the leadership of {topic}-{partition} is being moved");
                ProduceError::Unavailable { reason }
            }
        }
    }

    /// The group is gone: nothing that still waits in the channel was proposed.
    fn refuse_rest(&mut self) {
        self.arrived.close();
        let mut rest = VecDeque::new();
        while let Ok(produce) = self.arrived.try_recv() {
            rest.push_back((produce.reply, Err(Failed::NotLeader)));
        }
        self.answer(rest);
    }
}

async fn admitted(admitting: &mut Option<Admission>) -> (FlightId, Pending) {
    admitting.as_mut().expect("polled only while there is one").await
}

/// Copies the batches once, to where they will lie for good.
fn build(plan: &Plan) -> Bytes {
    let bytes = plan.batches.iter().map(|(batch, _)| batch.len()).sum();
    let mut builder = AppendBuilder::new(plan.base_offset, plan.term.epoch(), plan.append_time, bytes);
    for (batch, header) in &plan.batches {
        builder.push(batch, header, plan.stamp);
    }
    builder.finish()
}

impl TopicRules {
    fn checks(&self, clock_agrees: bool) -> Rules {
        let timestamps = TimestampBounds {
            before_max_ms: ms_i64(self.timestamp_before_max),
            after_max_ms: ms_i64(self.timestamp_after_max),
        };
        Rules { log_append_time: self.log_append_time, timestamps, clock_agrees }
    }
}
