//! Reading: whole batches from an offset, long polls, and offsets by place or time. SAFETY B7 holds:
//! an offset above the high watermark is out of range only once a majority confirmed that it is.

use std::{
    cmp::Ordering,
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    errors::FetchError,
    limits,
    metadata_group::MetadataGroup,
    node::Node,
    replica::{
        Bounds, PartitionReplica,
        read::{LookUps, bytes_in, page},
        walk::WalkError,
    },
    replicas::{Found, Replicas},
    requests::reads::{Fetched, PartitionRead},
};
use crate::{
    seam::CpuTurns,
    types::{Offset, PartitionId, TopicId},
};

/// What lies at an offset now.
pub enum Place {
    Readable,
    /// The high watermark: nothing yet.
    AtEnd,
}

/// Why a page was not read.
pub enum NotRead {
    /// Its time was up.
    Late(Late),
    Failed(FetchError),
}

/// What took the time in which a page was to be read.
#[derive(Clone, Copy)]
pub enum Late {
    /// All turns were taken.
    NoTurn,
    /// The read itself, or reads of the same answer before it.
    Slow,
}

impl Late {
    /// What a reader hears for whom nothing could be read in time.
    pub fn refusal(self) -> FetchError {
        let within = limits::FETCH_READ_WITHIN.as_secs();
        let reason = match self {
            Late::NoTurn => format!("too many fetches read from disk at once: there was no turn within {within} s"),
            Late::Slow => format!("nothing could be read from disk within {within} s"),
        };
        FetchError::Unavailable { reason }
    }
}

/// A broker's part in reading: of partitions that it leads.
pub struct Fetches {
    pub node: Arc<Node>,
    metadata: Arc<MetadataGroup>,
    replicas: Arc<Replicas>,
    pub look_ups: Arc<LookUps>,
    /// Turns of fetches that read.
    pub reads: Semaphore,
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

    /// SAFETY B7, in its order.
    pub async fn place(&self, hosted: &PartitionReplica, offset: Offset) -> Result<Place, FetchError> {
        if let Some(place) = self.place_now(hosted, offset) {
            return place;
        }
        let sleeps = self.node.awake.sleeps();
        self.confirm(hosted).await?;
        // If it wakes just now, the next read asks again.
        sleeps.inspect(|sleeps| hosted.confirmed_after.store(*sleeps, Relaxed));
        let bounds = hosted.bounds();
        match offset.cmp(&bounds.high_watermark) {
            Ordering::Less if offset < bounds.log_start => Err(out_of_range(hosted, offset, bounds)),
            Ordering::Less => Ok(Place::Readable),
            Ordering::Equal => Ok(Place::AtEnd),
            Ordering::Greater => Err(out_of_range(hosted, offset, bounds)),
        }
    }

    /// What lies at an offset, unless a majority is to be asked: it is beyond all that is known here, or the process has
    /// slept since it was last asked, and what is known may be old.
    pub fn place_now(&self, hosted: &PartitionReplica, offset: Offset) -> Option<Result<Place, FetchError>> {
        if self.node.awake.sleeps() != Some(hosted.confirmed_after.load(Relaxed)) {
            return None;
        }
        let bounds = hosted.bounds();
        if offset < bounds.log_start {
            return Some(Err(out_of_range(hosted, offset, bounds)));
        }
        if offset < bounds.high_watermark {
            return Some(match hosted.status().leads {
                // Committed data stays true on a leader that is not ready, or deposed and unaware.
                true => Ok(Place::Readable),
                false => Err(self.not_leader(hosted)),
            });
        }
        if !hosted.is_ready() || is_cut_off(hosted) {
            return Some(Err(self.not_leader(hosted)));
        }
        (offset == bounds.high_watermark).then_some(Ok(Place::AtEnd))
    }

    /// A majority confirmed that we lead, and all that was committed before is applied here.
    pub async fn confirm(&self, hosted: &PartitionReplica) -> Result<(), FetchError> {
        match timeout(limits::FETCH_CONFIRM_MAX, hosted.group.read_index()).await {
            Ok(Ok(_)) => Ok(()),
            // No confirmation is never "out of range".
            Ok(Err(_)) | Err(_) => Err(self.not_leader(hosted)),
        }
    }

    /// Until the partition ends after `end`. An error: it cannot be read here any more.
    pub async fn grown(&self, hosted: &PartitionReplica, end: Offset) -> Result<(), FetchError> {
        let (mut applied, mut status) = (hosted.group.applied(), hosted.group.status());
        loop {
            applied.borrow_and_update();
            if hosted.bounds().high_watermark > end {
                return Ok(());
            }
            // Looked at before each wait: what was lost since the reader's place was found does not change again.
            let leads = {
                let now = status.borrow_and_update();
                now.leads && !now.stopped
            };
            if !leads || is_cut_off(hosted) {
                // The reader finds the new leader sooner than its poll would end. One who is cut off
                // says no more that there is nothing new: it cannot know (SAFETY M7).
                return Err(self.not_leader(hosted));
            }
            let changed = tokio::select! {
                biased;
                changed = applied.changed() => changed,
                changed = status.changed() => changed,
            };
            changed.map_err(|_| self.not_leader(hosted))?;
        }
    }

