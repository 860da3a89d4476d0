//! From a value to the send that carries it.

use std::collections::HashMap;

use super::SendOp;

/// Values up to so many times their number make a table; others a map.
const SPARSE_MAX: u64 = 8;
const TABLE_MIN: u64 = 1 << 16;
const NONE: u32 = u32::MAX;

/// A table if values are numbered densely, as [`crate::recorder::Recorder::value`] does; else a map.
#[derive(Debug)]
pub enum Values {
    Table(Vec<u32>),
    Map(HashMap<u64, u32>),
}

impl Values {
    /// Also gives back which sends carry a value that an earlier one carries.
    pub fn of(sends: &[SendOp]) -> (Values, Vec<(u32, u32)>) {
        let mut twice = vec![];
        let end = sends.iter().map(|send| send.value + 1).max().unwrap_or(0);
        let values = if end <= SPARSE_MAX * sends.len() as u64 + TABLE_MIN {
            let mut table = vec![NONE; end as usize];
            for (number, send) in (0u32..).zip(sends) {
                let slot = &mut table[send.value as usize];
                if *slot == NONE {
                    *slot = number;
                } else {
                    twice.push((*slot, number));
                }
            }
            Values::Table(table)
        } else {
            let mut map = HashMap::with_capacity(sends.len());
            for (number, send) in (0u32..).zip(sends) {
                if let Some(first) = map.get(&send.value) {
                    twice.push((*first, number));
                } else {
                    map.insert(send.value, number);
                }
            }
            Values::Map(map)
        };
        (values, twice)
    }

    #[inline]
    pub fn send_of(&self, value: u64) -> Option<u32> {
        match self {
            Values::Table(table) => {
                usize::try_from(value).ok().and_then(|at| table.get(at)).copied().filter(|send| *send != NONE)
            }
            Values::Map(map) => map.get(&value).copied(),
        }
    }
}
