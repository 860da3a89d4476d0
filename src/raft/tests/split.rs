//! A vote that is split, which openraft gets over late where a longer log was seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use openraft::{Vote, raft::VoteResponse};
use tokio::time::timeout;

use super::cluster::{Ballot, Cluster, GROUP, Hearing, WITHIN, replica};

/// Has already voted for itself in the first term that it is asked for its vote in.
fn votes_for_itself_once(id: u64) -> Ballot {
    let has_refused = AtomicBool::new(false);
    Box::new(move |request, pre| {
        (!pre && !has_refused.swap(true, SeqCst)).then(|| {
            let own = Vote::new(request.vote.leader_id().term, replica(id).0);
            VoteResponse::new(own, request.last_log_id, false)
        })
    })
}

/// openraft's own timers stand still here, as they do for two of the longest election timeouts in one that saw a
/// longer log. Whoever may not campaign does not do so again either.
#[tokio::test(flavor = "multi_thread")]
async fn r2_a_candidate_that_nobody_elected_campaigns_again() {
    let mut cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let old = cluster.leader().await;
    let (candidate, rival) = (old % 3 + 1, (old + 1) % 3 + 1);
    for id in [candidate, rival] {
        let node = &cluster.nodes[&id];
        node.group.0.raft.runtime_config().elect(false);
        let mut hosted = node.raft.0.hosted.write();
        let here = hosted.get_mut(&GROUP).unwrap();
        // A kill says no goodbye.
        let rival =
            Hearing { ballot: votes_for_itself_once(id), hears_goodbyes: false, ..Hearing::all(here.member.clone()) };
        here.member = Arc::new(rival);
    }
    cluster.kill(old).await;
    let node = &cluster.nodes[&candidate];
    let mut status = node.group.status();
    node.raft.set_campaign(false);
    node.group.0.raft.trigger().elect(false).await.unwrap();
    // Three of its timeouts.
    let is_early = timeout(Duration::from_secs(3), status.wait_for(|status| status.leads)).await.is_ok();
    assert!(!is_early, "it may not campaign: {:?}", status.borrow());
    node.raft.set_campaign(true);
    let is_elected = timeout(WITHIN, status.wait_for(|status| status.leads)).await.is_ok();
    assert!(is_elected, "it gave up: {:?}", status.borrow());
    cluster.write(2).await;
    assert_eq!(cluster.numbers(candidate), [1, 2]);
}
