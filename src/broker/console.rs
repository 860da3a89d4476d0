//! What a web console asks, on whichever broker it runs, of the broker that knows: records of a partition
//! from its leader, and a node's disk and recent past. So one reachable console shows the whole cluster.
//!
//! Pages travel between brokers on the links that carry Raft, so they are small and few at once.
//! Leaves out: decoding, which is the console's.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    Broker, FetchError, FetchRequest, Fetched, OffsetAt,
    inner::Inner,
    limits,
    peers::calls::{Answer, Call},
};
use crate::{
    metrics::{History, Limit, Metrics, SAMPLE_EVERY, Sample},
    types::{BrokerId, Offset, PartitionId, WallMs},
};

/// A page of records for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowseRequest {
    pub topic: String,
    pub partition: PartitionId,
    pub from: BrowseFrom,
    /// Of batches; one batch is always returned whole.
    pub bytes_max: u32,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrowseFrom {
    Start,
    /// So many records before the high watermark, or the log start if that is later.
    BeforeEnd(u32),
    Offset(Offset),
    /// The first record with this timestamp or a later one.
    Time(WallMs),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browsed {
    /// Who answered.
    pub leader: BrokerId,
    /// Where the page begins; its first batch may begin below.
    pub offset: Offset,
    pub fetched: Fetched,
}

/// One node's figures that only itself knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFigures {
    /// None: the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// Below this the node refuses writes.
    pub disk_reserve_bytes: u64,
    /// Empty if it was not asked for.
    pub history: Vec<Sample>,
}

/// Between brokers. Variants are only added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsoleCall {
    Browse(BrowseRequest),
    Figures { history: bool },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsoleAnswer {
    Browsed(Result<Browsed, FetchError>),
    Figures(NodeFigures),
}

/// This broker's part.
pub struct Shared {
    history: Mutex<History>,
    /// Pages being read.
    pub(super) turns: Semaphore,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { history: Mutex::default(), turns: Semaphore::new(limits::BROWSES_MAX) }
    }
}

impl Broker {
    pub fn id(&self) -> BrokerId {
        self.inner.me()
    }

    /// A page of records, read by the partition's leader wherever that is.
    pub async fn browse(&self, request: BrowseRequest) -> Result<Browsed, FetchError> {
        let leader = match self.browse_here(&request).await {
            Err(FetchError::NotLeader { leader: Some(hint), .. }) if hint.broker != self.id() => hint.broker,
            answered => return answered,
        };
        let call = Call::Console(ConsoleCall::Browse(request));
        match self.inner.call(leader, &call, limits::FETCH_CONFIRM_MAX + limits::CALL_WITHIN).await {
            Ok(Answer::Console(ConsoleAnswer::Browsed(page))) => page,
            Ok(_) | Err(_) => Err(FetchError::Unavailable { reason: format!("its leader, {leader}, does not answer") }),
        }
    }

    /// A node's figures, or None if it does not answer.
    pub async fn figures(&self, of: BrokerId, history: bool) -> Option<NodeFigures> {
        if of == self.id() {
            return Some(self.inner.figures_here(history));
        }
        let call = Call::Console(ConsoleCall::Figures { history });
        match self.inner.call(of, &call, limits::CALL_WITHIN).await {
            Ok(Answer::Console(ConsoleAnswer::Figures(figures))) => Some(figures),
            Ok(_) | Err(_) => None,
        }
    }

    async fn browse_here(&self, request: &BrowseRequest) -> Result<Browsed, FetchError> {
        let turn = timeout(limits::FETCH_CONFIRM_MAX, self.inner.console.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            self.inner.intake.refused_at(Limit::ConsolePages);
            return Err(FetchError::Unavailable { reason: "too many pages of records are read at once".into() });
        };
        let BrowseRequest { topic, partition, from, bytes_max } = request;
        let offset = match from {
            BrowseFrom::Offset(offset) => *offset,
            BrowseFrom::Start => self.find_offset(topic, None, *partition, OffsetAt::Earliest).await?.offset,
            BrowseFrom::Time(time) => self.find_offset(topic, None, *partition, OffsetAt::Time(*time)).await?.offset,
            BrowseFrom::BeforeEnd(records) => {
                let end = self.find_offset(topic, None, *partition, OffsetAt::Latest).await?.offset;
                let log_start = self.hosted_for_read(topic, None, *partition).await?.bounds().log_start;
                Offset(end.0.saturating_sub(i64::from(*records)).max(log_start.0))
            }
        };
        let fetched = self.fetch(FetchRequest {
            topic: topic.clone(),
            topic_id: None,
            partition: *partition,
            offset,
            bytes_max: usize::try_from(*bytes_max).unwrap_or(usize::MAX).clamp(1, limits::BROWSE_BYTES_MAX),
            wait: Duration::ZERO,
        });
        Ok(Browsed { leader: self.id(), offset, fetched: fetched.await? })
    }
}

impl Inner {
    /// Answers another broker's console.
    pub async fn console_answer(self: Arc<Inner>, call: ConsoleCall) -> ConsoleAnswer {
        match call {
            ConsoleCall::Figures { history } => ConsoleAnswer::Figures(self.figures_here(history)),
            ConsoleCall::Browse(request) => {
                let page = Broker { inner: self }.browse_here(&request).await;
                ConsoleAnswer::Browsed(page.and_then(sendable))
            }
        }
    }

    fn figures_here(&self, history: bool) -> NodeFigures {
        let samples = || self.console.history.lock().expect("no holder panics").samples();
        NodeFigures {
            disk_free_bytes: self.disk.free_bytes(),
            disk_reserve_bytes: self.disk.reserve_bytes(),
            history: if history { samples() } else { Vec::new() },
        }
    }
}

/// A batch may be larger than what brokers tell one another in one answer.
fn sendable(page: Browsed) -> Result<Browsed, FetchError> {
    let bytes: usize = page.fetched.batches.iter().map(|batch| batch.len()).sum();
    if bytes <= limits::BROWSE_FORWARDED_MAX {
        return Ok(page);
    }
    let Browsed { leader, offset, .. } = page;
    let reason = format!(
        "the batch at offset {offset} has {bytes} bytes, more than brokers pass on; look at it on broker {leader}"
    );
    Err(FetchError::Unavailable { reason })
}

/// Fills the history for as long as the broker lives.
pub async fn sample(inner: Arc<Inner>, metrics: Metrics) {
    *inner.console.history.lock().expect("no holder panics") = History::starting_at(metrics.totals());
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let now = Instant::now();
        let totals = metrics.totals();
        let mut history = inner.console.history.lock().expect("no holder panics");
        history.add(inner.clock.wall(), now - last, totals);
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn page(batch_bytes: usize) -> Browsed {
        let (zero, batches) = (Offset(0), vec![Bytes::from(vec![0; batch_bytes])]);
        let fetched = Fetched { batches, high_watermark: zero, log_start: zero, next_offset: zero };
        Browsed { leader: BrokerId(2), offset: Offset(5), fetched }
    }

    #[test]
    fn a_page_is_passed_on_up_to_the_limit() {
        let largest = page(limits::BROWSE_FORWARDED_MAX);
        assert_eq!(sendable(largest.clone()), Ok(largest));
        let error = sendable(page(limits::BROWSE_FORWARDED_MAX + 1)).expect_err("too large").to_string();
        assert!(error.contains("offset 5") && error.contains("broker 2"), "{error}");
    }
}
