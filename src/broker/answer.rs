//! Which part of the broker answers what another broker asks.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use super::{
    cluster::{neighbours, setback},
    limits,
    parts::Parts,
    peers::calls::{Answer, Call, decode, encode},
};
use crate::{metrics::Limit, raft::CallHandler, types::BrokerId};
use tokio::sync::Semaphore;

/// The other side waits no longer than it said, and never longer than an admin request may.
fn within(ms: u32) -> Duration {
    Duration::from_millis(ms.into()).min(limits::ADMIN_TIMEOUT)
}

/// Answers other nodes' requests once the broker behind `slot` is there.
pub fn handler(slot: Arc<OnceLock<Weak<Parts>>>) -> CallHandler {
    let turns = Arc::new(Semaphore::new(limits::CALLS_MAX));
    Arc::new(move |from, bytes| {
        let (parts, turns) = (slot.get().and_then(Weak::upgrade), Arc::clone(&turns));
        Box::pin(async move {
            let answer = match (parts, decode::<Call>(&bytes)) {
                // It plays an older version, which could not read this.
                (Some(parts), Some(call)) if call.level() > parts.node.settings.feature_level => Answer::Unavailable,
                (Some(parts), Some(call)) => match turns.try_acquire() {
                    Ok(_turn) => answer(&parts, from, call).await,
                    Err(_) => {
                        parts.node.intake.refused_at(Limit::BrokerCalls);
                        Answer::Unavailable
                    }
                },
                (Some(_), None) => {
                    tracing::warn!(%from, bytes = bytes.len(), "a node's request cannot be read: another version?");
                    Answer::Unavailable
                }
                (None, _) => Answer::Unavailable,
            };
            encode(&answer)
        })
    })
}

async fn answer(parts: &Parts, from: BrokerId, call: Call) -> Answer {
    let Parts { node, metadata, replicas, memory, notes, transfers, topics, groups, .. } = parts;
    match call {
        Call::Hello { peers_hash: _ } => Answer::Hello(parts.forming.hello()),
        Call::Change { change, within_ms } => Answer::Change(metadata.change_here(change, within(within_ms)).await),
        Call::MetadataIndex => Answer::MetadataIndex(metadata.confirmed_index().await),
        Call::Stats { groups } => Answer::Stats(topics.stats_here(&groups)),
        Call::Trim { group, before, dry_run, within_ms } => {
            Answer::Trim(topics.trim_here(group, before, dry_run, within(within_ms)).await)
        }
        Call::Transfer { group, to, within_ms } => {
            Answer::Transfer(transfers.transfer_here(group, to, within(within_ms)).await)
        }
        Call::Health => Answer::Health(parts.views.health_here()),
        Call::Clock => Answer::Clock(node.clock.wall()),
        Call::Group { call, within_ms } => Answer::Group(groups.coordinate(*call, within(within_ms)).await),
        Call::Lag { readers } => Answer::Lag(groups.lag.here(&readers).await),
        Call::GroupNotes => Answer::GroupNotes(notes.here()),
        Call::Console(call) => Answer::Console(parts.consoles.answer(call).await),
        Call::LayoutInUse { index, within_ms } => {
            Answer::LayoutInUse(replicas.uses_layout(index, within(within_ms)).await)
        }
        Call::Recall => Answer::Recalled(setback::recall(memory, from).await),
        Call::Remember { told, after } => {
            let kept = setback::remember(memory, from, told, after).await;
            kept.map_or(Answer::Unavailable, Answer::Remembered)
        }
        Call::Alarm { text } => {
            setback::take_alarm(memory, from, text).await.map_or(Answer::Unavailable, |()| Answer::Alarmed)
        }
        Call::Where => Answer::Where(neighbours::addresses_here(node)),
        Call::Introduce => Answer::Introduced(node.cluster_id().map(|_| node.card())),
        Call::Describe => Answer::Described {
            card: node.cluster_id().map(|_| node.card()),
            feature_level: node.settings.feature_level,
        },
        Call::DescribeWithKafka => Answer::DescribedWithKafka {
            card: node.cluster_id().map(|_| node.card()),
            feature_level: node.settings.feature_level,
            kafka_address: node.settings.kafka_address.clone(),
        },
        Call::Leads { group, within_ms } => Answer::Leads(transfers.leads_here(group, within(within_ms)).await),
        Call::RetentionNotes { groups } => Answer::RetentionNotes(notes.of_here(&groups)),
    }
}
