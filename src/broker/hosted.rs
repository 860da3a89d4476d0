//! One partition's replica on this broker: its group, its appender, its readers' memory.

use std::sync::{Arc, Mutex};

use super::{
    appender::{Appender, AppenderDeps},
    cursors::Cursors,
    inner::Inner,
    rules::TopicRules,
};
use crate::{
    metrics::TopicTraffic,
    partition::Partition,
    raft::{Group, Status},
    types::{Offset, TopicPartition},
};

pub struct Hosted {
    pub name: TopicPartition,
    pub group: Group<Partition>,
    pub appender: Appender,
    pub cursors: Cursors,
    pub traffic: TopicTraffic,
    rules: Arc<Mutex<TopicRules>>,
}

/// What of a partition can be read now, from the applied state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub log_start: Offset,
    /// Committed and applied here: the next offset of the applied state.
    pub high_watermark: Offset,
}

impl Hosted {
    pub fn start(inner: &Arc<Inner>, name: TopicPartition, group: Group<Partition>, rules: TopicRules) -> Hosted {
        let rules = Arc::new(Mutex::new(rules));
        let (weak, own) = (Arc::downgrade(inner), group.clone());
        let traffic = inner.probe.topic(&name.topic);
        let (weak_inner, own_group) = (weak.clone(), group.clone());
        let appender = Appender::start(AppenderDeps {
            name: name.clone(),
            group: group.clone(),
            rules: Arc::clone(&rules),
            clock: Arc::clone(&inner.clock),
            probe: inner.probe.clone(),
            traffic: traffic.clone(),
            shortage: Arc::new(move || weak_inner.upgrade().and_then(|inner| inner.shortage(&own_group))),
            leader_hint: Arc::new(move || weak.upgrade().and_then(|inner| inner.hint_elsewhere(&own))),
        });
        Hosted { name, group, appender, cursors: Cursors::default(), traffic, rules }
    }

    pub fn rules(&self) -> TopicRules {
        *self.rules.lock().expect("no holder panics")
    }

    pub fn set_rules(&self, rules: TopicRules) {
        *self.rules.lock().expect("no holder panics") = rules;
    }

    pub fn bounds(&self) -> Bounds {
        self.group.read(|state| Bounds { log_start: state.log_start(), high_watermark: state.next_offset() })
    }

    pub fn status(&self) -> Status {
        self.group.status().borrow().clone()
    }

    pub fn is_ready(&self) -> bool {
        let status = self.status();
        status.leads && status.ready && !status.stopped
    }
}
