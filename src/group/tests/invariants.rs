//! Each invariant of the state, broken one at a time, is an error and not a state.

use super::*;

/// `s`: server-assigned, b awaits what a has to let go of, c has a pattern. `c`: classic, stable.
/// `o`: offsets only.
fn world() -> World {
    let mut world = World::with_topics(&[("t", 4), ("u", 1)]);
    let mut with_pattern = joining("s", "c", &[]);
    with_pattern.subscription.pattern = Some("u".to_string());
    (with_pattern.resolved, with_pattern.instance) = (vec!["u".to_string()], Some("i".to_string()));
    let mut second = joining_classic("c", "m");
    second.instance = Some("i".to_string());
    for command in [
        GroupCommand::Join(joining("s", "a", &["t"])),
        GroupCommand::Join(joining("s", "b", &["t"])),
        GroupCommand::Join(with_pattern),
        GroupCommand::JoinClassic(joining_classic("c", "l")),
        GroupCommand::JoinClassic(second),
        GroupCommand::CompleteClassic(CompleteClassic { group: "c".into(), generation: 0, timed_out: false }),
        GroupCommand::Commit(vec![commit_of("o", "", 0, &[("t", 0, 7)])]),
    ] {
        world.apply(command).expect("valid");
    }
    world
}

fn server(groups: &mut Groups) -> &mut ServerMembers {
    match &mut group(groups, "s").members {
        Members::Server(server) => server,
        Members::None | Members::Classic(_) => panic!("it is server-assigned"),
    }
}

fn member<'a>(groups: &'a mut Groups, id: &str) -> &'a mut ServerMember {
    server(groups).members.get_mut(id).expect("it has joined")
}

fn classic(groups: &mut Groups) -> &mut ClassicMembers {
    match &mut group(groups, "c").members {
        Members::Classic(classic) => classic,
        Members::None | Members::Server(_) => panic!("it is classic"),
    }
}

fn group<'a>(groups: &'a mut Groups, name: &str) -> &'a mut Group {
    groups.by_name.get_mut(name).expect("it was made")
}

fn hold(groups: &mut Groups, id: &str, topic: &str, partition: i32, since: i32) {
    member(groups, id).assigned.entry(topic.to_string()).or_default().insert(PartitionId(partition), since);
}

#[test]
fn a_state_that_breaks_an_invariant_is_refused() {
    type Break = fn(&mut Groups);
    let breaks: [(&str, Break); 30] = [
        ("a group's name of 256 bytes", |g| {
            let group = g.by_name.remove("o").expect("it was made");
            g.by_name.insert(GroupName("x".repeat(256)), group);
        }),
        ("it holds nothing", |g| assert!(group(g, "o").offsets.drop_topic("t"))),
        ("its epoch is -1", |g| group(g, "o").epoch = -1),
        ("empty since None", |g| group(g, "o").empty_since = None),
        ("empty since Some", |g| group(g, "s").empty_since = Some(WallMs(1))),
        ("topic \"v\" does not exist", |g| put(g, "v", 0, 1)),
        ("no partition Some(PartitionId(4))", |g| put(g, "t", 4, 1)),
        ("no partition Some(PartitionId(-1))", |g| put(g, "t", -1, 1)),
        ("a negative offset", |g| put(g, "t", 1, -1)),
        ("members and none", |g| {
            server(g).members.clear();
            put_into(g, "s");
        }),
        ("is at epoch 0", |g| member(g, "a").epoch = 0),
        ("is at epoch 99", |g| member(g, "a").epoch = 99),
        ("since later than now", |g| hold(g, "a", "t", 0, 99)),
        ("since later than now", |g| revoking(g).asked = 99),
        ("since later than now", |g| revoking(g).since = 0),
        ("out of order", |g| member(g, "a").subscription.topics = vec!["u".to_string(), "t".to_string()]),
        ("the pattern of", |g| member(g, "a").subscription.pattern = Some("x".to_string())),
        ("does not exist", |g| hold(g, "a", "v", 0, 1)),
        ("has no partition", |g| hold(g, "a", "t", 4, 1)),
        ("is held by", |g| hold(g, "b", "t", 0, 1)),
        ("is awaited by", |g| member(g, "a").revoking.clear()),
        ("is awaited twice", |g| member(g, "c").awaiting = member(g, "b").awaiting.clone()),
        ("nobody has the pattern", |g| drop(server(g).patterns.insert("x".to_string(), vec![]))),
        ("out of order", |g| server(g).patterns.values_mut().for_each(|t| t.push("t".to_string()))),
        ("which does not exist", |g| server(g).patterns.values_mut().for_each(|t| t.push("v".to_string()))),
        ("an instance id is there twice", |g| member(g, "a").instance = Some("i".to_string())),
        ("its leader \"x\" is unknown", |g| classic(g).leader = "x".into()),
        ("no protocol in common", |g| classic(g).members.values_mut().for_each(|m| m.protocols.clear())),
        ("came in the order [0, 1]", |g| classic(g).next_order = 1),
        ("came in the order [0, 0]", |g| classic(g).members.values_mut().for_each(|m| m.order = 0)),
    ];
    let sound = world();
    let index = |groups: &mut Groups| groups.index(&|name| sound.topics.get(name).copied());
    index(&mut sound.groups.clone()).expect("nothing is broken");
    for (expected, break_it) in breaks {
        let mut groups = sound.groups.clone();
        break_it(&mut groups);
        let broken = index(&mut groups).expect_err(expected);
        assert!(broken.contains(expected), "{broken:?} does not say {expected:?}");
    }
}

fn put(groups: &mut Groups, topic: &str, partition: i32, offset: i64) {
    let metadata = String::new();
    let offset = StoredOffset { offset: Offset(offset), leader_epoch: None, metadata, committed_at: WallMs(0) };
    group(groups, "o").offsets.put(topic.to_string(), PartitionId(partition), offset);
}

/// An offset, so that only its members are wrong about the group.
fn put_into(groups: &mut Groups, name: &str) {
    group(groups, name).offsets = group(groups, "o").offsets.clone();
}

fn revoking(groups: &mut Groups) -> &mut Revoking {
    let revoking = member(groups, "a").revoking.values_mut().flat_map(|p| p.values_mut()).next();
    revoking.expect("it has to let go of something")
}

/// More distinct subscriptions than there are bits would be dealt out wrongly.
#[test]
fn too_many_distinct_subscriptions_are_refused() {
    let mut world = world();
    let one = member(&mut world.groups, "b").clone();
    for i in 0..crate::group::limits::SUBSCRIPTIONS_PER_GROUP_MAX {
        let subscription = Subscription { topics: vec![format!("x{i}")], ..Subscription::default() };
        let member = ServerMember { subscription, awaiting: PartitionSet::new(), ..one.clone() };
        server(&mut world.groups).members.insert(MemberId(format!("m{i}")), member);
    }
    let broken = world.with(|groups, _, counts| groups.index(counts)).expect_err("too many");
    assert!(broken.contains("66 distinct subscriptions"), "{broken}");
}
