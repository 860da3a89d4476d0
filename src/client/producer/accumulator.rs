//! Records on their way into batches: partitioning, lingering, the memory budget, and the batches
//! that `core` orders. Pure but for the random numbers it is handed.
//!
//! A batch is closed when it is full, or when its linger is over *and* it could go out at once: while
//! a partition's window is full, its open batch goes on growing, so a slow cluster gets larger batches.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Acks, Delivery, Outcome, ProducerOptions, Receipt, SendError,
    batch::{Batch, encode_error, record_bytes},
    core::{Core, Ended, Item, Now},
};
use crate::{
    client::{
        error::ClientError,
        partitioner::{Partitioner, partition_of_key},
    },
    record::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchBuilder, Codec, Record},
    seam::Rng,
    types::{Offset, PartitionId},
};

/// A topic of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicHandle(usize);

#[derive(Debug)]
struct Open {
    builder: BatchBuilder,
    tags: Vec<u64>,
    bytes: usize,
    since: Now,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub topic: Arc<str>,
    topic_at: usize,
    pub partition: PartitionId,
    open: Option<Open>,
    /// The offset that the next batch must expect, if this is a compare-and-append.
    expected: Option<Offset>,
    is_dirty: bool,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    slots: Vec<usize>,
    sticky: usize,
    turn: usize,
    /// A batch is closed at this size: what the options say, or less if the topic takes no more.
    batch_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Accumulator {
    pub options: ProducerOptions,
    pub core: Core<Batch, Receipt>,
    pub slots: Vec<Slot>,
    id: Option<(i64, i16)>,
    topics: Vec<Topic>,
    by_name: HashMap<Arc<str>, usize>,
    /// The slots that are to be looked at, each at most once.
    dirty: VecDeque<usize>,
    /// When open batches are due, oldest first: the linger is the same for all.
    lingering: VecDeque<(Now, usize)>,
    bytes: usize,
    is_flushing: bool,
    pub is_closed: bool,
}

impl Accumulator {
    pub fn new(options: ProducerOptions, id: Option<(i64, i16)>) -> Accumulator {
        Accumulator {
            core: Core::new(options.acks != Acks::None),
            options,
            slots: Vec::new(),
            id,
            topics: Vec::new(),
            by_name: HashMap::new(),
            dirty: VecDeque::new(),
            lingering: VecDeque::new(),
            bytes: 0,
            is_flushing: false,
            is_closed: false,
        }
    }

    /// A topic, or more partitions of one that is there.
    pub fn add_topic(&mut self, name: &str, partitions: usize) -> TopicHandle {
        let topic = match self.by_name.get(name) {
            Some(&topic) => topic,
            None => {
                let name: Arc<str> = name.into();
                self.by_name.insert(name.clone(), self.topics.len());
                let batch_bytes = self.options.batch_bytes;
                self.topics.push(Topic { name, slots: Vec::new(), sticky: 0, turn: 0, batch_bytes });
                self.topics.len() - 1
            }
        };
        let Topic { name, slots, .. } = &mut self.topics[topic];
        for partition in slots.len()..partitions {
            slots.push(self.core.add_partition(self.id.map_or(0, |(_, epoch)| epoch)));
            self.slots.push(Slot {
                topic: name.clone(),
                topic_at: topic,
                partition: PartitionId(partition as i32),
                open: None,
                expected: None,
                is_dirty: false,
            });
        }
        TopicHandle(topic)
    }

    /// The largest batch that the topic takes, where that is known: from now on batches are closed before it.
    pub fn limit_batches(&mut self, topic: TopicHandle, bytes_max: Option<usize>) {
        let asked = self.options.batch_bytes;
        let fits = bytes_max.map_or(asked, |max| {
            // What does not compress grows by less than this.
            let slack = if self.options.compression == Codec::None { 0 } else { max / 64 };
            max.saturating_sub(BATCH_HEADER_BYTES + slack)
        });
        self.topics[topic.0].batch_bytes = asked.min(fits);
    }

