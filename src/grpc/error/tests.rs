//! The table, spelled out: changing a row changes what clients see.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::types::{
    BrokerId, GroupName, LeaderEpoch, MemberId, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicPartition,
    WallMs,
};

fn hint() -> Option<LeaderNow> {
    Some(LeaderNow { broker: BrokerId(2), epoch: LeaderEpoch(7) })
}

fn wire(error: impl Into<CallFailure>) -> v1::Error {
    error.into().wire(|broker| format!("host{broker}:7070"))
}

fn topic() -> String {
    "orders".into()
}

const P: PartitionId = PartitionId(3);
const WAITED: Duration = Duration::from_millis(1_000);

/// Every variant with its code. A variant missing here is caught by the compiler in the table above,
/// a code that nothing maps to by `every_code_is_reachable`.
#[expect(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(v1::Error, ErrorCode, Code)> {
    let mut rows = Vec::new();
    let mut row = |error: CallFailure, code, status| rows.push((wire(error), code, status));
    use ErrorCode as C;
    use ProduceError as P_;
    row(P_::UnknownTopic { topic: topic() }.into(), C::UnknownTopic, Code::NotFound);
    row(P_::UnknownPartition { topic: topic(), partition: P }.into(), C::UnknownPartition, Code::NotFound);
    let not_leader = P_::NotLeader { topic: topic(), partition: P, leader: hint() };
    row(not_leader.into(), C::NotLeader, Code::FailedPrecondition);
    let no_quorum = P_::NotEnoughReplicas { topic: topic(), partition: P, waited: WAITED };
    row(no_quorum.into(), C::NotEnoughReplicas, Code::Unavailable);
    let unknown = P_::OutcomeUnknown { topic: topic(), partition: P, waited: WAITED };
    row(unknown.into(), C::OutcomeUnknown, Code::DeadlineExceeded);
    row(P_::InvalidBatch(BatchError::Short { got: 1 }).into(), C::CorruptBatch, Code::InvalidArgument);
    row(P_::InvalidBatch(BatchError::Magic { magic: 1 }).into(), C::InvalidRequest, Code::InvalidArgument);
    let large = P_::BatchTooLarge { topic: topic(), bytes: 9, bytes_max: 8 };
    row(large.into(), C::BatchTooLarge, Code::InvalidArgument);
    let timestamp = P_::InvalidTimestamp { timestamp: WallMs(9), ahead_max: WAITED };
    row(timestamp.into(), C::InvalidTimestamp, Code::InvalidArgument);
    let timestamp = P_::TimestampTooOld { timestamp: WallMs(9), behind_max: WAITED };
    row(timestamp.into(), C::InvalidTimestamp, Code::InvalidArgument);
    let sequence = P_::OutOfOrderSequence { producer: ProducerId(1), expected: Sequence(2), got: Sequence(3) };
    row(sequence.into(), C::OutOfOrderSequence, Code::FailedPrecondition);
    let fenced = P_::FencedProducer { producer: ProducerId(1), epoch: ProducerEpoch(2), current: ProducerEpoch(3) };
    row(fenced.into(), C::FencedProducer, Code::FailedPrecondition);
    row(P_::UnknownProducer { producer: ProducerId(1) }.into(), C::UnknownProducer, Code::FailedPrecondition);
    let wrong = P_::WrongOffset { expected: Offset(5), actual: Offset(6) };
    row(wrong.into(), C::WrongOffset, Code::Aborted);
    row(P_::Unavailable { reason: "x".into() }.into(), C::Unavailable, Code::Unavailable);
    row(
        P_::DiskFull { broker: BrokerId(3), free_bytes: 1, reserve_bytes: 2 }.into(),
        C::DiskFull,
        Code::ResourceExhausted,
    );

    use FetchError as F;
    row(F::UnknownTopic { topic: topic() }.into(), C::UnknownTopic, Code::NotFound);
    row(F::UnknownPartition { topic: topic(), partition: P }.into(), C::UnknownPartition, Code::NotFound);
    let not_leader = F::NotLeader { topic: topic(), partition: P, leader: None };
    row(not_leader.into(), C::NotLeader, Code::FailedPrecondition);
    row(out_of_range().into(), C::OffsetOutOfRange, Code::OutOfRange);
    row(F::InvalidRequest { detail: "x".into() }.into(), C::InvalidRequest, Code::InvalidArgument);
    row(F::Unavailable { reason: "x".into() }.into(), C::Unavailable, Code::Unavailable);

    use AdminError as A;
    row(A::InvalidRequest { detail: "x".into() }.into(), C::InvalidRequest, Code::InvalidArgument);
    row(A::UnknownTopic { topic: topic() }.into(), C::UnknownTopic, Code::NotFound);
    row(A::UnknownPartition { topic: topic(), partition: P }.into(), C::UnknownPartition, Code::NotFound);
    row(A::TopicExists { topic: topic() }.into(), C::TopicExists, Code::AlreadyExists);
    row(A::Refused(invalid_config()).into(), C::InvalidConfig, Code::InvalidArgument);
    row(A::Refused(Refusal::TooManyTopics { have: 1 }).into(), C::InvalidRequest, Code::InvalidArgument);
    row(A::Refused(Refusal::NotFounded).into(), C::Unavailable, Code::Unavailable);
    let doubtful = A::RefusedAfterUnknown { what: "x".into(), refusal: Refusal::TopicExists { name: topic() } };
    row(doubtful.into(), C::OutcomeUnknown, Code::DeadlineExceeded);
    let full = A::DiskFull { broker: BrokerId(3), free_bytes: 1, reserve_bytes: 2 };
    row(full.into(), C::Unavailable, Code::Unavailable);
    row(A::TransferRefused(TransferError::NoCandidate).into(), C::Unavailable, Code::Unavailable);
    let no_voter = A::TransferRefused(TransferError::NoSuchVoter(BrokerId(3)));
    row(no_voter.into(), C::InvalidRequest, Code::InvalidArgument);
    let trim = A::OffsetOutOfRange {
        topic: topic(),
        partition: P,
        offset: Offset(9),
        log_start: Offset(1),
        high_watermark: Offset(4),
    };
    row(trim.into(), C::OffsetOutOfRange, Code::OutOfRange);
    let not_leader = A::NotLeader { topic: topic(), partition: P, leader: None };
    row(not_leader.into(), C::NotLeader, Code::FailedPrecondition);
    let none = A::NoMetadataLeader { waited_ms: 1, effect: Effect::None };
    row(none.into(), C::NoMetadataLeader, Code::Unavailable);
    let unknown = A::NoMetadataLeader { waited_ms: 1, effect: Effect::Unknown };
    row(unknown.into(), C::NoMetadataLeader, Code::Unknown);
    row(A::NotEnoughReplicas.into(), C::NotEnoughReplicas, Code::Unavailable);
    let unknown = A::OutcomeUnknown { what: "x".into(), waited_ms: 1 };
    row(unknown.into(), C::OutcomeUnknown, Code::DeadlineExceeded);
    row(A::Unavailable { reason: "x".into() }.into(), C::Unavailable, Code::Unavailable);
    row(A::TransferFailed { reason: "x".into() }.into(), C::Unavailable, Code::Unavailable);
    row(A::Internal { detail: "x".into() }.into(), C::Internal, Code::Internal);

    group_rows(&mut row);

    use RequestError as R;
    row(R::invalid("x").into(), C::InvalidRequest, Code::InvalidArgument);
    row(R::Unreadable { detail: "x".into() }.into(), C::InvalidRequest, Code::InvalidArgument);
    row(R::TooLarge { detail: "x".into() }.into(), C::BatchTooLarge, Code::InvalidArgument);
    row(R::Records(EncodeError::TooLarge { got: 2, max: 1 }).into(), C::BatchTooLarge, Code::InvalidArgument);
    row(R::Records(EncodeError::Empty).into(), C::InvalidRequest, Code::InvalidArgument);
    let compress = EncodeError::Compress { codec: crate::record::Codec::Zstd, reason: "x".into() };
    row(R::Records(compress).into(), C::Internal, Code::Internal);
    let malformed = DecodeError::Record { record: 1, reason: "x" };
    let bomb = R::Decompression { offset: Offset(1), next: Offset(2), error: malformed };
    row(bomb.into(), C::DecompressionFailed, Code::FailedPrecondition);
    let stored = R::StoredBatch { offset: Offset(1), error: BatchError::Short { got: 1 } };
    row(stored.into(), C::Internal, Code::Internal);
    row(R::TooManyStreams { what: "produce", streams_max: 1 }.into(), C::Unavailable, Code::Unavailable);
    row(R::Stopping.into(), C::Unavailable, Code::Unavailable);
    rows
}

