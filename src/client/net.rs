//! Connections, one set per cluster: channels to brokers, what is known of the cluster, and calls
//! that find a broker that answers.
//!
//! Promises: every connect and every call is bounded in time; metadata is asked for at most every
//! [`REFRESH_MS_MIN`] however many callers want it; a frozen broker costs a call [`HEDGE_MS`], not
//! its whole deadline, because the next broker is asked beside it. Leaves out: what calls mean.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::error::{ClientError, Effect};
use super::metadata::Metadata;
use crate::{
    proto::v1,
    seam::{Clock, Net, Rng, SystemClock, TcpNet},
};

/// A broker on the same continent answers a SYN in a fraction of this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Ping every second, give up three seconds later: a frozen broker's streams break by themselves.
/// Moving to another leader does not wait for it; see `producer::driver`.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a broker may think before another one is asked the same beside it.
const HEDGE_MS: u64 = 300;
/// One answer of one broker.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// At most ten metadata requests a second: enough to follow an election, no burden for a broker.
const REFRESH_MS_MIN: u64 = 100;
/// Between rounds over all brokers when none could do it.
const ROUND_PAUSE_MS: u64 = 100;
/// Flow-control windows: what a fast broker may send before the application read it.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The largest message taken: an answer of `bytes_max` <= 8 MiB, or one batch of 8 MiB, and its frame.
pub const MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// An answer about groups: all groups of a cluster together, with their offsets, take at most 64 MiB in it.
const GROUPS_ANSWER_BYTES_MAX: usize = 80 * 1024 * 1024;
/// Streams of one connection. A broker allows 1,024; the next one would wait for one of them to end.
const STREAMS_PER_LANE_MAX: usize = 1000;
/// Batches that are decoded and decode to much, of all readers of a cluster's client: each takes up to 64 MiB.
const LARGE_BATCHES_MAX: usize = 2;
/// Channels kept. A cluster has a few dozen brokers; addresses that changed are dropped at this bound.
const CHANNELS_MAX: usize = 1024;

/// The world as the client sees it.
#[derive(Clone)]
pub struct World {
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
}

impl World {
    /// The real one.
    pub fn system() -> World {
        World { net: Arc::new(TcpNet), clock: Arc::new(SystemClock), rng: Arc::new(Rng::from_system()) }
    }
}

