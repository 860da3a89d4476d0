//! What is believed, and what a call without an answer did.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ClientError, Cluster, Effect, ErrorCode, World,
    fake::Fake,
    net::{cluster_client, unary},
};
use crate::{
    proto::v1,
    seam::{Listener, Net, NetFuture, Stream, TcpNet},
};

/// Nothing here needs so long.
const LONG: Duration = Duration::from_secs(30);
/// A person takes what comes within this time for immediate.
const SOON: Duration = Duration::from_secs(3);

fn unknown_topic() -> ClientError {
    ClientError::from_wire(v1::Error {
        code: ErrorCode::UnknownTopic.into(),
        effect: v1::Effect::None.into(),
        retriable: true,
        ..Default::default()
    })
}

async fn cluster() -> Cluster {
    let fake = Fake::start(3, 1, 1).await;
    Cluster::new(fake.lock().addresses.clone()).expect("addresses are good")
}

/// Groups 10: a typo in a name took the whole deadline.
#[tokio::test]
async fn a_name_that_brokers_deny_is_believed_not_to_exist_soon() {
    let cluster = cluster().await;
    let began = Instant::now();
    let asked = AtomicUsize::new(0);
    let deny = |_, _| {
        asked.fetch_add(1, Relaxed);
        async { Err::<(), _>(unknown_topic()) }
    };
    let described = cluster.ask("describe", LONG, deny).await;
    assert_eq!(described.expect_err("denied").code(), Some(ErrorCode::UnknownTopic));
    let deleted = cluster.change("delete", LONG, deny).await;
    assert_eq!(deleted.expect_err("denied").code(), Some(ErrorCode::UnknownTopic));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // One broker may not know what exists, and neither may any of them at some moment.
    assert_eq!(asked.load(Relaxed), 2 * 2 * 3, "two brokers, three rounds, twice");
}

#[tokio::test]
async fn a_broker_that_just_started_is_not_believed() {
    let cluster = cluster().await;
    for denials in [1, 3] {
        let asked = AtomicUsize::new(0);
        let know_later = |_, _| {
            let denied = asked.fetch_add(1, Relaxed) < denials;
            async move { if denied { Err(unknown_topic()) } else { Ok(()) } }
        };
        cluster.change("alter", LONG, know_later).await.expect("the next one knows it");
    }
    // Leaders of partitions do not look for what they do not know: they are asked for as long as there is time.
    let asked = AtomicUsize::new(0);
    let know_much_later = |_, _| {
        let denied = asked.fetch_add(1, Relaxed) < 20;
        async move { if denied { Err(unknown_topic()) } else { Ok(()) } }
    };
    cluster.ask_leader("list offset", LONG, know_much_later).await.expect("it has become known");
}

/// Accepts no connection, and refuses none.
struct Hanging;

impl Net for Hanging {
    fn connect<'a>(&'a self, _: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(std::future::pending())
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        TcpNet.bind(address)
    }
}

async fn pending_call(address: String, channel: tonic::transport::Channel) -> Result<(), ClientError> {
    unary(&address, cluster_client(channel).get_metadata(v1::GetMetadataRequest::default())).await?;
    std::future::pending().await
}

/// Seen once: nothing was sent, and yet the outcome was called unknown.
#[tokio::test]
async fn a_call_that_reached_nobody_had_no_effect() {
    let world = World { net: Arc::new(Hanging), ..World::system() };
    let cluster = Cluster::with_world(vec!["nowhere:7070".into()], world).expect("an address");
    for within in [300, 2_500].map(Duration::from_millis) {
        let error = cluster.change("create", within, pending_call).await.expect_err("nobody is there");
        assert_eq!(error.effect(), Effect::Nothing, "{error}");
    }
}

#[tokio::test]
async fn a_call_that_somebody_has_may_have_had_an_effect() {
    let cluster = cluster().await;
    let error = cluster.change("create", Duration::from_millis(500), pending_call).await.expect_err("no answer");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    // What only asks has none, whatever became of it.
    let error = cluster.ask("describe", Duration::from_millis(500), pending_call).await.expect_err("no answer");
    assert_eq!(error.effect(), Effect::Nothing, "{error}");
}
