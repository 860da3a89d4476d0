//! A plain reader against fake brokers: what it does when not all it asked for can be had.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Chunk, ClientError, Cluster, ConsumeOptions, Consumer, ErrorCode, Gaps, Notice, Start, fake::Fake};
use crate::{
    record::{BatchBuilder, Codec, Record, append_patched},
    types::{LeaderEpoch, Offset, PartitionId, TopicPartition},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn cluster(fake: &Fake) -> Cluster {
    Cluster::new(fake.lock().addresses.clone()).expect("addresses are good")
}

fn batch(base: i64, codec: Codec, values: &[Bytes]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        builder.push(&Record { value: Some(value.clone()), ..Record::default() }).expect("it fits");
    }
    let mut patched = BytesMut::new();
    append_patched(&mut patched, &builder.build().expect("it fits"), Offset(base), LeaderEpoch(1));
    patched.freeze()
}

/// Stores a batch of so many records, which cannot be read if `is_bad`.
fn store(fake: &Fake, records: usize, is_bad: bool) {
    let mut s = fake.lock();
    let p = &mut s.partitions[0];
    let mut bytes = batch(p.next_offset, Codec::None, &vec![Bytes::from_static(b"v"); records]).to_vec();
    if is_bad {
        *bytes.last_mut().expect("not empty") ^= 1;
    }
    p.batches.push((p.next_offset, bytes.into()));
    p.next_offset += records as i64;
}

async fn open(fake: &Fake, options: ConsumeOptions) -> Consumer {
    let options = ConsumeOptions { patience: PATIENCE, ..options };
    Consumer::open(&cluster(fake), at(), options).await.expect("opens")
}

