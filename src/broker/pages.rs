//! What a broker keeps for consoles.

use std::sync::Mutex;

use tokio::sync::Semaphore;

use super::limits;
use crate::metrics::History;

/// Turns of pages of records that are being read, and the recent past of this node.
pub struct Pages {
    pub history: Mutex<History>,
    /// Pages being read.
    pub turns: Semaphore,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages { history: Mutex::default(), turns: Semaphore::new(limits::BROWSES_MAX) }
    }
}
