//! Connections, one set per cluster: channels to brokers, what is known of the cluster, and in which order brokers
//! are worth asking. How they are asked is in `asking`.
//!
//! Promises: every connect and every call is bounded in time. Leaves out: what calls mean.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::error::{ClientError, LeaderHint};
use super::metadata::Metadata;
use crate::{
    proto::v1,
    seam::{Clock, Net, Rng, SystemClock, TcpNet},
    types::{PartitionId, WallMs},
};

/// A broker on the same continent answers a SYN in a fraction of this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A ping is sent every second, and given up three seconds later: a frozen broker's streams break by themselves. Moving
/// to another leader does not wait for it; see `producer::driver`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one answer of one broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A broker that said that it is cut off is asked last for this long.
const CUT_OFF_FOR: Duration = Duration::from_secs(5);
/// The flow-control window of a stream: what a fast broker may send before the application read it.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The largest message taken: an answer of `bytes_max` <= 8 MiB, or one batch of 8 MiB, and its frame.
pub(super) const MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// An answer about groups: all groups of a cluster together, with their offsets, take at most 64 MiB in it.
const GROUPS_ANSWER_BYTES_MAX: usize = 80 * 1024 * 1024;
/// How many streams one connection carries. A broker allows 1,024; the next one would wait for one of them to end.
const STREAMS_PER_LANE_MAX: usize = 1000;
/// How many batches that decode to much are decoded at once, for all readers of a cluster's client: each takes up to 64
/// MiB.
const LARGE_BATCHES_MAX: usize = 2;
/// How many channels are kept. A cluster has a few dozen brokers; addresses that changed are dropped at this bound.
const CHANNELS_MAX: usize = 1024;

/// The world as the client sees it: tests give it another one.
#[derive(Clone)]
pub struct World {
    /// How connections are made.
    pub net: Arc<dyn Net>,
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub rng: Arc<Rng>,
}

impl World {
    /// Returns the real world.
    pub fn system() -> World {
        World { net: Arc::new(TcpNet), clock: Arc::new(SystemClock), rng: Arc::new(Rng::from_system()) }
    }
}

/// A cluster that clients are opened on. Its clones share connections, and what is known of brokers and leaders.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    /// Connections for streams of records: who takes them slowly fills the connection's window, and must not
    /// hold up answers to calls, or heartbeats.
    lanes: Arc<Mutex<HashMap<String, Vec<Lane>>>>,
}

/// A connection, and as many clones of the marker as it has streams.
struct Lane {
    channel: Channel,
    streams: Arc<()>,
}

