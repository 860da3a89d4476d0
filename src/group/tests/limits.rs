//! Each limit, just below and just above; and that what shrinks is never refused.

use super::*;
use crate::group::draft::EPOCH_MAX;
use crate::group::limits::*;
use crate::group::usage::Usage;
use crate::types::TOPIC_NAME_BYTES_MAX;

type Answer = Result<GroupOutcome, GroupRefusal>;

#[track_caller]
fn accepts(answer: Answer) {
    answer.unwrap_or_else(|refusal| panic!("{refusal}"));
}

#[track_caller]
fn refuses(answer: Answer, says: &str) {
    let refusal = answer.expect_err("it is above a limit");
    assert!(refusal.to_string().contains(says), "{refusal}");
}

fn world() -> World {
    World::with_topics(&[("t", 4)])
}

fn join(change: impl FnOnce(&mut Join)) -> Answer {
    let mut wish = joining("g", "a", &["t"]);
    change(&mut wish);
    world().apply(GroupCommand::Join(wish))
}

fn join_classic(change: impl FnOnce(&mut JoinClassic)) -> Answer {
    let mut wish = joining_classic("g", "a");
    change(&mut wish);
    world().apply(GroupCommand::JoinClassic(wish))
}

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[test]
fn words_have_lengths() {
    accepts(join(|w| w.group = GroupName(long(GROUP_NAME_BYTES_MAX))));
    refuses(join(|w| w.group = GroupName(long(GROUP_NAME_BYTES_MAX + 1))), "a group's name of 256 bytes");
    refuses(join(|w| w.group = GroupName::default()), "a group's name of 0 bytes");
    refuses(join(|w| w.group = "a\nb".into()), "control characters");
    accepts(join(|w| w.member = MemberId(long(MEMBER_ID_BYTES_MAX))));
    refuses(join(|w| w.member = MemberId(long(MEMBER_ID_BYTES_MAX + 1))), "a member id of 301 bytes");
    refuses(join(|w| w.member = MemberId::default()), "a member id of 0 bytes");
    accepts(join(|w| w.instance = Some(long(LABEL_BYTES_MAX))));
    refuses(join(|w| w.instance = Some(long(LABEL_BYTES_MAX + 1))), "an instance id of 256 bytes");
    refuses(join(|w| w.instance = Some(String::new())), "an instance id of 0 bytes");
    accepts(join(|w| w.client_id = long(LABEL_BYTES_MAX)));
    refuses(join(|w| w.client_id = long(LABEL_BYTES_MAX + 1)), "a client id of 256 bytes");
    refuses(join(|w| w.client_host = long(LABEL_BYTES_MAX + 1)), "a client's host of 256 bytes");
    accepts(join(|w| w.subscription.pattern = Some(long(PATTERN_BYTES_MAX))));
    refuses(join(|w| w.subscription.pattern = Some(long(PATTERN_BYTES_MAX + 1))), "a pattern of 1025 bytes");
    refuses(join(|w| w.subscription.topics = vec![long(TOPIC_NAME_BYTES_MAX + 1)]), "a topic's name of 250 bytes");
    accepts(join_classic(|w| w.protocol_type = long(LABEL_BYTES_MAX)));
    refuses(join_classic(|w| w.protocol_type = long(LABEL_BYTES_MAX + 1)), "a protocol type of 256 bytes");
    refuses(join_classic(|w| w.protocols[0].0 = long(LABEL_BYTES_MAX + 1)), "a protocol's name of 256 bytes");
}

/// Whoever lists the members of a group must not have his terminal written on by them.
#[test]
fn names_that_people_see_have_no_control_characters() {
    let evil = || "a\u{1b}[2J\nb".to_string();
    refuses(join(|w| w.member = MemberId(evil())), "a member id has no control characters");
    refuses(join(|w| w.instance = Some(evil())), "an instance id has no control characters");
    refuses(join(|w| w.client_id = evil()), "a client id has no control characters");
    refuses(join(|w| w.client_host = evil()), "a client's host has no control characters");
    refuses(join_classic(|w| w.client_id = evil()), "a client id has no control characters");
    refuses(join_classic(|w| w.protocol_type = evil()), "a protocol type has no control characters");
    refuses(join_classic(|w| w.protocols[0].0 = evil()), "a protocol's name has no control characters");
    accepts(join(|w| w.client_id = "Zähler 7 – π".to_string()));
}

