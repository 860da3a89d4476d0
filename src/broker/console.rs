//! What a web console asks, on whichever broker it runs, of the broker that knows: records of a partition
//! from its leader, and a node's disk and recent past. So one reachable console shows the whole cluster.
//!
//! Pages travel between brokers on the links that carry Raft, so they are small and few at once.
//! Leaves out: decoding, which is the console's.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    disk::DiskGuard,
    errors::FetchError,
    fetch::Fetches,
    limits,
    node::Node,
    peers::{
        calls::{Answer, Call},
        console_calls::{BrowseFrom, BrowseRequest, Browsed, ConsoleAnswer, ConsoleCall, NodeFigures},
    },
    requests::reads::{FetchRequest, FoundOffset, OffsetAt, PartitionRead},
};
use crate::{
    metrics::{History, KafkaClients, KafkaProbe, Limit, Metrics, SAMPLE_EVERY},
    types::{BrokerId, Offset, PartitionId},
};

/// A broker's part in consoles.
pub struct Consoles {
    node: Arc<Node>,
    disk: Arc<DiskGuard>,
    fetches: Arc<Fetches>,
    /// The Kafka clients of this node.
    kafka: KafkaProbe,
    /// The recent past of this node.
    history: Mutex<History>,
    /// Turns of pages of records that are being read.
    pub turns: Semaphore,
}

impl Consoles {
    pub fn new(node: Arc<Node>, disk: Arc<DiskGuard>, fetches: Arc<Fetches>, kafka: KafkaProbe) -> Consoles {
        Consoles { node, disk, fetches, kafka, history: Mutex::default(), turns: Semaphore::new(limits::BROWSES_MAX) }
    }

    /// A page of records, read by the partition's leader wherever that is.
    pub async fn browse(&self, request: BrowseRequest) -> Result<Browsed, FetchError> {
        let leader = match self.browse_here(&request).await {
            Err(FetchError::NotLeader { leader: Some(hint), .. }) if hint.broker != self.node.me() => hint.broker,
            answered => return answered,
        };
        let call = Call::Console(ConsoleCall::Browse(request));
        match self.node.call(leader, &call, limits::FETCH_CONFIRM_MAX + limits::CALL_WITHIN).await {
            Ok(Answer::Console(ConsoleAnswer::Browsed(page))) => page,
            Ok(_) | Err(_) => Err(FetchError::Unavailable { reason: format!("its leader, {leader}, does not answer") }),
        }
    }

    /// A node's figures, or None if it does not answer.
    pub async fn figures(&self, of: BrokerId, history: bool) -> Option<NodeFigures> {
        if of == self.node.me() {
            return Some(self.figures_here(history));
        }
        let call = Call::Console(ConsoleCall::Figures { history });
        match self.node.call(of, &call, limits::CALL_WITHIN).await {
            Ok(Answer::Console(ConsoleAnswer::Figures(figures))) => Some(figures),
            Ok(_) | Err(_) => None,
        }
    }

    /// A node's Kafka clients, or None if it does not answer.
    pub async fn kafka_clients(&self, of: BrokerId) -> Option<KafkaClients> {
        if of == self.node.me() {
            return Some(self.kafka.clients());
        }
        match self.node.call(of, &Call::Console(ConsoleCall::KafkaClients), limits::CALL_WITHIN).await {
            Ok(Answer::Console(ConsoleAnswer::KafkaClients(clients))) => Some(clients),
            Ok(_) | Err(_) => None,
        }
    }

    async fn find(&self, topic: &str, partition: PartitionId, at: OffsetAt) -> Result<FoundOffset, FetchError> {
        let read = PartitionRead { topic: topic.into(), topic_id: None, partition, leader_epoch: None };
        self.fetches.find_offset(&read, at).await
    }

    async fn browse_here(&self, request: &BrowseRequest) -> Result<Browsed, FetchError> {
        let turn = timeout(limits::FETCH_CONFIRM_MAX, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            self.node.intake.refused_at(Limit::ConsolePages);
            return Err(FetchError::Unavailable { reason: "too many pages of records are read at once".into() });
        };
        let BrowseRequest { topic, partition, from, .. } = request;
        let offset = match from {
            BrowseFrom::Offset(offset) => *offset,
            BrowseFrom::Start => self.find(topic, *partition, OffsetAt::Earliest).await?.offset,
            BrowseFrom::Time(time) => self.find(topic, *partition, OffsetAt::Time(*time)).await?.offset,
            BrowseFrom::BeforeEnd(records) => {
                let end = self.find(topic, *partition, OffsetAt::Latest).await?.offset;
                let log_start = self.fetches.hosted_for_read(topic, None, *partition).await?.bounds().log_start;
                Offset(end.0.saturating_sub(i64::from(*records)).max(log_start.0))
            }
        };
        self.page_at(request, offset).await
    }

    /// What the request is for, from an offset that it names or that was found for it.
    pub async fn page_at(&self, request: &BrowseRequest, offset: Offset) -> Result<Browsed, FetchError> {
        let BrowseRequest { topic, partition, from, bytes_max } = request;
        let fetch = FetchRequest {
            topic: topic.clone(),
            topic_id: None,
            partition: *partition,
            offset,
            bytes_max: usize::try_from(*bytes_max).unwrap_or(usize::MAX).clamp(1, limits::BROWSE_BYTES_MAX),
            wait: Duration::ZERO,
        };
        let (offset, fetched) = match from {
            BrowseFrom::Offset(_) => (offset, self.fetches.fetch(fetch).await?),
            // Retention may have been quicker than the look-up.
            BrowseFrom::Start | BrowseFrom::Time(_) | BrowseFrom::BeforeEnd(_) => {
                self.fetches.fetch_kept(fetch).await?
            }
        };
        Ok(Browsed { leader: self.node.me(), offset, fetched })
    }

    /// Answers another broker's console.
    pub async fn answer(&self, call: ConsoleCall) -> ConsoleAnswer {
        match call {
            ConsoleCall::Figures { history } => ConsoleAnswer::Figures(self.figures_here(history)),
            ConsoleCall::KafkaClients => ConsoleAnswer::KafkaClients(self.kafka.clients()),
            ConsoleCall::Browse(request) => {
                let page = self.browse_here(&request).await;
                ConsoleAnswer::Browsed(page.and_then(sendable))
            }
        }
    }

    fn figures_here(&self, history: bool) -> NodeFigures {
        let samples = || self.history.lock().expect("no holder panics").samples();
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
pub async fn sample(consoles: Arc<Consoles>, metrics: Metrics) {
    *consoles.history.lock().expect("no holder panics") = History::starting_at(metrics.totals());
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let now = Instant::now();
        let totals = metrics.totals();
        let mut history = consoles.history.lock().expect("no holder panics");
        history.add(consoles.node.clock.wall(), now - last, totals);
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::requests::reads::Fetched;

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
