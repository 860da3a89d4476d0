//! The rules of a member, without a coordinator.

mod membership;
mod random_lives;
mod topics;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    GroupEvent, OffsetReset,
    core::{Beat, Brought, Core, Due, ERRORS_MAX, From, Now, Rules, Start},
};
use crate::{
    client::{
        ConsumedRecord, OffsetToCommit,
        error::{BrokerError, ClientError, Effect, ErrorCode},
    },
    record::Record,
    types::{LeaderEpoch, Offset, PartitionId, TopicPartition},
};

const SESSION: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(5);

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: PartitionId(partition) }
}

fn ms(ms: u64) -> Now {
    Duration::from_millis(ms)
}

const RULES: Rules = Rules {
    session_timeout: SESSION,
    poll_interval_max: Duration::from_secs(1_000_000),
    auto_commit: Some(INTERVAL),
    offset_reset: OffsetReset::Earliest,
};

fn core() -> Core<()> {
    Core::new(RULES)
}

fn manual() -> Core<()> {
    Core::new(Rules { auto_commit: None, ..RULES })
}

fn beat(core: &mut Core<()>, now: Now, partitions: &[i32]) {
    let assigned = partitions.iter().map(|p| at(*p)).collect();
    let (member, epoch) = ("m".to_string(), core.epoch() + 1);
    core.on_beat(core.membership(), now, Beat { member, epoch, assigned, next_beat: ms(1_000) });
}

/// Answers the question for committed offsets: `found` for all that are in it.
fn offsets(core: &mut Core<()>, found: &[(i32, i64)]) -> Vec<Start> {
    let asked = core.unknown(ms(0));
    core.on_offsets(&asked, &found.iter().map(|(p, offset)| (at(*p), Offset(*offset))).collect());
    core.take_starts()
}

fn brought(offsets: std::ops::Range<i64>) -> Brought<()> {
    let record = |offset| ConsumedRecord { offset: Offset(offset), record: Record::default() };
    Brought {
        records: offsets.clone().map(record).collect(),
        high_watermark: Offset(offsets.end),
        leader_epoch: LeaderEpoch(7),
        permits: (),
    }
}

pub(super) fn broker_error(code: ErrorCode, retriable: bool) -> ClientError {
    ClientError::Broker(Box::new(BrokerError {
        code,
        message: "x".into(),
        effect: Effect::Nothing,
        retriable,
        leader: None,
        actual_offset: None,
        log_start: None,
        high_watermark: None,
    }))
}

fn owned(core: &Core<()>) -> Vec<i32> {
    core.owns().into_iter().flat_map(|set| set.partitions).collect()
}

/// Makes the application's next call, and returns its answer as a line of text.
fn next(core: &mut Core<()>, now: Now) -> String {
    core.begin_next(now);
    let numbers =
        |of: Vec<TopicPartition>| of.iter().map(|at| at.partition.0.to_string()).collect::<Vec<_>>().join(",");
    match core.take(now, 100) {
        None => "-".into(),
        Some(Err(error)) => format!("error {}", error.code().map_or("?".into(), |code| code.to_string())),
        Some(Ok(GroupEvent::Assigned(of))) => format!("assigned {}", numbers(of)),
        Some(Ok(GroupEvent::Revoked(of))) => format!("revoked {}", numbers(of)),
        Some(Ok(GroupEvent::Lost(of))) => format!("lost {}", numbers(of)),
        Some(Ok(GroupEvent::Replaced(of))) => format!("replaced {}", numbers(of)),
        Some(Ok(GroupEvent::Jumped(of))) => format!("{}: {} is not there, on at {}", of.at.partition, of.from, of.to),
        Some(Ok(GroupEvent::Records(of))) => {
            let offsets: Vec<_> = of.records.iter().map(|r| r.offset.0).collect();
            format!("{}: {}..{}", of.at.partition, offsets[0], offsets[offsets.len() - 1] + 1)
        }
    }
}

