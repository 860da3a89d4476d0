//! The bytes of a Fetch answer, written around the stored batches, which are not copied.
//!
//! The codec wants the records of a partition in one piece, and they lie in many. So this answer alone is written by
//! hand; a test compares it with the codec's at every version.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::EncodeError;

use super::super::{
    call::keeping,
    client::{Asked, Closing},
    codes::Code,
    segments::Segments,
    sessions::{NO_SESSION, TopicKey},
    views::Endpoint,
    wire::{self, FetchResponse},
};
use crate::{broker::held::Held, types::Offset};

/// A batch of at most so many bytes is copied: to write it as a piece of its own costs more.
const COPIED_BYTES: usize = 512;

const FLEXIBLE: i16 = 12;
const HAS_SESSION: i16 = 7;
const HAS_LOG_START: i16 = 5;
const HAS_PREFERRED_REPLICA: i16 = 11;
const NO_REPLICA: i32 = -1;
/// Numbers of tagged fields.
const CURRENT_LEADER: u8 = 1;
const NODE_ENDPOINTS: u8 = 0;

/// What is said of one partition beside its records.
#[derive(Clone, Copy, Debug)]
pub struct PartitionAnswer {
    pub index: i32,
    pub code: Code,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub leads: Option<Leads>,
}

/// Who leads a partition instead of this broker.
#[derive(Clone, Copy, Debug)]
pub struct Leads {
    pub id: i32,
    pub epoch: i32,
}

impl PartitionAnswer {
    pub fn refused(index: i32, code: Code) -> PartitionAnswer {
        PartitionAnswer { index, code, high_watermark: Offset(-1), log_start: Offset(-1), leads: None }
    }
}

/// An answer in the making.
pub struct FetchAnswer {
    version: i16,
    /// Until the first batch that is not copied: it has the length to be filled in.
    first: Option<BytesMut>,
    rest: Segments,
    /// What is written at present.
    tail: BytesMut,
}

impl FetchAnswer {
    /// An answer that says nothing of partitions.
    pub fn of_error(asked: &Asked, code: Code) -> Result<Segments, Closing> {
        FetchAnswer::new(asked.version, asked.correlation, code, NO_SESSION, 0)?.end(Vec::new(), None)
    }

    pub fn begin(asked: &Asked, session: i32, topics: usize) -> Result<FetchAnswer, Closing> {
        FetchAnswer::new(asked.version, asked.correlation, Code::None, session, topics)
    }

    /// An answer of so many topics, each of which is then told.
    pub fn new(
        version: i16,
        correlation: i32,
        code: Code,
        session: i32,
        topics: usize,
    ) -> Result<FetchAnswer, Closing> {
        let mut tail = BytesMut::new();
        wire::begin_answer::<FetchResponse>(&mut tail, correlation, version)
            .map_err(|error| unwritable(version, error))?;
        let mut answer = FetchAnswer { version, first: None, rest: Segments::default(), tail };
        let throttle_ms = 0;
        answer.tail.put_i32(throttle_ms);
        if version >= HAS_SESSION {
            answer.tail.put_i16(code.value());
            answer.tail.put_i32(session);
        }
        answer.length(topics);
        Ok(answer)
    }

    /// Named as the request names it, which has the same version.
    pub fn topic(&mut self, topic: &TopicKey, partitions: usize) {
        match topic {
            TopicKey::Id(id) => self.tail.put_slice(wire::uuid(*id).as_bytes()),
            TopicKey::Name(name) => self.string(name),
        }
        self.length(partitions);
    }

    pub fn end_topic(&mut self) {
        self.no_tags();
    }

