//! One key's values by offset. Offsets may have holes, so rules that ask for neighbours count in indexes: the first
//! visible value has 0, the next one 1.

use super::STRANGER;

/// Offsets that span up to so many times their number are a table; others are sorted and searched.
const SPARSE_MAX: u64 = 8;
const TABLE_MIN: u64 = 1 << 12;

#[derive(Debug, Default)]
pub struct Order {
    base: i64,
    /// The value at each index: a send, or [`STRANGER`].
    values: Vec<u32>,
    /// The offset at each index; none if there are no holes.
    offsets: Option<Vec<i64>>,
    /// For each offset from `base` on, how many values stand below it; none where a search is cheaper.
    ranks: Option<Vec<u32>>,
}

impl Order {
    /// How many values are visible.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values stand below `offset`: the index of the first at or after it.
    #[inline]
    pub fn rank(&self, offset: i64) -> usize {
        if offset <= self.base {
            return 0;
        }
        let after = offset.abs_diff(self.base) as usize;
        match (&self.offsets, &self.ranks) {
            (None, _) => after.min(self.values.len()),
            (Some(_), Some(ranks)) => ranks.get(after).map_or(self.values.len(), |rank| *rank as usize),
            (Some(offsets), None) => offsets.partition_point(|found| *found < offset),
        }
    }

    pub fn offset(&self, index: usize) -> i64 {
        match &self.offsets {
            None => self.base + index as i64,
            Some(offsets) => offsets[index],
        }
    }

    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The index of a value that stands at `offset`.
    pub fn index(&self, offset: i64) -> Option<usize> {
        let rank = self.rank(offset);
        (rank < self.len() && self.offset(rank) == offset).then_some(rank)
    }

    /// The value at `offset`, if one is visible there.
    pub fn value_at(&self, offset: i64) -> Option<u32> {
        self.index(offset).map(|index| self.values[index])
    }

    /// The offset of the first visible value.
    pub fn first_offset(&self) -> Option<i64> {
        (!self.is_empty()).then(|| self.offset(0))
    }
}

/// What a key's order will have room for.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub low: i64,
    pub high: i64,
    pub count: u64,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent { low: i64::MAX, high: i64::MIN, count: 0 }
    }
}

impl Extent {
    pub fn add(&mut self, base: i64, count: u64) {
        self.low = self.low.min(base);
        self.high = self.high.max(base.saturating_add(count as i64 - 1));
        self.count += count;
    }
}

/// An offset that nobody has shown a value of. No send has this number: there would be 2^32 of them.
const EMPTY: u32 = u32::MAX - 1;

/// An order that is being gathered.
#[derive(Debug)]
pub struct Gathering {
    base: i64,
    table: Option<Vec<u32>>,
    pairs: Vec<(i64, u32)>,
}

impl Gathering {
    pub fn with_room(extent: Extent) -> Gathering {
        if extent.count == 0 {
            return Gathering { base: 0, table: Some(vec![]), pairs: vec![] };
        }
        let span = extent.high.abs_diff(extent.low).saturating_add(1);
        let dense = span <= SPARSE_MAX.saturating_mul(extent.count).saturating_add(TABLE_MIN);
        Gathering { base: extent.low, table: dense.then(|| vec![EMPTY; span as usize]), pairs: vec![] }
    }

    /// Puts a value where it was seen. Gives back another value that stands there already.
    #[inline]
    pub fn put(&mut self, offset: i64, value: u32) -> Option<u32> {
        let Some(table) = &mut self.table else {
            self.pairs.push((offset, value));
            return None;
        };
        let slot = &mut table[offset.abs_diff(self.base) as usize];
        match *slot {
            EMPTY => *slot = value,
            found if found == value => {}
            STRANGER => *slot = value,
            found => return (value != STRANGER).then_some(found),
        }
        None
    }

    /// `conflict` is told of offsets at which several values were put: the offset, the one that is kept, another.
    pub fn finish(self, mut conflict: impl FnMut(i64, u32, u32)) -> Order {
        let Some(table) = self.table else { return sorted(self.pairs, conflict) };
        let _ = &mut conflict;
        if !table.contains(&EMPTY) {
            return Order { base: self.base, values: table, offsets: None, ranks: None };
        }
        let (mut values, mut offsets, mut ranks) = (vec![], vec![], Vec::with_capacity(table.len()));
        for (offset, value) in (self.base..).zip(&table) {
            ranks.push(values.len() as u32);
            if *value != EMPTY {
                values.push(*value);
                offsets.push(offset);
            }
        }
        Order { base: self.base, values, offsets: Some(offsets), ranks: Some(ranks) }
    }
}

fn sorted(mut pairs: Vec<(i64, u32)>, mut conflict: impl FnMut(i64, u32, u32)) -> Order {
    pairs.sort_unstable();
    pairs.dedup();
    let (mut values, mut offsets): (Vec<u32>, Vec<i64>) = (vec![], vec![]);
    for (offset, value) in pairs {
        match (offsets.last(), values.last()) {
            // Strangers sort last: whom we know stands before them.
            (Some(last), Some(kept)) if *last == offset => {
                if value != STRANGER {
                    conflict(offset, *kept, value);
                }
            }
            _ => {
                offsets.push(offset);
                values.push(value);
            }
        }
    }
    Order { base: offsets.first().copied().unwrap_or(0), values, offsets: Some(offsets), ranks: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(pairs: &[(i64, u32)]) -> (Order, Vec<(i64, u32, u32)>) {
        let mut extent = Extent::default();
        pairs.iter().for_each(|(offset, _)| extent.add(*offset, 1));
        let mut gathering = Gathering::with_room(extent);
        let mut conflicts: Vec<(i64, u32, u32)> = pairs
            .iter()
            .filter_map(|(offset, value)| gathering.put(*offset, *value).map(|first| (*offset, first, *value)))
            .collect();
        let order = gathering.finish(|offset, first, other| conflicts.push((offset, first, other)));
        (order, conflicts)
    }

    #[test]
    fn dense_and_sparse_orders_answer_alike() {
        for scale in [1, 3, 1_000_000] {
            let offsets: Vec<i64> = [7, 8, 11, 20].iter().map(|offset| offset * scale).collect();
            let pairs: Vec<(i64, u32)> = offsets.iter().copied().zip(0..).collect();
            let (order, conflicts) = order(&pairs);
            assert_eq!(conflicts, []);
            assert_eq!(order.values(), [0, 1, 2, 3]);
            assert_eq!(order.first_offset(), Some(7 * scale));
            for (index, offset) in offsets.iter().enumerate() {
                assert_eq!((order.rank(*offset), order.offset(index)), (index, *offset));
                assert_eq!(order.rank(*offset + 1), index + 1);
                assert_eq!((order.value_at(*offset), order.value_at(*offset - 2)), (Some(index as u32), None));
            }
            assert_eq!((order.rank(i64::MIN), order.rank(i64::MAX)), (0, 4));
        }
        assert_eq!(order(&[]).0.rank(5), 0);
    }

    #[test]
    fn two_values_at_one_offset_are_told_and_a_stranger_gives_way() {
        assert_eq!(order(&[(0, 1), (1, 2), (0, 3)]).1, [(0, 1, 3)]);
        assert_eq!(order(&[(0, 3), (i64::MAX, 2), (0, 1)]).1, [(0, 1, 3)]);
        for far in [1, i64::MAX] {
            let (order, conflicts) = order(&[(0, STRANGER), (far, 2), (0, 1)]);
            assert_eq!((conflicts.len(), order.value_at(0)), (0, Some(1)));
        }
    }
}
