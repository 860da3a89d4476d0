//! Retention: a leader's decision, made from its clock and size bounds, carried out by a replicated
//! trim (SAFETY M4). Never local, never by a follower. The same rounds carry a topic's `segment.*`
//! configs to its partitions, as entries, so that every replica closes its segments at the same place.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::clock;
use crate::{
    broker::{inner::Inner, limits, replica::PartitionReplica},
    partition::{RESIZE_FEATURE_LEVEL, encode_resize, encode_trim},
};

pub async fn run(inner: Arc<Inner>) {
    loop {
        sleep(limits::RETENTION_EVERY).await;
        if inner.is_stopping() {
            return;
        }
        round(&inner).await;
    }
}

/// Looks once at all that this broker leads.
pub async fn round(inner: &Inner) {
    let agrees = clock::look(inner, &inner.clock_view).await;
    let level = inner.metadata().map_or(0, |metadata| metadata.read(|state| state.feature_level()));
    for hosted in inner.routes.hosted() {
        if hosted.is_ready() {
            if level >= RESIZE_FEATURE_LEVEL {
                resize_segments(inner, &hosted).await;
            }
            trim_expired(inner, &hosted, agrees).await;
        }
    }
}

async fn resize_segments(inner: &Inner, hosted: &PartitionReplica) {
    let wanted = hosted.rules().segment;
    let now = inner.clock.wall();
    let command = hosted
        .group
        .read(|state| (state.segment_limits() != wanted).then(|| encode_resize(state.append_time(now), wanted)));
    if let Some(command) = command
        && propose(hosted, command).await
    {
        tracing::info!(partition = %hosted.name, ?wanted, "segments have other limits now");
    }
}

async fn trim_expired(inner: &Inner, hosted: &PartitionReplica, clock_agrees: bool) {
    let rules = hosted.rules();
    let retention_ms = rules.retention_ms.filter(|_| clock_agrees);
    let now = inner.clock.wall();
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
