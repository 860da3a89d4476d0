//! A broker whose disk stalls leads nothing (SAFETY M14): commits need only the others' disks, so it would
//! go on as leader, with a queue that grows until it blocks. It asks the others to take over, and tells
//! its peers instead of pongs that it stalls; a thread ends the process if the disk does not come back.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use crate::{
    broker::{cluster::transfer::Transfers, limits},
    raft::Status,
    types::{METADATA_GROUP, RaftGroupId},
};

/// Looks at the disk until the broker stops.
pub async fn run(transfers: Arc<Transfers>) {
    let mut was_stalled = false;
    while !transfers.node.is_stopping() {
        sleep(limits::STALL_CHECK_EVERY).await;
        let is_stalled = transfers.node.raft.is_stalled();
        match (was_stalled, is_stalled) {
            (false, true) => tracing::error!("the disk has been busy with one write for 2 s: leaderships go to others"),
            (true, false) => tracing::info!("the disk writes again"),
            (true, true) | (false, false) => {}
        }
        was_stalled = is_stalled;
        if is_stalled {
            hand_all_over(&transfers).await;
        }
    }
}

/// Once for each group led here. A group whose core waits for the disk does not hear of it, and sends no
/// heartbeats either: its followers elect another by themselves.
async fn hand_all_over(transfers: &Transfers) {
    let node = &transfers.node;
    let metadata = node.metadata().map(|metadata| (METADATA_GROUP, metadata.status().borrow().clone()));
    let hosted = transfers.replicas.hosted().into_iter().map(|hosted| (hosted.group.id(), hosted.status()));
    // While the core waits for the disk its status is old: others may lead already.
    let is_led = |(group, status): &(RaftGroupId, Status)| {
        status.leads && node.raft.leader_of(*group).is_none_or(|leader| leader.term <= status.term)
    };
    let led: Vec<RaftGroupId> = hosted.chain(metadata).filter(is_led).map(|(group, _)| group).collect();
    let hand_over = |group: RaftGroupId| async move {
        match transfers.transfer_here(group, None, limits::STALL_TRANSFER_WITHIN).await {
            Ok(leader) => tracing::info!(%group, to = %leader.broker, "handed over: the disk stalls"),
            // Each round again: the stall itself was reported.
            Err(error) => tracing::debug!(%group, %error, "not handed over although the disk stalls"),
        }
    };
    stream::iter(led).for_each_concurrent(limits::STALL_TRANSFERS_MAX, hand_over).await;
}
