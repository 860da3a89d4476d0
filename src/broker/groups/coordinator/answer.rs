//! What the coordinator answers to one request, in one term. Every answer is either the outcome of an
//! entry, or was confirmed by a majority (SAFETY M9): that of a member that is told to go on by a round
//! of the last half second, any refusal by a round that began after the request.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    commits, patterns,
    plan::next_beat,
    proposer::{Applied, NotApplied},
    tenure::Tenure,
    timers::Touched,
};
use crate::{
    broker::{
        groups::{
            limits,
            namesakes::Sorted,
            refusals::{Subject, no_room, refused},
        },
        peers::group_calls::{GroupAttempt, GroupCall, GroupReply, RefusedOffset},
        requests::groups::{
            ClassicBeat, ClassicJoin, ClassicSync, CommitRequest, GroupError, HeartbeatAnswer, HeartbeatRequest, Leaver,
        },
    },
    group::{
        self, ClassicPhase, Commit, CommitOffset, Group, GroupCommand, GroupOutcome, GroupRefusal, Join, JoinClassic,
        Leave, LeavingMember, Report, Subscription, SyncClassic,
    },
    metadata::Metadata,
    types::{GroupName, LogIndex, MemberId, PartitionId, TopicPartition, ms_u32},
};

/// Why there is no reply.
enum Ended {
    Refused(GroupError),
    NotDone,
    Unknown,
}

type Answered = Result<GroupReply, Ended>;

impl From<GroupError> for Ended {
    fn from(error: GroupError) -> Ended {
        Ended::Refused(error)
    }
}

impl From<NotApplied> for Ended {
    fn from(error: NotApplied) -> Ended {
        match error {
            NotApplied::NotDone => Ended::NotDone,
            NotApplied::Unknown => Ended::Unknown,
        }
    }
}

impl Tenure {
    pub async fn answer(&self, call: GroupCall, deadline: Instant) -> GroupAttempt {
        let answered = match call {
            GroupCall::Beat { beat, is_new: true } => self.join(beat, deadline).await,
            GroupCall::Beat { beat, is_new: false } => self.beat(beat, deadline).await,
            GroupCall::Leave { group, leavers } => self.leave(group, leavers, deadline).await,
            GroupCall::Commit(commit) => self.commit(commit, deadline).await,
            GroupCall::Delete { group } => self.delete(group, deadline).await,
            GroupCall::DeleteOffsets { group, at } => self.delete_offsets(group, at, deadline).await,
            GroupCall::JoinClassic { join, is_new } => self.join_classic(join, is_new, deadline).await,
            GroupCall::Promise { group, member } => {
                self.promises.lock().expect("no code that holds this lock panics").make(&group, &member);
                Ok(GroupReply::Done)
            }
            GroupCall::SyncClassic(sync) => self.sync_classic(sync, deadline).await,
            GroupCall::BeatClassic(beat) => self.beat_classic(&beat).await,
            GroupCall::KeepAlive { group, member } => {
                let kept = self.keep_alive(Subject { group: &group, member: &member }).await;
                kept.map(|()| GroupReply::Done)
            }
        };
        match answered {
            Ok(reply) => GroupAttempt::Answered(Ok(reply)),
            Err(Ended::Refused(error)) => GroupAttempt::Answered(Err(error)),
            Err(Ended::NotDone) => GroupAttempt::NotDone,
            Err(Ended::Unknown) => GroupAttempt::Unknown,
        }
    }

    /// Proposes a change of one group, and keeps its timers in line.
    async fn change(
        &self,
        of: Subject<'_>,
        command: GroupCommand,
        deadline: Instant,
    ) -> Result<(LogIndex, GroupOutcome), Ended> {
        let Applied { index, result } = self.propose(command, deadline).await?;
        self.observe(of.group);
        match result {
            Ok(outcome) => Ok((index, outcome)),
            Err(refusal) => Err(refused(refusal, of).into()),
        }
    }