/// The coordinator asks every second, under the lock that every apply waits for.
#[test]
fn offsets_of_groups_that_run_cost_the_search_for_old_ones_nothing() {
    let mut world = World::with_topics(&[("t", 100_000)]);
    let offsets: Vec<(&str, i32, i64)> = (0..100_000).map(|partition| ("t", partition, 1)).collect();
    accepts(world.apply(GroupCommand::Commit(vec![commit_of("g", "", 0, &offsets)])));
    assert_eq!(world.groups.expirable(WallMs(i64::MAX), 1), ["g"], "while it has no members");
    accepts(world.apply(GroupCommand::Join(joining("g", "a", &["u"]))));
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        assert_eq!(world.groups.expirable(WallMs(i64::MAX), 1), [""; 0]);
    }
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_millis(100), "1,000 searches took {took:?}");
}

#[test]
fn timeouts_have_ranges() {
    for ms in [SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MAX] {
        accepts(join(|w| w.session_timeout_ms = ms));
        accepts(join_classic(|w| w.session_timeout_ms = ms));
    }
    for ms in [SESSION_TIMEOUT_MS_MIN - 1, SESSION_TIMEOUT_MS_MAX + 1] {
        refuses(join(|w| w.session_timeout_ms = ms), "a session timeout of");
        refuses(join_classic(|w| w.session_timeout_ms = ms), "a session timeout of");
    }
    accepts(join(|w| w.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS_MAX));
    for ms in [0, REBALANCE_TIMEOUT_MS_MAX + 1] {
        refuses(join(|w| w.rebalance_timeout_ms = ms), "a rebalance timeout of");
    }
}

#[test]
fn a_subscription_names_so_many_topics() {
    let names = |count: usize| (0..count).map(|i| format!("t{i}")).collect::<Vec<_>>();
    accepts(join(|w| w.subscription.topics = names(SUBSCRIBED_TOPICS_MAX)));
    refuses(join(|w| w.subscription.topics = names(SUBSCRIBED_TOPICS_MAX + 1)), "1001 topics are named");
}

#[test]
fn a_group_has_so_many_distinct_subscriptions() {
    let mut world = world();
    for i in 0..SUBSCRIPTIONS_PER_GROUP_MAX {
        let topic = format!("t{i}");
        accepts(world.apply(GroupCommand::Join(joining("g", &format!("m{i}"), &[&topic, "t"]))));
    }
    accepts(world.apply(GroupCommand::Join(joining("g", "same", &["t0", "t"]))));
    let another = || GroupCommand::Join(joining("g", "other", &["t"]));
    refuses(world.apply(another()), "at most 64 distinct subscriptions");
    let leavers = vec![LeavingMember { member: "m63".into(), instance: None }];
    accepts(world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })));
    accepts(world.apply(another()));
}

#[test]
fn a_group_has_so_many_members() {
    let mut world = world();
    accepts(world.apply(GroupCommand::Join(joining("g", "m", &["t"]))));
    let group = world.groups.by_name.get_mut("g").expect("it has a member");
    let Members::Server(server) = &mut group.members else { panic!("it is server-assigned") };
    let member = ServerMember { assigned: Default::default(), ..server.members["m"].clone() };
    server.members.extend((1..MEMBERS_PER_GROUP_MAX - 1).map(|i| (MemberId(format!("m{i}")), member.clone())));
    world.with(|groups, _, counts| groups.index(counts)).expect("sound");
    accepts(world.apply(GroupCommand::Join(joining("g", "last", &["t"]))));
    refuses(world.apply(GroupCommand::Join(joining("g", "more", &["t"]))), "at most 1000 members");
}

#[test]
fn a_classic_group_has_so_many_members() {
    let mut world = world();
    accepts(world.apply(GroupCommand::JoinClassic(joining_classic("g", "m"))));
    let group = world.groups.by_name.get_mut("g").expect("it has a member");
    let Members::Classic(classic) = &mut group.members else { panic!("it is classic") };
    let member = classic.members["m"].clone();
    for order in 1..MEMBERS_PER_GROUP_MAX as u64 - 1 {
        classic.members.insert(MemberId(format!("m{order}")), ClassicMember { order, ..member.clone() });
    }
    classic.next_order = MEMBERS_PER_GROUP_MAX as u64;
    world.with(|groups, _, counts| groups.index(counts)).expect("sound");
    accepts(world.apply(GroupCommand::JoinClassic(joining_classic("g", "last"))));
    refuses(world.apply(GroupCommand::JoinClassic(joining_classic("g", "more"))), "at most 1000 members");
}

