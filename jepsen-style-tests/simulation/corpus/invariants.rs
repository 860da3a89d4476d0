//! What must hold at every moment, of what nodes say of themselves and what their disks hold. Pure: it is told what
//! was seen, asks a [`World`] for entries and disks, and remembers. Shown worlds that it must reject
//! (`planted`).
//!
//! Of consensus, as Raft's paper names them: one leader a term, log matching and state machine safety (every
//! committed entry is the same wherever it is seen, and so is the state at one index), leader completeness. Beyond
//! the paper: what is committed is fsynced on a majority, a saved vote is never forgotten, and nothing that only grows
//! goes back within one life of a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What identifies a committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    pub index: u64,
    pub term: u64,
    pub payload: u64,
}

/// What a disk can no longer lose at one index of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    Nothing,
    Entry(EntryId),
    /// Purged: it was committed and applied, and a checkpoint stands for it.
    Purged,
}

/// Whom a replica follows in a term, or voted for; whether that one was elected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    pub of: u64,
    pub is_elected: bool,
}

impl Vote {
    /// A later term may have any. In one term a vote is given once, and who was elected stays; who lost follows them.
    fn may_follow(self, was: Vote) -> bool {
        self.term > was.term
            || self.term == was.term && (self == was || self.is_elected && (!was.is_elected || self.of == was.of))
    }
}

/// One replica as it says it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub node: u64,
    pub group: u64,
    pub term: u64,
    /// The last vote that is on disk.
    pub vote: Vote,
    pub leads: bool,
    /// It answers for the group: the partition's leader, the coordinator of consumer groups.
    pub ready: bool,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    /// One more than the index of the last entry in the state.
    pub state_next: u64,
    pub log_start: i64,
    pub high_watermark: i64,
}

