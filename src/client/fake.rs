//! A cluster of fake brokers on loopback, for the client's tests: real tonic servers over one shared
//! in-memory log per partition, with the rules of idempotence and seeded faults.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{error::ERROR_TRAILER, fake_coordinator::Coordinator};
use crate::{
    proto::v1::{self, ErrorCode},
    record::{BATCH_BYTES_MAX_DEFAULT, BatchError, BatchHeader, BatchLimits, append_patched, validate_batch},
    seam::Rng,
    types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence},
};

/// Each number says that one in so many requests meets this fault; 0 says that none does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The batch is appended, and the stream breaks before the answer.
    pub break_after: u64,
    /// The stream breaks before the append.
    pub break_before: u64,
    /// The leader moves to the next broker.
    pub move_leader: u64,
    /// The batch is appended, and OUTCOME_UNKNOWN is answered.
    pub unknown: u64,
    /// The batch is not appended, and UNAVAILABLE is answered.
    pub unavailable: u64,
    /// A consume stream breaks after an answer.
    pub break_consume: u64,
}

#[derive(Default)]
pub struct Partition {
    pub batches: Vec<(i64, Bytes)>,
    pub next_offset: i64,
    pub log_start: i64,
    pub leader: u64,
    pub epoch: i32,
    /// The one thing in `batches` is a whole answer: all there is, as it is.
    pub whole: bool,
    producer: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: Sequence,
    /// The sequence, base offset and count of each batch that was appended lately.
    recent: VecDeque<(Sequence, i64, i32)>,
}

pub struct Shared {
    pub partitions: Vec<Partition>,
    pub addresses: Vec<String>,
    pub faults: Faults,
    pub injected: u64,
    /// Where the partitions of each topic are in `partitions`.
    pub topics: BTreeMap<String, Vec<usize>>,
    /// How many topics of a name there have been: a part of the id.
    made: BTreeMap<String, u64>,
    pub groups: Coordinator,
    /// Requests to this broker are read and never answered.
    pub hung: Option<u64>,
    /// All produces are answered with this error.
    pub refuse: Option<ErrorCode>,
    /// NOT_LEADER does not say who leads.
    pub hide_hints: bool,
    /// A broker that knows nothing of what happened since.
    pub cut_off: Option<CutOff>,
    /// The topics' `max.message.bytes`.
    pub batch_bytes_max: usize,
    pub hides_configs: bool,
    /// Who was asked for metadata, in order.
    pub asked: Vec<u64>,
    /// No batches are kept: this is for measuring.
    pub forget: bool,
    pub next_producer: i64,
    rng: Rng,
}

/// A broker that is cut off from its peers; clients reach it.
#[derive(Clone, Debug)]
pub struct CutOff {
    pub broker: u64,
    /// Who led which partition, and in which epoch, when it was cut off.
    pub leaders: Vec<(u64, i32)>,
    /// The metadata that this broker answers says that it is cut off.
    pub says_so: bool,
    /// It never answers what it cannot do, instead of refusing it.
    pub is_silent: bool,
}

#[derive(Clone)]
pub struct Fake {
    shared: Arc<Mutex<Shared>>,
    appended: Arc<Notify>,
    pub id: u64,
}

/// What became of a request.
enum Did {
    Answer(v1::produce_response::Result),
    Break,
    Nothing,
}

impl Fake {
    /// Starts brokers 1, 2, ...; topic "t" has so many partitions, led in turn.
    pub async fn start(brokers: u64, partitions: usize, seed: u64) -> Fake {
        let shared = Arc::new(Mutex::new(Shared {
            partitions: vec![],
            topics: BTreeMap::new(),
            made: BTreeMap::new(),
            groups: Coordinator::default(),
            addresses: vec![],
            faults: Faults::default(),
            injected: 0,
            hung: None,
            refuse: None,
            hide_hints: false,
            cut_off: None,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            hides_configs: false,
            asked: vec![],
            forget: false,
            next_producer: 1000,
            rng: Rng::seeded(seed),
        }));
        let appended = Arc::new(Notify::new());
        for id in 1..=brokers {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound").to_string();
            shared.lock().expect("lock").addresses.push(address);
            let fake = Fake { shared: shared.clone(), appended: appended.clone(), id };
            tokio::spawn(
                tonic::transport::Server::builder()
                    .add_service(v1::produce_server::ProduceServer::new(fake.clone()))
                    .add_service(v1::consume_server::ConsumeServer::new(fake.clone()))
                    .add_service(v1::cluster_server::ClusterServer::new(fake.clone()))
                    .add_service(v1::groups_server::GroupsServer::new(fake.clone()))
                    .add_service(v1::topics_server::TopicsServer::new(fake))
                    .serve_with_incoming(TcpListenerStream::new(listener)),
            );
        }
        let fake = Fake { shared, appended, id: 0 };
        fake.add_topic("t", partitions);
        fake
    }

