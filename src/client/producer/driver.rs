//! The one task that moves a producer's batches: it owns the streams and the timers, reads the clock,
//! and tells `core` what happened.
//!
//! Promises: per broker one stream, opened when there is something for it and opened again with growing,
//! jittered pauses; batches of a partition go to its leader in the order `core` gives; a batch that got
//! no answer for [`STALL`] makes it ask who leads now, so a frozen leader costs an election, not a
//! keepalive timeout. Leaves out: which batch may go when (`core`), what is in it (`accumulator`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    Acks, Delivery, Outcome, Receipt, Shared,
    accumulator::Accumulator,
    connection::{self, Entrance, Event, StreamId, Taken},
    core::{AttemptId, Now, Verdict},
};
use crate::{
    client::{
        error::{ClientError, Effect, ErrorCode, LeaderHint},
        metadata::{Leader, Metadata},
        net::Cluster,
    },
    proto::v1,
    types::{BrokerId, Offset, PartitionId, REQUEST_TIMEOUT_MAX},
};

/// How many events may wait for the driver; beyond it streams are read no further.
const EVENTS_MAX: usize = 4096;
/// How many events are taken in one go, before sending again.
const EVENTS_STEP: usize = 256;
/// Deadlines and stalls are looked for this often.
const TICK: Duration = Duration::from_millis(100);
/// The leader is asked for after so long without an answer. A healthy broker answers in milliseconds; if an overloaded
/// one does not, ten metadata requests a second at most do not make it worse.
const STALL: Duration = Duration::from_millis(700);
/// The shortest pause between two tries to reach a broker.
const RECONNECT_MIN_MS: u64 = 50;
const RECONNECT_MAX_MS: u64 = 1000;
/// How long brokers may take at the end, with acks=0, to read what they were sent and to say whether it went wrong.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// What the broker takes for `timeout_ms`.
const TIMEOUT_MS_MAX: u128 = REQUEST_TIMEOUT_MAX.as_millis();

/// A broker's stream.
enum Link {
    Opening(u64),
    Open {
        number: u64,
        to: mpsc::Sender<v1::ProduceRequest>,
        /// The attempts without an outcome. How many of them the connection has taken is counted with acks=0, when no
        /// answer comes.
        outstanding: BTreeMap<AttemptId, (usize, Now)>,
        taken: Taken,
        /// With acks=0 so many of those that the connection has taken, the first ones, are out of `outstanding`.
        handed_over: u64,
    },
    /// The broker is not tried again before this time.
    Paused(Now),
}

pub(super) struct Driver {
    cluster: Cluster,
    shared: Arc<Shared>,
    deliveries: mpsc::UnboundedSender<Delivery>,
    events: mpsc::Receiver<Event>,
    to_events: mpsc::Sender<Event>,
    links: HashMap<BrokerId, (Link, u32)>,
    next_stream: u64,
    leaders: Vec<Option<Leader>>,
    /// The slots that wait for a leader, a link or a pause; they are looked at again when something changed.
    parked: BTreeSet<usize>,
    /// What to report with acks=0, once what was sent before it is reported.
    reports: Vec<ClientError>,
    timers: BTreeSet<(Now, usize)>,
    wants_refresh: bool,
    is_refreshing: bool,
    /// When metadata was last asked for.
    refreshed: Now,
    next_tick: Now,
}

impl Driver {
    pub fn new(cluster: Cluster, shared: Arc<Shared>, deliveries: mpsc::UnboundedSender<Delivery>) -> Driver {
        let (to_events, events) = mpsc::channel(EVENTS_MAX);
        Driver {
            cluster,
            shared,
            deliveries,
            events,
            to_events,
            links: HashMap::new(),
            next_stream: 0,
            leaders: Vec::new(),
            parked: BTreeSet::new(),
            reports: Vec::new(),
            timers: BTreeSet::new(),
            wants_refresh: false,
            is_refreshing: false,
            refreshed: Now::ZERO,
            next_tick: Now::ZERO,
        }
    }

    /// Works until the producer was dropped and everything has ended.
    pub async fn run(mut self) {
        let shared = self.shared.clone();
        let mut batch = Vec::with_capacity(EVENTS_STEP);
        loop {
            if self.step() {
                return self.say_goodbye().await;
            }
            let wake = shared.opened + self.next_wake();
            tokio::select! {
                biased;
                _ = self.events.recv_many(&mut batch, EVENTS_STEP) => {}
                () = shared.work.notified() => {}
                () = sleep_until(wake) => {}
            }
            for event in batch.drain(..) {
                self.on_event(event);
            }
        }
    }

