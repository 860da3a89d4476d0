//! Offsets of a classic group that runs are deleted where none of its members reads.

use super::*;

/// As consumers say it: version 0, and no user data.
fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).expect("short").to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// A group with an offset of each topic, and then members of this type that say this.
fn world(protocol_type: &str, said: &[Vec<u8>]) -> World {
    let mut world = World::with_topics(&[("a", 1), ("b", 1), ("c", 1)]);
    let offsets = commit_of("g", "", 0, &[("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]);
    world.apply(GroupCommand::Commit(vec![offsets])).expect("never refused as a whole");
    for (n, said) in said.iter().enumerate() {
        let join = JoinClassic {
            protocol_type: protocol_type.to_string(),
            protocols: vec![("range".to_string(), said.clone())],
            ..joining_classic("g", &format!("m{n}"))
        };
        world.apply(GroupCommand::JoinClassic(join)).expect("a valid join");
    }
    world
}

fn partitions() -> PartitionSet {
    ["a", "b", "c"].map(|topic| (topic.to_string(), vec![PartitionId(0)])).into()
}

/// The topics whose offsets stayed.
fn kept(world: &mut World, command: GroupCommand) -> Vec<String> {
    match world.apply(command).expect("there is a group") {
        GroupOutcome::OffsetsDeleted { refused } => {
            assert!(refused.iter().all(|(_, _, refusal)| *refusal == OffsetRefusal::InUse), "{refused:?}");
            let left = world.groups.get(&"g".into()).expect("it has members").offset_count();
            assert_eq!(left, refused.len());
            refused.into_iter().map(|(topic, ..)| topic).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn unread() -> GroupCommand {
    GroupCommand::DeleteUnreadOffsets { group: "g".into(), partitions: partitions() }
}

fn complete(world: &mut World) {
    let complete = CompleteClassic { group: "g".into(), generation: 0, timed_out: false };
    world.apply(GroupCommand::CompleteClassic(complete)).expect("all have joined");
}

#[test]
fn what_no_member_subscribes_to_is_forgotten() {
    let mut world = world("consumer", &[subscription(&["a"]), subscription(&["b", "none"])]);
    assert_eq!(kept(&mut world, unread()), ["a", "b", "c"], "they have no protocol yet: who knows what they read");
    complete(&mut world);
    let as_before = GroupCommand::DeleteOffsets { group: "g".into(), partitions: partitions() };
    assert_eq!(kept(&mut world, as_before), ["a", "b", "c"], "what an old log holds means what it meant");
    assert_eq!(kept(&mut world, unread()), ["a", "b"]);
}

#[test]
fn where_nobody_can_tell_what_is_read_all_stays() {
    for (protocol_type, other) in [("consumer", b"\0\0\x7f\xff\xff\xff".to_vec()), ("connect", subscription(&["b"]))] {
        let mut world = world(protocol_type, &[subscription(&["a"]), other]);
        complete(&mut world);
        assert_eq!(kept(&mut world, unread()), ["a", "b", "c"], "{protocol_type}");
    }
}
