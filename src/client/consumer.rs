//! Reads one partition, in order, across leader changes.
//!
//! Promises: records come with growing offsets from the start asked for, each once, whatever breaks in
//! between; every batch's CRC is checked and its decompression bounded; a leader that stays silent for
//! [`SILENCE_MAX`] is left. Leaves out: groups, several partitions (use one consumer each), commits.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    admin::{Admin, OffsetAt},
    error::{ClientError, ErrorCode},
    net::{Cluster, MESSAGE_BYTES_MAX, StreamPlace, topics_client, unary_within},
};
use crate::{
    proto::v1::{self, consume_client::ConsumeClient, consume_request, consume_response},
    record::{DECODED_BYTES_MAX_DEFAULT, Record, decode_records, walk},
};

/// A broker answers at least this often, if only with watermarks.
const WAIT_MS: u32 = 1_000;
/// So after this long it is not slow but gone (or frozen).
const SILENCE_MAX: Duration = Duration::from_millis(3_000);
/// Between two tries to find a leader that serves us.
const PAUSE_MS: u64 = 100;

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first offset kept.
    #[default]
    Earliest,
    /// The high watermark: only what comes from now on.
    Latest,
    Offset(i64),
    /// So many records before the high watermark.
    BeforeEnd(i64),
    /// The first record of this time (ms since the epoch) or later.
    Timestamp(i64),
}

