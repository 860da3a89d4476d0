//! Kafka's messages on a socket: the only file here that names the codec. Answers come back in the order of requests.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::{
    FetchRequest, InitProducerIdRequest, KafkaRequest, ListOffsetsRequest, MetadataRequest, OutboundFrameLimits,
    ProduceRequest, RequestResponsePair, ResponseHeader, encode_request, fetch_request, list_offsets_request,
    metadata_request, produce_request, response_header_version_for,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, KafkaEncode, StrBytes};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What is asked in one version only; the newest that name topics.
const METADATA: i16 = 12;
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const INIT_PRODUCER_ID: i16 = 4;

/// As Java's consumer asks by default: how long a broker may wait for records, and how much it may send.
const FETCH_WAIT_MS: i32 = 500;
const FETCH_BYTES: i32 = 50 << 20;
const FETCH_PARTITION_BYTES: i32 = 1 << 20;
/// How long a broker may take to commit.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// What nobody needs to tell apart: the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("an answer cannot be read: {0}")]
    Decode(#[from] kafka_wire_core::DecodeError),
    #[error("an answer to request {got} came, and {wanted} was to be answered")]
    Order { got: i32, wanted: i32 },
}

pub struct Connection {
    pub asking: Asking,
    pub answers: Answers,
}

/// The side that requests leave by.
pub struct Asking {
    to: OwnedWriteHalf,
    next: i32,
    buffer: BytesMut,
}

/// The side that answers come in by.
pub struct Answers {
    from: OwnedReadHalf,
    next: i32,
}

/// A broker as its clients reach it, and the partitions that it leads.
pub struct Led {
    pub address: String,
    pub partitions: Vec<i32>,
}

/// Answer about one partition: its error code, and what else was asked for.
pub struct Of<T> {
    pub partition: i32,
    pub code: i16,
    pub said: T,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Connection, WireError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (from, to) = stream.into_split();
        let asking = Asking { to, next: 1, buffer: BytesMut::new() };
        Ok(Connection { asking, answers: Answers { from, next: 1 } })
    }

    async fn ask<R: RequestResponsePair>(&mut self, version: i16, request: &R) -> Result<R::Response, WireError> {
        self.asking.send(version, request).await?;
        self.answers.next::<R>(version).await
    }

    /// Who leads what of a topic. Error: a partition has no leader now; the code says why.
    pub async fn leaders(&mut self, topic: &str) -> Result<Result<Vec<Led>, i16>, WireError> {
        let mut wanted = metadata_request::MetadataRequestTopic::default();
        wanted.name = Some(topic.into());
        let mut request = MetadataRequest::default();
        request.topics = Some(vec![wanted]);
        request.allow_auto_topic_creation = false;
        let answer = self.ask(METADATA, &request).await?;
        let partitions = || answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = answer.topics.iter().map(|topic| topic.error_code).chain(partitions().map(|p| p.error_code));
        if let Some(code) = codes.into_iter().find(|code| *code != 0) {
            return Ok(Err(code));
        }
        let led = answer.brokers.iter().map(|broker| {
            let leads = partitions().filter(|partition| partition.leader_id == broker.node_id);
            Led {
                address: format!("{}:{}", broker.host.as_str(), broker.port),
                partitions: leads.map(|partition| partition.partition_index).collect(),
            }
        });
        Ok(Ok(led.filter(|led| !led.partitions.is_empty()).collect()))
    }

    /// A new idempotent producer's id and epoch.
    pub async fn producer_id(&mut self) -> Result<Result<(i64, i16), i16>, WireError> {
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = None;
        request.producer_id = -1;
        request.producer_epoch = -1;
        let answer = self.ask(INIT_PRODUCER_ID, &request).await?;
        Ok(if answer.error_code == 0 {
            Ok((answer.producer_id, answer.producer_epoch))
        } else {
            Err(answer.error_code)
        })
    }

    /// Where each of these partitions ends now.
    pub async fn ends(&mut self, topic: &str, partitions: &[i32]) -> Result<Vec<Of<i64>>, WireError> {
        const LATEST: i64 = -1;
        let mut wanted = list_offsets_request::ListOffsetsTopic::default();
        wanted.name = topic.into();
        wanted.partitions = partitions.iter().map(|partition| latest(*partition, LATEST)).collect();
        let mut request = ListOffsetsRequest::default();
        request.replica_id = -1;
        request.topics = vec![wanted];
        let answer = self.ask(LIST_OFFSETS, &request).await?;
        let said = answer.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(said.map(|s| Of { partition: s.partition_index, code: s.error_code, said: s.offset }).collect())
    }
}