    async fn join(&self, beat: HeartbeatRequest, deadline: Instant) -> Answered {
        let HeartbeatRequest { group, member, subscription, instance, client_id, client_host, .. } = beat.clone();
        let subscription = subscription.ok_or_else(|| GroupError::InvalidRequest {
            detail: "a member that joins says what it subscribes to".into(),
        })?;
        let join = Join {
            resolved: self.resolve(&subscription)?,
            group: group.clone(),
            member: member.clone(),
            instance,
            client_id,
            client_host,
            session_timeout_ms: ms_u32(beat.session_timeout),
            rebalance_timeout_ms: ms_u32(beat.rebalance_timeout),
            subscription,
        };
        let of = Subject { group: &group, member: &member };
        self.change(of, GroupCommand::Join(join), deadline).await?;
        Ok(GroupReply::Beat(self.beat_answer(of)?))
    }

    async fn beat(&self, beat: HeartbeatRequest, deadline: Instant) -> Answered {
        let HeartbeatRequest { group, member, instance, epoch, subscription, owns, .. } = beat;
        let of = Subject { group: &group, member: &member };
        // None: nothing to propose.
        let look = || {
            self.metadata.read(|state| {
                let known = state.group(&group).ok_or_else(|| unknown_member(of))?;
                known.check_beat(&member, instance.as_deref(), epoch).map_err(|refusal| refused(refusal, of))?;
                let released = server_member(known, of)?.released_by(epoch, &owns);
                let (group, member, subscription) = (group.clone(), member.clone(), subscription.clone());
                let report = Report { group, member, epoch, released, subscription, resolved: Vec::new() };
                Ok(Some(report).filter(|report| known.report_changes(report)))
            })
        };
        if let Some(mut report) = self.confirmed_look(of, look).await? {
            report.resolved =
                report.subscription.as_ref().map(|new| self.resolve(new)).transpose()?.unwrap_or_default();
            self.change(of, GroupCommand::Report(report), deadline).await?;
        }
        Ok(GroupReply::Beat(self.beat_answer(of)?))
    }

    /// What a member shall read, as it is applied.
    fn beat_answer(&self, of: Subject<'_>) -> Result<HeartbeatAnswer, GroupError> {
        let running = self.timer_count();
        self.metadata.read(|state| {
            let group = state.group(of.group).ok_or_else(|| unknown_member(of))?;
            let member = server_member(group, of)?;
            let waits = member.is_waiting() || !member.revoking.is_empty();
            let session = std::time::Duration::from_millis(member.session_timeout_ms.into());
            Ok(HeartbeatAnswer {
                member: of.member.clone(),
                epoch: member.epoch,
                assigned: member.assigned_set(),
                next_beat: next_beat(session, waits, group.member_count(), running),
                rebalancing: waits,
            })
        })
    }

    /// The topics that a subscription's pattern matches now.
    fn resolve(&self, subscription: &Subscription) -> Result<Vec<String>, GroupError> {
        let Some(pattern) = subscription.pattern.as_deref().filter(|pattern| !pattern.is_empty()) else {
            return Ok(Vec::new());
        };
        if pattern.len() > group::limits::PATTERN_BYTES_MAX {
            let detail = format!("a pattern of {} bytes, at most {}", pattern.len(), group::limits::PATTERN_BYTES_MAX);
            return Err(GroupError::LimitReached { detail });
        }
        let regex = patterns::compile(pattern)
            .map_err(|why| GroupError::InvalidRequest { detail: format!("pattern {pattern:?}: {why}") })?;
        let names: Vec<String> = self.metadata.read(|state| state.topics().map(|topic| topic.name.clone()).collect());
        Ok(patterns::matching(&regex, names.iter().map(String::as_str)))
    }

