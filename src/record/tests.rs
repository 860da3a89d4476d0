//! Batches against bytes that another implementation wrote, and against hostile ones.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::formats::frozen;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

/// The same three records as kafka-python 3.0.12 wrote them (with lz4, python-snappy and zstandard),
/// by producer 4000, epoch 3, base sequence 17.
pub(super) const WRITTEN_BY_ANOTHER: [(Codec, &str); 5] = [
    (
        Codec::None,
        "000000000000000000000085000000000201427bd4000000000002000001935e544000000001935e5440050000000000000fa0000300\
         000011000000038801000000046b316a68656c6c6f2068656c6c6f2068656c6c6f2068656c6c6f2068656c6c6f2068656c6c6f206865\
         6c6c6f2068656c6c6f2068656c6c6f04026802310268010c000a020100000c001304000100",
    ),
    (
        Codec::Gzip,
        "00000000000000000000006b00000000026110a60c000100000002000001935e544000000001935e5440050000000000000fa0000300\
         000011000000031f8b08005894056b02ffeb6064606060c936ccca48cdc9c95720916461ca603264ca60e461e062021ac4c320ccc2c0\
         c80000090d794a54000000",
    ),
    (
        Codec::Snappy,
        "0000000000000000000000700000000002c5de68e8000200000002000001935e544000000001935e5440050000000000000fa0000300\
         0000110000000382534e415050590000000001000000010000002b54388801000000046b316a68656c6c6f20ba060054040268023102\
         68010c000a020100000c001304000100",
    ),
    (
        Codec::Lz4,
        "000000000000000000000074000000000217dfe6cd000300000002000001935e544000000001935e5440050000000000000fa0000300\
         0000110000000304224d1868405400000000000000a62c000000ff008801000000046b316a68656c6c6f2006001cf007040268023102\
         68010c000a020100000c00130400010000000000",
    ),
    (
        Codec::Zstd,
        "0000000000000000000000660000000002bd3dd5e1000400000002000001935e544000000001935e5440050000000000000fa0000300\
         0000110000000328b52ffd205465010054028801000000046b316a68656c6c6f2004026802310268010c000a020100000c0013040001\
         000100242a75",
    ),
];

pub(super) fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

pub(super) fn three_records() -> Vec<Record> {
    let hello = Bytes::from(["hello"; 9].join(" "));
    let headers = vec![("h".to_owned(), Some(Bytes::from_static(b"1"))), ("h".to_owned(), None)];
    vec![
        Record { key: Some("k1".into()), value: Some(hello), headers, timestamp: WallMs(1_732_454_400_000) },
        Record { value: Some(Bytes::new()), timestamp: WallMs(1_732_454_400_005), ..Record::default() },
        Record { key: Some(Bytes::new()), timestamp: WallMs(1_732_454_399_990), ..Record::default() },
    ]
}

pub(super) fn batch(codec: Codec, producer: Option<Producer>, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    producer.into_iter().for_each(|producer| {
        builder.producer(producer);
    });
    records.iter().for_each(|record| builder.push(record).unwrap());
    builder.build().unwrap()
}

/// Changes one byte and seals the result again, so that only the field itself is wrong.
fn forged(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = batch.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    header::seal(&mut forged);
    forged.into()
}

#[test]
fn batches_of_another_implementation_are_read() {
    for (codec, hex) in WRITTEN_BY_ANOTHER {
        let bytes = unhex(hex);
        let header = validate_batch(&bytes, &BatchLimits::default()).unwrap();
        assert_eq!(header.codec(), Ok(codec));
        assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(4000), ProducerEpoch(3)));
        assert_eq!((header.base_sequence, header.last_sequence(), header.count), (Sequence(17), Sequence(19), 3));
        assert_eq!(header.max_timestamp, WallMs(1_732_454_400_005));
        let records: Vec<_> = (0..).map(Offset).zip(three_records()).collect();
        assert_eq!(decode_records(&bytes, 1000).unwrap(), records, "{codec:?}");
    }
}

#[test]
fn batch_bytes_are_frozen() {
    let ours = batch(
        Codec::None,
        Some(Producer { id: ProducerId(4000), epoch: ProducerEpoch(3), base_sequence: Sequence(17) }),
        &three_records(),
    );
    let mut theirs = unhex(WRITTEN_BY_ANOTHER[0].1).to_vec();
    // A client does not know the leader epoch: we say -1 as Java does, kafka-python says 0.
    theirs[12..16].fill(0xff);
    assert_eq!(ours, theirs);
    let limits = BatchLimits::default();
    let reads = |_: &str, batch: &[u8]| {
        validate_batch(&Bytes::copy_from_slice(batch), &limits).map(drop).map_err(|error| error.to_string())
    };
    frozen::check(include_str!("batches.frozen"), [("idempotent", ours)], reads);
}

