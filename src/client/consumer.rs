//! Reads one partition, in order, across leader changes.
//!
//! Promises: records come with growing offsets from the start asked for, each once, whatever breaks in
//! between; what could not be had (deleted meanwhile, not readable) is said, never skipped in silence; it reads one
//! topic, and not another one that gets its name; every batch's CRC is checked, and what it decodes to is bounded
//! and handed out in chunks (`batches`); a leader that stays silent for [`SILENCE_MAX`] is left.
//! Leaves out: groups, several partitions (use one consumer each), commits.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    admin::{Admin, OffsetAt},
    batches::{Bad, Batches, Stop, Taken, Wanted, record_bytes},
    error::{ClientError, ErrorCode},
    net::{Cluster, MESSAGE_BYTES_MAX, StreamPlace, topics_client, unary_within},
};
use crate::{
    proto::v1::{self, consume_client::ConsumeClient, consume_request, consume_response},
    record::Record,
    types::{LeaderEpoch, Offset, TopicPartition, WallMs},
};

/// A broker answers at least this often, if only with watermarks.
const WAIT_MS: u32 = 1_000;
/// A broker that has not answered for so long is not slow but gone (or frozen): see [`WAIT_MS`].
const SILENCE_MAX: Duration = Duration::from_millis(3_000);
/// How long to wait between two tries to find a leader that serves us.
const PAUSE_MS: u64 = 100;
/// For so long it is not believed that a topic which was read is gone: a broker that has just started may not have
/// heard of it.
const DENIED_MAX: Duration = Duration::from_secs(2);

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// It begins at the first offset that is kept.
    #[default]
    Earliest,
    /// It begins at the high watermark: only what comes from now on is read.
    Latest,
    /// It begins at this offset.
    Offset(Offset),
    /// It begins so many records before the high watermark.
    BeforeEnd(i64),
    /// It begins at the first record of this time or later.
    Timestamp(WallMs),
}

/// What to do about records that are asked for and not there: deleted before they were read, or not written yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gaps {
    /// [`Consumer::next`] fails with OFFSET_OUT_OF_RANGE.
    #[default]
    Fail,
    /// It says so ([`Chunk::notice`]) and goes on: at the first record kept, or by waiting for the one asked for.
    Tell,
}

/// Something that a reader should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The records from `from` on and below `to` were deleted before they were read.
    Skipped { from: Offset, to: Offset },
    /// It begins at an offset that is beyond the high watermark: what comes before that offset is not wanted.
    BeyondEnd { start: Offset, end: Offset },
}

/// How a partition is read.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeOptions {
    /// Where to begin.
    pub start: Start,
    /// What to do about records that are not there.
    pub gaps: Gaps,
    /// The first offset that is not read; `None`: there is no end.
    pub end_offset: Option<Offset>,
    /// Whether it ends at the high watermark of the moment it was opened.
    pub stop_at_end: bool,
    /// How long to look for a leader that serves us before giving up.
    pub patience: Duration,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        ConsumeOptions {
            start: Start::Earliest,
            gaps: Gaps::Fail,
            end_offset: None,
            stop_at_end: false,
            patience: Duration::from_secs(30),
        }
    }
}

/// A record, and where it stands in its partition.
#[derive(Clone, Debug)]
pub struct ConsumedRecord {
    /// The offset that the record has.
    pub offset: Offset,
    /// What was produced.
    pub record: Record,
}

/// Some records, and how far there are more; may hold none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chunk {
    /// The records, in the order of their offsets.
    pub records: Vec<ConsumedRecord>,
    /// What lies before these records. Only with [`Gaps::Tell`].
    pub notice: Option<Notice>,
    /// The high watermark when the records were read; 0 with a notice.
    pub high_watermark: Offset,
    /// The first offset that was kept then; 0 with a notice.
    pub log_start: Offset,
    /// The leader epoch of the last record; 0 without records.
    pub leader_epoch: LeaderEpoch,
}

