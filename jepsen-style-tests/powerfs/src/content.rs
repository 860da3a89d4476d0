//! The bytes of one file, twice: as they are read now, and as they were when they were last synced. Pure.
//!
//! Only pages that changed since the last sync are kept twice, so a sync costs what was written since the one before it, and
//! an append costs no copy but that of the page it begins in.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    fate::{Dice, Fate, Tail},
    ranges::Ranges,
};

pub const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;

/// One page's bytes. Those beyond the end of the file are zeros, so that a file that grows reads as zeros there.
type Block = Box<[u8; PAGE]>;

#[derive(Clone, Debug)]
struct Page {
    /// None: a hole, which reads as zeros.
    now: Option<Block>,
    synced: Synced,
}

/// What a page was at the last sync.
#[derive(Clone, Debug)]
enum Synced {
    /// What it is now.
    Same,
    Hole,
    Block(Block),
}

/// A file's bytes in both views.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Each has at least one block, now or synced: what is missing is a hole in both views.
    pages: BTreeMap<u64, Page>,
    size: u64,
    synced_size: u64,
    /// The bytes that were written, cleared or cut off since the last sync. They include every byte of which the page's
    /// block differs between the views.
    changed: Ranges,
    blocks_now: u64,
    blocks_kept: u64,
}

/// How many blocks a file takes: as it is read now, and besides them for what was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub now: u64,
    pub kept: u64,
}

impl Content {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn footprint(&self) -> Footprint {
        Footprint { now: self.blocks_now, kept: self.blocks_kept }
    }

    pub fn is_synced(&self) -> bool {
        self.changed.is_empty() && self.size == self.synced_size
    }

    /// How many bytes were changed or appended since the last sync.
    pub fn unsynced_bytes(&self) -> u64 {
        self.changed.within(0..self.size.max(self.synced_size)).map(|range| range.end - range.start).sum()
    }

    /// The most blocks that a write there may add.
    pub fn growth(&self, at: u64, bytes: u64) -> Footprint {
        let pages = pages_of(at..at + bytes);
        let touched = pages.end - pages.start;
        let (mut there, mut kept) = (0, 0);
        for page in self.pages.range(pages).map(|(_, page)| page) {
            there += u64::from(page.now.is_some());
            kept += u64::from(page.now.is_some() && matches!(page.synced, Synced::Same));
        }
        Footprint { now: touched - there, kept }
    }

