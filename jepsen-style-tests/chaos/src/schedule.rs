//! When which fault begins, for how long, and whom it is aimed at. Pure: equal seeds, equal schedules.
//!
//! A run is a row of slots with calm stretches between. A slot has one fault, or two of which one is mild. Every kind that
//! was asked for gets its turn before any gets a second one, and the first is aimed at a leader. After a slot the
//! cluster gets [`SETTLE_MS`] to settle, which counts neither as fault nor as calm; at least a quarter of the run is calm.

use crate::fault::{Aim, Fault, Reach};

/// How long the cluster gets after a fault before what it does counts as undisturbed.
pub const SETTLE_MS: u64 = 3_000;
/// One part in so many of the run is calm.
const CALM_PART: u64 = 4;
/// One of so many later slots has two faults.
const OVERLAP_ONE_IN: u32 = 3;

/// What is to be scheduled.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub seed: u64,
    pub span_ms: u64,
    pub kinds: Vec<Fault>,
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub fault: Fault,
    pub aim: Aim,
    pub length_ms: u64,
    /// What is left to chance when it is installed is drawn from this.
    pub seed: u64,
}

/// Faults that begin together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// From the beginning of the main phase on.
    pub at_ms: u64,
    pub steps: Vec<Step>,
}

impl Slot {
    /// How long the longest of its faults lasts.
    pub fn length_ms(&self) -> u64 {
        self.steps.iter().map(|step| step.length_ms).max().unwrap_or(0)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    pub slots: Vec<Slot>,
    /// What found no room in the run.
    pub left_out: Vec<Fault>,
}

/// Draws the schedule of a run.
pub fn draw(wanted: &Wanted) -> Schedule {
    Drawing::new(wanted).schedule()
}

struct Drawing<'a> {
    wanted: &'a Wanted,
    random: fastrand::Rng,
    /// How often each kind had its turn, to aim it elsewhere each time.
    turns: Vec<(Fault, usize)>,
}

/// A slot whose place is not known yet.
type Loose = Vec<Fault>;

fn least_ms(slot: &Loose) -> u64 {
    slot.iter().map(|fault| fault.seconds().0 * 1_000).max().unwrap_or(0)
}

fn most_ms(slot: &Loose) -> u64 {
    slot.iter().map(|fault| fault.seconds().1 * 1_000).max().unwrap_or(0)
}

fn cost_ms(slots: &[Loose]) -> u64 {
    slots.iter().map(|slot| least_ms(slot) + SETTLE_MS).sum()
}