#[test]
fn classic_bytes_are_bounded() {
    let protocols = |count: usize| (0..count).map(|i| (format!("p{i}"), vec![])).collect();
    accepts(join_classic(|w| w.protocols = protocols(CLASSIC_PROTOCOLS_MAX)));
    refuses(join_classic(|w| w.protocols = protocols(CLASSIC_PROTOCOLS_MAX + 1)), "17 protocols are offered");
    accepts(join_classic(|w| w.protocols[0].1 = vec![0; CLASSIC_MEMBER_BYTES_MAX]));
    refuses(join_classic(|w| w.protocols[0].1 = vec![0; CLASSIC_MEMBER_BYTES_MAX + 1]), "262145 bytes");

    // Twelve full members fill a group.
    let mut world = world();
    let wish = |i: usize, bytes: usize| JoinClassic {
        protocols: vec![("p".to_string(), vec![0; bytes])],
        ..joining_classic("g", &format!("m{i}"))
    };
    let full = CLASSIC_GROUP_BYTES_MAX / CLASSIC_MEMBER_BYTES_MAX;
    for i in 0..full {
        accepts(world.apply(GroupCommand::JoinClassic(wish(i, CLASSIC_MEMBER_BYTES_MAX))));
    }
    refuses(world.apply(GroupCommand::JoinClassic(wish(full, 1))), "the members' subscriptions and assignments");

    // Assignments count too.
    let mut world = super::World::default();
    accepts(world.apply(GroupCommand::JoinClassic(wish(0, 10))));
    accepts(world.apply(GroupCommand::CompleteClassic(CompleteClassic {
        group: "g".into(),
        generation: 0,
        timed_out: false,
    })));
    let sync = |bytes: usize| {
        let (group, member) = ("g".into(), "m0".into());
        let assignments = vec![("m0".into(), vec![0; bytes])];
        GroupCommand::SyncClassic(SyncClassic { group, generation: 1, member, assignments })
    };
    refuses(world.apply(sync(CLASSIC_MEMBER_BYTES_MAX - 9)), "a member's subscriptions and assignment");
    accepts(world.apply(sync(CLASSIC_MEMBER_BYTES_MAX - 10)));
}

/// As if other groups used all but so much of everything.
fn nearly_full(left: Usage) -> World {
    let mut world = world();
    let all = Usage { members: MEMBERS_MAX, assigned: ASSIGNED_MAX, offsets: OFFSETS_MAX, bytes: GROUPS_BYTES_MAX };
    world.groups.usage = all.minus(left);
    world
}

const ROOM: Usage = Usage { members: 100, assigned: 100, offsets: 100, bytes: 100_000 };

#[test]
fn members_in_all() {
    let mut world = nearly_full(Usage { members: 1, ..ROOM });
    accepts(world.apply(GroupCommand::Join(joining("g", "a", &["t"]))));
    refuses(world.apply(GroupCommand::Join(joining("g", "b", &["t"]))), "20001 members of consumer groups");
    refuses(world.apply(GroupCommand::JoinClassic(joining_classic("h", "b"))), "20001 members of consumer groups");
    let leavers = vec![LeavingMember { member: "a".into(), instance: None }];
    accepts(world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })));
    accepts(world.apply(GroupCommand::JoinClassic(joining_classic("h", "b"))));
}

#[test]
fn assigned_partitions_in_all() {
    let mut world = nearly_full(Usage { assigned: 6, ..ROOM });
    accepts(world.apply(GroupCommand::Join(joining("g", "a", &["t", "later"]))));
    refuses(world.apply(GroupCommand::Join(joining("h", "a", &["t"]))), "500002 partitions of topics");
    accepts(world.groups.check_topic_growth("later", 0, 2).map(|()| GroupOutcome::PatternResolved));
    let refused = world.groups.check_topic_growth("later", 0, 3).expect_err("above the limit");
    assert!(refused.to_string().contains("500001 partitions of topics"), "{refused}");
    assert!(world.groups.check_topic_growth("t", 4, 6).is_ok());
    assert!(world.groups.check_topic_growth("t", 4, 7).is_err());
    assert!(world.groups.check_topic_growth("nobody reads it", 0, 10_000).is_ok());
}

#[test]
fn offsets_in_all_and_of_a_group() {
    let commit = |world: &mut World, group: &str, offsets: &[(&str, i32, i64)]| {
        let command = GroupCommand::Commit(vec![commit_of(group, "", 0, offsets)]);
        let Ok(GroupOutcome::Committed { mut results }) = world.apply(command) else { panic!("never refused") };
        results.pop().expect("one commit")
    };
    let mut world = nearly_full(Usage { offsets: 1, ..ROOM });
    let refused = commit(&mut world, "g", &[("t", 0, 1), ("t", 1, 1), ("t", 0, 2)]).expect("the group may be made");
    let [(1, OffsetRefusal::LimitReached { detail })] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(detail.contains("1000001 committed offsets"), "{detail}");
    assert_eq!(
        world.groups.get(&"g".into()).expect("it has one").offset("t", PartitionId(0)).expect("there").offset,
        Offset(2)
    );

    let max = OFFSETS_PER_GROUP_MAX as i32;
    let mut world = World::with_topics(&[("t", max + 1)]);
    let all: Vec<_> = (0..=max).map(|p| ("t", p, 1)).collect();
    let refused = commit(&mut world, "g", &all).expect("the group may be made");
    let [(at, OffsetRefusal::LimitReached { detail })] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(*at == max as u32 && detail.contains("a group has at most 100000 committed offsets"), "{at} {detail}");
}