    /// Whole batches from an offset, read `by` then. `whole`: the first one even if it is larger than `bytes_max`.
    pub async fn read_page(
        &self,
        hosted: &PartitionReplica,
        offset: Offset,
        bytes_max: usize,
        whole: bool,
        by: Instant,
    ) -> Result<Fetched, NotRead> {
        let reading = async {
            let mut tried = 0;
            loop {
                match page(hosted, offset, bytes_max, whole).await {
                    // A trim overtook us: by now either the log start says so, or another place is found.
                    Err(WalkError::Purged) if tried == 0 => {
                        tried += 1;
                        let bounds = hosted.bounds();
                        if offset < bounds.log_start {
                            return Err(out_of_range(hosted, offset, bounds));
                        }
                        hosted.cursors.forget(offset);
                    }
                    read => return read.map_err(|error| unread(hosted, offset, &error)),
                }
            }
        };
        self.in_turn(by, reading).await?.map_err(NotRead::Failed)
    }

    /// How many bytes of whole batches lie from `offset` to `end`, as far as that is counted: until there are `enough`.
    /// None: that is not known `by` then, and a read will say why.
    pub async fn count(
        &self,
        hosted: &PartitionReplica,
        range: Range<Offset>,
        enough: usize,
        by: Instant,
    ) -> Option<usize> {
        self.in_turn(by, bytes_in(hosted, range, enough)).await.ok()?.ok()
    }

    /// A read from disk, when there is a turn for it.
    async fn in_turn<T>(&self, by: Instant, reading: impl Future<Output = T>) -> Result<T, NotRead> {
        // A read that begins now would only be given up.
        if Instant::now() >= by {
            return Err(NotRead::Late(Late::Slow));
        }
        let Ok(Ok(_turn)) = timeout_at(by, self.reads.acquire()).await else {
            return Err(NotRead::Late(Late::NoTurn));
        };
        timeout_at(by, reading).await.map_err(|_| NotRead::Late(Late::Slow))
    }

    /// The partition that a reader means, in the epoch that it takes for the present one (KIP-320): one that is ahead of
    /// this broker would be told less than it knows already, and one that is behind has not heard what became of the
    /// records that it read.
    pub async fn hosted_at(&self, at: &PartitionRead) -> Result<Arc<PartitionReplica>, FetchError> {
        self.in_epoch(at, self.hosted_for_read(&at.topic, at.topic_id, at.partition).await?)
    }

    /// As [`Fetches::hosted_at`], unless it takes confirmed metadata to say.
    pub fn hosted_at_now(&self, at: &PartitionRead) -> Option<Result<Arc<PartitionReplica>, FetchError>> {
        let found =
            self.told(&at.topic, at.partition, self.replicas.find(&at.topic, at.topic_id, at.partition)).ok()?;
        Some(found.and_then(|hosted| self.in_epoch(at, hosted)))
    }

    fn in_epoch(&self, at: &PartitionRead, hosted: Arc<PartitionReplica>) -> Result<Arc<PartitionReplica>, FetchError> {
        let now = hosted.status().term.epoch();
        let Some(asked) = at.leader_epoch else { return Ok(hosted) };
        let (topic, partition) = (at.topic.clone(), at.partition);
        match asked.cmp(&now) {
            Ordering::Less => Err(FetchError::FencedLeaderEpoch { topic, partition, asked, now }),
            Ordering::Greater => Err(FetchError::UnknownLeaderEpoch { topic, partition, asked, now }),
            Ordering::Equal => Ok(hosted),
        }
    }

    /// `meant`: the topic that the reader began with; its namesake is not read instead (SAFETY M11).
    pub async fn hosted_for_read(
        &self,
        topic: &str,
        meant: Option<TopicId>,
        partition: PartitionId,
    ) -> Result<Arc<PartitionReplica>, FetchError> {
        match self.told(topic, partition, self.replicas.find(topic, meant, partition)) {
            Ok(found) => found,
            Err(known) => Err(self.other_topic(topic, meant.unwrap_or(known)).await),
        }
    }

    /// What a reader is told of what was found; an error: another topic has the name here, of this id.
    fn told(
        &self,
        topic: &str,
        partition: PartitionId,
        found: Found,
    ) -> Result<Result<Arc<PartitionReplica>, FetchError>, TopicId> {
        Ok(match found {
            Found::UnknownTopic => Err(FetchError::UnknownTopic { topic: topic.into() }),
            Found::OtherTopic(known) => return Err(known),
            Found::UnknownPartition => Err(FetchError::UnknownPartition { topic: topic.into(), partition }),
            Found::Elsewhere(group) => {
                let leader = self.node.leader_now(group);
                Err(FetchError::NotLeader { topic: topic.into(), partition, leader })
            }
            Found::Here(hosted) => Ok(hosted),
        })
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

    pub fn not_leader(&self, hosted: &PartitionReplica) -> FetchError {
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

fn unread(hosted: &PartitionReplica, offset: Offset, error: &WalkError) -> FetchError {
    tracing::warn!(partition = %hosted.name, %offset, %error, "fetch failed");
    let reason = format!("reading {} at offset {offset}: {error}", hosted.name);
    FetchError::Unavailable { reason }
}

fn out_of_range(hosted: &PartitionReplica, offset: Offset, bounds: Bounds) -> FetchError {
    let Bounds { log_start, high_watermark } = bounds;
    let (topic, partition) = (hosted.name.topic.clone(), hosted.name.partition);
    FetchError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark }
}