/// A stream's place on its connection, kept as long as the stream.
#[derive(Debug)]
pub(super) struct StreamPlace(#[expect(dead_code, reason = "held to be counted")] Arc<()>);

struct Inner {
    world: World,
    bootstrap: Vec<String>,
    /// The channel to each address, with whether it was ever connected.
    channels: Mutex<HashMap<String, (Channel, Arc<AtomicBool>)>>,
    metadata: Mutex<Metadata>,
    /// Brokers that said, and when, that they are cut off from the others.
    cut_off: Mutex<HashMap<String, Instant>>,
    /// Counts refreshes: each begins with another broker.
    turn: AtomicUsize,
    /// When metadata was last asked for; the lock makes concurrent refreshes one.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    /// The turns that batches which decode to much wait for.
    large_batches: Arc<Semaphore>,
}

impl Cluster {
    /// Knows the cluster by `bootstrap`, the client addresses (host:port) of some brokers; the others are learned.
    /// Connects to nothing yet.
    pub fn new(bootstrap: Vec<String>) -> Result<Cluster, ClientError> {
        Cluster::with_world(bootstrap, World::system())
    }

    /// Does what [`Cluster::new`] does, in another world.
    pub fn with_world(bootstrap: Vec<String>, world: World) -> Result<Cluster, ClientError> {
        if bootstrap.is_empty() {
            return Err(ClientError::Invalid { detail: "no broker address was given".into() });
        }
        for address in &bootstrap {
            endpoint(address)?;
        }
        Ok(Cluster {
            inner: Arc::new(Inner {
                world,
                bootstrap,
                channels: Mutex::default(),
                metadata: Mutex::default(),
                cut_off: Mutex::default(),
                turn: AtomicUsize::new(0),
                refreshed: tokio::sync::Mutex::default(),
                large_batches: Arc::new(Semaphore::new(LARGE_BATCHES_MAX)),
            }),
            lanes: Arc::default(),
        })
    }

    /// Returns the time by this client's clock, for the timestamps of records.
    pub fn now(&self) -> WallMs {
        self.inner.world.clock.wall()
    }

    /// The same cluster with connections of its own for streams: one slow reader holds up nobody else's.
    pub(super) fn with_own_streams(&self) -> Cluster {
        Cluster { inner: self.inner.clone(), lanes: Arc::default() }
    }

    /// A turn for a batch that decodes to much, until it was read. Who has one may wait for room for what was read,
    /// and whoever has room to give needs no turn for that.
    pub(super) async fn large_batch_turn(&self) -> OwnedSemaphorePermit {
        self.inner.large_batches.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The world that it is in.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// Looks something up in what is known of the cluster now; it may be old, or nothing yet.
    pub fn look<T>(&self, f: impl FnOnce(&Metadata) -> T) -> T {
        f(&self.inner.metadata.lock().expect("no holder panics"))
    }

    /// Takes in what a broker said about a leader. Returns whether that was news.
    pub(super) fn learn_leader(&self, topic: &str, partition: PartitionId, hint: &LeaderHint) -> bool {
        self.inner.metadata.lock().expect("no holder panics").learn_leader(topic, partition, hint)
    }

    /// Lists the addresses worth asking, best first: brokers said to be alive, the others, the bootstrap list. Whoever
    /// said lately that it is cut off comes last.
    pub(super) fn candidates(&self) -> Vec<String> {
        let (good, rest) = self.ranked();
        [good, rest].concat()
    }

    /// Lists what [`Cluster::candidates`] lists, but begins with another good one each time (or any other, if none is):
    /// whoever asks again because an answer did not help gets another broker's word.
    pub(super) fn in_turn(&self) -> Vec<String> {
        let (mut good, mut rest) = self.ranked();
        let best = if good.is_empty() { &mut rest } else { &mut good };
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn % best.len().max(1);
        best.rotate_left(first);
        [good, rest].concat()
    }

    fn ranked(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, mut rest) = self.look(Metadata::addresses);
        let is_new = |address: &&String| !good.contains(address) && !rest.contains(address);
        let bootstrap: Vec<String> = self.inner.bootstrap.iter().filter(is_new).cloned().collect();
        if good.is_empty() && rest.is_empty() {
            good.extend(bootstrap)
        } else {
            rest.extend(bootstrap)
        }
        let cut_off = self.inner.cut_off.lock().expect("no holder panics");
        let is_cut_off = |address: &String| cut_off.get(address).is_some_and(|said| said.elapsed() < CUT_OFF_FOR);
        let (last, good) = good.into_iter().partition(is_cut_off);
        // Those that it takes for dead may be alive; itself is asked again when nobody else answers.
        let (more, mut rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_cut_off);
        rest.extend(more);
        rest.extend::<Vec<String>>(last);
        (good, rest)
    }

    /// A broker said whether it is cut off from the others.
    pub(super) fn note_cut_off(&self, address: &str, is_cut_off: bool) {
        let mut cut_off = self.inner.cut_off.lock().expect("no holder panics");
        if !is_cut_off {
            cut_off.remove(address);
            return;
        }
        if cut_off.len() >= CHANNELS_MAX {
            cut_off.clear();
        }
        cut_off.insert(address.to_string(), Instant::now());
    }

    /// Takes in metadata that a broker answered.
    pub(super) fn update(&self, answer: v1::GetMetadataResponse) {
        self.inner.metadata.lock().expect("no holder panics").update(answer);
    }

    /// When metadata was last asked for; the lock makes concurrent refreshes one.
    pub(super) fn refreshed(&self) -> &tokio::sync::Mutex<Option<Instant>> {
        &self.inner.refreshed
    }

    /// Returns a channel for unary calls, which connects when first used.
    pub(super) fn channel(&self, address: &str) -> Result<Channel, ClientError> {
        self.watched_channel(address).map(|(channel, _)| channel)
    }

    /// Returns what [`Cluster::channel`] returns, with whether it was ever connected: a call over one that never was
    /// reached nobody.
    pub(super) fn watched_channel(&self, address: &str) -> Result<(Channel, Arc<AtomicBool>), ClientError> {
        let mut channels = self.inner.channels.lock().expect("no holder panics");
        if let Some(known) = channels.get(address) {
            return Ok(known.clone());
        }
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let connected = Arc::new(AtomicBool::new(false));
        let connector = self.connector(address, connected.clone());
        let channel = endpoint(address)?.connect_with_connector_lazy(connector);
        channels.insert(address.to_string(), (channel.clone(), connected.clone()));
        Ok((channel, connected))
    }

    /// Returns a channel for one stream of records, which connects when first used.
    pub(super) fn stream_channel(&self, address: &str) -> Result<(Channel, StreamPlace), ClientError> {
        let mut lanes = self.lanes.lock().expect("no holder panics");
        if lanes.len() >= CHANNELS_MAX {
            lanes.clear();
        }
        let lanes = lanes.entry(address.to_string()).or_default();
        let has_room = |lane: &&Lane| Arc::strong_count(&lane.streams) <= STREAMS_PER_LANE_MAX;
        if let Some(lane) = lanes.iter().find(has_room) {
            return Ok((lane.channel.clone(), StreamPlace(lane.streams.clone())));
        }
        let channel = endpoint(address)?.connect_with_connector_lazy(self.connector(address, Arc::default()));
        let streams = Arc::new(());
        lanes.push(Lane { channel: channel.clone(), streams: streams.clone() });
        Ok((channel, StreamPlace(streams)))
    }

    /// A connection of its own, for a stream that must not share flow control with anything.
    pub(super) async fn connect(&self, address: &str) -> Result<Channel, ClientError> {
        endpoint(address)?
            .connect_with_connector(self.connector(address, Arc::default()))
            .await
            .map_err(|e| ClientError::Connect { address: address.to_string(), detail: chain(&e) })
    }

    fn connector(
        &self,
        address: &str,
        connected: Arc<AtomicBool>,
    ) -> impl tower::Service<
        http::Uri,
        Response = TokioIo<Box<dyn crate::seam::Stream>>,
        Error = std::io::Error,
        Future: Send,
    > + Send
    + 'static {
        let (net, address) = (self.inner.world.net.clone(), address.to_string());
        tower::service_fn(move |_: http::Uri| {
            let (net, address, connected) = (net.clone(), address.clone(), connected.clone());
            async move {
                let slow = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection within 2 s");
                let stream = timeout(CONNECT_TIMEOUT, net.connect(&address)).await.map_err(|_| slow())??;
                connected.store(true, Ordering::Release);
                Ok(TokioIo::new(stream))
            }
        })
    }
}

