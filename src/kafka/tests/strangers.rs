//! Bytes that are no requests: answered or refused, never a crash, and others are served meanwhile.

use bytes::Bytes;

use super::{
    super::{apis::ROUTES, codes::Code, wire::*},
    harness::{Alone, frame},
};

/// A request's length, API key, version and correlation id, and what follows.
fn raw(length: i32, key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend(rest);
    bytes
}

async fn is_served(alone: &Alone) -> bool {
    alone.face.connect().ask(0, &ApiVersionsRequest::default()).await.error_code == 0
}

#[tokio::test]
async fn what_is_no_request_ends_its_connection() {
    let alone = Alone::start(1_215).await;
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0x00];
    let strange: [(&str, Vec<u8>); 10] = [
        ("a length of -1", (-1_i32).to_be_bytes().to_vec()),
        ("a length of 0", 0_i32.to_be_bytes().to_vec()),
        ("a length below the head's", 7_i32.to_be_bytes().to_vec()),
        ("the largest length", i32::MAX.to_be_bytes().to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".to_vec()),
        ("TLS", tls_hello.to_vec()),
        ("an unknown API", raw(8, 999, 0, &[])),
        ("a negative API", raw(8, -1, 0, &[])),
        ("an unknown version", raw(8, 3, 99, &[])),
        ("a body that ends early", raw(10, 3, 0, &[0, 0])),
    ];
    for (what, bytes) in strange {
        let mut wire = alone.face.connect();
        wire.write(&bytes).await;
        assert!(wire.is_closed().await, "{what}");
        assert!(is_served(&alone).await, "after {what}");
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let alone = Alone::start(1_216).await;
    for version in [5, 99, -1, i16::MAX] {
        let mut wire = alone.face.connect();
        wire.write(&raw(12, 18, version, &[1, 2, 3, 4])).await;
        let answer = wire.receive::<ApiVersionsRequest>(0, 7).await;
        assert_eq!(answer.error_code, Code::UnsupportedVersion.value(), "version {version}");
        let own: Vec<_> = answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        assert_eq!(own, [(18, 0, 4)]);
        // The connection goes on.
        assert_eq!(wire.ask(3, &versions_request()).await.error_code, 0);
    }
}

fn versions_request() -> ApiVersionsRequest {
    message!(ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1.0".into() })
}

#[tokio::test]
async fn api_versions_tells_the_list_without_tagged_fields() {
    let alone = Alone::start(1_217).await;
    let mut wire = alone.face.connect();
    for version in 0..=4 {
        let request = if version >= 3 { versions_request() } else { ApiVersionsRequest::default() };
        let asked = wire.send(version, &request).await;
        let bytes = wire.frame().await.expect("an answer");
        // Old librdkafka cannot skip tagged fields: the end of an answer says that there are none.
        assert!(version < 3 || bytes.last() == Some(&0));
        assert_eq!(bytes[..4], asked.to_be_bytes());
    }
    let answer = wire.ask(0, &ApiVersionsRequest::default()).await;
    let told: Vec<_> = answer.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect();
    assert_eq!(told, ROUTES.iter().map(|route| (route.key, route.max)).collect::<Vec<_>>());
    let produce = answer.api_keys.iter().find(|api| api.api_key == 0).expect("Produce is served");
    assert_eq!(produce.min_version, 0, "old librdkafka compresses for nobody who does not claim it");
    assert!(told.is_sorted(), "in order of keys, each once");
}

#[tokio::test]
async fn half_a_request_holds_up_nobody() {
    let alone = Alone::start(1_218).await;
    let whole = frame(1, 0, &ApiVersionsRequest::default());
    let mut halves = Vec::new();
    for cut in 1..whole.len() {
        let mut wire = alone.face.connect();
        wire.write(&whole[..cut]).await;
        halves.push((wire, cut));
    }
    assert!(is_served(&alone).await);
    for (mut wire, cut) in halves {
        wire.write(&whole[cut..]).await;
        assert_eq!(wire.receive::<ApiVersionsRequest>(0, 1).await.error_code, 0, "cut after {cut}");
    }
}

/// Every array of every request claims more than there is.
#[tokio::test]
async fn lengths_that_lie_are_not_believed() {
    let alone = Alone::start(1_219).await;
    for route in ROUTES {
        for version in route.min..=route.max {
            for claim in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0x80, 0, 0, 0]] {
                let mut body = vec![0xff, 0xff];
                body.extend(claim.repeat(6));
                let mut wire = alone.face.connect();
                wire.write(&raw(8 + body.len() as i32, route.key, version, &body)).await;
                // Answered or closed: which of the two depends on what the bytes happen to mean.
                let _: Option<Bytes> = wire.frame().await;
            }
        }
    }
    assert!(is_served(&alone).await);
}
