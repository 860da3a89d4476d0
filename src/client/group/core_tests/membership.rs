//! What a member may say and do when it is none (any more), or when its application is away.

use super::*;

#[test]
fn a_commit_of_one_who_is_no_member_any_more_is_never_ok() {
    // Expelled: the coordinator said so.
    let (mut core, starts) = reading(manual());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(1)), "0: 10..13");
    core.on_beat_failed(core.membership(), broker_error(ErrorCode::UnknownMember, false), ms(2), 0, SESSION);
    assert_eq!(core.commit_all(), [], "nothing is left to commit");
    assert_eq!(core.commit_all_as_member(ms(2)), Err(ClientError::NotAMember));
    // It has joined anew, but its application knows nothing of that yet.
    beat(&mut core, ms(3), &[0, 1]);
    assert_eq!(core.commit_all_as_member(ms(3)), Err(ClientError::NotAMember));
    assert_eq!(next(&mut core, ms(3)), "lost 0,1");
    assert_eq!(core.commit_all_as_member(ms(3)), Ok(vec![]));

    // Its session went by while the application worked, and nobody looked.
    let (mut core, starts) = reading(manual());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(1)), "0: 10..13");
    assert_eq!(core.commit_all_as_member(ms(9_999)).map(|offsets| offsets.len()), Ok(1));
    assert_eq!(core.commit_all_as_member(ms(10_000)), Err(ClientError::NotAMember));
    assert_eq!(manual().commit_all_as_member(ms(0)), Err(ClientError::NotAMember), "it has not joined yet");
}

#[test]
fn a_commit_that_waits_is_void_once_what_it_is_of_was_lost() {
    let (mut core, starts) = reading(manual());
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    next(&mut core, ms(1));
    let all = core.commit_all();
    let dues = core.dues(all);
    assert!(core.are_held_still(&dues));
    core.expire(SESSION);
    assert!(!core.are_held_still(&dues));
    // Others may have had it in between, and committed further.
    beat(&mut core, SESSION, &[0, 1]);
    assert!(!core.are_held_still(&dues));
    let strange = OffsetToCommit::new(at(9), Offset(1));
    let dues = core.dues(vec![strange]);
    assert!(core.are_held_still(&dues), "what it never held the coordinator refuses");
}

#[test]
fn who_is_no_member_is_not_woken_to_commit() {
    let mut core = core();
    assert_eq!((core.due(ms(5)), core.next_due()), (vec![], None));
    beat(&mut core, ms(5), &[0]);
    assert!(core.next_due().is_some());
    core.on_commit_failed(core.membership(), &broker_error(ErrorCode::Unavailable, true), ms(6), 0, SESSION);
    core.on_beat_failed(core.membership(), broker_error(ErrorCode::UnknownMember, false), ms(7), 0, SESSION);
    assert_eq!((core.due(ms(60_000)), core.next_due()), (vec![], None));
}

#[test]
fn a_failed_question_for_offsets_is_not_repeated_for_what_is_lost() {
    let mut core = core();
    beat(&mut core, ms(0), &[0]);
    assert_eq!(core.unknown(ms(0)).len(), 1);
    core.on_offsets_failed(broker_error(ErrorCode::Unavailable, true), ms(1), 0, SESSION);
    assert!(core.fetch_retry().is_some());
    core.expire(SESSION);
    assert_eq!((core.unknown(SESSION), core.fetch_retry()), (vec![], None));
}

#[test]
fn a_commit_of_a_fenced_instance_ends_the_member_and_throws_nobody_out() {
    let (mut core, _) = reading(core());
    core.on_commit_failed(core.membership(), &broker_error(ErrorCode::FencedInstance, false), ms(1), 0, SESSION);
    assert!(core.fatal().is_some(), "it must not join again");
    assert_eq!(next(&mut core, ms(1)), "lost 0,1");
    assert_eq!(next(&mut core, ms(1)), "error FENCED_INSTANCE");
}

#[test]
fn a_join_answered_unknown_member_is_tried_again_as_another_one() {
    let mut core = core();
    let membership = core.membership();
    core.on_beat_failed(membership, broker_error(ErrorCode::UnknownMember, false), ms(0), 1, SESSION);
    assert_eq!((core.fatal(), core.member()), (None, ""));
    assert!(core.next_beat() > ms(0), "not in a busy loop");
    assert_ne!(core.membership(), membership, "an id serves one membership");
    beat(&mut core, ms(100), &[0]);
    assert_eq!(next(&mut core, ms(100)), "assigned 0");
}

#[test]
fn an_application_that_does_not_call_gives_up_its_membership_until_it_does() {
    let stuck = Rules { poll_interval_max: ms(30_000), session_timeout: ms(1_000_000), ..RULES };
    let (mut core, starts) = reading(Core::new(stuck));
    core.on_brought(starts[0].reader, &at(0), brought(10..13));
    assert_eq!(next(&mut core, ms(20_000)), "0: 10..13");
    core.leave_if_stuck(ms(49_999));
    assert_eq!(core.take_leaving(), None);
    core.leave_if_stuck(ms(50_000));
    assert_eq!((core.take_leaving().as_deref(), core.member()), (Some("m"), ""));
    assert_eq!(core.next_beat(), Now::MAX, "it does not join again by itself");
    core.leave_if_stuck(ms(99_000));
    assert_eq!(core.take_leaving(), None, "once is enough");
    assert_eq!(core.commit_all_as_member(ms(99_000)), Err(ClientError::NotAMember));
    assert_eq!(next(&mut core, ms(99_000)), "lost 0,1");
    assert_eq!(core.next_beat(), ms(0), "it joins anew at once");
    core.leave_if_stuck(ms(99_001));
    assert_eq!(core.next_beat(), ms(0));
    // One that waits in a call is there, however long nothing comes: its driver wakes it.
    assert_eq!(core.take(ms(120_000), 1).map(drop), None);
    core.leave_if_stuck(ms(140_000));
    assert_ne!(core.next_beat(), Now::MAX);
}

#[test]
fn an_application_that_never_called_leaves_too() {
    let mut core = Core::<()>::new(Rules { poll_interval_max: ms(5_000), ..RULES });
    beat(&mut core, ms(0), &[0]);
    core.leave_if_stuck(ms(5_000));
    assert_eq!(core.take_leaving().as_deref(), Some("m"));
    assert_eq!(next(&mut core, ms(6_000)), "-", "it was never told of anything");
}
