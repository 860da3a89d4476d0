//! Reading: whole batches from an offset, long polls, and offsets by place or time. SAFETY B7 holds:
//! an offset above the high watermark is out of range only once a majority confirmed that it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    Broker, FetchError, FetchRequest, Fetched, FoundOffset, OffsetAt, limits,
    replica::{
        Bounds, PartitionReplica,
        cursors::Cursor,
        walk::{WalkError, Walker, batches_of},
    },
    routes::Found,
};
use crate::{
    metrics::Limit,
    record::{BatchHeader, DECODED_BYTES_MAX_DEFAULT, iter_records},
    seam::CpuTurns,
    types::{Offset, PartitionId, TopicId, WallMs},
};

/// What lies at an offset now.
enum Place {
    Readable,
    /// The high watermark: nothing yet.
    AtEnd,
}

impl Broker {
    pub(super) async fn fetch_batches(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        let arrived = Instant::now();
        let hosted = self.hosted_for_read(&request.topic, request.topic_id, request.partition).await?;
        let FetchRequest { offset, wait, .. } = request;
        if offset.0 < 0 {
            return Err(FetchError::InvalidRequest { detail: format!("offset {offset} is negative") });
        }
        let bytes_max = match request.bytes_max {
            0 => limits::FETCH_BYTES_DEFAULT,
            asked => asked.min(limits::FETCH_BYTES_MAX),
        };
        let waited = match self.place(&hosted, offset).await? {
            Place::Readable => Duration::ZERO,
            Place::AtEnd => {
                let readable = self.wait_past(&hosted, offset, wait.min(limits::FETCH_WAIT_MAX)).await?;
                if !readable {
                    let Bounds { log_start, high_watermark } = hosted.bounds();
                    return Ok(Fetched { batches: Vec::new(), high_watermark, log_start, next_offset: offset });
                }
                arrived.elapsed()
            }
        };
        let fetched = self.read_page(&hosted, offset, bytes_max).await?;
        let bytes = fetched.batches.iter().map(|batch| batch.len() as u64).sum();
        // Offsets are dense.
        let records = u64::try_from(fetched.next_offset.0 - offset.0).unwrap_or(0);
        self.inner.probe.fetch_answered(records, bytes, arrived.elapsed().saturating_sub(waited));
        hosted.traffic.consumed(records, bytes);
        Ok(fetched)
    }

    /// SAFETY B7, in its order.
    async fn place(&self, hosted: &PartitionReplica, offset: Offset) -> Result<Place, FetchError> {
        let bounds = hosted.bounds();
        if offset < bounds.log_start {
            return Err(out_of_range(hosted, offset, bounds));
        }
        if offset < bounds.high_watermark {
            return match hosted.status().leads {
                // Committed data stays true on a leader that is not ready, or deposed and unaware.
                true => Ok(Place::Readable),
                false => Err(self.not_leader(hosted)),
            };
        }
        if !hosted.is_ready() || is_cut_off(hosted) {
            return Err(self.not_leader(hosted));
        }
        if offset == bounds.high_watermark {
            return Ok(Place::AtEnd);
        }
        self.confirm(hosted).await?;
        let bounds = hosted.bounds();
        match offset.cmp(&bounds.high_watermark) {
            std::cmp::Ordering::Less if offset < bounds.log_start => Err(out_of_range(hosted, offset, bounds)),
            std::cmp::Ordering::Less => Ok(Place::Readable),
            std::cmp::Ordering::Equal => Ok(Place::AtEnd),
            std::cmp::Ordering::Greater => Err(out_of_range(hosted, offset, bounds)),
        }
    }

    /// A majority confirmed that we lead, and all that was committed before is applied here.
    async fn confirm(&self, hosted: &PartitionReplica) -> Result<(), FetchError> {
        match timeout(limits::FETCH_CONFIRM_MAX, hosted.group.read_index()).await {
            Ok(Ok(_)) => Ok(()),
            // No confirmation is never "out of range".
            Ok(Err(_)) | Err(_) => Err(self.not_leader(hosted)),
        }
    }

    /// Waits for the first record at `offset`. False: none came in time.
    async fn wait_past(&self, hosted: &PartitionReplica, offset: Offset, wait: Duration) -> Result<bool, FetchError> {
        let deadline = Instant::now() + wait;
        let (mut applied, mut status) = (hosted.group.applied(), hosted.group.status());
        loop {
            applied.borrow_and_update();
            if hosted.bounds().high_watermark > offset {
                return Ok(true);
            }
            tokio::select! {
                biased;
                changed = applied.changed() => changed.map_err(|_| self.not_leader(hosted))?,
                changed = status.changed() => {
                    let now = status.borrow_and_update().clone();
                    if changed.is_err() || !now.leads || now.stopped || is_cut_off(hosted) {
                        // The reader finds the new leader sooner than its poll would end. One who is cut off
                        // says no more that there is nothing new: it cannot know (SAFETY M7).
                        return Err(self.not_leader(hosted));
                    }
                }
                () = tokio::time::sleep_until(deadline) => return Ok(false),
            }
        }
    }