    fn next_wake(&self) -> Duration {
        let due = self.shared.lock().next_due();
        let timer = self.timers.first().map(|(at, _)| *at);
        [due, timer].into_iter().flatten().fold(self.next_tick, Duration::min)
    }

    /// Sends what can be sent. Returns whether all is over.
    fn step(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let now = shared.now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(&mut state, now);
        }
        while let Some(&(at, slot)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            state.mark(slot);
        }
        self.leaders.resize(state.slots.len(), None);
        if state.options.acks == Acks::None {
            self.hand_over(&mut state);
        }
        // Deliveries make room in windows and mark slots; each round ends at least one batch or stops.
        loop {
            while let Some(slot) = state.next_dirty(now) {
                self.pump(&mut state, slot, now);
            }
            let ended = state.take_deliveries();
            if ended.is_empty() {
                break;
            }
            for delivery in ended {
                // Received or not: whoever dropped `Deliveries` does not want to know.
                if let Err(lost) = self.deliveries.send(delivery) {
                    state.release(lost.0.bytes);
                    shared.space.notify_waiters();
                }
            }
        }
        for error in std::mem::take(&mut self.reports) {
            self.report(error);
        }
        state.end_flush();
        let is_over = state.is_closed && state.is_empty();
        let topics = if self.wants_refresh && !self.is_refreshing { Some(state.topic_names()) } else { None };
        drop(state);
        if let Some(topics) = topics {
            self.start_refresh(topics);
        }
        is_over
    }

    fn start_refresh(&mut self, topics: Vec<String>) {
        (self.wants_refresh, self.is_refreshing) = (false, true);
        self.refreshed = self.shared.now();
        let (cluster, events) = (self.cluster.clone(), self.to_events.clone());
        tokio::spawn(async move {
            let got = cluster.refresh(&topics).await;
            let _ = events.send(Event::Refreshed(got)).await; // The driver may have ended.
        });
    }

    fn tick(&mut self, state: &mut Accumulator, now: Now) {
        state.expire(now);
        let is_late = |(_, sent): &(usize, Now)| now.saturating_sub(*sent) > STALL;
        let stalls = self.links.values().any(|(link, _)| match link {
            // Attempts are in the order of sending: the first is the oldest.
            Link::Open { outstanding, .. } => outstanding.values().next().is_some_and(is_late),
            Link::Opening(_) | Link::Paused(_) => true,
        });
        self.wants_refresh |= stalls && !state.is_empty();
        self.wants_refresh |= now.saturating_sub(self.refreshed) > state.options.metadata_age_max;
    }

    /// Takes for sent, with acks=0, what the connections have taken: that is all there will be of it.
    fn hand_over(&mut self, state: &mut Accumulator) {
        for (link, _) in self.links.values_mut() {
            let Link::Open { outstanding, taken, handed_over, .. } = link else { continue };
            // In the order they were handed over, as attempts are numbered.
            while *handed_over < taken.count()
                && let Some((attempt, (slot, _))) = outstanding.pop_first()
            {
                *handed_over += 1;
                state.core.on_handed_over(attempt);
                state.mark(slot);
            }
        }
    }

    /// Waits, with acks=0, until brokers have read everything, and says what went wrong with it. Without it the process
    /// could end with records in its own buffers.
    async fn say_goodbye(mut self) {
        if self.shared.lock().options.acks != Acks::None {
            return;
        }
        // Dropping the way in tells a broker that nothing more comes.
        let mut open: BTreeMap<BrokerId, u64> = BTreeMap::new();
        for (broker, (link, _)) in self.links.drain() {
            if let Link::Open { number, .. } = link {
                open.insert(broker, number);
            }
        }
        let end = tokio::time::Instant::now() + GOODBYE_MAX;
        while !open.is_empty() {
            let event = tokio::time::timeout_at(end, self.events.recv()).await;
            let (id, ended) = match event {
                Ok(Some(Event::Closed(id, ended))) => (id, ended),
                Ok(Some(Event::Opened(..) | Event::Answer(..) | Event::Refreshed(_))) => continue,
                Ok(None) => return,
                Err(_) => {
                    let (what, last) = ("the end of what was sent".into(), "a broker does not read it".into());
                    let (waited, effect) = (GOODBYE_MAX, Effect::Unknown);
                    return self.report(ClientError::Deadline { what, waited, effect, last });
                }
            };
            if open.get(&id.broker) == Some(&id.number) {
                open.remove(&id.broker);
                if let Err(error) = ended {
                    self.report(error);
                }
            }
        }
    }

    /// Reports, with acks=0, that some of what was sent may be lost.
    fn report(&self, error: ClientError) {
        let (topic, partition, tags) = ("".into(), None, vec![]);
        let outcome = Outcome::Dropped(error);
        // Whoever dropped `Deliveries` does not want to know.
        let _ = self.deliveries.send(Delivery { topic, partition, tags, outcome, after_failure: false, bytes: 0 });
    }

    /// Sends what `slot` has, as far as its window, its leader and the link allow.
    fn pump(&mut self, state: &mut Accumulator, slot: usize, now: Now) {
        let rng = self.cluster.world().rng.clone();
        loop {
            state.seal_if_due(slot, now, &rng);
            if let Some(at) = state.core.retry_at(slot, now) {
                self.timers.insert((at, slot));
            }
            if !state.core.is_sendable(slot, now) {
                return;
            }
            let Some(leader) = self.leader(state, slot) else {
                self.wants_refresh = true;
                self.parked.insert(slot);
                return;
            };
            if !self.send_one(state, slot, leader.broker, now) {
                self.parked.insert(slot);
                return;
            }
        }
    }

    fn leader(&mut self, state: &mut Accumulator, slot: usize) -> Option<Leader> {
        if self.leaders[slot].is_none() {
            let s = &state.slots[slot];
            self.leaders[slot] = self.cluster.look(|m| m.leader(&s.topic, s.partition));
        }
        self.leaders[slot]
    }

    /// Hands one batch to the leader's stream; false if there is none now, or it is full.
    fn send_one(&mut self, state: &mut Accumulator, slot: usize, broker: BrokerId, now: Now) -> bool {
        let (link, _) = self.links.entry(broker).or_insert((Link::Paused(Now::ZERO), 0));
        let (to, outstanding) = match link {
            Link::Open { to, outstanding, .. } => (to, outstanding),
            Link::Opening(_) => return false,
            Link::Paused(until) if *until > now => {
                self.timers.insert((*until, slot));
                return false;
            }
            Link::Paused(_) => {
                let number = self.next_stream;
                self.next_stream += 1;
                *link = Link::Opening(number);
                let id = StreamId { broker, number };
                let watched = (state.options.acks == Acks::None).then(|| self.shared.clone());
                tokio::spawn(connection::run(self.cluster.clone(), id, self.to_events.clone(), watched));
                return false;
            }
        };
        let Ok(permit) = to.try_reserve() else {
            // Full: look again soon. Or closed, and `Closed` is on its way.
            self.timers.insert((now + Duration::from_millis(2), slot));
            return false;
        };
        let (acks, id) = (state.options.acks, state.producer_id());
        let Some(send) = state.core.next_send(slot, now) else { return false };
        let (attempt, expected_offset) = (send.attempt, send.expected);
        let timeout_ms = send.answer_within.as_millis().clamp(1, TIMEOUT_MS_MAX) as u32;
        match send.batch.encode(id, send.stamp) {
            Ok(batch) => {
                let s = &state.slots[slot];
                permit.send(request(attempt, &s.topic, s.partition, acks, timeout_ms, expected_offset, batch));
                outstanding.insert(attempt, (slot, now));
            }
            // Nothing was handed over.
            Err(error) => state.core.on_refused(attempt, Verdict::Final, error, now, 0),
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened(id, Entrance { to, taken }) => {
                if let Some((link, failures)) = self.links.get_mut(&id.broker)
                    && matches!(link, Link::Opening(number) if *number == id.number)
                {
                    *failures = 0;
                    let (number, outstanding) = (id.number, BTreeMap::new());
                    *link = Link::Open { number, to, outstanding, taken, handed_over: 0 };
                }
                self.unpark();
            }
            Event::Answer(id, answer) => self.on_answer(id, answer),
            Event::Closed(id, ended) => self.on_closed(id, ended),
            Event::Refreshed(result) => self.on_refreshed(result),
        }
    }

    fn on_answer(&mut self, id: StreamId, answer: v1::ProduceResponse) {
        let attempt = AttemptId(answer.correlation_id);
        let slot = match self.links.get_mut(&id.broker) {
            Some((Link::Open { number, outstanding, .. }, _)) if *number == id.number => outstanding.remove(&attempt),
            Some((Link::Open { .. } | Link::Opening(_) | Link::Paused(_), _)) | None => None,
        };
        // An answer to nothing: a broker's mistake, of no consequence.
        let Some((slot, _)) = slot else { return };
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let now = shared.now();
        state.mark(slot);
        match answer.result {
            Some(v1::produce_response::Result::Receipt(receipt)) => {
                state.core.on_acked(attempt, Receipt::of(receipt));
            }
            Some(v1::produce_response::Result::Error(error)) => {
                let error = ClientError::from_wire(error);
                if let ClientError::Broker(said) = &error
                    && said.code == ErrorCode::NotLeader
                {
                    self.on_not_leader(&mut state, slot, id.broker, said.leader.as_ref());
                }
                self.on_refused(&mut state, attempt, error, now);
                // After a NOT_LEADER whose hint was news there is nothing to wait for.
                if self.leaders[slot].is_some_and(|l| l.broker != id.broker) {
                    state.core.on_leader_changed(slot);
                }
            }
            None => {
                let error = ClientError::BadAnswer { detail: "a produce answer without result".into() };
                state.core.on_refused(attempt, Verdict::Retry, error, now, 0);
            }
        }
    }

    fn on_refused(&mut self, state: &mut Accumulator, attempt: AttemptId, error: ClientError, now: Now) {
        let codec = state.options.compression;
        match verdict(&error) {
            Verdict::TooLarge => {
                // What the topic takes has changed, or was not known.
                self.wants_refresh = true;
                state.core.on_too_large(attempt, error, now, |batch| batch.halve(codec));
            }
            verdict @ (Verdict::Retry | Verdict::Sequence | Verdict::Final) => {
                // A leader that cannot do it may be one no more: others know.
                let is_elsewhere = error.code() != Some(ErrorCode::NotLeader);
                self.wants_refresh |= verdict == Verdict::Retry && is_elsewhere;
                let jitter = self.cluster.world().rng.below(1024) as u32;
                state.core.on_refused(attempt, verdict, error, now, jitter);
            }
        }
    }

    fn on_not_leader(&mut self, state: &mut Accumulator, slot: usize, broker: BrokerId, hint: Option<&LeaderHint>) {
        let s = &state.slots[slot];
        if let Some(hint) = hint.filter(|h| h.broker != broker) {
            self.cluster.learn_leader(&s.topic, s.partition, hint);
        } else {
            self.wants_refresh = true;
        }
        self.leaders[slot] = self.cluster.look(|m| m.leader(&s.topic, s.partition));
        // Metadata still says it is the one that denies it: ask again, and again after the pause.
        self.wants_refresh |= self.leaders[slot].is_none_or(|l| l.broker == broker);
    }

    fn on_closed(&mut self, id: StreamId, ended: Result<(), ClientError>) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let now = shared.now();
        if state.options.acks == Acks::None {
            self.hand_over(&mut state);
        }
        let Some((link, failures)) = self.links.get_mut(&id.broker) else { return };
        let (outstanding, handed_over) = match link {
            Link::Open { number, outstanding, handed_over, .. } if *number == id.number => {
                (std::mem::take(outstanding), *handed_over)
            }
            Link::Opening(number) if *number == id.number => (BTreeMap::new(), 0),
            Link::Open { .. } | Link::Opening(_) | Link::Paused(_) => return,
        };
        let address = format!("broker {}", id.broker);
        let error = ended.err().unwrap_or(ClientError::Lost { address, detail: "it ended the stream".into() });
        let step = (RECONNECT_MIN_MS << (*failures).min(6)).min(RECONNECT_MAX_MS);
        *failures = failures.saturating_add(1);
        let rng = &self.cluster.world().rng;
        *link = Link::Paused(now + Duration::from_millis(step / 2 + rng.below(step)));
        let acks = state.options.acks;
        for (attempt, (slot, _)) in outstanding {
            let jitter = rng.below(1024) as u32;
            match acks {
                // The connection has not taken it, so nobody has it.
                Acks::None => {
                    let (address, detail) = (format!("broker {}", id.broker), error.to_string());
                    let unsent = ClientError::Connect { address, detail };
                    state.core.on_refused(attempt, Verdict::Retry, unsent, now, jitter);
                }
                Acks::Leader | Acks::All => state.core.on_lost(attempt, error.clone(), now, jitter),
            }
            state.mark(slot);
        }
        if handed_over > 0 {
            self.reports.push(error.clone());
        }
        for &slot in &self.parked {
            state.core.note(slot, &error);
            state.mark(slot);
        }
        self.parked.clear();
        self.wants_refresh = true;
    }

    fn on_refreshed(&mut self, result: Result<(), ClientError>) {
        self.is_refreshing = false;
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Err(error) = result {
            for &slot in &self.parked {
                state.core.note(slot, &error);
            }
        }
        for name in state.topic_names() {
            let look = |m: &Metadata| (m.topic(&name).map_or(0, <[Leader]>::len), m.batch_bytes_max(&name));
            let (count, bytes_max) = self.cluster.look(look);
            let topic = state.add_topic(&name, count);
            state.limit_batches(topic, bytes_max);
        }
        self.leaders.resize(state.slots.len(), None);
        for slot in 0..state.slots.len() {
            let s = &state.slots[slot];
            let now = self.cluster.look(|m| m.leader(&s.topic, s.partition));
            let known = now.or(self.leaders[slot]);
            let was = std::mem::replace(&mut self.leaders[slot], known);
            if let (Some(was), Some(now)) = (was, now)
                && was.broker != now.broker
            {
                state.core.on_leader_changed(slot);
                state.mark(slot);
            }
        }
        drop(state);
        self.unpark();
    }

    fn unpark(&mut self) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        for slot in std::mem::take(&mut self.parked) {
            state.mark(slot);
        }
    }
}

