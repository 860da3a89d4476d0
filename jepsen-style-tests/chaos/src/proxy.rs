//! The links between nodes: each directed one goes through a proxy in this process, which can hold, slow, break and
//! damage what passes. No privileges are needed.
//!
//! A link from `a` to `b` carries the connections that `a` opens: requests one way, answers the other. What `a` sends
//! to `b` is therefore on two links, as requests on one and as answers on the other; [`Links`] knows both.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// What is read at once, and so what may be damaged or delayed as one.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that wait in one direction of a connection; then its sender has to wait, as for a full window.
const CHUNKS_MAX: usize = 64;

/// What happens to what is sent in one direction between two nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing passes, and nobody is told: as if the cable were cut.
    pub is_cut: bool,
    /// Everything comes so much later.
    pub delay: Duration,
    /// And up to so much later still, by chance.
    pub jitter: Duration,
    /// No more bytes pass in a second.
    pub bytes_per_second: Option<u64>,
    /// Every chunk in so many waits for this long, and all behind it: what a lost packet looks like to those above TCP.
    pub stall: Option<(u32, Duration)>,
}

/// One direction between two nodes: its weather, and what is done once.
#[derive(Debug)]
pub struct Flow {
    weather: watch::Sender<Weather>,
    /// Connections that carry this direction end when it changes.
    resets: watch::Sender<u64>,
    /// So many of the next chunks have a bit turned over.
    corrupt: AtomicU64,
    corrupted: AtomicU64,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            weather: watch::Sender::new(Weather::default()),
            resets: watch::Sender::new(0),
            corrupt: AtomicU64::new(0),
            corrupted: AtomicU64::new(0),
        }
    }
}

impl Flow {
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// Everything open ends at once.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// A bit of the next chunk that passes is turned over.
    pub fn corrupt_next(&self) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
    }

    /// How many chunks were damaged.
    pub fn corrupted(&self) -> u64 {
        self.corrupted.load(Ordering::Relaxed)
    }

    /// What was to be damaged, and was not yet, is left alone.
    pub fn spare(&self) {
        self.corrupt.store(0, Ordering::Relaxed);
    }

    fn damage(&self, chunk: &mut [u8]) {
        let take = |left: u64| left.checked_sub(1);
        if chunk.is_empty() || self.corrupt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return;
        }
        let at = fastrand::usize(..chunk.len());
        chunk[at] ^= 1 << fastrand::u32(..8);
        self.corrupted.fetch_add(1, Ordering::Relaxed);
    }
}

/// All flows between the nodes of a cluster, by who sends and who receives.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<BTreeMap<(u8, u8), Arc<Flow>>>);

impl Links {
    pub fn between(nodes: u8) -> Links {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        Links(Arc::new(pairs.map(|pair| (pair, Arc::default())).collect()))
    }

    /// The flows that `pick` wants, by sender and receiver.
    pub fn pick(&self, mut pick: impl FnMut(u8, u8) -> bool) -> Vec<Arc<Flow>> {
        self.0.iter().filter(|((from, to), _)| pick(*from, *to)).map(|(_, flow)| flow.clone()).collect()
    }