    async fn read_page(
        &self,
        hosted: &PartitionReplica,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let turn = timeout(limits::FETCH_CONFIRM_MAX, self.inner.reads.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            self.inner.intake.refused_at(Limit::FetchReads);
            return Err(FetchError::Unavailable { reason: "too many fetches read from disk at once".into() });
        };
        let mut tried = 0;
        loop {
            match page(hosted, offset, bytes_max).await {
                Ok(fetched) => return Ok(fetched),
                // A trim overtook us: by now either the log start says so, or another place is found.
                Err(WalkError::Purged) if tried == 0 => {
                    tried += 1;
                    let bounds = hosted.bounds();
                    if offset < bounds.log_start {
                        return Err(out_of_range(hosted, offset, bounds));
                    }
                    hosted.cursors.forget(offset);
                }
                Err(error) => {
                    let reason = format!("reading {} at offset {offset}: {error}", hosted.name);
                    tracing::warn!(partition = %hosted.name, %offset, %error, "fetch failed");
                    return Err(FetchError::Unavailable { reason });
                }
            }
        }
    }

    pub(super) async fn look_up(
        &self,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionId,
        at: OffsetAt,
    ) -> Result<FoundOffset, FetchError> {
        let hosted = self.hosted_for_read(topic, topic_id, partition).await?;
        if !hosted.is_ready() {
            return Err(self.not_leader(&hosted));
        }
        self.confirm(&hosted).await?;
        let bounds = hosted.bounds();
        let offset = match at {
            OffsetAt::Earliest => bounds.log_start,
            OffsetAt::Latest => bounds.high_watermark,
            OffsetAt::Time(time) => self.find_time(&hosted, time).await?,
        };
        Ok(FoundOffset { offset, epoch: hosted.status().term.epoch() })
    }

    /// The first record of this time or later, whatever retention does meanwhile. With a turn and a deadline: it
    /// may read and decompress much.
    async fn find_time(&self, hosted: &PartitionReplica, time: WallMs) -> Result<Offset, FetchError> {
        let unavailable = |reason: String| FetchError::Unavailable { reason };
        let turn = timeout(limits::FIND_TIME_WITHIN, self.inner.look_ups.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            self.inner.intake.refused_at(Limit::TimeLookUps);
            return Err(unavailable("too many look-ups by time at once".into()));
        };
        match timeout(limits::FIND_TIME_WITHIN, find_time(hosted, &self.inner.cpu, time)).await {
            Ok(found) => found.map_err(|error| unavailable(format!("looking for {time} in {}: {error}", hosted.name))),
            Err(_) => {
                let within = limits::FIND_TIME_WITHIN.as_secs();
                Err(unavailable(format!("{time} was not found in {} within {within} s", hosted.name)))
            }
        }
    }

    /// `meant`: the topic that the reader began with; its namesake is not read instead (SAFETY M11).
    pub(super) async fn hosted_for_read(
        &self,
        topic: &str,
        meant: Option<TopicId>,
        partition: PartitionId,
    ) -> Result<Arc<PartitionReplica>, FetchError> {
        match self.inner.routes.find(topic, meant, partition) {
            Found::UnknownTopic => Err(FetchError::UnknownTopic { topic: topic.into() }),
            Found::OtherTopic(known) => Err(self.other_topic(topic, meant.unwrap_or(known)).await),
            Found::UnknownPartition => Err(FetchError::UnknownPartition { topic: topic.into(), partition }),
            Found::Elsewhere(group) => {
                let leader = self.inner.leader_hint(group);
                Err(FetchError::NotLeader { topic: topic.into(), partition, leader })
            }
            Found::Here(hosted) => Ok(hosted),
        }
    }

    /// Another topic has the name here: that is news from this broker, or for it.
    async fn other_topic(&self, topic: &str, meant: TopicId) -> FetchError {
        let confirmed = timeout(limits::STALE_WAIT, self.inner.confirmed_metadata()).await;
        let Ok(Ok(metadata)) = confirmed else {
            let reason = format!("whether topic {topic:?} of id {meant} is there cannot be confirmed");
            return FetchError::Unavailable { reason };
        };
        match metadata.read(|state| state.topic(topic).map(|topic| topic.id)) {
            None => FetchError::UnknownTopic { topic: topic.into() },
            Some(now) if now == meant => {
                FetchError::Unavailable { reason: format!("topic {topic:?} of id {meant} is not opened here yet") }
            }
            Some(now) => FetchError::TopicReplaced { topic: topic.into(), meant, now },
        }
    }

    fn not_leader(&self, hosted: &PartitionReplica) -> FetchError {
        let no_hint = hosted.status().without_quorum;
        let leader = self.inner.hint_elsewhere(&hosted.group).filter(|_| !no_hint);
        FetchError::NotLeader { topic: hosted.name.topic.clone(), partition: hosted.name.partition, leader }
    }
}

