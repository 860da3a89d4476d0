//! Which leaderships to move so that the preferred brokers lead again (pure), and moving them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    admin::{Admin, ClusterDescription},
    error::ClientError,
    net::Cluster,
};
use crate::types::{BrokerId, TopicPartition};

/// How long to wait between two tries of a move.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long one try may take: a broker that hangs is given up by then, and the next try hears so.
const TRY_MAX: Duration = Duration::from_secs(10);

/// A leadership that should be where the topic's plan has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderMove {
    /// The partition whose leadership should move.
    pub at: TopicPartition,
    /// The broker that leads now, if one is known.
    pub from: Option<BrokerId>,
    /// The preferred broker: the first of the partition's replicas.
    pub to: BrokerId,
}

/// The moves that bring every partition's leadership to its preferred broker, where that is alive.
pub fn preferred_moves(view: &ClusterDescription) -> Vec<LeaderMove> {
    let is_alive = |id: BrokerId| view.brokers.iter().any(|broker| broker.id == id && broker.is_alive);
    let mut moves = Vec::new();
    for topic in &view.topics {
        for partition in &topic.partitions {
            let Some(&to) = partition.replicas.first() else { continue };
            if partition.leader != Some(to) && is_alive(to) {
                let at = TopicPartition { topic: topic.name.clone(), partition: partition.partition };
                moves.push(LeaderMove { at, from: partition.leader, to });
            }
        }
    }
    moves
}

/// Moves a leadership, again until `within` is over: a broker that was started a moment ago is not heard of
/// everywhere, and has to catch up before it can lead. Repeating it changes nothing more.
pub async fn carry_out(cluster: &Cluster, one: &LeaderMove, within: Duration) -> Result<(), ClientError> {
    let once = |left: Duration| {
        let admin = Admin::new(cluster.clone(), left);
        async move { admin.transfer_leader(one.at.clone()).to(one.to).send().await.map(drop) }
    };
    again(within, once).await
}

async fn again<F>(within: Duration, once: impl Fn(Duration) -> F) -> Result<(), ClientError>
where
    F: Future<Output = Result<(), ClientError>>,
{
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match once(left.min(TRY_MAX)).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_not_found() || Instant::now() + AGAIN_AFTER >= end => return Err(error),
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{super::ErrorCode, *};
    use crate::{proto::v1, types::PartitionId};

    fn said(code: ErrorCode) -> ClientError {
        ClientError::from_wire(v1::Error { code: code.into(), ..Default::default() })
    }

    /// Right after `local restart` a leader took the broker for dead that others knew to be alive, and the whole
    /// command failed.
    #[tokio::test]
    async fn a_move_that_is_refused_is_tried_again_while_there_is_time() {
        let tries = Cell::new(0);
        let third = |_| {
            tries.set(tries.get() + 1);
            let result = if tries.get() == 3 { Ok(()) } else { Err(said(ErrorCode::InvalidRequest)) };
            async { result }
        };
        assert!(again(Duration::from_secs(30), third).await.is_ok());
        assert_eq!(tries.get(), 3);
        let never = |_| async { Err(said(ErrorCode::InvalidRequest)) };
        let error = again(AGAIN_AFTER * 3, never).await.expect_err("the last word");
        assert_eq!(error.code(), Some(ErrorCode::InvalidRequest));
        let gone = |_| async { Err(said(ErrorCode::UnknownTopic)) };
        let began = Instant::now();
        assert!(again(Duration::from_secs(30), gone).await.is_err_and(|error| error.is_not_found()));
        assert!(began.elapsed() < Duration::from_secs(10), "nobody waits for a topic that is gone");
    }

    #[test]
    fn only_what_a_live_preferred_broker_does_not_lead_is_moved() {
        let broker = |id, alive| v1::BrokerInfo { id, alive, ..Default::default() };
        let partition = |partition, leader, replicas: &[u64]| v1::PartitionRouting {
            partition,
            leader,
            replicas: replicas.to_vec(),
            ..Default::default()
        };
        let partitions = vec![
            partition(0, 1, &[1, 2, 3]),
            partition(1, 1, &[2, 1, 3]),
            partition(2, 1, &[3, 1, 2]),
            partition(3, 0, &[2, 3, 1]),
            partition(4, 0, &[]),
        ];
        let view = ClusterDescription::of(v1::GetMetadataResponse {
            brokers: vec![broker(1, true), broker(2, true), broker(3, false)],
            topics: vec![v1::TopicRouting { name: "t".into(), partitions, ..Default::default() }],
            ..Default::default()
        });
        let moved = |partition, from| LeaderMove {
            at: TopicPartition { topic: "t".into(), partition: PartitionId(partition) },
            from,
            to: BrokerId(2),
        };
        assert_eq!(preferred_moves(&view), [moved(1, Some(BrokerId(1))), moved(3, None)]);
    }
}
