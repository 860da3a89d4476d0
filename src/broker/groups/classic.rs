//! Joins and syncs of Kafka's classic protocol, which are answered when a rebalance gets that far. They
//! wait here, on the broker that was asked, and read how it ended from this broker's own metadata: so they
//! survive a failover of the coordinator, and hold up no stream between brokers.
//!
//! Promises: an answer is a committed fact of one generation, which apply checks again when it is used;
//! while a client waits its session is kept alive, and it waits only as long as the coordinator answers; a
//! join whose round came and went unseen joins the next round by itself. Who waits holds a place of a bounded number,
//! until its future is dropped: nobody beats for a client whose connection is gone.

use std::time::Duration;

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{classic_rules, coordinator::answer::check_classic, limits, part::Groups};
use crate::{
    broker::{
        peers::group_calls::{GroupCall, GroupReply},
        requests::groups::{ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, GroupError},
    },
    group::{ClassicPhase, Group, GroupRefusal},
    types::{GroupName, LogIndex, MemberId, ms_u64},
};

/// Where a waiting request stands: None, it goes on waiting.
type Look<T> = Option<Result<T, GroupError>>;

/// How the wait of a join ended.
#[derive(Debug, PartialEq, Eq)]
enum JoinEnd {
    Joined(ClassicJoined),
    /// The round that it had joined is over and the next has begun, both before this broker looked: in the next
    /// one it counts as not joined.
    LeftBehind,
}

impl Groups {
    pub async fn join_classic(&self, mut join: ClassicJoin) -> Result<ClassicJoined, GroupError> {
        let _room = self.room_to_wait()?;
        let is_new = join.member.is_empty();
        if is_new {
            join.member = self.draw_member_id(join.instance.as_deref().unwrap_or(&join.client_id));
        }
        let (group, member, session) = (join.group.clone(), join.member.clone(), join.session_timeout);
        if is_new && join.require_member_id && join.instance.is_none() {
            self.ask_coordinator(GroupCall::Promise { group: group.clone(), member: member.clone() }).await?;
            return Err(GroupError::MemberIdRequired { group, member });
        }
        let mut call = GroupCall::JoinClassic { join: join.clone(), is_new };
        for _ in 0..limits::REJOINS_MAX {
            let reply = self.ask_coordinator(call).await?;
            let look = |known: Option<&Group>| look_joined(known, &group, &member, join.skips_assignment);
            match self.wait_group(applied_at(reply)?, &group, &member, session, look).await? {
                JoinEnd::Joined(joined) => return Ok(joined),
                // Its client sits in this very call, so nobody else would join for it.
                JoinEnd::LeftBehind => call = GroupCall::JoinClassic { join: join.clone(), is_new: false },
            }
        }
        Err(GroupError::Rebalancing { group })
    }

    pub async fn sync_classic(&self, sync: ClassicSync) -> Result<ClassicSynced, GroupError> {
        classic_rules::group_name(&sync.group)?;
        let _room = self.room_to_wait()?;
        let ClassicSync { group, generation, member, instance, .. } = sync.clone();
        let beat = ClassicBeat { group, generation, member, instance };
        let reply = self.ask_coordinator(GroupCall::SyncClassic(sync)).await?;
        let session = self.session_of(&beat.group, &beat.member);
        let look = |known: Option<&Group>| look_synced(known, &beat);
        self.wait_group(applied_at(reply)?, &beat.group, &beat.member, session, look).await
    }

