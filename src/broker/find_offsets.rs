//! Offsets by place or time, and where leader epochs ended: each confirmed with a majority first, for what a deposed
//! leader takes for the end is not (SAFETY M7).

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::{
    errors::FetchError,
    fetch::Fetches,
    limits,
    replica::{
        PartitionReplica,
        latest::TimedRecord,
        read::{LookedUp, NoTurn, TimeFound},
    },
    requests::reads::{FoundOffset, OffsetAt, PartitionRead},
};
use crate::{metrics::Limit, partition::EpochEnd, types::LeaderEpoch};

impl Fetches {
    /// One answer for each place, in that order; they are looked up at once, within a bound, and all within one time.
    pub async fn find_offsets(&self, places: Vec<(PartitionRead, OffsetAt)>) -> Vec<Result<FoundOffset, FetchError>> {
        let (asked, max, by) = (places.len(), limits::LOOK_UPS_MAX, Instant::now() + limits::LOOK_UPS_WITHIN);
        let found = places.into_iter().enumerate().map(|(number, (at, place))| async move {
            if number >= max {
                let detail = format!("{asked} offsets in one request, at most {max} are looked up");
                return Err(FetchError::InvalidRequest { detail });
            }
            let found = match Instant::now() < by {
                true => timeout_at(by, self.find_offset(&at, place)).await.ok(),
                false => None,
            };
            found.unwrap_or_else(|| {
                let within = limits::LOOK_UPS_WITHIN.as_secs();
                let reason = format!("the {asked} offsets of this request were not all found within {within} s");
                Err(FetchError::Unavailable { reason })
            })
        });
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
        let of_record = |offset, timestamp| {
            let appended_in = hosted.group.read(|state| state.epoch_at(offset));
            FoundOffset { offset, epoch: appended_in.unwrap_or(epoch), timestamp: Some(timestamp) }
        };
        match place {
            OffsetAt::Earliest => Ok(plain(bounds.log_start)),
            OffsetAt::Latest => Ok(plain(bounds.high_watermark)),
            OffsetAt::Time(time) => {
                let ended = self.look_ups.first_at(&hosted, time).await;
                match self.found(&time.to_string(), &hosted, ended)? {
                    TimeFound::Record { offset, timestamp } => Ok(of_record(offset, timestamp)),
                    TimeFound::None { looked_to } => Ok(plain(looked_to)),
                }
            }
            OffsetAt::MaxTimestamp => {
                let ended = self.look_ups.latest(&hosted).await;
                match self.found("the largest timestamp", &hosted, ended)? {
                    Some(TimedRecord { offset, timestamp }) => Ok(of_record(offset, timestamp)),
                    None => Ok(plain(bounds.high_watermark)),
                }
            }
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

    /// What a look-up came to whose turn may have failed to come.
    fn found<T>(&self, what: &str, hosted: &PartitionReplica, ended: LookedUp<T>) -> Result<T, FetchError> {
        let unavailable = |reason: String| FetchError::Unavailable { reason };
        match ended {
            Ok(found) => found.map_err(|error| unavailable(format!("looking for {what} in {}: {error}", hosted.name))),
            Err(NoTurn) => {
                self.node.intake.refused_at(Limit::TimeLookUps);
                Err(unavailable("too many look-ups by time at once".into()))
            }
        }
    }
}
