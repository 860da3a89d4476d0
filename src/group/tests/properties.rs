//! What holds after any sequence of commands, whatever order heartbeats arrive in.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const TOPICS: [&str; 4] = ["ta", "tb", "tc", "u"];
const PATTERN: &str = "t.*";

/// By small numbers, so that names collide often.
#[derive(Clone, Debug)]
enum Step {
    Join {
        topics: u8,
        pattern: bool,
        instance: Option<u8>,
        assignor: u8,
    },
    /// `lost`: the answer does not arrive. `copied`: the network keeps a copy of the request.
    Beat {
        who: usize,
        lost: bool,
        copied: bool,
    },
    /// A copy of an old heartbeat arrives.
    Late {
        which: usize,
    },
    Subscribe {
        who: usize,
        topics: u8,
        pattern: bool,
    },
    Leave {
        who: usize,
    },
    Expire {
        who: usize,
    },
    ExpireSlow {
        who: usize,
        back: i32,
    },
    Resolve,
    Grow {
        topic: usize,
        by: i32,
    },
    Delete {
        topic: usize,
    },
    Commit {
        who: usize,
        back: i32,
        topic: usize,
        partition: i32,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..8usize;
    prop_oneof![
        5 => (0..16u8, any::<bool>(), proptest::option::of(0..3u8), 0..9u8)
            .prop_map(|(topics, pattern, instance, assignor)| Step::Join { topics, pattern, instance, assignor }),
        16 => (who(), prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|(who, lost, copied)| Step::Beat { who, lost, copied }),
        5 => (0..20usize).prop_map(|which| Step::Late { which }),
        3 => (who(), 0..16u8, any::<bool>()).prop_map(|(who, topics, pattern)| Step::Subscribe { who, topics, pattern }),
        2 => who().prop_map(|who| Step::Leave { who }),
        2 => who().prop_map(|who| Step::Expire { who }),
        1 => (who(), 0..3i32).prop_map(|(who, back)| Step::ExpireSlow { who, back }),
        2 => Just(Step::Resolve),
        4 => (0..4usize, 1..4i32).prop_map(|(topic, by)| Step::Grow { topic, by }),
        1 => (0..4usize).prop_map(|topic| Step::Delete { topic }),
        8 => (who(), 0..3i32, 0..4usize, 0..6i32)
            .prop_map(|(who, back, topic, partition)| Step::Commit { who, back, topic, partition }),
        1 => Just(Step::Restart),
    ]
}

/// A member as it sees itself.
#[derive(Clone, Debug)]
struct Client {
    id: MemberId,
    epoch: i32,
    /// What it really reads.
    owns: PartitionSet,
    instance: Option<String>,
}

/// Groups, and clients that do as the public API's comments say.
#[derive(Default)]
struct Play {
    world: World,
    clients: Vec<Client>,
    copies: Vec<(MemberId, i32, PartitionSet)>,
    joined: usize,
}

impl Play {
    fn run(&mut self, step: &Step) {
        let (before, epochs) = (self.world.groups.clone(), self.epochs());
        let refused = self.step(step);
        if refused {
            assert_eq!(self.world.groups, before, "a refusal changed something: {step:?}");
        }
        self.check_epochs(&epochs);
        self.check_holds();
        // What apply makes must be what decode accepts, with the same totals.
        let bytes = postcard::to_stdvec(&self.world.groups).expect("encodes");
        assert!(bytes.len() <= 10 + self.world.groups.usage.bytes, "the bytes counted are no upper bound");
        let mut decoded: Groups = postcard::from_bytes(&bytes).expect("our own bytes");
        decoded.keep_empty(self.world.groups.keeps_empty);
        self.world.with(|_, _, counts| decoded.index(counts)).expect("apply keeps the invariants");
        assert_eq!(decoded, self.world.groups);
    }