#[test]
fn each_check_refuses_its_own_forgery() {
    let good = batch(
        Codec::None,
        Some(Producer { id: ProducerId(7), epoch: ProducerEpoch(0), base_sequence: Sequence(0) }),
        &three_records(),
    );
    let limits = BatchLimits::default();
    let check = |bytes: &Bytes| validate_batch(bytes, &limits);
    assert!(check(&good).is_ok());

    let len = good.len();
    let tight = BatchLimits { batch_bytes_max: len - 1 };
    assert_eq!(validate_batch(&good, &tight), Err(BatchError::TooLarge { got: len, max: len - 1 }));
    assert_eq!(check(&good.slice(..60)), Err(BatchError::Short { got: 60 }));
    let two = Bytes::from([&good[..], &good[..]].concat());
    assert_eq!(check(&two), Err(BatchError::LengthMismatch { claimed: len as u64, got: 2 * len }));
    let cut = good.slice(..len - 1);
    assert_eq!(check(&cut), Err(BatchError::LengthMismatch { claimed: len as u64, got: len - 1 }));
    // Length and magic lie outside the CRC.
    let mut bytes = good.to_vec();
    bytes[16] = 1;
    assert_eq!(check(&bytes.into()), Err(BatchError::Magic { magic: 1 }));
    for length in [-1, 0, 48, i32::MIN] {
        let mut bytes = good.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(check(&bytes.into()), Err(BatchError::LengthTooSmall { batch_length: length }));
    }
    let mut bytes = good.to_vec();
    bytes[len - 1] ^= 1;
    assert!(matches!(check(&bytes.into()), Err(BatchError::Crc { .. })));

    let attributes = |attributes: i16| check(&forged(&good, 21, &attributes.to_be_bytes()));
    assert_eq!(attributes(1 << 5), Err(BatchError::Control { attributes: 32 }));
    assert_eq!(attributes(1 << 4), Err(BatchError::Transactional { attributes: 16 }));
    assert_eq!(attributes(1 << 3), Err(BatchError::LogAppendTime { attributes: 8 }));
    assert_eq!(attributes(5), Err(BatchError::Codec { codec: 5 }));
    let counts = |delta: i32, count: i32| {
        check(&forged(&forged(&good, 57, &count.to_be_bytes()), 23, &delta.to_be_bytes())).unwrap_err()
    };
    assert_eq!(counts(-1, 0), BatchError::NoRecords { count: 0 });
    assert_eq!(counts(i32::MAX, i32::MIN), BatchError::NoRecords { count: i32::MIN });
    assert_eq!(counts(3, 3), BatchError::CountMismatch { count: 3, last_offset_delta: 3 });
    assert_eq!(counts(999, 1000), BatchError::TooManyRecords { count: 1000, max: (len as u32 - 61) / 7 });
    assert!(matches!(
        check(&forged(&good, 53, &[0xff; 4])),
        Err(BatchError::Producer { base_sequence: Sequence(-1), .. })
    ));
    assert!(matches!(
        check(&forged(&good, 51, &[0xff; 2])),
        Err(BatchError::Producer { producer_epoch: ProducerEpoch(-1), .. })
    ));
}

/// A few bytes cannot stand for millions of records, whatever codec their header names.
#[test]
fn a_count_that_no_codec_could_make_of_the_bytes_is_refused() {
    let good = batch(Codec::None, None, &three_records());
    let payload = good.len() - 61;
    let claimed = |codec: Codec, count: u32| {
        let forged_count = forged(&forged(&good, 57, &count.to_be_bytes()), 23, &(count - 1).to_be_bytes());
        validate_batch(&forged(&forged_count, 21, &codec.bits().to_be_bytes()), &BatchLimits::default())
    };
    for (codec, ratio) in
        [(Codec::None, 1), (Codec::Gzip, 1_032), (Codec::Snappy, 22), (Codec::Lz4, 255), (Codec::Zstd, 32_768)]
    {
        let max = (payload * ratio / 7) as u32;
        assert!(claimed(codec, max).is_ok(), "{codec:?}");
        let refused = BatchError::TooManyRecords { count: max as i32 + 1, max };
        assert_eq!(claimed(codec, max + 1), Err(refused), "{codec:?}");
        assert!(max < BATCH_RECORDS_MAX && claimed(codec, BATCH_RECORDS_MAX).is_err(), "{codec:?}");
    }
}