/// A member that reads partitions 0 and 1 from offset 10 on, and was told so.
fn reading(mut core: Core<()>) -> (Core<()>, Vec<Start>) {
    beat(&mut core, ms(0), &[0, 1]);
    let starts = offsets(&mut core, &[(0, 10), (1, 10)]);
    assert_eq!(next(&mut core, ms(0)), "assigned 0,1");
    (core, starts)
}

fn due(core: &mut Core<()>, now: Now) -> Vec<(i32, i64)> {
    let due = core.due(now);
    due.iter().map(|due| (due.offset.at.partition.0, due.offset.offset.0)).collect()
}

/// Commits what is due, successfully.
fn commit(core: &mut Core<()>, now: Now) -> Vec<(i32, i64)> {
    let dues = core.due(now);
    core.on_committed(&dues, &BTreeSet::new());
    dues.iter().map(|due| (due.offset.at.partition.0, due.offset.offset.0)).collect()
}

#[test]
fn reading_begins_at_the_committed_offset_or_at_the_reset() {
    let mut core = core();
    beat(&mut core, ms(0), &[0, 1]);
    let starts = offsets(&mut core, &[(0, 10)]);
    let froms: Vec<_> = starts.iter().map(|start| (start.at.partition.0, start.from)).collect();
    assert_eq!(froms, [(0, From::Offset(Offset(10))), (1, From::Reset)]);
    core.on_positioned(starts[1].reader, &at(1), None, Offset(3));
    assert_eq!(core.position(&at(0)), None, "the application does not know that it is ours");
    assert_eq!(next(&mut core, ms(0)), "assigned 0,1");
    assert_eq!((core.position(&at(0)), core.position(&at(1))), (Some(Offset(10)), Some(Offset(3))));
    // A place found without a committed offset is committed even if no record comes.
    assert_eq!(commit(&mut core, ms(0)), [(1, 3)]);
}

#[test]
fn fail_as_reset_reports_and_waits_for_a_seek() {
    let mut core = Core::<()>::new(Rules { offset_reset: OffsetReset::Fail, ..RULES });
    beat(&mut core, ms(0), &[0]);
    assert_eq!(offsets(&mut core, &[]), []);
    assert_eq!(next(&mut core, ms(0)), "assigned 0");
    core.begin_next(ms(0));
    let error = core.take(ms(0), 1).expect("an event").expect_err("an error");
    assert_eq!(error, ClientError::NoOffset { partition: at(0) });
    core.seek(&at(0), Offset(5)).expect("it is ours");
    assert_eq!(core.take_starts()[0].from, From::Offset(Offset(5)));
}

#[test]
fn handed_out_is_committed_only_after_the_next_call() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(1)), "0: 10..13");
    assert_eq!(due(&mut core, ms(6_000)), [], "it may be half way through them");
    assert_eq!(next(&mut core, ms(6_000)), "-");
    assert_eq!(due(&mut core, ms(6_001)), [], "the interval has just been used");
    assert_eq!(commit(&mut core, ms(11_000)), [(0, 13)]);
    assert_eq!(commit(&mut core, ms(99_000)), [], "once is enough");
}

#[test]
fn a_commit_by_hand_takes_the_last_event_too() {
    let (mut core, starts) = reading(manual());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    next(&mut core, ms(1));
    let all = core.commit_all();
    assert_eq!(all, [OffsetToCommit { leader_epoch: Some(LeaderEpoch(7)), ..OffsetToCommit::new(at(0), Offset(13)) }]);
    assert_eq!(core.due(ms(99_000)), []);
    core.on_committed(&core.dues(all), &BTreeSet::new());
    assert_eq!(core.commit_all(), []);
}

#[test]
fn records_beyond_the_maximum_wait_and_lose_no_epoch() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    core.begin_next(ms(1));
    core.take(ms(1), 2);
    assert_eq!(
        (core.position(&at(0)), core.commit_all()[0].leader_epoch),
        (Some(Offset(12)), None),
        "of a part it is unknown"
    );
    assert_eq!(next(&mut core, ms(1)), "0: 12..13");
    assert_eq!(core.commit_all()[0].leader_epoch, Some(LeaderEpoch(7)));
}

