//! Whose a data directory is.

use crate::types::{BrokerId, ClusterId, StorageId};

/// Who this directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub broker: BrokerId,
    /// The cluster that the directory belongs to. None until the broker has joined one.
    pub cluster_id: Option<ClusterId>,
    /// Drawn when the directory was new; registered with the cluster, so that an emptied directory
    /// is told from the one the broker had.
    pub storage_id: StorageId,
}
