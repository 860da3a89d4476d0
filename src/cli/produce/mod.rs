//! `flotilla produce`: standard input to records, receipts to standard output.
//!
//! Streams: input is read as fast as the producer's memory frees, receipts are printed as they come.
//! Promises: the first failure, and the first SIGINT or SIGTERM, ends the reading; everything read before is sent
//! and waited for, and how many records are stored is said, with an exit code for each way to end.

mod args;
mod outdated;
mod tally;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use serde_json::json;
use tokio::{io::AsyncReadExt, sync::Notify, task::spawn_blocking};

use super::{
    exit::Failure,
    format::Splitter,
    global::Global,
    guess,
    output::{self, Reader},
    signals::Signals,
    terminal::say,
};
use crate::{
    client::{Cluster, Deliveries, Delivery, Offset, Outcome, PartitionId, Producer, Receipt, TopicHandle, World},
    seam::Rng,
};
use args::Receipts;
pub use args::{AcksArg, CompressionArg, PartitionerArg, ProduceArgs};
use outdated::Outdated;
use tally::Tally;

pub const EXAMPLES: &str = "\
Examples:
  echo hello | flotilla produce orders
  flotilla produce orders -K : < pairs.txt                 key:value lines
  flotilla produce orders -f '%k\\t%v\\n' --receipts json < table.tsv
  flotilla produce orders -f json -z zstd < records.jsonl
  flotilla consume old -e -f json | flotilla produce new -f json    a copy, byte by byte
  echo customer-7: | flotilla produce orders -K : -Z       a tombstone: its value is null
  seq 1 1000 | flotilla produce orders --partitioner round-robin --acks 1
  echo next | flotilla produce journal -p 0 --expect-offset 17

