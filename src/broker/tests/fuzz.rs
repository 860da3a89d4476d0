//! Whatever another broker asks, a broker answers, and goes on.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::rig::Cluster;
use crate::{
    broker::{
        Readiness,
        answer::handler,
        peers::calls::{Answer, Call, decode, encode, tests::FROZEN},
    },
    formats::{frozen::literals, fuzz::fuzz},
    metadata::Change,
    raft::CallHandler,
    types::BrokerId,
};

/// How long one call is waited for: what waits longer is dropped, as when its asker is gone.
const CALL_MAX: Duration = Duration::from_millis(20);

/// Whether the call would do what a cluster of one is not there for: more partitions than a test has time for, or brokers
/// that do not exist, for whom everybody would wait.
fn is_out_of_scope(call: &Call) -> bool {
    let Call::Change { change, .. } = call else { return false };
    match change {
        Change::CreateTopic(wish) | Change::CreateTopicOnLive { wish, .. } => wish.partitions > 4,
        Change::AddPartitions(wish) | Change::AddPartitionsOnLive { wish, .. } => wish.partitions > 4,
        Change::RegisterBroker(_) | Change::RegisterBrokerAt { .. } | Change::RegisterBrokerWithKafka { .. } => true,
        Change::Found(_)
        | Change::FoundAt { .. }
        | Change::AlterTopic(_)
        | Change::DeleteTopic(_)
        | Change::AllocateProducerIds(_)
        | Change::ForgetDeleted(_)
        | Change::Group(_)
        | Change::RaiseFeatureLevel(_) => false,
    }
}

async fn ask(handler: &CallHandler, bytes: &[u8]) -> Option<Answer> {
    let asked = handler(BrokerId(9), bytes.to_vec().into());
    let answer = tokio::time::timeout(CALL_MAX, asked).await.ok()?;
    Some(decode(&answer).expect("an answer of ours"))
}

/// Records are taken and calls are answered.
async fn check_alive(cluster: &Cluster, handler: &CallHandler, sequence: i32) {
    assert_eq!(cluster.broker(1).readiness(), Readiness::Ready);
    cluster.produce("alive", sequence).await;
    let mut answers = 0;
    // One that is not led for a moment says so, and is asked again.
    while !matches!(ask(handler, &encode(&Call::Clock)).await, Some(Answer::Clock(_))) {
        answers += 1;
        assert!(answers < 100, "calls are not answered any more");
    }
}

#[test]
fn fuzz_calls_to_a_broker() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let cluster = runtime.block_on(async {
        let cluster = Cluster::start(1, 7).await;
        cluster.create_on("alive", 1, 1).await;
        cluster
    });
    let slot = Arc::new(OnceLock::new());
    slot.set(Arc::downgrade(&cluster.broker(1).parts)).expect("it is empty");
    let handler = handler(slot);
    runtime.block_on(check_alive(&cluster, &handler, 0));
    let calls = literals(FROZEN).into_iter().filter(|(name, _)| name.starts_with("call-"));
    let all = AssertUnwindSafe((&runtime, &handler));
    fuzz!(calls.map(|(_, bytes)| bytes), |bytes| {
        let (runtime, handler) = *all;
        let call = decode::<Call>(bytes);
        if call.as_ref().is_some_and(is_out_of_scope) {
            return;
        }
        let answer = runtime.block_on(ask(handler, bytes));
        assert!(call.is_some() || answer == Some(Answer::Unavailable), "what cannot be read is not done: {answer:?}");
    });
    runtime.block_on(check_alive(&cluster, &handler, 1));
    drop(cluster);
}
