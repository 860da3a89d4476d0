//! A consumer group: members that join, beat, let go of what is taken from them, commit where they are, leave and come
//! back. None of them consumes: a member's place in a partition goes on from what was committed before, by a little
//! each time. Beside it a group without members, whose offsets one client commits on behalf of nobody.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use flotilla::{
    broker::{
        Broker, Caller,
        groups::{CommitRequest, GroupError, HeartbeatAnswer, HeartbeatRequest, Leaver, OffsetToCommit},
    },
    group::{PartitionSet, Subscription},
    types::{GroupName, MemberId, Offset, PartitionId, TopicPartition},
};
use tokio::time::{Instant, sleep};

use super::{
    classic::CLASSICS,
    commits::{Commit, Read},
    known::{Load, TOPIC},
};

pub const READERS: &str = "readers";
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(4);

/// The groups without members, one after the other.
fn alone(number: u64) -> String {
    format!("alone-{number}")
}

/// One member in one life: from a join until it leaves or is fenced.
struct Member {
    id: MemberId,
    epoch: i32,
    sequence: u64,
    /// What it owns, and up to where it read.
    places: BTreeMap<i32, i64>,
}

impl Load {
    pub async fn be_member(self: Rc<Self>, number: u64) {
        let mut life = 0;
        while self.is_running() {
            life += 1;
            let id = MemberId(format!("m{number}-{life}"));
            let mut member = Member { id, epoch: 0, sequence: 0, places: BTreeMap::new() };
            let stays_ms = 2_000 + self.rng.below(12_000);
            self.live_as(&mut member, Instant::now() + Duration::from_millis(stays_ms)).await;
            self.pause(500).await;
        }
    }

    async fn live_as(&self, member: &mut Member, leaves_at: Instant) {
        let mut is_new = true;
        while self.is_running() {
            if Instant::now() >= leaves_at {
                return self.leave(member).await;
            }
            let answer = self.beat(member, is_new).await;
            self.note(format_args!("member {:?} beats: {answer:?}", member.id));
            let next_beat = match answer {
                Some(Ok(answer)) => {
                    is_new = false;
                    self.count("beats");
                    self.follow(member, &answer).await
                }
                Some(Err(error)) if !error.is_retriable() => return, // Fenced: it owns nothing any more.
                Some(Err(_)) | None => Duration::from_millis(200),
            };
            sleep(next_beat).await;
        }
    }

    async fn beat(&self, member: &Member, is_new: bool) -> Option<Result<HeartbeatAnswer, GroupError>> {
        let subscription = Subscription { topics: vec![TOPIC.to_string()], ..Subscription::default() };
        let owned: Vec<PartitionId> = member.places.keys().map(|partition| PartitionId(*partition)).collect();
        let owns = if owned.is_empty() { PartitionSet::new() } else { [(TOPIC.to_string(), owned)].into() };
        let beat = HeartbeatRequest {
            group: READERS.into(),
            member: member.id.clone(),
            epoch: member.epoch,
            subscription: is_new.then_some(subscription),
            owns,
            client_id: "simulation".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            ..HeartbeatRequest::default()
        };
        let beat = move |broker: Broker| async move {
            match is_new {
                true => broker.group_join(&Caller::ANONYMOUS, beat).await,
                false => broker.group_heartbeat(&Caller::ANONYMOUS, beat).await,
            }
        };
        self.ask(self.any_node(), "a heartbeat", beat).await
    }

    /// Takes what it is given, lets go of what is taken, and commits.
    async fn follow(&self, member: &mut Member, answer: &HeartbeatAnswer) -> Duration {
        member.epoch = answer.epoch;
        let assigned: Vec<i32> = answer.assigned.get(TOPIC).into_iter().flatten().map(|p| p.0).collect();
        member.places.retain(|partition, _| assigned.contains(partition));
        for partition in assigned {
            if !member.places.contains_key(&partition)
                && let Some(from) = self.read_committed(READERS, partition).await
            {
                member.places.insert(partition, from.unwrap_or(0));
            }
        }
        if !member.places.is_empty() && self.rng.below(3) > 0 {
            self.commit_places(member).await;
        }
        answer.next_beat.min(Duration::from_millis(300 + self.rng.below(400)))
    }

    async fn commit_places(&self, member: &mut Member) {
        member.sequence += 1;
        for place in member.places.values_mut() {
            *place += 1 + self.rng.below(5) as i64;
        }
        let (id, epoch) = (member.id.clone(), member.epoch);
        self.commit(READERS, id, epoch, member.sequence, &member.places).await;
    }

