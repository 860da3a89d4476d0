//! The Produce stream.
//!
//! One request is taken off the stream at a time: checked, granted its part of the node's produce
//! budget, and handed to the broker before the next is looked at, so the broker sees them in the
//! order sent. Answers leave as outcomes arrive. While the stream has its share in flight, or the
//! node's budget is used up, nothing is read, and HTTP/2 flow control stops the client; the same
//! happens when the client takes no answers, since then nothing polls this stream.
//!
//! Nobody hears of what becomes of a request with acks=0, but for its failure: the first one ends the stream with its
//! error, so that a client does not go on sending what nobody takes. A client that ends its side hears the end of
//! this one once everything it sent was read and answered; outcomes that it did not ask for are waited for a moment.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Backend, RequestError, Services, convert, decode, error::CallFailure, limits, status};
use crate::{
    broker::{Acks, ProduceError, ProduceRequest, Receipt},
    grpc::backend::CALLER,
    metrics::{Api, RequestResult},
    proto::v1::{self, produce_response::Result as Outcome},
};

/// How many requests are handled before other tasks get their turn, if none of them makes the stream wait.
const STEPS_PER_POLL: usize = 64;

const API: Api = Api::Produce;

#[tonic::async_trait]
impl<B: Backend> v1::produce_server::Produce for Services<B> {
    type ProduceStream = ProduceStream<B>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<ProduceStream<B>>, Status> {
        let slot = self.shared.produce_slot().map_err(|error| self.shared.failed(API, error))?;
        Ok(Response::new(ProduceStream {
            services: self.clone(),
            input: request.into_inner(),
            admitting: None,
            pending: FuturesUnordered::new(),
            pending_bytes: 0,
            unanswered: 0,
            ending: None,
            grace: None,
            stop: Box::pin(self.shared.stop.clone().cancelled_owned()),
            _slot: slot,
        }))
    }
}

/// The answers of one Produce call.
pub(super) struct ProduceStream<B: Backend> {
    services: Services<B>,
    input: Streaming<v1::ProduceRequest>,
    /// The one request whose batch is being built, or that waits for the node's budget.
    admitting: Option<BoxFuture<'static, Result<Admitted<B>, Refused>>>,
    pending: FuturesUnordered<InFlight<B::Waiting>>,
    /// How many batch bytes `pending` holds.
    pending_bytes: usize,
    /// How many requests were read and have their answers waited for: not those with acks=0.
    unanswered: usize,
    /// Nothing more is read; with this the call ends once everything is answered.
    ending: Option<Result<(), Status>>,
    /// Runs from the end of the input, while outcomes are missing that nobody asked for.
    grace: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

/// A request that was read, checked and granted its bytes.
struct Admitted<B: Backend> {
    correlation_id: u64,
    request: ProduceRequest,
    budget: B::Budget,
}

/// A request of which no batch could be made.
struct Refused {
    correlation_id: u64,
    acks: Acks,
    error: RequestError,
}

/// A request in the broker's hands. It counts against the stream whether its client wants an answer or not:
/// else one stream that wants none could hold the produce budget of the whole node.
struct InFlight<W> {
    correlation_id: u64,
    acks: Acks,
    bytes: usize,
    waiting: W,
}

/// How a request ended.
struct Finished {
    correlation_id: u64,
    acks: Acks,
    bytes: usize,
    outcome: Result<Receipt, ProduceError>,
}

impl<W: Future<Output = Result<Receipt, ProduceError>> + Unpin> Future for InFlight<W> {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let InFlight { correlation_id, acks, bytes, ref mut waiting } = *self;
        waiting.poll_unpin(cx).map(|outcome| Finished { correlation_id, acks, bytes, outcome })
    }
}

/// What one step of the stream came to.
enum Step {
    Answer(v1::ProduceResponse),
    /// Something moved: look again.
    Again,
    /// Everything waits.
    Idle,
}