fn group_rows(row: &mut impl FnMut(CallFailure, ErrorCode, Code)) {
    use ErrorCode as C;
    use GroupError as G;
    let (group, member) = (|| GroupName::from("g"), || MemberId::from("m-1"));
    row(G::InvalidRequest { detail: "x".into() }.into(), C::InvalidRequest, Code::InvalidArgument);
    row(G::UnknownGroup { group: group() }.into(), C::UnknownGroup, Code::NotFound);
    let unknown = G::UnknownMember { group: group(), member: member() };
    row(unknown.into(), C::UnknownMember, Code::FailedPrecondition);
    let again = G::MemberIdRequired { group: group(), member: member() };
    row(again.into(), C::UnknownMember, Code::FailedPrecondition);
    let wrong = GroupRefusal::WrongEpoch { found: 1, current: 2 };
    let fenced = G::Refused { group: group(), member: member(), refusal: wrong };
    row(fenced.into(), C::FencedMember, Code::FailedPrecondition);
    let mut of_offset = |refusal, code, status| {
        let at = TopicPartition { topic: topic(), partition: P };
        row(G::OffsetRefused { group: group(), member: member(), at, refusal }.into(), code, status);
    };
    of_offset(OffsetRefusal::InUse, C::FencedMember, Code::FailedPrecondition);
    of_offset(OffsetRefusal::NegativeOffset, C::InvalidRequest, Code::InvalidArgument);
    of_offset(OffsetRefusal::LimitReached { detail: "x".into() }, C::LimitReached, Code::ResourceExhausted);
    let fenced = G::FencedInstance { group: group(), instance: "i".into() };
    row(fenced.into(), C::FencedInstance, Code::FailedPrecondition);
    row(G::Rebalancing { group: group() }.into(), C::Unavailable, Code::Unavailable);
    row(G::NotEmpty { group: group(), members: 2 }.into(), C::GroupNotEmpty, Code::FailedPrecondition);
    let other = G::ProtocolMismatch { group: group(), detail: "x".into() };
    row(other.into(), C::GroupProtocolMismatch, Code::FailedPrecondition);
    let session = G::InvalidSessionTimeout { asked_ms: 1, min_ms: 2, max_ms: 3 };
    row(session.into(), C::InvalidRequest, Code::InvalidArgument);
    row(G::UnknownTopic { topic: topic() }.into(), C::UnknownTopic, Code::NotFound);
    row(G::UnknownPartition { topic: topic(), partition: P }.into(), C::UnknownPartition, Code::NotFound);
    row(G::LimitReached { detail: "x".into() }.into(), C::LimitReached, Code::ResourceExhausted);
    row(G::GroupFull { group: group(), max: 1 }.into(), C::LimitReached, Code::ResourceExhausted);
    let crowded = G::Crowded { what: "x".into(), max: 1 };
    row(crowded.into(), C::Unavailable, Code::Unavailable);
    let refusal = GroupRefusal::InvalidRequest { detail: "x".into() };
    let name = G::InvalidGroupName { group: group(), refusal };
    row(name.into(), C::InvalidRequest, Code::InvalidArgument);
    row(G::TopicReplaced { topic: topic() }.into(), C::TopicReplaced, Code::FailedPrecondition);
    row(G::NoCoordinator { waited_ms: 1 }.into(), C::NoMetadataLeader, Code::Unavailable);
    let unknown = G::OutcomeUnknown { what: "x".into(), waited_ms: 1 };
    row(unknown.into(), C::OutcomeUnknown, Code::DeadlineExceeded);
}

