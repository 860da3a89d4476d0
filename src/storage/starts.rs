//! How a data directory that was set back to an older copy is told from the one that a broker last had
//! (SAFETY B5). A set-back directory is whole and agrees with itself; only others can know better.
//!
//! Each start of a broker draws a random id and adds it to the ids of the starts before, in the
//! directory. A broker tells its peers its start and, as it goes on, the number of its last synced
//! commit; each peer keeps both ([`Seen`]). What a peer has seen proves the directory older when
//! [`Starts::check`] does not find it there: a later start, another start of the same number (which a
//! counter alone would not show), or a commit that the directory does not have.
//!
//! Pure: no I/O, no clock, no chance.

use serde::{Deserialize, Serialize};

use crate::types::StorageId;

/// Starts that a directory remembers: years of daily ones. A peer that was away for longer can prove
/// nothing by an older one.
const STARTS_MAX: usize = 1_024;

/// Brokers of whom something is kept: as many as a cluster may have.
pub const SEEN_MAX: usize = 1_000;

/// The length of what a broker says of itself before it stops.
pub const ALARM_BYTES_MAX: usize = 1_024;

/// The identity of a start, drawn at random, so that no other start has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartId(pub u128);

/// One start of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Counts the starts on this directory, from 1.
    pub number: u64,
    pub id: StartId,
}

/// A start in the directory's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub id: StartId,
    /// The directory's commit number when it began: where the start before it had ended.
    pub commit_no: u64,
}

/// The last starts of a directory, the running one among them. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The number of the first of `begun`.
    oldest: u64,
    begun: Vec<Begun>,
}

/// What a broker keeps of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The storage id of the other's directory. Nothing is proven about a directory with another one: the cluster's
    /// registration refuses it.
    pub storage_id: StorageId,
    pub start: Start,
    /// The last one that it told in this start.
    pub commit_no: u64,
    /// Why it stopped for good, in its own words; empty if it did not. At most [`ALARM_BYTES_MAX`].
    pub alarm: String,
}

/// Proof that a directory is older than what its broker had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetBack {
    #[error("it has seen start {seen} of this broker, and this directory knows of {here} starts only")]
    LaterStart { seen: u64, here: u64 },
    #[error("it has seen another start {number} of this broker than the one that this directory knows")]
    OtherStart { number: u64 },
    #[error("it has seen commit {seen} of start {number}, which ended in this directory at commit {here}")]
    LaterCommit { number: u64, seen: u64, here: u64 },
}

impl Starts {
    /// What a directory remembers once a process begins on it, at this commit number.
    pub(super) fn after(before: Option<Starts>, id: StartId, commit_no: u64) -> Starts {
        let mut starts = before.unwrap_or(Starts { oldest: 1, begun: Vec::new() });
        starts.begun.push(Begun { id, commit_no });
        let forgotten = starts.begun.len().saturating_sub(STARTS_MAX);
        starts.begun.drain(..forgotten);
        starts.oldest += forgotten as u64;
        starts
    }

