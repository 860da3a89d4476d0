//! protobuf's codec, with one bound that message size alone does not give: 16 MiB of empty records is
//! two bytes each on the wire and a hundred in memory, so they are counted before they are decoded. The
//! same goes for the lists in requests about groups.

use std::any::TypeId;

use bytes::Buf;
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::v1;

/// Records and headers of one `ProduceRequest`: 16 MiB of them at 64 bytes each. Their decoded form
/// takes at most 30 MiB beside the bytes.
pub const PRODUCE_ELEMENTS_MAX: usize = 262_144;

/// Topics, offsets and sets of partitions in one request to the Groups service: a commit names at most 10,000
/// offsets, a member's topics are far fewer. Decoded they take 10 MiB at most.
pub const GROUP_ELEMENTS_MAX: usize = 100_000;

/// Named in build.rs: every generated client and server uses it.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        BoundedCodec(ProstCodec::default())
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        self.0.encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(self.0.decoder())
    }
}

/// See [`BoundedCodec`].
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A message is in one piece: tonic collects it in one buffer.
        if let Some((count, most, what)) = bound::<U>()
            && count(buf.chunk()) > most
        {
            return Err(Status::resource_exhausted(format!(
                "more than {most} {what} in one request: send smaller ones"
            )));
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// How the elements of a message are counted, how many there may be, and what they are.
pub(super) type Bound = (fn(&[u8]) -> usize, usize, &'static str);

/// The bound of messages that have one. Strangers send only requests.
pub(super) fn bound<U: 'static>() -> Option<Bound> {
    let of = TypeId::of::<U>();
    if of == TypeId::of::<v1::ProduceRequest>() {
        return Some((elements, PRODUCE_ELEMENTS_MAX, "records and headers"));
    }
    let in_group: fn(&[u8]) -> usize = if of == TypeId::of::<v1::GroupHeartbeatRequest>() {
        |beat| {
            fields(beat, OWNS).count() + fields(beat, SUBSCRIPTION).map(|of| fields(of, TOPIC).count()).sum::<usize>()
        }
    } else if of == TypeId::of::<v1::CommitOffsetsRequest>() {
        |commit| fields(commit, OFFSETS).count()
    } else if of == TypeId::of::<v1::FetchOffsetsRequest>() || of == TypeId::of::<v1::DeleteOffsetsRequest>() {
        |asked| fields(asked, PARTITIONS).count()
    } else {
        return None;
    };
    Some((in_group, GROUP_ELEMENTS_MAX, "topics, partition sets and offsets"))
}

/// Field numbers of what is counted in requests about groups.
const SUBSCRIPTION: u64 = 4;
const TOPIC: u64 = 1;
const OWNS: u64 = 5;
const OFFSETS: u64 = 4;
const PARTITIONS: u64 = 2;

/// Field numbers on the way from a `ProduceRequest` to what is counted.
const RECORDS: u64 = 7;
const RECORD: u64 = 1;
const HEADER: u64 = 3;

/// Records and headers in an encoded `ProduceRequest`, or more. What cannot be walked is not counted:
/// decoding fails there too.
fn elements(request: &[u8]) -> usize {
    let of_record = |record| fields(record, HEADER).count();
    let of_records = |records| fields(records, RECORD).map(|record| 1 + of_record(record)).sum::<usize>();
    fields(request, RECORDS).map(of_records).sum()
}

/// The length-delimited fields with this number. Groups are walked through as if they were not there,
/// so that nothing hides behind one.
fn fields(mut message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut message)?;
            match key & 7 {
                0 => {
                    varint(&mut message)?;
                }
                1 => message = message.get(8..)?,
                2 => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    let (field, rest) = message.split_at_checked(length)?;
                    message = rest;
                    if key >> 3 == number {
                        return Some(field);
                    }
                }
                3 | 4 => {}
                5 => message = message.get(4..)?,
                _ => return None,
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let byte = *bytes.get(at)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(headers: &[usize]) -> v1::ProduceRequest {
        let record = |count: &usize| v1::Record {
            key: Some(b"key".as_slice().into()),
            headers: vec![v1::Header { key: String::new(), value: None }; *count],
            timestamp_ms: Some(-1),
            ..v1::Record::default()
        };
        let records = v1::Records { records: headers.iter().map(record).collect(), compression: 4 };
        v1::ProduceRequest {
            correlation_id: u64::MAX,
            topic: "orders".into(),
            payload: Some(v1::produce_request::Payload::Records(records)),
            ..v1::ProduceRequest::default()
        }
    }

    proptest! {
        #[test]
        fn counts_what_decoding_makes(headers in prop::collection::vec(0..4_usize, 0..20)) {
            let bytes = request(&headers).encode_to_vec();
            prop_assert_eq!(elements(&bytes), headers.len() + headers.iter().sum::<usize>());
        }

        #[test]
        fn never_counts_less_than_decoding_makes(mut bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0..60_usize) {
            // Random bytes around a real request: what decodes must have been counted.
            let at = at.min(bytes.len());
            bytes.splice(at..at, request(&[1, 2]).encode_to_vec());
            let counted = elements(&bytes);
            if let Ok(v1::ProduceRequest { payload: Some(v1::produce_request::Payload::Records(made)), .. }) =
                v1::ProduceRequest::decode(&*bytes)
            {
                let made = made.records.len() + made.records.iter().map(|record| record.headers.len()).sum::<usize>();
                prop_assert!(counted >= made, "{counted} < {made}");
            }
        }
    }

    #[test]
    fn nothing_hides_behind_a_group() {
        let mut bytes = vec![(9 << 3) | 3, (9 << 3) | 4];
        bytes.extend(request(&[0]).encode_to_vec());
        assert!(v1::ProduceRequest::decode(&*bytes).is_ok(), "an unknown empty group is skipped");
        assert_eq!(elements(&bytes), 1);
    }

    #[test]
    fn lists_about_groups_are_counted() {
        let sets = vec![v1::PartitionSet::default(); 3];
        let topics = vec![String::new(); 4];
        let subscription = Some(v1::GroupSubscription { topics, ..Default::default() });
        let beat = v1::GroupHeartbeatRequest { owns: sets.clone(), subscription, ..Default::default() };
        let offsets = vec![v1::OffsetToCommit::default(); 5];
        let commit = v1::CommitOffsetsRequest { offsets, group: "g".into(), epoch: 7, ..Default::default() };
        let fetch = v1::FetchOffsetsRequest { group: "g".into(), partitions: sets.clone() };
        let delete = v1::DeleteOffsetsRequest { group: "g".into(), partitions: sets };
        fn count<U: Message + 'static>(of: U) -> usize {
            bound::<U>().expect("it has a bound").0(&of.encode_to_vec())
        }
        assert_eq!([count(beat), count(commit), count(fetch), count(delete)], [7, 5, 3, 3]);
        assert!(bound::<v1::ConsumeRequest>().is_none());
    }

    #[test]
    fn a_batch_counts_nothing() {
        let payload = v1::produce_request::Payload::Batch(vec![0x0a; 1_000].into());
        let request = v1::ProduceRequest { payload: Some(payload), ..v1::ProduceRequest::default() };
        assert_eq!(elements(&request.encode_to_vec()), 0);
    }
}