#[test]
fn a_revoked_partition_is_owned_until_the_call_after_the_event() {
    let (mut core, starts) = reading(manual());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    core.on_brought(starts[1].reader, &at(1), brought(10..13));
    beat(&mut core, ms(100), &[1]);
    assert_eq!(core.take_stops(), [starts[0].reader]);
    assert_eq!(owned(&core), [0, 1]);
    assert_eq!(next(&mut core, ms(100)), "revoked 0", "its records are not handed out any more");
    assert_eq!(owned(&core), [0, 1], "the application may commit now");
    assert!(core.next_beat() > ms(100));
    assert_eq!(next(&mut core, ms(100)), "1: 10..13");
    assert_eq!((owned(&core), core.next_beat()), (vec![1], ms(0)), "and says so at once");
    assert_eq!(core.assignment(), [at(1)]);
}

#[test]
fn a_revoked_partition_goes_only_after_its_last_automatic_commit() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(1)), "0: 10..13");
    assert_eq!(commit(&mut core, ms(1)), [], "this uses up the interval");
    beat(&mut core, ms(100), &[1]);
    assert_eq!(next(&mut core, ms(100)), "revoked 0");
    assert_eq!(next(&mut core, ms(100)), "-");
    assert_eq!(owned(&core), [0, 1]);
    // A commit that failed is tried again at once, not at the next interval.
    let dues = core.due(ms(101));
    assert_eq!(dues.len(), 1);
    core.on_commit_failed(core.membership(), &broker_error(ErrorCode::Unavailable, true), ms(101), 0, SESSION);
    assert_eq!(owned(&core), [0, 1]);
    let retry = core.next_due().expect("there is one");
    assert!(retry > ms(101) && retry < ms(400), "{retry:?}");
    assert_eq!(commit(&mut core, retry), [(0, 13)]);
    assert_eq!((owned(&core), core.next_beat()), (vec![1], ms(0)));
}

#[test]
fn a_refused_last_commit_holds_nothing_up() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    next(&mut core, ms(1));
    beat(&mut core, ms(100), &[1]);
    next(&mut core, ms(100));
    next(&mut core, ms(100));
    let dues = core.due(ms(6_000));
    core.on_committed(&dues, &BTreeSet::from([at(0)]));
    assert_eq!(owned(&core), [1]);
}

#[test]
fn a_partition_nobody_was_told_of_goes_without_a_word() {
    let mut core = core();
    beat(&mut core, ms(0), &[0]);
    beat(&mut core, ms(10), &[]);
    assert_eq!((owned(&core), next(&mut core, ms(10))), (vec![], "-".into()));
    beat(&mut core, ms(20), &[0]);
    assert_eq!(next(&mut core, ms(20)), "assigned 0");
}

#[test]
fn a_partition_given_back_while_it_goes_is_let_go_of_first() {
    let (mut core, _) = reading(manual());
    beat(&mut core, ms(100), &[1]);
    assert_eq!(next(&mut core, ms(100)), "revoked 0");
    beat(&mut core, ms(200), &[0, 1]);
    assert_eq!(next(&mut core, ms(200)), "-");
    assert_eq!(owned(&core), [1]);
    beat(&mut core, ms(300), &[0, 1]);
    assert_eq!(next(&mut core, ms(300)), "assigned 0");
}

#[test]
fn no_record_is_handed_out_after_the_session() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    core.on_brought(starts[1].reader, &at(1), brought(10..13));
    beat(&mut core, ms(1_000), &[0, 1]);
    assert_eq!(next(&mut core, ms(10_999)), "0: 10..13");
    // Nobody told the core that time went by: the call itself notices.
    assert_eq!(next(&mut core, ms(11_000)), "lost 0,1");
    assert_eq!((next(&mut core, ms(11_000)), owned(&core)), ("-".into(), vec![]));
    assert_eq!(core.due(ms(12_000)), [], "others may have committed further");
    // The coordinator is a new one that knows the member still.
    assert_eq!(core.member(), "m");
    beat(&mut core, ms(12_000), &[0, 1]);
    assert_eq!(next(&mut core, ms(12_000)), "assigned 0,1");
    assert_eq!(offsets(&mut core, &[(0, 10), (1, 10)]).len(), 2, "the committed offsets are asked for again");
}

