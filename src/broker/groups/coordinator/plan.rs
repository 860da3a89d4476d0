//! What the coordinator must watch of a group, and what it proposes when that is due. Pure.
//!
//! Promises: what is proposed names what it was decided on (an epoch, a generation, a member id that is
//! never used again), so that `apply` refuses a decision that came too late (SAFETY M9).

use std::{collections::BTreeMap, time::Duration};

use super::timers::{Timer, TimerKind, Wanted};
use crate::{
    broker::groups::limits,
    group::{
        ClassicMembers, ClassicPhase, CompleteClassic, Expire, ExpireCause, Group, GroupCommand, Members, ServerMembers,
    },
    types::{GroupName, MemberId},
};

/// The timers that a group needs as it stands. `awaits_syncs`: a member has yet to send its sync.
pub fn wanted(group: &Group, initial_delay: Duration, awaits_syncs: bool) -> Vec<Wanted> {
    match group.members() {
        Members::None => Vec::new(),
        Members::Server(server) => of_server(server),
        Members::Classic(classic) => of_classic(classic, group.epoch(), initial_delay, awaits_syncs),
    }
}

fn of_server(server: &ServerMembers) -> Vec<Wanted> {
    let mut wanted = Vec::with_capacity(server.members.len());
    for (id, member) in &server.members {
        wanted.push(session(id, member.session_timeout_ms));
        if let Some(epoch) = member.revocation_epoch() {
            let kind = TimerKind::Release(id.clone());
            wanted.push(Wanted { kind, mark: epoch.into(), span: millis(member.rebalance_timeout_ms) });
        }
    }
    wanted
}

fn of_classic(classic: &ClassicMembers, generation: i32, initial_delay: Duration, awaits_syncs: bool) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> =
        classic.members.iter().map(|(id, member)| session(id, member.session_timeout_ms)).collect();
    let span = millis(classic.rebalance_timeout_ms());
    let mark = i64::from(generation);
    match classic.phase {
        ClassicPhase::Joining => {
            wanted.push(Wanted { kind: TimerKind::Join, mark, span });
            // Nobody led yet: the group is new, and more members are likely to follow. Each starts the
            // delay anew, within the time to join.
            let is_first = classic.leader.is_empty();
            if is_first {
                let mark = i64::try_from(classic.next_order).unwrap_or(i64::MAX);
                wanted.push(Wanted { kind: TimerKind::Gathered, mark, span: initial_delay.min(span) });
            } else if classic.all_joined() {
                wanted.push(Wanted { kind: TimerKind::Gathered, mark: -1, span: Duration::ZERO });
            }
        }
        ClassicPhase::Syncing | ClassicPhase::Stable if awaits_syncs => {
            wanted.push(Wanted { kind: TimerKind::Syncs, mark, span });
        }
        ClassicPhase::Syncing | ClassicPhase::Stable => {}
    }
    wanted
}

fn session(member: &MemberId, timeout_ms: u32) -> Wanted {
    Wanted { kind: TimerKind::Session(member.clone()), mark: 0, span: millis(timeout_ms) }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// A command that due timers call for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub command: GroupCommand,
    /// The timers that led to it, to be settled when its outcome is known.
    pub timers: Vec<Timer>,
}

/// Silent members of one group go in one command, so that a target is computed once for all of them.
/// `group_of` gives a group as it is applied here, `pending` its members that have yet to sync; a timer
/// whose reason is gone calls for nothing.
pub fn decide<'a>(
    due: Vec<(Timer, i64)>,
    group_of: impl Fn(&GroupName) -> Option<&'a Group>,
    pending: impl Fn(&GroupName, &Group) -> Vec<MemberId>,
) -> Vec<Decision> {
    let mut silent: BTreeMap<GroupName, Vec<MemberId>> = BTreeMap::new();
    let mut decisions = Vec::new();
    for (timer, mark) in due {
        let Some(group) = group_of(&timer.group) else { continue };
        let name = timer.group.clone();
        let epoch = i32::try_from(mark).unwrap_or(i32::MAX);
        let expire = |members, because| GroupCommand::Expire(Expire { group: name.clone(), members, because });
        let command = match &timer.kind {
            TimerKind::Session(member) => {
                silent.entry(name).or_default().push(member.clone());
                continue;
            }
            TimerKind::Release(member) => expire(vec![member.clone()], ExpireCause::Revocation { epoch }),
            TimerKind::Syncs => match pending(&name, group) {
                late if late.is_empty() => continue,
                late => expire(late, ExpireCause::Sync { generation: epoch }),
            },
            TimerKind::Gathered => {
                let generation = group.epoch();
                GroupCommand::CompleteClassic(CompleteClassic { group: name, generation, timed_out: false })
            }
            TimerKind::Join => {
                GroupCommand::CompleteClassic(CompleteClassic { group: name, generation: epoch, timed_out: true })
            }
        };
        decisions.push(Decision { command, timers: vec![timer] });
    }
    for (group, members) in silent {
        let timers = members
            .iter()
            .map(|member| Timer { group: group.clone(), kind: TimerKind::Session(member.clone()) })
            .collect();
        let expire = Expire { group, members, because: ExpireCause::Session };
        decisions.push(Decision { command: GroupCommand::Expire(expire), timers });
    }
    decisions
}

