//! What a console asks of another broker.

use serde::{Deserialize, Serialize};

use crate::{
    broker::{FetchError, requests::reads::Fetched},
    metrics::{KafkaClients, Sample},
    types::{BrokerId, Offset, PartitionId, WallMs},
};

/// A page of records for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowseRequest {
    pub topic: String,
    pub partition: PartitionId,
    pub from: BrowseFrom,
    /// How many bytes of batches are returned at most; one batch is always returned whole.
    pub bytes_max: u32,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrowseFrom {
    Start,
    /// The page begins so many records before the high watermark, or at the log start if that is later.
    BeforeEnd(u32),
    Offset(Offset),
    /// The first record with this timestamp or a later one.
    Time(WallMs),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browsed {
    /// The leader that answered.
    pub leader: BrokerId,
    /// Where the page begins; its first batch may begin below.
    pub offset: Offset,
    pub fetched: Fetched,
}

/// One node's figures that only itself knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFigures {
    /// What is free on the disk. None: the system does not say.
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
    Figures {
        history: bool,
    },
    /// Which Kafka clients has the broker, and what do they ask?
    KafkaClients,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsoleAnswer {
    Browsed(Result<Browsed, FetchError>),
    Figures(NodeFigures),
    KafkaClients(KafkaClients),
}
