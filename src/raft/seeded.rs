//! openraft draws its random numbers from a seed that belongs to the running task. Everything of
//! ours that makes openraft spawn or draw runs inside one of these scopes.

use std::{future::Future, sync::Arc};

use super::types::Runtime;
use crate::seam::Rng;

pub(super) struct Seeds(Arc<Rng>);

impl Seeds {
    pub fn new(rng: Arc<Rng>) -> Seeds {
        Seeds(rng)
    }

    /// Runs `work` with a fresh seed.
    pub async fn scope<F: Future>(&self, work: F) -> F::Output {
        Runtime::scope(self.0.u64(), work).await
    }
}