    async fn leave(&self, group: GroupName, leavers: Vec<Leaver>, deadline: Instant) -> Answered {
        let leaving = leavers.iter().map(|leaver| {
            let Leaver { member, instance } = leaver.clone();
            LeavingMember { member, instance }
        });
        let leave = Leave { group: group.clone(), leavers: leaving.collect() };
        let of = Subject::of_group(&group);
        let (_, outcome) = self.change(of, GroupCommand::Leave(leave), deadline).await?;
        let GroupOutcome::Left { refused: refusals } = outcome else { return Err(strange(&outcome)) };
        let left = leavers.into_iter().zip(refusals).map(|(leaver, refusal)| {
            let error = refusal.map(|refusal| refused(refusal, Subject { group: &group, member: &leaver.member }));
            (leaver, error)
        });
        Ok(GroupReply::Left(left.collect()))
    }

    async fn commit(&self, commit: CommitRequest, deadline: Instant) -> Answered {
        // Below zero: Kafka's clients that are no members, and its tools.
        let has_generation = commit.epoch >= 0;
        let CommitRequest { group, member, instance, epoch, offsets, sequence } = match has_generation {
            true => commit,
            false => self.on_behalf_of_nobody(commit),
        };
        let of = Subject { group: &group, member: &member };
        // Who commits is alive.
        self.keep_alive(of).await?;
        let Sorted { good, refused: strangers } = self.without_namesakes(offsets).await.ok_or(Ended::NotDone)?;
        let mut refusals: Vec<_> = strangers.into_iter().map(|place| (place, RefusedOffset::OtherTopic)).collect();
        if good.is_empty() && !refusals.is_empty() {
            return Ok(GroupReply::Refused(refusals));
        }
        let (places, offsets): (Vec<u32>, Vec<_>) = good.into_iter().unzip();
        let offsets = offsets.into_iter().map(|offset| CommitOffset {
            topic: offset.at.topic,
            partition: offset.at.partition,
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata,
        });
        let offsets = offsets.collect();
        let commit = Commit { group: group.clone(), member: member.clone(), instance, epoch, offsets, sequence };
        if commits::encoded_bytes(&commit) > limits::COMMIT_REQUEST_BYTES_MAX {
            let detail = format!("a commit holds at most {} bytes", limits::COMMIT_REQUEST_BYTES_MAX);
            return Err(GroupError::LimitReached { detail }.into());
        }
        let result = self.commits.commit(commit, deadline).await?;
        let by_place = result.map_err(|refusal| match refusal {
            // As in Kafka: nobody is no member.
            GroupRefusal::NotEmpty { .. } if !has_generation => unknown_member(of),
            refusal => refused(refusal, of),
        })?;
        refusals.extend(by_place.into_iter().filter_map(|(i, refusal)| {
            let place = places.get(usize::try_from(i).ok()?)?;
            Some((*place, RefusedOffset::ByState(refusal)))
        }));
        Ok(GroupReply::Refused(refusals))
    }

    /// Without members a group takes offsets from whoever says no generation, as in Kafka, whatever member that says
    /// it is; `apply` looks again. With members it is judged as it is.
    fn on_behalf_of_nobody(&self, commit: CommitRequest) -> CommitRequest {
        let members = self.metadata.read(|state| state.group(&commit.group).map_or(0, Group::member_count));
        match members {
            0 => CommitRequest { member: MemberId::default(), instance: None, ..commit },
            _ => commit,
        }
    }

    async fn delete(&self, group: GroupName, deadline: Instant) -> Answered {
        let of = Subject::of_group(&group);
        self.change(of, GroupCommand::DeleteGroup { group: group.clone() }, deadline).await?;
        Ok(GroupReply::Done)
    }

