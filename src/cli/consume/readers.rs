//! One reader a partition, and what they bring to whoever prints it.
//!
//! Promises: what was read and not printed is bounded in bytes; each partition is read once at a time, and one that
//! was given up may be begun anew.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

use crate::client::{Chunk, ClientError, Cluster, ConsumeOptions, Consumer, Start, TopicPartition};

/// What waits to be printed, of all partitions: chunks, and about their bytes. One chunk may have more.
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a partition's reader hands over. Its last, if that is an error.
pub struct Part {
    pub at: TopicPartition,
    pub chunk: Result<Chunk, ClientError>,
    /// The room that the chunk takes until it is printed.
    _room: Option<OwnedSemaphorePermit>,
}

/// The partitions that are read. Shared within the command's one task.
pub type Reading = Rc<RefCell<BTreeSet<TopicPartition>>>;

pub struct Readers {
    cluster: Cluster,
    options: ConsumeOptions,
    to: mpsc::Sender<Part>,
    room: Arc<Semaphore>,
    reading: Reading,
    tasks: JoinSet<()>,
}

impl Readers {
    /// Returns readers, and what comes from them.
    pub fn new(cluster: Cluster, options: ConsumeOptions) -> (Readers, mpsc::Receiver<Part>) {
        let (to, from) = mpsc::channel(CHUNKS_MAX);
        let room = Arc::new(Semaphore::new(CHUNK_BYTES_MAX));
        (Readers { cluster, options, to, room, reading: Reading::default(), tasks: JoinSet::new() }, from)
    }

    pub fn reading(&self) -> Reading {
        self.reading.clone()
    }

    /// Reads a partition, unless it is read already.
    pub fn start(&mut self, at: TopicPartition, start: Start) {
        if self.reading.borrow_mut().insert(at.clone()) {
            let options = ConsumeOptions { start, ..self.options };
            let reader = Reader { at, to: self.to.clone(), room: self.room.clone() };
            self.tasks.spawn(reader.run(self.cluster.clone(), options));
        }
    }

    /// Waits until all have ended.
    pub async fn wait(self) {
        let Readers { mut tasks, to, .. } = self;
        drop(to);
        while tasks.join_next().await.is_some() {}
    }
}

struct Reader {
    at: TopicPartition,
    to: mpsc::Sender<Part>,
    room: Arc<Semaphore>,
}

impl Reader {
    async fn run(self, cluster: Cluster, options: ConsumeOptions) {
        let mut consumer = match Consumer::open(&cluster, self.at.clone(), options).await {
            Ok(consumer) => consumer,
            Err(error) => {
                self.send(Err(error)).await;
                return;
            }
        };
        loop {
            // Nothing more is decoded while what was read fills the room.
            drop(self.room.acquire().await.expect("the semaphore is never closed"));
            let chunk = match consumer.next().await {
                Ok(None) => return,
                Ok(Some(chunk)) if chunk.records.is_empty() && chunk.notice.is_none() => continue,
                Ok(Some(chunk)) => Ok(chunk),
                Err(error) => Err(error),
            };
            let is_last = chunk.is_err();
            // The printer has enough, or this was the end.
            if !self.send(chunk).await || is_last {
                return;
            }
        }
    }

    /// Whether anybody is there to print it.
    async fn send(&self, chunk: Result<Chunk, ClientError>) -> bool {
        let bytes = chunk.as_ref().map_or(0, Chunk::bytes).clamp(1, CHUNK_BYTES_MAX) as u32;
        let room = self.room.clone().acquire_many_owned(bytes).await.ok();
        self.to.send(Part { at: self.at.clone(), chunk, _room: room }).await.is_ok()
    }
}