    fn batch_bytes(&self, slot: usize) -> usize {
        self.topics[self.slots[slot].topic_at].batch_bytes
    }

    pub fn topic_names(&self) -> Vec<String> {
        self.topics.iter().map(|t| t.name.to_string()).collect()
    }

    pub fn expect_offset(
        &mut self,
        topic: TopicHandle,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<(), ClientError> {
        let slot = self.slot_of(topic, partition)?;
        self.slots[slot].expected = Some(offset);
        Ok(())
    }

    fn slot_of(&self, topic: TopicHandle, partition: PartitionId) -> Result<usize, ClientError> {
        let topic = &self.topics[topic.0];
        let slot = usize::try_from(partition.0).ok().and_then(|p| topic.slots.get(p));
        slot.copied().ok_or_else(|| ClientError::NoPartition {
            topic: topic.name.to_string(),
            partition,
            count: topic.slots.len() as i32,
        })
    }

    /// Takes one record. Returns whether the driver has something new to look at.
    pub fn append(
        &mut self,
        topic: TopicHandle,
        partition: Option<PartitionId>,
        record: &Record,
        tag: u64,
        now: Now,
        rng: &Rng,
    ) -> Result<bool, SendError> {
        let bytes = record_bytes(record);
        if bytes > BATCH_BYTES_MAX {
            return Err(ClientError::RecordTooLarge { bytes, max: BATCH_BYTES_MAX }.into());
        }
        // One record is always taken, whatever its size: else a large one would wait for ever.
        if self.bytes > 0 && self.bytes + bytes > self.options.buffer_bytes_max {
            return Err(SendError::Full);
        }
        let mut slot = match partition {
            Some(partition) => self.slot_of(topic, partition)?,
            None => self.choose(topic, record, rng),
        };
        let mut wake = self.seal_if_full(slot, bytes);
        if wake {
            self.unstick(slot, rng);
            if partition.is_none() && self.is_sticky(record) {
                // Goes with the ones after it, instead of alone where it came too late.
                slot = self.choose(topic, record, rng);
                self.seal_if_full(slot, bytes);
            }
        }
        let (codec, batch_bytes) = (self.options.compression, self.batch_bytes(slot));
        let s = &mut self.slots[slot];
        let is_new = s.open.is_none();
        let open = s.open.get_or_insert_with(|| Open {
            builder: BatchBuilder::new(codec),
            tags: Vec::new(),
            bytes: 0,
            since: now,
        });
        open.builder.push(record).map_err(encode_error)?;
        open.tags.push(tag);
        open.bytes += bytes;
        self.bytes += bytes;
        if is_new {
            self.lingering.push_back((now + self.options.linger, slot));
            wake = true;
        }
        if open.bytes >= batch_bytes {
            self.seal(slot);
            self.unstick(slot, rng);
            wake = true;
        }
        Ok(wake)
    }

    /// Closes the slot's batch if so many more bytes do not fit it.
    fn seal_if_full(&mut self, slot: usize, bytes: usize) -> bool {
        let batch_bytes = self.batch_bytes(slot);
        let is_full = |open: &Open| open.bytes + bytes > batch_bytes;
        let is_full = self.slots[slot].open.as_ref().is_some_and(is_full);
        if is_full {
            self.seal(slot);
        }
        is_full
    }

    fn is_sticky(&self, record: &Record) -> bool {
        match self.options.partitioner {
            Partitioner::Sticky => true,
            Partitioner::Key => record.key.is_none(),
            Partitioner::RoundRobin | Partitioner::Random => false,
        }
    }

    fn choose(&mut self, topic: TopicHandle, record: &Record, rng: &Rng) -> usize {
        let topic = &mut self.topics[topic.0];
        let count = topic.slots.len();
        let i = match (self.options.partitioner, &record.key) {
            (Partitioner::Key, Some(key)) => partition_of_key(key, count as i32).0 as usize,
            (Partitioner::Key, None) | (Partitioner::Sticky, _) => topic.sticky,
            (Partitioner::Random, _) => rng.below(count as u64) as usize,
            (Partitioner::RoundRobin, _) => {
                topic.turn = (topic.turn + 1) % count;
                topic.turn
            }
        };
        topic.slots[i]
    }

    /// The sticky partition's batch was closed: the next records go elsewhere.
    fn unstick(&mut self, slot: usize, rng: &Rng) {
        let topic = &mut self.topics[self.slots[slot].topic_at];
        let count = topic.slots.len();
        if count > 1 && topic.slots[topic.sticky] == slot {
            topic.sticky = (topic.sticky + 1 + rng.below(count as u64 - 1) as usize) % count;
        }
    }

    /// Closes a slot's open batch and queues it.
    fn seal(&mut self, slot: usize) {
        let s = &mut self.slots[slot];
        let Some(Open { builder, tags, bytes, since }) = s.open.take() else { return };
        let count = tags.len() as u32;
        let expected = s.expected;
        s.expected = expected.map(|offset| Offset(offset.0.saturating_add(i64::from(count))));
        let batch = Batch::new(builder, tags, bytes);
        let deadline = since + self.options.delivery_timeout;
        self.core.push(slot, Item { batch, count, since, deadline, expected });
        self.mark(slot);
    }

    /// Puts a slot on the list to look at.
    pub fn mark(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.slots[slot].is_dirty, true) {
            self.dirty.push_back(slot);
        }
    }

