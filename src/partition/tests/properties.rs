//! Laws that hold for any history: replicas agree, offsets are dense, hostile bytes are errors, and no
//! trouble in the proposal pipeline puts a batch into the log twice.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Small enough that every rule is met within a few entries.
const LIMITS: PartitionLimits = PartitionLimits {
    checkpoint_bytes: 500,
    segment_ms: 1000,
    index_bytes: 300,
    producers_max: 3,
    producer_expiry_ms: 3000,
};

/// One entry of a history.
#[derive(Clone, Debug)]
enum Step {
    /// Batches: records, timestamp, producer id (-1: none), epoch, sequence. `ahead`: by how far the
    /// base offset misses the next one.
    Append { ahead: i64, time: i64, batches: Vec<(u32, i64, i64, i16, i32)> },
    /// `back`: how far before the end.
    Trim { back: i64, time: i64 },
    /// Other limits of segments.
    Resize { bytes: u64, ms: i64, time: i64 },
    /// A new leader.
    Blank,
}

fn step() -> impl Strategy<Value = Step> {
    let one = (1..4u32, -1..9_000i64, -1..6i64, 0..2i16, 0..20i32);
    let batches = prop::collection::vec(one, 1..4);
    let ahead = prop_oneof![5 => Just(0), 1 => -3..4i64];
    prop_oneof![
        6 => (ahead, 0..9_000i64, batches).prop_map(|(ahead, time, batches)| Step::Append { ahead, time, batches }),
        2 => (-2..20i64, 0..9_000i64).prop_map(|(back, time)| Step::Trim { back, time }),
        1 => (1..900u64, 1..3_000i64, 0..9_000i64).prop_map(|(bytes, ms, time)| Step::Resize { bytes, ms, time }),
        1 => Just(Step::Blank),
    ]
}

fn command(step: &Step, next_offset: Offset, epoch: LeaderEpoch) -> Option<Bytes> {
    match step {
        Step::Append { ahead, time, batches } => {
            let batches: Vec<_> = batches
                .iter()
                .map(|&(records, timestamp, id, epoch, base_sequence)| {
                    let (epoch, base_sequence) = (ProducerEpoch(epoch), Sequence(base_sequence));
                    let producer = (id >= 0).then_some(Producer { id: ProducerId(id), epoch, base_sequence });
                    batch(records, 20, WallMs(timestamp), producer)
                })
                .collect();
            let base_offset = Offset((next_offset.0 + ahead).max(0));
            Some(append(base_offset, epoch, WallMs(*time), &batches))
        }
        Step::Trim { back, time } => Some(encode_trim(WallMs(*time), Offset(next_offset.0 - back))),
        Step::Resize { bytes, ms, time } => {
            Some(encode_resize(WallMs(*time), SegmentLimits { bytes: *bytes, ms: *ms }))
        }
        Step::Blank => None,
    }
}

/// What one replica did: for each entry its position and command, and what came of it.
struct History {
    entries: Vec<(EntryPosition, Option<Bytes>)>,
    applied: Vec<Option<Applied>>,
    /// Number of the entry it was taken before, and its encoding.
    checkpoints: Vec<(usize, Bytes)>,
    end: Bytes,
}

/// Applies the steps on a fresh replica and checks, after each, what must always hold.
fn first_replica(steps: &[Step]) -> History {
    let mut partition = Partition::new(LIMITS);
    let mut history = History { entries: vec![], applied: vec![], checkpoints: vec![], end: Bytes::new() };
    let (mut term, mut last) = (1, None);
    for (i, step) in steps.iter().enumerate() {
        term += u64::from(matches!(step, Step::Blank));
        let position = at(term, i as u64);
        let command = command(step, partition.next_offset(), Term(term).epoch());
        let before = partition.clone();
        history.applied.push(command.as_ref().map(|command| {
            let (applied, checkpoint) = drive(&mut partition, last, position, command);
            history.checkpoints.extend(checkpoint.map(|checkpoint| (i, checkpoint)));
            check_laws(&before, &partition, &applied, command);
            applied
        }));
        history.entries.push((position, command));
        last = Some(position);
    }
    history.end = partition.encode();
    history
}

