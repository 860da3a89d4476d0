//! Where sequential readers of a partition stand, so that each fetch goes on without a search.

use std::{collections::VecDeque, sync::Mutex};

use crate::{
    broker::limits,
    types::{LogIndex, Offset},
};

/// A place to read from: the entry at `index`, or the first live one after it, begins at `expect`
/// (SAFETY M3). Holds for ever, since only applied entries get cursors; it can only be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub index: LogIndex,
    pub expect: Offset,
}

/// Least recently used go first.
#[derive(Default)]
pub struct Cursors(Mutex<VecDeque<(Offset, Cursor)>>);

impl Cursors {
    pub fn get(&self, offset: Offset) -> Option<Cursor> {
        let cursors = self.0.lock().expect("no holder panics");
        cursors.iter().rev().find(|(at, _)| *at == offset).map(|(_, cursor)| *cursor)
    }

    /// It led to a purged place.
    pub fn forget(&self, offset: Offset) {
        self.0.lock().expect("no holder panics").retain(|(at, _)| *at != offset);
    }

    /// The reader that asked for `from` goes on at `next`.
    pub fn moved(&self, from: Offset, next: Offset, cursor: Cursor) {
        let mut cursors = self.0.lock().expect("no holder panics");
        cursors.retain(|(at, _)| *at != from && *at != next);
        if cursors.len() >= limits::CURSORS_MAX {
            cursors.pop_front();
        }
        cursors.push_back((next, cursor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(index: u64) -> Cursor {
        Cursor { index: LogIndex(index), expect: Offset(0) }
    }

    #[test]
    fn a_reader_keeps_one_cursor_and_the_oldest_goes_first() {
        let cursors = Cursors::default();
        cursors.moved(Offset(0), Offset(5), cursor(1));
        cursors.moved(Offset(5), Offset(9), cursor(2));
        assert_eq!((cursors.get(Offset(5)), cursors.get(Offset(9))), (None, Some(cursor(2))));
        for i in 0..limits::CURSORS_MAX as i64 {
            cursors.moved(Offset(-1), Offset(100 + i), cursor(3));
        }
        assert_eq!(cursors.get(Offset(9)), None);
        assert_eq!(cursors.0.lock().unwrap().len(), limits::CURSORS_MAX);
    }
}
