//! Looks after the disk: measures it, tells the others, and gives leaderships away when it stays short.

use std::sync::Arc;

use tokio::time::sleep;

use crate::{
    broker::{
        cluster::transfer::Transfers,
        disk::{DiskGuard, Shortage},
        errors::{AdminError, ProduceError},
        limits,
        node::Node,
        replica::PartitionReplica,
    },
    raft::RoomLevel,
    types::BrokerId,
};

/// Looks at the disk until the broker stops.
pub async fn run(node: Arc<Node>, disk: Arc<DiskGuard>) {
    loop {
        sleep(limits::DISK_CHECK_EVERY).await;
        disk.check();
        node.raft.set_room(disk.room());
        disk.hear_of_peers(node.raft.any_peer_short());
    }
}

/// Moves leaderships away from a disk that stays short.
pub async fn run_hand_over(transfers: Arc<Transfers>, disk: Arc<DiskGuard>) {
    loop {
        sleep(limits::HAND_OVER_AFTER).await;
        if transfers.node.is_stopping() {
            return;
        }
        for hosted in transfers.replicas.hosted() {
            if disk.should_hand_over() && hosted.is_ready() {
                hand_over(&transfers, &hosted).await;
            }
        }
    }
}

impl From<Shortage> for ProduceError {
    fn from(shortage: Shortage) -> ProduceError {
        let Shortage { broker, free_bytes, reserve_bytes } = shortage;
        ProduceError::DiskFull { broker, free_bytes, reserve_bytes }
    }
}

impl From<Shortage> for AdminError {
    fn from(shortage: Shortage) -> AdminError {
        let Shortage { broker, free_bytes, reserve_bytes } = shortage;
        AdminError::DiskFull { broker, free_bytes, reserve_bytes }
    }
}

async fn hand_over(transfers: &Transfers, hosted: &PartitionReplica) {
    let node = &transfers.node;
    let voters = hosted.group.voters().into_iter().map(|(_, broker)| broker);
    let with_room = |broker: &BrokerId| {
        *broker != node.me() && node.raft.room_of(*broker).is_some_and(|room| room.level == RoomLevel::Enough)
    };
    let Some(to) = voters.into_iter().find(with_room) else { return };
    match transfers.transfer_here(hosted.group.id(), Some(to), limits::TRANSFER_TIMEOUT).await {
        Ok(leader) => tracing::info!(partition = %hosted.name, to = %leader.broker, "handed over for want of disk"),
        Err(error) => tracing::debug!(partition = %hosted.name, %error, "not handed over yet"),
    }
}
