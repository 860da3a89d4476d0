//! W8: a topic that keeps next to nothing, so that its log start moves under whoever reads it, and a node that was away
//! finds the entries that it lacks purged and needs a snapshot.
//!
//! Its history is one of its own, since here records may go. Retention looks every ten seconds; in between somebody
//! deletes records. Only the size is limited, not the age: so a clock that is set wrong stops nothing, and when the load
//! has ended something is left to read and to compare.
//!
//! Whoever polls here names its position, and opens a reader for it, so that the answer is made after the poll began. The ends
//! that an answer names are left out: a leader that is not ready yet serves what it has applied and may have more
//! (SAFETY B7), so that what it says of the ends may be older than what was told before. Who asks for an end is told
//! the present one.

use std::{path::Path, sync::Arc, time::Duration};

use flotilla::client::{
    Admin, Chunk, Cluster as Client, ConsumeOptions, Consumer, Gaps, Offset, OffsetAt, PartitionId, Start,
    TopicPartition,
};
use logcheck::{
    event::{Body, From, Outcome, Poll, Polled, Which},
    recorder::Recorder,
    rules::polls::OUT_OF_RANGE,
};
use tokio::{task::JoinSet, time::sleep};

use super::{Context, Scribe, errors, offsets, process, produce, read};
use crate::{error::ChaosError, tally::Tally};

pub const PARTITIONS: u32 = 2;
/// The directory of its history, below the run's.
pub const DIR: &str = "retention";
/// Fewer moves of the log start than that show nothing.
pub const TRIMS_MIN: u64 = 5;
const RATE: u32 = 600;
/// About two seconds of a partition's records; segments are closed after one.
const CONFIGS: [(&str, &str); 2] = [("retention.bytes", "65536"), ("segment.ms", "1000")];
const CALL_MAX: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// How often records are deleted.
const TRIM_EVERY: Duration = Duration::from_secs(2);
/// So many records are left at most, where they are deleted: by chance also none.
const LEFT_MAX: i64 = 1_500;
/// One reader keeps up; ...
const PROMPT: Duration = Duration::from_millis(50);
/// ... one comes so late that what it asks for is gone now and then.
const LATE: std::ops::Range<u64> = 1_000..6_000;

/// The directory of this history in that of a run.
pub fn dir(run: &Path) -> std::path::PathBuf {
    run.join(DIR)
}

pub async fn create(admin: &Admin, name: &str, replicas: i32) -> Result<(), ChaosError> {
    let mut create = admin.create_topic(name).partitions(PARTITIONS as i32).replicas(replicas).wait(true);
    for (name, value) in CONFIGS {
        create = create.config(name, value);
    }
    create.send().await.map(drop).map_err(ChaosError::client("creating the topic that keeps next to nothing"))
}

/// What its clients share: as the others, but what they count is not the run's.
pub fn context(of: &Context, recorder: &Recorder) -> Context {
    Context {
        recorder: recorder.clone(),
        topic: of.names.short.clone(),
        tally: Arc::new(Tally::new(PARTITIONS)),
        partitions: PARTITIONS,
        rate: RATE,
        history: dir(&of.history),
        short: None,
        ..of.clone()
    }
}

pub fn start(context: &Context, tasks: &mut JoinSet<Result<(), ChaosError>>) {
    for number in 0..produce::PRODUCERS {
        tasks.spawn(produce::run(context.clone(), number));
    }
    for number in 0..offsets::ASKERS {
        tasks.spawn(offsets::run(context.clone(), number));
    }
    for key in 0..PARTITIONS {
        tasks.spawn(poll(context.clone(), key, false));
        tasks.spawn(poll(context.clone(), key, true));
    }
    tasks.spawn(trim(context.clone()));
}

/// Where a poll left its reader.
enum Next {
    At(Offset),
    /// What it asked for is not there, and nobody said what is.
    Unknown,
}

struct Reader {
    context: Context,
    client: Client,
    scribe: Scribe,
    process: u32,
    key: u32,
    is_late: bool,
}

