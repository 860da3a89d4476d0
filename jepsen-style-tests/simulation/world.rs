//! What lies below a node's seams here: turmoil's network, a clock that the simulation moves, a disk
//! whose every commit is noted, and the trace itself.
//!
//! The trace is what two runs of one seed are compared by: every line of the node's own logs (leaders
//! and applied entries among them), every byte that a node commits, and every answer to a produce, each
//! with the simulated time.

use std::{
    fmt::{self, Write},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flotilla::{
    seam::{Clock, Listener, Net, NetFuture, Stream},
    storage::{Family, KeyRange, Kv, KvFuture, ScanLimit, SimKv, WriteBatch, WriteOp},
    types::WallMs,
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// The wall time at which every simulation begins.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Milliseconds since the simulation began. Its ticks are as long as tokio's timers are fine, so
/// nothing happens in between; and unlike turmoil's own clock it can be asked while a node dies.
#[derive(Clone, Debug, Default)]
pub struct SimTime(Arc<AtomicU64>);

impl SimTime {
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for SimTime {
    fn wall(&self) -> WallMs {
        WallMs(EPOCH_MS + self.now_ms() as i64)
    }
}

/// One node's clock: the simulation's, and wrong by what a fault says.
#[derive(Clone, Debug, Default)]
pub struct NodeClock {
    pub time: SimTime,
    wrong_ms: Arc<AtomicI64>,
}

impl NodeClock {
    pub fn new(time: &SimTime) -> NodeClock {
        NodeClock { time: time.clone(), wrong_ms: Arc::default() }
    }

    pub fn set_wrong_by(&self, ms: i64) {
        self.wrong_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn wall(&self) -> WallMs {
        WallMs(self.time.wall().0 + self.wrong_ms.load(Ordering::Relaxed))
    }
}

/// turmoil's network. Hosts are named as in the addresses.
pub struct SimNet;

impl Net for SimNet {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        Box::pin(async move {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            let port = port.ok_or_else(|| io::Error::other(format!("{address}: not host:port")))?;
            let listener = turmoil::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            Ok(Box::new(SimListener(listener)) as Box<dyn Listener>)
        })
    }
}

struct SimListener(turmoil::net::TcpListener);

impl Listener for SimListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A disk whose commits are noted, in order and with every byte.
pub struct TracedKv {
    pub kv: SimKv,
    pub node: String,
    pub trace: Trace,
}

impl Kv for TracedKv {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        self.kv.get(family, key)
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        self.kv.scan(family, range, limit, reverse)
    }

    fn commit(&self, batch: WriteBatch, sync: bool) -> KvFuture<'_, ()> {
        let digest = digest(&batch);
        self.trace.note(&self.node, format_args!("commit of {} sync {sync} {digest:016x}", batch.ops.len()));
        self.kv.commit(batch, sync)
    }

    fn commit_no(&self) -> u64 {
        self.kv.commit_no()
    }

    fn condemn(&self, why: &str) {
        self.kv.condemn(why);
    }
}

/// Of all that a batch does, in order.
fn digest(batch: &WriteBatch) -> u64 {
    // Its keys are constants: the same in every process.
    let mut hasher = DefaultHasher::new();
    for op in &batch.ops {
        match op {
            WriteOp::Put { family, key, value } => (0, *family as u8, key, &value[..]).hash(&mut hasher),
            WriteOp::Delete { family, key } => (1, *family as u8, key).hash(&mut hasher),
            WriteOp::DeleteRange { family, range } => (2, *family as u8, &range.from, &range.to).hash(&mut hasher),
        }
    }
    hasher.finish()
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Clones write the same trace.
#[derive(Clone)]
pub struct Trace {
    time: SimTime,
    noted: Arc<Mutex<Noted>>,
}

struct Noted {
    hash: u64,
    lines: u64,
    /// What nodes logged as an error.
    errors: Vec<String>,
    /// Replicas of the metadata that began again from a snapshot of others.
    metadata_snapshots: u64,
    prints: bool,
}

impl Trace {
    pub fn new(time: SimTime, prints: bool) -> Trace {
        let noted = Noted { hash: FNV_START, lines: 0, errors: vec![], metadata_snapshots: 0, prints };
        Trace { time, noted: Arc::new(Mutex::new(noted)) }
    }

    pub fn note(&self, who: &str, what: fmt::Arguments) {
        let line = format!("{} {who} {what}\n", self.time.now_ms());
        let mut noted = self.lock();
        noted.hash = fnv(noted.hash, line.as_bytes());
        noted.lines += 1;
        if noted.prints {
            eprint!("{line}");
        }
    }

    /// Hash and number of lines.
    pub fn sum(&self) -> (u64, u64) {
        let noted = self.lock();
        (noted.hash, noted.lines)
    }

    pub fn metadata_snapshots(&self) -> u64 {
        self.lock().metadata_snapshots
    }

    pub fn errors(&self) -> Vec<String> {
        self.lock().errors.clone()
    }

    /// Takes back errors of one node, all but the first `since` ones of all nodes.
    pub fn forgive(&self, who: &str, since: usize) {
        let mut noted = self.lock();
        let since = since.min(noted.errors.len());
        let later = noted.errors.split_off(since);
        noted.errors.extend(later.into_iter().filter(|error| !error.starts_with(&format!("{who} "))));
    }

    /// From now on the trace takes what this process's nodes log. Once per process.
    pub fn subscribe(&self) {
        let ours = filter_fn(|metadata| metadata.target().starts_with("flotilla") || metadata.name() == "node");
        let subscriber = tracing_subscriber::registry().with(LogLayer(self.clone()).with_filter(ours));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else sets it in this process");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().expect("noting does not panic")
    }
}

struct LogLayer(Trace);

/// The name of the node in whose turn something was logged: turmoil's span around it says.
struct NodeName(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        if let Some(span) = context.span(id).filter(|_| attributes.metadata().name() == "node") {
            let name = text.0.trim_start_matches(" name=").trim_matches('"');
            span.extensions_mut().insert(NodeName(name.to_string()));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let outermost = context.event_scope(event).and_then(|scope| scope.from_root().next());
        let name = outermost.and_then(|span| span.extensions().get::<NodeName>().map(|name| name.0.clone()));
        let (level, target) = (event.metadata().level(), event.metadata().target());
        self.0.note(name.as_deref().unwrap_or("-"), format_args!("{level} {target}{}", text.0));
        if text.0.starts_with(" message=begins again from a snapshot group=0 ") {
            self.0.lock().metadata_snapshots += 1;
        }
        if *level == Level::ERROR {
            self.0.lock().errors.push(format!("{}{}", name.unwrap_or_default(), text.0));
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