Fields: %t topic, %p partition, %k key, %v value, %T timestamp (ms), %% percent; \\n \\t \\r \\0 \\\\ \\xHH.
A line may end in CR LF (--keep-cr keeps the CR), and the last one without either.
json: one object a line with key, value, headers, partition, timestamp; key_base64 and value_base64 for bytes.
A value that is no text is stored as it is written. A record of another topic leaves its partition there.
A receipt: {\"topic\",\"partition\",\"base_offset\",\"count\",\"epoch\",\"index\",\"durable_on\":[broker ids]}.

Ctrl-C and SIGTERM end the reading; what was read is still stored, and counted.
Exit codes: 0 all is stored, 1 nothing is, 2 usage and nothing is, 3 some may be, 5 some is: stderr says how much.";

/// How many bytes are read from standard input at a time.
const READ_BYTES: usize = 256 * 1024;

/// Something failed: read no more input.
#[derive(Default)]
struct Stop {
    is_set: Cell<bool>,
    notify: Notify,
}

impl Stop {
    fn set(&self) {
        self.is_set.set(true);
        self.notify.notify_one();
    }

    fn is_set(&self) -> bool {
        self.is_set.get()
    }

    async fn wait(&self) {
        while !self.is_set() {
            self.notify.notified().await;
        }
    }
}

/// What reading, printing and the end of the command share.
#[derive(Default)]
struct Run {
    stop: Stop,
    tally: RefCell<Tally>,
    /// Standard output failed: no receipt is printed any more.
    unprinted: RefCell<Option<Failure>>,
}

pub async fn run(args: ProduceArgs, global: &Global) -> Result<(), Failure> {
    let splitter = Splitter::new(args.format()?);
    let cluster = cluster(&args, global)?;
    let (producer, deliveries) = Producer::open(&cluster, args.options(global)).await?;
    let topic = match producer.topic(&args.topic, global.timeout).await {
        Ok(topic) => topic,
        Err(error) => return Err(guess::topic(error, &args.topic, &global.admin()?).await),
    };
    if let Some(offset) = args.expect_offset {
        let partitions = cluster.look(|m| m.topic(&args.topic).map_or(0, <[_]>::len));
        let partition = match args.partition {
            Some(partition) => partition,
            None if partitions == 1 => 0,
            None => return Err(Failure::usage("--expect-offset needs -p: offsets are a partition's")),
        };
        producer.expect_offset(topic, PartitionId(partition), Offset(offset))?;
    }
    // Until here a signal ends the process: nothing was sent.
    let mut signals = Signals::listen()?;
    let run = Run::default();
    let printing = print_all(args.receipts, deliveries, &run);
    tokio::pin!(printing);
    let mut is_printed = false;
    let mut ended = {
        let outdated = Outdated::new(&args.topic, cluster.look(|known| known.retention_ms(&args.topic)));
        let feeding = feed(&args, producer, topic, Input { splitter, outdated }, &run, &mut signals);
        tokio::pin!(feeding);
        loop {
            tokio::select! {
                ended = &mut feeding => break ended,
                () = &mut printing, if !is_printed => is_printed = true,
            }
        }
    };
    if !is_printed && let Err(failure) = wait_for_the_rest(printing, &mut signals, ended.is_err()).await {
        ended = Err(failure);
    }
    let unprinted = run.unprinted.take().map_or(Ok(()), Err);
    run.tally.take().verdict(ended.and(unprinted))
}

/// What was taken is on its way. Somebody who asks again does not want to wait for it.
async fn wait_for_the_rest(
    printing: impl Future<Output = ()>,
    signals: &mut Signals,
    is_stopping: bool,
) -> Result<(), Failure> {
    tokio::pin!(printing);
    if !is_stopping {
        tokio::select! {
            () = &mut printing => return Ok(()),
            signal = signals.next() => {
                say(&format!("flotilla: {signal}: waiting for what is under way; again ends at once"));
            }
        }
    }
    tokio::select! {
        () = &mut printing => Ok(()),
        signal = signals.next() => Err(Failure::by_signal(signal, &format!("{signal} again: ended at once"))),
    }
}

/// Returns the cluster, with a seed that can be repeated where chance says which partition a record goes to.
fn cluster(args: &ProduceArgs, global: &Global) -> Result<Cluster, Failure> {
    let world = World::system();
    let seed = match (args.seed, args.partitioner) {
        (Some(seed), _) => seed,
        (None, PartitionerArg::Random) => {
            let seed = world.rng.u64();
            say(&format!("flotilla: random partitions, repeat with --seed {seed}"));
            seed
        }
        (None, PartitionerArg::Key | PartitionerArg::Sticky | PartitionerArg::RoundRobin) => return global.cluster(),
    };
    global.cluster_in(World { rng: Arc::new(Rng::seeded(seed)), ..world })
}

/// What stands between standard input and the producer.
struct Input {
    splitter: Splitter,
    outdated: Outdated,
}

/// Reads input and sends it, until it ends, something failed or a signal came. Drops the producer: that flushes.
async fn feed(
    args: &ProduceArgs,
    producer: Producer,
    topic: TopicHandle,
    Input { mut splitter, mut outdated }: Input,
    run: &Run,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut stdin = tokio::io::stdin();
    let clock = World::system().clock;
    let mut is_over = false;
    while !is_over {
        splitter.buffer().reserve(READ_BYTES);
        let got = tokio::select! {
            got = stdin.read_buf(splitter.buffer()) => got,
            () = run.stop.wait() => return Ok(()),
            signal = signals.next() => return Err(stopped_by(signal)),
        };
        is_over = got.map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))? == 0;
        let now = clock.wall();
        while let Some(read) = splitter.next_record(is_over) {
            let mut read = read.map_err(Failure::usage)?;
            if !read.has_timestamp {
                read.record.timestamp = now;
            } else if let Some(warning) = outdated.warning(read.record.timestamp, now) {
                say(&format!("flotilla: {warning}"));
            }
            let partition = args.fill_in(&mut read).map(PartitionId);
            let sent = tokio::select! {
                biased;
                sent = producer.send(topic, partition, &read.record, 0) => sent,
                // It waits for memory, and was not taken.
                signal = signals.next() => return Err(stopped_by(signal)),
            };
            sent.map_err(|error| {
                let failure = Failure::from(error);
                Failure { message: splitter.complain(&failure.message), ..failure }
            })?;
            run.tally.borrow_mut().taken += 1;
            if run.stop.is_set() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn stopped_by(signal: &'static str) -> Failure {
    Failure::by_signal(signal, &format!("{signal}: the rest of the input was not read"))
}

/// Counts and prints until everything is resolved.
async fn print_all(receipts: Receipts, mut deliveries: Deliveries, run: &Run) {
    let mut out = Vec::new();
    while let Some(first) = deliveries.recv().await {
        let mut next = Some(first);
        while let Some(delivery) = next {
            run.tally.borrow_mut().count(&delivery);
            if matches!(delivery.outcome, Outcome::Failed(_) | Outcome::Unknown(_) | Outcome::Dropped(_)) {
                run.stop.set();
            }
            print(receipts, &delivery, &mut out);
            next = deliveries.try_recv();
        }
        if out.is_empty() || run.unprinted.borrow().is_some() {
            out.clear();
            continue;
        }
        // Aside, so that a slow reader holds up nothing else in this process.
        let write = spawn_blocking(move || (output::write_out(&out), out));
        let written = match write.await {
            Ok((written, back)) => {
                out = back;
                written
            }
            Err(error) => {
                out = Vec::new();
                Err(Failure::failed(format!("cannot print: {error}")))
            }
        };
        out.clear();
        match written {
            // Whoever read the receipts has gone; the records still count.
            Ok(Reader::Listening | Reader::Gone) => {}
            Err(failure) => {
                *run.unprinted.borrow_mut() = Some(failure);
                run.stop.set();
            }
        }
    }
}

fn print(receipts: Receipts, delivery: &Delivery, out: &mut Vec<u8>) {
    let Delivery { topic, partition, tags, outcome, .. } = delivery;
    let count = tags.len();
    let at = partition.map_or(topic.to_string(), |partition| format!("{topic}-{partition}"));
    match outcome {
        Outcome::Acked(r) => {
            let line = match receipts {
                Receipts::None => return,
                Receipts::Json => receipt_json(r),
                Receipts::Text => {
                    let (last, on) = (r.base_offset.0 + i64::from(r.count) - 1, output::ids(&r.durable_on));
                    let duplicate = if r.is_duplicate { " (found by a retry)" } else { "" };
                    let (base, epoch, index) = (r.base_offset, r.epoch, r.index);
                    format!("{at} offsets {base}..={last} epoch {epoch} index {index} on {on}{duplicate}")
                }
            };
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Outcome::Sent => {}
        Outcome::Failed(error) => {
            say(&format!("flotilla: {at}: {count} records failed without effect: {error}"));
        }
        Outcome::Unknown(error) => {
            say(&format!("flotilla: {at}: the outcome of {count} records is unknown: {error}"));
        }
        Outcome::Dropped(error) => {
            say(&format!("flotilla: some of what was sent with acks=0 may be lost: {error}"));
        }
    }
}

/// Returns the receipt's JSON, which is an interface.
fn receipt_json(r: &Receipt) -> String {
    json!({
        "topic": r.at.topic, "partition": r.at.partition, "base_offset": r.base_offset, "count": r.count,
        "epoch": r.epoch, "index": r.index, "durable_on": r.durable_on,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{BrokerId, LeaderEpoch, LogIndex, TopicPartition};

    #[test]
    fn a_receipts_json_is_frozen() {
        let receipt = Receipt {
            at: TopicPartition::new("orders", PartitionId(3)),
            base_offset: Offset(17),
            count: 2,
            epoch: LeaderEpoch(4),
            index: LogIndex(99),
            durable_on: vec![BrokerId(1), BrokerId(2)],
            is_duplicate: false,
        };
        let got: serde_json::Value = serde_json::from_str(&receipt_json(&receipt)).expect("JSON");
        let want =
            json!({"topic":"orders","partition":3,"base_offset":17,"count":2,"epoch":4,"index":99,"durable_on":[1,2]});
        assert_eq!(got, want);
    }
}
