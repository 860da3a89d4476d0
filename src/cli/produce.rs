//! `flotilla produce`: standard input to records, receipts to standard output.
//!
//! Streams: input is read as fast as the producer's memory frees, receipts are printed as they come.
//! The first failure ends the reading, so that what failed is the end of what was sent.

use std::{
    cell::Cell,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::{io::AsyncReadExt, sync::Notify};

use super::{
    Failure, Global,
    exit::{FAILED, UNKNOWN},
    format::{ReadFormat, ReadRecord, Splitter},
    output, units,
};
use crate::{
    client::{
        Acks, Cluster, Deliveries, Delivery, Outcome, Partitioner, Producer, ProducerOptions, TopicHandle, World,
    },
    record::Codec,
    seam::Rng,
};

pub const EXAMPLES: &str = "\
Examples:
  echo hello | flotilla produce orders
  flotilla produce orders -K : < pairs.txt                 key:value lines
  flotilla produce orders -f '%k\\t%v\\n' --receipts json < table.tsv
  flotilla produce orders -f json -z zstd < records.jsonl
  seq 1 1000 | flotilla produce orders --partitioner round-robin --acks 1
  echo next | flotilla produce journal -p 0 --expect-offset 17

Fields: %t topic, %p partition, %k key, %v value, %T timestamp (ms), %% percent; \\n \\t \\r \\0 \\\\ \\xHH.
json: one object a line with key, value, headers, partition, timestamp; key_base64 and value_base64 for bytes.
A receipt: {\"topic\",\"partition\",\"base_offset\",\"count\",\"epoch\",\"index\",\"durable_on\":[broker ids]}.";

/// Read from standard input at a time.
const READ_BYTES: usize = 256 * 1024;

/// What starting, the driver's tick and saying how it ended may take of --timeout.
const END_SLACK: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub struct ProduceArgs {
    /// The topic.
    topic: String,
    /// How to read standard input: 'json', or text with fields [default: '%v\n'].
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// What to print for each acknowledged batch.
    #[arg(long, value_enum, default_value_t)]
    receipts: Receipts,
    /// 0: no answer, no promise, no receipt. all: answered when on disk on a majority. 1: the same, for an earlier
    /// answer could acknowledge what is then lost.
    #[arg(long, value_enum, default_value_t)]
    acks: AcksArg,
    /// Which partition a record goes to, unless -p or the record says so.
    #[arg(long, value_enum, default_value_t)]
    partitioner: PartitionerArg,
    /// For 'random' (and where a sticky batch goes next): the same seed on a quiet cluster gives the same partitions
    /// [default: one that is printed].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Compare-and-append: fail unless the first record gets this offset and each other the next.
    #[arg(long, value_name = "OFFSET")]
    expect_offset: Option<i64>,
    /// The partition, for all records.
    #[arg(short, long)]
    partition: Option<i32>,
    /// The key, for all records without one.
    #[arg(short, long)]
    key: Option<String>,
    /// A header for every record; may be given again.
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = units::key_value)]
    header: Vec<(String, String)>,
    /// Lines are KEY, this, VALUE: short for -f '%k<DELIMITER>%v\n'.
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with = "format")]
    key_delimiter: Option<String>,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// How long a record waits for others to share a batch with.
    #[arg(long, default_value = "5ms", value_name = "TIME", value_parser = units::duration)]
    linger: Duration,
    /// Size of a full batch before compression.
    #[arg(long, default_value = "64KiB", value_name = "SIZE", value_parser = units::size)]
    batch_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Receipts {
    #[default]
    None,
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AcksArg {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
    #[default]
    All,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Acks {
        match acks {
            AcksArg::Zero => Acks::None,
            AcksArg::One => Acks::Leader,
            AcksArg::All => Acks::All,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PartitionerArg {
    /// By murmur2 of the key as Java's client; without a key, sticky.
    #[default]
    Key,
    /// One partition until its batch goes, then another.
    Sticky,
    RoundRobin,
    Random,
}

impl From<PartitionerArg> for Partitioner {
    fn from(partitioner: PartitionerArg) -> Partitioner {
        match partitioner {
            PartitionerArg::Key => Partitioner::Key,
            PartitionerArg::Sticky => Partitioner::Sticky,
            PartitionerArg::RoundRobin => Partitioner::RoundRobin,
            PartitionerArg::Random => Partitioner::Random,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CompressionArg {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<CompressionArg> for Codec {
    fn from(compression: CompressionArg) -> Codec {
        match compression {
            CompressionArg::None => Codec::None,
            CompressionArg::Gzip => Codec::Gzip,
            CompressionArg::Snappy => Codec::Snappy,
            CompressionArg::Lz4 => Codec::Lz4,
            CompressionArg::Zstd => Codec::Zstd,
        }
    }
}

impl ProduceArgs {
    fn format(&self) -> Result<ReadFormat, Failure> {
        let text = match (&self.key_delimiter, &self.format) {
            (Some(delimiter), _) => {
                // It is literal text: what a format would read as a field or an escape is quoted.
                let literal = delimiter.replace('\\', "\\\\").replace('%', "%%");
                let literal = if delimiter.starts_with('\\') { delimiter.clone() } else { literal };
                format!("%k{literal}%v\\n")
            }
            (None, Some(format)) => format.clone(),
            (None, None) => "%v\\n".to_string(),
        };
        ReadFormat::parse(&text).map_err(|error| Failure::usage(format!("--format: {error}")))
    }

    fn options(&self, global: &Global) -> ProducerOptions {
        ProducerOptions {
            acks: self.acks.into(),
            linger: self.linger,
            batch_bytes: self.batch_bytes,
            compression: self.compression.into(),
            partitioner: self.partitioner.into(),
            // The command, not only the record, ends within --timeout.
            delivery_timeout: global.timeout.saturating_sub(END_SLACK.min(global.timeout / 10)),
            ..Default::default()
        }
    }
}

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

/// Records by how they ended.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    acked: u64,
    sent: u64,
    failed: u64,
    unknown: u64,
    first_error: Option<String>,
}

impl Tally {
    fn count(&mut self, delivery: &Delivery) {
        let records = delivery.tags.len() as u64;
        let error = match &delivery.outcome {
            Outcome::Acked(_) => return self.acked += records,
            Outcome::Sent => return self.sent += records,
            Outcome::Failed(error) => {
                self.failed += records;
                error
            }
            Outcome::Unknown(error) => {
                self.unknown += records;
                error
            }
        };
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// What to exit with, and why.
    fn verdict(&self, input: Result<(), Failure>) -> Result<(), Failure> {
        let ends_badly = self.failed + self.unknown > 0;
        if !ends_badly {
            return input;
        }
        let Tally { acked, failed, unknown, .. } = self;
        let mut message = format!(
            "{acked} records acknowledged, {failed} failed without effect, {unknown} with unknown outcome: {}",
            self.first_error.as_deref().unwrap_or("no reason given")
        );
        if let Err(input) = input {
            message = format!("{message}; {}", input.message);
        }
        Err(Failure { code: if *unknown > 0 { UNKNOWN } else { FAILED }, message })
    }
}

pub async fn run(args: ProduceArgs, global: &Global) -> Result<(), Failure> {
    let splitter = Splitter::new(args.format()?);
    let cluster = cluster(&args, global)?;
    let (producer, deliveries) = Producer::open(&cluster, args.options(global)).await?;
    let topic = producer.topic(&args.topic, global.timeout).await?;
    if let Some(offset) = args.expect_offset {
        if offset < 0 {
            return Err(Failure::usage(format!("--expect-offset {offset}: offsets begin at 0")));
        }
        let partitions = cluster.look(|m| m.topic(&args.topic).map_or(0, <[_]>::len));
        let partition = match args.partition {
            Some(partition) => partition,
            None if partitions == 1 => 0,
            None => return Err(Failure::usage("--expect-offset needs -p: offsets are a partition's")),
        };
        producer.expect_offset(topic, partition, offset)?;
    }
    let stop = Stop::default();
    let receipts = args.receipts;
    let (input, printed) =
        tokio::join!(feed(&args, producer, topic, splitter, &stop), print_all(receipts, deliveries, &stop));
    let tally = printed?;
    tally.verdict(input)
}

/// With a seed that can be repeated, where chance says which partition a record goes to.
fn cluster(args: &ProduceArgs, global: &Global) -> Result<Cluster, Failure> {
    let world = World::system();
    let seed = match (args.seed, args.partitioner) {
        (Some(seed), _) => seed,
        (None, PartitionerArg::Random) => {
            let seed = world.rng.u64();
            eprintln!("flotilla: random partitions, repeat with --seed {seed}");
            seed
        }
        (None, PartitionerArg::Key | PartitionerArg::Sticky | PartitionerArg::RoundRobin) => return global.cluster(),
    };
    global.cluster_in(World { rng: Arc::new(Rng::seeded(seed)), ..world })
}

/// Reads input and sends it, until it ends or something failed. Drops the producer: that flushes.
async fn feed(
    args: &ProduceArgs,
    producer: Producer,
    topic: TopicHandle,
    mut splitter: Splitter,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut stdin = tokio::io::stdin();
    let clock = crate::client::World::system().clock;
    let mut ended = false;
    while !ended && !stop.is_set() {
        splitter.buffer().reserve(READ_BYTES);
        let got = tokio::select! {
            got = stdin.read_buf(splitter.buffer()) => got,
            () = stop.wait() => return Ok(()),
        };
        ended = got.map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))? == 0;
        let now = clock.wall();
        loop {
            let read = match splitter.next_record() {
                Some(read) => read,
                None if ended => match splitter.finish() {
                    Some(read) => read,
                    None => break,
                },
                None => break,
            };
            let mut read = read.map_err(Failure::usage)?;
            if !read.has_timestamp {
                read.record.timestamp = now;
            }
            let partition = fill_in(args, &mut read)?;
            producer.send(topic, partition, &read.record, 0).await?;
            if stop.is_set() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What flags say about every record. Returns its partition, if anything names one.
fn fill_in(args: &ProduceArgs, read: &mut ReadRecord) -> Result<Option<i32>, Failure> {
    if let Some(topic) = read.topic.as_ref().filter(|topic| **topic != args.topic) {
        return Err(Failure::usage(format!("a record is for topic {topic:?}, but {:?} was named", args.topic)));
    }
    if read.record.key.is_none()
        && let Some(key) = &args.key
    {
        read.record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
    }
    for (key, value) in &args.header {
        read.record.headers.push((key.clone(), Some(Bytes::copy_from_slice(value.as_bytes()))));
    }
    Ok(args.partition.or(read.partition))
}

async fn print_all(receipts: Receipts, mut deliveries: Deliveries, stop: &Stop) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let mut out = Vec::new();
    while let Some(first) = deliveries.recv().await {
        let mut next = Some(first);
        while let Some(delivery) = next {
            tally.count(&delivery);
            if matches!(delivery.outcome, Outcome::Failed(_) | Outcome::Unknown(_)) {
                stop.set();
            }
            print(receipts, &delivery, &mut out);
            next = deliveries.try_recv();
        }
        match io::stdout().lock().write_all(&out).and_then(|()| io::stdout().flush()) {
            // Whoever read the receipts has gone; the records still count.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(output::stdout_failed(&error)),
            Ok(()) | Err(_) => out.clear(),
        }
    }
    Ok(tally)
}

fn print(receipts: Receipts, delivery: &Delivery, out: &mut Vec<u8>) {
    let Delivery { topic, partition, tags, outcome, .. } = delivery;
    let count = tags.len();
    match outcome {
        Outcome::Acked(r) => {
            let line = match receipts {
                Receipts::None => return,
                Receipts::Json => receipt_json(r),
                Receipts::Text => {
                    let (last, on) = (r.base_offset + i64::from(r.count) - 1, output::ids(&r.durable_on));
                    let duplicate = if r.duplicate { " (found by a retry)" } else { "" };
                    let (base, epoch, index) = (r.base_offset, r.epoch, r.index);
                    format!(
                        "{topic}-{partition} offsets {base}..={last} epoch {epoch} index {index} on {on}{duplicate}"
                    )
                }
            };
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Outcome::Sent => {}
        Outcome::Failed(error) => {
            eprintln!("flotilla: {topic}-{partition}: {count} records failed without effect: {error}")
        }
        Outcome::Unknown(error) => {
            eprintln!("flotilla: {topic}-{partition}: the outcome of {count} records is unknown: {error}");
        }
    }
}

/// The receipt's JSON, an interface.
fn receipt_json(r: &crate::client::v1::Receipt) -> String {
    json!({
        "topic": r.topic, "partition": r.partition, "base_offset": r.base_offset, "count": r.count,
        "epoch": r.epoch, "index": r.index, "durable_on": r.durable_on,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipts_json_is_frozen() {
        let receipt = crate::client::v1::Receipt {
            topic: "orders".into(),
            partition: 3,
            base_offset: 17,
            count: 2,
            epoch: 4,
            index: 99,
            durable_on: vec![1, 2],
            duplicate: false,
        };
        let got: serde_json::Value = serde_json::from_str(&receipt_json(&receipt)).expect("JSON");
        let want =
            json!({"topic":"orders","partition":3,"base_offset":17,"count":2,"epoch":4,"index":99,"durable_on":[1,2]});
        assert_eq!(got, want);
    }

    #[test]
    fn unknown_outranks_failed_outranks_done() {
        let tally = |failed, unknown| Tally { acked: 1, failed, unknown, ..Default::default() };
        assert_eq!(tally(0, 0).verdict(Ok(())), Ok(()));
        assert_eq!(tally(2, 0).verdict(Ok(())).map_err(|f| f.code), Err(1));
        assert_eq!(tally(2, 3).verdict(Ok(())).map_err(|f| f.code), Err(3));
        assert_eq!(tally(0, 0).verdict(Err(Failure::usage("x"))).map_err(|f| f.code), Err(2));
    }
}
