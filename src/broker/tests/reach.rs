//! What a broker says that its peers cannot reach, and how long it keeps people waiting.

use std::time::Duration;

use tokio::time::Instant;

use super::rig::{Cluster, try_produce, until};
use crate::broker::{Caller, CreateTopicRequest, Effect, ProduceError, TopicsWanted};

/// Until it is noticed that links are dead; a client is to find the real leaders within two seconds.
const NOTICED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_broker_that_is_cut_off_says_so_and_keeps_nobody_waiting() {
    let cluster = Cluster::start(3, 950).await;
    cluster.create("t", 1).await;
    until("a leader", || async { cluster.leader("t").await.is_some() }).await;
    let leader = cluster.led_by("t").await;
    let other = leader % 3 + 1;
    let is_stale =
        async |id| cluster.broker(id).cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await.routes_stale;
    assert!(!is_stale(leader).await && !is_stale(other).await);

    cluster.cuts.isolate(leader, 1..=3);
    let began = Instant::now();
    until("it says so", || is_stale(leader)).await;
    assert!(began.elapsed() < NOTICED, "{:?}", began.elapsed());
    until("the others agree on their leaders", || async { !is_stale(other).await }).await;

    // What it takes while it has its lease has an unknown outcome; what comes later it refuses, and soon.
    let broker = cluster.broker(leader);
    let refused = |error: &ProduceError| matches!(error, ProduceError::NotEnoughReplicas { .. });
    let next = match try_produce(&broker, "t", 0).await {
        Err(error) if refused(&error) => 0,
        Ok(_) | Err(_) => 1,
    };
    let is_refused = || async { try_produce(&broker, "t", next).await.is_err_and(|error| refused(&error)) };
    until("the lease is over", is_refused).await;
    let began = Instant::now();
    let error = try_produce(&broker, "t", next).await.expect_err("it has no majority");
    assert!(refused(&error), "{error}");
    assert!(began.elapsed() < NOTICED / 2, "{:?}", began.elapsed());

    let began = Instant::now();
    let (name, timeout) = ("u".into(), Duration::from_secs(20));
    let wish = CreateTopicRequest { name, timeout, ..CreateTopicRequest::default() };
    let error = broker.create_topic(&Caller::ANONYMOUS, wish).await.expect_err("it has no metadata leader");
    assert_eq!(error.effect(), Effect::None, "{error}");
    assert!(began.elapsed() < 2 * NOTICED, "{:?}", began.elapsed());

    cluster.cuts.mend();
    until("all is well", || async { !is_stale(leader).await }).await;
}
