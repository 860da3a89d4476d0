//! Members that live through whatever may happen, in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Beat(BTreeSet<i32>),
    Offsets,
    Bring { reader: usize, records: i64 },
    Next { records_max: usize },
    Commit { ok: bool },
    OffsetsFail,
    Wait(u64),
    Expel,
    Seek(i32, i64),
    Pause(i32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::btree_set(0..4, 0..4).prop_map(Step::Beat),
        3 => Just(Step::Offsets),
        6 => (0..8_usize, 0..5_i64).prop_map(|(reader, records)| Step::Bring { reader, records }),
        8 => (1..4_usize).prop_map(|records_max| Step::Next { records_max }),
        3 => any::<bool>().prop_map(|ok| Step::Commit { ok }),
        1 => Just(Step::OffsetsFail),
        2 => (1..6_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Expel),
        1 => (0..4, 0..50_i64).prop_map(|(p, offset)| Step::Seek(p, offset)),
        1 => (0..4, any::<bool>()).prop_map(|(p, paused)| Step::Pause(p, paused)),
    ]
}

/// What the application knows, and what a coordinator and readers would do.
#[derive(Default)]
struct World {
    now: Now,
    /// What was told to be assigned and not yet to be gone, with where the next record must be, once that is known.
    ours: BTreeMap<TopicPartition, Option<i64>>,
    /// What the last call told to be revoked.
    told: Vec<TopicPartition>,
    /// Everything below was handed out before the last call began.
    processed: BTreeMap<TopicPartition, i64>,
    committed: BTreeMap<TopicPartition, i64>,
    /// The readers that run, and where they are.
    readers: Vec<(u64, TopicPartition, i64)>,
}

impl World {
    fn run(&mut self, core: &mut Core<()>, step: Step) {
        match step {
            Step::Beat(partitions) => {
                let partitions: Vec<_> = partitions.into_iter().collect();
                beat(core, self.now, &partitions);
            }
            Step::Offsets => {
                let asked = core.unknown(self.now + SESSION);
                let found = self.committed.iter().map(|(at, offset)| (at.clone(), Offset(*offset)));
                core.on_offsets(&asked, &found.collect());
            }
            Step::OffsetsFail => {
                core.on_offsets_failed(broker_error(ErrorCode::Unavailable, true), self.now, 0, SESSION);
            }
            Step::Bring { reader, records } if !self.readers.is_empty() => {
                let i = reader % self.readers.len();
                let (reader, at, position) = &mut self.readers[i];
                core.on_brought(*reader, at, brought(*position..*position + records));
                *position += records;
            }
            Step::Bring { .. } => {}
            Step::Next { records_max } => self.next(core, records_max),
            Step::Commit { ok } => self.commit(core, ok),
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
            Step::Expel if !core.member().is_empty() => {
                let error = broker_error(ErrorCode::UnknownMember, false);
                core.on_beat_failed(core.membership(), error, self.now, 0, SESSION);
            }
            Step::Expel => {}
            Step::Seek(p, offset) => {
                if self.ours.contains_key(&at(p)) && core.seek(&at(p), Offset(offset)).is_ok() {
                    self.ours.insert(at(p), Some(offset));
                    self.processed.insert(at(p), offset);
                }
            }
            Step::Pause(p, paused) => {
                let _ = core.set_paused(&at(p), paused); // Not ours, perhaps.
            }
        }
        for stop in core.take_stops() {
            self.readers.retain(|(reader, ..)| *reader != stop);
        }
        for start in core.take_starts() {
            let offset = match start.from {
                From::Offset(offset) => offset.0,
                From::Reset => 0,
            };
            if start.from == From::Reset {
                core.on_positioned(start.reader, &start.at, None, Offset(offset));
            }
            self.readers.push((start.reader, start.at, offset));
        }
        core.check();
        self.check_wakes(core);
        let owned: BTreeSet<_> = owned(core).into_iter().map(at).collect();
        for at in self.ours.keys().chain(&self.told) {
            assert!(owned.contains(at) || core.has_lost(), "{at} was let go of behind the application's back");
        }
    }

    /// Whoever has nothing to do now is not woken now: that would be again and again.
    fn check_wakes(&self, core: &Core<()>) {
        if core.unknown(self.now).is_empty() {
            assert!(core.fetch_retry().is_none_or(|next| next > self.now), "nothing to ask for, and woken for it");
        }
        if core.member().is_empty() {
            assert_eq!(core.next_due(), None, "no member commits anything");
        }
    }

    fn next(&mut self, core: &mut Core<()>, records_max: usize) {
        core.begin_next(self.now);
        self.told.clear();
        let in_hand = self.ours.iter().filter_map(|(at, next)| Some((at.clone(), (*next)?)));
        self.processed.extend(in_hand.collect::<Vec<_>>());
        match core.take(self.now, records_max) {
            None | Some(Err(_)) => {}
            Some(Ok(GroupEvent::Assigned(of))) => {
                for at in of {
                    self.processed.remove(&at);
                    assert!(self.ours.insert(at, None).is_none(), "assigned twice");
                }
            }
            Some(Ok(GroupEvent::Revoked(of))) => {
                for at in of {
                    self.ours.remove(&at).expect("revoked what was ours");
                    self.told.push(at);
                }
            }
            Some(Ok(GroupEvent::Lost(of))) => self.ours.retain(|at, _| !of.contains(at)),
            Some(Ok(GroupEvent::Replaced(of))) => panic!("no topic is replaced here: {of:?}"),
            Some(Ok(GroupEvent::Jumped(of))) => panic!("nothing is out of range here: {of:?}"),
            Some(Ok(GroupEvent::Records(of))) => {
                let next = self.ours.get_mut(&of.at).expect("records only of what is ours");
                let first = of.records[0].offset.0;
                let want = next.unwrap_or_else(|| self.committed.get(&of.at).copied().unwrap_or(0));
                assert_eq!(first, want, "{} is dense from its committed offset on", of.at);
                assert!(of.records.len() <= records_max);
                *next = Some(first + of.records.len() as i64);
            }
        }
    }

    fn commit(&mut self, core: &mut Core<()>, ok: bool) {
        let dues: Vec<Due> = core.due(self.now);
        if !ok {
            let error = broker_error(ErrorCode::Unavailable, true);
            core.on_commit_failed(core.membership(), &error, self.now, 0, SESSION);
            return;
        }
        for Due { offset, .. } in &dues {
            let processed = self.processed.get(&offset.at).copied();
            let start = self.committed.get(&offset.at).copied().unwrap_or(0);
            assert!(offset.offset.0 <= processed.unwrap_or(start), "{offset:?} is beyond {processed:?}");
            self.committed.insert(offset.at.clone(), offset.offset.0);
        }
        core.on_committed(&dues, &BTreeSet::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let (mut core, mut world) = (core(), World::default());
        for step in steps {
            world.run(&mut core, step);
        }
    }
}
