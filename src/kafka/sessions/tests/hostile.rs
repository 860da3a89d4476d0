//! Requests of whoever knows every id and keeps no order.

use bolero::check;

use super::*;
use crate::formats::fuzz::time;

#[test]
fn fuzz_session_sequences() {
    type Wants = Vec<(u8, i32)>;
    type Request = (u8, i8, i8, bool, Wants, Wants);
    check!().with_test_time(time()).with_type::<Vec<(u8, Request)>>().for_each(|steps| {
        let mut table = SessionTable::new(LIMITS);
        let mut turns = Vec::new();
        let mut now = Duration::ZERO;
        for (what, (owner, session, epoch, by_id, wanted, forgotten)) in steps {
            now += SECOND * u32::from(what >> 2);
            let owner = u64::from(owner % 3);
            let key = |number: u8| match by_id {
                true => TopicKey::Id(TopicId(u128::from(number % 4))),
                false => TopicKey::Name("n".repeat(usize::from(number % 13)).into()),
            };
            match what & 3 {
                0 | 1 => {
                    let wanted = wanted.iter().map(|(topic, partition)| of(key(*topic), partition % 5, 0)).collect();
                    let forgotten = forgotten.iter().map(|(topic, partition)| (key(*topic), partition % 5)).collect();
                    let (session, epoch) = (i32::from(*session % 8), i32::from(*epoch % 4));
                    let asking = SessionAsk { session, epoch, by_id: *by_id, wanted, forgotten };
                    if let Ok(SessionPlan { turn: Some(turn), wanted }) = table.begin(owner, asking, now) {
                        turns.push((turn, wanted.len()));
                    }
                }
                2 if !turns.is_empty() => {
                    let (turn, partitions) = turns.swap_remove(usize::from(*session as u8) % turns.len());
                    match by_id {
                        true => table.give_up(turn),
                        false => {
                            let all = [seen(0), seen(1), refused()];
                            let all = (0..partitions).map(|place| all[(place + *epoch as u8 as usize) % 3]);
                            let told = table.answer(turn, &all.collect::<Vec<_>>());
                            assert!(!matches!(told, Ok(Some(told)) if told.len() != partitions));
                        }
                    }
                }
                _ => table.end_all_of(owner),
            }
            let totals = table.totals();
            assert_eq!(totals, table.counted());
            assert!(totals.sessions <= LIMITS.sessions && totals.sessions >= turns.len(), "{totals:?}");
            assert!(totals.partitions <= LIMITS.partitions && totals.bytes <= LIMITS.bytes, "{totals:?}");
        }
    });
}