    /// Asked for before anything is: who finds none has changed nothing.
    fn room_to_wait(&self) -> Result<SemaphorePermit<'_>, GroupError> {
        let crowded = |_| GroupError::Crowded { what: "joins and syncs".into(), max: limits::WAITING_MAX };
        self.waiting.try_acquire().map_err(crowded)
    }

    /// How long a waiting request does not look at the metadata again: the longer, the more wait.
    fn look_every(&self) -> Duration {
        let waiting = limits::WAITING_MAX.saturating_sub(self.waiting.available_permits());
        let share = Duration::from_secs(1) / limits::LOOKS_PER_SECOND_MAX;
        limits::LOOK_EVERY.max(share.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)))
    }

    /// A member id that nobody has: a readable part and 128 random bits.
    pub fn draw_member_id(&self, prefix: &str) -> MemberId {
        let end =
            (0..=prefix.len().min(limits::MEMBER_PREFIX_BYTES_MAX)).rev().find(|end| prefix.is_char_boundary(*end));
        let prefix = match &prefix[..end.unwrap_or(0)] {
            "" => "member",
            prefix => prefix,
        };
        MemberId(format!("{prefix}-{:032x}", self.node.rng.u128()))
    }

    /// The session timeout of a member as this broker knows it. One that it does not know yet is taken for the
    /// shortest.
    fn session_of(&self, group: &GroupName, member: &MemberId) -> Duration {
        let known = self.node.metadata().and_then(|metadata| {
            metadata.read(|state| {
                let member = state.group(group)?.classic()?.members.get(member)?;
                Some(Duration::from_millis(member.session_timeout_ms.into()))
            })
        });
        known.unwrap_or(limits::SESSION_MIN)
    }

    /// Waits until `look` finds an end in the metadata that is applied here, at `index` or later.
    async fn wait_group<T>(
        &self,
        index: LogIndex,
        group: &GroupName,
        member: &MemberId,
        session: Duration,
        look: impl Fn(Option<&Group>) -> Look<T>,
    ) -> Result<T, GroupError> {
        let started = Instant::now();
        let lost = || GroupError::NoCoordinator { waited_ms: ms_u64(started.elapsed()) };
        let metadata = self.node.metadata().ok_or_else(lost)?;
        if !self.metadata.wait_applied(index, started + limits::ANSWER_WITHIN).await {
            return Err(lost());
        }
        let looking = async {
            let mut applied = metadata.applied();
            loop {
                // A change after a quiet time is looked at as it comes, not a while later.
                let next_look = Instant::now() + self.look_every();
                applied.borrow_and_update();
                if let Some(end) = metadata.read(|state| look(state.group(group))) {
                    return end;
                }
                if applied.changed().await.is_err() {
                    return Err(lost());
                }
                sleep_until(next_look).await;
            }
        };
        tokio::select! {
            biased;
            end = looking => end,
            () = self.keep_member_alive(group, member, session) => Err(lost()),
        }
    }

    /// Beats for a member that waits here. Ends when no coordinator was reached for a whole session:
    /// from then on nobody may rely on it.
    async fn keep_member_alive(&self, group: &GroupName, member: &MemberId, session: Duration) {
        let mut beats = interval((session / 3).max(limits::SESSION_MIN / 3));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            beats.tick().await;
            let call = GroupCall::KeepAlive { group: group.clone(), member: member.clone() };
            match self.ask_coordinator(call).await {
                Ok(_) => heard = Instant::now(),
                // It is expired, or will be: the metadata says so soon.
                Err(GroupError::UnknownMember { .. }) => heard = Instant::now(),
                Err(error) => {
                    tracing::debug!(group = group.0, member = member.0, %error, "a waiting member's heartbeat failed")
                }
            }
            if heard.elapsed() > session.max(limits::ANSWER_WITHIN) {
                return;
            }
        }
    }
}

fn applied_at(reply: GroupReply) -> Result<LogIndex, GroupError> {
    match reply {
        GroupReply::AppliedAt(index) => Ok(index),
        other => Err(GroupError::OutcomeUnknown { what: format!("a request answered with {other:?}"), waited_ms: 0 }),
    }
}

