//! The rdkafka crate: a librdkafka that it builds from source.

use std::{collections::BTreeSet, error::Error, time::Duration};

use clients::{
    CODECS, Outcome, PARTITIONS, PER_CODEC, REPLICATION, RESUMED, Record, Report, Stream, WAIT, arguments, compare,
    ends, number, records, same, wait_for,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::RDKafkaErrorCode,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, future_producer::OwnedDeliveryResult},
    util::get_rdkafka_version,
};
use tokio::{task::JoinSet, time::timeout};

const CLIENT: &str = "rdkafka";

struct Matrix {
    bootstrap: String,
    topic: String,
}

impl Matrix {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    async fn create(&self) -> Outcome {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let topic = NewTopic::new(&self.topic, PARTITIONS, TopicReplication::Fixed(REPLICATION));
        let came = admin.create_topics([&topic], &AdminOptions::new()).await?;
        for each in came {
            each.map_err(|(topic, error)| format!("{topic}: {error}"))?;
        }
        wait_for("3 partitions of 3 replicas have leaders", async || {
            let told = admin.inner().fetch_metadata(Some(&self.topic), WAIT)?;
            let found = told.topics()[0].partitions();
            Ok(found.len() == PARTITIONS as usize && found.iter().all(|p| p.leader() >= 0 && p.replicas().len() == 3))
        })
        .await
    }

    fn producer(&self, codec: &str) -> Outcome<FutureProducer> {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("compression.type", codec).set("linger.ms", "20");
        Ok(config.create()?)
    }

