//! What follows from the operations of a history: each key's order, where values stand, and which were read.

use std::collections::HashMap;

use super::{
    Facts, NOWHERE, STRANGER,
    order::{Extent, Gathering},
};
use crate::event::{Outcome, Which};

impl Facts {
    /// Derives what rules ask for. The operations are complete before, and stay as they are.
    pub fn derive(&mut self) {
        self.count_reads();
        self.order_keys();
        self.find_log_starts();
    }

    fn count_reads(&mut self) {
        self.read = vec![0; self.sends.len()];
        for run in &self.runs {
            if self.polls[run.poll as usize].outcome != Outcome::Ok {
                continue;
            }
            for send in &self.records[run.first as usize..][..run.count as usize] {
                // A record of another key's value is a phantom, and no read of it.
                if *send != STRANGER && self.sends[*send as usize].key == run.key {
                    let read = &mut self.read[*send as usize];
                    *read = read.saturating_add(1);
                }
            }
        }
    }

    /// Whether a send's offset belongs to its key's order: it took effect, by its answer or because it was read.
    fn has_place(&self, send: u32) -> bool {
        let op = &self.sends[send as usize];
        op.offset != NOWHERE && (op.outcome == Outcome::Ok || op.outcome == Outcome::Info && self.was_read(send))
    }

    fn order_keys(&mut self) {
        let mut extents = vec![Extent::default(); self.keys];
        for run in &self.runs {
            extents[run.key as usize].add(run.base, u64::from(run.count));
        }
        for entry in self.entries.iter().filter(|entry| entry.count > 0) {
            extents[entry.key as usize].add(entry.base, u64::from(entry.count));
        }
        for (send, op) in (0..).zip(&self.sends) {
            if self.has_place(send) {
                extents[op.key as usize].add(op.offset, 1);
            }
        }
        let mut gathering: Vec<Gathering> = extents.iter().map(|extent| Gathering::with_room(*extent)).collect();
        drop(extents);
        let mut places = Places { position: vec![NOWHERE; self.sends.len()], spread: HashMap::new() };
        let mut conflicts = vec![];
        let mut put = |key: u32, offset: i64, value: u32| {
            if let Some(first) = gathering[key as usize].put(offset, value) {
                conflicts.push((key, offset, first, value));
            }
        };
        for run in &self.runs {
            for (offset, value) in (run.base..).zip(&self.records[run.first as usize..][..run.count as usize]) {
                let value = known(self, run.key, *value);
                put(run.key, offset, value);
                places.add(value, offset);
            }
        }
        for entry in &self.entries {
            for (offset, value) in
                (entry.base..).zip(&self.entry_records[entry.first as usize..][..entry.count as usize])
            {
                let value = known(self, entry.key, *value);
                put(entry.key, offset, value);
                places.add(value, offset);
            }
        }
        let mut moved = vec![];
        for (send, op) in (0..).zip(&self.sends) {
            if self.has_place(send) {
                put(op.key, op.offset, send);
                if !places.has_none_or(send, op.offset) {
                    moved.push(send);
                }
            }
        }
        for send in 0..self.sends.len() as u32 {
            if self.has_place(send) {
                places.add(send, self.sends[send as usize].offset);
            }
        }
        places.spread.values_mut().for_each(|offsets| offsets.sort_unstable());
        let orders = (0u32..).zip(gathering).map(|(key, gathering)| {
            gathering.finish(|offset, first, other| conflicts.push((key, offset, first, other)))
        });
        self.orders = orders.collect();
        (self.position, self.spread) = (places.position, places.spread);
        (self.conflicts, self.moved) = (conflicts, moved);
    }

    fn find_log_starts(&mut self) {
        self.log_starts = vec![0; self.keys];
        let mut see = |key: u32, start: i64| {
            let known = &mut self.log_starts[key as usize];
            *known = (*known).max(start);
        };
        self.marks.iter().for_each(|mark| see(mark.key, mark.log_start));
        let earliest = self.listed.iter().filter(|listed| listed.which == Which::Earliest);
        earliest.for_each(|listed| see(listed.key, listed.offset));
        self.replicas.iter().for_each(|replica| see(replica.key, replica.log_start));
    }
}

/// A value in a key's order; one that was sent to another key is a stranger there.
fn known(facts: &Facts, key: u32, send: u32) -> u32 {
    match facts.sends.get(send as usize) {
        Some(op) if op.key == key => send,
        Some(_) | None => STRANGER,
    }
}

struct Places {
    position: Vec<i64>,
    spread: HashMap<u32, Vec<i64>>,
}

impl Places {
    #[inline]
    fn add(&mut self, send: u32, offset: i64) {
        if send == STRANGER {
            return;
        }
        let position = &mut self.position[send as usize];
        if *position == offset {
        } else if *position == NOWHERE {
            *position = offset;
        } else {
            let offsets = self.spread.entry(send).or_insert_with(|| vec![*position]);
            if !offsets.contains(&offset) {
                offsets.push(offset);
            }
            *position = offset.min(*position);
        }
    }

    /// Whether the value was not seen at all, or at `offset`.
    fn has_none_or(&self, send: u32, offset: i64) -> bool {
        match (self.position[send as usize], self.spread.get(&send)) {
            (NOWHERE, _) => true,
            (_, Some(offsets)) => offsets.contains(&offset),
            (position, None) => position == offset,
        }
    }
}
