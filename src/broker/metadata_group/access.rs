//! The metadata group as any broker reaches it: what this broker's copy says, made as fresh as who asks needs it.

use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::rounds::Rounds;
use crate::{
    broker::{
        errors::AdminError,
        limits,
        node::Node,
        peers::calls::{Answer, Call},
    },
    metadata::{Metadata, PartitionInfo, Topic},
    raft::Replica,
    types::{LogIndex, METADATA_GROUP, PartitionId},
};

/// A broker's way to the metadata group.
pub struct MetadataGroup {
    pub node: Arc<Node>,
    /// One confirmation for all who wait.
    reads: Rounds,
}

/// No majority of the metadata group bore out in time that what is known here is all that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotConfirmed {
    pub waited: Duration,
}

impl MetadataGroup {
    pub fn new(node: Arc<Node>) -> MetadataGroup {
        let asked = Arc::clone(&node);
        let reads = Rounds::start(move || {
            let node = Arc::clone(&asked);
            Box::pin(async move { confirm_anywhere(&node, limits::CALL_WITHIN).await })
        });
        MetadataGroup { node, reads }
    }

    /// The metadata as it is at least, whoever changed it, when this is called.
    pub async fn confirmed(&self, within: Duration) -> Result<Replica<Metadata>, NotConfirmed> {
        let started = Instant::now();
        let deadline = started + within;
        loop {
            if let Some(metadata) = self.node.metadata()
                && let Some(confirmed) = self.reads.next().await
                && wait_applied(&metadata, confirmed.index, deadline).await
            {
                return Ok(metadata);
            }
            if Instant::now() + limits::CHANGE_RETRY >= deadline {
                return Err(NotConfirmed { waited: started.elapsed() });
            }
            self.wait_retry().await;
        }
    }

    /// A moment, or sooner if leadership moved.
    pub async fn wait_retry(&self) {
        let mut leaders = self.node.raft.leaders_changed();
        leaders.borrow_and_update();
        let _ = timeout(limits::CHANGE_RETRY, leaders.changed()).await;
    }

    /// Until the metadata applied here reaches `index`, or `deadline`. Whether it did.
    pub async fn wait_applied(&self, index: LogIndex, deadline: Instant) -> bool {
        match self.node.metadata() {
            Some(metadata) => wait_applied(&metadata, index, deadline).await,
            None => false,
        }
    }

    /// An index that covers every change committed before now, if this broker leads the metadata.
    pub async fn confirmed_index(&self) -> Option<LogIndex> {
        confirmed_index(&self.node).await
    }

    /// Brings the local metadata up to what was committed before now, within the bound of SAFETY M9.
    /// False: it goes on with what is there, which may be old.
    pub async fn refresh(&self) -> bool {
        let deadline = Instant::now() + limits::STALE_WAIT;
        match timeout_at(deadline, confirm_anywhere(&self.node, limits::STALE_WAIT)).await {
            Ok(Some(index)) => self.wait_applied(index, deadline).await,
            Ok(None) | Err(_) => false,
        }
    }

    /// The metadata group, brought up to date within SAFETY M9's bound.
    pub async fn refreshed(&self) -> Result<Replica<Metadata>, AdminError> {
        self.refresh().await;
        let not_yet = || AdminError::Unavailable { reason: "this broker is not in a cluster yet".into() };
        self.node.metadata().ok_or_else(not_yet)
    }

    /// A topic as this broker knows it.
    pub fn known(&self, name: &str) -> Option<Topic> {
        self.node.metadata()?.read(|state| state.topic(name).cloned())
    }

    /// A topic; an unknown one is looked for in fresh metadata before it is called unknown.
    pub async fn topic(&self, name: &str) -> Result<Topic, AdminError> {
        match self.known(name) {
            Some(topic) => Ok(topic),
            None => self.topic_now(name).await,
        }
    }

    /// A topic as the metadata has it now, if the leader answers: what is known here may be an earlier one of that name.
    pub async fn topic_now(&self, name: &str) -> Result<Topic, AdminError> {
        let is_fresh = self.refresh().await;
        match self.known(name) {
            Some(topic) => Ok(topic),
            None if is_fresh => Err(AdminError::UnknownTopic { topic: name.to_string() }),
            None => Err(AdminError::Unavailable {
                reason: format!("topic {name:?} is not known here, and the metadata leader does not answer"),
            }),
        }
    }

    /// A partition's place; an unknown one is looked for in fresh metadata before it is called unknown.
    pub async fn partition(&self, topic: &str, partition: PartitionId) -> Result<PartitionInfo, AdminError> {
        let numbered = |topic: Topic| usize::try_from(partition.0).ok().and_then(|i| topic.partitions.get(i).cloned());
        if let Some(info) = numbered(self.topic(topic).await?) {
            return Ok(info);
        }
        // It may have been added a moment ago.
        let is_fresh = self.refresh().await;
        match numbered(self.topic(topic).await?) {
            Some(info) => Ok(info),
            None if is_fresh => Err(AdminError::UnknownPartition { topic: topic.to_string(), partition }),
            None => Err(AdminError::Unavailable {
                reason: format!("{topic}-{partition} is not known here, and the metadata leader does not answer"),
            }),
        }
    }
}

/// One question to whoever leads the metadata group, which asks its majority.
async fn confirm_anywhere(node: &Node, within: Duration) -> Option<LogIndex> {
    let leader = node.raft.leader_of(METADATA_GROUP)?;
    if leader.broker == node.me() {
        return confirmed_index(node).await;
    }
    match node.call(leader.broker, &Call::MetadataIndex, within).await {
        Ok(Answer::MetadataIndex(index)) => index,
        Ok(_) | Err(_) => None,
    }
}

async fn confirmed_index(node: &Node) -> Option<LogIndex> {
    let metadata = node.metadata()?;
    timeout(limits::CALL_WITHIN, metadata.read_index()).await.ok()?.ok()
}

async fn wait_applied(metadata: &Replica<Metadata>, index: LogIndex, deadline: Instant) -> bool {
    let mut applied = metadata.applied();
    let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
    matches!(timeout_at(deadline, reached).await, Ok(Ok(_)))
}
