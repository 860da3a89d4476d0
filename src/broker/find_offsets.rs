//! Offsets by place or time, and where leader epochs ended: each confirmed with a majority first, for what a deposed
//! leader takes for the end is not (SAFETY M7).

use futures_util::{StreamExt, stream};

use super::{
    errors::FetchError,
    fetch::Fetches,
    limits,
    replica::{
        PartitionReplica,
        read::{NoTurn, TimeFound},
    },
    requests::reads::{FoundOffset, OffsetAt, PartitionRead},
};
use crate::{
    metrics::Limit,
    partition::EpochEnd,
    types::{LeaderEpoch, WallMs},
};

impl Fetches {
    /// One answer for each place, in that order; they are looked up at once, within a bound.
    pub async fn find_offsets(&self, places: Vec<(PartitionRead, OffsetAt)>) -> Vec<Result<FoundOffset, FetchError>> {
        let found = places.into_iter().map(|(at, place)| async move { self.find_offset(&at, place).await });
        stream::iter(found).buffered(limits::LOOK_UPS_AT_ONCE).collect().await
    }

    pub async fn find_offset(&self, at: &PartitionRead, place: OffsetAt) -> Result<FoundOffset, FetchError> {
        let hosted = self.hosted_at(at).await?;
        if !hosted.is_ready() {
            return Err(self.not_leader(&hosted));
        }
        self.confirm(&hosted).await?;
        let (bounds, epoch) = (hosted.bounds(), hosted.status().term.epoch());
        let plain = |offset| FoundOffset { offset, epoch, timestamp: None };
        match place {
            OffsetAt::Earliest => Ok(plain(bounds.log_start)),
            OffsetAt::Latest => Ok(plain(bounds.high_watermark)),
            OffsetAt::Time(time) => match self.find_time(&hosted, time).await? {
                TimeFound::Record { offset, timestamp } => {
                    Ok(FoundOffset { timestamp: Some(timestamp), ..plain(offset) })
                }
                TimeFound::None { looked_to } => Ok(plain(looked_to)),
            },
        }
    }

    /// Where records of `epoch` end, or of the last one before it (KIP-101). None: there are none, or the epoch is one
    /// that this partition has not come to.
    pub async fn epoch_end(&self, at: &PartitionRead, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, FetchError> {
        let hosted = self.hosted_at(at).await?;
        if !hosted.is_ready() {
            return Err(self.not_leader(&hosted));
        }
        self.confirm(&hosted).await?;
        if epoch > hosted.status().term.epoch() {
            return Ok(None);
        }
        Ok(hosted.group.read(|state| state.end_offset_for_epoch(epoch, state.next_offset())))
    }

    /// The first record of this time or later, whatever retention does meanwhile.
    async fn find_time(&self, hosted: &PartitionReplica, time: WallMs) -> Result<TimeFound, FetchError> {
        let unavailable = |reason: String| FetchError::Unavailable { reason };
        match self.look_ups.first_at(hosted, time).await {
            Ok(found) => found.map_err(|error| unavailable(format!("looking for {time} in {}: {error}", hosted.name))),
            Err(NoTurn) => {
                self.node.intake.refused_at(Limit::TimeLookUps);
                Err(unavailable("too many look-ups by time at once".into()))
            }
        }
    }
}
