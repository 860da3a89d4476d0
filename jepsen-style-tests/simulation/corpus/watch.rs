//! The invariants on the real thing: after every step of the simulation each live node is looked at from outside, and
//! disks are asked directly.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::{Arc, Mutex},
};

use flotilla::{
    broker::{GroupLook, Receipt},
    storage::{LogEntry, SimDisk},
    types::{BrokerId, LogIndex, METADATA_GROUP, RaftGroupId},
};

use super::invariants::{Broken, EntryId, Invariants, OnDisk, Seen, Vote, World, check_receipt};
use crate::{checker::Logged, node::Node};

/// Replicas of each partition, and so voters.
pub const REPLICAS: usize = 3;

pub struct Watch {
    nodes: Vec<Rc<Node>>,
    pub invariants: Invariants,
    pub leaders: Leaders,
}

/// Who leads what, as the nodes themselves say: the one of the highest term.
#[derive(Default)]
pub struct Leaders {
    by_group: BTreeMap<u64, (u64, u64)>,
}

impl Leaders {
    pub fn of(&self, group: RaftGroupId) -> Option<u64> {
        self.by_group.get(&group.0).map(|(_, node)| *node)
    }

    pub fn metadata(&self) -> Option<u64> {
        self.of(METADATA_GROUP)
    }

    /// Nodes that lead anything.
    pub fn all(&self) -> BTreeSet<u64> {
        self.by_group.values().map(|(_, node)| *node).collect()
    }
}

impl Watch {
    pub fn new(nodes: Vec<Rc<Node>>) -> Watch {
        Watch { nodes, invariants: Invariants::default(), leaders: Leaders::default() }
    }

    /// Looks at every node that lives.
    pub fn look(&mut self) {
        self.leaders.by_group.clear();
        for node in &self.nodes {
            let Some(inspector) = node.inspector() else { continue };
            for look in inspector.look() {
                let seen = seen(node.id, &look);
                // Once stopped it says nothing any more: its core may be anywhere on its way down.
                if look.status.stopped {
                    continue;
                }
                if seen.leads {
                    let leader = self.leaders.by_group.entry(seen.group).or_default();
                    *leader = (*leader).max((seen.term, node.id));
                }
                self.invariants.see(&seen, &Real { nodes: &self.nodes });
            }
        }
    }

    pub fn process_ended(&mut self, node: u64) {
        self.invariants.process_ended(node);
    }
}

/// How far each node's replica of a group has it committed; None: it is down or has none.
pub fn committed(nodes: &[Rc<Node>], group: RaftGroupId) -> BTreeMap<u64, u64> {
    let of = |node: &Rc<Node>| {
        let look = node.inspector()?.look().into_iter().find(|look| look.group == group)?;
        Some((node.id, look.raft.committed?.index.0))
    };
    nodes.iter().filter_map(of).collect()
}

fn seen(node: u64, look: &GroupLook) -> Seen {
    let GroupLook { group, raft, status, bounds, .. } = look;
    let (log_start, high_watermark) = bounds.map_or((0, 0), |of| (of.log_start.0, of.high_watermark.0));
    Seen {
        node,
        group: group.0,
        term: raft.term.0,
        vote: Vote { term: raft.vote.0.0, of: raft.vote.1, is_elected: raft.vote.2 },
        leads: raft.leads,
        ready: status.ready && status.term == raft.term,
        committed: raft.committed.map(|at| at.index.0),
        applied: raft.applied.map(|at| at.index.0),
        state_next: raft.state_next.0,
        log_start,
        high_watermark,
    }
}

struct Real<'a> {
    nodes: &'a [Rc<Node>],
}

impl Real<'_> {
    fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }
}