fn look_joined(known: Option<&Group>, group: &GroupName, member: &MemberId, skips_assignment: bool) -> Look<JoinEnd> {
    let unknown = || GroupError::UnknownMember { group: group.clone(), member: member.clone() };
    let Some((known, classic)) = known.and_then(|known| Some((known, known.classic()?))) else {
        return Some(Err(unknown()));
    };
    let Some(own) = classic.members.get(member) else {
        return Some(Err(match known.fenced_instance(member) {
            Some(instance) => GroupError::FencedInstance { group: group.clone(), instance: instance.into() },
            None => unknown(),
        }));
    };
    match classic.phase {
        ClassicPhase::Joining if own.joined => return None,
        ClassicPhase::Joining => return Some(Ok(JoinEnd::LeftBehind)),
        ClassicPhase::Syncing | ClassicPhase::Stable => {}
    }
    let leads = classic.leader == *member;
    // Only a static member that came back, and nobody noticed, finds a generation whose assignments are made.
    let is_made = leads && classic.phase == ClassicPhase::Stable;
    // As Kafka has it: who cannot skip the assignment is told that its former self leads, so that it makes none.
    let leader = match own.replaced.as_ref().filter(|_| is_made && !skips_assignment) {
        Some(former) => former.clone(),
        None => classic.leader.clone(),
    };
    let all = classic.members.iter();
    let members = match leader == *member {
        true => all.map(|(id, m)| (id.clone(), m.instance.clone(), classic.subscription_of(m).to_vec())).collect(),
        false => Vec::new(),
    };
    Some(Ok(JoinEnd::Joined(ClassicJoined {
        generation: known.epoch(),
        member: member.clone(),
        protocol_type: classic.protocol_type.clone(),
        protocol: classic.protocol.clone(),
        skip_assignment: is_made && leader == *member,
        leader,
        members,
    })))
}

fn look_synced(known: Option<&Group>, beat: &ClassicBeat) -> Look<ClassicSynced> {
    let rebalancing = || GroupError::Rebalancing { group: beat.group.clone() };
    let unknown = || GroupError::UnknownMember { group: beat.group.clone(), member: beat.member.clone() };
    let Some(known) = known else { return Some(Err(unknown())) };
    match check_classic(known, beat) {
        Ok(()) => {}
        // It was right when it came: the group has moved on since.
        Err(GroupError::Refused { refusal: GroupRefusal::WrongEpoch { .. }, .. }) => return Some(Err(rebalancing())),
        Err(error) => return Some(Err(error)),
    }
    let classic = known.classic()?;
    match classic.phase {
        ClassicPhase::Joining => Some(Err(rebalancing())),
        ClassicPhase::Syncing => None,
        ClassicPhase::Stable => Some(Ok(ClassicSynced {
            protocol_type: classic.protocol_type.clone(),
            protocol: classic.protocol.clone(),
            assignment: classic.members.get(&beat.member)?.assignment.clone(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::groups::fixture::{complete_classic, join_classic, sync_classic},
        group::Groups,
    };

    fn look(groups: &Groups, member: &str) -> Look<JoinEnd> {
        look_joined(groups.get(&"g".into()), &"g".into(), &member.into(), true)
    }

    /// The states that a waiting join may find first, whatever it missed in between.
    #[test]
    fn a_join_whose_round_was_missed_joins_again_and_does_not_wait_for_nothing() {
        let mut groups = Groups::default();
        join_classic(&mut groups, "a", None, true);
        join_classic(&mut groups, "b", None, true);
        assert_eq!(look(&groups, "b"), None, "it has joined this round");
        complete_classic(&mut groups, 0);
        let in_generation = |groups: &Groups| match look(groups, "b") {
            Some(Ok(JoinEnd::Joined(joined))) => joined.generation,
            other => panic!("{other:?}"),
        };
        assert_eq!(in_generation(&groups), 1);
        // One more has come before b looked: of the round that began with it, b is no part.
        join_classic(&mut groups, "c", None, true);
        assert_eq!(look(&groups, "b"), Some(Ok(JoinEnd::LeftBehind)));
        join_classic(&mut groups, "b", None, false);
        assert_eq!(look(&groups, "b"), None);
        join_classic(&mut groups, "a", None, false);
        complete_classic(&mut groups, 1);
        assert_eq!(in_generation(&groups), 2);
        sync_classic(&mut groups, 2, "a");
        assert_eq!(in_generation(&groups), 2);
    }
}