    async fn delete_offsets(&self, group: GroupName, at: Vec<TopicPartition>, deadline: Instant) -> Answered {
        let mut partitions = group::PartitionSet::new();
        let mut places = BTreeMap::new();
        for (place, TopicPartition { topic, partition }) in (0u32..).zip(at) {
            places.insert((topic.clone(), partition), place);
            partitions.entry(topic).or_default().push(partition);
        }
        partitions.values_mut().for_each(|numbers: &mut Vec<PartitionId>| {
            numbers.sort_unstable();
            numbers.dedup();
        });
        let of = Subject::of_group(&group);
        let name = group.clone();
        let command = match self.metadata.read(Metadata::reads_subscriptions) {
            true => GroupCommand::DeleteUnreadOffsets { group: name, partitions },
            false => GroupCommand::DeleteOffsets { group: name, partitions },
        };
        let (_, outcome) = self.change(of, command, deadline).await?;
        let GroupOutcome::OffsetsDeleted { refused } = outcome else { return Err(strange(&outcome)) };
        let refused = refused.into_iter().filter_map(|(topic, partition, refusal)| {
            Some((*places.get(&(topic, partition))?, RefusedOffset::ByState(refusal)))
        });
        Ok(GroupReply::Refused(refused.collect()))
    }

    async fn join_classic(&self, join: ClassicJoin, is_new: bool, deadline: Instant) -> Answered {
        let ClassicJoin { group, member, instance, client_id, client_host, protocol_type, protocols, .. } = join;
        let of = Subject { group: &group, member: &member };
        self.keep_alive(of).await?;
        let lock = || self.promises.lock().expect("no code that holds this lock panics");
        let is_promised = lock().is_made(&group, &member);
        let command = GroupCommand::JoinClassic(JoinClassic {
            group: group.clone(),
            member: member.clone(),
            is_new: is_new || is_promised,
            instance,
            client_id,
            client_host,
            session_timeout_ms: ms_u32(join.session_timeout),
            rebalance_timeout_ms: ms_u32(join.rebalance_timeout),
            protocol_type,
            protocols,
        });
        let joined = self.change(of, command, deadline).await;
        let (index, _) = joined.map_err(|ended| match ended {
            Ended::Refused(error) => self.metadata.read(|state| no_room(error, &group, state.group(&group))).into(),
            other => other,
        })?;
        lock().fulfil(&group, &member);
        Ok(GroupReply::AppliedAt(index))
    }

    /// The group leader's assignments are proposed; another member's sync only says that it waits.
    async fn sync_classic(&self, sync: ClassicSync, deadline: Instant) -> Answered {
        let beat = ClassicBeat {
            group: sync.group.clone(),
            generation: sync.generation,
            member: sync.member.clone(),
            instance: sync.instance.clone(),
        };
        let of = Subject { group: &beat.group, member: &beat.member };
        let look = || {
            self.metadata.read(|state| {
                let known = state.group(of.group).ok_or_else(|| unknown_member(of))?;
                check_classic(known, &beat)?;
                check_protocol(known, &sync)?;
                let classic = known.classic().ok_or_else(|| unknown_member(of))?;
                match classic.phase {
                    ClassicPhase::Joining => Err(GroupError::Rebalancing { group: of.group.clone() }),
                    ClassicPhase::Syncing => Ok(classic.leader == *of.member),
                    ClassicPhase::Stable => Ok(false),
                }
            })
        };
        let leads = self.confirmed_look(of, look).await?;
        self.synced(of.group, beat.generation, of.member);
        if !leads {
            let applied = *self.metadata.applied().borrow();
            return Ok(GroupReply::AppliedAt(applied.unwrap_or_default()));
        }
        let ClassicSync { group, generation, member, assignments, .. } = sync;
        let command = GroupCommand::SyncClassic(SyncClassic { group, generation, member, assignments });
        let (index, _) = self.change(of, command, deadline).await?;
        Ok(GroupReply::AppliedAt(index))
    }

    async fn beat_classic(&self, beat: &ClassicBeat) -> Answered {
        let of = Subject { group: &beat.group, member: &beat.member };
        let look = || {
            self.metadata.read(|state| {
                let known = state.group(of.group).ok_or_else(|| unknown_member(of))?;
                check_classic(known, beat)?;
                Ok(known.classic().map(|classic| classic.phase))
            })
        };
        match self.confirmed_look(of, look).await? {
            Some(ClassicPhase::Joining) => Err(GroupError::Rebalancing { group: beat.group.clone() }.into()),
            // As in Kafka: its sync is on its way.
            Some(ClassicPhase::Syncing | ClassicPhase::Stable) | None => Ok(GroupReply::Done),
        }
    }

