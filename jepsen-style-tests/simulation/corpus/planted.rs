//! Worlds that the invariants must reject, each one step from one that they accept.

use std::collections::BTreeMap;

use super::invariants::{Broken, EntryId, Invariants, OnDisk, Seen, Vote, World, check_receipt};

/// Three nodes with one group, whose logs, disks and states are written down.
#[derive(Clone, Default)]
struct Written {
    logs: BTreeMap<u64, Vec<EntryId>>,
    disks: BTreeMap<u64, Vec<EntryId>>,
    /// Indexes below this are purged, by node.
    purged: BTreeMap<u64, u64>,
    states: BTreeMap<u64, u64>,
}

impl World for Written {
    fn entries(&self, node: u64, _: u64, from: u64, to: u64) -> Vec<EntryId> {
        let of = |entries: &Vec<EntryId>| {
            entries.iter().copied().filter(|entry| (from..to).contains(&entry.index)).collect()
        };
        self.logs.get(&node).map(of).unwrap_or_default()
    }

    fn on_disk(&self, node: u64, _: u64, index: u64) -> OnDisk {
        if self.purged.get(&node).is_some_and(|below| index < *below) {
            return OnDisk::Purged;
        }
        let found = self.disks.get(&node).and_then(|disk| disk.iter().find(|entry| entry.index == index));
        found.map_or(OnDisk::Nothing, |entry| OnDisk::Entry(*entry))
    }

    fn voters(&self, _: u64, _: u64) -> Vec<u64> {
        vec![1, 2, 3]
    }

    fn state(&self, node: u64, _: u64) -> Option<(bool, u64)> {
        self.states.get(&node).map(|hash| (false, *hash))
    }
}

fn entry(index: u64) -> EntryId {
    EntryId { index, term: 1, payload: 100 + index }
}

/// Three entries, which are in all logs and on the first two disks.
fn right() -> Written {
    let entries: Vec<EntryId> = (0..3).map(entry).collect();
    Written {
        logs: (1..=3).map(|node| (node, entries.clone())).collect(),
        disks: (1..=2).map(|node| (node, entries.clone())).collect(),
        purged: BTreeMap::new(),
        states: (1..=3).map(|node| (node, 7)).collect(),
    }
}

fn seen(node: u64) -> Seen {
    Seen {
        node,
        group: 5,
        term: 1,
        vote: vote(1, 1, true),
        leads: node == 1,
        ready: node == 1,
        committed: Some(2),
        applied: Some(2),
        state_next: 3,
        log_start: 0,
        high_watermark: 2,
    }
}

fn found(world: &Written, row: &[Seen]) -> Vec<Broken> {
    let mut invariants = Invariants::default();
    for seen in row {
        invariants.see(seen, world);
    }
    invariants.found
}

fn rejects(what: &str, world: &Written, row: &[Seen], wanted: fn(&Broken) -> bool) {
    let found = found(world, row);
    assert!(found.iter().any(wanted), "{what}: {found:?}");
}

pub fn invariants_reject_planted_worlds() {
    assert_eq!(found(&right(), &[seen(1), seen(2), seen(3), seen(1)]), []);
    planted_leaders();
    planted_numbers();
    planted_logs();
    planted_receipts();
}

fn planted_leaders() {
    let also = Seen { leads: true, ..seen(2) };
    rejects("two leaders", &right(), &[seen(1), also], |found| matches!(found, Broken::TwoLeaders { term: 1, .. }));
    let coordinates = Seen { ready: true, ..seen(2) };
    rejects("two coordinators", &right(), &[seen(1), coordinates], |found| matches!(found, Broken::TwoLeaders { .. }));
    let next = Seen { term: 2, vote: vote(2, 2, true), leads: true, ..seen(2) };
    assert_eq!(found(&right(), &[seen(1), next.clone()]), [], "the next term has another leader");
    let mut lacks = right();
    lacks.logs.insert(2, vec![entry(0), entry(1)]);
    let lacking = Seen { committed: Some(1), applied: Some(1), state_next: 2, ..next.clone() };
    rejects("a leader without an entry", &lacks, &[seen(1), lacking], |found| {
        matches!(found, Broken::LeaderLacks { node: 2, has: None, .. })
    });
    let hasty = Seen { applied: Some(1), state_next: 2, ready: true, ..next.clone() };
    rejects("a leader that answers before it has applied everything", &right(), &[seen(1), hasty], |found| {
        matches!(found, Broken::ReadyTooEarly { node: 2, committed: 2, .. })
    });
    let mut purged = right();
    purged.logs.insert(2, vec![]);
    purged.purged.insert(2, 3);
    assert_eq!(found(&purged, &[seen(1), next.clone()]), [], "what a leader has purged it had");
    planted_votes();
}

fn vote(term: u64, of: u64, is_elected: bool) -> Vote {
    Vote { term, of, is_elected }
}

