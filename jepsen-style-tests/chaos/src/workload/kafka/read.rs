//! K1, the reading half: a consumer that assigns itself all partitions and goes forward.

use logcheck::{
    event::{Body, From, Outcome, Poll, Polled, Seek},
    rules::polls::OUT_OF_RANGE,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{POLL, RECORDS_MAX, add, cannot_open, code, config, is_ending, on_thread};
use crate::{
    error::ChaosError,
    workload::{Context, process},
};

const PROCESS: u32 = process::KAFKA_READER;

/// Reads until the run ends.
pub async fn run(context: Context) -> Result<(), ChaosError> {
    on_thread(move || {
        let mut config = config(&context, "kafka-reader");
        // Nothing is ever trimmed here: whoever is told so is to say it, not to begin elsewhere.
        config.set("group.id", "unused").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create().map_err(cannot_open("a Kafka consumer"))?;
        let mut all = TopicPartitionList::new();
        for key in 0..context.partitions {
            let added = all.add_partition_offset(&context.topic, key as i32, Offset::Beginning);
            added.map_err(cannot_open("a Kafka consumer"))?;
        }
        consumer.assign(&all).map_err(cannot_open("a Kafka consumer"))?;
        let mut scribe = context.worker("kafka-reader")?;
        let mut positions = vec![0; context.partitions as usize];
        scribe.note(PROCESS, Body::Assign { keys: (0..context.partitions).collect(), seek: Seek::Beginning })?;
        while !is_ending(&context) {
            let op = scribe.begin(PROCESS, Body::Poll(Poll { from: From::Assigned, node: 0 }))?;
            let (polled, denied) = poll(&consumer, &context, &mut positions);
            scribe.complete(PROCESS, op, Body::Polled(polled))?;
            for key in denied {
                let from = From::Fetch { key, position: positions[key as usize] };
                let op = scribe.begin(PROCESS, Body::Poll(Poll { from, node: 0 }))?;
                let polled = Polled { outcome: Outcome::Fail, error: OUT_OF_RANGE, runs: vec![] };
                scribe.complete(PROCESS, op, Body::Polled(polled))?;
            }
        }
        scribe.finish()
    })
    .await
}

/// What is there, and the partitions whose next offset was denied.
fn poll(consumer: &BaseConsumer, context: &Context, positions: &mut [i64]) -> (Polled, Vec<u32>) {
    let (mut polled, mut denied) = (Polled { outcome: Outcome::Ok, ..Polled::default() }, vec![]);
    let mut wait = POLL;
    for _ in 0..RECORDS_MAX {
        match consumer.poll(wait) {
            None => break,
            Some(Ok(message)) => {
                context.tally.read(1);
                positions[message.partition() as usize] = message.offset() + 1;
                add(&mut polled.runs, context.run, &message);
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                // It does not say which partition: all that it may be are asked about.
                denied = (0..context.partitions).collect();
                break;
            }
            // It goes on by itself; what came before stands.
            Some(Err(error)) => {
                polled.error = code(&error);
                break;
            }
        }
        wait = std::time::Duration::ZERO;
    }
    if polled.runs.is_empty() && polled.error != 0 {
        polled.outcome = Outcome::Info;
    } else {
        polled.error = 0;
    }
    (polled, denied)
}
