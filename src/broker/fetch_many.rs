//! Records of many partitions in one answer: one wait for all, and one room for their bytes (KIP-74).
//!
//! While a request waits, a partition in which nothing happens costs nothing: each change wakes only what waits for it.
//! Leaves out: sessions, which remember partitions between requests (KIP-227): they are Kafka's, and its face has them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

use super::{
    errors::FetchError,
    fetch::{Fetches, Late, NotRead, Place},
    limits,
    replica::{Bounds, PartitionReplica},
    requests::reads::{FetchManyRequest, FetchRequest, Fetched, PartitionFetch, PartitionRead},
};
use crate::{metrics::Limit, types::Offset};

/// One partition of a request that can be answered.
struct Open {
    hosted: Arc<PartitionReplica>,
    offset: Offset,
    bytes_max: usize,
    /// Bytes of batches from `offset` to `end`: exact once they were counted, until then no more than there are. More
    /// than zero whenever there is a record.
    behind: u64,
    is_counted: bool,
    /// Where the partition ended at the last look.
    end: Offset,
    /// Bytes of all its batches at that moment: what this grows by is behind the offset too.
    appended: u64,
}

impl Open {
    fn new(hosted: Arc<PartitionReplica>, partition: &PartitionFetch) -> Open {
        let (offset, bytes_max) = (partition.offset, wanted(partition.bytes_max));
        let (end, appended) = hosted.group.read(|state| (state.next_offset(), state.appended_bytes()));
        let is_at_end = offset >= end;
        Open { hosted, offset, bytes_max, behind: u64::from(!is_at_end), is_counted: is_at_end, end, appended }
    }

    /// Looks again.
    fn look(&mut self) {
        let (end, appended) = self.hosted.group.read(|state| (state.next_offset(), state.appended_bytes()));
        self.behind += appended.saturating_sub(self.appended);
        (self.end, self.appended) = (end, appended);
    }

    /// Bytes that can be read now, no more than are wanted.
    fn available(&self) -> usize {
        usize::try_from(self.behind).unwrap_or(usize::MAX).min(self.bytes_max)
    }

    fn nothing_new(&self) -> Fetched {
        let Bounds { log_start, high_watermark } = self.hosted.bounds();
        Fetched { batches: Vec::new(), high_watermark, log_start, next_offset: self.offset }
    }
}

/// The partitions of one request, looked up once, however often they are waited for and read.
pub struct OpenFetch {
    opened: Vec<Opened>,
    bytes_min: usize,
    arrived: Instant,
    waits_until: Option<Instant>,
    waited: Duration,
}

impl OpenFetch {
    /// Whether some partition has records that were not read.
    pub fn has_news(&self) -> bool {
        self.opened.iter().flatten().any(|open| open.behind > 0)
    }

    /// The answers of who cannot take records now: how far each partition has come, and nothing of what it holds.
    pub fn without_records(&self) -> Vec<Result<Fetched, FetchError>> {
        self.opened.iter().map(|opened| opened.as_ref().map(Open::nothing_new).map_err(Clone::clone)).collect()
    }
}