    pub fn partition(&mut self, said: &PartitionAnswer, batches: Vec<Bytes>) {
        let PartitionAnswer { index, code, high_watermark, log_start, leads } = *said;
        self.tail.put_i32(index);
        self.tail.put_i16(code.value());
        self.tail.put_i64(high_watermark.0);
        // The last stable offset: without transactions everything is stable.
        self.tail.put_i64(high_watermark.0);
        if self.version >= HAS_LOG_START {
            self.tail.put_i64(log_start.0);
        }
        self.no_aborted_transactions();
        if self.version >= HAS_PREFERRED_REPLICA {
            self.tail.put_i32(NO_REPLICA);
        }
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        match self.version >= FLEXIBLE {
            true => self.varint(bytes + 1),
            false => self.tail.put_i32(size(bytes)),
        }
        for batch in batches {
            self.batch(batch);
        }
        match leads {
            Some(Leads { id, epoch }) if self.version >= FLEXIBLE => {
                // One field: who leads, and a struct's own end.
                self.tail.put_slice(&[1, CURRENT_LEADER, 4 + 4 + 1]);
                self.tail.put_i32(id);
                self.tail.put_i32(epoch);
                self.no_tags();
            }
            _ => self.no_tags(),
        }
    }

    /// The whole answer. What its batches hold is held until the last of them is written.
    pub fn end(mut self, endpoints: Vec<Endpoint>, held: Option<Held>) -> Result<Segments, Closing> {
        if endpoints.is_empty() {
            self.no_tags();
        } else {
            self.endpoints(&endpoints);
        }
        let total = self.first.as_ref().map_or(0, BytesMut::len) + self.rest.len() + self.tail.len();
        let length = total - wire::LENGTH_BYTES;
        let first = self.first.as_mut().unwrap_or(&mut self.tail);
        wire::set_length(first, length).map_err(|error| unwritable(self.version, error))?;
        let mut whole = Segments::default();
        whole.push(self.first.take().map(BytesMut::freeze).unwrap_or_default());
        whole.append(self.rest);
        whole.push(keeping(held, self.tail.freeze()));
        Ok(whole)
    }

    fn batch(&mut self, batch: Bytes) {
        if batch.len() <= COPIED_BYTES {
            self.tail.put_slice(&batch);
            return;
        }
        let before = self.tail.split();
        match self.first {
            None => self.first = Some(before),
            Some(_) => self.rest.push(before.freeze()),
        }
        self.rest.push(batch);
    }

    fn endpoints(&mut self, endpoints: &[Endpoint]) {
        let outer = std::mem::take(&mut self.tail);
        self.length(endpoints.len());
        for Endpoint { id, host, port, rack } in endpoints {
            self.tail.put_i32(*id);
            self.string(host);
            self.tail.put_i32(*port);
            match rack {
                Some(rack) => self.string(rack),
                None => self.tail.put_u8(0),
            }
            self.no_tags();
        }
        let field = std::mem::replace(&mut self.tail, outer);
        self.tail.put_slice(&[1, NODE_ENDPOINTS]);
        self.varint(field.len());
        self.tail.put_slice(&field);
    }

    fn no_aborted_transactions(&mut self) {
        match self.version >= FLEXIBLE {
            true => self.tail.put_u8(0),
            false => self.tail.put_i32(-1),
        }
    }

    fn no_tags(&mut self) {
        if self.version >= FLEXIBLE {
            self.tail.put_u8(0);
        }
    }

    /// Of an array.
    fn length(&mut self, count: usize) {
        match self.version >= FLEXIBLE {
            true => self.varint(count + 1),
            false => self.tail.put_i32(size(count)),
        }
    }

    fn string(&mut self, text: &str) {
        match self.version >= FLEXIBLE {
            true => self.varint(text.len() + 1),
            // Names of topics and hosts are shorter by far; both came in as such strings.
            false => self.tail.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX)),
        }
        self.tail.put_slice(text.as_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.tail.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }
}

/// An answer that would not fit is refused by its length at the end.
fn size(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn unwritable(version: i16, cause: EncodeError) -> Closing {
    Closing::Unwritable { api: "Fetch", version, cause }
}
