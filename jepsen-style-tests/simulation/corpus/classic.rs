//! A group whose members speak Kafka's classic protocol: they are given an id, join, the group leader deals the partitions
//! out, they beat, commit, join again when they hear of a rebalance, leave, and come back as others.
//!
//! What must hold, whatever happens to coordinators: generations do not go back, each has one leader, and each of its
//! members is given what that leader dealt. What they commit is held against `commits` like any other group's.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use flotilla::{
    broker::{
        Broker, Caller,
        groups::{ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, GroupError, Leaver},
    },
    types::MemberId,
};
use tokio::time::{Instant, sleep};

use super::known::Load;

pub const CLASSICS: &str = "classics";
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(4);
const PROTOCOL: &str = "dealt";

/// What is known of the group's generations. Shown wrong ones.
#[derive(Clone, Debug, Default)]
pub struct Generations {
    /// By generation: its leader, and what that one dealt once it did.
    rounds: BTreeMap<i32, (MemberId, Dealt)>,
}

type Dealt = BTreeMap<MemberId, Vec<u8>>;

impl Generations {
    pub fn last(&self) -> i32 {
        self.rounds.last_key_value().map_or(0, |(generation, _)| *generation)
    }

    /// Somebody is in a generation now; `last` is the last one that anybody had heard of when he asked.
    pub fn joined(&mut self, generation: i32, leader: &MemberId, last: i32) -> Option<String> {
        if generation < last {
            return Some(format!("generation {generation} after {last}"));
        }
        let (before, _) = self.rounds.entry(generation).or_insert_with(|| (leader.clone(), Dealt::new()));
        (before != leader).then(|| format!("generation {generation} is led by {before:?} and by {leader:?}"))
    }

    pub fn dealt(&mut self, generation: i32, dealt: Dealt) {
        if let Some((_, known)) = self.rounds.get_mut(&generation) {
            *known = dealt;
        }
    }

    pub fn given(&self, generation: i32, member: &MemberId, assignment: &[u8]) -> Option<String> {
        let dealt = self.rounds.get(&generation).and_then(|(_, dealt)| dealt.get(member));
        let is_so = dealt.is_some_and(|dealt| dealt == assignment);
        (!is_so).then(|| format!("{member:?} is given {assignment:?} in generation {generation}, dealt was {dealt:?}"))
    }
}

/// How a stay in one generation ended.
enum Stay {
    /// It joins again, as the same member.
    Over,
    /// It left, it is a member no more, or what became of its last commit is not known, so that it must not commit again.
    Gone,
}

impl Load {
    pub async fn be_classic(self: Rc<Self>) {
        while self.is_running() {
            let leaves_at = Instant::now() + Duration::from_millis(3_000 + self.rng.below(9_000));
            let mut member = MemberId::default();
            while self.is_running() {
                let Some(joined) = self.join_classic(&mut member).await else {
                    self.pause(300).await;
                    continue;
                };
                if let Some(places) = self.sync_classic(&joined).await
                    && let Stay::Gone = self.stay(&joined, places, leaves_at).await
                {
                    break;
                }
            }
            self.pause(700).await;
        }
    }

    async fn join_classic(&self, member: &mut MemberId) -> Option<ClassicJoined> {
        let join = ClassicJoin {
            group: CLASSICS.into(),
            member: member.clone(),
            require_member_id: true,
            client_id: "simulation".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![(PROTOCOL.into(), vec![])],
            ..ClassicJoin::default()
        };
        let last = self.known.borrow().generations.last();
        let join = move |broker: Broker| async move { broker.classic_join(&Caller::ANONYMOUS, join).await };
        let answer = self.ask(self.any_node(), "a classic join", join).await?;
        self.note(format_args!("classic {member:?} joins: {answer:?}"));
        match answer {
            Ok(joined) => {
                self.count("classic joins");
                let wrong = self.known.borrow_mut().generations.joined(joined.generation, &joined.leader, last);
                wrong.into_iter().for_each(|what| self.wrong(what));
                Some(joined)
            }
            Err(GroupError::MemberIdRequired { member: given, .. }) => {
                *member = given;
                None
            }
            Err(GroupError::UnknownMember { .. }) => {
                *member = MemberId::default();
                None
            }
            Err(_) => None,
        }
    }