/// An answer in the making.
struct Answer {
    bytes_max: usize,
    /// When all must be read.
    by: Instant,
    bytes: usize,
    records: u64,
    /// Its time is up.
    late: Option<Late>,
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
        let bytes_max = request.bytes_max;
        let mut open = self.open_many(request).await;
        self.wait_many(&mut open).await;
        self.read_many(&open, bytes_max).await
    }

    /// Looks partitions up. The wait begins, and nobody waits yet.
    pub async fn open_many(&self, request: FetchManyRequest) -> OpenFetch {
        let arrived = Instant::now();
        let FetchManyRequest { partitions, bytes_min, bytes_max, wait } = request;
        let opened = self.open_all(partitions).await;
        let waits_until = (!wait.is_zero()).then(|| arrived + wait.min(limits::FETCH_WAIT_MAX));
        OpenFetch { opened, bytes_min: bytes_min.min(wanted(bytes_max)), arrived, waits_until, waited: Duration::ZERO }
    }

    /// Until there is enough to read, something to refuse, or the wait is over.
    pub async fn wait_many(&self, open: &mut OpenFetch) {
        let OpenFetch { opened, bytes_min, waits_until, .. } = open;
        let Some(until) = *waits_until else { return };
        if opened.iter().all(Result::is_ok) && !self.has(opened, *bytes_min, until).await {
            let began = Instant::now();
            self.wait_for(opened, *bytes_min, until).await;
            open.waited += began.elapsed();
        }
    }

    /// One answer for each partition, in the order of the request.
    pub async fn read_many(&self, open: &OpenFetch, bytes_max: usize) -> Vec<Result<Fetched, FetchError>> {
        let by = Instant::now() + limits::FETCH_READ_WITHIN;
        let mut answer = Answer { bytes_max: wanted(bytes_max), by, bytes: 0, records: 0, late: None };
        let mut answers = Vec::with_capacity(open.opened.len());
        for opened in &open.opened {
            answers.push(match opened {
                Ok(opened) => self.read_one(opened, &mut answer).await,
                Err(error) => Err(error.clone()),
            });
        }
        let Answer { bytes, records, late, .. } = answer;
        if let (Some(Late::NoTurn), 0) = (late, bytes) {
            self.node.intake.refused_at(Limit::FetchReads);
        }
        let took = open.arrived.elapsed().saturating_sub(open.waited);
        self.node.probe.fetch_answered(records, bytes as u64, took);
        answers
    }

    /// In the order of the request. Only what somebody else must be asked about is waited for, all of it at once: a
    /// future for each partition costs several times what there is to do for it.
    async fn open_all(&self, partitions: Vec<PartitionFetch>) -> Vec<Opened> {
        let (asked, max) = (partitions.len(), limits::FETCH_PARTITIONS_MAX);
        let mut opened = Vec::with_capacity(asked);
        let mut waiting = Vec::new();
        for (place, partition) in partitions.into_iter().enumerate() {
            let now = match place < max {
                true => self.open_now(&partition),
                false => {
                    let detail = format!("{asked} partitions in one fetch, at most {max} are answered");
                    Some(Err(FetchError::InvalidRequest { detail }))
                }
            };
            if now.is_none() {
                waiting.push(async move { (place, self.open(&partition).await) });
            }
            opened.push(now);
        }
        for (place, later) in join_all(waiting).await {
            opened[place] = Some(later);
        }
        opened.into_iter().map(|opened| opened.expect("it was opened at once or is waited for")).collect()
    }

    /// None: it takes the word of others to say what lies there.
    fn open_now(&self, partition: &PartitionFetch) -> Option<Opened> {
        let hosted = match self.hosted_at_now(&partition.at)? {
            Ok(hosted) => hosted,
            Err(error) => return Some(Err(error)),
        };
        if let Err(error) = checked(partition.offset) {
            return Some(Err(error));
        }
        // What is wrong with the place is said at once; what can be read there is counted later.
        match self.place_now(&hosted, partition.offset)? {
            Ok(Place::Readable | Place::AtEnd) => Some(Ok(Open::new(hosted, partition))),
            Err(error) => Some(Err(error)),
        }
    }

    async fn open(&self, partition: &PartitionFetch) -> Opened {
        let hosted = self.hosted_at(&partition.at).await?;
        checked(partition.offset)?;
        match self.place(&hosted, partition.offset).await? {
            Place::Readable | Place::AtEnd => Ok(Open::new(hosted, partition)),
        }
    }

    /// Whether so much can be read from all partitions together. Batches are counted only as far as that is not plain,
    /// since counting is reading; what cannot be counted `by` then, the answer will try to read.
    async fn has(&self, opened: &mut [Opened], bytes_min: usize, by: Instant) -> bool {
        let mut total = available(opened);
        for open in opened.iter_mut().flatten().filter(|open| !open.is_counted) {
            if total >= bytes_min {
                break;
            }
            total -= open.available();
            let enough = open.bytes_max.min(bytes_min - total);
            let Some(counted) = self.count(&open.hosted, open.offset..open.end, enough, by).await else { return true };
            open.behind = counted as u64;
            open.is_counted = true;
            total += open.available();
        }
        total >= bytes_min
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
                        let before = open.available();
                        open.look();
                        total = total - before + open.available();
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

    async fn read_one(&self, open: &Open, answer: &mut Answer) -> Result<Fetched, FetchError> {
        let room = answer.bytes_max.saturating_sub(answer.bytes);
        if open.behind == 0 || room == 0 {
            return Ok(open.nothing_new());
        }
        // A batch that is larger than all room must go into an empty answer: its reader would never get past it.
        let (is_first, bytes_max) = (answer.bytes == 0, open.bytes_max.min(room));
        let late = match answer.late {
            Some(late) => late,
            None => match self.read_page(&open.hosted, open.offset, bytes_max, is_first, answer.by).await {
                Ok(fetched) => {
                    let taken = fetched.batches.iter().map(bytes::Bytes::len).sum::<usize>();
                    // Offsets are dense.
                    let read = u64::try_from(fetched.next_offset.0 - open.offset.0).unwrap_or(0);
                    open.hosted.traffic.consumed(read, taken as u64);
                    answer.bytes += taken;
                    answer.records += read;
                    return Ok(fetched);
                }
                Err(NotRead::Failed(error)) => return Err(error),
                Err(NotRead::Late(late)) => late,
            },
        };
        answer.late = Some(late);
        // What the answer has already must not wait, and these records are not lost: the next fetch asks for them again.
        if is_first { Err(late.refusal()) } else { Ok(open.nothing_new()) }
    }
}

/// What can be read now of all that are open.
fn available(opened: &[Opened]) -> usize {
    opened.iter().flatten().map(Open::available).fold(0, usize::saturating_add)
}

fn checked(offset: Offset) -> Result<(), FetchError> {
    match offset.0 < 0 {
        true => Err(FetchError::InvalidRequest { detail: format!("offset {offset} is negative") }),
        false => Ok(()),
    }
}

fn wanted(bytes_max: usize) -> usize {
    match bytes_max {
        0 => limits::FETCH_BYTES_DEFAULT,
        asked => asked.min(limits::FETCH_BYTES_MAX),
    }
}