    pub fn read(&self, at: u64, bytes: u64) -> Vec<u8> {
        let end = self.size.min(at.saturating_add(bytes));
        let mut out = Vec::with_capacity(end.saturating_sub(at) as usize);
        for (number, part) in parts(at..end) {
            match self.pages.get(&number).and_then(|page| page.now.as_ref()) {
                Some(block) => out.extend_from_slice(&block[part]),
                None => out.resize(out.len() + part.len(), 0),
            }
        }
        out
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let mut left = bytes;
        for (number, part) in parts(at..end) {
            let (these, rest) = left.split_at(part.len());
            self.block_to_change(number, part.len() == PAGE)[part].copy_from_slice(these);
            left = rest;
        }
        self.changed.insert(at..end);
        self.size = self.size.max(end);
    }

    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            self.clear(size..self.size);
        }
        self.size = size;
    }

    /// Makes zeros of a part, without a change of the size: a hole that is punched, or the end that is cut off.
    pub fn clear(&mut self, range: Range<u64>) {
        let range = range.start.min(self.size)..range.end.min(self.size);
        if range.is_empty() {
            return;
        }
        // Beyond its end a file has nothing, so a last page is cleared wholly if its beginning is.
        let end = if range.end == self.size { range.end.next_multiple_of(PAGE_BYTES) } else { range.end };
        let blocks = range.start..end;
        let there: Vec<u64> = self.pages.range(pages_of(range.clone())).map(|(&number, _)| number).collect();
        for number in there {
            let part = part_of(number, &blocks);
            if part.len() < PAGE {
                if self.pages.get(&number).is_some_and(|page| page.now.is_some()) {
                    self.block_to_change(number, false)[part].fill(0);
                }
            } else {
                self.drop_block(number);
            }
        }
        self.changed.insert(range);
    }

    /// From here on all of it survives.
    pub fn sync(&mut self) {
        for number in self.changed_pages() {
            let Some(page) = self.pages.get_mut(&number) else { continue };
            if let Synced::Block(_) = std::mem::replace(&mut page.synced, Synced::Same) {
                self.blocks_kept -= 1;
            }
            if page.now.is_none() {
                self.pages.remove(&number);
            }
        }
        self.changed.clear();
        self.synced_size = self.size;
    }

    /// The power is cut. What is left is synced; the answer is how many of the bytes that were not synced are not new.
    pub(crate) fn lose(&mut self, dice: &mut Dice) -> u64 {
        if self.is_synced() {
            return 0;
        }
        let size = dice.size(self.synced_size, self.size);
        let mut kept = 0;
        for number in self.changed_pages() {
            let Some(page) = self.pages.remove(&number) else { continue };
            let (mut block, kept_here) = self.survivor(number, &page, size, dice);
            kept += kept_here;
            let end = size.saturating_sub(number * PAGE_BYTES).min(PAGE_BYTES) as usize;
            block[end..].fill(0);
            if end > 0 && block.iter().any(|byte| *byte != 0) {
                self.pages.insert(number, Page { now: Some(block), synced: Synced::Same });
            }
        }
        let lost = self.unsynced_bytes().saturating_sub(kept);
        self.pages.split_off(&size.div_ceil(PAGE_BYTES));
        (self.size, self.synced_size) = (size, size);
        self.changed.clear();
        (self.blocks_now, self.blocks_kept) = (self.pages.len() as u64, 0);
        lost
    }

    /// What becomes of a page that changed, and how many of its changed bytes are new.
    fn survivor(&self, number: u64, page: &Page, size: u64, dice: &mut Dice) -> (Block, u64) {
        let zeros = || Box::new([0; PAGE]);
        let now = page.now.clone().unwrap_or_else(zeros);
        let mut block = match &page.synced {
            Synced::Same => return (now, 0),
            Synced::Hole => zeros(),
            Synced::Block(block) => block.clone(),
        };
        let (first, mut new) = (number * PAGE_BYTES, 0);
        for unit in (first..first + PAGE_BYTES).step_by(dice.unit.bytes() as usize) {
            let mut fate = None;
            for changed in self.changed.within(unit..unit + dice.unit.bytes()) {
                let fate = *fate.get_or_insert_with(|| dice.fate());
                // What was cut off was not written, so there it is as if nothing had happened, or beyond the end.
                let written = changed.start.min(self.size)..changed.end.min(self.size);
                let old = written.start..written.end.min(self.synced_size.max(written.start));
                for (range, fate) in [(old.clone(), fate), (old.end..written.end, of_appended(fate, dice.tail))] {
                    if range.is_empty() {
                        continue;
                    }
                    let part = (range.start - first) as usize..(range.end - first) as usize;
                    match fate {
                        Fate::Old => {}
                        Fate::New => {
                            block[part.clone()].copy_from_slice(&now[part]);
                            new += range.end.min(size).saturating_sub(range.start);
                        }
                        Fate::Zeros => block[part].fill(0),
                        Fate::Garbage => dice.chance.fill(&mut block[part]),
                    }
                }
            }
        }
        (block, new)
    }

    /// Damages the medium: the bits of `mask` turn over in the byte at `at`, now and in what was synced.
    pub fn flip(&mut self, at: u64, mask: u8) -> bool {
        if at >= self.size {
            return false;
        }
        let (number, place) = (at / PAGE_BYTES, (at % PAGE_BYTES) as usize);
        let page = self.pages.entry(number).or_insert(Page { now: None, synced: Synced::Same });
        if page.now.is_none() {
            self.blocks_now += 1;
        }
        page.now.get_or_insert_with(|| Box::new([0; PAGE]))[place] ^= mask;
        if let Synced::Block(block) = &mut page.synced {
            block[place] ^= mask;
        }
        true
    }

    /// Damages the medium: the file ends at `size`, now and in what was synced.
    pub fn chop(&mut self, size: u64) -> bool {
        if size >= self.size {
            return false;
        }
        self.resize(size);
        self.sync();
        true
    }

    /// The numbers of the pages with changed bytes, as far as they have a block.
    fn changed_pages(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = vec![];
        for range in self.changed.iter() {
            let from = pages_of(range);
            let from = numbers.last().map_or(from.start, |last| from.start.max(last + 1))..from.end;
            if !from.is_empty() {
                numbers.extend(self.pages.range(from).map(|(&number, _)| number));
            }
        }
        numbers
    }

    /// A page's block to be changed; what was synced is put aside first.
    fn block_to_change(&mut self, number: u64, wholly: bool) -> &mut Block {
        let page = self.pages.entry(number).or_insert(Page { now: None, synced: Synced::Hole });
        if matches!(page.synced, Synced::Same) {
            // Wholly overwritten, it need not be copied.
            let kept = if wholly { page.now.take() } else { page.now.clone() };
            self.blocks_kept += u64::from(kept.is_some());
            self.blocks_now -= u64::from(wholly && kept.is_some());
            page.synced = kept.map_or(Synced::Hole, Synced::Block);
        }
        if page.now.is_none() {
            self.blocks_now += 1;
        }
        page.now.get_or_insert_with(|| Box::new([0; PAGE]))
    }

    /// Makes a page a hole; what was synced stays.
    fn drop_block(&mut self, number: u64) {
        let Some(page) = self.pages.get_mut(&number) else { return };
        let Some(block) = page.now.take() else { return };
        self.blocks_now -= 1;
        match page.synced {
            Synced::Same => {
                page.synced = Synced::Block(block);
                self.blocks_kept += 1;
            }
            Synced::Hole => {
                self.pages.remove(&number);
            }
            Synced::Block(_) => {}
        }
    }
}

/// What was appended and is torn ends; it has no holes.
fn of_appended(fate: Fate, tail: Tail) -> Fate {
    match (tail, fate) {
        (Tail::Torn, _) => Fate::New,
        (_, fate) => fate,
    }
}

fn pages_of(range: Range<u64>) -> Range<u64> {
    let start = range.start / PAGE_BYTES;
    start..range.end.div_ceil(PAGE_BYTES).max(start)
}

/// Where a range lies within one of its pages.
fn part_of(number: u64, range: &Range<u64>) -> Range<usize> {
    let first = number * PAGE_BYTES;
    let start = range.start.max(first) - first;
    start as usize..(range.end.min(first + PAGE_BYTES) - first) as usize
}

/// A range page by page: each page's number, and the part of it.
fn parts(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let range = range.start..range.end.max(range.start);
    pages_of(range.clone()).map(move |number| (number, part_of(number, &range))).filter(|(_, part)| !part.is_empty())
}

#[cfg(test)]
mod tests;
