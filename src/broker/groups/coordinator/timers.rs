//! Who is due when: the coordinator's timers of one term. Pure, time is passed in.
//!
//! Promises: nothing is due before its whole span has passed since it was last touched; a timer that
//! appears, as all do at the start of a term (SAFETY M9), starts in full; what is due is handed out
//! once, and again only after it was settled. Leaves out: what being due comes to, which the
//! coordinator proposes and `apply` decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::types::{GroupName, MemberId};

/// One timer of one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub group: GroupName,
    pub kind: TimerKind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// Classic: all members have joined; of a new group's first round, a moment ago.
    Gathered,
    /// Classic: all members should have joined.
    Join,
    /// Classic: all members should have sent their syncs, the group leader's with the assignments.
    Syncs,
    /// The member should have been heard of.
    Session(MemberId),
    /// The member should have let go of what was taken from it.
    Release(MemberId),
}

/// A timer that should run for a group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: TimerKind,
    /// What it runs for (an epoch, a generation): with another mark it starts anew.
    pub mark: i64,
    pub span: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// It has its whole span again.
    InTime,
    /// It was due already: what follows from that is being decided.
    TooLate,
    Unknown,
}

#[derive(Debug, Default)]
pub struct Timers {
    /// The timers that run, by group. No group is without one.
    running: BTreeMap<GroupName, BTreeMap<TimerKind, Running>>,
    due: BTreeSet<(Instant, Timer)>,
}

#[derive(Debug)]
struct Running {
    mark: i64,
    span: Duration,
    /// When it is due. None: it was handed out and is not settled.
    due: Option<Instant>,
}

impl Timers {
    /// Brings one group's timers in line: those not wanted any more stop, new ones start, all others
    /// run on. An empty list: the group is gone. Every group is looked at every second, so this costs a look-up for
    /// each of its timers and no more.
    pub fn observe(&mut self, now: Instant, group: &GroupName, wanted: Vec<Wanted>) {
        let mut old = self.running.remove(group).unwrap_or_default();
        let mut new = BTreeMap::new();
        for Wanted { kind, mark, span } in wanted {
            let running = match old.remove(&kind) {
                Some(running) if running.mark == mark => Running { span, ..running },
                other => {
                    other.iter().for_each(|running| self.forget(group, &kind, running));
                    let due = now + span;
                    self.due.insert((due, Timer { group: group.clone(), kind: kind.clone() }));
                    Running { mark, span, due: Some(due) }
                }
            };
            new.insert(kind, running);
        }
        old.iter().for_each(|(kind, running)| self.forget(group, kind, running));
        if !new.is_empty() {
            self.running.insert(group.clone(), new);
        }
    }

    /// How many timers run.
    pub fn len(&self) -> usize {
        self.running.values().map(BTreeMap::len).sum()
    }

    /// The groups that have timers, in order.
    pub fn groups(&self) -> Vec<GroupName> {
        self.running.keys().cloned().collect()
    }

    /// The member was heard of.
    pub fn touch(&mut self, now: Instant, group: &GroupName, member: &MemberId) -> Touched {
        let timer = session(group, member);
        let Some(running) = running(&mut self.running, &timer) else { return Touched::Unknown };
        let Some(due) = running.due else { return Touched::TooLate };
        if due <= now {
            return Touched::TooLate;
        }
        let next = now + running.span;
        running.due = Some(next);
        self.due.remove(&(due, timer.clone()));
        self.due.insert((next, timer));
        Touched::InTime
    }

    /// What is due and its mark, at most `max`, earliest first. Each must be settled: by the group's not
    /// wanting it any more, or by [`Timers::retry`].
    pub fn take_due(&mut self, now: Instant, max: usize) -> Vec<(Timer, i64)> {
        let due: Vec<(Instant, Timer)> =
            self.due.iter().take_while(|(due, _)| *due <= now).take(max).cloned().collect();
        let mut taken = Vec::with_capacity(due.len());
        for entry in due {
            self.due.remove(&entry);
            let running = running(&mut self.running, &entry.1).expect("due timers run");
            running.due = None;
            taken.push((entry.1, running.mark));
        }
        taken
    }

    /// A timer that was handed out had no effect: it is due again at `again`, if it still runs.
    pub fn retry(&mut self, timer: Timer, again: Instant) {
        let Some(running) = running(&mut self.running, &timer) else { return };
        if running.due.is_none() {
            running.due = Some(again);
            self.due.insert((again, timer));
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Forgets when a timer was due that does not run any more.
    fn forget(&mut self, group: &GroupName, kind: &TimerKind, running: &Running) {
        if let Some(due) = running.due {
            self.due.remove(&(due, Timer { group: group.clone(), kind: kind.clone() }));
        }
    }
}

fn running<'a>(
    all: &'a mut BTreeMap<GroupName, BTreeMap<TimerKind, Running>>,
    timer: &Timer,
) -> Option<&'a mut Running> {
    all.get_mut(&timer.group)?.get_mut(&timer.kind)
}