fn check_laws(before: &Partition, after: &Partition, applied: &Applied, command: &Bytes) {
    match response(applied) {
        PartitionResponse::Appended { base_offset } => {
            let records = AppendView::parse(command).unwrap().record_count;
            assert_eq!(base_offset, before.next_offset(), "offsets are dense");
            assert_eq!(after.next_offset().0, base_offset.0 + i64::from(records), "offsets are dense");
            assert_eq!(after.log_start(), before.log_start());
            let first = after.checkpoints().len() > before.checkpoints().len() || base_offset == Offset(0);
            assert!(applied.index_point.is_some() || !first, "a checkpoint is followed by an index point");
        }
        PartitionResponse::Dead => assert_eq!(before.encode(), after.encode(), "dead entries change nothing"),
        PartitionResponse::LogStart { log_start } => {
            assert_eq!((after.log_start(), after.next_offset()), (log_start, before.next_offset()));
        }
        PartitionResponse::TrimOutOfRange { before: wanted, next_offset } => {
            assert!(wanted > next_offset);
            assert_eq!(before.encode(), after.encode(), "a refused trim changes nothing");
        }
        PartitionResponse::Resized => {
            assert_eq!((after.log_start(), after.next_offset()), (before.log_start(), before.next_offset()));
            assert_eq!(after.checkpoints(), before.checkpoints());
        }
    }
    assert!(before.log_start() <= after.log_start() && after.log_start() <= after.next_offset());
    assert!(before.purge_point() <= after.purge_point(), "the purge point never goes back");
    assert!(after.producer_count() as u64 <= LIMITS.producers_max);
    assert!(after.retained_bytes() <= after.bytes);
    let (start, end) = (after.log_start().0, after.next_offset().0);
    let behind: Vec<u64> = (start - 1..=end + 1).map(|offset| after.bytes_from(Offset(offset))).collect();
    assert!(behind.is_sorted_by(|one, next| one >= next), "less lies behind a later offset: {behind:?}");
    assert_eq!((behind.first(), behind.last()), (Some(&after.retained_bytes()), Some(&0)));
    let kept = after.kept_segments();
    let places = kept.iter().flat_map(|segment| [segment.from.0, segment.end.0]);
    let mut borders: Vec<i64> = [start].into_iter().chain(places).chain([end]).collect();
    assert!(borders.is_sorted() && kept.iter().all(|segment| segment.from < segment.end), "{kept:?}");
    borders.dedup();
    assert_eq!(borders.len(), kept.len() + 1, "no record lies in no segment: {kept:?} of {start}..{end}");
    if let PartitionResponse::LogStart { .. } = response(applied) {
        let empty = after.log_start() == after.next_offset();
        assert_eq!(empty, after.retained_bytes() == 0, "nothing retained is no bytes, and the other way round");
    }
}

/// Applies the history from entry `from` on, and compares what came of each entry.
fn follow(mut partition: Partition, history: &History, from: usize, reload_every: usize) {
    for i in from..history.entries.len() {
        let (position, command) = &history.entries[i];
        let last = i.checked_sub(1).map(|last| history.entries[last].0);
        if let Some(command) = command {
            let (applied, checkpoint) = drive(&mut partition, last, *position, command);
            assert_eq!(Some(&applied), history.applied[i].as_ref(), "entry {position}");
            let theirs = history.checkpoints.iter().find(|(before, _)| *before == i);
            // The one it began from was taken already.
            if i > from || checkpoint.is_some() {
                assert_eq!(checkpoint.as_ref(), theirs.map(|(_, encoded)| encoded), "checkpoint before {position}");
            }
        }
        if i % reload_every == 0 {
            partition = Partition::decode(&partition.encode()).expect("our own encoding");
        }
    }
    assert_eq!(partition.encode(), history.end);
}

