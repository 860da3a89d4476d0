//! Readers: one that reads here and there during the run, from whoever answers, and must never be given what is taken
//! back later; and one that reads everything at the end.

use std::{collections::btree_map::Entry, rc::Rc, time::Duration};

use flotilla::{
    broker::{Broker, Caller, FetchError, FetchRequest, Fetched},
    types::{Offset, PartitionId},
};
use tokio::time::{Instant, sleep};

use super::known::{Load, PATIENCE, Place};
use crate::load::values;

impl Load {
    /// Reads near the end, where a record that is not committed would be.
    pub async fn read_on(self: Rc<Self>) {
        let mut at = 1;
        while self.is_running() {
            let partition = self.rng.below(self.plan.partitions as u64) as i32;
            let (place, last) = {
                let known = self.known.borrow();
                let given = known.given.range((partition, 0)..(partition + 1, 0)).next_back();
                (known.places[&partition].clone(), given.map_or(0, |((_, offset), _)| *offset))
            };
            let from = (last - self.rng.below(8) as i64).max(0);
            match self.fetch(&place, from, at).await {
                Some(Ok(fetched)) => {
                    self.count("reads");
                    self.give(&place, &fetched);
                }
                Some(Err(FetchError::OffsetOutOfRange { log_start, .. })) => {
                    if let Some(Ok(fetched)) = self.fetch(&place, log_start.0, at).await {
                        self.give(&place, &fetched);
                    }
                }
                Some(Err(error)) => at = error.leader().map_or_else(|| self.any_node(), |leader| leader.broker.0),
                None => at = self.any_node(),
            }
            self.pause(200).await;
        }
    }

    /// Takes note of what a reader was given, and compares it with what was given before.
    fn give(&self, place: &Place, fetched: &Fetched) {
        for (offset, value) in fetched.batches.iter().flat_map(values) {
            let before = match self.known.borrow_mut().given.entry((place.key, offset)) {
                Entry::Vacant(entry) => *entry.insert(value),
                Entry::Occupied(entry) => *entry.get(),
            };
            if before != value {
                let place = place.key;
                self.wrong(format!("offset {offset} of {place} was {before} to one reader, and is {value} to another"));
            }
            if offset >= fetched.high_watermark.0 {
                self.wrong(format!("offset {offset} of {} is beyond {}", place.key, fetched.high_watermark));
            }
        }
    }

    async fn fetch(&self, place: &Place, from: i64, at: u64) -> Option<Result<Fetched, FetchError>> {
        let request = FetchRequest {
            topic: place.topic.clone(),
            topic_id: Some(place.id),
            partition: PartitionId(place.partition),
            offset: Offset(from),
            bytes_max: 16_384,
            wait: Duration::ZERO,
        };
        let fetch = |broker: Broker| async move { broker.fetch(&Caller::ANONYMOUS, request).await };
        self.ask(at, "a fetch", fetch).await
    }

    /// Everything that a partition keeps, through whoever leads.
    pub async fn read_all(&self, place: &Place) -> Vec<(i64, u64)> {
        let mut records: Vec<(i64, u64)> = vec![];
        let deadline = Instant::now() + PATIENCE;
        let (mut at, mut from) = (self.any_node(), 0);
        while Instant::now() < deadline {
            let offset = records.last().map_or(from, |(offset, _)| offset + 1);
            match self.fetch(place, offset, at).await {
                Some(Ok(fetched)) if fetched.batches.is_empty() && fetched.high_watermark.0 == offset => {
                    return records;
                }
                Some(Ok(fetched)) => {
                    self.give(place, &fetched);
                    let read = fetched.batches.iter().flat_map(values);
                    // A batch comes whole, although its first records may be below the offset that was asked for.
                    records.extend(read.filter(|(found, _)| *found >= offset));
                    continue;
                }
                Some(Err(FetchError::OffsetOutOfRange { log_start, .. })) if records.is_empty() => {
                    from = log_start.0;
                    continue;
                }
                Some(Err(error)) => at = error.leader().map_or_else(|| self.any_node(), |leader| leader.broker.0),
                None => at = self.any_node(),
            }
            sleep(Duration::from_millis(20)).await; // A client's backoff.
        }
        self.wrong(format!("partition {} cannot be read to its end within {PATIENCE:?}", place.key));
        records
    }
}
