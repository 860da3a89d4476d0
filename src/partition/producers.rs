//! What a partition remembers of idempotent producers, so that a retry is not appended twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::record::BatchHeader;
use crate::types::{EntryPosition, Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

/// Batches remembered of one producer: as many as Kafka's clients keep in flight, and as Kafka keeps.
pub(super) const BATCHES_MAX: usize = 5;

/// One batch in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub base_sequence: Sequence,
    pub last_sequence: Sequence,
    pub base_offset: Offset,
    /// The entry that holds it, for the receipt of a retry.
    pub position: EntryPosition,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownProducer {
    pub epoch: ProducerEpoch,
    /// Append clock of its last batch: the only time its expiry knows (SAFETY M4).
    pub last_append: WallMs,
    /// Oldest first, all of `epoch`. Invariant: 1 to [`BATCHES_MAX`].
    pub batches: VecDeque<Remembered>,
}

impl KnownProducer {
    /// The batch with exactly these sequences, if it is remembered.
    pub(super) fn find(&self, base_sequence: Sequence, last_sequence: Sequence) -> Option<&Remembered> {
        self.batches.iter().find(|b| b.base_sequence == base_sequence && b.last_sequence == last_sequence)
    }
}

/// All producers of a partition, bounded in number and age.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, KnownProducer>,
    /// The same, oldest first; ids break ties, so that all replicas evict alike.
    by_age: BTreeSet<(WallMs, ProducerId)>,
}

impl Producers {
    /// Puts back what was encoded. The caller has checked it.
    pub(super) fn from_entries(entries: impl Iterator<Item = (ProducerId, KnownProducer)>) -> Producers {
        let by_id: BTreeMap<ProducerId, KnownProducer> = entries.collect();
        let by_age = by_id.iter().map(|(id, producer)| (producer.last_append, *id)).collect();
        Producers { by_id, by_age }
    }

    /// All producers, in order of their ids.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&ProducerId, &KnownProducer)> {
        self.by_id.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The producer, unless its state would be expired by an entry with this append time.
    pub(super) fn get(&self, id: ProducerId, clock: WallMs, expiry_ms: i64) -> Option<&KnownProducer> {
        self.by_id.get(&id).filter(|producer| !expired(producer.last_append, clock, expiry_ms))
    }

    /// Makes every producer younger by so much, to no less than nothing: time that passed on a clock only.
    pub(super) fn rejuvenate(&mut self, ms: i64) {
        let later = |at: WallMs| WallMs(at.0.saturating_add(ms));
        self.by_id.values_mut().for_each(|producer| producer.last_append = later(producer.last_append));
        self.by_age = std::mem::take(&mut self.by_age).into_iter().map(|(at, id)| (later(at), id)).collect();
    }

    /// Forgets producers whose last append is `expiry_ms` or more before `clock`.
    pub(super) fn expire(&mut self, clock: WallMs, expiry_ms: i64) {
        while let Some(&(last_append, id)) = self.by_age.first() {
            if !expired(last_append, clock, expiry_ms) {
                return;
            }
            self.by_age.pop_first();
            self.by_id.remove(&id);
        }
    }

    /// Remembers a batch that is in the log now. Returns how many other producers were forgotten to
    /// keep within `producers_max`: the oldest first.
    pub(super) fn remember(
        &mut self,
        header: &BatchHeader,
        position: EntryPosition,
        clock: WallMs,
        producers_max: u64,
    ) -> u64 {
        let id = header.producer_id;
        let batch = Remembered {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            position,
        };
        let mut evicted = 0;
        if !self.by_id.contains_key(&id) {
            while self.by_id.len() as u64 >= producers_max.max(1) {
                let (_, oldest) = self.by_age.pop_first().expect("both maps hold the same producers");
                self.by_id.remove(&oldest);
                evicted += 1;
            }
        }
        let epoch = header.producer_epoch;
        let fresh = || KnownProducer { epoch, last_append: clock, batches: VecDeque::with_capacity(BATCHES_MAX) };
        let producer = self.by_id.entry(id).or_insert_with(fresh);
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        self.by_age.remove(&(producer.last_append, id));
        producer.last_append = clock;
        self.by_age.insert((clock, id));
        evicted
    }
}

/// Kafka's rule: state lives while it is younger than the expiry.
fn expired(last_append: WallMs, clock: WallMs, expiry_ms: i64) -> bool {
    clock.0.saturating_sub(last_append.0) >= expiry_ms
}