    /// Whether it was a command that was refused.
    #[expect(clippy::too_many_lines, reason = "an arm for each kind of step")]
    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::Join { topics, pattern, instance, assignor } => {
                self.join(*topics, *pattern, *instance, *assignor);
                false
            }
            Step::Beat { who, lost, copied } => {
                let Some(i) = self.pick(*who) else { return false };
                let Client { id, epoch, owns, .. } = self.clients[i].clone();
                if *copied {
                    self.copies.push((id.clone(), epoch, owns.clone()));
                }
                self.world.beat("g", &id.0, epoch, &owns).expect("a live member that says what it was told");
                if !lost {
                    self.answer(i);
                }
                false
            }
            Step::Late { which } => {
                let Some((id, epoch, owns)) = self.copies.get(*which).cloned() else { return false };
                // As a coordinator that looks at nothing would propose it: apply must judge by itself.
                let mut released = self.world.member("g", &id.0).map(|m| m.revoking_set()).unwrap_or_default();
                for (topic, partitions) in &mut released {
                    partitions.retain(|p| !owns.get(topic).is_some_and(|owned| owned.contains(p)));
                }
                let (group, member) = ("g".into(), id);
                let report = Report { group, member, epoch, released, ..Report::default() };
                self.world.apply(GroupCommand::Report(report)).is_err()
            }
            Step::Subscribe { who, topics, pattern } => {
                let Some(i) = self.pick(*who) else { return false };
                let Client { id, epoch, .. } = self.clients[i].clone();
                let subscription = Some(subscription(*topics, *pattern));
                let (group, resolved) = ("g".into(), self.resolved());
                let report = Report { group, member: id, epoch, released: PartitionSet::new(), subscription, resolved };
                self.world.apply(GroupCommand::Report(report)).is_err()
            }
            Step::Leave { who } => {
                let Some(i) = self.pick(*who) else { return false };
                let member = self.clients.remove(i).id;
                let leavers = vec![LeavingMember { member, instance: None }];
                self.world.apply(GroupCommand::Leave(Leave { group: "g".into(), leavers })).is_err()
            }
            Step::Expire { who } => {
                let Some(i) = self.pick(*who) else { return false };
                let members = vec![self.clients.remove(i).id];
                self.expire(members, ExpireCause::Session)
            }
            Step::ExpireSlow { who, back } => {
                let Some(i) = self.pick(*who) else { return false };
                let Client { id, epoch, .. } = self.clients[i].clone();
                let refused = self.expire(vec![id.clone()], ExpireCause::Revocation { epoch: epoch - back });
                if self.world.member("g", &id.0).is_none() {
                    self.clients.remove(i);
                }
                refused
            }
            Step::Resolve => self.resolve(),
            Step::Grow { topic, by } => {
                let count = self.world.topics.get(TOPICS[*topic]).copied().unwrap_or(0);
                self.world.set_topic(TOPICS[*topic], (count + by).min(6));
                false
            }
            Step::Delete { topic } => {
                self.world.delete_topic(TOPICS[*topic]);
                self.clients.iter_mut().for_each(|client| drop(client.owns.remove(TOPICS[*topic])));
                false
            }
            Step::Commit { who, back, topic, partition } => self.commit(*who, *back, TOPICS[*topic], *partition),
            // A replica that starts from a snapshot goes on alike.
            Step::Restart => {
                let bytes = postcard::to_stdvec(&self.world.groups).expect("encodes");
                let mut groups: Groups = postcard::from_bytes(&bytes).expect("our own bytes");
                groups.keep_empty(self.world.groups.keeps_empty);
                self.world.with(|_, _, counts| groups.index(counts)).expect("apply keeps the invariants");
                self.world.groups = groups;
                false
            }
        }
    }

    fn join(&mut self, topics: u8, pattern: bool, instance: Option<u8>, assignor: u8) {
        if self.clients.len() >= 8 {
            return;
        }
        self.joined += 1;
        let mut wish = joining("g", &format!("m{}", self.joined), &[]);
        wish.subscription = subscription(topics, pattern);
        wish.subscription.assignor = match assignor {
            0 => Assignor::Range,
            1 => Assignor::RoundRobin,
            _ => Assignor::Sticky,
        };
        wish.instance = instance.map(|i| format!("i{i}"));
        wish.resolved = self.resolved();
        let client =
            Client { id: wish.member.clone(), epoch: 0, owns: PartitionSet::new(), instance: wish.instance.clone() };
        self.world.apply(GroupCommand::Join(wish)).expect("a valid join");
        // The one whose instance id this is has been replaced: it is fenced, and stops.
        self.clients.retain(|other| other.instance.is_none() || other.instance != client.instance);
        self.clients.push(client);
        self.answer(self.clients.len() - 1);
    }

    fn expire(&mut self, members: Vec<MemberId>, because: ExpireCause) -> bool {
        self.world.apply(GroupCommand::Expire(Expire { group: "g".into(), members, because })).is_err()
    }

    fn resolved(&self) -> Vec<String> {
        self.world.topics.keys().filter(|topic| topic.starts_with('t')).cloned().collect()
    }

    fn resolve(&mut self) -> bool {
        let topics = self.resolved();
        let (group, pattern) = ("g".into(), PATTERN.to_string());
        self.world.apply(GroupCommand::ResolvePattern(ResolvePattern { group, pattern, topics })).is_err()
    }

    fn pick(&self, who: usize) -> Option<usize> {
        (!self.clients.is_empty()).then(|| who % self.clients.len())
    }

    /// The member does what the answer says: it stops what is not assigned, and reads what is.
    fn answer(&mut self, i: usize) {
        let client = &mut self.clients[i];
        let member = self.world.member("g", &client.id.0).expect("a live member");
        (client.epoch, client.owns) = (member.epoch, member.assigned_set());
    }

    fn commit(&mut self, who: usize, back: i32, topic: &str, partition: i32) -> bool {
        let Some(i) = self.pick(who) else { return false };
        let Client { id, epoch, owns, .. } = self.clients[i].clone();
        let at = PartitionId(partition);
        let held = self.world.member("g", &id.0).and_then(|m| m.held_since(topic, at));
        let commit = commit_of("g", &id.0, epoch - back, &[(topic, partition, 7)]);
        let Ok(GroupOutcome::Committed { results }) = self.world.apply(GroupCommand::Commit(vec![commit])) else {
            panic!("a batch of commits is never refused as a whole");
        };
        let accepted = results[0].as_ref().is_ok_and(Vec::is_empty);
        // Never from one that does not hold it, or says an epoch from before it did.
        assert!(
            !accepted || held.is_some_and(|since| since <= epoch - back),
            "{id} {topic}-{partition} since {held:?}"
        );
        let reads = owns.get(topic).is_some_and(|partitions| partitions.contains(&at));
        assert!(accepted || !reads || back > 0, "{id} reads {topic}-{partition} and may not commit it");
        !accepted
    }

    /// Whenever two live members read one partition at the same time, both would process its records.
    fn check_holds(&self) {
        let mut readers = BTreeMap::new();
        for client in &self.clients {
            let member = self.world.member("g", &client.id.0).expect("a live member");
            for (topic, partitions) in &client.owns {
                for partition in partitions {
                    let other = readers.insert((topic, partition), &client.id);
                    assert!(other.is_none(), "{topic}-{partition} is read by {} and {other:?}", client.id);
                    assert!(member.held_since(topic, *partition).is_some(), "{} reads what it lost", client.id);
                }
            }
        }
    }

    fn epochs(&self) -> BTreeMap<MemberId, i32> {
        let group = self.world.groups.get(&"g".into());
        let mut epochs = BTreeMap::new();
        for (id, member) in group.and_then(Group::server).into_iter().flat_map(|s| &s.members) {
            epochs.insert(id.clone(), member.epoch);
        }
        epochs.extend(group.map(|group| (MemberId::default(), group.epoch())));
        epochs
    }

    fn check_epochs(&self, before: &BTreeMap<MemberId, i32>) {
        for (id, epoch) in self.epochs() {
            assert!(before.get(&id).is_none_or(|before| *before <= epoch), "{id} went back to {epoch}");
        }
    }

    /// Everybody beats until nothing changes.
    fn settle(&mut self) {
        self.resolve();
        for _ in 0..6 {
            for i in 0..self.clients.len() {
                self.run(&Step::Beat { who: i, lost: false, copied: false });
            }
        }
        let Some(server) = self.world.groups.get(&"g".into()).and_then(Group::server) else { return };
        assert!(!server.is_rebalancing(), "{server:?}");
        let owners: Vec<(&String, i32)> =
            self.clients.iter().flat_map(|c| &c.owns).flat_map(|(t, p)| p.iter().map(move |p| (t, p.0))).collect();
        let owned: BTreeSet<_> = owners.iter().copied().collect();
        assert_eq!(owned.len(), owners.len(), "a partition has two owners");
        let read: BTreeSet<(&String, i32)> = self
            .world
            .topics
            .iter()
            .filter(|(topic, _)| server.members.values().any(|m| server.topics_of(m).contains(&topic.as_str())))
            .flat_map(|(topic, count)| (0..*count).map(move |p| (topic, p)))
            .collect();
        assert_eq!(owned, read, "every partition of a subscribed topic has an owner, and no other has");
        for client in &self.clients {
            let topics = server.topics_of(&server.members[&client.id]);
            assert!(client.owns.keys().all(|topic| topics.contains(&topic.as_str())), "{client:?} reads {topics:?}");
        }
    }
}

