//! `flotilla consume`: records of some partitions to standard output, interleaved as they arrive, in
//! order within each.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Failure, Global,
    format::PrintFormat,
    offsets::{self, Span},
    output,
};
use crate::client::{Admin, Chunk, ClientError, Cluster, ConsumeOptions, Consumer, World};

pub const EXAMPLES: &str = "\
Examples:
  flotilla consume orders                         everything, then wait for more
  flotilla consume orders -e -f '%k:%v\\n'         everything there is
  flotilla consume orders -p 0 -o 100:200 -f json
  flotilla consume orders -o -10                  the last ten of each partition, then wait
  flotilla consume orders -o @2026-11-24T12:00:00Z -n 5
  flotilla consume orders -o @-1h -e

Fields: %t topic, %p partition, %o offset, %k key, %v value, %T timestamp (ms), %h headers, %% percent;
\\n \\t \\r \\0 \\\\ \\xHH.
json: one object a line with topic, partition, offset, timestamp, key, value, headers; bytes that are
no text come as key_base64 and value_base64.";

/// Answers of all partitions that wait to be printed. Each is at most 1 MiB or one batch.
const CHUNKS_MAX: usize = 16;

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// One or more topics.
    #[arg(required = true)]
    topics: Vec<String>,
    /// How to print: 'json', 'value', or text with fields [default: value on a pipe, a readable line
    /// on a terminal].
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Where to begin: start, end, N, -N (N before the end), @TIME, or A:B (B excluded).
    #[arg(short, long, default_value = "start", value_parser = offsets::parse, allow_hyphen_values = true)]
    offset: Span,
    /// Stop after so many records, of all partitions together.
    #[arg(short, long, value_name = "RECORDS")]
    num: Option<u64>,
    /// Stop at the end that each partition has now.
    #[arg(short, long)]
    exit_at_end: bool,
    /// Only these partitions.
    #[arg(short, long, value_delimiter = ',')]
    partition: Vec<i32>,
}

/// What a partition's task hands to the printer.
struct Part {
    topic: String,
    partition: i32,
    chunk: Result<Chunk, ClientError>,
}

pub async fn run(args: ConsumeArgs, global: &Global) -> Result<(), Failure> {
    let format = match &args.format {
        Some(format) => PrintFormat::parse(format).map_err(|e| Failure::usage(format!("--format: {e}")))?,
        None if io::stdout().is_terminal() => PrintFormat::Pretty,
        None => PrintFormat::Value,
    };
    if args.num == Some(0) {
        return Ok(());
    }
    let admin = global.admin()?;
    let options = ConsumeOptions {
        start: args.offset.start.at(World::system().clock.wall().0),
        end_offset: args.offset.end,
        stop_at_end: args.exit_at_end,
        patience: global.timeout,
    };
    let (to, from) = mpsc::channel(CHUNKS_MAX);
    let mut tasks = JoinSet::new();
    for (topic, partition) in partitions(&admin, &args).await? {
        tasks.spawn(read(admin.cluster().clone(), topic, partition, options, to.clone()));
    }
    drop(to);
    print_all(&format, args.num, from).await
}

/// Every (topic, partition) that was asked for, and exists.
async fn partitions(admin: &Admin, args: &ConsumeArgs) -> Result<Vec<(String, i32)>, Failure> {
    let mut all = Vec::new();
    for topic in &args.topics {
        let count = admin.partition_count(topic).await.map_err(Failure::of_read)? as i32;
        if args.partition.is_empty() {
            all.extend((0..count).map(|p| (topic.clone(), p)));
        }
        for &partition in &args.partition {
            if !(0..count).contains(&partition) {
                return Err(ClientError::NoPartition { topic: topic.clone(), partition, count }.into());
            }
            all.push((topic.clone(), partition));
        }
    }
    Ok(all)
}

async fn read(cluster: Cluster, topic: String, partition: i32, options: ConsumeOptions, to: mpsc::Sender<Part>) {
    let part = |chunk| Part { topic: topic.clone(), partition, chunk };
    let mut consumer = match Consumer::open(&cluster, &topic, partition, options).await {
        Ok(consumer) => consumer,
        Err(error) => return drop(to.send(part(Err(error))).await),
    };
    loop {
        let chunk = match consumer.next().await {
            Ok(None) => return,
            Ok(Some(chunk)) if chunk.records.is_empty() => continue,
            Ok(Some(chunk)) => Ok(chunk),
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        // The printer has enough, or this was the end.
        if to.send(part(chunk)).await.is_err() || is_last {
            return;
        }
    }
}

async fn print_all(format: &PrintFormat, num: Option<u64>, mut from: mpsc::Receiver<Part>) -> Result<(), Failure> {
    let mut left = num.unwrap_or(u64::MAX);
    let mut out = Vec::new();
    while let Some(Part { topic, partition, chunk }) = from.recv().await {
        let chunk = chunk.map_err(|error| {
            let failure = Failure::of_read(error);
            Failure { message: format!("{topic}-{partition}: {}", failure.message), ..failure }
        })?;
        out.clear();
        for record in &chunk.records {
            format.print(&mut out, &topic, partition, record);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&out).and_then(|()| stdout.flush()) {
            // `consume | head`: whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(output::stdout_failed(&error)),
            Ok(()) if left == 0 => return Ok(()),
            Ok(()) => {}
        }
    }
    Ok(())
}
