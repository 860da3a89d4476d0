//! W1, the reading half: one reader for each partition, which goes forward by itself.
//!
//! An answer's high watermark is left out here: it waited in the stream for an unknown time, so that it says nothing of
//! the moment when somebody asked for it.

use flotilla::client::{Chunk, ConsumeOptions, Consumer, PartitionId, TopicPartition};
use logcheck::{
    event::{Body, From, Outcome, Poll, Polled, Record, Run, Seek},
    payload::{self, DAMAGED},
    rules::polls::OUT_OF_RANGE,
};

use super::{Context, errors, process};
use crate::error::ChaosError;

/// Reads a partition until the run ends.
pub async fn run(context: Context, partition: u32) -> Result<(), ChaosError> {
    let client = context.client()?;
    let mut scribe = context.worker(&format!("reader-{partition}"))?;
    let process = process::READERS + partition;
    let at = TopicPartition::new(&*context.topic, PartitionId(partition as i32));
    let opened = Consumer::open(&client, at, ConsumeOptions::default()).await;
    let mut consumer = opened.map_err(ChaosError::client("opening a reader"))?;
    scribe.note(process, Body::Assign { keys: vec![partition], seek: Seek::Beginning })?;
    loop {
        let op = scribe.begin(process, Body::Poll(Poll { from: From::Assigned, node: 0 }))?;
        let next = tokio::select! {
            next = consumer.next() => next,
            () = context.ending() => break,
        };
        let polled = match next {
            Ok(Some(chunk)) => {
                context.tally.read(chunk.records.len() as u64);
                let runs = runs(context.run, partition, &chunk, None);
                Polled { outcome: Outcome::Ok, error: 0, runs }
            }
            Ok(None) => return Err(ChaosError::Broken(format!("the reader of partition {partition}"))),
            Err(error) => Polled { outcome: Outcome::Info, error: errors::code(&error), runs: vec![] },
        };
        let error = polled.error;
        scribe.complete(process, op, Body::Polled(polled))?;
        if error == OUT_OF_RANGE {
            // Nothing is ever trimmed here: whoever checks the history is told which offset was denied.
            let from = From::Fetch { key: partition, position: consumer.position().0 };
            let op = scribe.begin(process, Body::Poll(Poll { from, node: 0 }))?;
            let polled = Polled { outcome: Outcome::Fail, error: OUT_OF_RANGE, runs: vec![] };
            scribe.complete(process, op, Body::Polled(polled))?;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
    scribe.finish()
}

/// What a chunk holds, as histories have it. The epoch is known of its last record only.
pub fn runs(run: u32, key: u32, chunk: &Chunk, watermarks: Option<(i64, i64)>) -> Vec<Run> {
    let value = |found: &flotilla::client::ConsumedRecord| {
        let read = |bytes: &[u8]| payload::read(run, key, bytes);
        Record { offset: found.offset.0, value: found.record.value.as_deref().map_or(DAMAGED, read) }
    };
    let mut records: Vec<Record> = chunk.records.iter().map(value).collect();
    let last = records.pop();
    let (high_watermark, log_start) = watermarks.unzip();
    let epoch = Some(chunk.leader_epoch.0);
    let before = Run { key, records, ..Run::default() };
    let last = Run { key, records: last.into_iter().collect(), high_watermark, log_start, epoch };
    [before, last].into_iter().filter(|run| !run.records.is_empty() || run.high_watermark.is_some()).collect()
}