    /// The leader deals first. What is its own then, and up to where that was read.
    async fn sync_classic(&self, joined: &ClassicJoined) -> Option<BTreeMap<i32, i64>> {
        let dealt = self.deal(joined);
        if !dealt.is_empty() {
            self.known.borrow_mut().generations.dealt(joined.generation, dealt.clone());
        }
        let sync = ClassicSync {
            group: CLASSICS.into(),
            generation: joined.generation,
            member: joined.member.clone(),
            instance: None,
            protocol_type: Some(joined.protocol_type.clone()),
            protocol: Some(joined.protocol.clone()),
            assignments: dealt.into_iter().collect(),
        };
        let sync = move |broker: Broker| async move { broker.classic_sync(&Caller::ANONYMOUS, sync).await };
        let answer = self.ask(self.any_node(), "a classic sync", sync).await?;
        self.note(format_args!("classic {:?} syncs: {answer:?}", joined.member));
        let ClassicSynced { assignment, .. } = answer.ok()?;
        self.count("classic syncs");
        let wrong = self.known.borrow().generations.given(joined.generation, &joined.member, &assignment);
        wrong.into_iter().for_each(|what| self.wrong(what));
        let mut places = BTreeMap::new();
        for partition in assignment.iter().map(|partition| i32::from(*partition)) {
            if let Some(from) = self.read_committed(CLASSICS, partition).await {
                places.insert(partition, from.unwrap_or(0));
            }
        }
        Some(places)
    }

    /// In turn, one byte for each partition. Nothing of a member that does not lead.
    fn deal(&self, joined: &ClassicJoined) -> Dealt {
        let members = joined.members.len().max(1);
        let own = |place: usize| (0..self.plan.partitions as u8).skip(place).step_by(members).collect();
        joined.members.iter().zip(0..).map(|((member, ..), place)| (member.clone(), own(place))).collect()
    }

    async fn stay(&self, joined: &ClassicJoined, mut places: BTreeMap<i32, i64>, leaves_at: Instant) -> Stay {
        while self.is_running() {
            if Instant::now() >= leaves_at {
                let leaver = Leaver { member: joined.member.clone(), instance: None };
                let leave = move |broker: Broker| async move {
                    broker.group_leave(&Caller::ANONYMOUS, &CLASSICS.into(), vec![leaver]).await
                };
                let left = self.ask(self.any_node(), "leaving", leave).await;
                self.note(format_args!("classic {:?} leaves: {left:?}", joined.member));
                return Stay::Gone;
            }
            if !places.is_empty() && self.rng.below(3) > 0 {
                places.values_mut().for_each(|place| *place += 1 + self.rng.below(5) as i64);
                if !self.commit(CLASSICS, joined.member.clone(), joined.generation, 0, &places).await {
                    return Stay::Gone;
                }
            }
            match self.beat_classic(joined).await {
                Some(Ok(())) => self.count("classic beats"),
                Some(Err(GroupError::UnknownMember { .. })) => return Stay::Gone,
                Some(Err(GroupError::Rebalancing { .. } | GroupError::Refused { .. })) => return Stay::Over,
                Some(Err(_)) | None => {}
            }
            sleep(Duration::from_millis(200 + self.rng.below(400))).await; // A client's beat.
        }
        Stay::Over
    }

    async fn beat_classic(&self, joined: &ClassicJoined) -> Option<Result<(), GroupError>> {
        let (generation, member) = (joined.generation, joined.member.clone());
        let beat = ClassicBeat { group: CLASSICS.into(), generation, member, instance: None };
        let beat = move |broker: Broker| async move { broker.classic_heartbeat(&Caller::ANONYMOUS, beat).await };
        self.ask(self.any_node(), "a classic beat", beat).await
    }
}

/// One step from right each.
pub fn generations_reject_what_is_wrong() {
    let (a, b) = (MemberId::from("a"), MemberId::from("b"));
    let mut known = Generations::default();
    assert_eq!(known.joined(1, &a, 0), None);
    assert_eq!(known.joined(1, &a, 1), None, "whoever else is in it hears the same");
    known.dealt(1, [(a.clone(), vec![0, 2]), (b.clone(), vec![1])].into());
    assert_eq!(known.given(1, &b, &[1]), None);
    assert_eq!(known.joined(2, &b, 1), None);
    assert!(known.clone().joined(2, &a, 2).is_some(), "two leaders");
    assert!(known.clone().joined(1, &a, 2).is_some(), "back");
    assert!(known.given(1, &b, &[0]).is_some(), "another's");
    assert!(known.given(2, &b, &[1]).is_some(), "nobody dealt");
    assert!(known.given(1, &"c".into(), &[]).is_some(), "no member");
}
