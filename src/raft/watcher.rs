//! Watches one group's openraft metrics: publishes its status, proves leader-readiness, announces
//! it, has a candidate that was not elected campaign again, and purges what the state machine has let go.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::{ServerState, async_runtime::WatchReceiver};
use tokio::time::timeout;

use super::{
    Replica,
    again::election_timeout,
    hosted::HostedReplicas,
    running::RunningReplica,
    status::{Leader, Status},
    types::position,
    wire::Announced,
};
use crate::{
    replicated::{Replicated, SnapshotAt},
    seam::plant::{self, Plant},
    types::{EntryPosition, ReplicaId, Term},
};

/// A new leader that no majority confirms yet asks again this soon.
const READY_RETRY: Duration = Duration::from_millis(10);
/// How often leaders look whether a majority still answers them.
const QUORUM_CHECK_EVERY: Duration = Duration::from_millis(250);
/// A purge that was refused is tried again this soon.
const PURGE_RETRY: Duration = Duration::from_millis(100);
/// A snapshot that is not there after this long is asked for again.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(10);

/// Publishes the status of a group until it stops.
pub(super) async fn watch_status<S: Replicated>(group: Arc<RunningReplica<S>>) {
    // Not `metrics()`, which changes with every entry: this changes with terms, leaders and members.
    let mut metrics = group.raft.server_metrics();
    // The last term stood for election in, and whether this replica was ready: for the counters.
    let mut last = (Term(0), false);
    loop {
        let (seen, candidate) = {
            let now = metrics.borrow_watched();
            let term = Term(now.vote.leader_id().term);
            let broker = |id: u64| now.membership_config.membership().get_node(&id).map(|peer| peer.broker);
            // A leader is known in the vote's term only; its replica must be a member to have a broker.
            let leader = now
                .current_leader
                .and_then(|id| broker(id).map(|broker| Leader { term, replica: ReplicaId(id), broker }));
            let leads = now.state == ServerState::Leader;
            let seen = Status { term, leader, leads, ..Status::default() };
            (seen, now.state == ServerState::Candidate)
        };
        group.status.send_if_modified(|status| {
            if status.stopped {
                return false; // It was told to, and its core goes on for a moment.
            }
            let same = seen.leads && status.term == seen.term;
            let (ready, without_quorum) = (status.ready && same, status.without_quorum && same);
            status.become_next(Status { ready, without_quorum, ..seen.clone() })
        });
        let status = group.status.borrow().clone();
        if candidate && last.0 != status.term {
            group.ground.probe.election_started();
        }
        if last.1 && !status.ready {
            group.ground.probe.leadership_lost();
        }
        last = (if candidate { status.term } else { last.0 }, status.ready);
        if status.stopped {
            return;
        }
        if status.leads && !status.ready {
            become_ready(&group, status.term).await;
        }
        let changed = if status.leads && !status.ready {
            // Whatever came of it, look again; a failed try waits a little.
            timeout(READY_RETRY, metrics.changed()).await.unwrap_or(Ok(()))
        } else if candidate {
            match timeout(election_timeout(&group.ground), metrics.changed()).await {
                Ok(changed) => changed,
                Err(_) => {
                    Replica(group.clone()).campaign_again().await;
                    Ok(())
                }
            }
        } else {
            metrics.changed().await
        };
        if changed.is_err() {
            return note_end(&group);
        }
    }
}

/// The core has ended.
fn note_end<S: Replicated>(group: &RunningReplica<S>) {
    let failure = failure(group);
    if let Some(reason) = &failure {
        tracing::error!(group = %group.spec.group, reason = &**reason, "a replica has stopped");
    }
    group.status.send_if_modified(|status| {
        status.become_next(Status { stopped: true, failure, ..Status::default() });
        true
    });
}

/// Why the core ended, unless it was told to.
fn failure<S: Replicated>(group: &RunningReplica<S>) -> Option<Arc<str>> {
    if group.closing.load(Ordering::Acquire) {
        return None;
    }
    match &group.raft.metrics().borrow_watched().running_state {
        Ok(()) => Some("its core ended without a reason: an error of ours".into()),
        Err(fatal) => Some(fatal.to_string().into()),
    }
}

