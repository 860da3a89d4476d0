//! Committed offsets as a register that only grows: who reads never sees less than what was acknowledged, or read, before
//! the read began. Pure; shown histories that it must reject.
//!
//! It only grows because every member begins where its predecessor's commits end and commits more: whatever makes it
//! smaller is a commit that came late, from somebody who may not commit any more, or one that was lost.

use std::{collections::BTreeMap, fmt};

/// A group and a partition.
pub type Register = (String, i32);

/// Begin and end are moments of the one client host, on which all of this happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub value: i64,
    pub began: u64,
    /// None: not acknowledged. It may have happened, and may still.
    pub acked: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// None: nothing was ever committed.
    pub value: Option<i64>,
    pub began: u64,
    pub ended: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    pub commits: BTreeMap<Register, Vec<Commit>>,
    pub reads: BTreeMap<Register, Vec<Read>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StaleOffset {
    /// A commit was acknowledged before the read began, of more than what was read.
    Lost { of: Register, commit: Commit, read: Read },
    /// More was read before.
    WentBack { of: Register, first: Read, second: Read },
    /// Nobody committed that, or not yet.
    NeverCommitted { of: Register, read: Read },
}

impl fmt::Display for StaleOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Commits {
    pub fn commit(&mut self, of: Register, commit: Commit) {
        self.commits.entry(of).or_default().push(commit);
    }

    pub fn read(&mut self, of: Register, read: Read) {
        self.reads.entry(of).or_default().push(read);
    }

    pub fn check(&self) -> Vec<StaleOffset> {
        self.reads.iter().flat_map(|(of, reads)| self.check_register(of, reads)).collect()
    }

    fn check_register(&self, of: &Register, reads: &[Read]) -> Vec<StaleOffset> {
        let commits = self.commits.get(of).map(Vec::as_slice).unwrap_or_default();
        let mut found = vec![];
        for read in reads {
            let acked = commits.iter().filter(|commit| commit.acked.is_some_and(|acked| acked < read.began));
            if let Some(commit) = acked.max_by_key(|commit| commit.value)
                && read.value < Some(commit.value)
            {
                found.push(StaleOffset::Lost { of: of.clone(), commit: commit.clone(), read: read.clone() });
            }
            let earlier = reads.iter().filter(|earlier| earlier.ended < read.began);
            if let Some(first) = earlier.max_by_key(|earlier| earlier.value)
                && read.value < first.value
            {
                found.push(StaleOffset::WentBack { of: of.clone(), first: first.clone(), second: read.clone() });
            }
            let is_known = |value| commits.iter().any(|commit| commit.value == value && commit.began < read.ended);
            if read.value.is_some_and(|value| !is_known(value)) {
                found.push(StaleOffset::NeverCommitted { of: of.clone(), read: read.clone() });
            }
        }
        found
    }
}

/// Each wrong history is one step from one that is right.
pub fn commits_reject_planted_histories() {
    let of = || ("readers".to_string(), 0);
    let mut right = Commits::default();
    right.read(of(), Read { value: None, began: 1, ended: 2 });
    right.commit(of(), Commit { value: 10, began: 3, acked: Some(4) });
    right.commit(of(), Commit { value: 12, began: 5, acked: None });
    right.read(of(), Read { value: Some(10), began: 6, ended: 7 });
    right.read(of(), Read { value: Some(12), began: 8, ended: 9 });
    assert_eq!(right.check(), [], "a commit that nobody acknowledged may come late");
    let rejects = |what: &str, read: Read, wanted: fn(&StaleOffset) -> bool| {
        let mut wrong = right.clone();
        wrong.read(of(), read);
        let found = wrong.check();
        assert!(found.iter().any(wanted), "{what}: {found:?}");
    };
    let late = |value| Read { value, began: 10, ended: 11 };
    rejects("lost", late(None), |found| matches!(found, StaleOffset::Lost { commit: Commit { value: 10, .. }, .. }));
    rejects("back", late(Some(10)), |found| matches!(found, StaleOffset::WentBack { .. }));
    rejects("invented", late(Some(13)), |found| matches!(found, StaleOffset::NeverCommitted { .. }));
    let early = Read { value: Some(10), began: 1, ended: 2 };
    rejects("before it was committed", early, |found| matches!(found, StaleOffset::NeverCommitted { .. }));
    // One that began before the acknowledgement came may read either.
    let mut open = right.clone();
    open.read(of(), Read { value: None, began: 2, ended: 5 });
    assert_eq!(open.check(), []);
}