fn invalid_config() -> Refusal {
    Refusal::InvalidConfig { key: "k".into(), value: "v".into(), rule: "r".into() }
}

/// The sentences that clients see, each made here of what a layer below refused.
#[test]
fn a_cause_of_a_lower_layer_is_told_in_the_words_that_clients_know() {
    let text = |error: CallFailure| wire(error).message;
    let batch = |error| text(ProduceError::InvalidBatch(error).into());
    let crc = BatchError::Crc { stored: 1, computed: 2 };
    let corrupt = "corrupt batch: record batch is corrupt: CRC-32C is 0x00000002, its header says 0x00000001";
    assert_eq!(batch(crc), corrupt);
    let magic = "invalid request: record batch has format version (magic) 1, only 2 is supported";
    assert_eq!(batch(BatchError::Magic { magic: 1 }), magic);

    let refused = |refusal| text(AdminError::Refused(refusal).into());
    assert_eq!(refused(invalid_config()), "invalid config: topic config k=\"v\": r");
    let founded = "temporarily unavailable: the cluster is not founded yet; nothing was changed";
    assert_eq!(refused(Refusal::NotFounded), founded);
    let many = "invalid request: the cluster has 1 topics, no more are allowed";
    assert_eq!(refused(Refusal::TooManyTopics { have: 1 }), many);
    let doubtful = AdminError::RefusedAfterUnknown { what: "it".into(), refusal: Refusal::NotFounded };
    let said = "outcome unknown after 0 ms: it (refused in the end: the cluster is not founded yet; but an earlier try of \
                it had no answer) may yet happen; look before you repeat it";
    assert_eq!(text(doubtful.into()), said);
    let full = AdminError::DiskFull { broker: BrokerId(3), free_bytes: 1, reserve_bytes: 2 };
    let said = "temporarily unavailable: disk of broker 3 nearly full: 1 bytes free, disk_reserve_bytes keeps 2 back; free \
                space or trim topics; nothing was changed";
    assert_eq!(text(full.into()), said);
    let transfer = |error| text(AdminError::TransferRefused(error).into());
    let said = "leadership was not transferred: no other voter is alive and caught up";
    assert_eq!(transfer(TransferError::NoCandidate), said);
    let said = "invalid request: broker 3 holds no voter of this group";
    assert_eq!(transfer(TransferError::NoSuchVoter(BrokerId(3))), said);

    let of = |refusal| text(GroupError::Refused { group: "g".into(), member: "m".into(), refusal }.into());
    let said = "member \"m\" of group \"g\" is fenced: commit 1 comes after commit 2";
    assert_eq!(of(GroupRefusal::OldCommit { sequence: 1, last: 2 }), said);
    let offset = |refusal| {
        let at = TopicPartition { topic: topic(), partition: P };
        text(GroupError::OffsetRefused { group: "g".into(), member: "m".into(), at, refusal }.into())
    };
    let said = "member \"m\" of group \"g\" is fenced: orders-3: the member does not hold the partition";
    assert_eq!(offset(OffsetRefusal::NotHeld), said);
    let said = "invalid request: orders-3: its metadata has 9 bytes, 8 are allowed";
    assert_eq!(offset(OffsetRefusal::MetadataTooLarge { bytes: 9, max: 8 }), said);
    let said = "limit reached: orders-3: limit reached: x";
    assert_eq!(offset(OffsetRefusal::LimitReached { detail: "x".into() }), said);

    let empty = "invalid request: a record batch holds at least one record";
    assert_eq!(text(RequestError::Records(EncodeError::Empty).into()), empty);
    let error = DecodeError::Record { record: 1, reason: "x" };
    let said =
        "the batch at offset 1 cannot be decoded: record 1 of the batch is malformed: x; read it raw, or from 2 on";
    assert_eq!(text(RequestError::Decompression { offset: Offset(1), next: Offset(2), error }.into()), said);
}