/// Looks at every leader here a few times a second (SAFETY M7). Until the node stops.
pub(super) async fn watch_quorums(hosted: Arc<HostedReplicas>) {
    loop {
        tokio::time::sleep(QUORUM_CHECK_EVERY).await;
        for member in hosted.members() {
            member.check_quorum();
        }
    }
}

/// SAFETY M1: one ReadIndex round in the term proves that our blank entry of it is committed, and
/// waits until it is applied: from then on the state holds everything that may be committed.
async fn become_ready<S: Replicated>(group: &Arc<RunningReplica<S>>, term: Term) {
    if !plant::on(Plant::ReadyWhenElected) && Replica(group.clone()).read_index().await.is_err() {
        return;
    }
    let still = {
        let metrics = group.raft.metrics();
        let now = metrics.borrow_watched();
        now.state == ServerState::Leader && now.current_term == term.0
    };
    if !still {
        return;
    }
    let became = group.status.send_if_modified(|status| {
        let becomes = status.leads && status.term == term && !status.ready;
        becomes && status.become_next(Status { ready: true, ..status.clone() })
    });
    if became {
        group.ground.probe.leadership_won();
        tracing::info!(group = %group.spec.group, %term, "leads");
        group.links.announce(Announced { group: group.spec.group, term, replica: group.spec.replica });
    }
}

/// Purges up to the state machine's purge point, or what was released beyond it, whenever one moves. A task of its own: a call into
/// the Raft core from its state machine could deadlock on the channels between them (SAFETY M5).
pub(super) async fn purge_as_allowed<S: Replicated>(group: Arc<RunningReplica<S>>) {
    if S::SNAPSHOT_AT == SnapshotAt::LastApplied {
        return; // openraft's own snapshot policy does it.
    }
    let (mut points, mut released) = (group.shared.purge_point.subscribe(), group.shared.released());
    loop {
        let point = (*points.borrow_and_update()).max(*released.borrow_and_update());
        if let Some(point) = point {
            while group.log.purged() < Some(point) {
                if let Err(reason) = purge(&group, point).await {
                    if group.status.borrow().stopped {
                        return;
                    }
                    tracing::warn!(group = %group.spec.group, %point, reason, "purge is late");
                    // A core that has ended refuses at once, until the watcher has noticed.
                    tokio::time::sleep(PURGE_RETRY).await;
                }
            }
        }
        let changed = tokio::select! {
            changed = points.changed() => changed,
            changed = released.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn purge<S: Replicated>(group: &Arc<RunningReplica<S>>, point: EntryPosition) -> Result<(), String> {
    let mut metrics = group.raft.metrics();
    group.raft.trigger().snapshot().await.map_err(|e| e.to_string())?;
    let there = async {
        while metrics.borrow_watched().snapshot.as_ref().map(position) < Some(point) {
            metrics.changed().await.map_err(|e| e.to_string())?;
        }
        Ok::<(), String>(())
    };
    timeout(SNAPSHOT_WITHIN, there).await.map_err(|_| "no snapshot yet")??;
    group.raft.trigger().purge_log(point.index.0).await.map_err(|e| e.to_string())?;
    let gone = async {
        while metrics.borrow_watched().purged.as_ref().map(position) < Some(point) {
            metrics.changed().await.map_err(|e| e.to_string())?;
        }
        Ok::<(), String>(())
    };
    // A replication stream may have the range in use; its deadlines bound the wait.
    timeout(SNAPSHOT_WITHIN, gone).await.map_err(|_| "entries are still in use")??;
    group.log.delete_checkpoints_below(point.index);
    group.log.delete_points_below(group.shared.read(S::index_floor));
    Ok(())
}

#[cfg(test)]
impl<S: Replicated> Replica<S> {
    /// Purges all that is applied, as the snapshot policy would thousands of entries later. Up to where.
    pub async fn purge_now(&self) -> crate::types::LogIndex {
        let applied = self.0.raft.metrics().borrow_watched().last_applied.as_ref().map(position);
        let applied = applied.expect("something is applied");
        while let Err(reason) = purge(&self.0, applied).await {
            tracing::info!(reason, "not purged yet");
        }
        applied.index
    }
}
