//! One partition's replica on this broker: its group, its appender, its readers' memory.

pub mod appender;
pub mod cursors;
pub mod latest;
mod planted;
pub mod read;
pub mod rules;
pub mod walk;

use std::sync::{Arc, Mutex, atomic::AtomicU64};

use tokio::time::Instant;

use super::{disk::DiskGuard, limits, node::Node, upkeep::clock::ClockView};
use crate::{
    metrics::TopicTraffic,
    partition::Partition,
    raft::{Replica, Status},
    seam::plant::{self, Plant},
    types::{Offset, TopicPartition, WallMs, ms_i64},
};
use appender::{Appender, AppenderDeps};
use cursors::Cursors;
use planted::high_watermark;
use rules::TopicRules;
use tokio::sync::watch;

pub struct PartitionReplica {
    pub name: TopicPartition,
    pub group: Replica<Partition>,
    pub appender: Appender,
    pub cursors: Cursors,
    pub traffic: TopicTraffic,
    /// After so many sleeps of the process a majority last confirmed that this replica leads.
    pub confirmed_after: AtomicU64,
    rules: Arc<Mutex<TopicRules>>,
    /// Records taken since the start that were past their retention when they came, and when that was last said.
    outdated: Mutex<(u64, Option<Instant>)>,
}

/// What a replica stands on.
#[derive(Clone)]
pub struct Ground {
    pub node: Arc<Node>,
    pub disk: Arc<DiskGuard>,
    pub clock_view: watch::Receiver<ClockView>,
}

/// What of a partition can be read now, from the applied state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub log_start: Offset,
    /// Committed and applied here: the next offset of the applied state.
    pub high_watermark: Offset,
}

impl PartitionReplica {
    pub fn start(
        ground: Ground,
        name: TopicPartition,
        group: Replica<Partition>,
        rules: TopicRules,
    ) -> PartitionReplica {
        let Ground { node, disk, clock_view } = ground;
        let rules = Arc::new(Mutex::new(rules));
        let traffic = node.probe.topic(&name.topic);
        let (hints, (asked, own)) = (Arc::clone(&node), (group.clone(), group.clone()));
        let appender = Appender::start(AppenderDeps {
            name: name.clone(),
            group: group.clone(),
            rules: Arc::clone(&rules),
            clock: Arc::clone(&node.clock),
            probe: node.probe.clone(),
            intake: node.intake.clone(),
            traffic: traffic.clone(),
            shortage: Arc::new(move || disk.shortage_for(&node.raft, &asked)),
            clock_agrees: Arc::new(move || clock_view.borrow().agrees()),
            leader_hint: Arc::new(move || hints.hint_elsewhere(&own)),
        });
        PartitionReplica {
            name,
            group,
            appender,
            cursors: Cursors::default(),
            traffic,
            confirmed_after: AtomicU64::new(0),
            rules,
            outdated: Mutex::default(),
        }
    }

    pub fn rules(&self) -> TopicRules {
        *self.rules.lock().expect("no holder panics")
    }

    pub fn set_rules(&self, rules: TopicRules) {
        *self.rules.lock().expect("no holder panics") = rules;
    }

    /// A batch comes whose records retention will delete at its next look: most likely its clock counts seconds.
    pub fn note_outdated(&self, records: u64, latest: WallMs) {
        let mut outdated = self.outdated.lock().expect("no holder panics");
        outdated.0 = outdated.0.saturating_add(records);
        if outdated.1.is_none_or(|said| said.elapsed() >= limits::OUTDATED_EVERY) {
            outdated.1 = Some(Instant::now());
            let (partition, records) = (&self.name, outdated.0);
            tracing::warn!(%partition, records, %latest, "records come that are older than retention.ms: they will be deleted");
        }
    }

    /// What is worth knowing about retention here: sentences.
    pub fn retention_notes(&self, now: WallMs) -> Vec<String> {
        let rules = self.rules();
        let (Some(_), name) = (rules.retention_ms, &self.name) else { return Vec::new() };
        let mut notes = Vec::new();
        let outdated = self.outdated.lock().expect("no holder panics").0;
        if outdated > 0 {
            notes.push(format!(
                "{outdated} records came to {name} that were older than its retention.ms already: they are deleted \
                 soon after; are their timestamps in milliseconds?"
            ));
        }
        let ahead_ms = ms_i64(limits::PINNED_AHEAD);
        let limit = WallMs(now.0.saturating_add(ahead_ms));
        if let Some(latest) = self.group.read(|state| state.pinned_by(limit)) {
            notes.push(format!(
                "retention.ms deletes nothing of {name}: a record among its oldest has the timestamp {latest} ms, \
                 which lies ahead; retention.bytes and topic trim do not look at it"
            ));
        }
        notes
    }

    pub fn bounds(&self) -> Bounds {
        let (log_start, applied) = self.group.read(|state| (state.log_start(), state.next_offset()));
        let high_watermark =
            if plant::on(Plant::UncommittedReads) { high_watermark(&self.group, applied) } else { applied };
        Bounds { log_start, high_watermark }
    }

    pub fn status(&self) -> Status {
        self.group.status().borrow().clone()
    }

    /// It is led here and misses a replica, or has one that is far behind.
    pub fn is_under_replicated(&self, node: &Node) -> bool {
        self.is_ready()
            && (self.group.voters().iter().any(|(_, broker)| !node.is_alive(*broker))
                || self.group.followers_behind().iter().any(|(_, entries)| *entries > limits::LAG_ENTRIES_MAX))
    }

    pub fn is_ready(&self) -> bool {
        let status = self.status();
        status.leads && status.ready && !status.stopped
    }
}
