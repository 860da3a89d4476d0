//! Batches of strangers: the header, each codec, the records within, and many batches back to back.

use bytes::{Bytes, BytesMut};

use super::{compress::compress, compress::decompress, tests::*, *};
use crate::{
    formats::fuzz::{bounded, fuzz, linear},
    types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, WallMs},
};

/// What a batch of a case may decompress to.
const DECODED_MAX: usize = 256 << 10;
/// Decoded records of a few bytes each, their headers, and a vector that is being doubled; for each byte of records.
const PER_DECODED_BYTE: usize = 64;
/// A cloned view of each batch, nothing of its bytes.
const PER_BYTE: usize = 8;

const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn seeds() -> Vec<Bytes> {
    let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence: Sequence(i32::MAX - 1) };
    let ours = ALL.into_iter().flat_map(|codec| {
        let long = Record { value: Some(vec![b'v'; 3_000].into()), timestamp: WallMs(-1), ..Record::default() };
        [batch(codec, Some(producer), &three_records()), batch(codec, None, &[long])]
    });
    let theirs = WRITTEN_BY_ANOTHER.into_iter().map(|(_, hex)| unhex(hex));
    ours.chain(theirs).collect()
}

/// With a length and checksum that are right, so that what lies behind them must stand by itself.
fn sealed(bytes: &[u8]) -> Option<Bytes> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < BATCH_HEADER_BYTES {
        return None;
    }
    let length = i32::try_from(bytes.len() - 12).expect("a case is short");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    header::seal(&mut bytes);
    Some(bytes.into())
}

/// What was read, written by our own encoder, is read again. Only of what an encoder could write.
fn check_records(header: &BatchHeader, records: &[(Offset, Record)]) {
    assert!(records.len() <= header.count.unsigned_abs() as usize, "{header:?} holds {}", records.len());
    assert!(records.windows(2).all(|pair| pair[0].0.0.wrapping_sub(pair[1].0.0) < 0), "offsets rise");
    if records.is_empty() {
        return;
    }
    let plain: Vec<Record> = records.iter().map(|(_, record)| record.clone()).collect();
    let again = decode_records(&batch(Codec::None, None, &plain), DECODED_BYTES_MAX_DEFAULT).expect("our own batch");
    assert_eq!(again.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), plain);
}

fn check_batch(bytes: &Bytes) {
    let validated = bounded(bytes.len(), 0, || validate_batch(bytes, &BatchLimits { batch_bytes_max: 1 << 20 }));
    if let Ok(header) = &validated {
        let Ok(codec) = header.codec() else { panic!("{header:?} was taken without a codec") };
        assert!(header.count >= 1 && header.last_offset_delta == header.count - 1, "{header:?}");
        assert_eq!(header.total_bytes(), bytes.len());
        assert!(7 * header.count as usize <= codec.expands_to_max(bytes.len() - BATCH_HEADER_BYTES), "{header:?}");
        for stamp in [None, Some(WallMs(5))] {
            let mut copy = BytesMut::from(&b"before"[..]);
            match stamp {
                None => append_patched(&mut copy, bytes, Offset(9), LeaderEpoch(3)),
                Some(stamp) => append_stamped(&mut copy, bytes, Offset(9), LeaderEpoch(3), stamp),
            }
            let copy = copy.split_off(6).freeze();
            let patched = BatchHeader::parse(&copy).expect("it was one before");
            assert_eq!((patched.base_offset, patched.leader_epoch), (Offset(9), LeaderEpoch(3)));
            assert_eq!(header::check_crc(&patched, &copy), Ok(()));
        }
    }
    let decoded = bounded(bytes.len() + DECODED_MAX, PER_DECODED_BYTE, || decode_records(bytes, DECODED_MAX));
    if let Ok(records) = decoded {
        check_records(&BatchHeader::parse(bytes).expect("its records were read"), &records);
    }
}

#[test]
fn fuzz_batches() {
    for seed in seeds() {
        assert!(validate_batch(&seed, &BatchLimits::default()).is_ok(), "{seed:?}");
    }
    fuzz!(seeds(), |bytes| {
        check_batch(&Bytes::copy_from_slice(bytes));
        sealed(bytes).iter().for_each(check_batch);
    });
}

