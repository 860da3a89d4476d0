//! Producer ids, which no two producers share: given out by each broker from a block of its own.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use crate::{
    broker::{errors::AdminError, limits, metadata_group::MetadataGroup, requests::ProducerIdentity},
    metadata::{AllocateProducerIds, Change, Outcome},
    types::{ProducerEpoch, ProducerId},
};

/// A broker's block of producer ids.
pub struct ProducerIds {
    metadata: Arc<MetadataGroup>,
    /// Ids of the current block that are not given out yet.
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub fn new(metadata: Arc<MetadataGroup>) -> ProducerIds {
        ProducerIds { metadata, block: Mutex::new(0..0) }
    }

    /// Keeps a block at hand, so that a new producer needs no metadata leader, for as long as the broker runs.
    pub async fn run(&self) {
        loop {
            self.keep().await;
            tokio::time::sleep(limits::RECONCILE_EVERY).await;
        }
    }

    /// An id that was never given out before.
    pub async fn next(&self) -> Result<ProducerIdentity, AdminError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.allocate(limits::PRODUCER_IDS_WITHIN).await?;
        }
        match block.next() {
            Some(id) => Ok(ProducerIdentity { id: ProducerId(id), epoch: ProducerEpoch(0) }),
            None => Err(AdminError::Internal { detail: "an empty block of producer ids".into() }),
        }
    }

    async fn allocate(&self, within: Duration) -> Result<Range<i64>, AdminError> {
        let change = Change::AllocateProducerIds(AllocateProducerIds { broker: self.metadata.node.me() });
        // A block lost to an unknown outcome is only a gap: ids are never reused.
        let changed = self.metadata.change(change, within).await;
        match changed.map_err(|failed| failed.into_admin("a block of producer ids"))?.outcome {
            Outcome::ProducerIds { first, count } => Ok(first.0..first.0.saturating_add(count)),
            other => Err(AdminError::Internal { detail: format!("producer ids were answered {other:?}") }),
        }
    }

    /// A failure is tried again in the next round.
    async fn keep(&self) {
        let Ok(mut block) = self.block.try_lock() else { return };
        if block.is_empty()
            && let Ok(fresh) = self.allocate(limits::CALL_WITHIN).await
        {
            *block = fresh;
        }
    }
}