#[test]
fn offset_metadata_is_bounded() {
    for (bytes, refused) in [(OFFSET_METADATA_BYTES_MAX, 0), (OFFSET_METADATA_BYTES_MAX + 1, 1)] {
        let mut commit = commit_of("g", "", 0, &[("t", 0, 1)]);
        commit.offsets[0].metadata = long(bytes);
        let answer = world().apply(GroupCommand::Commit(vec![commit]));
        let Ok(GroupOutcome::Committed { results }) = answer else { panic!("never refused") };
        assert_eq!(results[0].as_ref().expect("the group may be made").len(), refused, "{results:?}");
    }
}

#[test]
fn groups_in_all() {
    let mut world = world();
    let commits = (0..GROUPS_MAX).map(|i| commit_of(&format!("g{i}"), "", 0, &[("t", 0, 1)]));
    accepts(world.apply(GroupCommand::Commit(commits.collect())));
    assert_eq!(world.groups.len(), GROUPS_MAX);
    refuses(world.apply(GroupCommand::Join(joining("g", "a", &["t"]))), "10000 consumer groups, no more");
    let answer = world.apply(GroupCommand::Commit(vec![commit_of("g", "", 0, &[("t", 0, 1)])]));
    let Ok(GroupOutcome::Committed { results }) = answer else { panic!("never refused as a whole") };
    assert!(matches!(results[0], Err(GroupRefusal::LimitReached { .. })), "{results:?}");
    accepts(world.apply(GroupCommand::Join(joining("g7", "a", &["t"]))));
}

#[test]
fn bytes_in_all() {
    // A group of this name and one member count for less than 400 bytes, and for more than 200.
    let mut world = nearly_full(Usage { bytes: 400, ..ROOM });
    accepts(world.apply(GroupCommand::Join(joining("g", "a", &["t"]))));
    refuses(world.apply(GroupCommand::Join(joining("h", "a", &["t"]))), "bytes of consumer groups");
    let mut commit = commit_of("g", "a", 1, &[("t", 0, 1)]);
    commit.offsets[0].metadata = long(400);
    let Ok(GroupOutcome::Committed { results }) = world.apply(GroupCommand::Commit(vec![commit])) else {
        panic!("never refused as a whole")
    };
    let refused = results[0].as_ref().expect("a member may commit");
    assert!(matches!(refused[..], [(0, OffsetRefusal::LimitReached { .. })]), "{refused:?}");
    let leavers = vec![LeavingMember { member: "a".into(), instance: None }];
    accepts(world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })));
    accepts(world.apply(GroupCommand::Join(joining("h", "a", &["t"]))));
}

#[test]
fn epochs_run_out_for_joins_first() {
    for (epoch, is_ok) in [(EPOCH_MAX - 1, true), (EPOCH_MAX, false)] {
        let mut world = world();
        accepts(world.apply(GroupCommand::Commit(vec![commit_of("g", "", 0, &[("t", 0, 1)])])));
        world.groups.by_name.get_mut("g").expect("just made").epoch = epoch;
        let answer = world.apply(GroupCommand::Join(joining("g", "a", &["t"])));
        assert_eq!(answer.is_ok(), is_ok, "{answer:?}");
        if is_ok {
            let leavers = vec![LeavingMember { member: "a".into(), instance: None }];
            accepts(world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })));
        }
        let answer = world.apply(GroupCommand::JoinClassic(joining_classic("g", "a")));
        refuses(answer, "epochs are used up");
    }
}

/// A broker with smaller limits than the one that let members in must still let them go.
#[test]
fn what_shrinks_is_never_refused() {
    let mut world = world();
    for member in ["a", "b"] {
        accepts(world.apply(GroupCommand::Join(joining("g", member, &["t"]))));
    }
    let above = Usage { members: MEMBERS_MAX, assigned: ASSIGNED_MAX, offsets: OFFSETS_MAX, bytes: GROUPS_BYTES_MAX };
    world.groups.usage = world.groups.usage.plus(above).plus(ROOM);
    refuses(world.apply(GroupCommand::Join(joining("g", "c", &["t"]))), "members of consumer groups");
    for member in ["a", "b"] {
        let leavers = vec![LeavingMember { member: member.into(), instance: None }];
        accepts(world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })));
    }
    assert!(world.groups.is_empty());
}