/// The next chunk that says something.
async fn next(consumer: &mut Consumer) -> Result<Option<Chunk>, ClientError> {
    let next = async {
        loop {
            match consumer.next().await {
                Ok(Some(chunk)) if chunk.records.is_empty() && chunk.notice.is_none() => {}
                other => return other,
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, next).await.expect("in time")
}

/// What is read.
fn at() -> TopicPartition {
    TopicPartition::new("t", PartitionId(0))
}

/// Reads on, and returns the offsets until the end or an error.
async fn offsets(consumer: &mut Consumer) -> (Vec<i64>, Option<ClientError>) {
    let mut offsets = vec![];
    loop {
        match next(consumer).await {
            Ok(Some(chunk)) => offsets.extend(chunk.records.iter().map(|record| record.offset.0)),
            Ok(None) => return (offsets, None),
            Err(error) => return (offsets, Some(error)),
        }
    }
}

#[tokio::test]
async fn an_unreadable_batch_costs_only_itself() {
    let fake = Fake::start(1, 1, 1).await;
    for (records, is_bad) in [(3, false), (4, true), (2, false)] {
        store(&fake, records, is_bad);
    }
    // All in one answer, as a broker sends it.
    {
        let mut s = fake.lock();
        let whole: Bytes = s.partitions[0].batches.iter().map(|b| b.1.clone()).collect::<Vec<_>>().concat().into();
        s.partitions[0].batches = vec![(0, whole.clone())];
        s.partitions[0].whole = true;
    }
    let mut consumer = open(&fake, ConsumeOptions { stop_at_end: true, ..Default::default() }).await;
    let (good, error) = offsets(&mut consumer).await;
    assert_eq!(good, [0, 1, 2]);
    let Some(ClientError::BadBatch { offset: Offset(3), next: Some(Offset(7)), .. }) = error else {
        panic!("{error:?}")
    };
    let text = error.expect("just seen").to_string();
    assert!(text.contains("at offset 3") && text.contains("from offset 7"), "{text}");
    // Asked again it says so again, and skips nothing.
    let (more, again) = offsets(&mut consumer).await;
    assert!(
        more.is_empty() && matches!(again, Some(ClientError::BadBatch { offset: Offset(3), .. })),
        "{more:?} {again:?}"
    );
    consumer.set_position(Offset(7));
    assert_eq!(offsets(&mut consumer).await, (vec![7, 8], None));
}

#[tokio::test]
async fn a_reader_does_not_go_on_in_a_namesake() {
    let fake = Fake::start(2, 1, 1).await;
    store(&fake, 3, false);
    let mut consumer = open(&fake, ConsumeOptions::default()).await;
    assert_eq!(next(&mut consumer).await.expect("reads").expect("there are some").records.len(), 3);
    // The new one's epochs begin anew, below the old one's.
    fake.lock().partitions[0].epoch = 40;
    fake.add_topic("t", 1);
    let slot = fake.lock().slot("t", 0).expect("just made");
    let bytes = batch(0, Codec::None, &vec![Bytes::from_static(b"n"); 9]);
    {
        let mut s = fake.lock();
        s.partitions[slot].batches.push((0, bytes));
        (s.partitions[slot].next_offset, s.partitions[slot].leader) = (9, 2);
    }
    fake.move_leaders();
    let began = tokio::time::Instant::now();
    let error = next(&mut consumer).await.expect_err("its topic is gone");
    assert_eq!(error.code(), Some(ErrorCode::TopicReplaced), "{error}");
    assert!(error.is_not_found() && began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    // Whoever opens now reads the new one, also with what was known of the old one.
    let options = ConsumeOptions { stop_at_end: true, patience: PATIENCE, ..Default::default() };
    let mut anew = Consumer::open(&cluster(&fake), at(), options).await.expect("opens");
    assert_eq!(offsets(&mut anew).await, ((0..9).collect(), None));
}

#[tokio::test]
async fn a_deleted_topic_is_believed_to_be_gone_before_the_patience_ends() {
    let fake = Fake::start(1, 1, 1).await;
    store(&fake, 3, false);
    let mut consumer = open(&fake, ConsumeOptions::default()).await;
    assert_eq!(next(&mut consumer).await.expect("reads").expect("there are some").records.len(), 3);
    fake.lock().topics.clear();
    let began = tokio::time::Instant::now();
    let error = next(&mut consumer).await.expect_err("its topic is gone");
    assert!(error.is_not_found(), "{error}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_deleted_before_it_was_read_is_said_and_the_rest_read() {
    let fake = Fake::start(1, 1, 1).await;
    store(&fake, 3, false);
    store(&fake, 4, false);
    for (start, gaps) in
        [(Start::Earliest, Gaps::Tell), (Start::Offset(Offset(1)), Gaps::Tell), (Start::Offset(Offset(1)), Gaps::Fail)]
    {
        fake.lock().partitions[0].log_start = 0;
        let options = ConsumeOptions { start, gaps, stop_at_end: true, ..Default::default() };
        let mut consumer = open(&fake, options).await;
        let from = consumer.position();
        // Retention, between the look-up and the first read.
        fake.lock().partitions[0].log_start = 3;
        if gaps == Gaps::Fail {
            let error = next(&mut consumer).await.expect_err("it is to fail");
            assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange), "{error}");
            continue;
        }
        let chunk = next(&mut consumer).await.expect("goes on").expect("says so");
        assert_eq!(chunk.notice, Some(Notice::Skipped { from, to: Offset(3) }));
        assert_eq!(offsets(&mut consumer).await, (vec![3, 4, 5, 6], None));
    }
}

#[tokio::test]
async fn a_start_beyond_the_end_is_said_and_waited_for() {
    let fake = Fake::start(1, 1, 1).await;
    store(&fake, 3, false);
    let beyond = ConsumeOptions { start: Start::Offset(Offset(5)), gaps: Gaps::Tell, ..Default::default() };
    let mut finite = open(&fake, ConsumeOptions { stop_at_end: true, ..beyond }).await;
    let said = Some(Notice::BeyondEnd { start: Offset(5), end: Offset(3) });
    assert_eq!(next(&mut finite).await.expect("goes on").expect("says so").notice, said);
    assert_eq!(offsets(&mut finite).await, (vec![], None));

    let mut waiting = open(&fake, beyond).await;
    assert_eq!(next(&mut waiting).await.expect("goes on").expect("says so").notice, said);
    store(&fake, 1, false);
    store(&fake, 4, false);
    fake.move_leaders();
    let chunk = next(&mut waiting).await.expect("goes on").expect("there are some");
    let read: Vec<i64> = chunk.records.iter().map(|record| record.offset.0).collect();
    assert_eq!(read, [5, 6, 7], "none below what was asked for");
}

/// A few KB that decode to hundreds of MiB are handed out one by one.
#[tokio::test]
async fn bombs_are_decoded_one_at_a_time() {
    const BOMBS: usize = 12;
    let fake = Fake::start(1, 1, 1).await;
    let zeros = Bytes::from(vec![0; 40 << 20]);
    {
        let mut s = fake.lock();
        let p = &mut s.partitions[0];
        let whole: Vec<Bytes> =
            (0..BOMBS).map(|i| batch(i as i64, Codec::Zstd, std::slice::from_ref(&zeros))).collect();
        p.batches.push((0, whole.concat().into()));
        (p.next_offset, p.whole) = (BOMBS as i64, true);
    }
    let mut consumer = open(&fake, ConsumeOptions { stop_at_end: true, ..Default::default() }).await;
    for i in 0..BOMBS {
        let chunk = next(&mut consumer).await.expect("reads").expect("there are some");
        assert_eq!((chunk.records.len(), chunk.records[0].offset), (1, Offset(i as i64)));
    }
    assert!(next(&mut consumer).await.expect("reads").is_none());
}
