//! Which idempotent producers a partition remembers, as its leader has them.

use super::{
    fetch::Fetches,
    requests::{here::ActiveProducer, reads::PartitionRead},
};
use crate::broker::errors::FetchError;

impl Fetches {
    /// In order of their ids. Refused if there are more than `max`: they may be many.
    pub async fn producers(&self, at: &PartitionRead, max: usize) -> Result<Vec<ActiveProducer>, FetchError> {
        let hosted = self.hosted_at(at).await?;
        if !hosted.is_ready() {
            return Err(self.not_leader(&hosted));
        }
        let found = hosted.group.read(|state| match state.producer_count() {
            count if count > max => Err(count),
            _ => Ok(state.remembered().collect::<Vec<_>>()),
        });
        let remembered = found.map_err(|count| FetchError::InvalidRequest {
            detail: format!("{} remembers {count} producers, and at most {max} can be told here", hosted.name),
        })?;
        let told = remembered.into_iter().map(|(id, epoch, last_sequence, last_append)| ActiveProducer {
            id,
            epoch,
            last_sequence,
            last_append,
        });
        Ok(told.collect())
    }
}
