//! One term of this broker as group coordinator, which the metadata leader is.
//!
//! Promises (SAFETY M9): it begins only when the leader is ready (M1); all timers start in full then
//! and live in memory only; whatever it decides is proposed in its own term and no other, so that
//! nothing is done on the knowledge of a term that is over; what it says without proposing anything was
//! confirmed by a majority. Leaves out: what requests mean (`answer`), how commits are collected (`commits`).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    commits::{self, CommitQueue},
    plan::{self, Decision},
    promises::Promises,
    proposer::{Applied, NotApplied, Proposer},
    sweep::Sweeper,
    syncs::Syncs,
    timers::{Timers, Touched},
};
use crate::{
    broker::{
        groups::limits,
        metadata_group::rounds::Rounds,
        node::{GroupSettings, Node},
        upkeep::clock::ClockView,
    },
    group::{self, GroupCommand, GroupOutcome},
    metadata::Metadata,
    metrics::GroupProbe,
    raft::{Replica, Status},
    seam::{
        Clock,
        plant::{self, Plant},
    },
    types::{GroupName, LogIndex, MemberId, Term, ms_u64},
};

/// See the module's head. Shared by its tasks and the requests that it answers.
pub struct Tenure {
    pub term: Term,
    pub metadata: Replica<Metadata>,
    pub commits: CommitQueue,
    pub promises: Mutex<Promises>,
    pub probe: GroupProbe,
    proposer: Proposer,
    clock: Arc<dyn Clock>,
    settings: GroupSettings,
    watched: Mutex<Watched>,
    /// A timer may be due sooner than it was.
    woken: Notify,
    rounds: Rounds,
    /// When the last round began that confirmed this term's leadership.
    confirmed: Mutex<Option<Instant>>,
}

/// What this coordinator alone knows of the groups.
#[derive(Default)]
struct Watched {
    timers: Timers,
    syncs: Syncs,
}

const UNPOISONED: &str = "no code that holds this lock panics";

/// Runs this broker's terms as coordinator, one after the other, until it stops.
///
/// `slot`: where requests find the present one.
pub async fn run(
    node: Arc<Node>,
    slot: watch::Sender<Option<Arc<Tenure>>>,
    probe: GroupProbe,
    clock_view: watch::Receiver<ClockView>,
) {
    let mut groups = node.metadata.subscribe();
    let Ok(Some(metadata)) = groups.wait_for(Option::is_some).await.map(|group| group.clone()) else { return };
    let mut status = metadata.status();
    loop {
        let ready = status.wait_for(|status| status.stopped || (status.leads && status.ready)).await;
        let Ok(Status { term, stopped: false, .. }) = ready.map(|status| status.clone()) else { return };
        let (tenure, queue) = Tenure::begin(&node, probe.clone(), metadata.clone(), term);
        tracing::info!(%term, "coordinates the groups");
        slot.send_replace(Some(Arc::clone(&tenure)));
        let committing = tokio::spawn(commits::run(tenure.proposer.clone(), tenure.probe.clone(), queue));
        tenure.lead(&clock_view, &mut status).await;
        slot.send_replace(None);
        // What was proposed gets its outcome from Raft; what was not is refused without effect.
        tenure.commits.close();
        drop(committing);
        tracing::info!(%term, "coordinates the groups no longer");
    }
}

impl Tenure {
    fn begin(node: &Node, probe: GroupProbe, metadata: Replica<Metadata>, term: Term) -> (Arc<Tenure>, commits::Queue) {
        let (commits, queue) = commits::queue();
        let rounds = Rounds::start({
            let metadata = metadata.clone();
            move || Box::pin(confirm(metadata.clone(), term))
        });
        let tenure = Tenure {
            term,
            metadata: metadata.clone(),
            commits,
            promises: Mutex::default(),
            probe,
            clock: Arc::clone(&node.clock),
            proposer: Proposer::new(metadata.clone(), term, Arc::clone(&node.clock)),
            settings: node.settings.groups,
            watched: Mutex::default(),
            woken: Notify::new(),
            rounds,
            confirmed: Mutex::new(None),
        };
        // Ready (M1): the state holds every member that there is, and each has its whole session before it.
        tenure.inherit();
        tenure.observe_all();
        (Arc::new(tenure), queue)
    }

