//! Requests off the wire: a length, and as many bytes. A length is believed only as far as there is room for it.

use std::{io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{limits, wire::LENGTH_BYTES};
use crate::{
    broker::held::{Closer, Crowded, Held, HeldBytes, HeldLimits},
    metrics::{HeldUp, IntakeProbe, Limit},
};

/// API key, version and correlation id begin every request.
const HEAD_BYTES: usize = 8;
/// The key of Produce, whose requests may be longer than all others.
const PRODUCE: i16 = 0;

/// What this node holds of requests that arrive, and of those that it works on.
pub(super) struct Arriving {
    produces: Arc<HeldBytes>,
    requests: Arc<HeldBytes>,
}

impl Arriving {
    pub fn new(probe: IntakeProbe) -> Arriving {
        let held = |what, limit, bytes_max| {
            let limits = HeldLimits {
                what,
                limit,
                bytes_max,
                waiting_max: limits::ARRIVING_WAITING_MAX,
                wait_max: limits::ARRIVING_WAIT_MAX,
                grace: limits::ARRIVING_GRACE,
                bytes_per_second: limits::ARRIVING_BYTES_PER_SECOND,
            };
            HeldBytes::new(limits, probe.clone())
        };
        Arriving {
            produces: held(HeldUp::KafkaProduces, Limit::KafkaProduces, limits::PRODUCE_ARRIVING_BYTES_MAX),
            requests: held(HeldUp::KafkaRequests, Limit::KafkaRequests, limits::REQUESTS_BYTES_MAX),
        }
    }

    async fn hold(&self, head: Head, bytes: usize, closer: &Arc<Closer>) -> Result<Held, Crowded> {
        match head.key {
            PRODUCE => self.produces.hold(bytes, closer).await,
            _ => self.requests.hold(bytes * limits::DECODED_PER_BYTE, closer).await,
        }
    }
}

/// How every request begins, whatever its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub key: i16,
    pub version: i16,
    pub correlation: i32,
}

/// One request, from its header on.
pub(super) struct Frame {
    pub head: Head,
    pub bytes: Bytes,
    /// Its room, which goes with it until it is answered.
    pub held: Held,
}

/// Why nothing more is read from a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the connection ended within a request: {got} bytes came of {wanted}")]
    Cut { got: usize, wanted: usize },
    #[error("a request of {length} bytes was announced; is this a Kafka client, without TLS?")]
    Length { length: i32 },
    #[error("a request of {length} bytes with API key {key} was announced, at most {max} are taken")]
    TooLarge { key: i16, length: usize, max: usize },
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts what arrives on a connection into requests.
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(from: R) -> Frames<R> {
        Frames { from, buffer: BytesMut::new() }
    }

    /// The next request. None: the client has closed its side after a whole one.
    pub async fn next(&mut self, arriving: &Arriving, closer: &Arc<Closer>) -> Result<Option<Frame>, FrameError> {
        if !self.fill(LENGTH_BYTES, None).await? {
            return match self.buffer.len() {
                0 => Ok(None),
                got => Err(FrameError::Cut { got, wanted: LENGTH_BYTES }),
            };
        }
        let announced = (&self.buffer[..]).get_i32();
        let taken = HEAD_BYTES..=limits::PRODUCE_BYTES_MAX;
        let length = usize::try_from(announced).ok().filter(|length| taken.contains(length));
        let length = length.ok_or(FrameError::Length { length: announced })?;
        let whole = LENGTH_BYTES + length;
        if !self.fill(LENGTH_BYTES + HEAD_BYTES, None).await? {
            return Err(FrameError::Cut { got: self.buffer.len(), wanted: whole });
        }
        let mut head = &self.buffer[LENGTH_BYTES..];
        let head = Head { key: head.get_i16(), version: head.get_i16(), correlation: head.get_i32() };
        let max = if head.key == PRODUCE { limits::PRODUCE_BYTES_MAX } else { limits::REQUEST_BYTES_MAX };
        if length > max {
            return Err(FrameError::TooLarge { key: head.key, length, max });
        }
        let held = arriving.hold(head, length, closer).await?;
        if self.buffer.len() < whole {
            held.wait_for_peer(0);
            if !self.fill(whole, Some(&held)).await? {
                return Err(FrameError::Cut { got: self.buffer.len(), wanted: whole });
            }
            held.settle();
        }
        let mut bytes = self.buffer.split_to(whole).freeze();
        bytes.advance(LENGTH_BYTES);
        Ok(Some(Frame { head, bytes, held }))
    }

    /// Reads until so many bytes are here. False: the connection ended before.
    async fn fill(&mut self, wanted: usize, held: Option<&Held>) -> Result<bool, FrameError> {
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            if self.buffer.capacity() < wanted {
                self.buffer.reserve(missing.max(limits::READ_BYTES));
            }
            let read = self.from.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Ok(false);
            }
            if let Some(held) = held {
                held.moved(read);
            }
        }
        Ok(true)
    }
}