impl Drawing<'_> {
    fn new(wanted: &Wanted) -> Drawing<'_> {
        Drawing { wanted, random: fastrand::Rng::with_seed(wanted.seed), turns: vec![] }
    }

    fn schedule(mut self) -> Schedule {
        let room = self.wanted.span_ms - self.wanted.span_ms / CALM_PART;
        let mut slots = self.deck();
        if cost_ms(&slots) > room {
            slots = self.paired(slots);
        }
        let mut left_out = vec![];
        while cost_ms(&slots) > room {
            left_out.extend(slots.pop().unwrap_or_default());
        }
        self.fill(&mut slots, room);
        let lengths = self.lengths(&slots, room);
        Schedule { slots: self.placed(slots, lengths), left_out }
    }

    /// All kinds once, each in a slot of its own.
    fn deck(&mut self) -> Vec<Loose> {
        let mut kinds = self.wanted.kinds.clone();
        kinds.sort_unstable();
        kinds.dedup();
        self.random.shuffle(&mut kinds);
        kinds.into_iter().map(|kind| vec![kind]).collect()
    }

    /// Mild faults overlap with others, where there is too little time for a slot of each.
    fn paired(&mut self, slots: Vec<Loose>) -> Vec<Loose> {
        let (mild, mut others): (Vec<Loose>, Vec<Loose>) =
            slots.into_iter().partition(|slot| slot[0].reach() == Reach::Mild);
        let mut alone = vec![];
        let mut free = others.iter_mut().filter(|slot| slot[0].may_overlap());
        for mild in mild {
            match free.next() {
                Some(slot) => slot.extend(mild),
                None => alone.push(mild),
            }
        }
        // Those that are left pair among themselves.
        let mut pairs: Vec<Loose> = vec![];
        for slot in alone {
            match pairs.last_mut().filter(|pair| pair.len() == 1) {
                Some(pair) => pair.extend(slot),
                None => pairs.push(slot),
            }
        }
        others.extend(pairs);
        self.random.shuffle(&mut others);
        others
    }

    /// More slots, while there is room.
    fn fill(&mut self, slots: &mut Vec<Loose>, room: u64) {
        let kinds = self.wanted.kinds.clone();
        let mild: Vec<Fault> = kinds.iter().copied().filter(|kind| kind.reach() == Reach::Mild).collect();
        while !kinds.is_empty() {
            // As long as usual: the shortest ones are for when there is no time.
            let spent: u64 = slots.iter().map(|slot| (least_ms(slot) + most_ms(slot)) / 2 + SETTLE_MS).sum();
            let kind = kinds[self.random.usize(..kinds.len())];
            let mut slot = vec![kind];
            if !mild.is_empty() && kind.may_overlap() && self.random.u32(..OVERLAP_ONE_IN) == 0 {
                let second = mild[self.random.usize(..mild.len())];
                slot.extend(Some(second).filter(|second| *second != kind));
            }
            if spent + (least_ms(&slot) + most_ms(&slot)) / 2 + SETTLE_MS > room {
                return;
            }
            slots.push(slot);
        }
    }

    /// How long each slot lasts: between its least and its most, and all of them as long as there is room.
    fn lengths(&mut self, slots: &[Loose], room: u64) -> Vec<u64> {
        let mut spare = room.saturating_sub(cost_ms(slots));
        let mut lengths: Vec<u64> = slots.iter().map(least_ms).collect();
        let mut left = slots.len() as u64;
        for (slot, length) in slots.iter().zip(&mut lengths) {
            // Twice a fair share at most, so that the last ones get theirs.
            let most = (most_ms(slot) - *length).min(2 * spare / left.max(1)).min(spare);
            let more = self.random.u64(..=most);
            *length += more;
            spare -= more;
            left -= 1;
        }
        lengths
    }

    fn placed(&mut self, slots: Vec<Loose>, lengths: Vec<u64>) -> Vec<Slot> {
        let busy: u64 = lengths.iter().map(|length| length + SETTLE_MS).sum();
        // One more than slots: the run ends calm, too.
        let gap = self.wanted.span_ms.saturating_sub(busy) / (slots.len() as u64 + 1);
        let mut at_ms = gap;
        let mut placed = vec![];
        for (slot, length) in slots.into_iter().zip(lengths) {
            let steps = slot.into_iter().map(|fault| self.step(fault, length)).collect();
            placed.push(Slot { at_ms, steps });
            at_ms += length + SETTLE_MS + gap;
        }
        placed
    }

    fn step(&mut self, fault: Fault, slot_ms: u64) -> Step {
        const AIMS: [Aim; 4] = [Aim::PartitionLeader, Aim::MetadataLeader, Aim::Coordinator, Aim::Anybody];
        let known = self.turns.iter().position(|(known, _)| *known == fault);
        let at = known.unwrap_or_else(|| {
            // Whose first aim is drawn among the leaders.
            self.turns.push((fault, self.random.usize(..AIMS.len() - 1)));
            self.turns.len() - 1
        });
        let turn = &mut self.turns[at].1;
        let aim = AIMS[*turn % AIMS.len()];
        *turn += 1;
        Step { fault, aim, length_ms: slot_ms.min(fault.seconds().1 * 1_000), seed: self.random.u64(..) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn wanted(seed: u64, seconds: u64) -> Wanted {
        Wanted { seed, span_ms: seconds * 1_000, kinds: Fault::ALL.to_vec() }
    }

    #[test]
    fn equal_seeds_draw_equal_schedules_and_others_do_not() {
        assert_eq!(draw(&wanted(7, 300)), draw(&wanted(7, 300)));
        assert_ne!(draw(&wanted(7, 300)), draw(&wanted(8, 300)));
    }

    #[test]
    fn every_kind_gets_its_turn_and_is_first_aimed_at_a_leader() {
        for seed in 0..200 {
            let schedule = draw(&wanted(seed, 300));
            assert_eq!(schedule.left_out, [], "seed {seed}");
            let steps = || schedule.slots.iter().flat_map(|slot| &slot.steps);
            for kind in Fault::ALL {
                let first = steps().find(|step| step.fault == *kind);
                assert!(first.is_some_and(|step| step.aim != Aim::Anybody), "seed {seed}: {kind} is {first:?}");
            }
        }
    }

    #[test]
    fn a_quarter_is_calm_and_nothing_overlaps_but_mild_faults() {
        for (seed, seconds) in (0..300).zip([30, 60, 120, 300, 600].into_iter().cycle()) {
            let schedule = draw(&wanted(seed, seconds));
            let (mut end, mut busy) = (0, 0);
            for slot in &schedule.slots {
                assert!(slot.at_ms >= end, "seed {seed}: {slot:?}");
                busy += slot.length_ms() + SETTLE_MS;
                end = slot.at_ms + slot.length_ms() + SETTLE_MS;
                let heavy = slot.steps.iter().filter(|step| step.fault.reach() != Reach::Mild).count();
                assert!(heavy <= 1 && slot.steps.len() <= 2, "seed {seed}: {slot:?}");
                let takes_files = slot.steps.iter().any(|step| step.fault.takes_files());
                assert!(!takes_files || slot.steps.len() == 1, "seed {seed}: {slot:?}");
                for step in &slot.steps {
                    let (least, most) = step.fault.seconds();
                    assert!((least * 1_000..=most * 1_000).contains(&step.length_ms), "seed {seed}: {step:?}");
                }
            }
            assert!(end <= seconds * 1_000 && busy * 4 <= seconds * 3_000, "seed {seed}: {busy} of {seconds} s");
        }
    }

    #[test]
    fn what_finds_no_room_is_named() {
        let schedule = draw(&wanted(1, 20));
        let placed: BTreeSet<Fault> =
            schedule.slots.iter().flat_map(|slot| &slot.steps).map(|step| step.fault).collect();
        let left: BTreeSet<Fault> = schedule.left_out.iter().copied().collect();
        assert_eq!(placed.union(&left).copied().collect::<BTreeSet<_>>(), Fault::ALL.iter().copied().collect());
        assert!(placed.is_disjoint(&left));
    }

    #[test]
    fn a_run_without_kinds_has_no_slots() {
        assert_eq!(draw(&Wanted { seed: 1, span_ms: 60_000, kinds: vec![] }), Schedule::default());
    }
}