/// No majority has answered this leader for a lease (SAFETY M7). The status is a moment old: a majority that is
/// back counts at once.
fn is_cut_off(hosted: &PartitionReplica) -> bool {
    hosted.status().without_quorum && !hosted.group.leads_with_majority()
}

fn out_of_range(hosted: &PartitionReplica, offset: Offset, bounds: Bounds) -> FetchError {
    let Bounds { log_start, high_watermark } = bounds;
    let (topic, partition) = (hosted.name.topic.clone(), hosted.name.partition);
    FetchError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark }
}

/// Whole batches from `offset`, at least one, and the reader's next place remembered.
async fn page(hosted: &PartitionReplica, offset: Offset, bytes_max: usize) -> Result<Fetched, WalkError> {
    let mut walker = Walker::to_offset(hosted, offset).await?;
    let (mut batches, mut bytes, mut next_offset) = (Vec::new(), 0, offset);
    let mut cursor = walker.cursor();
    'filling: while bytes < bytes_max {
        let entries = walker.next(bytes_max - bytes).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            cursor = Cursor { index: entry.index, expect: entry.append.base_offset };
            if entry.append.end_offset() <= offset {
                continue;
            }
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.last_offset() < offset {
                    continue;
                }
                if !batches.is_empty() && bytes + batch.len() > bytes_max {
                    break 'filling;
                }
                bytes += batch.len();
                next_offset = Offset(header.last_offset().0 + 1);
                batches.push(batch);
            }
        }
        cursor = walker.cursor();
    }
    let Bounds { log_start, high_watermark } = hosted.bounds();
    if next_offset > offset {
        hosted.cursors.moved(offset, next_offset, cursor);
    }
    Ok(Fetched { batches, high_watermark, log_start, next_offset })
}

/// The first record of this time or later, whatever retention does meanwhile.
async fn find_time(hosted: &PartitionReplica, cpu: &CpuTurns, time: WallMs) -> Result<Offset, WalkError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match first_at(hosted, cpu, time, hosted.bounds().log_start).await {
            // The log start moves only forward: the next try begins where there are records.
            Err(WalkError::Purged) if tries < limits::FIND_TIME_TRIES => {}
            found => return found,
        }
    }
}

/// The first offset at or after the log start whose record has this timestamp or a later one; else the end of what
/// was looked at, which is the high watermark of that moment or a later one.
async fn first_at(
    hosted: &PartitionReplica,
    cpu: &CpuTurns,
    time: WallMs,
    log_start: Offset,
) -> Result<Offset, WalkError> {
    let point = hosted.group.log().find_time(time).await.map_err(|e| WalkError::Failed(e.to_string()))?;
    let mut walker = Walker::from_point(hosted, point, log_start).await;
    let mut looked_through = 0;
    loop {
        let entries = walker.next(limits::FIND_TIME_READ_BYTES).await?;
        if entries.is_empty() {
            return Ok(walker.cursor().expect.max(log_start));
        }
        for entry in entries {
            if entry.append.max_timestamp < time || entry.append.end_offset() <= log_start {
                continue;
            }
            looked_through += entry.append.batches.len();
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.max_timestamp < time || header.last_offset() < log_start {
                    continue;
                }
                if let Some(offset) = first_record_at(cpu, header, batch, time, log_start).await {
                    return Ok(offset);
                }
            }
        }
        if looked_through > limits::FIND_TIME_BYTES_MAX {
            let why = format!(
                "{looked_through} bytes of batches up to offset {} claim records of that time or later, and have none",
                walker.cursor().expect
            );
            return Err(WalkError::Failed(why));
        }
    }
}

/// Within one batch. A batch that cannot be decoded is found as a whole: its reader will say why.
async fn first_record_at(
    cpu: &CpuTurns,
    header: BatchHeader,
    batch: Bytes,
    time: WallMs,
    log_start: Offset,
) -> Option<Offset> {
    if header.is_log_append_time() {
        return Some(header.base_offset.max(log_start));
    }
    let is_long = header.codec().is_ok_and(|codec| codec.expands_to_max(batch.len()) > limits::DECODED_INLINE_BYTES);
    match is_long {
        true => cpu.run(move || first_decoded_at(&header, &batch, time, log_start)).await,
        false => first_decoded_at(&header, &batch, time, log_start),
    }
}

fn first_decoded_at(header: &BatchHeader, batch: &Bytes, time: WallMs, log_start: Offset) -> Option<Offset> {
    let whole = Some(header.base_offset.max(log_start));
    let Ok(records) = iter_records(batch, DECODED_BYTES_MAX_DEFAULT) else { return whole };
    for record in records {
        match record {
            Ok((offset, record)) if record.timestamp >= time && offset >= log_start => return Some(offset),
            Ok(_) => {}
            Err(_) => return whole,
        }
    }
    // The header's max timestamp promised one, but it lies below the log start, or lied.
    None
}
