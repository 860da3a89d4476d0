//! The Consume stream: where it begins and ends, and one fetch after another.
//!
//! The stream is polled only while HTTP/2 has room for more, so a client that takes its answers
//! slowly makes us fetch slowly. How an answer is made of batches is `answer`'s.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{sync::OwnedSemaphorePermit, time::Duration};
use tonic::{Request, Response, Status};

use super::{
    Backend, RequestError, Services,
    answer::{self, Answer, Cursor},
    connection::Origin,
    decode::{self, Consume, Start},
    error::CallFailure,
    limits,
};
use crate::{
    broker::{
        FetchError, FetchRequest, Fetched, OffsetAt,
        held::{Closer, Held, Leaving},
    },
    grpc::backend::CALLER,
    metrics::Api,
    proto::v1,
};

const API: Api = Api::Consume;

#[tonic::async_trait]
impl<B: Backend> v1::consume_server::Consume for Services<B> {
    type ConsumeStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let caller = request.extensions().get::<Origin>().map(|origin| Arc::clone(&origin.closer));
        let reader = self.open(request.into_inner(), caller.unwrap_or_default()).await;
        let reader = reader.map_err(|error| self.shared.failed(API, error))?;
        let leaving = reader.leaving.clone();
        let answers = stream::unfold(reader, |mut reader| async move {
            let answer = reader.next().await?;
            Some((answer, reader))
        });
        let mut response: Response<Self::ConsumeStream> = Response::new(Box::pin(answers));
        response.extensions_mut().insert(leaving);
        Ok(response)
    }
}

impl<B: Backend> Services<B> {
    async fn open(&self, request: v1::ConsumeRequest, closer: Arc<Closer>) -> Result<Reader<B>, CallFailure> {
        let slot = self.shared.consume_slot()?;
        let mut request = decode::consume(request)?;
        // Offsets of one topic mean nothing in a namesake (SAFETY M11): the stream stays with the one it began with.
        request.topic_id = request.topic_id.or_else(|| self.backend.topic_id(&request.topic));
        let find = |at| self.backend.find_offset(&CALLER, &request.topic, request.topic_id, request.partition, at);
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
            Start::Offset(_) | Start::Find(OffsetAt::Earliest | OffsetAt::Latest | OffsetAt::MaxTimestamp) => None,
        };
        let takes_what_is_kept = match request.start {
            Start::Find(OffsetAt::Earliest | OffsetAt::Time(_) | OffsetAt::MaxTimestamp) => true,
            Start::Offset(_) | Start::Find(OffsetAt::Latest) => false,
        };
        let cursor =
            Cursor { position, stop_at, records_left: request.records_max, skip_before, bytes_max: request.bytes_max };
        let services = self.clone();
        Ok(Reader {
            services,
            request,
            cursor,
            closer,
            leaving: Leaving::default(),
            takes_what_is_kept,
            rest: None,
            decoded: None,
            kept: None,
            failed: None,
            _slot: slot,
        })
    }
}

/// A Consume call that is under way.
struct Reader<B> {
    services: Services<B>,
    request: Consume,
    cursor: Cursor,
    /// Nothing was fetched yet, and if retention was quicker the stream begins at the log start.
    takes_what_is_kept: bool,
    closer: Arc<Closer>,
    /// What the answer that is handed on holds goes along with its bytes.
    leaving: Leaving,
    /// A decoded batch that did not fit the last answer, with the watermarks it was fetched with: it is decoded
    /// once, however many answers it fills.
    rest: Option<answer::Rest>,
    /// What `rest` holds of the node's room for such.
    decoded: Option<Held>,
    /// What the answer in the making holds of the node's budget.
    kept: Option<Held>,
    /// Ends the call at the next poll: what was decoded before it is sent first.
    failed: Option<CallFailure>,
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

