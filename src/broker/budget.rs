//! How many bytes of batches may wait for their answer, or for their readers, at once: on the whole node, whatever
//! face they come from or go to.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    held::{HeldBytes, HeldLimits},
    limits,
};
use crate::{
    metrics::{HeldUp, IntakeProbe, Limit},
    record::BATCH_BYTES_MAX,
};

/// Room for batches on their way to readers.
pub fn answer_room(bytes_max: usize, probe: IntakeProbe) -> Arc<HeldBytes> {
    let limits = HeldLimits {
        what: HeldUp::Answers,
        limit: Limit::Answers,
        bytes_max,
        waiting_max: limits::ANSWERS_WAITING_MAX,
        wait_max: limits::ANSWER_WAIT_MAX,
        grace: limits::ANSWER_GRACE,
        bytes_per_second: limits::ANSWER_BYTES_PER_SECOND,
    };
    HeldBytes::new(limits, probe)
}

/// A part of the node-wide produce budget, held by a batch until it is answered.
#[derive(Debug)]
pub struct ProduceBudget {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The node's bytes of batches that are not answered yet.
pub struct Budget {
    semaphore: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    /// `bytes_max` is raised to the largest batch, so that one always fits.
    pub fn new(bytes_max: usize) -> Budget {
        // Permits are counted in u32.
        let bytes_max = bytes_max.clamp(BATCH_BYTES_MAX, u32::MAX as usize);
        Budget { semaphore: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    pub async fn reserve(&self, bytes: usize) -> ProduceBudget {
        let bytes = bytes.min(self.bytes_max) as u32;
        // Never closed; if it were, running without a budget is better than a panic.
        ProduceBudget { _permit: Arc::clone(&self.semaphore).acquire_many_owned(bytes).await.ok() }
    }

    pub fn bytes_in_use(&self) -> usize {
        self.bytes_max - self.semaphore.available_permits()
    }
}
