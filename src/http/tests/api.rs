//! The API's JSON is an interface: each shape is frozen here. Where the CLI prints the same, the
//! black-box test `console` holds both together.

use bytes::Bytes;
use serde_json::json;

use super::{fake::Fake, server};
use crate::{
    record::{Codec, Record},
    types::WallMs,
};

#[tokio::test]
async fn health_and_nodes_are_frozen() {
    let server = server(Fake::with(|state| state.problems = vec!["broker 3 does not answer".into()])).await;
    let want = json!({
        "healthy": false, "problems": ["broker 3 does not answer"],
        "notes": ["retention is about to delete unread records"], "brokers_alive": 2, "brokers": 3, "partitions": 2,
        "partitions_without_leader": 0, "partitions_under_replicated": 1, "feature_level": 1,
        "feature_level_supported": 2,
    });
    assert_eq!(server.json("/api/v1/health").await, want);
    let nodes = server.json("/api/v1/nodes").await;
    assert_eq!(nodes["cluster_id"], "00000000000000000000000000000abc");
    assert_eq!(nodes["metadata_leader"], 2);
    let want = json!({
        "id": 1, "alive": true, "metadata_voter": true, "client": "n1:7070", "peer": "n1:7071", "http": "n1:7080",
        "kafka": "n1:9092", "rack": "r1", "version": "0.1.0",
    });
    assert_eq!((&nodes["brokers"][0], nodes["brokers"].as_array().map(Vec::len)), (&want, Some(3)));
}

#[tokio::test]
async fn topics_are_frozen() {
    let server = server(Fake::new()).await;
    let topic = |name| json!({"name": name, "partitions": 2, "replication_factor": 2});
    assert_eq!(server.json("/api/v1/topics").await, json!({"topics": [topic("clicks"), topic("orders")]}));
    let want = json!({"name": "orders", "partitions": [
        {"partition": 0, "leader": 2, "epoch": 3, "replicas": [2, 1], "log_start": 0, "high_watermark": 0, "bytes": 1536},
        {"partition": 1, "leader": 0, "epoch": 0, "replicas": [2, 1], "log_start": -1, "high_watermark": -1, "bytes": -1},
    ], "configs": {"retention.ms": "604800000"}, "notes": []});
    assert_eq!(server.json("/api/v1/topic?name=orders").await, want);
    let want = json!({"name": "orders", "configs": {"retention.ms": "604800000"}});
    assert_eq!(server.json("/api/v1/configs?name=orders").await, want);
}

#[tokio::test]
async fn groups_are_frozen() {
    let server = server(Fake::new()).await;
    let want = json!({"groups": [{"group": "billing", "state": "stable", "protocol": "flotilla", "members": 1}]});
    assert_eq!(server.json("/api/v1/groups").await, want);
    let want = json!({
        "group": "billing", "state": "stable", "protocol": "flotilla", "epoch": 6, "assignor": "sticky",
        "coordinator": 1,
        "members": [{
            "member": "m-1", "instance": null, "client_id": "app", "host": "127.0.0.1", "topics": ["orders"],
            "pattern": null, "assigned": {"orders": [0]}, "revoking": {},
        }],
        "partitions": [
            {"topic": "orders", "partition": 0, "member": "m-1", "committed": 4, "metadata": "m", "log_start": 0,
             "high_watermark": 9, "lag": 5, "lag_seconds": 90.5, "retention_threatens": true},
            {"topic": "orders", "partition": 1, "member": null, "committed": null, "metadata": "", "log_start": null,
             "high_watermark": null, "lag": null, "lag_seconds": null, "retention_threatens": false},
        ],
    });
    assert_eq!(server.json("/api/v1/group?name=billing").await, want);
}

#[tokio::test]
async fn records_are_frozen() {
    let fake = Fake::new();
    let text = Record {
        key: Some("k".into()),
        value: Some("v".into()),
        headers: vec![("h".into(), Some("x".into())), ("n".into(), None)],
        timestamp: WallMs(5),
    };
    let binary = Record { key: None, value: Some(Bytes::from_static(b"\xff\0")), ..Record::default() };
    fake.append(Codec::Zstd, &[text, binary]);
    let server = server(fake).await;
    let want = json!({
        "topic": "orders", "partition": 1, "leader": 2, "log_start": 0, "high_watermark": 2, "offset": 0,
        "next_offset": 2,
        "records": [
            {"topic": "orders", "partition": 1, "offset": 0, "timestamp": 5, "key": "k", "value": "v",
             "headers": [["h", "x"], ["n", null]]},
            {"topic": "orders", "partition": 1, "offset": 1, "timestamp": 0, "key": null, "value_base64": "/wA="},
        ],
    });
    assert_eq!(server.json("/api/v1/records?topic=orders&partition=1&from=start").await, want);
    let one = server.json("/api/v1/records?topic=orders&partition=1&offset=1&limit=1").await;
    assert_eq!((&one["records"][0], &one["next_offset"]), (&want["records"][1], &json!(2)));
}

#[tokio::test]
async fn history_is_frozen() {
    let server = server(Fake::new()).await;
    let sample = json!({
        "at": 1764000000000i64, "produced_bytes_per_s": 2048.0, "produced_records_per_s": 20.0,
        "consumed_bytes_per_s": 1024.0, "consumed_records_per_s": 10.0, "produce_p99_ms": 4.0, "write_p50_ms": 1.0,
        "write_p99_ms": null,
    });
    let want = json!({"broker": 2, "interval_s": 5, "samples": [sample]});
    assert_eq!(server.json("/api/v1/history?node=2").await, want);
}

#[tokio::test]
async fn kafka_clients_are_frozen() {
    let server = server(Fake::new()).await;
    let want = json!({
        "broker": 2, "connections": 9, "fetch_sessions": 4, "fetch_session_partitions": 1000,
        "software": [
            {"software": "librdkafka 2.15.0", "connections": 6},
            {"software": "(others)", "connections": 1},
        ],
        "requests": [
            {"api": "Fetch", "version": 12, "requests": 70000},
            {"api": "Fetch", "version": 17, "requests": 5},
        ],
    });
    assert_eq!(server.json("/api/v1/kafka?node=2").await, want);
}

#[tokio::test]
async fn problems_have_a_status_and_a_sentence() {
    let server = server(Fake::new()).await;
    for (path, status, named) in [
        ("/api/v1/topic?name=gone", 404, "gone"),
        ("/api/v1/topic", 400, "name"),
        ("/api/v1/group?name=gone", 404, "gone"),
        ("/api/v1/records?topic=orders&offset=7", 400, "offset 7"),
        ("/api/v1/records?topic=orders&offset=x", 400, "offset"),
        ("/api/v1/records", 400, "topic"),
        ("/api/v1/history?node=3", 503, "broker 3"),
        ("/api/v1/history?node=x", 400, "node"),
        ("/api/v1/kafka?node=3", 503, "broker 3"),
        ("/api/v1/kafka?node=x", 400, "node"),
        ("/api/v1/nothing", 404, "records"),
        ("/api/v2/health", 404, "health"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let error: serde_json::Value = serde_json::from_str(&answer.body).expect(path);
        assert!(error["error"].as_str().is_some_and(|text| text.contains(named)), "{path}: {error}");
    }
}