    async fn answer(&mut self) -> Result<v1::ConsumeResponse, CallFailure> {
        let Answer { response, rest, failed, decoded_bytes } = match self.rest.take() {
            Some(rest) => self.compute(true, move |cursor| rest.answer(cursor)).await,
            None => {
                self.decoded = None;
                let fetched = self.fetch().await?;
                match self.request.raw {
                    true => answer::raw(&fetched, &mut self.cursor)?,
                    false => self.decode(fetched).await?,
                }
            }
        };
        if let Some(mut held) = self.decoded.take() {
            held.shrink(decoded_bytes.max(rest.as_ref().map_or(0, answer::Rest::bytes)));
            match rest {
                Some(_) => {
                    held.wait_for_peer(decoded_bytes);
                    self.decoded = Some(held);
                }
                None => self.leaving.put(held),
            }
        }
        if let Some(held) = self.kept.take() {
            self.leaving.put(held);
        }
        self.rest = rest;
        match failed {
            Some(error) if answer::is_empty(&response) => Err(error.into()),
            failed => {
                self.failed = failed.map(Into::into);
                Ok(response)
            }
        }
    }

    async fn decode(&mut self, fetched: Fetched) -> Result<Answer, CallFailure> {
        let bytes: usize = fetched.batches.iter().map(Bytes::len).sum();
        let decoded_max = answer::decoded_bytes_max(&fetched);
        // Room before the work, for the most that may come of it: nobody waits with a decoded batch in hand.
        self.decoded =
            Some(self.services.shared.decoded.hold(decoded_max, &self.closer).await.map_err(RequestError::from)?);
        let is_long = bytes.max(decoded_max) > limits::COMPUTED_INLINE_BYTES;
        Ok(self.compute(is_long, move |cursor| answer::decoded(fetched, cursor)).await)
    }

    /// Decodes, on a thread that may take long if that is long work.
    async fn compute(&mut self, is_long: bool, work: impl FnOnce(&mut Cursor) -> Answer + Send + 'static) -> Answer {
        if let Some(held) = &self.decoded {
            held.settle();
        }
        if !is_long {
            return work(&mut self.cursor);
        }
        let mut cursor = self.cursor.clone();
        let turns = self.services.backend.cpu_turns();
        let (answer, cursor) = turns.run(move || (work(&mut cursor), cursor)).await;
        self.cursor = cursor;
        answer
    }

    /// Fetches without waiting at first, with a large answer if the budget allows one; if nothing is there, it waits
    /// without holding any budget. What comes is counted before it is handed on.
    async fn fetch(&mut self) -> Result<Fetched, CallFailure> {
        self.kept = None;
        let asked = self.request.bytes_max;
        let answers = self.services.backend.answer_room();
        self.kept = answers.try_hold(asked, &self.closer);
        let bytes_max = if self.kept.is_some() { asked } else { asked.min(limits::CONSUME_SMALL_BYTES) };
        let mut fetched = self.fetch_within(bytes_max, Duration::ZERO).await?;
        if fetched.batches.is_empty() {
            self.kept = None;
            fetched = self.fetch_within(asked, self.request.wait).await?;
        }
        // One batch comes whole, however large. Twice at most: the second time the room is there.
        loop {
            let bytes = fetched.batches.iter().map(Bytes::len).sum();
            if let Some(held) = &mut self.kept
                && held.is_enough_for(bytes)
            {
                held.shrink(bytes);
                return Ok(fetched);
            }
            self.kept = None;
            if bytes == 0 {
                return Ok(fetched);
            }
            self.kept = answers.try_hold(bytes, &self.closer);
            if self.kept.is_none() {
                // Whoever waits holds nothing meanwhile, and reads again.
                drop(fetched);
                self.kept = Some(answers.hold(bytes, &self.closer).await.map_err(RequestError::from)?);
                fetched = self.fetch_within(bytes, Duration::ZERO).await?;
            }
        }
    }

    async fn fetch_within(&mut self, bytes_max: usize, wait: Duration) -> Result<Fetched, FetchError> {
        let request = FetchRequest {
            topic: self.request.topic.clone(),
            topic_id: self.request.topic_id,
            partition: self.request.partition,
            offset: self.cursor.position,
            bytes_max,
            wait,
        };
        if !self.takes_what_is_kept {
            return self.services.backend.fetch(&CALLER, request).await;
        }
        let (begins, fetched) = self.services.backend.fetch_kept(&CALLER, request).await?;
        self.takes_what_is_kept = false;
        // Later than asked for where retention was quicker.
        self.cursor.position = begins;
        Ok(fetched)
    }
}
