//! Answers of brokers that lie: batches, views of the cluster, errors, what is said of topics and groups.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::sync::Semaphore;

use super::{
    admin::{ClusterDescription, ClusterHealth, GroupDescription, TopicDescription},
    batches::{Bad, Batches, CHUNK_BYTES_MAX, CHUNK_RECORDS_MAX, Stop, Taken, Wanted},
    commit::{RefusedOffset, partition_sets, partitions_of},
    error::{ClientError, ERROR_TRAILER, LeaderHint},
    metadata::{Metadata, is_cut_off},
    *,
};
use crate::{
    formats::fuzz::{bounded, fuzz, linear},
    proto::{fuzz::answers, v1},
    record::{BatchBuilder, Codec, Record, append_patched},
    types::{BrokerId, LeaderEpoch, Offset, PartitionId, WallMs},
};

/// What a few records of a chunk keep: their own bytes, some overhead, a vector that is being doubled.
const CHUNK_HOLDS_MAX: usize = 4 * CHUNK_BYTES_MAX + CHUNK_RECORDS_MAX * 512;

fn batch(base: i64, codec: Codec, values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        let headers = vec![("h".to_string(), None)];
        builder.push(&Record { value, headers, timestamp: WallMs(1), key: None }).expect("it is small");
    }
    let mut patched = BytesMut::new();
    append_patched(&mut patched, &builder.build().expect("it has records"), Offset(base), LeaderEpoch(7));
    patched.to_vec()
}

/// Reads all of an answer as a consumer does, and on behind what cannot be read.
fn read_all(bytes: &Bytes, position: Offset, end: Option<Offset>) -> usize {
    let turns = Arc::new(Semaphore::new(1));
    let mut batches = Batches::new(bytes.clone(), position);
    let mut wanted = Wanted { position, end };
    let (mut read, mut bad_before) = (0, None);
    loop {
        let mut taken = Taken::default();
        let from = wanted.position;
        let stop = bounded(bytes.len() + CHUNK_HOLDS_MAX, 8, || batches.take(&mut wanted, &mut taken));
        assert!(wanted.position >= from, "it goes back: {from} -> {}", wanted.position);
        assert!(taken.records.len() <= CHUNK_RECORDS_MAX);
        let offsets: Vec<Offset> = taken.records.iter().map(|record| record.offset).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "{offsets:?}");
        assert!(offsets.iter().all(|offset| *offset >= from && end.is_none_or(|end| *offset < end)), "{offsets:?}");
        read += offsets.len();
        match stop {
            Stop::Full => assert!(!offsets.is_empty()),
            Stop::Large => batches.give_turn(turns.clone().try_acquire_owned().expect("one batch at a time")),
            Stop::Done | Stop::Bad(Bad { next: None, .. }) => return read,
            Stop::Bad(Bad { next: Some(next), .. }) => {
                // Whoever is told where one can read on must come further by it.
                if next <= wanted.position || bad_before == Some(next) {
                    return read;
                }
                (wanted.position, bad_before) = (next, Some(next));
            }
        }
    }
}

#[test]
fn fuzz_batches_of_an_answer() {
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let each = codecs.into_iter().zip((0i64..).step_by(3));
    let whole: Vec<u8> = each.flat_map(|(codec, base)| batch(base, codec, &["a", "bb", &"c".repeat(300)])).collect();
    assert_eq!(read_all(&whole.clone().into(), Offset(4), None), 11);
    let last = batch(i64::MAX - 1, Codec::None, &["a", "b"]);
    let beyond = batch(i64::MAX, Codec::Zstd, &["a", "b"]);
    fuzz!([whole, last, beyond, batch(-2, Codec::None, &["a", "b", "c"])], |bytes| {
        let sealed = reseal(bytes);
        for bytes in [bytes.to_vec().into(), sealed] {
            for (position, end) in [(0, None), (4, Some(9)), (i64::MAX - 1, None), (-5, Some(i64::MAX))] {
                read_all(&bytes, Offset(position), end.map(Offset));
            }
        }
    });
    let small = batch(0, Codec::None, &["a"]);
    let many = |bytes: usize| {
        let mut all = small.repeat(bytes / small.len());
        let bases = all.chunks_mut(small.len()).zip(0i64..);
        bases.for_each(|(batch, base)| batch[..8].copy_from_slice(&base.to_be_bytes()));
        all
    };
    linear(many, |bytes| assert!(read_all(&bytes, Offset(0), None) > 100));
}

