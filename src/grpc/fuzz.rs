//! Requests of clients as every service takes them, and stored batches on their way to a reader.

use std::{panic::AssertUnwindSafe, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::Request;

use super::{
    answer::{self, Answer, Cursor},
    decode::{self, Payload},
    tests::{batch, error_of, fake::Fake},
    *,
};
use crate::{
    broker::{Acks, Fetched},
    formats::fuzz::{bounded, fuzz},
    proto::{
        fuzz::requests,
        v1::{
            cluster_server::Cluster, consume_response::Data, consume_server::Consume, groups_server::Groups,
            topics_server::Topics,
        },
    },
    record::{Codec, decode_records},
    types::{LeaderEpoch, Offset, WallMs},
};

/// A runtime whose clock goes by itself when everybody waits, and the services on it.
fn services() -> AssertUnwindSafe<(Runtime, Services<Fake>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let options = GrpcOptions { connections_max: 1, descriptors_max: 1, metrics: Metrics::new() };
    let services = runtime.block_on(async { Services::new(Fake::new(), options, CancellationToken::new()) });
    AssertUnwindSafe((runtime, services))
}

/// A refusal says in our words what was wrong, and is no fault of the broker's.
fn check<T>(name: &str, answered: Result<Response<T>, Status>) {
    let Err(status) = answered else { return };
    let error = error_of(&status);
    assert!(!error.message.is_empty() && error.message.len() <= limits::MESSAGE_BYTES_MAX, "{name}: {error:?}");
    assert!(![v1::ErrorCode::Unspecified, v1::ErrorCode::Internal].contains(&error.code()), "{name}: {error:?}");
}

/// Calls the service that a request is for.
async fn call(services: &Services<Fake>, name: &str, bytes: &[u8]) {
    macro_rules! answered {
        ($($message:ident: $service:ident::$method:ident,)+) => {
            match name {
                $(stringify!($message) => {
                    let Ok(request) = v1::$message::decode(bytes) else { return };
                    check(name, $service::$method(services, Request::new(request)).await.map(|answer| answer.map(drop)))
                })+
                "ConsumeRequest" => consume(services, bytes).await,
                "ProduceRequest" => produce(bytes),
                other => panic!("nobody serves {other}"),
            }
        };
    }
    answered! {
        CreateTopicRequest: Topics::create_topic,
        ListTopicsRequest: Topics::list_topics,
        DescribeTopicRequest: Topics::describe_topic,
        AlterTopicRequest: Topics::alter_topic,
        AddPartitionsRequest: Topics::add_partitions,
        TrimPartitionRequest: Topics::trim_partition,
        DeleteTopicRequest: Topics::delete_topic,
        ListOffsetRequest: Topics::list_offset,
        GroupHeartbeatRequest: Groups::heartbeat,
        GroupLeaveRequest: Groups::leave,
        CommitOffsetsRequest: Groups::commit_offsets,
        FetchOffsetsRequest: Groups::fetch_offsets,
        ListGroupsRequest: Groups::list_groups,
        DescribeGroupRequest: Groups::describe_group,
        DeleteGroupRequest: Groups::delete_group,
        DeleteOffsetsRequest: Groups::delete_offsets,
        GetMetadataRequest: Cluster::get_metadata,
        HealthRequest: Cluster::health,
        TransferLeaderRequest: Cluster::transfer_leader,
        RaiseFeatureLevelRequest: Cluster::raise_feature_level,
        HashReplicaRequest: Cluster::hash_replica,
        InitProducerIdRequest: Cluster::init_producer_id,
    }
}

async fn consume(services: &Services<Fake>, bytes: &[u8]) {
    let Ok(request) = v1::ConsumeRequest::decode(bytes) else { return };
    let mut stream = match Consume::consume(services, Request::new(request)).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return check::<()>("ConsumeRequest", Err(status)),
    };
    for _ in 0..3 {
        match tokio::time::timeout(Duration::from_secs(1), stream.next()).await {
            Ok(Some(Err(status))) => check::<()>("ConsumeRequest", Err(status)),
            Ok(Some(Ok(_))) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// The batch that is made of plain records holds just these.
fn produce(bytes: &[u8]) {
    let Ok(request) = v1::ProduceRequest::decode(bytes) else { return };
    let _ = decode::acks(request.acks);
    let now = WallMs(77);
    let sent = match &request.payload {
        Some(v1::produce_request::Payload::Records(records)) => records.records.clone(),
        Some(v1::produce_request::Payload::Batch(_)) | None => Vec::new(),
    };
    let Ok(produce) = decode::produce(request, Acks::All, now) else { return };
    assert!(produce.request.timeout <= Duration::from_millis(limits::TIMEOUT_MS_MAX.into()));
    let is_plain = matches!(produce.payload, Payload::Records(..));
    let _ = produce.payload.is_long_work();
    let Ok(batch) = produce.payload.into_batch() else { return };
    if !is_plain {
        return;
    }
    let stored = decode_records(&batch, limits::DECODED_BYTES_MAX).expect("a batch of ours");
    assert_eq!(stored.len(), sent.len());
    for ((_, stored), sent) in stored.into_iter().zip(sent) {
        assert_eq!((stored.key, stored.value), (sent.key, sent.value));
        assert_eq!(stored.timestamp, sent.timestamp_ms.map_or(now, WallMs));
        let headers = sent.headers.into_iter().map(|header| (header.key, header.value));
        assert_eq!(stored.headers, headers.collect::<Vec<_>>());
    }
}

#[test]
fn fuzz_requests_of_every_service() {
    let samples = requests();
    let seeds = samples.iter().zip(0u8..).map(|((_, bytes), number)| [&[number], &bytes[..]].concat());
    let services = services();
    fuzz!(seeds, |bytes| {
        let Some((number, bytes)) = bytes.split_first() else { return };
        let (name, _) = samples[usize::from(*number) % samples.len()];
        let (runtime, services) = &*services;
        runtime.block_on(call(services, name, bytes));
    });
}

/// What is stored, its checksums right or not, and a cursor of any place and measure.
#[test]
fn fuzz_stored_batches_on_their_way() {
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut stored = BytesMut::new();
    for (codec, base) in codecs.into_iter().zip((0..).step_by(3)) {
        let batch = batch(codec, &["a", "bb", &"c".repeat(500)]);
        crate::record::append_patched(&mut stored, &batch, Offset(base), LeaderEpoch(2));
    }
    let whole = stored.to_vec();
    let mut asking = vec![0, 0, 0, 0, 0, 0, 0, 4, 3, 1, 9];
    asking.extend_from_slice(&whole);
    fuzz!([asking, [&[0; 11], &whole[..]].concat()], |bytes| {
        let Some((asked, stored)) = bytes.split_first_chunk::<11>() else { return };
        let position = Offset(i64::from_be_bytes(*asked.first_chunk().expect("eight of eleven")).max(0));
        let cursor = || Cursor {
            position,
            stop_at: (asked[8] & 1 == 0).then_some(Offset(position.0.saturating_add(i64::from(asked[8])))),
            records_left: (asked[9] & 1 == 0).then_some(asked[9].into()),
            skip_before: (asked[10] & 1 == 0).then_some(WallMs(1_000 + i64::from(asked[10]) % 4)),
            bytes_max: 1 + 40 * usize::from(asked[10]),
        };
        let fetched = || Fetched {
            batches: vec![Bytes::copy_from_slice(stored)],
            high_watermark: Offset(15),
            log_start: Offset(0),
            next_offset: Offset(15),
        };
        let mut raw = cursor();
        if let Ok(Answer { response, .. }) = answer::raw(&fetched(), &mut raw) {
            assert!(raw.position >= position && response.next_offset == raw.position.0);
        }
        let mut decoding = cursor();
        let decoded_max = answer::decoded_bytes_max(&fetched());
        let mut last = None;
        let mut next =
            Some(bounded(stored.len() + decoded_max.min(1 << 20), 64, || answer::decoded(fetched(), &mut decoding)));
        while let Some(Answer { response, rest, failed, .. }) = next.take() {
            let Some(Data::Records(records)) = response.data else { panic!("records were asked for") };
            for record in &records.records {
                assert!(record.offset >= position.0 && last < Some(record.offset), "{last:?}, {record:?}");
                last = Some(record.offset);
            }
            assert!(decoding.position >= position && response.next_offset == decoding.position.0);
            if failed.is_none() {
                next = rest.map(|rest| rest.answer(&mut decoding));
            }
        }
    });
}