    /// Whether any answer came that leaves no doubt.
    pub async fn commit(
        &self,
        group: &str,
        member: MemberId,
        epoch: i32,
        sequence: u64,
        places: &BTreeMap<i32, i64>,
    ) -> bool {
        let began = self.moment();
        let offset = |(partition, place): (&i32, &i64)| OffsetToCommit {
            at: TopicPartition::new(TOPIC, PartitionId(*partition)),
            topic_id: None,
            offset: Offset(*place),
            leader_epoch: None,
            metadata: String::new(),
        };
        let offsets = places.iter().map(offset).collect();
        let request = CommitRequest { group: group.into(), member, instance: None, epoch, offsets, sequence };
        let note = format!("{group} by {:?} in epoch {epoch}: {places:?}", request.member);
        let is_classic = group == CLASSICS;
        let commit = move |broker: Broker| async move {
            match is_classic {
                true => broker.classic_commit(&Caller::ANONYMOUS, request).await,
                false => broker.commit_offsets(&Caller::ANONYMOUS, request).await,
            }
        };
        let answer = self.ask(self.any_node(), "a commit", commit).await;
        self.note(format_args!("commit of {note}: {answer:?}"));
        let ended = self.moment();
        let mut known = self.known.borrow_mut();
        for (partition, place) in places {
            let is_acked =
                matches!(&answer, Some(Ok(refused)) if refused.iter().all(|(at, _)| at.partition.0 != *partition));
            let commit = Commit { value: *place, began, acked: is_acked.then_some(ended) };
            known.commits.commit((group.to_string(), *partition), commit);
            let count = if is_classic { "classic commits" } else { "offset commits" };
            *known.counts.entry(count).or_default() += u64::from(is_acked);
        }
        match answer {
            Some(Ok(_)) => true,
            Some(Err(error)) => error.effect() == flotilla::broker::Effect::None,
            None => false,
        }
    }

    /// What a group has committed. None: nobody could be asked.
    pub async fn read_committed(&self, group: &str, partition: i32) -> Option<Option<i64>> {
        let began = self.moment();
        let (name, at) = (GroupName::from(group), vec![TopicPartition::new(TOPIC, PartitionId(partition))]);
        let read = move |broker: Broker| async move { broker.fetch_offsets(&Caller::ANONYMOUS, &name, Some(at)).await };
        let answer = self.ask(self.any_node(), "an offset fetch", read).await;
        let ended = self.moment();
        let offsets = answer?.ok()?.offsets;
        let value = offsets.first().map(|committed| committed.offset.0);
        self.note(format_args!("{group} has committed {value:?} of {partition}"));
        self.known.borrow_mut().commits.read((group.to_string(), partition), Read { value, began, ended });
        self.count("offset reads");
        Some(value)
    }

    async fn leave(&self, member: &Member) {
        let leaver = Leaver { member: member.id.clone(), instance: None };
        let leave = move |broker: Broker| async move {
            broker.group_leave(&Caller::ANONYMOUS, &READERS.into(), vec![leaver]).await
        };
        let left = self.ask(self.any_node(), "leaving", leave).await;
        self.note(format_args!("member {:?} leaves: {left:?}", member.id));
    }

    /// Commits on behalf of nobody: more each time. A commit of unknown outcome may happen at any time later, and
    /// nothing fences it: it is the last one of its group, and the next group is another.
    pub async fn commit_alone(self: Rc<Self>) {
        let mut places: BTreeMap<i32, i64> = (0..self.plan.partitions).map(|partition| (partition, 0)).collect();
        while self.is_running() {
            places.values_mut().for_each(|place| *place += 1);
            if !self.commit(&alone(self.alone.get()), MemberId::default(), -1, 0, &places).await {
                self.alone.set(self.alone.get() + 1);
            }
            self.pause(400).await;
        }
    }

    /// Reads both groups again and again, through any node.
    pub async fn watch_commits(self: Rc<Self>) {
        while self.is_running() {
            let group = if self.rng.below(2) == 0 { READERS.to_string() } else { alone(self.alone.get()) };
            let partition = self.rng.below(self.plan.partitions as u64) as i32;
            self.read_committed(&group, partition).await;
            self.pause(400).await;
        }
    }

    /// At the end: what is committed of everything.
    pub async fn read_all_committed(&self) {
        let alone = (0..=self.alone.get()).map(alone);
        for group in alone.chain([READERS.to_string()]) {
            self.read_all_committed_of(&group).await;
        }
    }

    pub async fn read_all_committed_of(&self, group: &str) {
        for partition in 0..self.plan.partitions {
            let read = || async { self.read_committed(group, partition).await.is_some() };
            self.until("committed offsets can be read", read).await;
        }
    }
}