/// Every batch that can be found has a checksum that is right.
fn reseal(bytes: &[u8]) -> Bytes {
    let mut sealed = bytes.to_vec();
    let found: Vec<_> = crate::record::walk(bytes).map_while(Result::ok).map(|(_, range)| range).collect();
    for range in found {
        let crc = crc32c::crc32c(&bytes[range.start + 21..range.end]);
        sealed[range.start + 17..range.start + 21].copy_from_slice(&crc.to_be_bytes());
    }
    sealed.into()
}

fn seeds(of: &str) -> Vec<Vec<u8>> {
    answers().into_iter().filter(|(name, _)| *name == of).map(|(_, bytes)| bytes).collect()
}

#[test]
fn fuzz_views_of_the_cluster() {
    let view = v1::GetMetadataResponse::decode(&*seeds("GetMetadataResponse")[0]).expect("a sample");
    let mut known = Metadata::default();
    known.update(view);
    fuzz!(seeds("GetMetadataResponse"), |bytes| {
        let Ok(answer) = v1::GetMetadataResponse::decode(bytes) else { return };
        let _ = is_cut_off(&answer);
        let names: Vec<String> = answer.topics.iter().map(|topic| topic.name.clone()).collect();
        let claims: usize = answer.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut metadata = known.clone();
        let before = metadata.leader("t", PartitionId(0)).map(|leader| leader.epoch);
        let id = metadata.topic_id("t").to_string();
        bounded(bytes.len(), 512, || metadata.update(answer.clone()));
        // Of the same topic, no older leader comes back. (An answer that names it twice may replace it between.)
        let times = names.iter().filter(|name| *name == "t").count();
        if metadata.topic_id("t") == id && times < 2 {
            assert!(metadata.leader("t", PartitionId(0)).map(|leader| leader.epoch) >= before);
        }
        for name in names {
            let leaders = metadata.topic(&name).map_or(0, <[_]>::len);
            assert!(leaders <= claims + 1, "{leaders} leaders of {claims} that were named");
            let hint = LeaderHint { broker: BrokerId(9), address: "h:9".into(), epoch: LeaderEpoch(i32::MAX) };
            metadata.learn_leader(&name, PartitionId(i32::MAX), &hint);
            metadata.learn_leader(&name, PartitionId(-1), &hint);
            let _ = (metadata.batch_bytes_max(&name), metadata.retention_ms(&name));
        }
        metadata.addresses();
        let described = ClusterDescription::of(answer);
        let moves = preferred_moves(&described);
        assert!(moves.iter().all(|one| Some(one.to) != one.from));
    });
}

#[test]
fn fuzz_errors_of_brokers() {
    let error = seeds("Error");
    fuzz!(error.clone(), |bytes| {
        // As a trailer of a call, and as what a stream says.
        let mut status = tonic::Status::unavailable("x");
        status.metadata_mut().insert_bin(ERROR_TRAILER, tonic::metadata::MetadataValue::from_bytes(bytes));
        let said = ClientError::from_status(&status, "h:1");
        let of_broker = v1::Error::decode(bytes);
        assert_eq!(said.code().is_some(), of_broker.is_ok(), "what cannot be read is the transport's word");
        let _ = (said.effect(), said.is_retriable(), said.is_not_found(), said.to_string());
        if of_broker.is_err() {
            assert_eq!(said.effect(), Effect::Unknown, "nobody said that nothing happened");
        }
    });
}

#[test]
fn fuzz_what_is_said_of_topics_and_groups() {
    let names = ["CreateTopicResponse", "HealthResponse", "DescribeGroupResponse", "CommitOffsetsResponse"];
    let seeds = names.iter().zip(0u8..).map(|(name, number)| [&[number], &seeds(name)[0][..]].concat());
    fuzz!(seeds, |bytes| {
        let Some((number, bytes)) = bytes.split_first() else { return };
        match number % 4 {
            0 => drop(v1::DescribeTopicResponse::decode(bytes).map(|answer| TopicDescription::of(answer.topic))),
            1 => drop(v1::HealthResponse::decode(bytes).map(ClusterHealth::of)),
            2 => {
                let Ok(answer) = v1::DescribeGroupResponse::decode(bytes) else { return };
                for member in &answer.members {
                    let partitions = partitions_of(member.assigned.clone());
                    assert!(partitions.iter().all(|at| at.partition >= PartitionId(0)));
                    assert_eq!(partitions_of(partition_sets(partitions.iter())), partitions);
                }
                let has_summary = answer.summary.is_some();
                assert_eq!(GroupDescription::of(answer).is_ok(), has_summary);
            }
            _ => {
                let Ok(answer) = v1::CommitOffsetsResponse::decode(bytes) else { return };
                for refused in answer.refused.into_iter().map(RefusedOffset::of) {
                    let _ = (refused.error.to_string(), refused.error.is_retriable());
                }
            }
        }
    });
}
