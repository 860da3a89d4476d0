//! Random faults against a broker that keeps a log and knows the rules of sequences.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// One partition of a broker, as the rules say: epochs only grow, sequences have no gaps, the last
/// five batches are recognised.
#[derive(Default)]
struct Broker {
    log: Vec<u32>,
    epoch: Option<i16>,
    next_sequence: i32,
    recent: VecDeque<(i16, i32)>,
}

impl Broker {
    fn append(&mut self, batch: u32, epoch: i16, sequence: i32) -> Result<(), ClientError> {
        if self.recent.contains(&(epoch, sequence)) && self.epoch == Some(epoch) {
            return Ok(());
        }
        if self.epoch.is_some_and(|known| epoch < known) {
            return Err(refused(ErrorCode::FencedProducer, Effect::Nothing));
        }
        // From a producer that it does not know it takes any sequence.
        let expected = match self.epoch {
            None => sequence,
            Some(known) if known == epoch => self.next_sequence,
            Some(_) => 0,
        };
        if sequence != expected {
            return Err(refused(ErrorCode::OutOfOrderSequence, Effect::Nothing));
        }
        (self.epoch, self.next_sequence) = (Some(epoch), sequence + 10);
        self.recent.push_back((epoch, sequence));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        self.log.push(batch);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    /// All that may go is sent to the stream.
    Send,
    /// The broker takes the oldest request and its answer arrives.
    Serve,
    /// The broker takes the oldest request, and its answer is lost with the stream, later.
    ServeSilently,
    /// The broker takes the oldest request, and answers that nobody knows.
    ServeUnknown,
    /// The broker takes the oldest request, and refuses it for a reason of its own.
    Refuse {
        is_final: bool,
    },
    /// The stream breaks; what was in it arrives later or never.
    Break {
        keep: usize,
    },
    /// A request of a broken stream arrives after all.
    Straggler,
    LeaderChanged,
    Pass {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        6 => Just(Step::Send),
        8 => Just(Step::Serve),
        2 => Just(Step::ServeSilently),
        2 => Just(Step::ServeUnknown),
        2 => any::<bool>().prop_map(|is_final| Step::Refuse { is_final }),
        1 => (0usize..4).prop_map(|keep| Step::Break { keep }),
        1 => Just(Step::Straggler),
        1 => Just(Step::LeaderChanged),
        2 => (1u64..3000).prop_map(|ms| Step::Pass { ms }),
    ]
}

#[derive(Default)]
struct World {
    broker: Broker,
    wire: VecDeque<(AttemptId, u32, i16, i32)>,
    /// Attempts that were served, but whose answer never comes; they are lost when the stream breaks.
    silent: Vec<AttemptId>,
    stragglers: VecDeque<(u32, i16, i32)>,
    now: Now,
    pushed: u32,
}

fn run(core: &mut TestCore, w: &mut World, step: Step) {
    match step {
        Step::Push => {
            let (since, deadline) = (w.now, w.now + ms(4000));
            core.push(0, Item { batch: w.pushed, count: 10, since, deadline, expected: None });
            w.pushed += 1;
        }
        Step::Send => w.wire.extend(send_all(core, w.now)),
        Step::Serve => {
            let Some((attempt, batch, epoch, sequence)) = w.wire.pop_front() else { return };
            match w.broker.append(batch, epoch, sequence) {
                Ok(()) => core.on_acked(attempt, 0),
                Err(error) if error.code() == Some(ErrorCode::OutOfOrderSequence) => {
                    core.on_refused(attempt, Verdict::Sequence, error, w.now, 0);
                }
                Err(error) => core.on_refused(attempt, Verdict::Final, error, w.now, 0),
            }
        }
        Step::ServeSilently => {
            let Some((attempt, batch, epoch, sequence)) = w.wire.pop_front() else { return };
            let _ = w.broker.append(batch, epoch, sequence);
            w.silent.push(attempt);
        }
        Step::ServeUnknown => {
            let Some((attempt, batch, epoch, sequence)) = w.wire.pop_front() else { return };
            let _ = w.broker.append(batch, epoch, sequence);
            let error = refused(ErrorCode::OutcomeUnknown, Effect::Unknown);
            core.on_refused(attempt, Verdict::Retry, error, w.now, 0);
        }
        Step::Refuse { is_final } => {
            let Some((attempt, ..)) = w.wire.pop_front() else { return };
            let verdict = if is_final { Verdict::Final } else { Verdict::Retry };
            core.on_refused(attempt, verdict, no_effect(), w.now, 0);
        }
        Step::Break { keep } => {
            let mut lost_ones: Vec<AttemptId> = w.silent.drain(..).chain(w.wire.iter().map(|s| s.0)).collect();
            lost_ones.sort();
            for attempt in lost_ones {
                core.on_lost(attempt, lost(), w.now, 0);
            }
            w.stragglers.extend(w.wire.drain(..).take(keep).map(|(_, batch, epoch, seq)| (batch, epoch, seq)));
        }
        Step::Straggler => {
            if let Some((batch, epoch, sequence)) = w.stragglers.pop_front() {
                let _ = w.broker.append(batch, epoch, sequence);
            }
        }
        Step::LeaderChanged => core.on_leader_changed(0),
        Step::Pass { ms: n } => {
            w.now += ms(n);
            core.expire(w.now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..Default::default() })]
    #[test]
    fn no_duplicate_no_reorder_no_lie(steps in proptest::collection::vec(step(), 0..120)) {
        let mut core: TestCore = Core::new(true);
        core.add_partition(0);
        let mut w = World::default();
        for step in steps {
            run(&mut core, &mut w, step);
        }
        w.now += LONG;
        core.expire(w.now);
        while !w.stragglers.is_empty() || !w.wire.is_empty() {
            run(&mut core, &mut w, Step::Serve);
            run(&mut core, &mut w, Step::Straggler);
        }
        let outcomes = ended(&mut core);
        prop_assert_eq!(outcomes.len(), w.pushed as usize, "each ends once");
        let log = &w.broker.log;
        prop_assert!(log.windows(2).all(|pair| pair[0] < pair[1]), "order and no duplicates: {:?}", log);
        for (batch, outcome) in outcomes {
            match outcome {
                "acked" => prop_assert!(log.contains(&batch), "{batch} was acknowledged: {log:?}"),
                "failed" => prop_assert!(!log.contains(&batch), "{batch} had no effect: {log:?}"),
                "unknown" => {}
                other => prop_assert!(false, "{other}"),
            }
        }
    }
}