    /// Adds a topic whose partitions are led in turn; one of the same name is gone.
    pub fn add_topic(&self, name: &str, partitions: usize) {
        let mut s = self.lock();
        let (first, brokers) = (s.partitions.len(), s.addresses.len() as u64);
        s.topics.insert(name.into(), (first..first + partitions).collect());
        *s.made.entry(name.into()).or_default() += 1;
        s.groups.offsets.retain(|at, _| at.topic != name);
        let led = |p| Partition { leader: p % brokers + 1, epoch: 1, ..Default::default() };
        s.partitions.extend((0..partitions as u64).map(led));
    }

    /// Moves every leadership to the next broker.
    pub fn move_leaders(&self) {
        let mut s = self.lock();
        let brokers = s.addresses.len() as u64;
        for p in &mut s.partitions {
            (p.leader, p.epoch) = (p.leader % brokers + 1, p.epoch + 1);
        }
        drop(s);
        self.appended.notify_waiters();
    }

    /// Cuts a broker off; what it led is led by the next one from now on.
    pub fn cut_off(&self, broker: u64, says_so: bool, is_silent: bool) {
        let mut s = self.lock();
        let leaders = s.partitions.iter().map(|p| (p.leader, p.epoch)).collect();
        s.cut_off = Some(CutOff { broker, leaders, says_so, is_silent });
        let brokers = s.addresses.len() as u64;
        for p in s.partitions.iter_mut().filter(|p| p.leader == broker) {
            (p.leader, p.epoch) = (p.leader % brokers + 1, p.epoch + 1);
        }
    }

    /// Adds partitions to a topic.
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let mut s = self.lock();
        let (first, have) = (s.partitions.len(), s.topics[name].len());
        let more = partitions - have;
        s.topics.get_mut(name).expect("it is there").extend(first..first + more);
        s.partitions.extend((0..more).map(|_| Partition { leader: 1, epoch: 1, ..Default::default() }));
    }

    pub fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("lock")
    }

    fn handle(&self, request: &v1::ProduceRequest) -> Did {
        let mut s = self.lock();
        if s.hung == Some(self.id) {
            return Did::Nothing;
        }
        if let Some(code) = s.refuse {
            return error(code, v1::Effect::None);
        }
        let faults = s.faults;
        let hits = |s: &mut Shared, one_in: u64| {
            let hit = one_in > 0 && s.rng.below(one_in) == 0;
            s.injected += u64::from(hit);
            hit
        };
        let Some(p) = s.slot(&request.topic, request.partition) else {
            return error(ErrorCode::UnknownPartition, v1::Effect::None);
        };
        if hits(&mut s, faults.move_leader) {
            let brokers = s.addresses.len() as u64;
            s.partitions[p].leader = s.partitions[p].leader % brokers + 1;
            s.partitions[p].epoch += 1;
        }
        if let Some(cut_off) = s.cut_off.as_ref().filter(|cut_off| cut_off.broker == self.id) {
            return match (cut_off.leaders[p].0 == self.id, cut_off.is_silent) {
                (true, true) => Did::Nothing,
                (true, false) => error(ErrorCode::NotEnoughReplicas, v1::Effect::None),
                (false, _) => error(ErrorCode::NotLeader, v1::Effect::None),
            };
        }
        let (leader, epoch) = (s.partitions[p].leader, s.partitions[p].epoch);
        if leader != self.id {
            let hint = v1::LeaderHint { broker: leader, address: s.addresses[leader as usize - 1].clone(), epoch };
            let leader = if s.hide_hints { None } else { Some(hint) };
            let code = ErrorCode::NotLeader as i32;
            return Did::Answer(v1::produce_response::Result::Error(v1::Error { code, leader, ..Default::default() }));
        }
        if hits(&mut s, faults.break_before) {
            return Did::Break;
        }
        if hits(&mut s, faults.unavailable) {
            return error(ErrorCode::Unavailable, v1::Effect::None);
        }
        let limits = BatchLimits { batch_bytes_max: s.batch_bytes_max };
        let result = s.partitions[p].append(request, &limits);
        self.appended.notify_waiters();
        if s.forget {
            s.partitions[p].batches.clear();
        }
        if hits(&mut s, faults.break_after) {
            return Did::Break;
        }
        if hits(&mut s, faults.unknown) {
            return error(ErrorCode::OutcomeUnknown, v1::Effect::Unknown);
        }
        match result {
            Ok(receipt) => Did::Answer(v1::produce_response::Result::Receipt(receipt)),
            Err(code) => error(code, v1::Effect::None),
        }
    }
}

