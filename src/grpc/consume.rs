//! The Consume stream: where it begins and ends, and one fetch after another.
//!
//! The stream is polled only while HTTP/2 has room for more, so a client that takes its answers
//! slowly makes us fetch slowly. How an answer is made of batches is `answer`'s.

use futures_util::{Stream, stream};
use tokio::{sync::OwnedSemaphorePermit, time::Duration};
use tonic::{Request, Response, Status};

use super::{
    Backend, RequestError, Services,
    answer::{self, Answer, Cursor},
    decode::{self, Consume, Start},
    limits, stream_slot,
};
use crate::{
    broker::{FetchError, FetchRequest, Fetched, OffsetAt},
    proto::v1,
    types::Offset,
};

const API: &str = "consume";

/// `earliest`, and a time, race with retention, which moves the log start: each retry begins at the new one.
const EARLIEST_TRIES: usize = 5;

#[tonic::async_trait]
impl<B: Backend> v1::consume_server::Consume for Services<B> {
    type ConsumeStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let reader = self.open(request.into_inner()).await.map_err(|error| self.shared.failed(API, error))?;
        let answers = stream::unfold(reader, |mut reader| async move {
            let answer = reader.next().await?;
            Some((answer, reader))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl<B: Backend> Services<B> {
    async fn open(&self, request: v1::ConsumeRequest) -> Result<Reader<B>, v1::Error> {
        let slot = stream_slot(&self.shared.consume_streams, API, limits::CONSUME_STREAMS_MAX)?;
        let request = decode::consume(request)?;
        let find = |at| self.backend.find_offset(&request.topic, request.topic_id, request.partition, at);
        // The end before the start: whatever is written meanwhile, start <= end holds.
        let end = if request.stop_at_end { Some(find(OffsetAt::Latest).await?.offset) } else { None };
        let position = match request.start {
            Start::Offset(offset) => offset,
            Start::Find(OffsetAt::Latest) if end.is_some() => end.expect("just checked"),
            Start::Find(at) => find(at).await?.offset,
        };
        // A start beyond the end must still be told OFFSET_OUT_OF_RANGE, which the first fetch does.
        let end = end.filter(|end| position <= *end);
        let stop_at = end.into_iter().chain(request.end_offset).min();
        let skip_before = match request.start {
            Start::Find(OffsetAt::Time(time)) => Some(time),
            Start::Offset(_) | Start::Find(OffsetAt::Earliest | OffsetAt::Latest) => None,
        };
        let earliest_tries = match request.start {
            Start::Find(OffsetAt::Earliest | OffsetAt::Time(_)) => EARLIEST_TRIES,
            Start::Offset(_) | Start::Find(OffsetAt::Latest) => 0,
        };
        let cursor =
            Cursor { position, stop_at, records_left: request.records_max, skip_before, bytes_max: request.bytes_max };
        let services = self.clone();
        Ok(Reader { services, request, cursor, earliest_tries, rest: None, kept: None, failed: None, _slot: slot })
    }
}

/// One Consume call under way.
struct Reader<B> {
    services: Services<B>,
    request: Consume,
    cursor: Cursor,
    /// How often a first fetch below the log start may begin again there.
    earliest_tries: usize,
    /// A decoded batch that did not fit the last answer, with the watermarks it was fetched with.
    rest: Option<answer::Rest>,
    /// What the answer that is being sent, and `rest`, hold of the node's budget.
    kept: Option<OwnedSemaphorePermit>,
    /// Ends the call at the next poll: what was decoded before it is sent first.
    failed: Option<v1::Error>,
    _slot: OwnedSemaphorePermit,
}

impl<B: Backend> Reader<B> {
    async fn next(&mut self) -> Option<Result<v1::ConsumeResponse, Status>> {
        if let Some(error) = self.failed.take() {
            self.cursor.end();
            return Some(Err(self.services.shared.failed(API, error)));
        }
        if self.cursor.is_at_end() {
            return None;
        }
        let stop = self.services.shared.stop.clone();
        let answer = match stop.run_until_cancelled(self.answer()).await {
            Some(answer) => answer,
            None => Err(RequestError::Stopping.into()),
        };
        Some(answer.map_err(|error| {
            self.cursor.end();
            self.services.shared.failed(API, error)
        }))
    }

    async fn answer(&mut self) -> Result<v1::ConsumeResponse, v1::Error> {
        let answer = match self.rest.take() {
            Some(rest) => rest.answer(&mut self.cursor),
            None => {
                self.kept = None;
                let fetched = self.fetch().await?;
                if self.request.raw {
                    answer::raw(&fetched, &mut self.cursor)?
                } else {
                    answer::decoded(fetched, &mut self.cursor)
                }
            }
        };
        let Answer { response, rest, failed } = answer;
        self.keep(rest);
        match failed {
            Some(error) if answer::is_empty(&response) => Err(error.into()),
            failed => {
                self.failed = failed.map(Into::into);
                Ok(response)
            }
        }
    }

    /// A decoded rest stays in memory only within the node's budget; beyond it the next answer
    /// fetches and decodes the batch again.
    fn keep(&mut self, rest: Option<answer::Rest>) {
        self.rest = rest.filter(|rest| {
            let budget = &self.services.shared.answer_bytes;
            let bytes = u32::try_from(rest.bytes_max()).unwrap_or(u32::MAX);
            self.kept = budget.clone().try_acquire_many_owned(bytes).ok();
            self.kept.is_some()
        });
    }

    /// First without waiting, with a large answer if the budget allows one; if nothing is there, it
    /// waits without holding any budget: what then comes is in the memory of the node's tail anyway.
    async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        let asked = self.request.bytes_max;
        let permits = u32::try_from(asked).unwrap_or(u32::MAX);
        self.kept = self.services.shared.answer_bytes.clone().try_acquire_many_owned(permits).ok();
        let bytes_max = if self.kept.is_some() { asked } else { asked.min(limits::CONSUME_SMALL_BYTES) };
        let fetched = self.fetch_within(bytes_max, Duration::ZERO).await?;
        if !fetched.batches.is_empty() {
            return Ok(fetched);
        }
        self.kept = None;
        self.fetch_within(asked, self.request.wait).await
    }

    async fn fetch_within(&mut self, bytes_max: usize, wait: Duration) -> Result<Fetched, FetchError> {
        loop {
            let request = FetchRequest {
                topic: self.request.topic.clone(),
                topic_id: self.request.topic_id,
                partition: self.request.partition,
                offset: self.cursor.position,
                bytes_max,
                wait,
            };
            match self.services.backend.fetch(request).await {
                Ok(fetched) => {
                    self.earliest_tries = 0;
                    return Ok(fetched);
                }
                Err(error) => self.cursor.position = self.earlier_start(error)?,
            }
        }
    }

    /// Where `earliest` (or a time) begins after the log start moved between looking it up and reading there.
    fn earlier_start(&mut self, error: FetchError) -> Result<Offset, FetchError> {
        if let FetchError::OffsetOutOfRange { log_start, .. } = &error
            && self.earliest_tries > 0
            && *log_start > self.cursor.position
        {
            self.earliest_tries -= 1;
            return Ok(*log_start);
        }
        Err(error)
    }
}
