//! Batches, and outcomes of their proposals, in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Propose,
    /// The oldest open proposal gets an outcome: refused, or committed (live or dead, as apply says).
    Refuse,
    Commit,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Send),
        4 => Just(Step::Propose),
        1 => Just(Step::Refuse),
        4 => Just(Step::Commit),
        2 => Just(Step::Pass),
    ]
}

proptest! {
    /// Whatever is refused or dies: offsets come in the order of arrival, each batch once, and all that
    /// is acknowledged lies where the answer says (SAFETY M2, B8).
    #[test]
    fn m2_acknowledged_offsets_are_in_arrival_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new();
        let (mut sent, mut open) = (0, std::collections::VecDeque::new());
        for step in steps {
            match step {
                Step::Send => {
                    sent += 1;
                    rig.send(sent, &idempotent(sent as i32 - 1, 1));
                }
                Step::Propose => open.extend(rig.propose()),
                Step::Refuse => if let Some(plan) = open.pop_front() { rig.land(plan, FlightEnd::LeaseExpired) },
                Step::Commit => if let Some(plan) = open.pop_front() { rig.commit(plan); },
                // Shorter than B8's second in all, so that nothing times out.
                Step::Pass => rig.now += Duration::from_millis(1),
            }
            if rig.core.wants_resync() {
                rig.resync();
            }
        }
        // All is well again: everything gets through.
        for _ in 0..limits::PROPOSALS_MAX + 2 {
            while let Some(plan) = open.pop_front() {
                rig.commit(plan);
            }
            if rig.core.wants_resync() {
                rig.resync();
            }
            rig.now += limits::REFUSED_RETRY;
            open.extend(rig.propose());
        }
        for waiter in 1..=sent {
            prop_assert_eq!(rig.offset(waiter), Offset(i64::from(waiter) - 1));
        }
        prop_assert_eq!(rig.partition.next_offset(), Offset(i64::from(sent)));
    }
}