#[test]
fn the_session_counts_from_the_sending_of_a_beat() {
    let (mut core, _) = reading(core());
    // Sent at 2 s, answered at 9 s.
    beat(&mut core, ms(2_000), &[0, 1]);
    assert_eq!(core.session_ends(), Some(ms(12_000)));
    // An answer from before a long sleep of the process keeps nobody alive.
    assert_eq!(next(&mut core, ms(60_000)), "lost 0,1");
    beat(&mut core, ms(3_000), &[0, 1]);
    assert_eq!(next(&mut core, ms(60_000)), "-");
    assert_eq!(owned(&core), Vec::<i32>::new());
}

#[test]
fn an_expelled_member_loses_everything_and_joins_anew() {
    for code in [ErrorCode::UnknownMember, ErrorCode::FencedMember] {
        let (mut core, starts) = reading(core());
        core.on_brought(starts[0].reader, &at(0), brought(10..13));
        let membership = core.membership();
        core.on_beat_failed(membership, broker_error(code, false), ms(500), 0, SESSION);
        assert_eq!(next(&mut core, ms(500)), "lost 0,1");
        assert_eq!((core.member(), core.epoch(), core.next_beat()), ("", 0, ms(0)));
        // The answer to a beat of the old membership comes late.
        let (member, assigned) = ("old".to_string(), vec![at(0)]);
        core.on_beat(membership, ms(400), Beat { member, epoch: 9, assigned, next_beat: ms(100) });
        assert_eq!((next(&mut core, ms(500)), core.member()), ("-".into(), ""));
    }
}

#[test]
fn a_commit_of_an_expelled_member_is_noticed() {
    let (mut core, _) = reading(core());
    core.on_commit_failed(core.membership(), &broker_error(ErrorCode::UnknownMember, false), ms(1), 0, SESSION);
    assert_eq!(next(&mut core, ms(1)), "lost 0,1");
}

#[test]
fn what_the_group_refuses_for_good_ends_the_member() {
    let (mut core, _) = reading(core());
    core.on_beat_failed(core.membership(), broker_error(ErrorCode::FencedInstance, false), ms(1), 0, SESSION);
    assert_eq!(next(&mut core, ms(1)), "lost 0,1");
    for _ in 0..3 {
        assert_eq!(next(&mut core, ms(1)), "error FENCED_INSTANCE");
    }
}

#[test]
fn an_error_that_may_pass_is_reported_once_per_patience() {
    let mut core = core();
    let mut reported = vec![];
    for now in (0..100_000).step_by(100).map(ms) {
        let before = core.next_beat();
        core.on_beat_failed(0, broker_error(ErrorCode::Unavailable, true), now, 1, Duration::from_secs(30));
        assert!(core.next_beat() > now && core.next_beat() < now + ms(600), "{before:?} {:?}", core.next_beat());
        if next(&mut core, now) == "error UNAVAILABLE" {
            reported.push(now.as_secs());
        }
    }
    assert_eq!(reported, [30, 60, 90]);
}