fn out_of_range() -> FetchError {
    FetchError::OffsetOutOfRange {
        topic: topic(),
        partition: P,
        offset: Offset(9),
        log_start: Offset(1),
        high_watermark: Offset(4),
    }
}

#[test]
fn every_error_maps_to_its_code_and_status() {
    for (error, code, status_code) in table() {
        assert_eq!(error.code(), code, "{error:?}");
        assert!(!error.message.is_empty());
        let status = status(error.clone());
        assert_eq!(status.code(), status_code, "{error:?}");
        assert_eq!(status.message(), error.message);
        let trailer = status.metadata().get_bin(ERROR_TRAILER).expect("trailer").to_bytes().expect("base64");
        assert_eq!(v1::Error::decode(trailer).expect("an Error"), error);
    }
}

#[test]
fn every_code_is_reachable() {
    let reached: BTreeSet<i32> = table().iter().map(|(error, _, _)| error.code).collect();
    // The range ends where the enum does: a new code must be produced by something.
    let all: BTreeSet<i32> = (1..).take_while(|code| ErrorCode::try_from(*code).is_ok()).collect();
    assert_eq!(reached, all);
    assert_eq!(all.len(), 29);
}

#[test]
fn a_generic_client_never_retries_what_may_have_happened() {
    for (error, _, status) in table() {
        if error.effect() == v1::Effect::Unknown {
            assert_ne!(status, Code::Unavailable, "{error:?}");
        }
    }
}

