//! Turns of commits that carry no number of their own, as Kafka's do: a member's commits go to the coordinator in the
//! order in which they came here, each when the one before is settled. So no repetition of one and no forwarding lets
//! it be applied after a later one and take that back.
//!
//! Promises: a turn is taken when it is asked for, before anything is waited for; who drops one lets the next go; after
//! a commit that nobody can tell the fate of, the next waits until that one can have no effect any more. What waits is
//! bounded. Leaves out: commits of one member through two brokers at once, of which only the coordinator takes any
//! (`classic_commit`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::limits;
use crate::{
    broker::requests::groups::GroupError,
    types::{GroupName, MemberId},
};

/// Whose commits keep their order: group and member.
type Committer = (GroupName, MemberId);

/// All turns of a broker.
#[derive(Default)]
pub struct Turns(Mutex<Book>);

#[derive(Default)]
struct Book {
    lanes: BTreeMap<Committer, Lane>,
    /// The number of the next turn.
    next: u64,
    /// How many turns are taken.
    taken: usize,
    /// Committers with a commit of unknown fate, and when that is over: in this order.
    unsettled: VecDeque<(Instant, Committer)>,
}

/// The turns of one committer. The first may go, from `quiet_until` on.
#[derive(Default)]
struct Lane {
    turns: BTreeMap<u64, Arc<Notify>>,
    quiet_until: Option<Instant>,
}

/// A place in the order of one member's commits, until it is dropped.
pub struct Turn {
    turns: Arc<Turns>,
    committer: Committer,
    number: u64,
    called: Arc<Notify>,
    /// Something was sent whose fate is not known.
    is_unsettled: bool,
}

const UNPOISONED: &str = "no code that holds this lock panics";

impl Turns {
    pub fn take(self: &Arc<Self>, group: &GroupName, member: &MemberId) -> Result<Turn, GroupError> {
        let mut book = self.lock();
        book.forget_settled(Instant::now());
        let max = limits::COMMIT_TURNS_MAX;
        if book.taken + book.unsettled.len() >= max {
            return Err(GroupError::Crowded { what: "commits".into(), max });
        }
        let (number, called) = (book.next, Arc::new(Notify::new()));
        let committer = (group.clone(), member.clone());
        book.next += 1;
        book.taken += 1;
        book.lanes.entry(committer.clone()).or_default().turns.insert(number, Arc::clone(&called));
        drop(book);
        Ok(Turn { turns: Arc::clone(self), committer, number, called, is_unsettled: false })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect(UNPOISONED)
    }
}

impl Book {
    fn forget_settled(&mut self, now: Instant) {
        while self.unsettled.front().is_some_and(|(over, _)| *over <= now) {
            let Some((_, committer)) = self.unsettled.pop_front() else { return };
            let is_idle = |lane: &Lane| lane.turns.is_empty() && lane.quiet_until.is_none_or(|until| until <= now);
            if self.lanes.get(&committer).is_some_and(is_idle) {
                self.lanes.remove(&committer);
            }
        }
    }
}

impl Turn {
    /// Waits until it is this turn's time. From then on, until [`Turn::settled`], it counts as sent.
    pub async fn wait(&mut self) {
        loop {
            let quiet_until = {
                let book = self.turns.lock();
                let lane = book.lanes.get(&self.committer).expect("a lane lasts as long as its turns");
                let is_first = lane.turns.first_key_value().is_some_and(|(first, _)| *first == self.number);
                is_first.then_some(lane.quiet_until)
            };
            match quiet_until {
                Some(Some(until)) if until > Instant::now() => sleep_until(until).await,
                Some(_) => break,
                None => self.called.notified().await,
            }
        }
        self.is_unsettled = true;
    }

    /// What was sent is applied, or never will be.
    pub fn settled(&mut self) {
        self.is_unsettled = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut book = self.turns.lock();
        book.taken -= 1;
        let Some(lane) = book.lanes.get_mut(&self.committer) else { return };
        lane.turns.remove(&self.number);
        let over = Instant::now() + limits::TRY_WITHIN;
        if self.is_unsettled {
            lane.quiet_until = Some(over);
        }
        match lane.turns.first_key_value() {
            Some((_, next)) => next.notify_one(),
            None if lane.quiet_until.is_none_or(|until| until <= Instant::now()) => {
                book.lanes.remove(&self.committer);
            }
            None => {}
        }
        if self.is_unsettled {
            book.unsettled.push_back((over, self.committer.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn take(turns: &Arc<Turns>, group: &str, member: &str) -> Result<Turn, GroupError> {
        turns.take(&group.into(), &member.into())
    }

    fn is_on(turn: &mut Turn) -> bool {
        turn.wait().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn turns_of_a_member_come_in_order_and_others_do_not_wait_for_them() {
        let turns = Arc::<Turns>::default();
        let [mut a, mut b, mut c] = [0, 1, 2].map(|_| take(&turns, "g", "m").expect("there is room"));
        let mut other = take(&turns, "g", "n").expect("there is room");
        assert!(!is_on(&mut b) && !is_on(&mut c) && is_on(&mut a) && is_on(&mut other));
        // One that gives up while it waits is passed over.
        drop(b);
        assert!(!is_on(&mut c));
        a.settled();
        drop(a);
        assert!(is_on(&mut c));
        c.settled();
        other.settled();
        drop((c, other));
        let book = turns.lock();
        assert!(book.lanes.is_empty() && book.taken == 0 && book.unsettled.is_empty());
    }

    /// Whoever waits is woken, not only who asks again.
    #[tokio::test(start_paused = true)]
    async fn a_waiting_turn_is_called() {
        let turns = Arc::<Turns>::default();
        let [mut a, mut b] = [0, 1].map(|_| take(&turns, "g", "m").expect("there is room"));
        a.wait().await;
        let (_, ()) = tokio::join!(b.wait(), async {
            tokio::task::yield_now().await;
            a.settled();
            drop(a);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_commit_of_unknown_fate_the_next_waits_until_it_can_have_no_effect() {
        let turns = Arc::<Turns>::default();
        let mut lost = take(&turns, "g", "m").expect("there is room");
        lost.wait().await;
        drop(lost);
        let began = Instant::now();
        let mut next = take(&turns, "g", "m").expect("there is room");
        next.wait().await;
        assert_eq!(began.elapsed(), limits::TRY_WITHIN);
        next.settled();
        drop(next);
        drop(take(&turns, "h", "m"));
        assert!(turns.lock().lanes.is_empty(), "it is forgotten once it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_bounded_and_those_of_unknown_fate_count() {
        let turns = Arc::<Turns>::default();
        let mut lost = take(&turns, "g", "lost").expect("there is room");
        lost.wait().await;
        drop(lost);
        let rest: Vec<Turn> =
            (1..limits::COMMIT_TURNS_MAX).map(|_| take(&turns, "g", "m").expect("there is room")).collect();
        assert!(matches!(take(&turns, "g", "m"), Err(GroupError::Crowded { .. })));
        tokio::time::advance(limits::TRY_WITHIN + Duration::from_millis(1)).await;
        assert!(take(&turns, "g", "m").is_ok(), "what was lost is over");
        drop(rest);
        assert_eq!(turns.lock().taken, 0);
    }
}