    /// Runs until this broker leads in another term, or in none.
    async fn lead(&self, clock_view: &watch::Receiver<ClockView>, status: &mut watch::Receiver<Status>) {
        let mut flights = FuturesUnordered::new();
        let mut sweeper = Sweeper::default();
        let mut sweeps = interval(limits::SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = limits::DECISIONS_MAX.saturating_sub(flights.len());
            for decision in self.due_decisions(room) {
                flights.push(self.carry_out(decision));
            }
            let next = self.lock().timers.next_due().filter(|_| flights.len() < limits::DECISIONS_MAX);
            tokio::select! {
                biased;
                changed = status.changed() => {
                    let now = status.borrow_and_update().clone();
                    if changed.is_err() || now.stopped || now.term != self.term || !now.leads || !now.ready {
                        return;
                    }
                }
                Some(()) = flights.next() => {}
                () = self.woken.notified() => {}
                _ = sweeps.tick() => {
                    self.observe_all();
                    let clock_agrees = clock_view.borrow().agrees();
                    for command in self.sweep(&mut sweeper, clock_agrees) {
                        flights.push(self.carry_out(Decision { command, timers: Vec::new() }));
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn sweep(&self, sweeper: &mut Sweeper, clock_agrees: bool) -> Vec<GroupCommand> {
        // Another clock than the peers' could take years for days (SAFETY M4).
        let now = clock_agrees.then(|| self.clock.wall());
        let retention_ms = ms_u64(self.settings.offsets_retention);
        sweeper.sweep(&self.metadata, now, retention_ms)
    }

    /// What is due now. Until it is settled it is not due again.
    fn due_decisions(&self, max: usize) -> Vec<Decision> {
        let mut watched = self.lock();
        let due = watched.timers.take_due(Instant::now(), max);
        if due.is_empty() {
            return Vec::new();
        }
        let pending = |name: &GroupName, group: &group::Group| watched.syncs.pending(name, group);
        self.metadata.read(|state| plan::decide(due, |name| state.group(name), pending))
    }

    async fn carry_out(&self, decision: Decision) {
        let Decision { command, timers } = decision;
        let group = timers.first().map(|timer| timer.group.clone());
        let result = self.propose(command.clone(), Instant::now() + limits::TRY_WITHIN).await;
        match &result {
            Ok(Applied { result: Ok(outcome), .. }) => {
                if let GroupOutcome::Expired { members } = outcome {
                    self.probe.members_expired((*members).into());
                }
                tracing::debug!(?command, ?outcome, "decided");
            }
            // What happened in between made it void.
            Ok(Applied { result: Err(refusal), .. }) => tracing::debug!(?command, %refusal, "decision refused"),
            Err(error) => tracing::debug!(?command, ?error, "decision not applied"),
        }
        if let Some(group) = group {
            self.observe(&group);
            let again = Instant::now() + limits::DECISION_RETRY;
            let mut watched = self.lock();
            for timer in timers {
                watched.timers.retry(timer, again);
            }
        }
    }

    /// Proposes in the term of this tenure: see [`Proposer::propose`].
    pub async fn propose(&self, command: GroupCommand, deadline: Instant) -> Result<Applied, NotApplied> {
        self.proposer.propose(command, deadline).await
    }

    /// Brings the group's timers in line with the applied state. To be called after every change of it.
    pub fn observe(&self, group: &GroupName) {
        {
            // Taken first, so that nobody brings in what he read earlier.
            let mut watched = self.lock();
            let delay = self.settings.initial_rebalance_delay;
            self.metadata.read(|state| watched.observe(group, state.group(group), delay));
        }
        self.woken.notify_one();
    }

    /// Topics that come and go change what members hold, and nobody calls [`Tenure::observe`] then.
    fn observe_all(&self) {
        let mut watched = self.lock();
        let delay = self.settings.initial_rebalance_delay;
        let known = watched.timers.groups();
        self.metadata.read(|state| {
            watched.syncs.retain(|name| state.group(name).is_some());
            for name in known.iter().filter(|name| state.group(name).is_none()) {
                watched.observe(name, None, delay);
            }
            for (name, group) in state.groups().iter() {
                watched.observe(name, Some(group), delay);
            }
        });
    }

    /// What an earlier coordinator was told is not known here.
    fn inherit(&self) {
        let mut watched = self.lock();
        self.metadata.read(|state| state.groups().iter().for_each(|(name, group)| watched.syncs.inherit(name, group)));
    }

    /// The member, of this generation, has sent its sync.
    pub fn synced(&self, group: &GroupName, generation: i32, member: &MemberId) {
        self.lock().syncs.note(group, generation, member);
    }

    /// The member was heard of: it has its whole session again.
    pub fn touch(&self, group: &GroupName, member: &MemberId) -> Touched {
        self.lock().timers.touch(Instant::now(), group, member)
    }

    /// Timers that run: about as many as there are members.
    pub fn timer_count(&self) -> usize {
        self.lock().timers.len()
    }

    /// A majority confirmed this term in a round that began no longer ago than `age`.
    pub async fn confirmed_within(&self, age: Duration) -> bool {
        let now = Instant::now();
        let last = *self.confirmed.lock().expect(UNPOISONED);
        let is_recent = last.is_some_and(|began| now.saturating_duration_since(began) < age);
        if is_recent || plant::on(Plant::StaleCoordinator) {
            return true;
        }
        let Some(round) = self.rounds.next().await else { return false };
        let mut confirmed = self.confirmed.lock().expect(UNPOISONED);
        *confirmed = (*confirmed).max(Some(round.began));
        true
    }

    /// A majority confirmed this term just now, and all that was committed before is applied here.
    pub async fn confirmed_now(&self) -> bool {
        self.confirmed_within(Duration::ZERO).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().expect(UNPOISONED)
    }
}

impl Watched {
    fn observe(&mut self, name: &GroupName, group: Option<&group::Group>, initial_delay: Duration) {
        self.syncs.tidy(name, group);
        let wanted = group.map(|group| {
            let awaits_syncs = !self.syncs.pending(name, group).is_empty();
            plan::wanted(group, initial_delay, awaits_syncs)
        });
        self.timers.observe(Instant::now(), name, wanted.unwrap_or_default());
    }
}

/// One ReadIndex round, of this term or none.
async fn confirm(metadata: Replica<Metadata>, term: Term) -> Option<LogIndex> {
    let index = metadata.read_index().await.ok()?;
    let status = metadata.status().borrow().clone();
    (status.leads && status.term == term).then_some(index)
}