proptest! {
    #[test]
    fn replicas_agree_from_wherever_they_begin(
        steps in prop::collection::vec(step(), 1..60),
        reload_every in 1..9usize,
    ) {
        let history = first_replica(&steps);
        follow(Partition::new(LIMITS), &history, 0, reload_every);
        for (from, checkpoint) in &history.checkpoints {
            follow(Partition::decode(checkpoint).expect("our own encoding"), &history, *from, usize::MAX);
        }
    }

    #[test]
    fn hostile_states_never_panic(
        random: Vec<u8>,
        steps in prop::collection::vec(step(), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let look = |bytes: &[u8]| {
            if let Ok(partition) = Partition::decode(bytes) {
                partition.retained_bytes();
                partition.purge_point();
                partition.retention_offset(WallMs(i64::MIN), Some(1), Some(1));
                partition.end_offset_for_epoch(LeaderEpoch(1), partition.next_offset());
                prop_assert!(Partition::decode(&partition.encode()).is_ok());
            }
            Ok(())
        };
        look(&random)?;
        look(&[&[1], &random[..]].concat())?;
        let mut bytes = first_replica(&steps).end.to_vec();
        prop_assert!(Partition::decode(&bytes[..cut.index(bytes.len())]).is_err());
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        look(&bytes)?;
    }

    #[test]
    fn no_refusal_or_leader_change_appends_a_batch_twice(
        events in prop::collection::vec(event(), 1..150),
        sloppy: bool,
    ) {
        let mut pipeline = Pipeline::new(sloppy);
        for event in events {
            pipeline.on(event);
        }
        pipeline.finish();
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// A client sends its next batch, if fewer than five are unacknowledged.
    Send { client: usize },
    /// A client sends everything unacknowledged again, in order.
    Resend { client: usize },
    /// The appender proposes what is queued, up to this many batches.
    Propose { batches: usize, refused: bool },
    /// The oldest outstanding proposal is applied.
    Commit,
    /// This many outstanding proposals still commit, the rest are lost; all that is queued is dropped.
    NewLeader { kept: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3usize).prop_map(|client| Event::Send { client }),
        3 => (0..3usize).prop_map(|client| Event::Resend { client }),
        6 => (1..4usize, prop::bool::weighted(0.2)).prop_map(|(batches, refused)| Event::Propose { batches, refused }),
        5 => Just(Event::Commit),
        1 => (0..4usize).prop_map(|kept| Event::NewLeader { kept }),
    ]
}

/// A batch as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    client: usize,
    sequence: i32,
}

/// The appender of SAFETY M2 in miniature, three idempotent clients, and the log that comes of them.
/// A sloppy one goes on proposing after a refusal: that must cost time, never a duplicate.
struct Pipeline {
    sloppy: bool,
    partition: Partition,
    overlay: Overlay,
    term: u64,
    index: u64,
    tickets: u64,
    queue: VecDeque<Sent>,
    outstanding: VecDeque<(Bytes, Vec<(Ticket, Sent)>)>,
    /// Refused or dead in this term, in the order they were first proposed.
    again: BTreeSet<(Ticket, Sent)>,
    next_sequence: [i32; 3],
    unacknowledged: [BTreeSet<i32>; 3],
    log: Vec<Sent>,
}

impl Pipeline {
    fn new(sloppy: bool) -> Pipeline {
        let partition = Partition::default();
        Pipeline {
            sloppy,
            overlay: Overlay::new(&partition),
            partition,
            term: 1,
            index: 0,
            tickets: 0,
            queue: VecDeque::new(),
            outstanding: VecDeque::new(),
            again: BTreeSet::new(),
            next_sequence: [0; 3],
            unacknowledged: Default::default(),
            log: vec![],
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Send { client } if self.unacknowledged[client].len() < 5 => {
                let sequence = self.next_sequence[client];
                self.next_sequence[client] += 1;
                self.unacknowledged[client].insert(sequence);
                self.queue.push_back(Sent { client, sequence });
            }
            Event::Send { .. } => {}
            Event::Resend { client } => {
                self.queue.extend(self.unacknowledged[client].iter().map(|&sequence| Sent { client, sequence }));
            }
            Event::Propose { batches, refused } => self.propose(batches, refused),
            Event::Commit => self.commit(),
            Event::NewLeader { kept } => self.new_leader(kept),
        }
    }