    /// The member was heard of. One whose session is over is told so, unless this broker is deposed and
    /// the member's heartbeats went to its successor.
    async fn keep_alive(&self, of: Subject<'_>) -> Result<(), Ended> {
        match self.touch(of.group, of.member) {
            // Unknown to the timers: the state says what that means.
            Touched::InTime | Touched::Unknown => Ok(()),
            Touched::TooLate if self.confirmed_now().await => Err(unknown_member(of).into()),
            Touched::TooLate => Err(Ended::NotDone),
        }
    }

    /// Touches the member's session and looks at the state, in a way that a deposed coordinator cannot
    /// tell a member anything that its successor would not.
    async fn confirmed_look<T>(&self, of: Subject<'_>, look: impl Fn() -> Result<T, GroupError>) -> Result<T, Ended> {
        self.keep_alive(of).await?;
        match look() {
            Ok(_) if !self.confirmed_within(limits::CONFIRMED_FOR).await => Err(Ended::NotDone),
            Err(_) if !self.confirmed_now().await => Err(Ended::NotDone),
            Ok(_) | Err(_) => look().map_err(Ended::Refused),
        }
    }
}

/// The member, or what is wrong with the one who says that it is it.
fn server_member<'a>(group: &'a Group, of: Subject<'_>) -> Result<&'a group::ServerMember, GroupError> {
    if let Some(server) = group.server() {
        if let Some(member) = server.members.get(of.member) {
            return Ok(member);
        }
        if let Some(instance) = group.fenced_instance(of.member) {
            return Err(GroupError::FencedInstance { group: of.group.clone(), instance: instance.into() });
        }
    }
    Err(unknown_member(of))
}

/// Kafka's order: instance, member, generation.
pub fn check_classic(group: &Group, beat: &ClassicBeat) -> Result<(), GroupError> {
    let of = Subject { group: &beat.group, member: &beat.member };
    let classic = group.classic().ok_or_else(|| unknown_member(of))?;
    if let Some(instance) = &beat.instance {
        match group.member_of_instance(instance) {
            None => return Err(unknown_member(of)),
            Some(member) if *member != beat.member => {
                return Err(GroupError::FencedInstance { group: beat.group.clone(), instance: instance.clone() });
            }
            Some(_) => {}
        }
    }
    if !classic.members.contains_key(&beat.member) {
        return Err(match group.fenced_instance(&beat.member) {
            Some(instance) => GroupError::FencedInstance { group: beat.group.clone(), instance: instance.into() },
            None => unknown_member(of),
        });
    }
    if beat.generation != group.epoch() {
        let refusal = GroupRefusal::WrongEpoch { found: beat.generation, current: group.epoch() };
        return Err(GroupError::Refused { group: beat.group.clone(), member: beat.member.clone(), refusal });
    }
    Ok(())
}

fn check_protocol(group: &Group, sync: &ClassicSync) -> Result<(), GroupError> {
    let Some(classic) = group.classic() else { return Ok(()) };
    let other = |said: &Option<String>, is: &str| said.as_deref().is_some_and(|said| said != is);
    if other(&sync.protocol_type, &classic.protocol_type) || other(&sync.protocol, &classic.protocol) {
        let detail = format!("it is {:?} with {:?}", classic.protocol_type, classic.protocol);
        return Err(GroupError::ProtocolMismatch { group: sync.group.clone(), detail });
    }
    Ok(())
}

fn unknown_member(of: Subject<'_>) -> GroupError {
    GroupError::UnknownMember { group: of.group.clone(), member: of.member.clone() }
}

fn strange(outcome: &GroupOutcome) -> Ended {
    tracing::error!(?outcome, "a group's command was answered as something else");
    Ended::Unknown
}
