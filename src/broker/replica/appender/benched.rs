//! For `benches/append_plan.rs`, and nobody else: an appender's decisions without its task and its Raft group.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    build,
    core::{Arrival, Core, Plan, Rules},
};
use crate::{
    partition::{Partition, TimestampBounds},
    record::BatchHeader,
    types::{Term, WallMs},
};

const TERM: Term = Term(1);
const BOUNDS: TimestampBounds = TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 3_600_000 };
const RULES: Rules = Rules { log_append_time: false, timestamps: BOUNDS, clock_agrees: true };
const PATIENCE: Duration = Duration::from_secs(30);

/// A partition that is led and empty, with batches in front of it.
pub struct LedPartition {
    core: Core<()>,
    partition: Partition,
}

impl LedPartition {
    pub fn with_queue(batches: &[(Bytes, BatchHeader)]) -> LedPartition {
        let mut led = LedPartition { core: Core::default(), partition: Partition::default() };
        led.core.begin(TERM, &led.partition);
        let now = Instant::now();
        for (batch, header) in batches {
            let (batch, header, deadline) = (batch.clone(), *header, now + PATIENCE);
            let refused = led.core.enqueue(Arrival { batch, header, expected_offset: None, deadline, waiter: () }, now);
            assert!(refused.is_none(), "the queue holds no more: {refused:?}");
        }
        led
    }

    /// The next entry, of as many batches as fit.
    pub fn plan(&mut self, wall: WallMs) -> PlannedEntry {
        let mut answers = Vec::new();
        let plan = self.core.plan(&self.partition, RULES, wall, Instant::now(), &mut answers);
        assert!(answers.is_empty(), "batches were refused: {answers:?}");
        PlannedEntry(plan.expect("there are batches in the queue"))
    }
}

/// What will be proposed.
pub struct PlannedEntry(Plan);

impl PlannedEntry {
    pub fn batches(&self) -> usize {
        self.0.batches.len()
    }

    /// As it is written and replicated.
    pub fn build(&self) -> Bytes {
        build(&self.0)
    }
}
