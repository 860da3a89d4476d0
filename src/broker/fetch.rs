//! Reading: whole batches from an offset, long polls, and offsets by place or time. SAFETY B7 holds:
//! an offset above the high watermark is out of range only once a majority confirmed that it is.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    errors::FetchError,
    limits,
    metadata_group::MetadataGroup,
    node::Node,
    replica::{
        Bounds, PartitionReplica,
        read::{LookUps, NoTurn, page},
        walk::WalkError,
    },
    replicas::{Found, Replicas},
    requests::{FetchRequest, Fetched, FoundOffset, OffsetAt},
};
use crate::{
    metrics::Limit,
    seam::CpuTurns,
    types::{Offset, PartitionId, TopicId, WallMs},
};

/// What lies at an offset now.
enum Place {
    Readable,
    /// The high watermark: nothing yet.
    AtEnd,
}

/// A broker's part in reading: of partitions that it leads.
pub struct Fetches {
    node: Arc<Node>,
    metadata: Arc<MetadataGroup>,
    replicas: Arc<Replicas>,
    look_ups: Arc<LookUps>,
    /// Turns of fetches that read.
    reads: Semaphore,
}

impl Fetches {
    pub fn new(metadata: Arc<MetadataGroup>, replicas: Arc<Replicas>, look_ups: Arc<LookUps>) -> Fetches {
        let reads = Semaphore::new(limits::FETCH_READS_MAX);
        Fetches { node: Arc::clone(&metadata.node), metadata, replicas, look_ups, reads }
    }

    /// The node's turns at long computations.
    pub fn cpu_turns(&self) -> CpuTurns {
        self.look_ups.cpu.clone()
    }

    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
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
        self.node.probe.fetch_answered(records, bytes, arrived.elapsed().saturating_sub(waited));
        hosted.traffic.consumed(records, bytes);
        Ok(fetched)
    }

    /// Retention may move the log start between any look-up and the fetch that follows it.
    pub async fn fetch_kept(&self, mut request: FetchRequest) -> Result<Fetched, FetchError> {
        for _ in 0..limits::LOG_START_TRIES {
            match self.fetch(request.clone()).await {
                Err(FetchError::OffsetOutOfRange { log_start, .. }) if log_start > request.offset => {
                    request.offset = log_start;
                }
                ended => return ended,
            }
        }
        self.fetch(request).await
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
        let turn = timeout(limits::FETCH_CONFIRM_MAX, self.reads.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            self.node.intake.refused_at(Limit::FetchReads);
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

    pub async fn look_up(
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

    /// The first record of this time or later, whatever retention does meanwhile.
    async fn find_time(&self, hosted: &PartitionReplica, time: WallMs) -> Result<Offset, FetchError> {
        let unavailable = |reason: String| FetchError::Unavailable { reason };
        match self.look_ups.first_at(hosted, time).await {
            Ok(found) => found.map_err(|error| unavailable(format!("looking for {time} in {}: {error}", hosted.name))),
            Err(NoTurn) => {
                self.node.intake.refused_at(Limit::TimeLookUps);
                Err(unavailable("too many look-ups by time at once".into()))
            }
        }
    }

    /// `meant`: the topic that the reader began with; its namesake is not read instead (SAFETY M11).
    pub async fn hosted_for_read(
        &self,
        topic: &str,
        meant: Option<TopicId>,
        partition: PartitionId,
    ) -> Result<Arc<PartitionReplica>, FetchError> {
        match self.replicas.find(topic, meant, partition) {
            Found::UnknownTopic => Err(FetchError::UnknownTopic { topic: topic.into() }),
            Found::OtherTopic(known) => Err(self.other_topic(topic, meant.unwrap_or(known)).await),
            Found::UnknownPartition => Err(FetchError::UnknownPartition { topic: topic.into(), partition }),
            Found::Elsewhere(group) => {
                let leader = self.node.leader_now(group);
                Err(FetchError::NotLeader { topic: topic.into(), partition, leader })
            }
            Found::Here(hosted) => Ok(hosted),
        }
    }

    /// Another topic has the name here: that is news from this broker, or for it.
    async fn other_topic(&self, topic: &str, meant: TopicId) -> FetchError {
        let confirmed = self.metadata.confirmed(limits::STALE_WAIT).await;
        let Ok(metadata) = confirmed else {
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
        let leader = self.node.hint_elsewhere(&hosted.group).filter(|_| !no_hint);
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
