//! rskafka: one old version of each request, no groups and no idempotence; it fetches with version 4 alone.

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use clients::{
    CODECS, Outcome, PARTITIONS, PER_CODEC, REPLICATION, Record, Report, Stream, arguments, compare, ends, number,
    records, same, wait_for,
};
use rskafka::{
    client::{
        Client, ClientBuilder,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record as Sent,
};

const CLIENT: &str = "rskafka";
const VERSION: &str = "0.6.0";
/// Records of the long run in one request.
const BATCH: usize = 20;
const FETCH_BYTES: std::ops::Range<i32> = 1..1_000_000;

async fn create(client: &Client, topic: &str) -> Outcome {
    client.controller_client()?.create_topic(topic, PARTITIONS, REPLICATION as i16, 5_000).await?;
    wait_for("3 partitions have leaders", async || {
        let topics = client.list_topics().await?;
        Ok(topics.iter().any(|found| found.name == topic && found.partitions.len() == PARTITIONS as usize))
    })
    .await
}

async fn partitions(client: &Client, topic: &str) -> Outcome<Vec<Arc<PartitionClient>>> {
    let mut found = vec![];
    for p in 0..PARTITIONS {
        found.push(Arc::new(client.partition_client(topic, p, UnknownTopicHandling::Retry).await?));
    }
    Ok(found)
}

/// Its headers are a map: of two with one key it keeps the last.
fn as_sent(record: Record) -> Record {
    let headers: BTreeMap<String, String> = record.headers.into_iter().collect();
    Record { headers: headers.into_iter().collect(), ..record }
}

async fn produce(partitions: &[Arc<PartitionClient>], codec: &str, records: &[Record]) -> Outcome {
    let compression = match codec {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    };
    for (p, partition) in partitions.iter().enumerate() {
        let mine = records.iter().filter(|record| record.partition == p as i32).map(|record| Sent {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect(),
            timestamp: Utc::now(),
        });
        partition.produce(mine.collect(), compression).await?;
    }
    Ok(())
}

async fn read(partitions: &[Arc<PartitionClient>]) -> Outcome<Vec<Record>> {
    let mut got = vec![];
    for (p, partition) in partitions.iter().enumerate() {
        let end = partition.get_offset(OffsetAt::Latest).await?;
        let mut next = partition.get_offset(OffsetAt::Earliest).await?;
        while next < end {
            for found in partition.fetch_records(next, FETCH_BYTES, 500).await?.0 {
                same(&next, &found.offset, "offset")?;
                next += 1;
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                got.push(Record {
                    partition: p as i32,
                    key: found.record.key,
                    value: found.record.value,
                    headers: found.record.headers.into_iter().map(|(key, value)| (key, text(value))).collect(),
                });
            }
        }
    }
    Ok(got)
}

async fn run(client: &Client, topic: &str) -> Outcome {
    let mut report = Report::new(CLIENT, VERSION);
    report.step("create", create(client, topic).await);
    let partitions = partitions(client, topic).await?;
    let mut sent: Vec<Record> = vec![];
    for codec in CODECS {
        let records: Vec<Record> = records(codec, PER_CODEC).into_iter().map(as_sent).collect();
        report.step(codec, produce(&partitions, codec, &records).await);
        sent.extend(records);
    }
    let got = read(&partitions).await;
    report.step("consume", got.and_then(|got| compare(&sent, &got)));
    for step in ["commit", "resume", "rebalance"] {
        report.skip(step, "rskafka has no groups");
    }
    let mut found = (vec![], vec![]);
    let mut listed = Ok(());
    for partition in &partitions {
        match (partition.get_offset(OffsetAt::Earliest).await, partition.get_offset(OffsetAt::Latest).await) {
            (Ok(begin), Ok(end)) => drop((found.0.push(begin), found.1.push(end))),
            (Err(error), _) | (_, Err(error)) => listed = Err(error.into()),
        }
    }
    report.step("offsets", listed.and_then(|()| same(&(vec![0; 3], ends(&sent)), &found, "begins and ends")));
    report.print();
    Ok(())
}

async fn stream(client: &Client, topic: &str, count: usize) -> Outcome {
    create(client, topic).await?;
    let partitions = partitions(client, topic).await?;
    let mut told = Stream::new(count);
    // It waits for each answer itself, so that one record at a time would measure the disk.
    for (batch, first) in (0..count).step_by(BATCH).enumerate() {
        let numbers = first..count.min(first + BATCH);
        let value = |number: usize| Some(number.to_string().into_bytes());
        let records = numbers.clone().map(|number| Sent {
            key: None,
            value: value(number),
            headers: BTreeMap::new(),
            timestamp: Utc::now(),
        });
        let partition = &partitions[batch % partitions.len()];
        let came = partition.produce(records.collect(), Compression::NoCompression).await;
        let came = came.map(drop).map_err(|error| error.to_string());
        numbers.for_each(|number| told.told(number, came.clone()));
        told.pace(first).await;
    }
    let got = read(&partitions).await?;
    let numbers = got.iter().map(|record| number(record.value.as_deref().unwrap_or_default()));
    told.print(CLIENT, VERSION, false, &numbers.collect::<Outcome<Vec<usize>>>()?);
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let (bootstrap, topic, count) = arguments();
    let client = ClientBuilder::new(bootstrap.split(',').map(str::to_owned).collect()).build().await?;
    match count {
        None => run(&client, &topic).await,
        Some(count) => stream(&client, &topic, count).await,
    }
}