impl Shared {
    pub fn topic_id(&self, topic: &str) -> String {
        self.made.get(topic).map(|made| format!("{topic}-{made}")).unwrap_or_default()
    }

    pub fn check_id(&self, topic: &str, id: &str) -> Result<(), Status> {
        match id.is_empty() || id == self.topic_id(topic) {
            true => Ok(()),
            false => Err(status(v1::Error { code: ErrorCode::TopicReplaced.into(), ..Default::default() })),
        }
    }

    pub fn slot(&self, topic: &str, partition: i32) -> Option<usize> {
        self.topics.get(topic)?.get(usize::try_from(partition).ok()?).copied()
    }
}

/// A status with an error in its trailer, as brokers send it.
pub fn status(error: v1::Error) -> Status {
    let mut status = Status::failed_precondition(error.message.clone());
    let bytes = prost::Message::encode_to_vec(&error);
    status.metadata_mut().insert_bin(ERROR_TRAILER, tonic::metadata::MetadataValue::from_bytes(&bytes));
    status
}

fn error(code: ErrorCode, effect: v1::Effect) -> Did {
    let error =
        v1::Error { code: code as i32, effect: effect as i32, message: "injected".into(), ..Default::default() };
    Did::Answer(v1::produce_response::Result::Error(error))
}