fn session(group: &GroupName, member: &MemberId) -> Timer {
    Timer { group: group.clone(), kind: TimerKind::Session(member.clone()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::groups::limits;

    const TEN: Duration = Duration::from_secs(10);

    fn member(name: &str, seconds: u64) -> Wanted {
        Wanted { kind: TimerKind::Session(name.into()), mark: 0, span: Duration::from_secs(seconds) }
    }

    fn session_of(name: &str) -> (Timer, i64) {
        (session(&"g".into(), &name.into()), 0)
    }

    #[test]
    fn who_beats_is_never_due_and_who_is_silent_is_due_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.observe(start, &"g".into(), vec![member("a", 10), member("b", 10)]);
        for second in (5..=20).step_by(5) {
            assert_eq!(timers.touch(start + Duration::from_secs(second), &"g".into(), &"a".into()), Touched::InTime);
            if second < 10 {
                assert_eq!(timers.take_due(start + Duration::from_secs(second), 9), []);
            }
        }
        let due = timers.take_due(start + TEN * 2, 9);
        assert_eq!(due, [session_of("b")]);
        assert_eq!(
            timers.touch(start + TEN * 2, &"g".into(), &"b".into()),
            Touched::TooLate,
            "its fate is being decided"
        );
        timers.observe(start + TEN * 2, &"g".into(), vec![member("a", 10), member("b", 10)]);
        assert_eq!(timers.take_due(start + TEN * 2, 9), [], "not twice");
        timers.retry(session(&"g".into(), &"b".into()), start + TEN * 2);
        assert_eq!(timers.take_due(start + TEN * 2, 9), due);
        timers.observe(start + TEN * 2, &"g".into(), vec![member("a", 10)]);
        assert_eq!(timers.touch(start + TEN * 2, &"g".into(), &"b".into()), Touched::Unknown);
        timers.retry(session(&"g".into(), &"b".into()), start + TEN * 2);
        assert_eq!(timers.take_due(start + TEN * 2, 9), [], "it does not run any more");
    }

    #[test]
    fn no_more_come_due_at_once_than_there_is_room_for() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let names: Vec<String> = (0..limits::DECISIONS_MAX + 6).map(|n| format!("m{n:03}")).collect();
        timers.observe(start, &"g".into(), names.iter().map(|name| member(name, 10)).collect());
        let counts = [limits::DECISIONS_MAX, 0, 5, limits::DECISIONS_MAX];
        assert_eq!(counts.map(|room| timers.take_due(start + TEN, room).len()), [limits::DECISIONS_MAX, 0, 5, 1]);
    }

    #[test]
    fn a_beat_at_the_moment_it_is_due_is_too_late() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.observe(start, &"g".into(), vec![member("a", 10)]);
        assert_eq!(timers.touch(start + TEN, &"g".into(), &"a".into()), Touched::TooLate);
        assert_eq!(timers.take_due(start + TEN, 9).len(), 1);
    }

    #[test]
    fn another_mark_starts_a_timer_anew_and_the_same_one_does_not() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let release = |mark| vec![Wanted { kind: TimerKind::Release("a".into()), mark, span: TEN }];
        timers.observe(start, &"g".into(), release(1));
        timers.observe(start + TEN / 2, &"g".into(), release(1));
        assert_eq!(timers.next_due(), Some(start + TEN));
        timers.observe(start + TEN / 2, &"g".into(), release(2));
        assert_eq!(timers.next_due(), Some(start + TEN / 2 + TEN));
        timers.observe(start + TEN, &"g".into(), vec![]);
        assert_eq!((timers.next_due(), timers.groups()), (None, vec![]));
    }

    #[test]
    fn groups_are_told_apart_whatever_their_names() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for group in ["", "a", "a\0", "ab"] {
            timers.observe(start, &group.into(), vec![member("m", 10), member("", 10)]);
        }
        timers.observe(start, &"a".into(), vec![]);
        assert_eq!(timers.groups(), ["", "a\0", "ab"]);
        assert_eq!(timers.take_due(start + TEN, 99).len(), 6);
    }

    /// What every group costs every second, while apply and the beats of its members wait.
    #[test]
    fn looking_at_a_group_costs_each_of_its_members_the_same_however_many_there_are() {
        let start = Instant::now();
        let per_member = |count: usize| {
            let wanted: Vec<Wanted> = (0..count).map(|n| member(&format!("m{n:05}"), 10)).collect();
            let mut timers = Timers::default();
            timers.observe(start, &"g".into(), wanted.clone());
            // The quickest of some: other tests run beside this one.
            let took = |_| {
                let wanted = wanted.clone();
                let began = std::time::Instant::now();
                timers.observe(start, &"g".into(), wanted);
                began.elapsed()
            };
            (0..5).map(took).min().expect("five") / u32::try_from(count).expect("few")
        };
        let (few, many) = (per_member(250), per_member(4_000));
        println!("{few:?} a member of 250, {many:?} of 4,000");
        assert!(many < few * 5, "{many:?} a member of 4,000, {few:?} of 250");
    }

    proptest! {
        /// Against the plain meaning: a session is due when its last touch is a span ago.
        #[test]
        fn due_is_what_was_not_touched_for_its_span(
            spans in prop::collection::vec(1_u64..20, 1..6),
            steps in prop::collection::vec((0_usize..6, 1_u64..5), 1..60),
        ) {
            let start = Instant::now();
            let mut timers = Timers::default();
            let wanted = |who: &usize| member(&who.to_string(), spans[*who]);
            timers.observe(start, &"g".into(), (0..spans.len()).map(|who| wanted(&who)).collect());
            let mut heard = vec![Some(0); spans.len()];
            let mut now = 0;
            for (who, wait) in steps {
                now += wait;
                let at = start + Duration::from_secs(now);
                if who < spans.len() {
                    let in_time = heard[who].is_some_and(|last| now < last + spans[who]);
                    let touched = timers.touch(at, &"g".into(), &MemberId(who.to_string()));
                    prop_assert_eq!(touched == Touched::InTime, in_time);
                    if in_time {
                        heard[who] = Some(now);
                    }
                }
                let due = timers.take_due(at, 99);
                for (who, last) in heard.iter_mut().enumerate() {
                    let is_due = last.is_some_and(|last| now >= last + spans[who]);
                    let said = due.contains(&session_of(&who.to_string()));
                    prop_assert_eq!(said, is_due);
                    if is_due {
                        *last = None;
                    }
                }
            }
        }
    }
}
