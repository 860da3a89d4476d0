//! Retention: a leader's decision, made from its clock and size bounds, carried out by a replicated
//! trim (SAFETY M4). Never local, never by a follower. The same rounds carry a topic's `segment.*`
//! configs to its partitions, as entries, so that every replica closes its segments at the same place.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::clock::{self, ClockView};
use crate::{
    broker::{limits, node::Node, replica::PartitionReplica, replicas::Replicas},
    partition::{RESIZE_FEATURE_LEVEL, encode_resize, encode_trim},
};

/// A broker's part in retention: of the partitions that it leads.
pub struct Retention {
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    /// Our wall clock beside our peers' (SAFETY M4).
    clock_view: watch::Sender<ClockView>,
}

impl Retention {
    pub fn new(node: Arc<Node>, replicas: Arc<Replicas>, clock_view: watch::Sender<ClockView>) -> Retention {
        Retention { node, replicas, clock_view }
    }
}

/// Looks around until the broker stops.
pub async fn run(retention: Arc<Retention>) {
    loop {
        sleep(limits::RETENTION_EVERY).await;
        if retention.node.is_stopping() {
            return;
        }
        round(&retention).await;
    }
}

/// Looks once at all that this broker leads.
pub async fn round(retention: &Retention) {
    let Retention { node, replicas, clock_view } = retention;
    let agrees = clock::look(node, clock_view).await;
    let level = node.metadata().map_or(0, |metadata| metadata.read(|state| state.feature_level()));
    for hosted in replicas.led() {
        if level >= RESIZE_FEATURE_LEVEL {
            resize_segments(node, &hosted).await;
        }
        trim_expired(node, &hosted, agrees).await;
    }
}

async fn resize_segments(node: &Node, hosted: &PartitionReplica) {
    let wanted = hosted.rules().segment;
    let now = node.clock.wall();
    let command = hosted
        .group
        .read(|state| (state.segment_limits() != wanted).then(|| encode_resize(state.append_time(now), wanted)));
    if let Some(command) = command
        && propose(hosted, command).await
    {
        tracing::info!(partition = %hosted.name, ?wanted, "segments have other limits now");
    }
}

async fn trim_expired(node: &Node, hosted: &PartitionReplica, clock_agrees: bool) {
    let rules = hosted.rules();
    let retention_ms = rules.retention_ms.filter(|_| clock_agrees);
    let now = node.clock.wall();
    let found = hosted.group.read(|state| {
        let before = state.retention_offset(now, retention_ms, rules.retention_bytes);
        before.filter(|before| *before > state.log_start()).map(|before| (before, state.append_time(now)))
    });
    let Some((before, append_time)) = found else { return };
    if propose(hosted, encode_trim(append_time, before)).await {
        tracing::info!(partition = %hosted.name, %before, "retention moved the log start");
    }
}

/// Whether it was applied in time. Whatever becomes of it: the next round looks again.
async fn propose(hosted: &PartitionReplica, command: Bytes) -> bool {
    let pending = hosted.group.propose(hosted.status().term, command).await;
    match timeout(limits::CALL_WITHIN, pending).await {
        Ok(Ok(_)) => return true,
        Ok(Err(error)) => tracing::debug!(partition = %hosted.name, %error, "retention's entry not applied"),
        Err(_) => tracing::debug!(partition = %hosted.name, "retention's entry takes long"),
    }
    false
}
