//! Pipelines: what begins when, and which answer comes first.

use super::{
    super::wire::*,
    data::{batch, fetch, produce, values},
    harness::Alone,
};
use crate::broker::tests::rig::until;

#[tokio::test]
async fn a_fetch_that_waits_holds_up_no_produce_behind_it() {
    let alone = Alone::start(1_211).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").unwrap();
    let mut wire = alone.face.connect();
    // Longer than the test may take: only the record that is sent behind it ends the wait.
    let waiting = wire.send(12, &fetch(12, "t", id, 0, 600_000)).await;
    let produced = wire.send(9, &produce(9, "t", id, -1, batch(&["a"]))).await;
    let answer = wire.receive::<FetchRequest>(12, waiting).await;
    assert_eq!(values(answer.responses[0].partitions[0].records.clone().unwrap()), [(0, "a".to_string())]);
    let answer = wire.receive::<ProduceRequest>(9, produced).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn batches_are_appended_in_the_order_in_which_they_are_sent() {
    let alone = Alone::start(1_212).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").unwrap();
    let mut wire = alone.face.connect();
    let mut asked = Vec::new();
    for round in 0..50 {
        asked.push(wire.send(9, &produce(9, "t", id, -1, batch(&[&round.to_string()]))).await);
    }
    for (offset, asked) in asked.into_iter().enumerate() {
        let answer = wire.receive::<ProduceRequest>(9, asked).await;
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, offset as i64);
    }
}

#[tokio::test]
async fn without_acknowledgement_nothing_is_answered_and_a_refusal_ends_the_connection() {
    let alone = Alone::start(1_213).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let broker = alone.broker();
    let id = broker.topic_id("t").unwrap();
    let mut wire = alone.face.connect();
    wire.send(9, &produce(9, "t", id, 0, batch(&["a"]))).await;
    // The next answer is that of the next request that wants one.
    let fetched = wire.ask(12, &fetch(12, "t", id, 0, 60_000)).await;
    assert_eq!(values(fetched.responses[0].partitions[0].records.clone().unwrap()), [(0, "a".to_string())]);
    assert!(wire.is_silent().await);
    wire.send(9, &produce(9, "none", id, 0, batch(&["b"]))).await;
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn what_was_sent_before_a_client_left_is_appended() {
    let alone = Alone::start(1_214).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").unwrap();
    let mut wire = alone.face.connect();
    for value in ["a", "b", "c"] {
        wire.send(9, &produce(9, "t", id, 0, batch(&[value]))).await;
    }
    drop(wire);
    let mut other = alone.face.connect();
    until("all three are there", async || {
        let mut wire = alone.face.connect();
        let answer = wire.ask(12, &fetch(12, "t", id, 0, 0)).await;
        values(answer.responses[0].partitions[0].records.clone().unwrap()).len() == 3
    })
    .await;
    assert!(other.is_silent().await);
}

#[tokio::test]
async fn clients_that_take_no_answers_keep_nobody_from_reading() {
    let alone = Alone::start(1_220).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").unwrap();
    let mut wire = alone.face.connect();
    let large = "x".repeat(400_000);
    for _ in 0..4 {
        wire.ask(9, &produce(9, "t", id, -1, batch(&[&large]))).await;
    }
    let room = alone.broker().answer_room();
    // All the room but what no answer fits into is held by somebody who takes nothing.
    let free = 300_000;
    let closer = std::sync::Arc::default();
    let mut kept = Vec::new();
    while room.try_hold(free, &closer).is_some() {
        kept.push(room.try_hold(free, &closer).expect("there was room"));
    }
    let mut request = fetch(12, "t", id, 0, 0);
    request.max_bytes = 8 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 8 << 20;
    let asked = tokio::time::Instant::now();
    let answer = wire.ask(12, &request).await;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 4), "nothing is wrong, and there are records");
    assert!(partition.records.as_ref().is_none_or(|records| records.is_empty()), "there is no room for one");
    assert!(asked.elapsed() < std::time::Duration::from_secs(10), "a client would take the broker for dead");
    kept.truncate(kept.len() - 2);
    let asked = tokio::time::Instant::now();
    let answer = wire.ask(12, &request).await;
    assert_eq!(values(answer.responses[0].partitions[0].records.clone().unwrap()).len(), 1, "a small answer");
    assert!(asked.elapsed() < std::time::Duration::from_secs(10), "it did not wait for the others");
}
