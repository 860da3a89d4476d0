//! How far readers see, and what they would see if a bug were planted: all that the leader has appended.

use crate::{
    partition::{AppendView, Partition},
    raft::Replica,
    seam::plant::{self, Plant},
    storage::EntryKind,
    types::{LogIndex, Offset},
};

/// Behind the last entry that readers are given: the last one that is applied.
pub fn end_for_readers(group: &Replica<Partition>) -> LogIndex {
    let applied = group.state_next();
    match group.log().last().filter(|_| plant::on(Plant::UncommittedReads)) {
        Some(last) => applied.max(LogIndex(last.index.0 + 1)),
        None => applied,
    }
}

/// The first offset that readers are not given: the next one of what is applied.
pub fn high_watermark(group: &Replica<Partition>, applied: Offset) -> Offset {
    let next = group.state_next();
    let end = end_for_readers(group);
    if end == next {
        return applied;
    }
    let recent = group.log().read_recent(next, end, usize::MAX).unwrap_or_default();
    let appends = recent.iter().filter(|entry| entry.kind == EntryKind::Normal);
    let appends = appends.filter_map(|entry| AppendView::parse(&entry.payload).ok());
    appends.fold(applied, |at, append| if append.base_offset == at { append.end_offset() } else { at })
}