    async fn produce(&self, codec: &str, records: &[Record]) -> Outcome {
        let producer = self.producer(codec)?;
        let mut sent = vec![];
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
            }
            let mut message = FutureRecord::<[u8], [u8]>::to(&self.topic).partition(record.partition).headers(headers);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            sent.push(producer.send_result(message).map_err(|(error, _)| error)?);
        }
        for delivery in sent {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    fn member(&self, group: &str) -> Outcome<StreamConsumer> {
        let mut config = self.config();
        config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        let consumer: StreamConsumer = config.create()?;
        consumer.subscribe(&[&self.topic])?;
        Ok(consumer)
    }

    async fn commit(&self, reader: &StreamConsumer, sent: &[Record]) -> Outcome {
        reader.commit_consumer_state(CommitMode::Sync)?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, PARTITIONS - 1);
        let committed = reader.committed_offsets(asked, WAIT)?;
        let found: Vec<Offset> = committed.elements().iter().map(|element| element.offset()).collect();
        same(&ends(sent).into_iter().map(Offset::Offset).collect(), &found, "committed")
    }

    async fn resume(&self, group: &str) -> Outcome<Vec<Record>> {
        let more = records("none", RESUMED);
        self.produce("none", &more).await?;
        let reader = self.member(group)?;
        compare(&more, &take(&reader, more.len()).await?)?;
        Ok(more)
    }

    async fn rebalance(&self, group: &str) -> Outcome {
        let members = [self.member(group)?, self.member(group)?];
        wait_for("two members share 3 partitions", async || {
            let mut assigned = vec![];
            for member in &members {
                // What it reads does not matter, but it joins and heeds rebalances while it is polled.
                drop(timeout(Duration::from_millis(100), member.recv()).await);
                assigned.push(
                    member.assignment()?.elements().iter().map(|element| element.partition()).collect::<Vec<_>>(),
                );
            }
            let all: BTreeSet<i32> = assigned.iter().flatten().copied().collect();
            let sum: usize = assigned.iter().map(Vec::len).sum();
            Ok(assigned.iter().all(|a| !a.is_empty()) && sum == PARTITIONS as usize && all.len() == sum)
        })
        .await
    }

    async fn offsets(&self, sent: &[Record]) -> Outcome {
        let consumer: StreamConsumer = self.config().set("group.id", "none").create()?;
        for (p, end) in ends(sent).into_iter().enumerate() {
            let found = consumer.fetch_watermarks(&self.topic, p as i32, WAIT)?;
            same(&(0, end), &found, &format!("begin and end of partition {p}"))?;
        }
        let mut since_1970 = TopicPartitionList::new();
        for p in 0..PARTITIONS {
            since_1970.add_partition_offset(&self.topic, p, Offset::Offset(1))?;
        }
        let first = consumer.offsets_for_times(since_1970, WAIT)?;
        let found: Vec<Offset> = first.elements().iter().map(|element| element.offset()).collect();
        same(&vec![Offset::Offset(0); 3], &found, "first since 1970")
    }

    async fn run(&self) -> Outcome {
        let mut report = Report::new(CLIENT, &version());
        let group = format!("{}-group", self.topic);
        let mut sent = vec![];
        report.step("create", self.create().await);
        for codec in CODECS {
            report.step(codec, self.produce(codec, &records(codec, PER_CODEC)).await);
            sent.extend(records(codec, PER_CODEC));
        }
        let reader = self.member(&group)?;
        let got = take(&reader, sent.len()).await;
        report.step("consume", got.and_then(|got| compare(&sent, &got)));
        report.step("commit", self.commit(&reader, &sent).await);
        drop(reader);
        let resumed = self.resume(&group).await;
        report.step("resume", resumed.map(|more| sent.extend(more)));
        report.step("rebalance", self.rebalance(&format!("{group}-two")).await);
        report.step("offsets", self.offsets(&sent).await);
        report.print();
        Ok(())
    }

    async fn stream(&self, count: usize) -> Outcome {
        self.create().await?;
        let producer = self.producer("none")?;
        let mut told = Stream::new(count);
        let mut deliveries = JoinSet::new();
        for i in 0..count {
            let value = i.to_string();
            let message =
                FutureRecord::<[u8], [u8]>::to(&self.topic).partition(i as i32 % PARTITIONS).payload(value.as_bytes());
            let delivery = producer.send_result(message).map_err(|(error, _)| error)?;
            deliveries.spawn(async move { (i, delivery.await) });
            while let Some(done) = deliveries.try_join_next() {
                note(&mut told, done?);
            }
            told.pace(i).await;
        }
        while let Some(done) = deliveries.join_next().await {
            note(&mut told, done?);
        }
        let reader = self.member(&format!("{}-group", self.topic))?;
        let mut got = take(&reader, told.acked()).await?;
        // Duplicates would come after what is awaited.
        while let Ok(message) = timeout(Duration::from_secs(1), reader.recv()).await {
            got.push(record(&message?));
        }
        let numbers = got.iter().map(|record| number(record.value.as_deref().unwrap_or_default()));
        told.print(CLIENT, &version(), true, &numbers.collect::<Outcome<Vec<usize>>>()?);
        Ok(())
    }
}

fn version() -> String {
    format!("0.39.0/{}", get_rdkafka_version().1)
}

fn note(told: &mut Stream, (i, delivery): (usize, Result<OwnedDeliveryResult, impl Error>)) {
    let came =
        delivery.map_err(|error| error.to_string()).and_then(|came| came.map_err(|(error, _)| error.to_string()));
    told.told(i, came.map(drop));
}

fn record(message: &BorrowedMessage) -> Record {
    let text = |header: Header<&[u8]>| {
        (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
    };
    Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map(|headers| headers.iter().map(text).collect()).unwrap_or_default(),
    }
}

async fn take(consumer: &StreamConsumer, count: usize) -> Outcome<Vec<Record>> {
    let mut got = vec![];
    while got.len() < count {
        let message = timeout(WAIT, consumer.recv()).await;
        match message.map_err(|_| format!("{} of {count} records after {WAIT:?}", got.len()))? {
            Ok(message) => got.push(record(&message)),
            // Told, and mended by itself: a broker is gone.
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

#[tokio::main]
async fn main() -> Outcome {
    let (bootstrap, topic, count) = arguments();
    let matrix = Matrix { bootstrap, topic };
    match count {
        None => matrix.run().await,
        Some(count) => matrix.stream(count).await,
    }
}
