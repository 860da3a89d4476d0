//! What an API is to the listener: its versions, and how a request of it is begun and answered.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use kafka_wire_core::Decoder;

use super::{
    client::{Answering, Asked, Begun, Closing, Lane, Served},
    limits,
    segments::Segments,
    wire::{self, KafkaRequest, RequestResponsePair, RetainedSize},
};
use crate::broker::held::{Held, Leaving};

/// An API that is answered by one message.
pub(super) trait KafkaApi: 'static {
    type Request: RequestResponsePair + Send;
    /// Every version from the first to the second is served.
    const VERSIONS: (i16, i16);
    /// Changes something, or must be seen in the order asked.
    const LANE: Lane = Lane::Serial;

    /// How many partitions a request names. One that names more than [`limits::NAMED_PARTITIONS_MAX`] is not answered.
    fn partitions(_: &Self::Request) -> usize {
        0
    }

    fn answer(
        asked: &Asked,
        request: Self::Request,
    ) -> impl Future<Output = <Self::Request as RequestResponsePair>::Response> + Send;
}

/// An API that waits for something that may never happen: nobody works on it for a client that is gone.
pub(super) trait WaitingApi: KafkaApi {}

pub(super) type Begin = fn(Asked, Decoder, Held) -> BoxFuture<'static, Result<Begun, Closing>>;
pub(super) type Header = fn(Bytes, i16) -> Result<(wire::RequestHeader, Decoder), kafka_wire_core::DecodeError>;

/// One API of the list.
pub(super) struct Route {
    pub key: i16,
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    /// What ApiVersions tells as the lowest version: a lie that old clients need, where it is one.
    advertised_min: i16,
    pub header: Header,
    pub begin: Begin,
    /// What a whole request takes in memory, if it can be read.
    #[cfg(test)]
    pub weigh: fn(Bytes, i16) -> Result<usize, kafka_wire_core::DecodeError>,
}

impl Route {
    pub const fn of<A: KafkaApi>() -> Route {
        Route::begun_by::<A::Request>(A::VERSIONS, begin_simple::<A>)
    }

    pub const fn waiting<A: WaitingApi>() -> Route {
        Route::begun_by::<A::Request>(A::VERSIONS, begin_waiting::<A>)
    }

    pub const fn begun_by<R: KafkaRequest>((min, max): (i16, i16), begin: Begin) -> Route {
        Route {
            key: R::API_KEY.value(),
            name: R::NAME,
            min,
            max,
            advertised_min: min,
            header: wire::decode_header::<R>,
            begin,
            #[cfg(test)]
            weigh: weigh::<R>,
        }
    }

    pub const fn advertised_from(self, advertised_min: i16) -> Route {
        Route { advertised_min, ..self }
    }

    pub fn served(&self) -> Served {
        Served { key: self.key, min: self.advertised_min, max: self.max }
    }

    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

fn begin_simple<A: KafkaApi>(asked: Asked, decoder: Decoder, held: Held) -> BoxFuture<'static, Result<Begun, Closing>> {
    let begun = decode_bounded::<A>(decoder, asked.version)
        .map(|request| Begun { lane: A::LANE, answering: answer::<A>(asked, request, held) });
    std::future::ready(begun).boxed()
}

fn begin_waiting<A: WaitingApi>(
    asked: Asked,
    decoder: Decoder,
    mut held: Held,
) -> BoxFuture<'static, Result<Begun, Closing>> {
    let gone = asked.client.gone.clone();
    let begun = decode_bounded::<A>(decoder, asked.version).map(|request| {
        // It may wait for minutes: with what it has become, and not with the most that it could have.
        held.shrink(request.retained_size().heap_bytes());
        let answering = answer::<A>(asked, request, held);
        let answering = async move { gone.run_until_cancelled(answering).await.unwrap_or(Err(Closing::Gone)) };
        Begun { lane: A::LANE, answering: answering.boxed() }
    });
    std::future::ready(begun).boxed()
}

fn answer<A: KafkaApi>(asked: Asked, request: A::Request, held: Held) -> Answering {
    async move {
        let bytes = encoded(&asked, &A::answer(&asked, request).await)?;
        let answer = counted(&asked, bytes).await?;
        drop(held);
        Ok(Some(Segments::from(answer)))
    }
    .boxed()
}

/// An answer that a client may leave untaken for long counts with all others of the node, unless it is small.
async fn counted(asked: &Asked, answer: Bytes) -> Result<Bytes, Closing> {
    if answer.len() <= limits::ANSWER_UNCOUNTED_BYTES {
        return Ok(answer);
    }
    let client = &asked.client;
    let held = client.shared.broker.answer_room().hold(answer.len(), &client.closer).await;
    Ok(keeping(Some(held.map_err(Closing::Crowded)?), answer))
}

/// Bytes that keep an answer's room until they are written.
pub(super) fn keeping(held: Option<Held>, bytes: Bytes) -> Bytes {
    let leaving = Leaving::default();
    held.into_iter().for_each(|held| leaving.put(held));
    leaving.attach(bytes)
}

fn decode_bounded<A: KafkaApi>(decoder: Decoder, version: i16) -> Result<A::Request, Closing> {
    let request = decode(decoder, version)?;
    check_partitions(<A::Request as wire::KafkaMessage>::NAME, A::partitions(&request))?;
    Ok(request)
}

/// Names and answers of partitions take much more room than their numbers took on the wire.
pub(super) fn check_partitions(api: &'static str, partitions: usize) -> Result<(), Closing> {
    let max = limits::NAMED_PARTITIONS_MAX;
    if partitions > max { Err(Closing::TooManyPartitions { api, partitions, max }) } else { Ok(()) }
}

/// The body of a request.
pub(super) fn decode<R: KafkaRequest>(decoder: Decoder, version: i16) -> Result<R, Closing> {
    wire::decode_body(decoder, version).map_err(|error| unreadable(R::NAME, error))
}

pub(super) fn unreadable(api: &'static str, error: kafka_wire_core::DecodeError) -> Closing {
    Closing::Unreadable { api, cause: error }
}

/// An answer to what was asked, at its version.
pub(super) fn encode<M: wire::KafkaResponse>(asked: &Asked, response: &M) -> Result<Segments, Closing> {
    encoded(asked, response).map(Segments::from)
}

fn encoded<M: wire::KafkaResponse>(asked: &Asked, response: &M) -> Result<Bytes, Closing> {
    let Asked { correlation, version, .. } = *asked;
    let bytes = wire::encode(correlation, version, response);
    bytes.map_err(|cause| Closing::Unwritable { api: M::NAME, version, cause })
}

#[cfg(test)]
fn weigh<R: KafkaRequest>(frame: Bytes, version: i16) -> Result<usize, kafka_wire_core::DecodeError> {
    let (_, decoder) = wire::decode_header::<R>(frame, version)?;
    Ok(wire::decode_body::<R>(decoder, version)?.retained_size().heap_bytes())
}
