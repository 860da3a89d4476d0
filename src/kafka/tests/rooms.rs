//! What a client holds of the node's room: while its request waits, and while it does not take its answer.

use std::time::Duration;

use super::{
    super::wire::*,
    harness::{Alone, Face, PIPE_BYTES},
};
use crate::{
    broker::tests::rig::{Cluster, until},
    group::limits::{CLASSIC_MEMBER_BYTES_MAX, OFFSET_METADATA_BYTES_MAX},
};

/// At what they may become on arrival, half of these would fill the room of all requests.
#[tokio::test]
async fn joins_that_wait_leave_room_for_others() {
    let mut cluster = Cluster::unstarted(1, 1_260).await;
    // Each waits as the first of its group, longer than the test may take.
    cluster.groups.initial_rebalance_delay = Duration::from_secs(600);
    cluster.run_all().await;
    let node = &cluster.nodes[&1];
    let face = Face::of(&node.broker, node.metrics.clone());
    let metadata = bytes::Bytes::from(vec![0; CLASSIC_MEMBER_BYTES_MAX - 1_024]);
    let mut waiting = Vec::new();
    for number in 0..40 {
        let protocol =
            message!(join_group_request::JoinGroupRequestProtocol { name: "p".into(), metadata: metadata.clone() });
        let join = message!(JoinGroupRequest {
            group_id: format!("g-{number}").into(),
            session_timeout_ms: 60_000,
            protocol_type: "t".into(),
            protocols: vec![protocol],
        });
        let mut wire = face.connect();
        wire.send(0, &join).await;
        waiting.push(wire);
    }
    let answer = face.connect().ask(9, &message!(MetadataRequest { topics: Some(vec![]) })).await;
    assert_eq!(answer.brokers.len(), 1);
    for wire in waiting.iter_mut().step_by(39) {
        assert!(wire.is_silent().await, "it waits for its group");
    }
}

#[tokio::test]
async fn a_large_answer_counts_until_it_is_taken() {
    let alone = Alone::start(1_261).await;
    alone.cluster.create_on("t", 1, 1).await;
    let mut wire = alone.face.connect();
    let partition = message!(offset_commit_request::OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 1,
        committed_metadata: Some("x".repeat(OFFSET_METADATA_BYTES_MAX).into()),
    });
    let topic =
        message!(offset_commit_request::OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] });
    let commit = message!(OffsetCommitRequest { group_id: "g".into(), topics: vec![topic] });
    assert_eq!(wire.ask(8, &commit).await.topics[0].partitions[0].error_code, 0);
    let named = vec![0; 2 * PIPE_BYTES / OFFSET_METADATA_BYTES_MAX];
    let topic =
        message!(offset_fetch_request::OffsetFetchRequestTopic { name: "t".into(), partition_indexes: named.clone() });
    let fetch = message!(OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]) });
    let room = alone.broker().answer_room();
    assert_eq!(room.bytes_in_use(), 0, "small answers do not count");
    let asked = wire.send(7, &fetch).await;
    // The pipe takes half of it.
    until("it counts", async || room.bytes_in_use() > 2 * PIPE_BYTES).await;
    let answer = wire.receive::<OffsetFetchRequest>(7, asked).await;
    assert_eq!(answer.topics[0].partitions.len(), named.len());
    until("it counts no longer", async || room.bytes_in_use() == 0).await;
}