    /// The starts that a directory has written down. None: no broker of ours wrote these.
    pub(super) fn from_parts(oldest: u64, begun: Vec<Begun>) -> Option<Starts> {
        let last = oldest.checked_add(begun.len() as u64)?;
        (!begun.is_empty() && begun.len() <= STARTS_MAX && last < u64::MAX).then_some(Starts { oldest, begun })
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    pub(super) fn begun(&self) -> &[Begun] {
        &self.begun
    }

    /// The start of the process that runs now.
    pub fn current(&self) -> Start {
        let last = self.begun.last().expect("never empty");
        Start { number: self.oldest + self.begun.len() as u64 - 1, id: last.id }
    }

    /// Whether what a peer has seen of a directory with this storage id proves that ours is older. Right
    /// at any time, however long this start runs: earlier starts do not change any more.
    pub fn check(&self, storage_id: StorageId, seen: &Seen) -> Result<(), SetBack> {
        if seen.storage_id != storage_id {
            return Ok(());
        }
        let Seen { start: Start { number, id }, commit_no, .. } = *seen;
        let Some(i) = number.checked_sub(self.oldest) else { return Ok(()) };
        let i = usize::try_from(i).unwrap_or(usize::MAX);
        let Some(here) = self.begun.get(i) else {
            return Err(SetBack::LaterStart { seen: number, here: self.current().number });
        };
        if here.id != id {
            return Err(SetBack::OtherStart { number });
        }
        match self.begun.get(i + 1) {
            Some(next) if commit_no > next.commit_no => {
                Err(SetBack::LaterCommit { number, seen: commit_no, here: next.commit_no })
            }
            // It ended no earlier, or it is the running one, which alone tells of its commits.
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: StorageId = StorageId(77);

    /// A directory whose starts have these ids and ended at these commits.
    fn starts(ended: &[(u128, u64)]) -> Starts {
        let mut began = 0;
        let mut all = None;
        for (id, end) in ended {
            all = Some(Starts::after(all, StartId(*id), began));
            began = *end;
        }
        all.expect("a start")
    }

    fn seen(number: u64, id: u128, commit_no: u64) -> Seen {
        Seen { storage_id: DIRECTORY, start: Start { number, id: StartId(id) }, commit_no, alarm: String::new() }
    }

    #[test]
    fn what_the_directory_has_is_no_proof() {
        let ours = starts(&[(11, 100), (12, 200), (13, 300)]);
        assert_eq!(ours.current(), Start { number: 3, id: StartId(13) });
        for fine in [seen(1, 11, 0), seen(1, 11, 100), seen(2, 12, 200), seen(3, 13, 250), seen(3, 13, 9_999)] {
            assert_eq!(ours.check(DIRECTORY, &fine), Ok(()), "{fine:?}");
        }
        let other = Seen { storage_id: StorageId(78), ..seen(9, 99, 9_999) };
        assert_eq!(ours.check(DIRECTORY, &other), Ok(()), "another directory: registration refuses it");
    }

    #[test]
    fn a_later_start_another_start_and_a_later_commit_are_proofs() {
        let ours = starts(&[(11, 100), (12, 200), (13, 300)]);
        for (proof, why) in [
            (seen(4, 14, 0), SetBack::LaterStart { seen: 4, here: 3 }),
            (seen(3, 23, 0), SetBack::OtherStart { number: 3 }),
            (seen(2, 22, 0), SetBack::OtherStart { number: 2 }),
            (seen(2, 12, 201), SetBack::LaterCommit { number: 2, seen: 201, here: 200 }),
            (seen(1, 11, 101), SetBack::LaterCommit { number: 1, seen: 101, here: 100 }),
        ] {
            assert_eq!(ours.check(DIRECTORY, &proof), Err(why), "{proof:?}");
        }
    }

    /// A counter that was set back with its directory counts up again: the ids still differ.
    #[test]
    fn restarts_of_a_set_back_directory_hide_nothing() {
        let mut copy = starts(&[(11, 100)]);
        for (id, commit_no) in [(22, 100), (23, 120), (24, 5_000), (25, 6_000)] {
            copy = Starts::after(Some(copy), StartId(id), commit_no);
            let proof = copy.check(DIRECTORY, &seen(2, 12, 150));
            assert_eq!(proof, Err(SetBack::OtherStart { number: 2 }), "{copy:?}");
            // The peer that heard nothing of start 2, but more of start 1 than was copied.
            let proof = copy.check(DIRECTORY, &seen(1, 11, 101));
            assert_eq!(proof, Err(SetBack::LaterCommit { number: 1, seen: 101, here: 100 }));
        }
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_older_proves_nothing() {
        let mut all = None;
        for id in 0..STARTS_MAX as u128 + 10 {
            all = Some(Starts::after(all, StartId(id), 10 * id as u64));
        }
        let all = all.expect("many");
        assert_eq!((all.begun.len(), all.oldest), (STARTS_MAX, 11));
        assert_eq!(all.check(DIRECTORY, &seen(10, 999, 9_999_999)), Ok(()));
        assert_eq!(all.check(DIRECTORY, &seen(11, 999, 0)), Err(SetBack::OtherStart { number: 11 }));
        assert_eq!(all.check(DIRECTORY, &seen(11, 10, 110)), Ok(()));
    }

    #[test]
    fn impossible_memories_are_none() {
        assert_eq!(Starts::from_parts(1, vec![]), None);
        assert_eq!(Starts::from_parts(u64::MAX, vec![Begun { id: StartId(1), commit_no: 1 }]), None);
        assert_eq!(Starts::from_parts(1, vec![Begun { id: StartId(1), commit_no: 1 }; STARTS_MAX + 1]), None);
    }
}