#[test]
fn fuzz_walks() {
    let all: Vec<Bytes> = seeds();
    let back_to_back: Vec<u8> = all.iter().flat_map(|batch| batch.to_vec()).collect();
    assert_eq!(walk(&back_to_back).filter(Result::is_ok).count(), all.len());
    fuzz!([back_to_back, all[0].to_vec()], |bytes| {
        let mut end = 0;
        let mut walked = walk(bytes);
        let found: Vec<_> = bounded(bytes.len(), PER_BYTE, || walked.by_ref().collect());
        for (place, batch) in found.iter().enumerate() {
            match batch {
                Ok((header, range)) => {
                    assert_eq!((range.start, range.len()), (end, header.total_bytes()));
                    end = range.end;
                }
                Err(_) => assert_eq!(place + 1, found.len(), "nothing comes after an error"),
            }
        }
        assert!(end <= bytes.len());
        assert!(end == bytes.len() || found.last().is_some_and(Result::is_err), "the rest is an error, not left out");
        assert!(walked.next().is_none());
    });
    linear(back_to_batch, |bytes| assert!(walk(&bytes).all(|batch| batch.is_ok())));
}

/// Small batches, about so many bytes of them.
fn back_to_batch(bytes: usize) -> Vec<u8> {
    let one = batch(Codec::None, None, &[Record::default()]);
    one.repeat(bytes / one.len())
}

#[test]
fn fuzz_codecs() {
    let texts = [b"".to_vec(), b"flotilla".to_vec(), b"abcabcabd".repeat(500), vec![0; 70_000]];
    let mut seeds = Vec::new();
    for (number, codec) in ALL.into_iter().enumerate().skip(1) {
        for text in &texts {
            let mut packed = compress(codec, text.clone()).expect("it compresses");
            assert_eq!(decompress(codec, &packed.clone().into(), text.len()), Ok(text.clone().into()), "{codec:?}");
            packed.insert(0, number as u8);
            seeds.push(packed);
        }
    }
    // As librdkafka and Go clients may write it: one block, without xerial's frame.
    let block = snap::raw::Encoder::new().compress_vec(&texts[2]).expect("it compresses");
    seeds.push([&[2], &block[..]].concat());
    fuzz!(seeds, |bytes| {
        let Some((number, packed)) = bytes.split_first() else { return };
        let (codec, packed) = (ALL[usize::from(*number) % ALL.len()], Bytes::copy_from_slice(packed));
        // At a limit, one below it, and none worth the name.
        let unpacked = bounded(packed.len() + DECODED_MAX, 4, || decompress(codec, &packed, DECODED_MAX));
        let Ok(unpacked) = unpacked else { return };
        assert!(unpacked.len() <= DECODED_MAX.min(codec.expands_to_max(packed.len())), "{codec:?}: {}", unpacked.len());
        assert_eq!(decompress(codec, &packed, unpacked.len()).as_ref(), Ok(&unpacked), "{codec:?}");
        if let Some(below) = unpacked.len().checked_sub(1) {
            let over = decompress(codec, &packed, below);
            assert_eq!(over, Err(DecompressError::OverLimit { codec, limit: below }), "{codec:?}");
        }
        let again = compress(codec, unpacked.to_vec()).expect("it compresses");
        assert_eq!(decompress(codec, &again.into(), unpacked.len()), Ok(unpacked), "{codec:?}");
    });
}

/// A record without anything is seven bytes; what is claimed and not there costs nothing.
#[test]
fn records_take_time_and_memory_in_proportion() {
    for codec in ALL {
        let many = |bytes: usize| batch(codec, None, &vec![Record::default(); bytes / 7]).to_vec();
        linear(many, |bytes| assert!(decode_records(&bytes, DECODED_BYTES_MAX_DEFAULT).is_ok()));
    }
    let headers = |bytes: usize| {
        let headers = vec![(String::new(), None); bytes / 2];
        batch(Codec::None, None, &[Record { headers, ..Record::default() }]).to_vec()
    };
    linear(headers, |bytes| assert!(decode_records(&bytes, DECODED_BYTES_MAX_DEFAULT).is_ok()));
    let frames = |bytes: usize| {
        let one = compress(Codec::Snappy, b"x".to_vec()).expect("it compresses");
        one.repeat(bytes / one.len())
    };
    linear(frames, |bytes| assert!(decompress(Codec::Snappy, &bytes, 1 << 20).is_ok()));
    let members = |bytes: usize| {
        let one = compress(Codec::Gzip, Vec::new()).expect("it compresses");
        one.repeat(bytes / one.len())
    };
    linear(members, |bytes| assert!(decompress(Codec::Gzip, &bytes, 1 << 20).is_ok()));
}
