//! Records of many partitions in one answer: one wait for all, and one room for their bytes (KIP-74).
//!
//! While a request waits, a partition in which nothing happens costs nothing: each change wakes only what waits for it.
//! Leaves out: sessions, which remember partitions between requests (KIP-227).

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    errors::FetchError,
    fetch::{Fetches, Place},
    limits,
    replica::{Bounds, PartitionReplica},
    requests::reads::{FetchManyRequest, FetchRequest, Fetched, PartitionFetch, PartitionRead},
};
use crate::types::Offset;

/// One partition of a request that can be answered.
struct Open {
    hosted: Arc<PartitionReplica>,
    offset: Offset,
    bytes_max: usize,
    /// Bytes that can be read now, no more than are wanted. More than zero whenever there is a record.
    available: usize,
    /// Where the partition ended when that was found.
    end: Offset,
}

impl Open {
    fn look(&mut self) {
        self.end = self.hosted.bounds().high_watermark;
        self.available = 0;
        if self.offset < self.end {
            let behind = self.hosted.group.read(|state| state.bytes_from(self.offset));
            self.available = usize::try_from(behind).unwrap_or(usize::MAX).clamp(1, self.bytes_max);
        }
    }
}

type Opened = Result<Open, FetchError>;

impl Fetches {
    /// Whole batches from an offset; waits for the first record at the high watermark.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        let FetchRequest { topic, topic_id, partition, offset, bytes_max, wait } = request;
        let at = PartitionRead { topic, topic_id, partition, leader_epoch: None };
        let partitions = vec![PartitionFetch { at, offset, bytes_max }];
        let mut fetched = self.fetch_many(FetchManyRequest { partitions, bytes_min: 1, bytes_max, wait }).await;
        fetched.pop().unwrap_or_else(|| Err(FetchError::Unavailable { reason: "no answer was made".into() }))
    }

    /// Retention may move the log start between any look-up and the fetch that follows it.
    pub async fn fetch_kept(&self, mut request: FetchRequest) -> Result<(Offset, Fetched), FetchError> {
        for _ in 0..limits::LOG_START_TRIES {
            match self.fetch(request.clone()).await {
                Err(FetchError::OffsetOutOfRange { log_start, .. }) if log_start > request.offset => {
                    request.offset = log_start;
                }
                ended => return ended.map(|fetched| (request.offset, fetched)),
            }
        }
        let begins = request.offset;
        self.fetch(request).await.map(|fetched| (begins, fetched))
    }

    /// One answer for each partition asked for, in that order.
    pub async fn fetch_many(&self, request: FetchManyRequest) -> Vec<Result<Fetched, FetchError>> {
        let arrived = Instant::now();
        let FetchManyRequest { partitions, bytes_min, bytes_max, wait } = request;
        let bytes_max = wanted(bytes_max);
        let mut opened = self.open_all(partitions).await;
        let bytes_min = bytes_min.min(bytes_max);
        let mut waited = Duration::ZERO;
        if opened.iter().all(Result::is_ok) && available(&opened) < bytes_min {
            let began = Instant::now();
            self.wait_for(&mut opened, bytes_min, arrived + wait.min(limits::FETCH_WAIT_MAX)).await;
            waited = began.elapsed();
        }
        self.read_all(opened, bytes_max, arrived, waited).await
    }

    async fn open_all(&self, partitions: Vec<PartitionFetch>) -> Vec<Opened> {
        let asked = partitions.len();
        let opened = partitions.into_iter().enumerate().map(|(place, partition)| async move {
            if place >= limits::FETCH_PARTITIONS_MAX {
                let max = limits::FETCH_PARTITIONS_MAX;
                let detail = format!("{asked} partitions in one fetch, at most {max} are answered");
                return Err(FetchError::InvalidRequest { detail });
            }
            self.open(partition).await
        });
        join_all(opened).await
    }

    async fn open(&self, partition: PartitionFetch) -> Opened {
        let PartitionFetch { at, offset, bytes_max } = partition;
        let hosted = self.hosted_at(&at).await?;
        if offset.0 < 0 {
            return Err(FetchError::InvalidRequest { detail: format!("offset {offset} is negative") });
        }
        // What is wrong with the place is said at once; what can be read there is counted below.
        match self.place(&hosted, offset).await? {
            Place::Readable | Place::AtEnd => {}
        }
        let mut open = Open { hosted, offset, bytes_max: wanted(bytes_max), available: 0, end: offset };
        open.look();
        Ok(open)
    }

    /// Until `bytes_min` can be read from all partitions together, one of them cannot be read any more, or `deadline`.
    async fn wait_for(&self, opened: &mut [Opened], bytes_min: usize, deadline: Instant) {
        let grows = |place: usize, open: &Open| {
            let (hosted, end) = (Arc::clone(&open.hosted), open.end);
            async move { (place, self.grown(&hosted, end).await) }
        };
        let waiting = opened.iter().enumerate().filter_map(|(place, open)| Some(grows(place, open.as_ref().ok()?)));
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        let mut total = available(opened);
        loop {
            tokio::select! {
                biased;
                Some((place, grown)) = waiting.next() => match (&mut opened[place], grown) {
                    (Ok(open), Ok(())) => {
                        let before = open.available;
                        open.look();
                        total = total - before + open.available;
                        if total >= bytes_min {
                            return;
                        }
                        waiting.push(grows(place, open));
                    }
                    (gone, Err(error)) => {
                        *gone = Err(error);
                        return;
                    }
                    // Only those that are open are waited for.
                    (Err(_), Ok(())) => {}
                },
                () = sleep_until(deadline) => return,
            }
        }
    }

    async fn read_all(
        &self,
        opened: Vec<Opened>,
        bytes_max: usize,
        arrived: Instant,
        waited: Duration,
    ) -> Vec<Result<Fetched, FetchError>> {
        let mut answers = Vec::with_capacity(opened.len());
        let (mut bytes, mut records) = (0, 0);
        for open in opened {
            answers.push(match open {
                Err(error) => Err(error),
                Ok(open) => {
                    let fetched = self.read_one(&open, bytes_max.saturating_sub(bytes), bytes == 0).await;
                    if let Ok(fetched) = &fetched {
                        let taken = fetched.batches.iter().map(bytes::Bytes::len).sum::<usize>();
                        // Offsets are dense.
                        let read = u64::try_from(fetched.next_offset.0 - open.offset.0).unwrap_or(0);
                        open.hosted.traffic.consumed(read, taken as u64);
                        bytes += taken;
                        records += read;
                    }
                    fetched
                }
            });
        }
        self.node.probe.fetch_answered(records, bytes as u64, arrived.elapsed().saturating_sub(waited));
        answers
    }

    /// `is_first`: nothing is in the answer yet, so that a batch which is larger than all room must go in: its reader
    /// would never get past it.
    async fn read_one(&self, open: &Open, room: usize, is_first: bool) -> Result<Fetched, FetchError> {
        let Open { hosted, offset, bytes_max, available, end: _ } = open;
        if *available == 0 || room == 0 {
            let Bounds { log_start, high_watermark } = hosted.bounds();
            return Ok(Fetched { batches: Vec::new(), high_watermark, log_start, next_offset: *offset });
        }
        self.read_page(hosted, *offset, (*bytes_max).min(room), is_first).await
    }
}

/// What can be read now of all that are open.
fn available(opened: &[Opened]) -> usize {
    opened.iter().flatten().map(|open| open.available).fold(0, usize::saturating_add)
}

fn wanted(bytes_max: usize) -> usize {
    match bytes_max {
        0 => limits::FETCH_BYTES_DEFAULT,
        asked => asked.min(limits::FETCH_BYTES_MAX),
    }
}