impl World for Real<'_> {
    fn entries(&self, node: u64, group: u64, from: u64, to: u64) -> Vec<EntryId> {
        let (node, group) = (self.node(node), RaftGroupId(group));
        let recent = node.inspector().and_then(|inspector| inspector.recent(group, LogIndex(from), LogIndex(to)));
        match recent {
            Some(entries) => entries.iter().map(entry_id).collect(),
            // What was there before this life is on its disk alone.
            None => {
                (from..to).filter_map(|at| node.disk.live_entry(group, LogIndex(at))).map(|e| entry_id(&e)).collect()
            }
        }
    }

    fn on_disk(&self, node: u64, group: u64, index: u64) -> OnDisk {
        on_disk(&self.node(node).disk, RaftGroupId(group), LogIndex(index))
    }

    fn voters(&self, node: u64, group: u64) -> Vec<u64> {
        let voters = self.node(node).inspector().and_then(|inspector| inspector.voters(RaftGroupId(group)));
        voters.unwrap_or_default().into_iter().map(|BrokerId(id)| id).collect()
    }

    fn state(&self, node: u64, group: u64) -> Option<(bool, u64)> {
        let (state, is_checkpoint) = self.node(node).inspector()?.state(RaftGroupId(group))?;
        Some((is_checkpoint, hash_of(&state[..])))
    }
}

/// Where what a node's disk holds as committed is not what was committed.
pub fn logs_contradict(invariants: &Invariants, group: RaftGroupId, logs: &BTreeMap<u64, Vec<Logged>>) -> Vec<String> {
    let mut found = vec![];
    for (node, log) in logs {
        for entry in log {
            let id = EntryId { index: entry.index, term: entry.term, payload: payload_hash(&entry.payload) };
            match invariants.committed(group.0, entry.index) {
                Some(known) if known != id => {
                    found.push(format!("group {group}: the disk of n{node} has {id:?}, committed is {known:?}"));
                }
                Some(_) | None => {}
            }
        }
    }
    found
}

pub fn entry_id(entry: &LogEntry) -> EntryId {
    // As the checker of whole logs has it: the kind in front.
    let payload = payload_hash(&[&[entry.kind as u8], &entry.payload[..]].concat());
    EntryId { index: entry.position.index.0, term: entry.position.term.0, payload }
}

fn payload_hash(payload: &[u8]) -> u64 {
    hash_of(payload)
}

fn on_disk(disk: &SimDisk, group: RaftGroupId, index: LogIndex) -> OnDisk {
    match disk.durable_entry(group, index) {
        Some(entry) => OnDisk::Entry(entry_id(&entry)),
        None if disk.durable_purged(group).is_some_and(|purged| purged.index >= index) => OnDisk::Purged,
        // Its topic was deleted, and a majority of the metadata has that: the rest may go on for a moment.
        None if disk.durably_deleted(group) => OnDisk::Purged,
        None => OnDisk::Nothing,
    }
}

/// The same in every process: the hasher's keys are constants.
fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Holds every receipt against the disks at the moment at which the broker answers, within its own step.
#[derive(Clone)]
pub struct Witness {
    disks: Arc<Vec<SimDisk>>,
    found: Arc<Mutex<Vec<Broken>>>,
}

impl Witness {
    pub fn new(nodes: &[Rc<Node>]) -> Witness {
        let disks = nodes.iter().map(|node| node.disk.clone()).collect();
        Witness { disks: Arc::new(disks), found: Arc::default() }
    }

    pub fn hold(&self, group: RaftGroupId, receipt: &Receipt) {
        let named: Vec<u64> = receipt.durable_on.iter().map(|broker| broker.0).collect();
        let disk = |broker: u64| on_disk(&self.disks[broker as usize - 1], group, receipt.index);
        let found = check_receipt(group.0, receipt.index.0, &named, REPLICAS, &disk);
        self.found.lock().expect("no holder panics").extend(found);
    }

    pub fn take_found(&self) -> Vec<Broken> {
        std::mem::take(&mut self.found.lock().expect("no holder panics"))
    }
}