    /// The next slot to look at.
    pub fn next_dirty(&mut self, now: Now) -> Option<usize> {
        while self.lingering.front().is_some_and(|(due, _)| *due <= now) {
            let (_, slot) = self.lingering.pop_front().expect("there is a first one");
            self.mark(slot);
        }
        let slot = self.dirty.pop_front()?;
        self.slots[slot].is_dirty = false;
        Some(slot)
    }

    /// When the next open batch is due.
    pub fn next_due(&self) -> Option<Now> {
        self.lingering.front().map(|(due, _)| *due)
    }

    /// Closes the slot's open batch if it is due and could go out at once.
    pub fn seal_if_due(&mut self, slot: usize, now: Now, rng: &Rng) {
        let is_flushing = self.is_flushing || self.is_closed;
        let is_due = |open: &Open| is_flushing || open.since + self.options.linger <= now;
        if self.slots[slot].open.as_ref().is_some_and(is_due) && self.core.has_room(slot, now) {
            self.seal(slot);
            self.unstick(slot, rng);
        }
    }

    /// Ends what is past its deadline, open batches included.
    pub fn expire(&mut self, now: Now) {
        for slot in 0..self.slots.len() {
            let is_late = |open: &Open| open.since + self.options.delivery_timeout <= now;
            if self.slots[slot].open.as_ref().is_some_and(is_late) {
                self.seal(slot);
            }
        }
        self.core.expire(now);
    }

    pub fn flush(&mut self) {
        self.is_flushing = true;
        for slot in 0..self.slots.len() {
            if self.slots[slot].open.is_some() {
                self.mark(slot);
            }
        }
    }

    pub fn close(&mut self) {
        self.is_closed = true;
        self.flush();
    }

    /// The slot holds nothing any more?
    pub fn is_idle(&self, slot: usize) -> bool {
        self.slots[slot].open.is_none() && self.core.queued(slot) == 0
    }

    pub fn is_empty(&self) -> bool {
        (0..self.slots.len()).all(|slot| self.is_idle(slot))
    }

    /// A flush ends when everything that was there has been sent or resolved.
    pub fn end_flush(&mut self) {
        if self.is_flushing && self.slots.iter().all(|s| s.open.is_none()) {
            self.is_flushing = false;
        }
    }

