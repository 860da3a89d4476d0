//! What a broker keeps of its own starts and of those of others, so that a directory that was set back is noticed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    broker::{
        BrokerFailed,
        node::{Node, storage_failed},
    },
    storage::{Seen, StartId, Starts, Store},
    types::BrokerId,
};

/// A broker's part in what brokers remember of one another.
pub struct Memory {
    pub node: Arc<Node>,
    pub past: Past,
}

/// This broker's own starts, and what it keeps of others.
pub struct Past {
    pub starts: Starts,
    /// The directory was part of a cluster when this process began: others may know of it.
    pub had_cluster: bool,
    /// What was seen of others, as it is on disk. Held while it is written, so that the disk follows the order of what
    /// was heard.
    pub seen: tokio::sync::Mutex<BTreeMap<BrokerId, Seen>>,
    /// Why brokers stopped for good, from `seen`.
    pub alarms: Mutex<BTreeMap<BrokerId, String>>,
    /// The last commit told to each peer, and in which life of the link to it.
    pub told: Mutex<BTreeMap<BrokerId, (u64, u64)>>,
    /// The last write of `seen` that is queued and may not be durable yet.
    pub queued: Mutex<Option<u64>>,
}

impl Past {
    /// Begins a life of this broker, durably.
    pub async fn begin(store: &Store, id: StartId, had_cluster: bool) -> Result<Past, BrokerFailed> {
        let starts = store.begin_start(id).await.map_err(storage_failed)?;
        let seen = store.all_seen().await.map_err(storage_failed)?;
        let alarms = seen.iter().filter(|(_, seen)| !seen.alarm.is_empty());
        let alarms = alarms.map(|(broker, seen)| (*broker, seen.alarm.clone())).collect();
        Ok(Past {
            starts,
            had_cluster,
            seen: tokio::sync::Mutex::new(seen),
            alarms: Mutex::new(alarms),
            told: Mutex::default(),
            queued: Mutex::default(),
        })
    }

    /// What brokers said when they stopped for good, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.alarms.lock().expect("no holder panics");
        alarms.iter().map(|(broker, alarm)| format!("broker {broker} has stopped for good: {alarm}")).collect()
    }

    #[cfg(test)]
    pub fn is_durable(&self) -> bool {
        self.queued.lock().expect("no holder panics").is_none()
    }

    pub fn note_alarm(&self, broker: BrokerId, alarm: &str) {
        let mut alarms = self.alarms.lock().expect("no holder panics");
        if alarm.is_empty() {
            alarms.remove(&broker);
        } else {
            alarms.insert(broker, alarm.to_string());
        }
    }
}