#[test]
fn details_travel() {
    let error = wire(ProduceError::NotLeader { topic: topic(), partition: P, leader: hint() });
    assert_eq!(error.message, "this broker does not lead orders-3; broker 2 does (host2:7070, epoch 7)");
    let leader = error.leader.expect("hint");
    assert_eq!((leader.broker, leader.address.as_str(), leader.epoch), (2, "host2:7070", 7));
    assert!(error.retriable);
    let error = wire(ProduceError::WrongOffset { expected: Offset(5), actual: Offset(6) });
    assert_eq!(error.actual_offset, Some(6));
    assert!(!error.retriable);
    let error = wire(out_of_range());
    assert_eq!((error.log_start, error.high_watermark), (Some(1), Some(4)));
    let error = wire(ProduceError::OutcomeUnknown { topic: topic(), partition: P, waited: WAITED });
    assert_eq!(error.effect(), v1::Effect::Unknown);
}

#[test]
fn messages_are_clipped_at_a_character() {
    let error: v1::Error = RequestError::invalid("ä".repeat(5_000)).into();
    assert!(error.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8(), "{}", error.message.len());
    assert!(error.message.ends_with('…'));
}

/// Seen once: nobody could know from the proto which status a code becomes, nor how large a message may be.
#[test]
fn the_proto_tells_the_status_of_each_code_and_the_limit_of_messages() {
    let proto = include_str!("../../../proto/flotilla/v1/flotilla.proto");
    for (_, code, status) in table() {
        let name = code.as_str_name();
        let comment = proto.split(&format!("\n  {name} = ")).next().expect("the text before it");
        let said = comment.rsplit("// Status ").next().expect("the text after it");
        let status = format!("{status:?}").chars().fold(String::new(), |mut text, letter| {
            if letter.is_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(letter.to_ascii_uppercase());
            text
        });
        assert!(said.contains(&status), "{name} is told as {said:?}, and is {status}");
        assert!(!said.contains('\n'), "{name} has a status of its own: {said:?}");
    }
    let limit = format!("Produce may be of {} MiB", crate::grpc::limits::PRODUCE_MESSAGE_BYTES_MAX >> 20);
    assert!(proto.contains(&limit), "{limit:?} is not said");
}
