//! What this broker's replicas are compared by with those of others: the hash kept while entries are applied, and what
//! is read again from disk. Whoever compares asks each broker for its own; nothing is forwarded.
//!
//! Reading again is slow on purpose: one such read at a time on the node, and after each the disk is left alone for so
//! long that a node never reads more than [`limits::REREAD_BYTES_PER_SECOND`] for it, whoever asks and however often.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    errors::AdminError,
    limits,
    node::Node,
    replicas::{Found, Replicas},
    requests::here::{HashReplicaRequest, ReplicaHash, RereadHash},
};
use crate::{
    raft::{Replica, Reread},
    replicated::Replicated,
    storage::StoreFailed,
    types::LogIndex,
};

/// Answers for this broker's replicas.
pub struct Verifies {
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    /// One permit: who has it encodes a whole state, or reads from disk.
    turn: Semaphore,
}

impl Verifies {
    pub fn new(node: Arc<Node>, replicas: Arc<Replicas>) -> Verifies {
        Verifies { node, replicas, turn: Semaphore::new(1) }
    }

    pub async fn hash(&self, request: HashReplicaRequest) -> Result<ReplicaHash, AdminError> {
        let Some((topic, partition)) = &request.partition else {
            let metadata = self.node.metadata().ok_or_else(|| unavailable("this broker is not in a cluster yet"))?;
            return self.hash_of(&metadata, &request).await;
        };
        match self.replicas.find(topic, None, *partition) {
            Found::Here(hosted) => self.hash_of(&hosted.group, &request).await,
            Found::UnknownTopic | Found::OtherTopic(_) => Err(AdminError::UnknownTopic { topic: topic.clone() }),
            Found::UnknownPartition => {
                Err(AdminError::UnknownPartition { topic: topic.clone(), partition: *partition })
            }
            Found::Elsewhere(_) => Err(unavailable(&format!("no replica of {topic}-{partition} runs on this broker"))),
        }
    }

    async fn hash_of<S: Replicated>(
        &self,
        replica: &Replica<S>,
        request: &HashReplicaRequest,
    ) -> Result<ReplicaHash, AdminError> {
        let is_long = request.with_state || request.reread.is_some();
        let turn = match is_long {
            true => Some(
                timeout(limits::VERIFY_TURN_WITHIN, self.turn.acquire())
                    .await
                    .map_err(|_| unavailable("others are reading this broker's disk to verify it, one at a time"))?,
            ),
            false => None,
        };
        let log = replica.log_hash(request.with_state).await;
        let reread = match request.reread {
            Some((from, to)) => Some(self.reread(replica, from, to).await?),
            None => None,
        };
        drop(turn);
        Ok(ReplicaHash { broker: self.node.me(), group: replica.id(), log, reread })
    }

    /// The caller has the turn.
    async fn reread<S: Replicated>(
        &self,
        replica: &Replica<S>,
        from: LogIndex,
        to: LogIndex,
    ) -> Result<RereadHash, AdminError> {
        let began = Instant::now();
        match replica.reread(from, to, limits::REREAD_STEP_BYTES).await {
            Ok(read) => {
                sleep_until(began + pause(&read)).await;
                Ok(RereadHash::Read(read))
            }
            Err(failed) => {
                self.end(failed.clone());
                match failed.is_damaged() {
                    true => Ok(RereadHash::Damaged(failed)),
                    false => Err(unavailable("its disk cannot be read: the broker stops, and its log says why")),
                }
            }
        }
    }

    /// As after any read that met damage the broker stops and its directory is not used again (SAFETY B9): what is
    /// damaged is marked at once, and the answer that says so is given a moment to leave.
    fn end(&self, failed: StoreFailed) {
        if failed.is_damaged() {
            self.node.store.condemn(failed.reason());
        }
        let node = Arc::clone(&self.node);
        self.node.tasks.spawn(async move {
            sleep(limits::DAMAGE_TOLD_WITHIN).await;
            node.store.fail(failed);
        });
    }
}

/// How long a read of so many bytes may take at least.
fn pause(read: &Reread) -> Duration {
    Duration::from_secs_f64(read.bytes as f64 / limits::REREAD_BYTES_PER_SECOND as f64)
}

fn unavailable(reason: &str) -> AdminError {
    AdminError::Unavailable { reason: reason.into() }
}