fn latest(partition: i32, timestamp: i64) -> list_offsets_request::ListOffsetsPartition {
    let mut wanted = list_offsets_request::ListOffsetsPartition::default();
    wanted.partition_index = partition;
    wanted.timestamp = timestamp;
    wanted
}

impl Asking {
    async fn send<R: KafkaRequest + KafkaEncode>(&mut self, version: i16, request: &R) -> Result<(), WireError> {
        self.buffer.clear();
        let limits = OutboundFrameLimits::new(i32::MAX as usize);
        let client = Some(StrBytes::from("flotilla-bench"));
        encode_request(&mut self.buffer, self.next, client, request, ApiVersion::new(version), limits)
            .expect("what is sent here exists in the version it is sent in");
        self.next += 1;
        Ok(self.to.write_all(&self.buffer).await?)
    }

    /// One batch for each of these partitions, to be acknowledged once all is committed.
    pub async fn produce(&mut self, topic: &str, batches: Vec<(i32, Bytes)>) -> Result<(), WireError> {
        let mut data = produce_request::TopicProduceData::default();
        data.name = topic.into();
        data.partition_data = batches.into_iter().map(|(partition, batch)| partition_data(partition, batch)).collect();
        let mut request = ProduceRequest::default();
        request.acks = -1;
        request.timeout_ms = PRODUCE_TIMEOUT_MS;
        request.topic_data = vec![data];
        self.send(PRODUCE, &request).await
    }

    /// What comes next of these partitions, in this order.
    pub async fn fetch(&mut self, topic: &str, places: impl Iterator<Item = (i32, i64)>) -> Result<(), WireError> {
        let mut wanted = fetch_request::FetchTopic::default();
        wanted.topic = topic.into();
        wanted.partitions = places.map(|(partition, offset)| fetch_partition(partition, offset)).collect();
        let mut request = FetchRequest::default();
        request.max_wait_ms = FETCH_WAIT_MS;
        request.min_bytes = 1;
        request.max_bytes = FETCH_BYTES;
        // No session.
        request.session_epoch = -1;
        request.topics = vec![wanted];
        self.send(FETCH, &request).await
    }
}

fn partition_data(partition: i32, batch: Bytes) -> produce_request::PartitionProduceData {
    let mut data = produce_request::PartitionProduceData::default();
    data.index = partition;
    data.records = Some(batch);
    data
}

fn fetch_partition(partition: i32, offset: i64) -> fetch_request::FetchPartition {
    let mut wanted = fetch_request::FetchPartition::default();
    wanted.partition = partition;
    wanted.fetch_offset = offset;
    wanted.partition_max_bytes = FETCH_PARTITION_BYTES;
    wanted
}

impl Answers {
    async fn next<R: RequestResponsePair>(&mut self, version: i16) -> Result<R::Response, WireError> {
        let length = self.from.read_u32().await? as usize;
        let mut frame = BytesMut::with_capacity(length);
        while frame.len() < length {
            let missing = length - frame.len();
            if self.from.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        let version = ApiVersion::new(version);
        let mut decoder = Decoder::new(frame.freeze(), DecodeLimits::default())?;
        let header = response_header_version_for::<R>(version).expect("what was asked in exists");
        let got = ResponseHeader::decode(&mut decoder, ApiVersion::new(header))?.correlation_id;
        let wanted = self.next;
        self.next += 1;
        if got != wanted {
            return Err(WireError::Order { got, wanted });
        }
        let answer = R::Response::decode(&mut decoder, version)?;
        decoder.finish()?;
        Ok(answer)
    }

    /// The answer to the oldest Produce: the first offset of each batch.
    pub async fn produced(&mut self) -> Result<Vec<Of<i64>>, WireError> {
        let answer = self.next::<ProduceRequest>(PRODUCE).await?;
        let said = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        Ok(said.map(|s| Of { partition: s.index, code: s.error_code, said: s.base_offset }).collect())
    }

    /// The answer to the oldest Fetch: whole batches.
    pub async fn fetched(&mut self) -> Result<Vec<Of<Bytes>>, WireError> {
        let answer = self.next::<FetchRequest>(FETCH).await?;
        // Of all of it.
        let refused =
            (answer.error_code != 0).then(|| Of { partition: -1, code: answer.error_code, said: Bytes::new() });
        let said = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let said =
            said.map(|s| Of { partition: s.partition_index, code: s.error_code, said: s.records.unwrap_or_default() });
        Ok(refused.into_iter().chain(said).collect())
    }
}