#[test]
fn a_seek_wins_over_the_commited_offset_and_over_what_is_in_hand() {
    let mut core = core();
    beat(&mut core, ms(0), &[0]);
    assert_eq!(next(&mut core, ms(0)), "assigned 0");
    let asked = core.unknown(ms(0));
    core.seek(&at(0), Offset(77)).expect("it is ours");
    core.on_offsets(&asked, &BTreeMap::from([(at(0), Offset(10))]));
    let starts = core.take_starts();
    assert_eq!((starts.len(), starts[0].from), (1, From::Offset(Offset(77))));
    core.on_brought(starts[0].reader, &at(0), brought(77..80));
    assert_eq!(next(&mut core, ms(0)), "0: 77..80");
    core.seek(&at(0), Offset(5)).expect("it is ours");
    assert_eq!(next(&mut core, ms(0)), "-");
    assert_eq!(commit(&mut core, ms(0)), [(0, 5)]);
    // What the old reader still brings is nobody's.
    core.on_brought(starts[0].reader, &at(0), brought(80..90));
    assert_eq!(next(&mut core, ms(0)), "-");
    assert!(core.seek(&at(9), Offset(0)).is_err_and(|error| matches!(error, ClientError::NotAssigned { .. })));
    assert!(core.seek(&at(0), Offset(-1)).is_err());
}

#[test]
fn a_paused_partition_is_kept_and_read_again_from_where_it_was() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    core.begin_next(ms(0));
    core.take(ms(0), 1);
    core.set_paused(&at(0), true).expect("it is ours");
    assert_eq!(core.take_stops(), [starts[0].reader]);
    assert_eq!((next(&mut core, ms(0)), owned(&core)), ("-".into(), vec![0, 1]));
    core.set_paused(&at(0), false).expect("it is ours");
    core.set_paused(&at(0), false).expect("twice is once");
    let again = core.take_starts();
    assert_eq!((again.len(), again[0].from), (1, From::Offset(Offset(11))));
    // Paused before its offset is known, it starts when it is resumed.
    beat(&mut core, ms(0), &[0, 1, 2]);
    assert!(core.set_paused(&at(2), true).is_err(), "the application was not told");
    assert_eq!(next(&mut core, ms(0)), "assigned 2");
    core.set_paused(&at(2), true).expect("it is ours");
    assert_eq!(offsets(&mut core, &[(2, 4)]), []);
    core.set_paused(&at(2), false).expect("it is ours");
    assert_eq!(core.take_starts()[0].from, From::Offset(Offset(4)));
}

#[test]
fn retention_that_overtakes_a_reader_loses_nothing_that_was_read() {
    let (mut core, starts) = reading(core());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    core.on_positioned(starts[0].reader, &at(0), Some(Offset(13)), Offset(500));
    core.on_brought(starts[0].reader, &at(0), brought(500..501));
    assert_eq!(next(&mut core, ms(0)), "0: 10..13");
    assert_eq!(core.position(&at(0)), Some(Offset(13)));
    assert_eq!(next(&mut core, ms(0)), "0: 13 is not there, on at 500");
    assert_eq!((core.position(&at(0)), core.commit_all()[0].offset), (Some(Offset(500)), Offset(500)));
    assert_eq!(next(&mut core, ms(0)), "0: 500..501");
}

#[test]
fn a_reader_that_gave_up_waits_for_a_seek() {
    let (mut core, starts) = reading(core());
    let error = ClientError::BadBatch { partition: at(0), offset: Offset(10), next: None, detail: "crc".into() };
    core.on_read_failed(starts[0].reader, &at(0), error, true);
    assert_eq!(next(&mut core, ms(0)), "error ?");
    assert_eq!((next(&mut core, ms(0)), owned(&core)), ("-".into(), vec![0, 1]));
    core.seek(&at(0), Offset(11)).expect("it is ours");
    assert_eq!(core.take_starts().len(), 1);
}

#[test]
fn errors_wait_up_to_a_limit_and_more_are_dropped() {
    let (mut core, starts) = reading(core());
    for offset in 0..ERRORS_MAX as i64 + 5 {
        let error =
            ClientError::BadBatch { partition: at(0), offset: Offset(offset), next: None, detail: "crc".into() };
        core.on_read_failed(starts[0].reader, &at(0), error, false);
    }
    let told = std::iter::from_fn(|| core.take(ms(0), 1)).take_while(Result::is_err);
    let offsets: Vec<i64> = told
        .map(|error| match error {
            Err(ClientError::BadBatch { offset, .. }) => offset.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, (0..ERRORS_MAX as i64).collect::<Vec<_>>());
}