    /// Serves the link from one node to another: whoever connects here reaches `peer`.
    pub fn serve(&self, listener: TcpListener, from: u8, to: u8, peer: SocketAddr, tasks: &mut JoinSet<()>) {
        let (out, back) = (self.0[&(from, to)].clone(), self.0[&(to, from)].clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((near, _)) => {
                            connections.spawn(carry(near, peer, out.clone(), back.clone()));
                        }
                        // Out of descriptors, for example: later there may be one.
                        Err(_) => sleep(Duration::from_millis(100)).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
    }
}

/// One connection, until either end closes it or it is reset.
async fn carry(near: TcpStream, peer: SocketAddr, out: Arc<Flow>, back: Arc<Flow>) {
    let (mut resets_out, mut resets_back) = (out.resets.subscribe(), back.resets.subscribe());
    let Ok(far) = TcpStream::connect(peer).await else { return };
    // Raft's messages are small, and are waited for.
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // Whichever ends first ends the connection: a half-closed one is of no use to gRPC.
    tokio::select! {
        _ = pump(near_read, far_write, &out) => {}
        _ = pump(far_read, near_write, &back) => {}
        _ = resets_out.changed() => {}
        _ = resets_back.changed() => {}
    }
}

/// Carries bytes one way, through the weather.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, flow: &Flow) -> io::Result<()> {
    let (into, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            if from.read_buf(&mut chunk).await? == 0 || into.send((Instant::now(), chunk)).await.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let write = async {
        let mut weather = flow.weather.subscribe();
        while let Some((at, mut chunk)) = queue.recv().await {
            pass(&mut weather, at, chunk.len()).await;
            flow.damage(&mut chunk);
            to.write_all(&chunk).await?;
        }
        Ok::<(), io::Error>(())
    };
    // What was read before the end of the input is still written.
    tokio::try_join!(read, write).map(drop)
}

/// Waits until a chunk that was read at `at` may go on.
async fn pass(weather: &mut watch::Receiver<Weather>, at: Instant, bytes: usize) {
    loop {
        // Its sender lives as long as the links do.
        let _ = weather.wait_for(|weather| !weather.is_cut).await;
        let now = *weather.borrow_and_update();
        let jitter = match now.jitter {
            Duration::ZERO => Duration::ZERO,
            most => most.mul_f64(fastrand::f64()),
        };
        let stall =
            now.stall.filter(|(one_in, _)| fastrand::u32(..*one_in) == 0).map_or(Duration::ZERO, |(_, long)| long);
        let rate = now
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
        let until = (at + now.delay + jitter).max(Instant::now() + stall.max(rate));
        if until <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(until) => return,
            // Another weather decides anew.
            _ = weather.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Who sends, who receives, and the flow between them. Time is virtual: it passes when everybody waits.
    fn between() -> (DuplexStream, DuplexStream, Arc<Flow>) {
        let (near, from) = duplex(1 << 20);
        let (to, far) = duplex(1 << 20);
        let flow: Arc<Flow> = Arc::default();
        let own = flow.clone();
        tokio::spawn(async move { pump(from, to, &own).await });
        (near, far, flow)
    }

    async fn arrives(near: &mut DuplexStream, far: &mut DuplexStream, bytes: &[u8]) -> (Vec<u8>, Duration) {
        let began = Instant::now();
        near.write_all(bytes).await.expect("it is open");
        let mut got = vec![0; bytes.len()];
        far.read_exact(&mut got).await.expect("it is open");
        (got, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn in_good_weather_all_passes_at_once_and_the_end_too() {
        let (mut near, mut far, _) = between();
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let (got, took) = arrives(&mut near, &mut far, &bytes).await;
        assert_eq!((got == bytes, took), (true, Duration::ZERO));
        drop(near);
        assert_eq!(far.read(&mut [0]).await.expect("an end"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_holds_everything_and_loses_nothing() {
        let (mut near, mut far, flow) = between();
        flow.change(|weather| weather.is_cut = true);
        near.write_all(b"held").await.expect("it is open");
        let mut got = [0; 4];
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, far.read_exact(&mut got)).await.is_err(), "it passed");
        flow.change(|weather| weather.is_cut = false);
        far.read_exact(&mut got).await.expect("it is open");
        assert_eq!(&got, b"held");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_delays_and_does_not_slow() {
        let (mut near, mut far, flow) = between();
        flow.change(|weather| weather.delay = Duration::from_millis(50));
        let (got, took) = arrives(&mut near, &mut far, &[7; 10 * CHUNK_BYTES]).await;
        assert!(got.iter().all(|byte| *byte == 7));
        assert!((50..60).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_never_reorders() {
        let (mut near, mut far, flow) = between();
        flow.change(|weather| weather.jitter = Duration::from_millis(50));
        let bytes: Vec<u8> = (0..10 * CHUNK_BYTES).map(|n| (n / 100) as u8).collect();
        assert!(arrives(&mut near, &mut far, &bytes).await.0 == bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_narrow_link_passes_so_much_in_a_second() {
        let (mut near, mut far, flow) = between();
        flow.change(|weather| weather.bytes_per_second = Some(CHUNK_BYTES as u64));
        let (_, took) = arrives(&mut near, &mut far, &[7; 4 * CHUNK_BYTES]).await;
        assert!((3_900..4_200).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_holds_what_comes_behind_it() {
        let (mut near, mut far, flow) = between();
        flow.change(|weather| weather.stall = Some((1, Duration::from_millis(200))));
        let (_, took) = arrives(&mut near, &mut far, b"one packet").await;
        assert!((200..210).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_bit_of_one_chunk_is_damaged() {
        let (mut near, mut far, flow) = between();
        flow.corrupt_next();
        let (got, _) = arrives(&mut near, &mut far, &[0; 1_000]).await;
        assert_eq!(got.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(flow.corrupted(), 1);
        let (got, _) = arrives(&mut near, &mut far, &[0; 1_000]).await;
        assert!(got.iter().all(|byte| *byte == 0));
        flow.corrupt_next();
        flow.spare();
        let (got, _) = arrives(&mut near, &mut far, &[0; 1_000]).await;
        assert!(got.iter().all(|byte| *byte == 0));
    }

    #[tokio::test]
    async fn a_link_carries_both_ways_and_a_reset_ends_its_connections() {
        let peer = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let door = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let at = door.local_addr().expect("bound");
        let (links, mut tasks) = (Links::between(3), JoinSet::new());
        links.serve(door, 1, 2, peer.local_addr().expect("bound"), &mut tasks);
        let mut near = TcpStream::connect(at).await.expect("it listens");
        let (mut far, _) = peer.accept().await.expect("it connects");
        let mut got = [0; 3];
        near.write_all(b"ask").await.expect("it is open");
        far.read_exact(&mut got).await.expect("it arrives");
        far.write_all(b"say").await.expect("it is open");
        near.read_exact(&mut got).await.expect("it arrives");
        assert_eq!(&got, b"say");
        // The answers are what 2 sends to 1.
        links.pick(|from, to| (from, to) == (2, 1)).iter().for_each(|flow| flow.reset());
        assert_eq!(near.read(&mut got).await.unwrap_or(0), 0);
        assert_eq!(links.pick(|from, _| from == 1).len(), 2);
    }
}