fn request(
    attempt: AttemptId,
    topic: &str,
    partition: PartitionId,
    acks: Acks,
    timeout_ms: u32,
    expected_offset: Option<Offset>,
    batch: Bytes,
) -> v1::ProduceRequest {
    let acks = match acks {
        Acks::None => v1::Acks::None,
        Acks::Leader => v1::Acks::Leader,
        Acks::All => v1::Acks::All,
    };
    v1::ProduceRequest {
        correlation_id: attempt.0,
        topic: topic.to_string(),
        partition: partition.0,
        acks: acks as i32,
        timeout_ms,
        payload: Some(v1::produce_request::Payload::Batch(batch)),
        expected_offset: expected_offset.map(|offset| offset.0),
    }
}

/// What may be done about a broker's error. The one table of this kind.
fn verdict(error: &ClientError) -> Verdict {
    let or_final = if error.is_retriable() { Verdict::Retry } else { Verdict::Final };
    match error.code() {
        Some(ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer) => Verdict::Sequence,
        Some(ErrorCode::BatchTooLarge) => Verdict::TooLarge,
        // The same stamp again finds out what became of it.
        Some(ErrorCode::OutcomeUnknown) => Verdict::Retry,
        Some(
            ErrorCode::NotLeader
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::Unavailable
            | ErrorCode::NoMetadataLeader
            | ErrorCode::DiskFull
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownPartition
            | ErrorCode::Internal
            | ErrorCode::Unspecified,
        ) => or_final,
        Some(
            ErrorCode::InvalidRequest
            | ErrorCode::CorruptBatch
            | ErrorCode::FencedProducer
            | ErrorCode::WrongOffset
            | ErrorCode::OffsetOutOfRange
            | ErrorCode::TopicExists
            | ErrorCode::InvalidConfig
            | ErrorCode::InvalidTimestamp
            | ErrorCode::DecompressionFailed
            // Not answers to a produce.
            | ErrorCode::UnknownGroup
            | ErrorCode::UnknownMember
            | ErrorCode::FencedMember
            | ErrorCode::FencedInstance
            | ErrorCode::GroupNotEmpty
            | ErrorCode::GroupProtocolMismatch
            | ErrorCode::LimitReached
            | ErrorCode::TopicReplaced,
        ) => Verdict::Final,
        None => or_final,
    }
}