/// Makes one unary call, bounded in time.
pub(super) async fn unary<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ClientError> {
    unary_within(address, CALL_TIMEOUT, call).await
}

/// Makes one unary call that may take `limit`, and a little for the way.
pub(super) async fn unary_within<T>(
    address: &str,
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ClientError> {
    match timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(ClientError::from_status(&status, address)),
        Err(_) => {
            let detail = format!("no answer within {} ms", limit.as_millis());
            Err(ClientError::Lost { address: address.to_string(), detail })
        }
    }
}

pub(super) fn cluster_client(channel: Channel) -> v1::cluster_client::ClusterClient<Channel> {
    v1::cluster_client::ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub(super) fn groups_client(channel: Channel) -> v1::groups_client::GroupsClient<Channel> {
    v1::groups_client::GroupsClient::new(channel).max_decoding_message_size(GROUPS_ANSWER_BYTES_MAX)
}

pub(super) fn topics_client(channel: Channel) -> v1::topics_client::TopicsClient<Channel> {
    v1::topics_client::TopicsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
    let wrong = || ClientError::Invalid { detail: format!("{address:?} is not an address: write host:port") };
    let port = address.rsplit_once(':').ok_or_else(wrong)?.1;
    port.parse::<u16>().map_err(|_| wrong())?;
    Ok(Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| wrong())?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_get_another_connection_when_one_is_full() {
        let cluster = Cluster::new(vec!["127.0.0.1:1".into()]).expect("an address");
        let lanes = || cluster.lanes.lock().expect("no holder panics").get("127.0.0.1:1").map_or(0, Vec::len);
        let place = || cluster.stream_channel("127.0.0.1:1").expect("an address").1;
        let mut places: Vec<_> = (0..STREAMS_PER_LANE_MAX).map(|_| place()).collect();
        assert_eq!(lanes(), 1);
        places.push(place());
        assert_eq!(lanes(), 2);
        // A stream that ends makes room on its own connection.
        places.remove(0);
        places.push(place());
        assert_eq!(lanes(), 2);
        places.extend((0..2 * STREAMS_PER_LANE_MAX).map(|_| place()));
        assert_eq!(lanes(), 4);
        let other = cluster.with_own_streams();
        assert!(other.lanes.lock().expect("no holder panics").is_empty(), "nobody else's connections");
    }
}