#[test]
fn patches_keep_the_crc_and_a_stamp_renews_it() {
    let records = three_records();
    let good = batch(Codec::Gzip, None, &records);
    let mut buffer = BytesMut::from(&b"before"[..]);
    append_patched(&mut buffer, &good, Offset(1 << 40), LeaderEpoch(9));
    let patched = buffer.split_off(6).freeze();
    let header = validate_batch(&patched, &BatchLimits::default()).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(1 << 40), LeaderEpoch(9)));
    assert_eq!(patched[16..], good[16..]);
    assert_eq!(decode_records(&patched, 1000).unwrap()[2], (Offset((1 << 40) + 2), records[2].clone()));

    append_stamped(&mut buffer, &good, Offset(5), LeaderEpoch(9), WallMs(77));
    let stamped = buffer.split_off(6).freeze();
    let header = BatchHeader::parse(&stamped).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!((header.max_timestamp, header.codec()), (WallMs(77), Ok(Codec::Gzip)));
    let decoded = decode_records(&stamped, 1000).unwrap();
    assert!(decoded.iter().all(|(_, record)| record.timestamp == WallMs(77)));
    assert_eq!(buffer, &b"before"[..]);
}

#[test]
fn a_walk_visits_each_batch_and_ends_at_the_first_that_is_cut() {
    let one = batch(Codec::None, None, &three_records());
    let two = batch(Codec::Zstd, None, &three_records()[..1]);
    let both = [&one[..], &two[..]].concat();
    let found: Vec<_> = walk(&both).map(|batch| batch.map(|(header, range)| (header.count, range)).unwrap()).collect();
    assert_eq!(found, [(3, 0..one.len()), (1, one.len()..both.len())]);
    let cut: Vec<_> = walk(&both[..both.len() - 1]).collect();
    assert!(cut[0].is_ok());
    let (claimed, got) = (two.len() as u64, two.len() - 1);
    assert_eq!(cut[1..], [Err(BatchError::LengthMismatch { claimed, got })]);
    assert_eq!(walk(&[]).count(), 0);
}

#[test]
fn a_builder_refuses_what_nobody_could_read() {
    assert_eq!(BatchBuilder::new(Codec::None).build(), Err(EncodeError::Empty));
    let mut builder = BatchBuilder::new(Codec::None);
    let half = Record { value: Some(vec![0; DECODED_BYTES_MAX_DEFAULT / 2].into()), ..Record::default() };
    builder.push(&half).unwrap();
    let before = (builder.count(), builder.bytes_uncompressed());
    assert!(matches!(builder.push(&half), Err(EncodeError::TooLarge { .. })));
    assert_eq!((builder.count(), builder.bytes_uncompressed()), before);
    assert!(matches!(builder.build(), Err(EncodeError::TooLarge { max: BATCH_BYTES_MAX, .. })));
}

#[test]
fn decoding_stops_at_the_output_limit() {
    let value = Some(vec![b'x'; 100_000].into());
    let records = [Record { value, ..Record::default() }];
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = batch(codec, None, &records);
        assert!(decode_records(&bytes, 101_000).is_ok());
        let over = decode_records(&bytes, 100_000);
        assert_eq!(over, Err(DecompressError::OverLimit { codec, limit: 100_000 }.into()));
    }
}

fn record() -> impl Strategy<Value = Record> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    let headers = prop::collection::vec((".{0,5}", bytes()), 0..4);
    (bytes(), bytes(), headers, any::<i64>()).prop_map(|(key, value, headers, timestamp)| Record {
        key,
        value,
        headers,
        timestamp: WallMs(timestamp),
    })
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])
}

proptest! {
    #[test]
    fn records_round_trip(codec in codec(), records in prop::collection::vec(record(), 1..50)) {
        let bytes = batch(codec, None, &records);
        let header = validate_batch(&bytes, &BatchLimits::default()).unwrap();
        prop_assert_eq!(header.count as usize, records.len());
        prop_assert_eq!(Some(header.max_timestamp), records.iter().map(|record| record.timestamp).max());
        let decoded: Vec<_> = decode_records(&bytes, 1 << 20).unwrap();
        prop_assert_eq!(decoded, (0..).map(Offset).zip(records).collect::<Vec<_>>());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() > 16 {
            bytes[16] = 2;
        }
        prop_assert!(walk(&bytes).count() <= bytes.len());
        let bytes = Bytes::from(bytes);
        let _ = validate_batch(&bytes, &BatchLimits::default());
        let _ = decode_records(&bytes, 1000);
    }

    /// Sealed again after the mutation, so that what lies behind the CRC is reached.
    #[test]
    fn mutated_batches_never_panic(
        codec in codec(),
        records in prop::collection::vec(record(), 1..5),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = batch(codec, None, &records).to_vec();
        if let Some(cut) = cut {
            bytes.truncate(BATCH_HEADER_BYTES + cut.index(bytes.len() - BATCH_HEADER_BYTES + 1));
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        for (at, byte) in mutations {
            let at = 17 + at.index(bytes.len() - 17);
            bytes[at] = byte;
        }
        header::seal(&mut bytes);
        let bytes = Bytes::from(bytes);
        let _ = validate_batch(&bytes, &BatchLimits::default());
        if let Ok(records) = decode_records(&bytes, 10_000) {
            prop_assert!(records.len() <= 10_000 / 7);
        }
    }
}