fn planted_votes() {
    let votes = |first: Vote, then: Vote| {
        let row = [Seen { vote: first, ..seen(2) }, Seen { vote: then, ..seen(2) }];
        found(&right(), &row).iter().any(|found| matches!(found, Broken::VoteForgotten { node: 2, .. }))
    };
    assert!(votes(vote(2, 2, false), vote(1, 1, true)), "an earlier term");
    assert!(votes(vote(1, 3, false), vote(1, 1, false)), "two votes in a term");
    assert!(votes(vote(1, 3, true), vote(1, 1, true)), "two leaders followed in a term");
    assert!(votes(vote(1, 1, true), vote(1, 1, false)), "an election forgotten");
    assert!(!votes(vote(1, 3, false), vote(1, 1, true)), "who lost follows who won");
    assert!(!votes(vote(1, 1, true), vote(2, 3, false)), "a later term");
    // Another life of the process must remember.
    let mut invariants = Invariants::default();
    invariants.see(&Seen { vote: vote(3, 2, false), ..seen(2) }, &right());
    invariants.process_ended(2);
    invariants.see(&Seen { vote: vote(2, 1, true), ..seen(2) }, &right());
    assert!(matches!(invariants.found[..], [Broken::VoteForgotten { .. }]), "{:?}", invariants.found);
}

fn planted_numbers() {
    let back = |what: &'static str, change: fn(&mut Seen)| {
        let mut later = seen(2);
        change(&mut later);
        let found = found(&right(), &[seen(2), later.clone()]);
        let is_it = |found: &Broken| matches!(found, Broken::WentBack { what: is, .. } if *is == what);
        assert!(found.iter().any(is_it), "{what}: {found:?}");
        // Another life begins with what its disk has.
        let mut invariants = Invariants::default();
        invariants.see(&seen(2), &right());
        invariants.process_ended(2);
        invariants.see(&later, &right());
        assert!(!invariants.found.iter().any(is_it), "{what}: {:?}", invariants.found);
    };
    back("term", |seen| seen.term = 0);
    back("committed", |seen| seen.committed = Some(1));
    back("applied", |seen| seen.applied = Some(1));
    back("next of the state", |seen| seen.state_next = 2);
    back("high watermark", |seen| seen.high_watermark = 1);
    back("log start", |seen| seen.log_start = -1);
    let order = |what: &'static str, wrong: Seen| {
        let found = found(&right(), &[wrong]);
        let is_it = |found: &Broken| matches!(found, Broken::OutOfOrder { what: is, .. } if *is == what);
        assert!(found.iter().any(is_it), "{what}: {found:?}");
    };
    order("applied <= committed", Seen { applied: Some(3), ..seen(1) });
    order("in the state <= committed", Seen { state_next: 4, ..seen(1) });
    order("log start <= high watermark", Seen { log_start: 3, ..seen(1) });
}

fn planted_logs() {
    let mut other_bytes = right();
    other_bytes.logs.get_mut(&3).expect("it has a log")[1].payload = 9;
    rejects("other bytes", &other_bytes, &[seen(1), seen(3)], |found| {
        matches!(found, Broken::CommittedDiffers { node: 3, is: EntryId { index: 1, .. }, .. })
    });
    let mut other_term = right();
    other_term.logs.get_mut(&3).expect("it has a log")[2].term = 2;
    rejects("another term", &other_term, &[seen(1), seen(3)], |found| {
        matches!(found, Broken::CommittedDiffers { is: EntryId { index: 2, .. }, .. })
    });
    let mut one_disk = right();
    one_disk.disks.get_mut(&2).expect("it has a disk").pop();
    rejects("on one disk of three", &one_disk, &[seen(1)], |found| {
        matches!(found, Broken::NotOnMajority { entry: EntryId { index: 2, .. }, .. })
    });
    let mut other_entry = right();
    other_entry.disks.get_mut(&2).expect("it has a disk")[2].term = 9;
    rejects("another entry on the second disk", &other_entry, &[seen(1)], |found| {
        matches!(found, Broken::NotOnMajority { .. })
    });
    let mut other_state = right();
    other_state.states.insert(3, 8);
    rejects("another state", &other_state, &[seen(1), seen(3)], |found| {
        matches!(found, Broken::StatesDiffer { nodes: (1, 3), .. })
    });
    // The same process again, after a crash that lost what it had committed.
    let mut invariants = Invariants::default();
    invariants.see(&seen(1), &right());
    invariants.process_ended(1);
    invariants.see(&seen(1), &other_term_of(1));
    assert!(matches!(invariants.found[..], [Broken::CommittedDiffers { node: 1, .. }]), "{:?}", invariants.found);
}

fn other_term_of(node: u64) -> Written {
    let mut world = right();
    world.logs.get_mut(&node).expect("it has a log")[0].term = 4;
    world
}

fn planted_receipts() {
    let disk = |node: u64| right().on_disk(node, 5, 2);
    assert_eq!(check_receipt(5, 2, &[1, 2], 3, &disk), []);
    let early = check_receipt(5, 2, &[1, 3], 3, &disk);
    assert!(matches!(early[..], [Broken::AckedTooEarly { named: 3, .. }]), "{early:?}");
    let few = check_receipt(5, 2, &[1], 3, &disk);
    assert!(matches!(few[..], [Broken::AckedByFew { .. }]), "{few:?}");
    let twice = check_receipt(5, 2, &[1, 1], 3, &disk);
    assert!(matches!(twice[..], [Broken::AckedByFew { .. }]), "{twice:?}");
}
