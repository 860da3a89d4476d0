//! A producer as Kafka's clients are by default: one connection to each broker, batches of all partitions that it
//! leads in one request, a few requests under way, idempotent, acknowledged once committed.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use bytes::Bytes;
use flotilla::{
    record::{BatchBuilder, Codec, Producer, Record},
    seam::{Clock, SystemClock},
    types::{ProducerEpoch, ProducerId, Sequence},
};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    Failed, histogram,
    wire::{Answers, Asking, Connection, Led, Of},
};
use crate::processes::{Brokers, Usage};

/// Requests of one connection that are not answered yet: Kafka's `max.in.flight.requests.per.connection`, and as many
/// batches as a broker knows again.
const REQUESTS_IN_FLIGHT_MAX: u64 = 5;

/// What is produced, and for how long.
pub struct Load<'a> {
    pub topic: &'a str,
    pub partitions: u32,
    pub size: usize,
    /// Records outstanding in all.
    pub in_flight: u64,
    pub warmup: Duration,
    pub measured: Duration,
}

/// What was acknowledged while it was measured.
pub struct Acked {
    pub records: u64,
    pub latency: Histogram<u64>,
    pub before: Usage,
    pub after: Usage,
}

/// What all connections count together. They share one thread.
struct Count {
    from: Instant,
    end: Instant,
    records: u64,
    latency: Histogram<u64>,
}

/// How much one request carries.
#[derive(Clone, Copy)]
struct Shape {
    requests: u64,
    records_per_batch: u64,
}

impl Load<'_> {
    fn shape(&self) -> Shape {
        let per_partition = (self.in_flight / u64::from(self.partitions)).max(1);
        let requests = per_partition.min(REQUESTS_IN_FLIGHT_MAX);
        Shape { requests, records_per_batch: per_partition / requests }
    }
}

/// Produces as fast as it goes.
pub async fn run(load: &Load<'_>, leaders: &[Led], brokers: &Brokers) -> Result<Acked, Failed> {
    let from = Instant::now() + load.warmup;
    let end = from + load.measured;
    let count = RefCell::new(Count { from, end, records: 0, latency: histogram() });
    let looks = async {
        sleep_until(from).await;
        let before = brokers.usage();
        sleep_until(end).await;
        Ok((before, brokers.usage()))
    };
    let loads = try_join_all(leaders.iter().map(|led| one_broker(load, led, &count)));
    let ((before, after), _) = tokio::try_join!(looks, loads)?;
    let Count { records, latency, .. } = count.into_inner();
    Ok(Acked { records, latency, before, after })
}

async fn one_broker(load: &Load<'_>, led: &Led, count: &RefCell<Count>) -> Result<(), Failed> {
    let mut connection = Connection::open(&led.address).await?;
    let (id, epoch) = connection.producer_id().await?.map_err(|code| Failed::Refused { code, partition: -1 })?;
    let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(0) };
    let Connection { mut asking, mut answers } = connection;
    let shape = load.shape();
    let room = Semaphore::new(shape.requests as usize);
    // As many as have room: nobody waits to put one in.
    let (began, begun) = mpsc::channel(shape.requests as usize);
    let end = count.borrow().end;
    tokio::try_join!(
        write(load, led, producer, &mut asking, &room, began, end),
        read(led, shape, &mut answers, &room, begun, count),
    )?;
    Ok(())
}

/// Sends a request whenever there is room for one, until the end.
async fn write(
    load: &Load<'_>,
    led: &Led,
    mut producer: Producer,
    asking: &mut Asking,
    room: &Semaphore,
    began: mpsc::Sender<Instant>,
    end: Instant,
) -> Result<(), Failed> {
    let Shape { records_per_batch, .. } = load.shape();
    let mut record = Record { value: Some(payload(load.size)), ..Record::default() };
    while Instant::now() < end {
        room.acquire().await.expect("nobody closes it").forget();
        let due = Instant::now();
        record.timestamp = SystemClock.wall();
        let batches = led.partitions.iter().map(|partition| {
            // Each partition has its own, as a client's records would.
            (*partition, batch(producer, &record, records_per_batch))
        });
        let batches = batches.collect();
        producer.base_sequence.0 += i32::try_from(records_per_batch).expect("a batch is small");
        asking.produce(load.topic, batches).await?;
        if began.send(due).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Takes the answers, and gives the room back.
async fn read(
    led: &Led,
    shape: Shape,
    answers: &mut Answers,
    room: &Semaphore,
    mut begun: mpsc::Receiver<Instant>,
    count: &RefCell<Count>,
) -> Result<(), Failed> {
    let mut next: BTreeMap<i32, i64> = led.partitions.iter().map(|partition| (*partition, 0)).collect();
    while let Some(due) = begun.recv().await {
        let answer = answers.produced().await?;
        check(&answer, &mut next, shape.records_per_batch as i64)?;
        room.add_permits(1);
        let (now, mut count) = (Instant::now(), count.borrow_mut());
        if (count.from..count.end).contains(&now) {
            let records = shape.records_per_batch * led.partitions.len() as u64;
            count.records += records;
            count.latency.saturating_record_n((now - due).as_micros() as u64, records);
        }
    }
    Ok(())
}

/// Every partition is answered for, without error, and its batch stands right behind the one before. `next`: where.
fn check(answer: &[Of<i64>], next: &mut BTreeMap<i32, i64>, records: i64) -> Result<(), Failed> {
    assert_eq!(answer.len(), next.len(), "an answer for each batch that was sent");
    for Of { partition, code, said } in answer {
        let (partition, code, said) = (*partition, *code, *said);
        if code != 0 {
            return Err(Failed::Refused { code, partition });
        }
        let wanted = next.get_mut(&partition).unwrap_or_else(|| panic!("nothing was sent to partition {partition}"));
        assert_eq!(said, *wanted, "partition {partition}: offsets are dense, and nobody else writes");
        *wanted += records;
    }
    Ok(())
}

fn batch(producer: Producer, record: &Record, records: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(producer);
    for _ in 0..records {
        builder.push(record).expect("a batch is small");
    }
    builder.build().expect("a batch is small")
}

/// Bytes that do not compress, the same in every run.
fn payload(size: usize) -> Bytes {
    let rng = flotilla::seam::Rng::seeded(1);
    (0..size.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).take(size).collect::<Vec<u8>>().into()
}