    fn propose(&mut self, batches: usize, refused: bool) {
        if !self.again.is_empty() && !self.sloppy {
            return;
        }
        let mut builder = AppendBuilder::new(self.overlay.next_offset(), Term(self.term).epoch(), WallMs(0), 0);
        let mut tickets = vec![];
        while tickets.len() < batches
            && let Some(sent) = self.queue.pop_front()
        {
            let producer = Producer {
                id: ProducerId(sent.client as i64),
                epoch: ProducerEpoch(0),
                base_sequence: Sequence(sent.sequence),
            };
            let (bytes, header) = batch(1, 1, WallMs(0), Some(producer));
            let params = CheckParams {
                now: WallMs(0),
                record_now: WallMs(0),
                expected_offset: None,
                timestamps: Some(TimestampBounds { before_max_ms: 0, after_max_ms: 0 }),
            };
            match self.overlay.check(&self.partition, &header, &params) {
                Verdict::Append { base_offset } => {
                    let ticket = Ticket(self.tickets);
                    self.tickets += 1;
                    assert_eq!(self.overlay.push(ticket, &header), base_offset);
                    assert_eq!(builder.push(&bytes, &header, None), base_offset);
                    tickets.push((ticket, sent));
                }
                Verdict::DuplicateCommitted { .. } => {
                    assert!(self.log.contains(&sent), "{sent:?} is called committed and is not in the log");
                    self.unacknowledged[sent.client].remove(&sent.sequence);
                }
                Verdict::DuplicatePending { .. } => assert!(self.overlay.pending() > 0),
                // Its client will send it again, with those before it.
                Verdict::OutOfOrderSequence { .. } => {}
                verdict @ (Verdict::Fenced { .. }
                | Verdict::WrongOffset { .. }
                | Verdict::TimestampTooFar { .. }
                | Verdict::TimestampTooOld { .. }) => {
                    panic!("{verdict:?} for {sent:?}")
                }
            }
        }
        if tickets.is_empty() {
            return;
        }
        if refused {
            self.again(tickets);
        } else {
            self.outstanding.push_back((builder.finish(), tickets));
        }
        self.resync_if_drained();
    }

    fn commit(&mut self) {
        let Some((command, tickets)) = self.outstanding.pop_front() else {
            return;
        };
        let last = (self.index > 0).then(|| at(self.term, self.index));
        self.index += 1;
        let (applied, _) = drive(&mut self.partition, last, at(self.term, self.index), &command);
        match response(&applied) {
            PartitionResponse::Appended { .. } => {
                for (ticket, sent) in tickets {
                    self.overlay.settle(ticket);
                    assert!(!self.log.contains(&sent), "{sent:?} is in the log twice");
                    self.log.push(sent);
                    self.unacknowledged[sent.client].remove(&sent.sequence);
                }
            }
            PartitionResponse::Dead => self.again(tickets),
            response => panic!("{response:?} to an append"),
        }
        self.resync_if_drained();
    }

    fn again(&mut self, tickets: Vec<(Ticket, Sent)>) {
        for (ticket, sent) in tickets {
            self.overlay.settle(ticket);
            self.again.insert((ticket, sent));
        }
    }

    fn resync_if_drained(&mut self) {
        if self.outstanding.is_empty() && !self.again.is_empty() {
            self.overlay.resync(&self.partition);
            let again = std::mem::take(&mut self.again).into_iter().map(|(_, sent)| sent);
            self.queue = again.chain(self.queue.drain(..)).collect();
        }
    }

    fn new_leader(&mut self, kept: usize) {
        self.outstanding.truncate(kept);
        while !self.outstanding.is_empty() {
            self.commit();
        }
        self.term += 1;
        self.queue.clear();
        self.again.clear();
        self.overlay = Overlay::new(&self.partition);
        // A client must begin with what it has no answer for: a producer that the log does not know may
        // begin anywhere, so nobody could tell that an earlier batch is missing.
        for client in 0..3 {
            self.on(Event::Resend { client });
        }
    }

    /// The trouble is over: everything that was sent gets in, once and in order.
    fn finish(mut self) {
        while !self.outstanding.is_empty() {
            self.commit();
        }
        self.sloppy = false;
        for client in 0..3 {
            self.on(Event::Resend { client });
        }
        while !self.queue.is_empty() {
            self.propose(2, false);
            self.commit();
        }
        for client in 0..3 {
            let sequences: Vec<i32> = self.log.iter().filter(|s| s.client == client).map(|s| s.sequence).collect();
            let sent: Vec<i32> = (0..self.next_sequence[client]).collect();
            assert_eq!(sequences, sent, "client {client}");
            assert!(self.unacknowledged[client].is_empty());
        }
    }
}