    pub fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub fn producer_id(&self) -> Option<i64> {
        self.id.map(|(id, _)| id)
    }

    /// What ended since the last call. Their slots have room again.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        let done = self.core.take_done();
        let mut deliveries = Vec::with_capacity(done.len());
        for done in done {
            self.mark(done.partition);
            let slot = &self.slots[done.partition];
            deliveries.push(Delivery {
                topic: slot.topic.clone(),
                partition: Some(slot.partition),
                tags: done.batch.tags,
                bytes: done.batch.bytes,
                after_failure: done.after_failure,
                outcome: match done.ended {
                    Ended::Acked(receipt) => Outcome::Acked(receipt),
                    Ended::Sent => Outcome::Sent,
                    Ended::Failed(error) => Outcome::Failed(error),
                    Ended::Unknown(error) => Outcome::Unknown(error),
                },
            });
        }
        deliveries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;
    use bytes::Bytes;

    #[test]
    fn sticky_moves_on_when_a_batch_is_full() {
        let options = ProducerOptions { batch_bytes: 200, partitioner: Partitioner::Sticky, ..Default::default() };
        let mut acc = Accumulator::new(options, Some((1, 0)));
        let topic = acc.add_topic("t", 4);
        let rng = Rng::seeded(1);
        let record = Record { value: Some(Bytes::from(vec![0; 100])), ..Default::default() };
        for tag in 0..6 {
            acc.append(topic, None, &record, tag, Now::ZERO, &rng).expect("there is room");
        }
        assert!((0..4).filter(|slot| !acc.is_idle(*slot)).count() > 1);
    }

    #[test]
    fn batches_are_as_large_as_the_topic_takes() {
        let mut acc = Accumulator::new(ProducerOptions::default(), Some((1, 0)));
        let topic = acc.add_topic("t", 1);
        acc.limit_batches(topic, Some(10_000));
        let record = Record { value: Some(Bytes::from(vec![7; 100])), ..Default::default() };
        let rng = Rng::seeded(1);
        for tag in 0..1_000 {
            acc.append(topic, Some(PartitionId(0)), &record, tag, Now::ZERO, &rng).expect("there is room");
        }
        acc.flush();
        let (mut batches, mut records) = (0, 0);
        loop {
            acc.seal_if_due(0, Now::ZERO, &rng);
            let Some(send) = acc.core.next_send(0, Now::ZERO) else { break };
            let (attempt, stamp) = (send.attempt, send.stamp);
            let bytes = send.batch.encode(Some(1), stamp).expect("encodes");
            assert!(bytes.len() <= 10_000, "{}", bytes.len());
            records += send.batch.tags.len();
            batches += 1;
            acc.core.on_acked(attempt, Receipt::of(v1::Receipt::default()));
        }
        assert_eq!((acc.is_idle(0), records), (true, 1_000));
        assert!(batches < 20, "and not much smaller: {batches}");
        // A larger wish of the topic raises nothing, and an unknown one is none.
        acc.limit_batches(topic, Some(1 << 20));
        assert_eq!(acc.batch_bytes(0), ProducerOptions::default().batch_bytes);
        acc.limit_batches(topic, None);
        assert_eq!(acc.batch_bytes(0), ProducerOptions::default().batch_bytes);
    }

    #[test]
    fn memory_is_bounded_but_one_record_always_fits() {
        let options = ProducerOptions { buffer_bytes_max: 100, ..Default::default() };
        let mut acc = Accumulator::new(options, Some((1, 0)));
        let topic = acc.add_topic("t", 1);
        let record = Record { value: Some(Bytes::from(vec![0; 1000])), ..Default::default() };
        let rng = Rng::seeded(1);
        acc.append(topic, None, &record, 0, Now::ZERO, &rng).expect("the first");
        assert_eq!(acc.append(topic, None, &record, 1, Now::ZERO, &rng), Err(SendError::Full));
    }
}
