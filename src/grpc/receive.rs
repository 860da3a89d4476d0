//! What has begun to arrive, and is not a message yet.
//!
//! gRPC collects each message before a service hears of it, with room for the length that its prefix claims.
//! So a layer below the services reads the prefixes: a message that does not lie whole in one piece is passed
//! on only once the node has room for its claim ([`HeldBytes`]); a call's one request has a deadline; and
//! calls are counted.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::Semaphore,
    time::{Sleep, sleep},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{RequestError, connection::Origin, limits, status};
use crate::{
    broker::held::{Closer, Held, HeldBytes, HeldLimits, Leaving},
    metrics::{HeldUp, IntakeProbe, Limit, Metrics},
};

/// How long the prefix of each message is: a flag, and the length.
const PREFIX_BYTES: usize = 5;

/// Calls whose client sends as many messages as it likes; all others send one.
const STREAMING: &[&str] = &[
    "/flotilla.v1.Produce/Produce",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What the node holds of messages in receipt.
#[derive(Clone)]
pub(super) struct Receiving {
    small: Arc<HeldBytes>,
    large: Arc<HeldBytes>,
    calls: Arc<Semaphore>,
    probe: IntakeProbe,
}

impl Receiving {
    pub fn new(metrics: &Metrics) -> Receiving {
        let held = |what, limit, bytes_max| {
            let limits = HeldLimits {
                what,
                limit,
                bytes_max,
                waiting_max: limits::RECEIVE_WAITING_MAX,
                wait_max: limits::RECEIVE_WAIT_MAX,
                grace: limits::RECEIVE_GRACE,
                bytes_per_second: limits::RECEIVE_BYTES_PER_SECOND,
            };
            HeldBytes::new(limits, metrics.intake())
        };
        let receiving = Receiving {
            small: held(HeldUp::SmallMessages, Limit::SmallMessages, limits::SMALL_RECEIVE_BYTES_MAX),
            large: held(HeldUp::LargeMessages, Limit::LargeMessages, limits::LARGE_RECEIVE_BYTES_MAX),
            calls: Arc::new(Semaphore::new(limits::CALLS_MAX)),
            probe: metrics.intake(),
        };
        let shown = receiving.clone();
        metrics.on_scrape(move |gauges| {
            let used = shown.small.bytes_in_use() + shown.large.bytes_in_use();
            gauges.receive_bytes_in_flight.set(i64::try_from(used).unwrap_or(i64::MAX));
        });
        receiving
    }

    fn hold(&self, bytes: usize, closer: Arc<Closer>) -> BoxFuture<'static, Result<Held, RequestError>> {
        let books = if bytes <= limits::SMALL_MESSAGE_BYTES { &self.small } else { &self.large };
        let books = Arc::clone(books);
        Box::pin(async move { Ok(books.hold(bytes, &closer).await?) })
    }
}

/// Puts [`Counted`] below the services.
#[derive(Clone)]
pub(super) struct ReceiveLayer(pub Receiving);

impl<S> Layer<S> for ReceiveLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, receiving: self.0.clone() }
    }
}

/// The services, with what their callers send held against the limits.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    receiving: Receiving,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_call = !STREAMING.contains(&request.uri().path());
        let turn = match is_call {
            true => match Arc::clone(&self.receiving.calls).try_acquire_owned() {
                Ok(turn) => Some(turn),
                Err(_) => {
                    self.receiving.probe.refused_at(Limit::Calls);
                    let refused = status(RequestError::TooManyCalls { calls_max: limits::CALLS_MAX });
                    return std::future::ready(Ok(refused.into_http())).boxed();
                }
            },
            false => None,
        };
        let closer = request.extensions().get::<Origin>().map(|origin| Arc::clone(&origin.closer));
        let in_hand: InHand = Arc::default();
        let receiving = self.receiving.clone();
        let kept = Arc::clone(&in_hand);
        let request = request.map(|body| {
            Body::new(Arriving {
                body,
                receiving,
                closer: closer.unwrap_or_default(),
                is_call,
                deadline: is_call.then(|| Box::pin(sleep(limits::RECEIVE_WITHIN))),
                place: Place::BEGIN,
                rest: Bytes::new(),
                in_hand,
            })
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // A call's request was in memory until now.
            drop((turn, kept.lock().expect("no holder panics").take()));
            answer.map(|mut response| match response.extensions_mut().remove::<Leaving>() {
                Some(leaving) => response.map(|body| Body::new(Departing { body, leaving })),
                None => response,
            })
        })
    }
}

