//! Groups that hold nothing: gone at once, or, from feature level 4 on, after a while.

use super::super::limits::EMPTY_GROUP_KEPT_MS;
use super::*;

/// A group with one offset and no members, at this time.
fn world(keeps: bool, now: i64) -> World {
    let mut world = World::with_topics(&[("t", 1)]);
    world.groups.keep_empty(keeps);
    world.now = WallMs(now);
    world.apply(GroupCommand::Commit(vec![commit_of("g", "", 0, &[("t", 0, 7)])])).expect("never refused as a whole");
    world
}

fn delete_offsets(world: &mut World) {
    let partitions = PartitionSet::from([("t".to_string(), vec![PartitionId(0)])]);
    let outcome = world.apply(GroupCommand::DeleteOffsets { group: "g".into(), partitions });
    assert_eq!(outcome, Ok(GroupOutcome::OffsetsDeleted { refused: vec![] }));
}

fn delete_group(world: &mut World) -> Result<GroupOutcome, GroupRefusal> {
    world.apply(GroupCommand::DeleteGroup { group: "g".into() })
}

/// As the coordinator does: what is due, and the entry for it. Returns how many groups that took.
fn expire(world: &mut World, now: i64, retention_ms: u64) -> u32 {
    world.now = WallMs(now);
    let groups = world.groups.expirable(world.now, retention_ms);
    match world.apply(GroupCommand::ExpireOffsets { groups, retention_ms }) {
        Ok(GroupOutcome::OffsetsExpired { groups, .. }) => groups,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_can_be_deleted_after_its_offsets() {
    let mut world = world(true, 0);
    delete_offsets(&mut world);
    assert_eq!(world.groups.get(&"g".into()).map(Group::offset_count), Some(0));
    assert_eq!(delete_group(&mut world), Ok(GroupOutcome::GroupDeleted));
    assert_eq!(delete_group(&mut world), Err(GroupRefusal::UnknownGroup));
    assert!(world.groups.is_empty());
}

#[test]
fn below_feature_level_4_what_holds_nothing_is_no_group() {
    let mut world = world(false, 0);
    delete_offsets(&mut world);
    assert!(world.groups.is_empty());
    assert_eq!(delete_group(&mut world), Err(GroupRefusal::UnknownGroup));
}

/// The time counts from when it came to hold nothing, whenever its members went.
#[test]
fn a_group_that_holds_nothing_expires() {
    let (kept, week) = (EMPTY_GROUP_KEPT_MS as i64, 7 * 24 * 3_600_000);
    let mut world = world(true, 0);
    world.now = WallMs(5 * kept);
    delete_offsets(&mut world);
    let hint = GroupCommand::ExpireOffsets { groups: vec!["g".into()], retention_ms: week };
    assert_eq!(world.apply(hint), Ok(GroupOutcome::OffsetsExpired { offsets: 0, groups: 0 }), "only a hint");
    assert_eq!(expire(&mut world, 6 * kept - 1, week), 0);
    assert_eq!(expire(&mut world, 6 * kept, week), 1);
    assert!(world.groups.is_empty());

    // The last member leaves a group without offsets.
    world.apply(GroupCommand::Join(joining("h", "m", &["t"]))).expect("a valid join");
    let leavers = vec![LeavingMember { member: "m".into(), instance: None }];
    world.apply(GroupCommand::Leave(Leave { group: "h".into(), leavers })).expect("it is a member");
    assert_eq!(world.groups.len(), 1);
    assert_eq!(expire(&mut world, 6 * kept + 1, 1), 1, "a shorter retention counts for it too");
}

#[test]
fn a_group_whose_last_offset_expires_goes_with_it() {
    let mut world = world(true, 0);
    assert_eq!(expire(&mut world, 99, 100), 0);
    assert_eq!(expire(&mut world, 100, 100), 1);
    assert!(world.groups.is_empty());
}

#[test]
fn a_commit_that_is_refused_makes_no_group() {
    let mut world = world(true, 0);
    let refused = commit_of("new", "", 0, &[("unheard-of", 0, 7)]);
    world.apply(GroupCommand::Commit(vec![refused])).expect("never refused as a whole");
    assert_eq!(world.groups.len(), 1);
}
