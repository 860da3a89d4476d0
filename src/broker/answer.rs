//! Which part of the broker answers what another broker asks.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use super::{
    cluster::{neighbours, setback},
    inner::Inner,
    limits,
    peers::calls::{Answer, Call, Hello, decode, encode},
};
use crate::{metrics::Limit, raft::CallHandler, types::BrokerId};

/// The other side waits no longer than it said, and never longer than an admin request may.
fn within(ms: u32) -> Duration {
    Duration::from_millis(ms.into()).min(limits::ADMIN_TIMEOUT)
}

/// Answers other nodes' requests once the broker behind `slot` is there.
pub fn handler(slot: Arc<OnceLock<Weak<Inner>>>) -> CallHandler {
    Arc::new(move |from, bytes| {
        let inner = slot.get().and_then(Weak::upgrade);
        Box::pin(async move {
            let answer = match (inner, decode::<Call>(&bytes)) {
                (Some(inner), Some(call)) => match inner.call_turns.try_acquire() {
                    Ok(_turn) => Arc::clone(&inner).handle(from, call).await,
                    Err(_) => {
                        inner.intake.refused_at(Limit::BrokerCalls);
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

impl Inner {
    async fn handle(self: Arc<Inner>, from: BrokerId, call: Call) -> Answer {
        match call {
            Call::Hello { peers_hash: _ } => Answer::Hello(self.hello()),
            Call::Change { change, within_ms } => Answer::Change(self.change_here(change, within(within_ms)).await),
            Call::MetadataIndex => Answer::MetadataIndex(self.confirmed_index().await),
            Call::Stats { groups } => Answer::Stats(self.stats_here(&groups)),
            Call::Trim { group, before, dry_run, within_ms } => {
                Answer::Trim(self.trim_here(group, before, dry_run, within(within_ms)).await)
            }
            Call::Transfer { group, to, within_ms } => {
                Answer::Transfer(self.transfer_here(group, to, within(within_ms)).await)
            }
            Call::Health => Answer::Health(self.health_here()),
            Call::Clock => Answer::Clock(self.clock.wall()),
            Call::Group { call, within_ms } => Answer::Group(self.coordinate(*call, within(within_ms)).await),
            Call::Lag { readers } => Answer::Lag(self.lag_here(&readers).await),
            Call::GroupNotes => Answer::GroupNotes(self.notes_here()),
            Call::Console(call) => Answer::Console(self.console_answer(call).await),
            Call::LayoutInUse { index, within_ms } => {
                Answer::LayoutInUse(self.uses_layout(index, within(within_ms)).await)
            }
            Call::Recall => Answer::Recalled(setback::recall(&self, from).await),
            Call::Remember { told, after } => {
                let kept = setback::remember(&self, from, told, after).await;
                kept.map_or(Answer::Unavailable, Answer::Remembered)
            }
            Call::Alarm { text } => {
                setback::take_alarm(&self, from, text).await.map_or(Answer::Unavailable, |()| Answer::Alarmed)
            }
            Call::Where => Answer::Where(neighbours::addresses_here(&self)),
            Call::Introduce => Answer::Introduced(self.cluster_id().map(|_| self.card())),
            Call::Leads { group, within_ms } => Answer::Leads(self.leads_here(group, within(within_ms)).await),
            Call::RetentionNotes { groups } => Answer::RetentionNotes(self.retention_notes_here(&groups)),
        }
    }

    fn hello(&self) -> Hello {
        let cluster_id = self.identity.lock().expect("no holder panics").cluster_id;
        let is_empty = *self.is_empty.borrow() && cluster_id.is_none();
        let (broker, peers_hash, peers) = (self.me(), self.peers_hash(), self.peers_text());
        Hello { broker, peers_hash, is_empty, cluster_id, peers }
    }
}
