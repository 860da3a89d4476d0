//! Changes of names that are not durable yet, in the order in which they were made. Pure.
//!
//! A change is one or two edits of directories, and is durable as a whole or not at all: a rename never leaves both names or
//! none. A sync of a directory commits every change that edits it. So that the order within each directory stays, it
//! also commits the earlier changes of each directory that those edit; and a directory that moved brings everything
//! before it along, since else it could end up below itself.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
};

/// An inode's number. None is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// What a name in a directory becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub dir: Ino,
    pub name: OsString,
    /// None: the name goes.
    pub to: Option<Ino>,
}

/// Edits that are durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub edits: Vec<Edit>,
    pub moves_directory: bool,
}

/// The changes that are not committed.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pending: VecDeque<Change>,
}

impl Journal {
    pub fn add(&mut self, change: Change) {
        self.pending.push_back(change);
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Takes out what a sync of `dir` commits, in order.
    pub fn commit(&mut self, dir: Ino) -> Vec<Change> {
        let mut dirs = BTreeSet::from([dir]);
        let mut everything = false;
        let mut committed = vec![false; self.pending.len()];
        for (i, change) in self.pending.iter().enumerate().rev() {
            committed[i] = everything || change.edits.iter().any(|edit| dirs.contains(&edit.dir));
            if committed[i] {
                dirs.extend(change.edits.iter().map(|edit| edit.dir));
                everything |= change.moves_directory;
            }
        }
        let (mut taken, mut left) = (vec![], VecDeque::new());
        for (change, is_committed) in self.pending.drain(..).zip(committed) {
            if is_committed {
                taken.push(change);
            } else {
                left.push_back(change);
            }
        }
        self.pending = left;
        taken
    }

    /// Takes out the oldest changes.
    pub fn commit_oldest(&mut self, count: usize) -> Vec<Change> {
        self.pending.drain(..count.min(self.pending.len())).collect()
    }

    /// Takes out all that is left.
    pub fn drop_all(&mut self) -> Vec<Change> {
        self.pending.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(edits: &[(u64, &str, Option<u64>)], moves_directory: bool) -> Change {
        let edit =
            |(dir, name, to): &(u64, &str, Option<u64>)| Edit { dir: Ino(*dir), name: (*name).into(), to: to.map(Ino) };
        Change { edits: edits.iter().map(edit).collect(), moves_directory }
    }

    #[test]
    fn a_sync_commits_the_changes_of_its_directory_alone() {
        let mut journal = Journal::default();
        let [a, b, c] = [
            change(&[(1, "a", Some(10))], false),
            change(&[(2, "b", Some(11))], false),
            change(&[(1, "c", None)], false),
        ];
        [&a, &b, &c].into_iter().for_each(|change| journal.add(change.clone()));
        assert_eq!(journal.commit(Ino(1)), [a, c]);
        assert_eq!((journal.commit(Ino(3)), journal.len()), (vec![], 1));
        assert_eq!(journal.commit(Ino(2)), [b]);
    }

    #[test]
    fn a_rename_brings_along_what_came_before_it_in_both_directories() {
        let mut journal = Journal::default();
        let before = change(&[(1, "a", Some(10))], false);
        let rename = change(&[(1, "a", None), (2, "b", Some(10))], false);
        let after = change(&[(1, "z", Some(12))], false);
        [&before, &rename, &after].into_iter().for_each(|change| journal.add(change.clone()));
        assert_eq!(journal.commit(Ino(2)), [before, rename]);
        assert_eq!(journal.len(), 1);
    }

    #[test]
    fn a_directory_that_moved_brings_everything_before_it_along() {
        let mut journal = Journal::default();
        let elsewhere = change(&[(7, "x", Some(10))], false);
        let moved = change(&[(1, "a", None), (2, "b", Some(3))], true);
        [&elsewhere, &moved].into_iter().for_each(|change| journal.add(change.clone()));
        assert_eq!(journal.commit(Ino(2)), [elsewhere, moved]);
    }
}
