//! Bytes that lie on disks, as literals.

use super::*;
use crate::{formats::frozen, partition::command::COMMAND_BATCH_BYTES_MAX, record::BATCH_RECORDS_MAX};
use proptest::prelude::*;

/// One record at offset 258, value `v`, timestamp 7, producer 9 epoch 1 sequence 2, in term 3.
const BATCH: &[u8] = &[
    0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 57, 0, 0, 0, 3, 2, 0x4f, 0xa8, 0xae, 0x0f, 0, 0, 0, 0, 0, 0, //
    0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, //
    14, 0, 0, 0, 1, 2, b'v', 0,
];

fn one() -> (Bytes, BatchHeader) {
    batch(1, 1, WallMs(7), Some(Producer { id: ProducerId(9), epoch: ProducerEpoch(1), base_sequence: Sequence(2) }))
}

#[test]
fn command_bytes_are_frozen() {
    let command = append(Offset(258), LeaderEpoch(3), WallMs(0x0102_0304), &[one()]);
    let header: &[u8] = &[1, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(command, [header, BATCH].concat());
    let view = AppendView::parse(&command).unwrap();
    assert_eq!((view.append_time, view.base_offset, view.record_count), (WallMs(0x0102_0304), Offset(258), 1));
    assert_eq!((view.max_timestamp, view.end_offset()), (WallMs(7), Offset(259)));
    assert_eq!(view.batches, BATCH);
    assert_eq!(view.check(), Ok(()));
    assert_eq!(CommandView::parse(&command), Ok(CommandView::Append(view)));

    let trim = encode_trim(WallMs(5), Offset(258));
    assert_eq!(trim, &[1, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2][..]);
    let view = TrimView { append_time: WallMs(5), before: Offset(258) };
    assert_eq!(CommandView::parse(&trim), Ok(CommandView::Trim(view)));
    assert_eq!(AppendView::parse(&trim), Err(CommandError::Kind { kind: 2 }));

    let segment = SegmentLimits { bytes: 258, ms: 3 };
    let resize = encode_resize(WallMs(5), segment);
    assert_eq!(resize, &[1, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3][..]);
    let view = ResizeView { append_time: WallMs(5), segment };
    assert_eq!(CommandView::parse(&resize), Ok(CommandView::Resize(view)));
    assert_eq!(AppendView::parse(&resize), Err(CommandError::Kind { kind: 3 }));
    let mut forged = resize.to_vec();
    forged[25] = 0;
    assert_eq!(CommandView::parse(&forged.into()), Err(CommandError::Segment { bytes: 258, ms: 0 }));

    let reads = |_: &str, bytes: &[u8]| match CommandView::parse(&Bytes::copy_from_slice(bytes)) {
        Ok(CommandView::Append(append)) => append.check().map_err(|error| error.to_string()),
        Ok(CommandView::Trim(_) | CommandView::Resize(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let written = [("append", command), ("trim", trim), ("resize", resize)];
    frozen::check(include_str!("commands.frozen"), written, reads);
}

#[test]
fn state_bytes_are_frozen() {
    let mut partition = Partition::default();
    let first = append(Offset(0), LeaderEpoch(3), WallMs(1000), &[one(), batch(2, 1, WallMs(8), None)]);
    drive(&mut partition, None, at(3, 1), &first);
    drive(&mut partition, Some(at(3, 1)), at(3, 2), &encode_trim(WallMs(1001), Offset(2)));
    let next = batch(
        1,
        1,
        WallMs(6),
        Some(Producer { id: ProducerId(9), epoch: ProducerEpoch(1), base_sequence: Sequence(3) }),
    );
    drive(&mut partition, Some(at(3, 2)), at(4, 4), &append(Offset(3), LeaderEpoch(4), WallMs(999), &[next]));
    let expected: &[u8] = &[
        1, // version
        128, 128, 128, 32, 128, 144, 228, 192, 4, 128, 128, 4, 160, 141, 6, 128, 240, 178, 82, // limits
        4, 8, 210, 15, 16, // log start 2, next offset 4, clock 1001, max timestamp 8
        215, 1, 187, 255, 3, // bytes 215, to the next index point 65,467
        2, 6, 4, 8, 6, // epochs 3 from 2, 4 from 3
        1, 3, 1, 6, 146, 1, 16, // checkpoint T3-1: next offset 3, 146 bytes, timestamp 8
        1, 210, 15, 12, // segment: since 1001, timestamp 6
        1, 18, 2, 210, 15, 2, // producer 9: epoch 1, last append 1001, two batches
        4, 4, 0, 3, 1, // sequence 2, offset 0, T3-1
        6, 6, 6, 4, 4, // sequence 3, offset 3, T4-4
        0, // evicted
    ];
    assert_eq!(partition.encode(), expected, "{:?}", &partition.encode()[..]);
    assert_eq!(Partition::decode(expected).unwrap().encode(), expected);

    let reads = |_: &str, bytes: &[u8]| Partition::decode(bytes).map(drop).map_err(|error| error.to_string());
    frozen::check(include_str!("states.frozen"), [("trimmed", partition.encode())], reads);
}

/// Seen once: the next checkpoint broke the assert that it is later than the last.
#[test]
fn a_state_that_knows_of_later_entries_than_it_is_said_to_be_of_is_refused() {
    let mut partition = Partition::default();
    drive(&mut partition, None, at(3, 7), &append(Offset(0), LeaderEpoch(3), WallMs(1000), &[one()]));
    partition.checkpoint_taken(at(3, 7));
    let bytes = partition.encode();
    for good in [at(3, 7), at(3, 8), at(4, 7)] {
        assert!(Partition::decode_after(&bytes, Some(good)).is_ok(), "{good}");
    }
    for bad in [at(3, 6), at(2, 9), at(4, 6)] {
        let error = Partition::decode_after(&bytes, Some(bad)).map(drop).expect_err("it is of a later one");
        assert!(error.to_string().contains(&format!("said to be of {bad}")), "{error}");
    }
    assert!(Partition::decode_after(&bytes, None).is_err());
    assert!(Partition::decode_after(&Partition::default().encode(), None).is_ok());
}

/// Seen once: with the next append of that producer the state became one that cannot be read again.
#[test]
fn a_remembered_batch_at_the_end_of_the_log_is_refused() {
    let mut bytes = frozen::literal(include_str!("states.frozen"), "trimmed");
    assert!(Partition::decode(&bytes).is_ok());
    let offset = bytes.len() - 4;
    assert_eq!(bytes[offset], 6, "the last batch's base offset is 3");
    bytes[offset] = 8;
    let error = Partition::decode(&bytes).map(drop).expect_err("4 is the next offset");
    assert!(error.to_string().contains("a producer is malformed"), "{error}");
}

#[test]
fn malformed_commands_are_errors() {
    let good = append(Offset(0), LeaderEpoch(0), WallMs(0), &[one()]);
    let forged = |at: usize, bytes: &[u8]| {
        let mut forged = good.to_vec();
        forged[at..at + bytes.len()].copy_from_slice(bytes);
        CommandView::parse(&forged.into()).map(|command| match command {
            CommandView::Append(append) => append.check(),
            CommandView::Trim(_) | CommandView::Resize(_) => Ok(()),
        })
    };
    for len in [0, 1, 2, 30, 90] {
        assert_eq!(CommandView::parse(&good.slice(..len)), Err(CommandError::Length { len }));
    }
    assert_eq!(forged(0, &[2]), Err(CommandError::Version { found: 2 }));
    assert_eq!(forged(1, &[4]), Err(CommandError::Kind { kind: 4 }));
    assert_eq!(forged(1, &[2]), Err(CommandError::Length { len: good.len() }));
    assert_eq!(forged(1, &[3]), Err(CommandError::Length { len: good.len() }));
    let offsets = |base: i64, record_count| Err(CommandError::Offsets { base_offset: Offset(base), record_count });
    assert_eq!(forged(10, &[0xff; 8]), offsets(-1, 1));
    assert_eq!(forged(10, &i64::MAX.to_be_bytes()), offsets(i64::MAX, 1));
    assert_eq!(forged(18, &[0; 4]), offsets(0, 0));
    let inconsistent =
        |at: usize, bytes: &[u8]| matches!(forged(at, bytes), Ok(Err(CommandError::Inconsistent { .. })));
    assert!(inconsistent(18, &[0, 0, 0, 2]), "more records than its batches have");
    assert!(inconsistent(29, &[9]), "another max timestamp");
    assert!(inconsistent(17, &[9]), "another base offset than its batch");
    assert!(inconsistent(30 + 57, &[0, 0, 0, 2]), "a batch of two records with a delta of one");
    assert!(matches!(forged(30 + 16, &[1]), Ok(Err(CommandError::Batch(_)))));
    let cut = good.slice(..good.len() - 1);
    assert!(matches!(AppendView::parse(&cut).unwrap().check(), Err(CommandError::Batch(_))));
}

#[test]
fn an_entry_takes_a_mebibyte_or_one_larger_batch() {
    let large = batch(1, 1_048_000, WallMs(0), None);
    let small = batch(1, 100, WallMs(0), None);
    let sized = |bytes: usize| BatchHeader { batch_length: bytes as i32 - 12, ..small.1 };
    let mut fill = EntryFill::default();
    assert!(fill.fits(&sized(COMMAND_BATCH_BYTES_MAX + 1)));
    fill.add(&large.1);
    assert!(fill.fits(&sized(COMMAND_BATCH_BYTES_MAX - large.0.len())));
    assert!(!fill.fits(&sized(COMMAND_BATCH_BYTES_MAX - large.0.len() + 1)));
    let mut builder = AppendBuilder::new(Offset(0), LeaderEpoch(0), WallMs(0), usize::MAX);
    assert!(builder.is_empty());
    assert_eq!(builder.push(&large.0, &large.1, None), Offset(0));
    assert_eq!(builder.push(&small.0, &small.1, Some(WallMs(7))), Offset(1));
    assert_eq!(builder.next_offset(), Offset(2));
    assert_eq!(AppendView::parse(&builder.finish()).unwrap().check(), Ok(()));
}

/// Counts are claims: dozens of bytes may claim millions of records.
#[test]
fn an_entry_is_bounded_in_records_too() {
    let (_, header) = batch(1, 100, WallMs(0), None);
    let claims = |count: u32| BatchHeader { count: count as i32, last_offset_delta: count as i32 - 1, ..header };
    let mut fill = EntryFill::default();
    let most = claims(BATCH_RECORDS_MAX);
    let mut batches = 0;
    while fill.fits(&most) {
        fill.add(&most);
        batches += 1;
    }
    assert_eq!(batches, COMMAND_RECORDS_MAX / BATCH_RECORDS_MAX);
    let left = COMMAND_RECORDS_MAX % BATCH_RECORDS_MAX;
    assert!(fill.fits(&claims(left)) && !fill.fits(&claims(left + 1)));
}

/// A log that a newer broker wrote, or a broken one: this replica must stop, and must not take its process along
/// in a way that says nothing.
#[test]
fn an_entry_that_cannot_be_applied_is_an_error_and_changes_nothing() {
    let good = append(Offset(0), LeaderEpoch(2), WallMs(5), &[one()]);
    let unknown_kind = Bytes::from_static(&[1, 9, 0, 0]);
    let newer_version = Bytes::from_static(&[2, 1, 0, 0]);
    let next = append(Offset(1), LeaderEpoch(2), WallMs(5), &[one()]);
    let mut lying = next.to_vec();
    lying[21] = 2; // Two records, it says.
    let mut partition = Partition::default();
    partition.apply(at(2, 1), &good).unwrap();
    let before = partition.encode();
    for (position, command, why) in [
        (at(2, 2), &unknown_kind, "kind 9"),
        (at(2, 2), &newer_version, "version 2"),
        (at(2, 2), &Bytes::new(), "cut short"),
        (at(2, 2), &lying.into(), "2 records"),
        (at(1, 2), &next, "terms never go back"),
    ] {
        let error = partition.apply(position, command).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(partition.encode(), before, "{error}");
    }
    partition.apply(at(2, 2), &next).unwrap();
}

proptest! {
    #[test]
    fn hostile_commands_never_panic(bytes: Vec<u8>, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let check = |bytes: Vec<u8>| {
            if let Ok(CommandView::Append(append)) = CommandView::parse(&bytes.into()) {
                let _ = append.check();
            }
        };
        check(bytes.clone());
        check([&[1, 1], &bytes[..]].concat());
        let mut good = append(Offset(5), LeaderEpoch(0), WallMs(0), &[one(), one()]).to_vec();
        for (at, byte) in flips {
            let at = at.index(good.len());
            good[at] = byte;
        }
        check(good);
    }

    /// A client's batch that passes the broker's checks must never stop a replica.
    #[test]
    fn what_validation_lets_through_can_be_applied(
        flips in prop::collection::vec((17..61usize, any::<u8>()), 1..6),
        codec in 0..5u8,
    ) {
        let mut bytes = batch(3, 100, WallMs(7), Some(Producer { id: ProducerId(9), epoch: ProducerEpoch(1), base_sequence: Sequence(2) })).0.to_vec();
        bytes[22] = codec;
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        // Agreeing counts, so that large ones get past the first check.
        let count = i32::from_be_bytes([bytes[57], bytes[58], bytes[59], bytes[60]]);
        bytes[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let bytes = Bytes::from(bytes);
        if let Ok(header) = validate_batch(&bytes, &BatchLimits::default()) {
            let mut partition = Partition::default();
            let command = append(Offset(0), LeaderEpoch(1), WallMs(5), &[(bytes, header)]);
            let (applied, _) = drive(&mut partition, None, at(1, 1), &command);
            prop_assert_eq!(response(&applied), PartitionResponse::Appended { base_offset: Offset(0) });
            prop_assert!(Partition::decode(&partition.encode()).is_ok());
            partition.retained_bytes();
        }
    }
}