fn subscription(topics: u8, pattern: bool) -> Subscription {
    let named = TOPICS.iter().enumerate().filter(|(i, _)| topics >> i & 1 == 1);
    let mut topics: Vec<String> = named.map(|(_, topic)| topic.to_string()).collect();
    if topics.is_empty() && !pattern {
        topics.push(TOPICS[0].to_string());
    }
    Subscription { topics, pattern: pattern.then(|| PATTERN.to_string()), assignor: Assignor::Sticky }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Through lost answers, late copies, expiries, takeovers and topics that come and go: no two live
    /// members read one partition, commits come from its holder only, epochs never go back, refusals
    /// change nothing; and once all have reported, everything subscribed has exactly one owner.
    #[test]
    fn partitions_have_one_reader(steps in vec(step(), 1..80), keeps_empty: bool) {
        let mut play = Play::default();
        play.world.groups.keep_empty(keeps_empty);
        play.world.set_topic("ta", 3);
        play.world.set_topic("u", 2);
        for step in &steps {
            play.run(step);
        }
        play.settle();
    }
}

/// A classic command by small numbers.
#[derive(Clone, Debug)]
enum Classic {
    Join { member: u8, known: bool, instance: Option<u8>, protocols: u8 },
    Complete { back: i32, timed_out: bool },
    Sync { member: u8, back: i32 },
    Leave { member: u8 },
    ExpireUnsynced { member: u8, back: i32 },
    Commit { member: u8, back: i32 },
}

