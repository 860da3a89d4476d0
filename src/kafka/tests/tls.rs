//! TLS in front of the listener: its connections take any stream, so that none of their code knows of it.

use std::sync::Arc;

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

use super::{
    super::{codes::Code, wire::*},
    data::{batch, fetch, produce, values},
    harness::{Alone, Face, PIPE_BYTES, Wire},
};

const NAME: &str = "kafka-1";

/// A client that trusts the certificate which the broker shows, and nothing else.
async fn connect(face: &Face) -> Wire {
    let made = rcgen::generate_simple_self_signed([NAME.to_string()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let broker = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let broker = broker.with_safe_default_protocol_versions().expect("it has them").with_no_client_auth();
    let broker = broker.with_single_cert(vec![certificate.clone()], key).expect("they belong together");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("it is one");
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().expect("it has them");
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let name = ServerName::try_from(NAME).expect("a name");
    let (theirs, ours) = tokio::join!(
        TlsAcceptor::from(Arc::new(broker)).accept(theirs),
        TlsConnector::from(Arc::new(client)).connect(name, ours),
    );
    face.accept(Box::new(theirs.expect("a handshake")));
    Wire::over(Box::new(ours.expect("a handshake")))
}

#[tokio::test]
async fn requests_are_pipelined_through_tls() {
    let alone = Alone::start(1_250).await;
    alone.cluster.create_on("t", 1, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").expect("it was made");
    let mut wire = connect(&alone.face).await;
    let versions = wire.send(0, &ApiVersionsRequest::default()).await;
    // Longer than what TLS puts into one of its records, and than what the pipe holds.
    let large = "x".repeat(3 * PIPE_BYTES);
    let sent = ["a", &large, "b"];
    let mut produced = Vec::new();
    for value in sent {
        produced.push(wire.send(9, &produce(9, "t", id, -1, batch(&[value]))).await);
    }
    let fetched = wire.send(12, &fetch(12, "t", id, 0, 600_000)).await;
    assert_eq!(wire.receive::<ApiVersionsRequest>(0, versions).await.error_code, Code::None.value());
    for (offset, asked) in produced.into_iter().enumerate() {
        let answer = wire.receive::<ProduceRequest>(9, asked).await;
        let said = &answer.responses[0].partition_responses[0];
        assert_eq!((said.error_code, said.base_offset), (0, offset as i64));
    }
    // What had not been committed when the Fetch began comes with the next one.
    let first = wire.receive::<FetchRequest>(12, fetched).await;
    assert_eq!(first.responses[0].partitions[0].error_code, Code::None.value());
    let all = wire.ask(12, &fetch(12, "t", id, 0, 0)).await;
    let found = values(all.responses[0].partitions[0].records.clone().expect("records"));
    assert_eq!(found, sent.iter().enumerate().map(|(at, value)| (at as i64, value.to_string())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_that_is_cut_off_holds_up_nobody() {
    let alone = Alone::start(1_251).await;
    let mut good = connect(&alone.face).await;
    let mut cut = connect(&alone.face).await;
    cut.send(0, &ApiVersionsRequest::default()).await;
    // Without TLS's goodbye.
    drop(cut);
    assert_eq!(good.ask(0, &ApiVersionsRequest::default()).await.error_code, 0);
}