#[derive(Clone, Copy, Debug)]
pub struct ConsumeOptions {
    pub start: Start,
    /// Exclusive.
    pub end_offset: Option<i64>,
    /// Ends at the high watermark of the moment it was opened.
    pub stop_at_end: bool,
    /// How long to look for a leader that serves us before giving up.
    pub patience: Duration,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        ConsumeOptions {
            start: Start::Earliest,
            end_offset: None,
            stop_at_end: false,
            patience: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ConsumedRecord {
    pub offset: i64,
    pub record: Record,
}

/// What one answer brought; may hold no records.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub records: Vec<ConsumedRecord>,
    pub high_watermark: i64,
    pub log_start: i64,
    /// Of the last record; 0 without records.
    pub leader_epoch: i32,
}

/// Reads one partition.
pub struct Consumer {
    cluster: Cluster,
    topic: String,
    partition: i32,
    position: i64,
    end: Option<i64>,
    patience: Duration,
    stream: Option<Opened>,
}

struct Opened {
    address: String,
    answers: tonic::Streaming<v1::ConsumeResponse>,
    _place: StreamPlace,
}

impl Consumer {
    /// Finds out where to begin (and to end).
    pub async fn open(
        cluster: &Cluster,
        topic: &str,
        partition: i32,
        options: ConsumeOptions,
    ) -> Result<Consumer, ClientError> {
        let admin = Admin::new(cluster.clone(), options.patience);
        let count = admin.partition_count(topic).await? as i32;
        if !(0..count).contains(&partition) {
            return Err(ClientError::NoPartition { topic: topic.into(), partition, count });
        }
        let at = |at| admin.list_offset(topic, partition, at);
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
                end.saturating_sub(n).max(first)
            }
        };
        let end = match (end, options.end_offset) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Consumer { end, ..Consumer::at(cluster, topic, partition, position, options.patience) })
    }

    /// Begins at this offset of a partition that is known to exist, and has no end.
    pub(super) fn at(cluster: &Cluster, topic: &str, partition: i32, position: i64, patience: Duration) -> Consumer {
        let (cluster, topic) = (cluster.clone(), topic.to_string());
        Consumer { cluster, topic, partition, position, end: None, patience, stream: None }
    }

    /// Goes on elsewhere.
    pub(super) fn set_position(&mut self, position: i64) {
        self.position = position;
        self.stream = None;
    }

    /// Opens the stream anew at the next call.
    pub(super) fn reopen(&mut self) {
        self.stream = None;
    }

    /// The offset of the next record.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The next answer, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Chunk>, ClientError> {
        let give_up = Instant::now() + self.patience;
        while self.end.is_none_or(|end| self.position < end) {
            match self.try_next().await {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                // A stream that ends early (its broker stops) is opened again elsewhere.
                Ok(None) => self.stream = None,
                Err(error) if !error.is_retriable() || Instant::now() >= give_up => return Err(error),
                Err(error) => self.recover(&error).await,
            }
        }
        Ok(None)
    }

    /// After an error: learns who leads now, waiting a little if that is not known.
    pub(super) async fn recover(&mut self, error: &ClientError) {
        self.stream = None;
        let mut is_news = false;
        if let ClientError::Broker(broker) = error
            && broker.code == ErrorCode::NotLeader
            && let Some(hint) = &broker.leader
        {
            is_news = self.cluster.learn_leader(&self.topic, self.partition, hint);
        }
        if !is_news {
            tokio::time::sleep(Duration::from_millis(PAUSE_MS / 2 + self.cluster.world().rng.below(PAUSE_MS))).await;
            // The next try says why, if this helps nothing.
            let _ = self.cluster.refresh(std::slice::from_ref(&self.topic)).await;
        }
    }

    /// One try of [`Consumer::next`]: `None` when the stream ended, [`Consumer::recover`] after an error.
    pub(super) async fn try_next(&mut self) -> Result<Option<Chunk>, ClientError> {
        if self.stream.is_none() {
            self.stream = Some(self.open_stream().await?);
        }
        let Opened { address, answers, .. } = self.stream.as_mut().expect("just opened");
        let silent = || ClientError::Lost {
            address: address.clone(),
            detail: format!("it was silent for {} ms", SILENCE_MAX.as_millis()),
        };
        let answer = timeout(SILENCE_MAX, answers.message()).await.map_err(|_| silent())?;
        let Some(answer) = answer.map_err(|status| ClientError::from_status(&status, address))? else {
            return Ok(None);
        };
        self.take(answer).map(Some)
    }

    /// Asks the leader for an offset, once.
    pub(super) async fn ask_offset(&self, at: OffsetAt) -> Result<i64, ClientError> {
        let address = self.leader()?;
        let request =
            v1::ListOffsetRequest {
            topic: self.topic.clone(),
            partition: self.partition,
            at: Some(at.wire()),
            topic_id: String::new(),
        };
        let mut client = topics_client(self.cluster.channel(&address)?);
        Ok(unary_within(&address, SILENCE_MAX, client.list_offset(request)).await?.offset)
    }

    fn leader(&self) -> Result<String, ClientError> {
        let address = self
            .cluster
            .look(|m| m.leader(&self.topic, self.partition).and_then(|l| m.address(l.broker).map(str::to_string)));
        address.ok_or_else(|| ClientError::NoBroker {
            what: "leader",
            tried: format!("{}-{}", self.topic, self.partition),
            last: "no leader is known".into(),
        })
    }

    async fn open_stream(&self) -> Result<Opened, ClientError> {
        let address = self.leader()?;
        let request = v1::ConsumeRequest {
            topic: self.topic.clone(),
            partition: self.partition,
            start: Some(consume_request::Start::Offset(self.position)),
            end_offset: self.end,
            records_max: 0,
            stop_at_end: false,
            raw: true,
            wait_ms_max: WAIT_MS,
            bytes_max: 0,
            topic_id: String::new(),
        };
        let (channel, place) = self.cluster.stream_channel(&address)?;
        let mut client = ConsumeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answers = unary_within(&address, SILENCE_MAX, client.consume(request)).await?;
        Ok(Opened { address, answers, _place: place })
    }

    fn take(&mut self, answer: v1::ConsumeResponse) -> Result<Chunk, ClientError> {
        let (mut records, mut leader_epoch) = (Vec::new(), 0);
        match answer.data {
            Some(consume_response::Data::Batches(bytes)) => leader_epoch = self.take_batches(&bytes, &mut records)?,
            Some(consume_response::Data::Records(_)) => {
                return Err(ClientError::BadAnswer { detail: "raw batches were asked for, records came".into() });
            }
            None => {}
        }
        Ok(Chunk { records, high_watermark: answer.high_watermark, log_start: answer.log_start, leader_epoch })
    }

    /// Returns the leader epoch of the last record.
    fn take_batches(&mut self, bytes: &Bytes, records: &mut Vec<ConsumedRecord>) -> Result<i32, ClientError> {
        let (name, position) = (format!("{}-{}", self.topic, self.partition), self.position);
        let bad = |detail: String| ClientError::BadBatch { partition: name.clone(), offset: position, detail };
        let mut leader_epoch = 0;
        for found in walk(bytes) {
            let (header, range) = found.map_err(|e| bad(e.to_string()))?;
            let decoded = decode_records(&bytes.slice(range), DECODED_BYTES_MAX_DEFAULT);
            for (offset, record) in decoded.map_err(|e| bad(e.to_string()))? {
                // The first batch may begin below, the last may end above what was asked for.
                if offset.0 >= self.position && self.end.is_none_or(|end| offset.0 < end) {
                    self.position = offset.0 + 1;
                    leader_epoch = header.leader_epoch.0;
                    records.push(ConsumedRecord { offset: offset.0, record });
                }
            }
        }
        Ok(leader_epoch)
    }
}