/// Reads one partition.
pub struct Consumer {
    cluster: Cluster,
    at: TopicPartition,
    /// The topic that is read; empty: whichever has the name.
    topic_id: String,
    position: Offset,
    /// The offset at which the broker is asked, while that is below the position: see [`Notice::BeyondEnd`].
    behind: Option<Offset>,
    end: Option<Offset>,
    gaps: Gaps,
    patience: Duration,
    stream: Option<Opened>,
    /// What of the last answer was not handed out.
    answer: Option<Answer>,
    notice: Option<Notice>,
    /// A batch that cannot be read: said at each call until the reader is told to go on elsewhere.
    bad: Option<ClientError>,
    /// A broker has taken the topic for the one that is meant.
    is_identified: bool,
    /// The time since when every answer was that the topic is not there.
    denied: Option<Instant>,
}

struct Opened {
    address: String,
    answers: tonic::Streaming<v1::ConsumeResponse>,
    _place: StreamPlace,
}

struct Answer {
    batches: Batches,
    high_watermark: Offset,
    log_start: Offset,
}

impl Consumer {
    /// Finds out where to begin (and to end).
    pub async fn open(cluster: &Cluster, at: TopicPartition, options: ConsumeOptions) -> Result<Consumer, ClientError> {
        let give_up = Instant::now() + options.patience;
        loop {
            match Consumer::try_open(cluster, at.clone(), options).await {
                // The name was looked up at a broker that had not heard of the newer topic.
                Err(error) if error.code() == Some(ErrorCode::TopicReplaced) && Instant::now() < give_up => {
                    pause(cluster).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open(
        cluster: &Cluster,
        partition: TopicPartition,
        options: ConsumeOptions,
    ) -> Result<Consumer, ClientError> {
        let admin = Admin::new(cluster.clone(), options.patience);
        let count = admin.partition_count(&partition.topic).await? as i32;
        if !(0..count).contains(&partition.partition.0) {
            let TopicPartition { topic, partition } = partition;
            return Err(ClientError::NoPartition { topic, partition, count });
        }
        let topic_id = cluster.look(|m| m.topic_id(&partition.topic).to_string());
        let at = |at| admin.offset_of_topic_at(&partition, &topic_id, at);
        let end = match options.stop_at_end {
            true => Some(at(OffsetAt::Latest).await?),
            false => None,
        };
        let position = match options.start {
            Start::Offset(offset) => offset,
            Start::Earliest => at(OffsetAt::Earliest).await?,
            Start::Latest => at(OffsetAt::Latest).await?,
            Start::Timestamp(ms) => at(OffsetAt::Timestamp(ms)).await?,
            Start::BeforeEnd(n) => {
                let (first, end) = (at(OffsetAt::Earliest).await?, at(OffsetAt::Latest).await?);
                Offset(end.0.saturating_sub(n)).max(first)
            }
        };
        // Without a record to wait for, nobody else would say it.
        let notice = end.filter(|end| position > *end && options.gaps == Gaps::Tell);
        let notice = notice.map(|end| Notice::BeyondEnd { start: position, end });
        let end = match (end, options.end_offset) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let consumer = Consumer::at(cluster, partition, topic_id, position, options.patience);
        Ok(Consumer { end, notice, gaps: options.gaps, ..consumer })
    }

    /// Begins at this offset of a partition that is known to exist, and has no end.
    pub(super) fn at(
        cluster: &Cluster,
        at: TopicPartition,
        topic_id: String,
        position: Offset,
        patience: Duration,
    ) -> Consumer {
        Consumer {
            cluster: cluster.clone(),
            at,
            topic_id,
            position,
            behind: None,
            end: None,
            gaps: Gaps::Fail,
            patience,
            stream: None,
            answer: None,
            notice: None,
            bad: None,
            is_identified: false,
            denied: None,
        }
    }

    /// Goes on elsewhere: after [`ClientError::BadBatch`], for example, where that says that one can read on.
    pub fn set_position(&mut self, position: Offset) {
        self.position = position;
        (self.stream, self.answer, self.bad, self.behind, self.notice) = (None, None, None, None, None);
    }

    /// Opens the stream anew at the next call.
    pub(super) fn reopen(&mut self) {
        self.stream = None;
    }

    /// Returns the offset of the next record.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// The next records, or `None` at the end. What failed fails again at the next call: nothing is left out that
    /// [`Consumer::set_position`] did not leave out.
    pub async fn next(&mut self) -> Result<Option<Chunk>, ClientError> {
        if let Some(notice) = self.notice.take() {
            return Ok(Some(Chunk::saying(notice)));
        }
        let give_up = Instant::now() + self.patience;
        while self.end.is_none_or(|end| self.position < end) {
            let error = match self.try_next().await {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                // A stream that ends early (its broker stops) is opened again elsewhere.
                Ok(None) => {
                    self.stream = None;
                    continue;
                }
                Err(error) => error,
            };
            if let Some(notice) = self.jump(&error) {
                return Ok(Some(Chunk::saying(notice)));
            }
            if self.is_final(&error) || Instant::now() >= give_up {
                return Err(error);
            }
            self.recover(&error).await;
        }
        Ok(None)
    }

    /// Goes on where there are records, if that is wanted.
    fn jump(&mut self, error: &ClientError) -> Option<Notice> {
        let ClientError::Broker(broker) = error else { return None };
        let (Some(log_start), Some(end)) = (broker.log_start, broker.high_watermark) else { return None };
        if self.gaps == Gaps::Fail || broker.code != ErrorCode::OffsetOutOfRange {
            return None;
        }
        self.stream = None;
        let asked = self.behind.unwrap_or(self.position);
        if asked < log_start {
            self.behind = None;
            let from = self.position;
            self.position = from.max(log_start);
            return (from < log_start).then_some(Notice::Skipped { from, to: log_start });
        }
        // Once a record was read there, the end cannot lie before it.
        if asked > end && !self.is_identified {
            self.behind = Some(end);
            return Some(Notice::BeyondEnd { start: self.position, end });
        }
        None
    }

    fn is_final(&mut self, error: &ClientError) -> bool {
        if error.code() == Some(ErrorCode::TopicReplaced) {
            // Before, it was perhaps the name that was looked up at a broker that had not heard.
            return self.is_identified;
        }
        if error.is_not_found() {
            return self.denied.get_or_insert_with(Instant::now).elapsed() >= DENIED_MAX;
        }
        self.denied = None;
        !error.is_retriable()
    }

    /// Learns who leads now, after an error, and waits a little if that is not known.
    pub(super) async fn recover(&mut self, error: &ClientError) {
        self.stream = None;
        let mut is_news = false;
        if let ClientError::Broker(broker) = error
            && broker.code == ErrorCode::NotLeader
            && let Some(hint) = &broker.leader
        {
            is_news = self.cluster.learn_leader(&self.at.topic, self.at.partition, hint);
        }
        if !is_news {
            pause(&self.cluster).await;
            // The next try says why, if this helps nothing.
            let _ = self.cluster.refresh(std::slice::from_ref(&self.at.topic)).await;
            if error.code() == Some(ErrorCode::TopicReplaced) && !self.is_identified {
                self.topic_id = self.cluster.look(|m| m.topic_id(&self.at.topic).to_string());
            }
        }
    }

    /// Tries once what [`Consumer::next`] does. `None` says that the stream ended; after an error [`Consumer::recover`]
    /// is to be called.
    pub(super) async fn try_next(&mut self) -> Result<Option<Chunk>, ClientError> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if self.answer.is_none() {
            match self.receive().await? {
                Some(answer) => self.answer = Some(self.unpack(answer)?),
                None => return Ok(None),
            }
            (self.is_identified, self.denied) = (true, None);
        }
        self.take().await.map(Some)
    }

    async fn receive(&mut self) -> Result<Option<v1::ConsumeResponse>, ClientError> {
        if self.stream.is_none() {
            self.stream = Some(self.open_stream().await?);
        }
        let Opened { address, answers, .. } = self.stream.as_mut().expect("just opened");
        let silent = || ClientError::Lost {
            address: address.clone(),
            detail: format!("it was silent for {} ms", SILENCE_MAX.as_millis()),
        };
        let answer = timeout(SILENCE_MAX, answers.message()).await.map_err(|_| silent())?;
        answer.map_err(|status| ClientError::from_status(&status, address))
    }

    /// Asks the leader for an offset, once.
    pub(super) async fn ask_offset(&self, at: OffsetAt) -> Result<Offset, ClientError> {
        let address = self.leader()?;
        let request = v1::ListOffsetRequest {
            topic: self.at.topic.clone(),
            topic_id: self.topic_id.clone(),
            partition: self.at.partition.0,
            at: Some(at.wire()),
        };
        let mut client = topics_client(self.cluster.channel(&address)?);
        Ok(Offset(unary_within(&address, SILENCE_MAX, client.list_offset(request)).await?.offset))
    }

    fn leader(&self) -> Result<String, ClientError> {
        let address = self.cluster.look(|m| {
            m.leader(&self.at.topic, self.at.partition).and_then(|l| m.address(l.broker).map(str::to_string))
        });
        address.ok_or_else(|| ClientError::NoBroker {
            what: "leader",
            tried: self.at.to_string(),
            last: "no leader is known".into(),
        })
    }

    async fn open_stream(&self) -> Result<Opened, ClientError> {
        let address = self.leader()?;
        let request = v1::ConsumeRequest {
            topic: self.at.topic.clone(),
            topic_id: self.topic_id.clone(),
            partition: self.at.partition.0,
            start: Some(consume_request::Start::Offset(self.behind.unwrap_or(self.position).0)),
            end_offset: self.end.map(|end| end.0),
            records_max: 0,
            stop_at_end: false,
            raw: true,
            wait_ms_max: WAIT_MS,
            bytes_max: 0,
        };
        let (channel, place) = self.cluster.stream_channel(&address)?;
        let mut client = ConsumeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answers = unary_within(&address, SILENCE_MAX, client.consume(request)).await?;
        Ok(Opened { address, answers, _place: place })
    }

    fn unpack(&mut self, answer: v1::ConsumeResponse) -> Result<Answer, ClientError> {
        let bytes = match answer.data {
            Some(consume_response::Data::Batches(bytes)) => bytes,
            Some(consume_response::Data::Records(_)) => {
                return Err(ClientError::BadAnswer { detail: "raw batches were asked for, records came".into() });
            }
            None => bytes::Bytes::new(),
        };
        let batches = Batches::new(bytes, self.behind.unwrap_or(self.position));
        self.behind = self.behind.map(|_| Offset(answer.next_offset)).filter(|next| *next < self.position);
        Ok(Answer { batches, high_watermark: Offset(answer.high_watermark), log_start: Offset(answer.log_start) })
    }

    /// The next records of the answer that is there. Dropped while it waits, it has taken none.
    async fn take(&mut self) -> Result<Chunk, ClientError> {
        let answer = self.answer.as_mut().expect("the caller has received it");
        let (high_watermark, log_start) = (answer.high_watermark, answer.log_start);
        let mut wanted = Wanted { position: self.position, end: self.end };
        let mut taken = Taken::default();
        loop {
            match answer.batches.take(&mut wanted, &mut taken) {
                Stop::Large if taken.records.is_empty() => {
                    let turn = self.cluster.large_batch_turn().await;
                    answer.batches.give_turn(turn);
                    continue;
                }
                Stop::Full | Stop::Large => {}
                Stop::Done => self.answer = None,
                Stop::Bad(bad) => {
                    let error = self.unreadable(bad);
                    (self.stream, self.answer, self.bad) = (None, None, Some(error));
                }
            }
            break;
        }
        self.position = wanted.position;
        match &self.bad {
            Some(error) if taken.records.is_empty() => Err(error.clone()),
            Some(_) | None => {
                let Taken { records, leader_epoch, .. } = taken;
                Ok(Chunk { records, notice: None, high_watermark, log_start, leader_epoch })
            }
        }
    }

    fn unreadable(&self, bad: Bad) -> ClientError {
        let Bad { offset, next, detail } = bad;
        ClientError::BadBatch { partition: self.at.clone(), offset, next, detail }
    }
}

impl Chunk {
    /// Returns about how much memory the records take.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record_bytes(&record.record)).sum()
    }

    fn saying(notice: Notice) -> Chunk {
        Chunk {
            records: Vec::new(),
            notice: Some(notice),
            high_watermark: Offset(0),
            log_start: Offset(0),
            leader_epoch: LeaderEpoch(0),
        }
    }
}

async fn pause(cluster: &Cluster) {
    let ms = PAUSE_MS / 2 + cluster.world().rng.below(PAUSE_MS);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