/// Reads a partition until the run ends, each time from a position that it names.
async fn poll(context: Context, key: u32, is_late: bool) -> Result<(), ChaosError> {
    let client = context.client()?;
    let number = key * 2 + u32::from(is_late);
    let scribe = context.worker(&format!("reader-{number}"))?;
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    let process = process::READERS + number;
    let ending = context.clone();
    let mut reader = Reader { context, client, scribe, process, key, is_late };
    let mut position = Offset(0);
    loop {
        let pause = if is_late { Duration::from_millis(random.u64(LATE)) } else { PROMPT };
        let next = async {
            sleep(pause).await;
            match reader.once(position).await? {
                Next::At(offset) => Ok(offset),
                Next::Unknown => reader.earliest(position).await,
            }
        };
        position = tokio::select! {
            next = next => next?,
            () = ending.ending() => break,
        };
    }
    reader.scribe.finish()
}

impl Reader {
    fn at(&self) -> TopicPartition {
        TopicPartition::new(&*self.context.topic, PartitionId(self.key as i32))
    }

    /// One poll. The late reader has its client go on where records are, the other one asks where that is.
    async fn once(&mut self, position: Offset) -> Result<Next, ChaosError> {
        let gaps = if self.is_late { Gaps::Tell } else { Gaps::Fail };
        let options =
            ConsumeOptions { start: Start::Offset(position), gaps, patience: PATIENCE, ..ConsumeOptions::default() };
        let from = From::Fetch { key: self.key, position: position.0 };
        let op = self.scribe.begin(self.process, Body::Poll(Poll { from, node: 0 }))?;
        let answered = match Consumer::open(&self.client, self.at(), options).await {
            Ok(mut consumer) => consumer.next().await.map(|chunk| (chunk, consumer.position())),
            Err(error) => Err(error),
        };
        let (polled, next) = match answered {
            Ok((Some(chunk), after)) => (self.polled(&chunk), Next::At(after)),
            Ok((None, _)) => return Err(ChaosError::Broken("a reader without an end".into())),
            Err(error) => {
                let error = errors::code(&error);
                match error {
                    OUT_OF_RANGE => (Polled { outcome: Outcome::Fail, error, runs: vec![] }, Next::Unknown),
                    _ => (Polled { outcome: Outcome::Info, error, runs: vec![] }, Next::At(position)),
                }
            }
        };
        self.scribe.complete(self.process, op, Body::Polled(polled))?;
        Ok(next)
    }

    fn polled(&self, chunk: &Chunk) -> Polled {
        if chunk.notice.is_some() {
            return Polled { outcome: Outcome::Fail, error: OUT_OF_RANGE, runs: vec![] };
        }
        Polled { outcome: Outcome::Ok, error: 0, runs: read::runs(self.context.run, self.key, chunk, None) }
    }

    /// Where the log begins, or the same position again if nobody says.
    async fn earliest(&mut self, position: Offset) -> Result<Offset, ChaosError> {
        let admin = Admin::new(self.client.clone(), CALL_MAX);
        let call = Body::ListOffsets { key: self.key, which: Which::Earliest };
        let op = self.scribe.begin(self.process, call)?;
        let asked = admin.offset_at(&self.at(), OffsetAt::Earliest).await;
        self.scribe.complete(self.process, op, listed(&asked))?;
        Ok(asked.unwrap_or(position))
    }
}

fn listed(asked: &Result<Offset, flotilla::client::ClientError>) -> Body {
    match asked {
        Ok(offset) => Body::Listed { outcome: Outcome::Ok, error: 0, offset: offset.0 },
        Err(error) => Body::Listed { outcome: Outcome::Info, error: errors::code(error), offset: -1 },
    }
}

/// Deletes records, over and over.
async fn trim(context: Context) -> Result<(), ChaosError> {
    let admin = Admin::new(context.client()?, CALL_MAX);
    let mut scribe = context.worker("trimmer")?;
    let mut random = fastrand::Rng::with_seed(0);
    loop {
        for key in 0..PARTITIONS {
            let at = TopicPartition::new(&*context.topic, PartitionId(key as i32));
            let left = random.i64(0..LEFT_MAX);
            let done = async {
                let end = admin.offset_at(&at, OffsetAt::Latest).await?;
                let before = Offset(end.0.saturating_sub(left).max(0));
                admin.trim_partition(at.clone()).before(before).send().await
            };
            // The answer says where the log begins now: it is recorded as one to that question.
            let op = scribe.begin(process::TRIMMER, Body::ListOffsets { key, which: Which::Earliest })?;
            let done = tokio::select! {
                done = done => done,
                () = context.ending() => return scribe.finish(),
            };
            scribe.complete(process::TRIMMER, op, listed(&done))?;
        }
        tokio::select! {
            () = sleep(TRIM_EVERY) => {}
            () = context.ending() => return scribe.finish(),
        }
    }
}