/// Where the invariants ask further.
pub trait World {
    /// Entries `from..to` of a replica's log as its process reads them; those that it has purged are left out.
    fn entries(&self, node: u64, group: u64, from: u64, to: u64) -> Vec<EntryId>;
    fn on_disk(&self, node: u64, group: u64, index: u64) -> OnDisk;
    fn voters(&self, node: u64, group: u64) -> Vec<u64>;
    /// Whether the applied state was just taken as a checkpoint, which it knows of itself, and a hash of all of it.
    /// None: the node has just gone.
    fn state(&self, node: u64, group: u64) -> Option<(bool, u64)>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    TwoLeaders {
        group: u64,
        term: u64,
        nodes: (u64, u64),
    },
    /// A number that only grows is smaller than before, in one life of a process.
    WentBack {
        what: &'static str,
        node: u64,
        group: u64,
        from: i64,
        to: i64,
    },
    /// The first is never larger than the second.
    OutOfOrder {
        what: &'static str,
        node: u64,
        group: u64,
        is: i64,
        limit: i64,
    },
    /// What is on disk as the last vote contradicts the one that was there before, maybe in another life.
    VoteForgotten {
        node: u64,
        group: u64,
        was: Vote,
        is: Vote,
    },
    /// Two replicas have different entries committed at one index.
    CommittedDiffers {
        group: u64,
        node: u64,
        is: EntryId,
        elsewhere: EntryId,
    },
    /// It is committed, and could be lost with a minority.
    NotOnMajority {
        group: u64,
        node: u64,
        entry: EntryId,
        on: Vec<u64>,
        voters: Vec<u64>,
    },
    /// A new leader lacks an entry that was committed in an earlier term.
    LeaderLacks {
        group: u64,
        node: u64,
        term: u64,
        committed: EntryId,
        has: Option<EntryId>,
    },
    /// A leader answers although it has not applied what was committed before its term.
    ReadyTooEarly {
        group: u64,
        node: u64,
        term: u64,
        committed: u64,
        applied: Option<u64>,
    },
    StatesDiffer {
        group: u64,
        next: u64,
        nodes: (u64, u64),
    },
    /// A receipt names a broker whose disk does not have the record.
    AckedTooEarly {
        group: u64,
        index: u64,
        named: u64,
        found: OnDisk,
    },
    /// A receipt names fewer brokers than a majority.
    AckedByFew {
        group: u64,
        index: u64,
        named: Vec<u64>,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// All that was seen so far.
#[derive(Default)]
pub struct Invariants {
    groups: BTreeMap<u64, GroupMemory>,
    /// Of the present life of each node's process.
    replicas: BTreeMap<(u64, u64), ReplicaMemory>,
    /// Of all lives.
    votes: BTreeMap<(u64, u64), Vote>,
    pub found: Vec<Broken>,
}

#[derive(Default)]
struct GroupMemory {
    /// Who led each term, and who was ready to answer in it.
    leaders: BTreeMap<u64, u64>,
    /// Entries known to be committed, by index, and the term in which that was first seen.
    committed: BTreeMap<u64, (EntryId, u64)>,
    /// A state's hash by the index of its next entry, before it was taken as a checkpoint and after, and whose it was.
    states: BTreeMap<(u64, bool), (u64, u64)>,
}

#[derive(Default)]
struct ReplicaMemory {
    seen: Option<Seen>,
    /// Entries below this were compared.
    compared: u64,
    /// The last term whose leader it was seen to be.
    led: Option<u64>,
    /// The last term in which it was seen to be ready.
    ready: Option<u64>,
}

impl Invariants {
    /// What a process was gone with it.
    pub fn process_ended(&mut self, node: u64) {
        self.replicas.retain(|(of, _), _| *of != node);
    }

    /// How many different leaders each group was seen to have.
    pub fn terms_led(&self) -> usize {
        self.groups.values().map(|group| group.leaders.len()).sum()
    }

    pub fn committed_count(&self) -> usize {
        self.groups.values().map(|group| group.committed.len()).sum()
    }

    /// The committed entry of a group at an index, if any node was seen to have it committed.
    pub fn committed(&self, group: u64, index: u64) -> Option<EntryId> {
        self.groups.get(&group)?.committed.get(&index).map(|(entry, _)| *entry)
    }

    /// Checks one replica. Most often nothing has changed, and nothing is asked.
    pub fn see(&mut self, seen: &Seen, world: &dyn World) {
        let key = (seen.node, seen.group);
        let before = self.replicas.entry(key).or_default().seen.replace(seen.clone());
        if before.as_ref() == Some(seen) {
            return;
        }
        self.check_order(seen, before.as_ref());
        self.check_vote(seen);
        self.check_leader(seen, world);
        self.check_committed(seen, world);
        if before.is_none_or(|before| before.state_next != seen.state_next) {
            self.check_state(seen, world);
        }
    }

    fn check_order(&mut self, seen: &Seen, before: Option<&Seen>) {
        let Seen { node, group, .. } = *seen;
        let number = |index: Option<u64>| index.map_or(-1, |index| index as i64);
        let state_last = seen.state_next as i64 - 1;
        let in_order = [
            ("applied <= committed", number(seen.applied), number(seen.committed)),
            ("in the state <= committed", state_last, number(seen.committed)),
            ("log start <= high watermark", seen.log_start, seen.high_watermark),
        ];
        for (what, is, limit) in in_order.into_iter().filter(|(_, is, limit)| is > limit) {
            self.found.push(Broken::OutOfOrder { what, node, group, is, limit });
        }
        let Some(before) = before else { return };
        let growing = [
            ("term", before.term as i64, seen.term as i64),
            ("committed", number(before.committed), number(seen.committed)),
            ("applied", number(before.applied), number(seen.applied)),
            ("next of the state", before.state_next as i64, seen.state_next as i64),
            ("log start", before.log_start, seen.log_start),
            ("high watermark", before.high_watermark, seen.high_watermark),
        ];
        for (what, from, to) in growing.into_iter().filter(|(_, from, to)| to < from) {
            self.found.push(Broken::WentBack { what, node, group, from, to });
        }
    }

    /// Votes of term 0 are those of a replica that has not begun.
    fn check_vote(&mut self, seen: &Seen) {
        let is = seen.vote;
        if is.term == 0 {
            return;
        }
        let was = self.votes.entry((seen.node, seen.group)).or_insert(is);
        if !is.may_follow(*was) {
            self.found.push(Broken::VoteForgotten { node: seen.node, group: seen.group, was: *was, is });
        }
        *was = is;
    }

    fn check_leader(&mut self, seen: &Seen, world: &dyn World) {
        if !seen.leads && !seen.ready {
            return;
        }
        let Seen { node, group, term, .. } = *seen;
        let memory = self.groups.entry(group).or_default();
        let leader = *memory.leaders.entry(term).or_insert(node);
        if leader != node {
            self.found.push(Broken::TwoLeaders { group, term, nodes: (leader, node) });
        }
        let replica = self.replicas.entry((node, group)).or_default();
        let is_new = replica.led.replace(term) != Some(term);
        let is_ready = seen.ready && replica.ready.replace(term) != Some(term);
        if !is_new && !is_ready {
            return;
        }
        // The last entry that was known to be committed in an earlier term; log matching speaks for those before it.
        let earlier = memory.committed.values().rev().find(|(_, seen_in)| *seen_in < term);
        let Some((committed, _)) = earlier.copied() else { return };
        // Entries without a command do not move the state.
        if is_ready && seen.applied < Some(committed.index) && seen.state_next <= committed.index {
            let (committed, applied) = (committed.index, seen.applied);
            self.found.push(Broken::ReadyTooEarly { group, node, term, committed, applied });
        }
        if !is_new {
            return;
        }
        let has = world.entries(node, group, committed.index, committed.index + 1).first().copied();
        let is_purged = world.on_disk(node, group, committed.index) == OnDisk::Purged;
        if has != Some(committed) && !(has.is_none() && is_purged) {
            self.found.push(Broken::LeaderLacks { group, node, term, committed, has });
        }
    }

    fn check_committed(&mut self, seen: &Seen, world: &dyn World) {
        let Some(committed) = seen.committed else { return };
        let Seen { node, group, term, .. } = *seen;
        let replica = self.replicas.entry((node, group)).or_default();
        if replica.compared > committed {
            return;
        }
        let memory = self.groups.entry(group).or_default();
        let mut voters = vec![];
        for entry in world.entries(node, group, replica.compared, committed + 1) {
            if let Some((elsewhere, _)) = memory.committed.get(&entry.index) {
                if *elsewhere != entry {
                    let elsewhere = *elsewhere;
                    self.found.push(Broken::CommittedDiffers { group, node, is: entry, elsewhere });
                }
                continue;
            }
            memory.committed.insert(entry.index, (entry, term));
            if voters.is_empty() {
                voters = world.voters(node, group);
            }
            let holds = |voter: &u64| match world.on_disk(*voter, group, entry.index) {
                OnDisk::Nothing => false,
                OnDisk::Entry(found) => found == entry,
                OnDisk::Purged => true,
            };
            let on: Vec<u64> = voters.iter().copied().filter(holds).collect();
            if on.len() * 2 <= voters.len() {
                self.found.push(Broken::NotOnMajority { group, node, entry, on, voters: voters.clone() });
            }
        }
        replica.compared = committed + 1;
    }

    fn check_state(&mut self, seen: &Seen, world: &dyn World) {
        let Seen { node, group, state_next, .. } = *seen;
        let Some((is_checkpoint, hash)) = world.state(node, group) else { return };
        let states = &mut self.groups.entry(group).or_default().states;
        let (elsewhere, of) = *states.entry((state_next, is_checkpoint)).or_insert((hash, node));
        if elsewhere != hash {
            self.found.push(Broken::StatesDiffer { group, next: state_next, nodes: (of, node) });
        }
    }
}

/// What a receipt claims at the very moment of its answer.
pub fn check_receipt(
    group: u64,
    index: u64,
    named: &[u64],
    replicas: usize,
    disk: &dyn Fn(u64) -> OnDisk,
) -> Vec<Broken> {
    let mut found = vec![];
    let different: BTreeSet<u64> = named.iter().copied().collect();
    if different.len() * 2 <= replicas {
        found.push(Broken::AckedByFew { group, index, named: named.to_vec() });
    }
    for &broker in named {
        if let nothing @ OnDisk::Nothing = disk(broker) {
            found.push(Broken::AckedTooEarly { group, index, named: broker, found: nothing });
        }
    }
    found
}