/// An answer's body, whose bytes take along what their answer holds.
struct Departing {
    body: Body,
    leaving: Leaving,
}

impl HttpBody for Departing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| this.leaving.attach(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the message that arrives, or was passed on last, holds.
type InHand = Arc<Mutex<Option<Held>>>;

/// Where in the bytes of a body its reader is.
enum Place {
    /// A message is to begin; so much of its prefix was passed on.
    Prefix { seen: [u8; PREFIX_BYTES], len: usize },
    /// Room is wanted before the rest of the prefix and what it claims, `left` bytes, are passed on.
    Claim { left: usize, room: BoxFuture<'static, Result<Held, RequestError>> },
    /// So many bytes of the message are to come.
    Message { left: usize },
    /// The message is longer than any may be: gRPC says so.
    Beyond,
}

/// A request's body, held back where the node has no room for what it claims.
struct Arriving {
    body: Body,
    receiving: Receiving,
    closer: Arc<Closer>,
    is_call: bool,
    /// When a call's request must be there; `None` once it is, and for calls of many requests.
    deadline: Option<Pin<Box<Sleep>>>,
    place: Place,
    /// What was received, and not passed on yet.
    rest: Bytes,
    in_hand: InHand,
}

impl Place {
    const BEGIN: Place = Place::Prefix { seen: [0; PREFIX_BYTES], len: 0 };
}

impl Arriving {
    /// The next bytes of `rest` that may be passed on; None: room is wanted first.
    fn pass(&mut self) -> Option<Bytes> {
        match &mut self.place {
            Place::Prefix { seen, len } => {
                let (seen, len) = (*seen, *len);
                self.pass_whole(seen, len)
            }
            Place::Message { left } => {
                let part = self.rest.split_to(self.rest.len().min(*left));
                *left -= part.len();
                let is_whole = *left == 0;
                if let Some(held) = &*self.in_hand.lock().expect("no holder panics") {
                    held.moved(part.len());
                    if is_whole {
                        held.settle();
                    }
                }
                if is_whole {
                    self.arrived();
                }
                Some(part)
            }
            Place::Beyond => Some(std::mem::take(&mut self.rest)),
            Place::Claim { .. } => None,
        }
    }

    /// Passes on all messages that lie whole in `rest`, which need no room that they do not have already. A
    /// message of which there is only a part is left for the next call, which makes the claim.
    fn pass_whole(&mut self, mut seen: [u8; PREFIX_BYTES], mut len: usize) -> Option<Bytes> {
        let mut at = 0;
        loop {
            let prefix = (PREFIX_BYTES - len).min(self.rest.len() - at);
            seen[len..len + prefix].copy_from_slice(&self.rest[at..at + prefix]);
            len += prefix;
            if len < PREFIX_BYTES {
                self.place = Place::Prefix { seen, len };
                return Some(std::mem::take(&mut self.rest));
            }
            let [_, length @ ..] = seen;
            let bytes = u32::from_be_bytes(length) as usize;
            let bytes_max =
                if self.is_call { limits::GROUPS_REQUEST_BYTES_MAX } else { limits::PRODUCE_MESSAGE_BYTES_MAX };
            if bytes > bytes_max {
                self.place = Place::Beyond;
                return Some(std::mem::take(&mut self.rest));
            }
            let end = at + prefix + bytes;
            if end <= self.rest.len() {
                self.arrived();
                (at, len) = (end, 0);
                continue;
            }
            if at > 0 {
                self.place = Place::BEGIN;
                return Some(self.rest.split_to(at));
            }
            let room = self.receiving.hold(bytes, Arc::clone(&self.closer));
            self.place = Place::Claim { left: prefix + bytes, room };
            return None;
        }
    }

    /// A whole message is there.
    fn arrived(&mut self) {
        self.place = Place::BEGIN;
        self.deadline = None;
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.poll_unpin(cx).is_ready()
        {
            this.receiving.probe.refused_at(Limit::LateMessages);
            let late = RequestError::ReceivedLate { within: limits::RECEIVE_WITHIN };
            return Poll::Ready(Some(Err(status(late))));
        }
        if !this.is_call && matches!(this.place, Place::Prefix { .. }) {
            // Whoever asks for the next message has read the one before.
            *this.in_hand.lock().expect("no holder panics") = None;
        }
        loop {
            if let Place::Claim { left, room } = &mut this.place {
                let held = match ready!(room.poll_unpin(cx)) {
                    Ok(held) => held,
                    Err(error) => return Poll::Ready(Some(Err(status(error)))),
                };
                held.wait_for_peer(0);
                this.place = Place::Message { left: *left };
                *this.in_hand.lock().expect("no holder panics") = Some(held);
            }
            if this.rest.is_empty() {
                match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => this.rest = data,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                }
                if this.rest.is_empty() {
                    continue;
                }
            }
            if let Some(data) = this.pass() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn, time::Duration};

    use proptest::prelude::*;

    use super::*;

    /// Gives its parts, then nothing more, for ever or as an end.
    struct Parts {
        parts: VecDeque<Bytes>,
        ends: bool,
    }

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.parts.pop_front() {
                Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn arriving(receiving: &Receiving, parts: Vec<Bytes>, is_call: bool, ends: bool) -> Arriving {
        Arriving {
            body: Body::new(Parts { parts: parts.into(), ends }),
            receiving: receiving.clone(),
            closer: Arc::default(),
            is_call,
            deadline: is_call.then(|| Box::pin(sleep(limits::RECEIVE_WITHIN))),
            place: Place::BEGIN,
            rest: Bytes::new(),
            in_hand: Arc::default(),
        }
    }

    async fn next(body: &mut Arriving) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    fn message(len: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend((len as u32).to_be_bytes());
        message.extend((0..len).map(|i| i as u8));
        message
    }

    fn receiving() -> Receiving {
        Receiving::new(&Metrics::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_message_holds_its_claim_until_the_next_one_is_asked_for() {
        let receiving = receiving();
        let (first, second) = (message(limits::SMALL_MESSAGE_BYTES), message(3));
        let (front, back) = first.split_at(10);
        let parts = [front, back, &second].map(Bytes::copy_from_slice).to_vec();
        let mut body = arriving(&receiving, parts, false, true);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), front);
        assert_eq!(receiving.small.bytes_in_use(), limits::SMALL_MESSAGE_BYTES);
        assert_eq!(next(&mut body).await.unwrap().unwrap(), back);
        assert_eq!(receiving.small.bytes_in_use(), limits::SMALL_MESSAGE_BYTES, "it is being decoded");
        assert_eq!(next(&mut body).await.unwrap().unwrap(), second);
        assert_eq!((receiving.small.bytes_in_use(), receiving.large.bytes_in_use()), (0, 0));
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_finds_no_room_ends_its_call_and_not_those_of_the_other_size() {
        let receiving = receiving();
        let large = limits::GROUPS_REQUEST_BYTES_MAX;
        let half = || vec![Bytes::from(message(large)).slice(..large / 2)];
        let mut holders = Vec::new();
        for _ in 0..limits::LARGE_RECEIVE_BYTES_MAX / large {
            let mut body = arriving(&receiving, half(), true, false);
            next(&mut body).await.unwrap().unwrap();
            holders.push(body);
        }
        let mut small = arriving(&receiving, vec![Bytes::from(message(1_000)).slice(..10)], true, false);
        assert!(next(&mut small).await.unwrap().is_ok(), "small ones have room of their own");
        let mut refused = arriving(&receiving, half(), true, false);
        let error = next(&mut refused).await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
        assert!(holders.iter().all(|holder| holder.closer.is_closed()), "those that keep others waiting are closed");
        assert!(!small.closer.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_request_does_not_come_ends() {
        let receiving = receiving();
        for part in [&[][..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
            let mut body = arriving(&receiving, vec![Bytes::copy_from_slice(part)], true, false);
            let ends = async {
                loop {
                    if let Err(error) = next(&mut body).await.expect("it ends with an error") {
                        return error;
                    }
                }
            };
            let error = tokio::time::timeout(limits::RECEIVE_WITHIN + Duration::from_secs(1), ends).await.unwrap();
            assert_eq!(error.code(), tonic::Code::Unavailable, "{error:?}");
        }
    }

    proptest! {
        /// Whatever comes, in whatever pieces, goes through as it is, as far as there is room.
        #[test]
        fn bytes_go_through_unchanged(
            lens in prop::collection::vec(prop_oneof![0usize..20, 1_000usize..5_000], 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            tail: Vec<u8>,
            is_call: bool,
        ) {
            let mut bytes: Vec<u8> = lens.iter().flat_map(|len| message(*len)).collect();
            bytes.extend(&tail);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&bytes[cut[0]..cut[1]])).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let passed = runtime.block_on(async {
                let mut body = arriving(&receiving(), parts, is_call, true);
                let mut passed = Vec::new();
                while let Some(part) = next(&mut body).await {
                    passed.extend(part.unwrap());
                }
                passed
            });
            prop_assert_eq!(passed, bytes);
        }
    }
}
