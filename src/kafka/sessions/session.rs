//! What one fetch session remembers: partitions, in the order of their turns, and what was last said of each.

use std::{collections::BTreeMap, sync::Arc};

use crate::types::{LeaderEpoch, Offset, TopicId};

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    Name(Arc<str>),
    /// All zeros: the request names none.
    Id(TopicId),
}

impl TopicKey {
    pub fn name_bytes(&self) -> usize {
        match self {
            TopicKey::Name(name) => name.len(),
            TopicKey::Id(_) => 0,
        }
    }
}

/// What is wanted of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionWanted {
    pub topic: TopicKey,
    pub partition: i32,
    pub offset: Offset,
    pub bytes_max: i32,
    /// The epoch that the client takes for the present one. None: it does not say.
    pub epoch: Option<LeaderEpoch>,
}

/// What an answer has to say of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSeen {
    pub has_records: bool,
    pub is_refused: bool,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// What the client heard of a partition last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    high_watermark: Offset,
    log_start: Offset,
}

/// No offset: whatever is seen next is news.
const NOTHING: Heard = Heard { high_watermark: Offset(-1), log_start: Offset(-1) };

#[derive(Debug)]
struct Place {
    wanted: PartitionWanted,
    heard: Heard,
}

/// The epoch that follows one. 0 begins a session and never comes again.
pub fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// See the module's head.
#[derive(Debug)]
pub struct FetchSession {
    /// The epoch that its next request has.
    pub epoch: i32,
    /// Its requests name topics by their ids, all of them.
    pub by_id: bool,
    /// Who comes first may use up an answer's room.
    turns: BTreeMap<u64, Place>,
    /// Where each partition stands in `turns`.
    numbers: BTreeMap<(TopicKey, i32), u64>,
    next: u64,
    name_bytes: usize,
}

impl FetchSession {
    pub fn new(by_id: bool) -> FetchSession {
        let (turns, numbers) = (BTreeMap::new(), BTreeMap::new());
        FetchSession { epoch: next_epoch(0), by_id, turns, numbers, next: 0, name_bytes: 0 }
    }

    pub fn partitions(&self) -> usize {
        self.turns.len()
    }

    /// Bytes of the names of all its partitions' topics.
    pub fn name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// Takes what a request says of partitions: new ones come last, of others only what is wanted changes. False: they
    /// would be more than `partitions_max`, or one is of a topic that cannot be there; some may be taken.
    pub fn want(&mut self, wanted: &[PartitionWanted], partitions_max: usize, name_bytes_max: usize) -> bool {
        for wanted in wanted {
            let key = (wanted.topic.clone(), wanted.partition);
            if let Some(number) = self.numbers.get(&key) {
                self.turns.get_mut(number).expect("each number has a turn").wanted = wanted.clone();
                continue;
            }
            let name_bytes = wanted.topic.name_bytes();
            if self.partitions() >= partitions_max || name_bytes > name_bytes_max {
                return false;
            }
            self.name_bytes += name_bytes;
            self.numbers.insert(key, self.next);
            self.turns.insert(self.next, Place { wanted: wanted.clone(), heard: NOTHING });
            self.next += 1;
        }
        true
    }

    pub fn forget(&mut self, forgotten: &[(TopicKey, i32)]) {
        for key in forgotten {
            if let Some(number) = self.numbers.remove(key) {
                self.turns.remove(&number);
                self.name_bytes -= key.0.name_bytes();
            }
        }
    }

    /// All that it is about, in order.
    pub fn wanted(&self) -> Vec<PartitionWanted> {
        self.turns.values().map(|place| place.wanted.clone()).collect()
    }

    /// What of an answer the client has to hear: one for each partition, in the order of [`FetchSession::wanted`]. Those with
    /// records wait for their next turn behind all others, so that none of them starves where room is short.
    pub fn hear(&mut self, seen: &[PartitionSeen]) -> Vec<bool> {
        assert_eq!(seen.len(), self.turns.len(), "an answer says something of every partition of its session");
        let mut served = Vec::new();
        let mut news = Vec::with_capacity(seen.len());
        for ((number, place), seen) in self.turns.iter_mut().zip(seen) {
            let now = Heard { high_watermark: seen.high_watermark, log_start: seen.log_start };
            news.push(seen.has_records || seen.is_refused || now != place.heard);
            // What follows a refusal is news in any case.
            place.heard = if seen.is_refused { NOTHING } else { now };
            if seen.has_records {
                served.push(*number);
            }
        }
        for number in served {
            let place = self.turns.remove(&number).expect("it was just seen");
            *self.numbers.get_mut(&(place.wanted.topic.clone(), place.wanted.partition)).expect("it has a number") =
                self.next;
            self.turns.insert(self.next, place);
            self.next += 1;
        }
        news
    }
}