impl<B: Backend> Stream for ProduceStream<B> {
    type Item = Result<v1::ProduceResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        for _ in 0..STEPS_PER_POLL {
            match this.step(cx) {
                Step::Answer(answer) => return Poll::Ready(Some(Ok(answer))),
                Step::Again => {}
                Step::Idle => return this.poll_end(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<B: Backend> ProduceStream<B> {
    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        // Answers first: they free what reading needs.
        if let Poll::Ready(Some(finished)) = self.pending.poll_next_unpin(cx) {
            self.pending_bytes -= finished.bytes;
            return self.finish(finished);
        }
        if let Some(admitting) = &mut self.admitting {
            return match admitting.poll_unpin(cx) {
                Poll::Ready(admitted) => {
                    self.admitting = None;
                    match admitted {
                        Ok(admitted) => self.admit(admitted),
                        Err(Refused { correlation_id, acks, error }) => self.refuse_read(correlation_id, acks, error),
                    }
                }
                Poll::Pending => Step::Idle,
            };
        }
        if self.ending.is_none() && self.stop.poll_unpin(cx).is_ready() {
            self.ending = Some(Err(status(RequestError::Stopping)));
        }
        if self.ending.is_some() || !self.has_room() {
            return Step::Idle;
        }
        match self.input.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(request))) => self.read(request),
            Poll::Ready(Some(Err(error))) => {
                self.ending = Some(Err(self.unreadable(error)));
                Step::Again
            }
            Poll::Ready(None) => {
                self.ending = Some(Ok(()));
                Step::Again
            }
            Poll::Pending => Step::Idle,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<v1::ProduceResponse, Status>>> {
        let is_over = match &self.ending {
            None => false,
            Some(Err(_)) => self.unanswered == 0,
            Some(Ok(())) => self.admitting.is_none() && (self.pending.is_empty() || self.is_grace_over(cx)),
        };
        match self.ending.take_if(|_| is_over) {
            Some(Err(status)) => {
                self.ending = Some(Ok(()));
                Poll::Ready(Some(Err(status)))
            }
            Some(Ok(())) => {
                self.ending = Some(Ok(()));
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }

    /// A refusal that comes soon is still told to a client that leaves; one that takes long is not waited for.
    fn is_grace_over(&mut self, cx: &mut Context<'_>) -> bool {
        let grace = self.grace.get_or_insert_with(|| Box::pin(sleep(limits::SILENT_OUTCOMES_WAIT)));
        self.unanswered == 0 && grace.as_mut().poll(cx).is_ready()
    }

    /// Whether another request may be read. One may overshoot the bytes: it was read before its size was known.
    fn has_room(&self) -> bool {
        self.pending.len() < limits::PRODUCE_IN_FLIGHT_MAX && self.pending_bytes < limits::PRODUCE_STREAM_BYTES_MAX
    }

    fn read(&mut self, request: v1::ProduceRequest) -> Step {
        let correlation_id = request.correlation_id;
        let acks = match decode::acks(request.acks) {
            Ok(acks) => acks,
            Err(error) => return self.refuse(correlation_id, Acks::All, error),
        };
        match decode::produce(request, acks, self.services.backend.now()) {
            Ok(produce) => {
                self.unanswered += usize::from(acks != Acks::None);
                let backend = self.services.backend.clone();
                self.admitting = Some(Box::pin(admission(backend, correlation_id, produce)));
                Step::Again
            }
            Err(error) => self.refuse(correlation_id, acks, error),
        }
    }

    fn admit(&mut self, admitted: Admitted<B>) -> Step {
        let Admitted { correlation_id, request, budget } = admitted;
        let (acks, bytes) = (request.acks, request.batch.len());
        match self.services.backend.produce(&CALLER, request, budget) {
            Ok(waiting) => {
                self.pending_bytes += bytes;
                self.pending.push(InFlight { correlation_id, acks, bytes, waiting });
                Step::Again
            }
            Err(error) => self.refuse_read(correlation_id, acks, error),
        }
    }

    /// A failure of one request. The stream goes on if that can be answered.
    fn refuse(&mut self, correlation_id: u64, acks: Acks, error: impl Into<CallFailure>) -> Step {
        match acks {
            Acks::All | Acks::Leader => {
                let error = self.services.shared.counted(API, error);
                Step::Answer(v1::ProduceResponse { correlation_id, result: Some(Outcome::Error(error)) })
            }
            Acks::None => {
                let status = self.services.shared.failed(API, error);
                // The first one says it; what else is on its way may fail for the same reason.
                if !matches!(self.ending, Some(Err(_))) {
                    self.ending = Some(Err(status));
                }
                Step::Again
            }
        }
    }

    /// Does what [`ProduceStream::refuse`] does, for a request that was counted when it was read.
    fn refuse_read(&mut self, correlation_id: u64, acks: Acks, error: impl Into<CallFailure>) -> Step {
        self.unanswered -= usize::from(acks != Acks::None);
        self.refuse(correlation_id, acks, error)
    }

    /// A request has its outcome.
    fn finish(&mut self, finished: Finished) -> Step {
        let Finished { correlation_id, acks, bytes: _, outcome } = finished;
        let receipt = match outcome {
            Ok(receipt) => receipt,
            Err(error) => return self.refuse_read(correlation_id, acks, error),
        };
        self.services.shared.probe.request_finished(API, RequestResult::Ok);
        match acks {
            // The broker's promise, passed on: fsynced on a majority, named in `durable_on`.
            Acks::All | Acks::Leader => {
                self.unanswered -= 1;
                let result = Some(Outcome::Receipt(convert::receipt(receipt)));
                Step::Answer(v1::ProduceResponse { correlation_id, result })
            }
            Acks::None => Step::Again,
        }
    }

    /// A message that gRPC or protobuf could not take: where the next one begins is lost with it.
    fn unreadable(&self, error: Status) -> Status {
        let detail = error.message().to_string();
        match error.code() {
            Code::OutOfRange | Code::ResourceExhausted => {
                self.services.shared.failed(API, RequestError::TooLarge { detail })
            }
            Code::Internal | Code::InvalidArgument => {
                self.services.shared.failed(API, RequestError::Unreadable { detail })
            }
            // The client went away or cancelled: gRPC's own words are right.
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unimplemented
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => error,
        }
    }
}

/// Makes the request's batch, long work on a thread that may take long, and waits for its bytes.
async fn admission<B: Backend>(
    backend: B,
    correlation_id: u64,
    produce: decode::Produce,
) -> Result<Admitted<B>, Refused> {
    let decode::Produce { mut request, payload } = produce;
    let batch = match payload.is_long_work() {
        true => backend.cpu_turns().run(move || payload.into_batch()).await,
        false => payload.into_batch(),
    };
    request.batch = batch.map_err(|error| Refused { correlation_id, acks: request.acks, error })?;
    let budget = backend.reserve_produce(request.batch.len()).await;
    Ok(Admitted { correlation_id, request, budget })
}