/// When a member with assignment on the server shall beat again. `waits`: something is to be let go of,
/// or will be assigned soon. Many members beat more slowly, but never less than three times a session.
pub fn next_beat(session: Duration, waits: bool, group_members: usize, members: usize) -> Duration {
    let spread = |count: usize, per_second: u32| {
        Duration::from_secs(1).saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)) / per_second
    };
    let calm = limits::BEAT_MAX.max(spread(members, limits::BEATS_PER_SECOND_MAX)).min(session / 3);
    match waits {
        true => limits::BEAT_REBALANCING.max(spread(group_members, limits::WAITING_BEATS_PER_SECOND_MAX)).min(calm),
        false => calm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::groups::{
            coordinator::syncs::Syncs,
            fixture::{apply, join_classic, sync_classic},
        },
        group::{Groups, Join, Subscription},
    };

    const DELAY: Duration = Duration::from_millis(500);

    fn join_server(groups: &mut Groups, member: &str) {
        let subscription = Subscription { topics: vec!["t".into()], ..Subscription::default() };
        let (group, member) = ("g".into(), member.into());
        let (session_timeout_ms, rebalance_timeout_ms) = (2_000, 7_000);
        let client_id = "c".to_string();
        #[rustfmt::skip]
        let join = Join {
            group, member, client_id, session_timeout_ms, rebalance_timeout_ms, subscription, ..Join::default()
        };
        apply(groups, GroupCommand::Join(join));
    }

    fn kinds(groups: &Groups) -> Vec<(TimerKind, i64, u64)> {
        let group = groups.get(&"g".into()).unwrap();
        let wanted = wanted(group, DELAY, !late(groups).is_empty());
        wanted.into_iter().map(|w| (w.kind, w.mark, w.span.as_millis() as u64)).collect()
    }

    /// b follows and never syncs.
    fn late(groups: &Groups) -> Vec<MemberId> {
        Syncs::default().pending(&"g".into(), groups.get(&"g".into()).unwrap())
    }

    fn decided(groups: &Groups, due: Vec<(Timer, i64)>) -> Vec<Decision> {
        decide(due, |name| groups.get(name), |_, _| late(groups))
    }

    fn session_of(member: &str) -> TimerKind {
        TimerKind::Session(member.into())
    }

    #[test]
    fn a_member_that_must_let_go_is_given_its_rebalance_timeout() {
        let mut groups = Groups::default();
        join_server(&mut groups, "a");
        assert_eq!(kinds(&groups), [(session_of("a"), 0, 2_000)]);
        join_server(&mut groups, "b");
        let release = kinds(&groups).into_iter().find(|(kind, ..)| *kind == TimerKind::Release("a".into()));
        let (_, epoch, span) = release.expect("a holds all six and must give three");
        assert_eq!(span, 7_000);
        let timer = Timer { group: "g".into(), kind: TimerKind::Release("a".into()) };
        let decisions = decided(&groups, vec![(timer.clone(), epoch)]);
        let because = ExpireCause::Revocation { epoch: i32::try_from(epoch).unwrap() };
        let expire = Expire { group: "g".into(), members: vec!["a".into()], because };
        assert_eq!(decisions, [Decision { command: GroupCommand::Expire(expire), timers: vec![timer] }]);
    }

    /// Members come more often than its rebalance timeout, and it answers nobody.
    #[test]
    fn a_stuck_members_time_does_not_begin_anew_with_each_member_that_comes() {
        let mut groups = Groups::default();
        join_server(&mut groups, "a");
        join_server(&mut groups, "b");
        let release = |groups: &Groups| {
            let found = kinds(groups).into_iter().find(|(kind, ..)| *kind == TimerKind::Release("a".into()));
            found.expect("a has let go of nothing")
        };
        let first = release(&groups);
        let asked = |groups: &Groups| {
            let a = &groups.get(&"g".into()).unwrap().server().unwrap().members["a"];
            a.revoking.values().flatten().map(|(_, r)| r.asked).max()
        };
        let before = asked(&groups);
        join_server(&mut groups, "c");
        assert!(asked(&groups) > before, "it was asked for more");
        assert_eq!(release(&groups), first, "its timer runs on");
        let (kind, epoch, _) = first;
        let decisions = decided(&groups, vec![(Timer { group: "g".into(), kind }, epoch)]);
        apply(&mut groups, decisions[0].command.clone());
        assert!(!groups.get(&"g".into()).unwrap().server().unwrap().members.contains_key("a"), "apply agrees");
    }

    #[test]
    fn a_classic_group_runs_through_its_timers() {
        let mut groups = Groups::default();
        join_classic(&mut groups, "a", None, true);
        let first = kinds(&groups);
        assert!(first.contains(&(TimerKind::Join, 0, 60_000)) && first.contains(&(session_of("a"), 0, 10_000)));
        let (_, mark, span) = first.iter().find(|(kind, ..)| *kind == TimerKind::Gathered).unwrap();
        assert_eq!(*span, 500);
        join_classic(&mut groups, "b", None, true);
        let again = kinds(&groups);
        assert!(again.iter().any(|(kind, m, _)| *kind == TimerKind::Gathered && m != mark), "it starts anew");

        let complete = CompleteClassic { group: "g".into(), generation: 0, timed_out: false };
        let gathered = Timer { group: "g".into(), kind: TimerKind::Gathered };
        let decisions = decided(&groups, vec![(gathered, *mark)]);
        assert_eq!(decisions[0].command, GroupCommand::CompleteClassic(complete.clone()));
        apply(&mut groups, GroupCommand::CompleteClassic(complete));
        assert!(kinds(&groups).contains(&(TimerKind::Syncs, 1, 60_000)));
        let late = || Timer { group: "g".into(), kind: TimerKind::Syncs };
        let expire = |members: &[&str]| {
            let members = members.iter().copied().map(MemberId::from).collect();
            GroupCommand::Expire(Expire { group: "g".into(), members, because: ExpireCause::Sync { generation: 1 } })
        };
        assert_eq!(decided(&groups, vec![(late(), 1)])[0].command, expire(&["a", "b"]));

        sync_classic(&mut groups, 1, "a");
        let sessions = [(session_of("a"), 0, 10_000), (session_of("b"), 0, 10_000)];
        assert_eq!(kinds(&groups)[..2], sessions);
        assert_eq!(kinds(&groups)[2..], [(TimerKind::Syncs, 1, 60_000)], "it runs on: b has not synced");
        assert_eq!(decided(&groups, vec![(late(), 1)])[0].command, expire(&["b"]));
        let stable = groups.get(&"g".into()).unwrap();
        assert_eq!(wanted(stable, DELAY, false).len(), 2, "all have");
        assert_eq!(decide(vec![(late(), 1)], |_| Some(stable), |_, _| vec![]), []);

        // The next round is complete with the last of the members, without a delay.
        join_classic(&mut groups, "c", None, true);
        join_classic(&mut groups, "a", None, false);
        assert!(kinds(&groups).iter().all(|(kind, ..)| *kind != TimerKind::Gathered), "b is missing");
        join_classic(&mut groups, "b", None, false);
        assert!(kinds(&groups).contains(&(TimerKind::Gathered, -1, 0)));
        let over = Timer { group: "g".into(), kind: TimerKind::Join };
        let complete = CompleteClassic { group: "g".into(), generation: 1, timed_out: true };
        let decisions = decided(&groups, vec![(over, 1)]);
        assert_eq!(decisions[0].command, GroupCommand::CompleteClassic(complete));
    }

    #[test]
    fn silent_members_of_a_group_go_in_one_command() {
        let mut groups = Groups::default();
        join_server(&mut groups, "a");
        join_server(&mut groups, "b");
        let due = |group: &str, member: &str| (Timer { group: group.into(), kind: session_of(member) }, 0);
        let decisions = decided(&groups, vec![due("g", "a"), due("gone", "x"), due("g", "b")]);
        let members = vec!["a".into(), "b".into()];
        let expire = Expire { group: "g".into(), members, because: ExpireCause::Session };
        let timers = vec![due("g", "a").0, due("g", "b").0];
        assert_eq!(decisions, [Decision { command: GroupCommand::Expire(expire), timers }]);
    }

    #[test]
    fn beats_are_quick_while_waiting_and_bounded_in_sum() {
        let ms = Duration::from_millis;
        assert_eq!(next_beat(ms(10_000), false, 3, 3), ms(1_000));
        assert_eq!(next_beat(ms(10_000), true, 3, 3), ms(100));
        assert_eq!(next_beat(ms(1_500), false, 3, 3), ms(500));
        assert_eq!(next_beat(ms(10_000), true, 1_000, 1_000), ms(1_000).min(ms(2_000)));
        assert_eq!(next_beat(ms(30_000), false, 10, 20_000), ms(4_000));
        assert_eq!(next_beat(ms(10_000), false, 10, 20_000), ms(10_000) / 3);
    }
}