/// One cluster as its clients see it. Clone; all clones share connections and metadata.
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
pub struct StreamPlace(#[expect(dead_code, reason = "held to be counted")] Arc<()>);

struct Inner {
    world: World,
    bootstrap: Vec<String>,
    channels: Mutex<HashMap<String, Channel>>,
    metadata: Mutex<Metadata>,
    /// When metadata was last asked for; the lock makes concurrent refreshes one.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    /// Turns of batches that decode to much.
    large_batches: Arc<Semaphore>,
}

impl Cluster {
    /// `bootstrap`: client addresses (host:port) of some brokers; the others are learned. Connects
    /// to nothing yet.
    pub fn new(bootstrap: Vec<String>) -> Result<Cluster, ClientError> {
        Cluster::with_world(bootstrap, World::system())
    }

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
                refreshed: tokio::sync::Mutex::default(),
                large_batches: Arc::new(Semaphore::new(LARGE_BATCHES_MAX)),
            }),
            lanes: Arc::default(),
        })
    }

    /// The same cluster with connections of its own for streams: one slow reader holds up nobody else's.
    pub fn with_own_streams(&self) -> Cluster {
        Cluster { inner: self.inner.clone(), lanes: Arc::default() }
    }

    /// A turn for a batch that decodes to much, until it was read. Who has one may wait for room for what was read,
    /// and whoever has room to give needs no turn for that.
    pub(super) async fn large_batch_turn(&self) -> OwnedSemaphorePermit {
        self.inner.large_batches.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// What is known now; may be old, may be empty.
    pub fn metadata(&self) -> Metadata {
        self.inner.metadata.lock().expect("no holder panics").clone()
    }

    /// Looks something up in what is known now.
    pub fn look<T>(&self, f: impl FnOnce(&Metadata) -> T) -> T {
        f(&self.inner.metadata.lock().expect("no holder panics"))
    }

    /// Takes in what a broker said about a leader. Returns whether that was news.
    pub fn learn_leader(&self, topic: &str, partition: i32, hint: &v1::LeaderHint) -> bool {
        self.inner.metadata.lock().expect("no holder panics").learn_leader(topic, partition, hint)
    }

    /// Asks for brokers and the leaders of `topics`; waits its turn if somebody just did.
    pub async fn refresh(&self, topics: &[String]) -> Result<(), ClientError> {
        let asked = Instant::now();
        let mut refreshed = self.inner.refreshed.lock().await;
        if let Some(last) = *refreshed {
            let known = self.look(|m| topics.iter().all(|t| m.topic(t).is_some()));
            if last > asked && known {
                return Ok(()); // Somebody asked while we waited for the lock.
            }
            tokio::time::sleep_until(last + Duration::from_millis(REFRESH_MS_MIN)).await;
        }
        *refreshed = Some(Instant::now());
        let mut all = self.look(|m| m.topic_names());
        all.extend(topics.iter().filter(|t| self.look(|m| m.topic(t).is_none())).cloned());
        let request = v1::GetMetadataRequest { topics: all, all_topics: false };
        let answer = self
            .hedged("metadata", |address, channel| {
                let request = request.clone();
                async move { unary(&address, cluster_client(channel).get_metadata(request)).await }
            })
            .await?;
        self.inner.metadata.lock().expect("no holder panics").update(answer);
        Ok(())
    }

    /// Addresses worth asking, best first: brokers said to be alive, the others, the bootstrap list.
    pub fn candidates(&self) -> Vec<String> {
        let mut list = self.look(|m| m.addresses());
        for address in &self.inner.bootstrap {
            if !list.contains(address) {
                list.push(address.clone());
            }
        }
        list
    }

    /// A channel for unary calls; connects when first used.
    pub fn channel(&self, address: &str) -> Result<Channel, ClientError> {
        let mut channels = self.inner.channels.lock().expect("no holder panics");
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let channel = endpoint(address)?.connect_with_connector_lazy(self.connector(address));
        channels.insert(address.to_string(), channel.clone());
        Ok(channel)
    }

    /// A channel for one stream of records; connects when first used.
    pub fn stream_channel(&self, address: &str) -> Result<(Channel, StreamPlace), ClientError> {
        let mut lanes = self.lanes.lock().expect("no holder panics");
        if lanes.len() >= CHANNELS_MAX {
            lanes.clear();
        }
        let lanes = lanes.entry(address.to_string()).or_default();
        let has_room = |lane: &&Lane| Arc::strong_count(&lane.streams) <= STREAMS_PER_LANE_MAX;
        if let Some(lane) = lanes.iter().find(has_room) {
            return Ok((lane.channel.clone(), StreamPlace(lane.streams.clone())));
        }
        let channel = endpoint(address)?.connect_with_connector_lazy(self.connector(address));
        let streams = Arc::new(());
        lanes.push(Lane { channel: channel.clone(), streams: streams.clone() });
        Ok((channel, StreamPlace(streams)))
    }

    /// A connection of its own, for a stream that must not share flow control with anything.
    pub async fn connect(&self, address: &str) -> Result<Channel, ClientError> {
        endpoint(address)?
            .connect_with_connector(self.connector(address))
            .await
            .map_err(|e| ClientError::Connect { address: address.to_string(), detail: chain(&e) })
    }

    fn connector(
        &self,
        address: &str,
    ) -> impl tower::Service<
        http::Uri,
        Response = TokioIo<Box<dyn crate::seam::Stream>>,
        Error = std::io::Error,
        Future: Send,
    > + Send
    + 'static {
        let (net, address) = (self.inner.world.net.clone(), address.to_string());
        tower::service_fn(move |_: http::Uri| {
            let (net, address) = (net.clone(), address.clone());
            async move {
                let slow = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection within 2 s");
                let stream = timeout(CONNECT_TIMEOUT, net.connect(&address)).await.map_err(|_| slow())??;
                Ok(TokioIo::new(stream))
            }
        })
    }

    /// Asks brokers the same until one answers, the next one when the last has thought for
    /// [`HEDGE_MS`] or failed. Only for calls that change nothing, or nothing that matters.
    pub async fn hedged<T, F>(&self, what: &'static str, call: impl Fn(String, Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.hedged_from(self.candidates(), what, call).await
    }

    /// As [`Cluster::hedged`], over these brokers in this order.
    pub async fn hedged_from<T, F>(
        &self,
        candidates: Vec<String>,
        what: &'static str,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut waiting = candidates.iter();
        let mut running = FuturesUnordered::new();
        let mut last: Option<ClientError> = None;
        loop {
            let more = match waiting.next() {
                Some(address) => {
                    running.push(call(address.clone(), self.channel(address)?));
                    true
                }
                None => false,
            };
            if running.is_empty() {
                break;
            }
            // Once a broker has said why it cannot, the silent ones get no more than the usual patience:
            // the next round asks them again.
            let is_answered = matches!(last, Some(ClientError::Broker(_)));
            let hedge = Duration::from_millis(HEDGE_MS);
            let got = match (more, is_answered) {
                (true, _) => timeout(hedge, running.next()).await.ok().flatten(),
                (false, false) => running.next().await,
                (false, true) => match timeout(hedge, running.next()).await {
                    Ok(got) => got,
                    Err(_) => break,
                },
            };
            match got {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) if !error.is_retriable() => return Err(error),
                Some(Err(error)) => last = Some(error),
                None => {}
            }
        }
        let last = match last {
            Some(error @ ClientError::Broker(_)) => return Err(error),
            Some(error) => error.to_string(),
            None => "nothing answered".into(),
        };
        Err(ClientError::NoBroker { what, tried: candidates.join(", "), last })
    }

    /// A call that only asks: repeated over all brokers until `deadline`.
    pub async fn ask<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.until(what, deadline, Effect::Nothing, || self.hedged(what, &call)).await
    }

    /// A call that changes something: one broker at a time, repeated only while it surely had no effect.
    pub async fn change<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.until(what, deadline, Effect::Unknown, || self.change_once(&call)).await
    }

    /// As [`Cluster::change`], for what any broker does: `avoid` is asked last.
    pub async fn change_avoiding<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        avoid: Option<u64>,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let round = || async {
            self.refresh(&[]).await?;
            let avoided = avoid.and_then(|broker| self.look(|m| m.address(broker).map(str::to_string)));
            let mut candidates = self.candidates();
            candidates.sort_by_key(|address| Some(address) == avoided.as_ref());
            self.one_by_one(candidates, &call).await
        };
        self.until(what, deadline, Effect::Unknown, round).await
    }

    /// One round of [`Cluster::change`].
    pub async fn change_once<T, F>(&self, call: impl Fn(String, Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        // Who answers at all, and who leads: a frozen broker asked first would cost the deadline.
        self.refresh(&[]).await?;
        self.one_by_one(self.coordinators(), call).await
    }

    /// Addresses in the order for what the metadata leader does in the end: itself, if known, then as
    /// [`Cluster::candidates`]. It is the coordinator of every group.
    pub fn coordinators(&self) -> Vec<String> {
        let leader = self.look(|m| m.address(m.metadata_leader).map(str::to_string));
        let mut candidates = self.candidates();
        candidates.sort_by_key(|address| Some(address) != leader.as_ref());
        candidates
    }

    /// Asks one broker after the other, for as long as each says that nothing happened and another may do it.
    pub async fn one_by_one<T, F>(
        &self,
        candidates: Vec<String>,
        call: impl Fn(String, Channel) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut last = None;
        for address in candidates {
            match call(address.clone(), self.channel(&address)?).await {
                Err(error) if error.is_retriable() && error.effect() == Effect::Nothing => last = Some(error),
                done => return done,
            }
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Repeats while the error is retriable and had no effect, until the deadline; a round that is cut
    /// off by it had `effect`.
    async fn until<T, F>(
        &self,
        what: &'static str,
        deadline: Duration,
        effect: Effect,
        round: impl Fn() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let end = Instant::now() + deadline;
        let mut last: Option<ClientError> = None;
        loop {
            match tokio::time::timeout_at(end, round()).await {
                // What only asks has no effect, whatever became of it.
                Ok(Err(error)) if error.is_retriable() && Effect::Nothing == effect.and(error.effect()) => {
                    last = Some(error);
                }
                Ok(done) => return done,
                Err(_) => {
                    let last = last.map_or("no answer came".into(), |e| e.to_string());
                    return Err(ClientError::Deadline { what: what.into(), waited: deadline, effect, last });
                }
            }
            let pause = Duration::from_millis(ROUND_PAUSE_MS / 2 + self.inner.world.rng.below(ROUND_PAUSE_MS));
            if Instant::now() + pause >= end {
                let error = last.expect("a round just failed");
                if error.effect() == Effect::Nothing {
                    return Err(error);
                }
                let (last, waited) = (error.to_string(), deadline);
                return Err(ClientError::Deadline { what: what.into(), waited, effect: Effect::Nothing, last });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// One unary call, bounded in time.
pub async fn unary<T>(
    address: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ClientError> {
    unary_within(address, CALL_TIMEOUT, call).await
}

/// One unary call that may take `limit`, and a little for the way.
pub async fn unary_within<T>(
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

pub fn cluster_client(channel: Channel) -> v1::cluster_client::ClusterClient<Channel> {
    v1::cluster_client::ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub fn groups_client(channel: Channel) -> v1::groups_client::GroupsClient<Channel> {
    v1::groups_client::GroupsClient::new(channel).max_decoding_message_size(GROUPS_ANSWER_BYTES_MAX)
}

pub fn topics_client(channel: Channel) -> v1::topics_client::TopicsClient<Channel> {
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
