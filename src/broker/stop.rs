//! The end of a broker, in its order (SAFETY M13).

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

use super::{cluster::setback, limits, node::Stage, parts::Parts, replica::PartitionReplica};

impl Parts {
    /// SAFETY M13. What is not transferred in time fails over by the goodbye that Raft says.
    pub async fn stop(&self) {
        if self.node.stage.send_replace(Stage::Stopping) == Stage::Stopping {
            return;
        }
        let deadline = Instant::now() + limits::SHUTDOWN_TRANSFERS;
        let led: Vec<Arc<PartitionReplica>> =
            self.replicas.hosted().into_iter().filter(|hosted| hosted.status().leads).collect();
        let transfers = stream::iter(led).for_each_concurrent(limits::TRANSFERS_AT_ONCE, |hosted| async move {
            let left = deadline.saturating_duration_since(Instant::now());
            // For good: if nobody takes over, what waits is answered when the group stops.
            hosted.appender.pause().await.keep();
            match hosted.group.transfer_leader(None, left).await {
                Ok(leader) => tracing::info!(partition = %hosted.name, to = %leader.broker, "leadership handed over"),
                Err(error) => tracing::warn!(partition = %hosted.name, %error, "leadership not handed over"),
            }
        });
        if tokio::time::timeout_at(deadline, transfers).await.is_err() {
            tracing::warn!("not all leaderships were handed over in time: the rest fails over");
        }
        if let Some(metadata) = self.node.metadata() {
            let leads = metadata.status().borrow().leads;
            let left = deadline.saturating_duration_since(Instant::now());
            if leads && let Err(error) = metadata.transfer_leader(None, left).await {
                tracing::warn!(%error, "metadata leadership not handed over");
            }
        }
        setback::say_goodbye(&self.memory).await;
        self.node.raft.shutdown().await;
        if timeout(limits::SHUTDOWN_TASKS, self.node.tasks.stop()).await.is_err() {
            tracing::warn!("a task of this broker does not stop in time: its disk may stall");
        }
        match timeout(limits::SHUTDOWN_FLUSH, self.node.store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last writes could not be flushed"),
            // What was not flushed was not acknowledged either.
            Err(_) => tracing::error!("the disk stalls: the last writes are not flushed"),
        }
    }
}
