//! Whole servers in this process, as the command line and a program of its own assemble them.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    config::{KafkaConfig, ListenerConfig, ServerArgs},
    metadata::PARTITIONS_PER_TOPIC_MAX,
    storage::StoreError,
    types::BrokerId,
};

/// As long as a cluster of one may take to form beside all the other tests.
const PATIENCE: Duration = Duration::from_secs(30);

async fn refused(config: &ServerConfig) -> ServerFailed {
    let descriptors = Descriptors::share(1_024).unwrap();
    Server::start(config, descriptors, &LifeSigns::default()).await.err().expect("it must not start")
}

/// Seen once: a data directory was created and preallocated before the address was tried.
#[tokio::test]
async fn s4_what_the_settings_make_impossible_leaves_no_data_directory_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let valid = config(&dir.path().join("data"));
    let with_http = |bind: String| {
        let mut config = valid.clone();
        config.http.bind = bind;
        config
    };
    for bind in [
        taken.local_addr().unwrap().to_string(),
        // TEST-NET-1 is nobody's.
        "192.0.2.1:0".into(),
        "127.0.0.1:99999".into(),
    ] {
        let config = with_http(bind.clone());
        let failed = refused(&config).await;
        assert!(
            matches!(&failed, ServerFailed::Bind { key: "http_bind", address, .. } if *address == bind),
            "{failed:?}"
        );
        assert!(!config.data_dir.exists(), "{failed:?}");
    }
    let mut kafka = valid.clone();
    kafka.kafka.listener = Some(ListenerConfig { bind: taken.local_addr().unwrap().to_string(), advertised: None });
    let failed = refused(&kafka).await;
    assert!(matches!(&failed, ServerFailed::Bind { key: "kafka_bind", .. }), "{failed:?}");
    assert!(!kafka.data_dir.exists(), "{failed:?}");
    let alone = ServerConfig { single: Switch::Off, ..valid };
    let failed = refused(&alone).await;
    assert!(matches!(failed, ServerFailed::Alone { .. }) && failed.to_string().contains("--single"), "{failed:?}");
    assert!(!alone.data_dir.exists());
}

/// One number under two names: the configuration stands below the metadata, whose rule it is.
#[test]
fn a_topic_made_for_a_kafka_client_may_have_as_many_partitions_as_any() {
    let of = |partitions: i32| ServerArgs { auto_create_partitions: u32::try_from(partitions).ok(), ..args() }.load();
    assert!(of(PARTITIONS_PER_TOPIC_MAX).is_ok() && of(PARTITIONS_PER_TOPIC_MAX + 1).is_err());
}

fn args() -> ServerArgs {
    ServerArgs {
        id: Some(1),
        data_dir: Some("d".into()),
        peers: Some(vec!["1@127.0.0.1:1".into()]),
        single: Some(Switch::On),
        ..ServerArgs::default()
    }
}

fn config(data_dir: &Path) -> ServerConfig {
    let any = || ListenerConfig { bind: "127.0.0.1:0".into(), advertised: None };
    let peers = "1@127.0.0.1:1".parse().expect("a peer");
    let args = ServerArgs { data_dir: Some(data_dir.into()), ..args() };
    let config = args.load().expect("valid").config;
    let kafka = KafkaConfig { listener: Some(any()), ..config.kafka.clone() };
    ServerConfig { client: any(), peer: any(), http: any(), kafka, peers: vec![peers], ..config }
}

async fn starts_and_stops(config: &ServerConfig) {
    let descriptors = Descriptors::share(1_024).unwrap();
    let mut server = Server::start(config, descriptors, &LifeSigns::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, server.ready()).await.expect("ready in time");
    let failed = refused(config).await;
    assert!(matches!(&failed, ServerFailed::Directory { cause: StoreError::InUse { .. }, .. }), "{failed:?}");
    server.stop().await;
    assert!(matches!(server.broker().readiness(), Readiness::NotReady(_)));
}

/// Twice on one directory: the first leaves it free and whole.
#[test]
fn one_broker_forms_its_cluster_stops_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let in_its_runtime = |what: &dyn Fn(&tokio::runtime::Runtime)| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        what(&runtime);
        runtime.shutdown_timeout(PATIENCE);
    };
    for _ in 0..2 {
        in_its_runtime(&|runtime| runtime.block_on(starts_and_stops(&config)));
    }
    // The directory is broker 1's.
    let other = ServerConfig { id: BrokerId(2), ..config };
    in_its_runtime(&|runtime| {
        let failed = runtime.block_on(refused(&other));
        assert!(
            matches!(failed, ServerFailed::Broker(_)) && failed.to_string().contains("belongs to broker 1"),
            "{failed:?}"
        );
    });
}

/// Key 18, version 0, correlation 7, no client id: which APIs there are.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn kafka_clients_are_told_where_the_listener_is_and_answered_there() {
    let dir = tempfile::tempdir().unwrap();
    let descriptors = Descriptors::share(1_024).unwrap();
    let mut server = Server::start(&config(dir.path()), descriptors, &LifeSigns::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, server.ready()).await.expect("ready in time");
    let address = server.addresses().kafka.clone().expect("it listens");
    let known = server.broker().broker(BrokerId(1)).expect("it is registered");
    assert_eq!(known.kafka_address, address);
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(&API_VERSIONS).await.unwrap();
    let mut answer = [0; 10];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("answered in time").unwrap();
    assert_eq!(answer[4..], [0, 0, 0, 7, 0, 0], "the request's number, and no error");
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_an_address_for_kafka_clients_there_is_no_listener() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.kafka.listener = None;
    let descriptors = Descriptors::share(1_024).unwrap();
    let mut server = Server::start(&config, descriptors, &LifeSigns::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, server.ready()).await.expect("ready in time");
    assert_eq!(server.addresses().kafka, None);
    assert_eq!(server.broker().broker(BrokerId(1)).map(|known| known.kafka_address), Some(String::new()));
    server.stop().await;
}

/// Whoever asks a server that must not go on to stop all the same is not punished for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_that_ended_is_told_and_the_rest_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let descriptors = Descriptors::share(1_024).unwrap();
    let mut server = Server::start(&config(dir.path()), descriptors, &LifeSigns::default()).await.unwrap();
    server.faces.close().await;
    let failed = tokio::time::timeout(PATIENCE, server.failed()).await.expect("it is noticed");
    assert!(matches!(failed, ServerFailed::Listener { cause: None, .. }), "{failed:?}");
    server.stop().await;
}