impl Partition {
    fn append(&mut self, request: &v1::ProduceRequest, limits: &BatchLimits) -> Result<v1::Receipt, ErrorCode> {
        let Some(v1::produce_request::Payload::Batch(batch)) = &request.payload else {
            return Err(ErrorCode::InvalidRequest);
        };
        let header = validate_batch(batch, limits).map_err(|error| match error {
            BatchError::TooLarge { .. } => ErrorCode::BatchTooLarge,
            _ => ErrorCode::CorruptBatch,
        })?;
        let receipt = |base_offset, count, duplicate| v1::Receipt {
            topic: request.topic.clone(),
            partition: request.partition,
            base_offset,
            count,
            duplicate,
            ..Default::default()
        };
        // Refused before anything is remembered of it.
        let is_wrong_offset = request.expected_offset.is_some_and(|expected| expected != self.next_offset);
        if header.is_idempotent() {
            let id = (header.producer_id, header.producer_epoch);
            if self.producer == Some(id)
                && let Some((_, base, count)) = self.recent.iter().find(|r| r.0 == header.base_sequence)
            {
                return Ok(receipt(*base, *count, true));
            }
            if self.producer.is_some_and(|known| known.0 == id.0 && known.1 > id.1) {
                return Err(ErrorCode::FencedProducer);
            }
            // As Kafka: from a producer that it does not know a broker takes any sequence.
            let expected = match self.producer {
                Some(known) if known == id => self.next_sequence,
                Some(known) if known.0 == id.0 => Sequence(0),
                Some(_) | None => header.base_sequence,
            };
            if header.base_sequence != expected {
                return Err(ErrorCode::OutOfOrderSequence);
            }
            if is_wrong_offset {
                return Err(ErrorCode::WrongOffset);
            }
            if self.producer != Some(id) {
                self.recent.clear();
            }
            (self.producer, self.next_sequence) = (Some(id), header.base_sequence.last_of(header.count).next());
        }
        if is_wrong_offset {
            return Err(ErrorCode::WrongOffset);
        }
        let base = self.next_offset;
        let mut patched = BytesMut::new();
        append_patched(&mut patched, batch, Offset(base), LeaderEpoch(self.epoch));
        self.batches.push((base, patched.freeze()));
        self.next_offset += i64::from(header.count);
        self.recent.push_back((header.base_sequence, base, header.count));
        if self.recent.len() > 5 {
            self.recent.pop_front();
        }
        Ok(receipt(base, header.count, false))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v1::produce_server::Produce for Fake {
    type ProduceStream = Answers<v1::ProduceResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let (to, answers) = mpsc::channel(16);
        let (fake, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let answer = match fake.handle(&request) {
                    Did::Answer(v1::produce_response::Result::Error(error)) if request.acks() == v1::Acks::None => {
                        Err(status(error))
                    }
                    Did::Answer(_) if request.acks() == v1::Acks::None => continue,
                    Did::Answer(result) => {
                        Ok(v1::ProduceResponse { correlation_id: request.correlation_id, result: Some(result) })
                    }
                    Did::Break => Err(Status::unavailable("injected")),
                    Did::Nothing => continue,
                };
                let is_end = answer.is_err();
                if to.send(answer).await.is_err() || is_end {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[tonic::async_trait]
impl v1::consume_server::Consume for Fake {
    type ConsumeStream = Answers<v1::ConsumeResponse>;

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let request = request.into_inner();
        let Some(v1::consume_request::Start::Offset(mut offset)) = request.start else {
            return Err(Status::invalid_argument("an offset"));
        };
        // What was there at the start breaks off after a few answers, if that fault is on.
        let (first, mut breaks_after) = {
            let mut s = self.lock();
            let first = s.read(self.id, &request, offset)?;
            let one_in = s.faults.break_consume;
            let is_hit = one_in > 0 && first.len() > 1;
            s.injected += u64::from(is_hit);
            (first, is_hit.then(|| 1 + s.rng.below(one_in) as usize))
        };
        let (to, answers) = mpsc::channel(2);
        let fake = self.clone();
        tokio::spawn(async move {
            let mut read = Ok(first);
            loop {
                let appended = fake.appended.notified();
                for answer in std::mem::replace(&mut read, Ok(vec![])).unwrap_or_default() {
                    if breaks_after == Some(0) {
                        let _ = to.send(Err(Status::unavailable("injected"))).await;
                        return;
                    }
                    breaks_after = breaks_after.map(|left| left - 1);
                    offset = answer.next_offset;
                    if to.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                if request.end_offset.is_some_and(|end| offset >= end) || to.is_closed() {
                    return;
                }
                let is_late = tokio::time::timeout(Duration::from_millis(100), appended).await.is_err();
                read = fake.lock().read(fake.id, &request, offset);
                match &mut read {
                    Ok(answers) if answers.is_empty() && is_late => {
                        answers.push(v1::ConsumeResponse { next_offset: offset, ..Default::default() });
                    }
                    Ok(_) => {}
                    Err(status) => {
                        let _ = to.send(Err(status.clone())).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

impl Shared {
    /// Everything from an offset on, a batch an answer.
    fn read(&self, broker: u64, request: &v1::ConsumeRequest, offset: i64) -> Result<Vec<v1::ConsumeResponse>, Status> {
        let refuse = |code: ErrorCode| v1::Error { code: code.into(), message: "fake".into(), ..Default::default() };
        let Some(slot) = self.slot(&request.topic, request.partition) else {
            return Err(status(refuse(ErrorCode::UnknownPartition)));
        };
        self.check_id(&request.topic, &request.topic_id)?;
        let p = &self.partitions[slot];
        if p.leader != broker {
            let address = self.addresses[p.leader as usize - 1].clone();
            let leader = Some(v1::LeaderHint { broker: p.leader, address, epoch: p.epoch });
            return Err(status(v1::Error { leader, ..refuse(ErrorCode::NotLeader) }));
        }
        if offset < p.log_start || offset > p.next_offset {
            let (log_start, high_watermark) = (Some(p.log_start), Some(p.next_offset));
            return Err(status(v1::Error { log_start, high_watermark, ..refuse(ErrorCode::OffsetOutOfRange) }));
        }
        let mut answers = vec![];
        if p.whole {
            let answer = |bytes: &Bytes| v1::ConsumeResponse {
                data: Some(v1::consume_response::Data::Batches(bytes.clone())),
                high_watermark: p.next_offset,
                log_start: p.log_start,
                next_offset: p.next_offset,
            };
            return Ok(p.batches.iter().filter(|_| offset < p.next_offset).map(|b| answer(&b.1)).collect());
        }
        for (base, bytes) in &p.batches {
            let next_offset = base + i64::from(BatchHeader::parse(bytes).expect("ours").count);
            if next_offset > offset {
                answers.push(v1::ConsumeResponse {
                    data: Some(v1::consume_response::Data::Batches(bytes.clone())),
                    high_watermark: p.next_offset,
                    log_start: p.log_start,
                    next_offset,
                });
            }
        }
        Ok(answers)
    }
}