fn classic() -> impl Strategy<Value = Classic> {
    let member = || 0..6u8;
    prop_oneof![
        8 => (member(), any::<bool>(), proptest::option::weighted(0.3, 0..2u8), 1..8u8)
            .prop_map(|(member, known, instance, protocols)| Classic::Join { member, known, instance, protocols }),
        4 => (0..2i32, any::<bool>()).prop_map(|(back, timed_out)| Classic::Complete { back, timed_out }),
        6 => (member(), 0..2i32).prop_map(|(member, back)| Classic::Sync { member, back }),
        2 => member().prop_map(|member| Classic::Leave { member }),
        1 => (member(), 0..2i32).prop_map(|(member, back)| Classic::ExpireUnsynced { member, back }),
        4 => (member(), 0..2i32).prop_map(|(member, back)| Classic::Commit { member, back }),
    ]
}

fn classic_command(generation: i32, step: &Classic) -> GroupCommand {
    let group = "g".into();
    let id = |member: &u8| MemberId(format!("m{member}"));
    match step {
        Classic::Join { member, known, instance, protocols } => {
            let mut wish = joining_classic("g", &id(member).0);
            (wish.is_new, wish.instance) = (!known, instance.map(|i| format!("i{i}")));
            let names = (0..3u8).filter(|i| protocols >> i & 1 == 1);
            wish.protocols = names.map(|i| (format!("p{i}"), vec![*member, i])).collect();
            GroupCommand::JoinClassic(wish)
        }
        Classic::Complete { back, timed_out } => GroupCommand::CompleteClassic(CompleteClassic {
            group,
            generation: generation - back,
            timed_out: *timed_out,
        }),
        Classic::Sync { member, back } => GroupCommand::SyncClassic(SyncClassic {
            group,
            generation: generation - back,
            member: id(member),
            assignments: (0..6u8).map(|m| (id(&m), vec![m])).collect(),
        }),
        Classic::Leave { member } => {
            let leavers = vec![LeavingMember { member: id(member), instance: None }];
            GroupCommand::Leave(Leave { group, leavers })
        }
        Classic::ExpireUnsynced { member, back } => GroupCommand::Expire(Expire {
            group,
            members: vec![id(member)],
            because: ExpireCause::Sync { generation: generation - back },
        }),
        Classic::Commit { member, back } => {
            GroupCommand::Commit(vec![commit_of("g", &id(member).0, generation - back, &[("t", 0, 5)])])
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn classic_generations_only_grow(steps in vec(classic(), 1..80)) {
        let mut world = World::with_topics(&[("t", 1)]);
        // So that the group, and with it the generation, never ceases to exist.
        world.apply(GroupCommand::Commit(vec![commit_of("g", "", 0, &[("t", 0, 1)])])).expect("nobody is there");
        for step in &steps {
            let before = world.groups.clone();
            let group = before.get(&"g".into()).expect("it has an offset");
            let result = world.apply(classic_command(group.epoch(), step));
            let after = world.groups.get(&"g".into()).expect("it has an offset");
            prop_assert!(after.epoch() >= group.epoch());
            if result.is_err() {
                prop_assert_eq!(&world.groups, &before);
            }
            if let (Classic::Commit { member, back }, Ok(GroupOutcome::Committed { results })) = (step, &result) {
                let may = group.classic().is_some_and(|classic| {
                    let is_member = classic.members.contains_key(format!("m{member}").as_str());
                    is_member && *back == 0 && classic.phase != ClassicPhase::Syncing
                });
                prop_assert_eq!(results[0].is_ok(), may);
            }
            // A new generation begins only when everybody has joined, or those who have not are out.
            if let (Some(now), true) = (after.classic(), after.epoch() > group.epoch()) {
                prop_assert_eq!(now.phase, ClassicPhase::Syncing);
                let joined = &group.classic().expect("it had a join phase").members;
                prop_assert!(now.members.iter().all(|(id, m)| joined[id].joined || m.instance.is_some()));
                prop_assert!(joined[&now.leader].joined);
            }
            let bytes = postcard::to_stdvec(&world.groups).expect("encodes");
            prop_assert!(bytes.len() <= 10 + world.groups.usage.bytes, "the bytes counted are no upper bound");
            let mut decoded: Groups = postcard::from_bytes(&bytes).expect("our own bytes");
            decoded.keep_empty(world.groups.keeps_empty);
            world.with(|_, _, counts| decoded.index(counts)).expect("apply keeps the invariants");
            prop_assert_eq!(&decoded, &world.groups);
        }
    }
}
