//! Events to bytes.

use super::{
    kind,
    varint::{put, put_signed},
};
use crate::event::{
    AdminCall, AdminResult, Body, Entry, Event, From, Outcome, Phase, Polled, Protocol, Rebalance, Run, Seek, Send,
    Sent, Which,
};

/// What an event's bytes depend on of those before it in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Previous {
    pub at: u64,
    pub op: u64,
}

/// Appends one frame. `scratch` is room that is used again.
pub fn put_frame(out: &mut Vec<u8>, scratch: &mut Vec<u8>, previous: &mut Previous, event: &Event) {
    scratch.clear();
    scratch.extend([kind_of(&event.body), phase_code(event.phase)]);
    put(scratch, event.at.saturating_sub(previous.at));
    put(scratch, u64::from(event.process));
    put_signed(scratch, event.op.wrapping_sub(previous.op) as i64);
    put_body(scratch, &event.body);
    put(out, scratch.len() as u64);
    out.extend_from_slice(scratch);
    out.extend_from_slice(&crc32c::crc32c(scratch).to_le_bytes());
    *previous = Previous { at: event.at.max(previous.at), op: event.op };
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Send(_) => kind::SEND,
        Body::Sent(_) => kind::SENT,
        Body::Poll(_) => kind::POLL,
        Body::Polled(_) => kind::POLLED,
        Body::Assign { .. } => kind::ASSIGN,
        Body::Subscribe { .. } => kind::SUBSCRIBE,
        Body::Rebalance(_) => kind::REBALANCE,
        Body::Leave { .. } => kind::LEAVE,
        Body::Crash => kind::CRASH,
        Body::Commit(_) => kind::COMMIT,
        Body::Committed { .. } => kind::COMMITTED,
        Body::FetchCommit { .. } => kind::FETCH_COMMIT,
        Body::FetchedCommit { .. } => kind::FETCHED_COMMIT,
        Body::Heartbeat { .. } => kind::HEARTBEAT,
        Body::Beaten { .. } => kind::BEATEN,
        Body::ListOffsets { .. } => kind::LIST_OFFSETS,
        Body::Listed { .. } => kind::LISTED,
        Body::EpochEnd { .. } => kind::EPOCH_END,
        Body::EpochEnded { .. } => kind::EPOCH_ENDED,
        Body::InitProducer => kind::INIT_PRODUCER,
        Body::InitedProducer { .. } => kind::INITED_PRODUCER,
        Body::Admin { .. } => kind::ADMIN,
        Body::Administered { .. } => kind::ADMINISTERED,
        Body::Entry(_) => kind::ENTRY,
        Body::Replica(_) => kind::REPLICA,
    }
}

fn phase_code(phase: Phase) -> u8 {
    match phase {
        Phase::Warm => 0,
        Phase::Main => 1,
        Phase::Final => 2,
    }
}

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ok => 0,
        Outcome::Info => 1,
        Outcome::Fail => 2,
    }
}

fn put_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Send(send) => put_send(out, send),
        Body::Sent(sent) => put_sent(out, sent),
        Body::Poll(poll) => put_poll(out, &poll.from, poll.node),
        Body::Polled(polled) => put_polled(out, polled),
        Body::Assign { keys, seek } => {
            out.push(seek_code(*seek));
            put_keys(out, keys);
        }
        Body::Subscribe { group, keys } => {
            put(out, u64::from(*group));
            put_keys(out, keys);
        }
        Body::Rebalance(rebalance) => put_rebalance(out, rebalance),
        Body::Leave { group, member } => put_all(out, [*group, *member]),
        Body::Crash | Body::InitProducer => {}
        Body::Commit(commit) => {
            put_all(out, [commit.group, commit.key, commit.member]);
            put_signed(out, commit.offset);
            put_signed(out, i64::from(commit.generation));
            put(out, commit.id);
        }
        Body::Committed { outcome, error } | Body::Beaten { outcome, error } => put_end(out, *outcome, *error),
        Body::FetchCommit { group, key } => put_all(out, [*group, *key]),
        Body::FetchedCommit { outcome, error, stored } => {
            put_end(out, *outcome, *error);
            out.push(u8::from(stored.is_some()));
            if let Some(stored) = stored {
                put_signed(out, stored.offset);
                put(out, stored.id);
            }
        }
        Body::Heartbeat { group, generation, member } => {
            put_all(out, [*group, *member]);
            put_signed(out, i64::from(*generation));
        }
        Body::ListOffsets { key, which } => {
            put(out, u64::from(*key));
            out.push(u8::from(*which == Which::Latest));
        }
        Body::Listed { outcome, error, offset: number } | Body::EpochEnded { outcome, error, end: number } => {
            put_end(out, *outcome, *error);
            put_signed(out, *number);
        }
        Body::EpochEnd { key, epoch } => {
            put(out, u64::from(*key));
            put_signed(out, i64::from(*epoch));
        }
        Body::InitedProducer { outcome, error, producer_id, producer_epoch } => {
            put_end(out, *outcome, *error);
            put_signed(out, *producer_id);
            put_signed(out, i64::from(*producer_epoch));
        }
        Body::Admin { topic, call } => put_admin(out, *topic, call),
        Body::Administered { result, error } => put_administered(out, result, *error),
        Body::Entry(entry) => put_entry(out, entry),
        Body::Replica(replica) => {
            out.push(replica.node);
            put(out, u64::from(replica.key));
            put(out, replica.committed_index);
            put_signed(out, replica.log_start);
            out.push(u8::from(replica.state_hash.is_some()));
            out.extend(replica.state_hash.iter().flat_map(|hash| hash.to_le_bytes()));
        }
    }
}

fn seek_code(seek: Seek) -> u8 {
    match seek {
        Seek::Keep => 0,
        Seek::Beginning => 1,
        Seek::Elsewhere => 2,
    }
}

fn put_all<const N: usize>(out: &mut Vec<u8>, numbers: [u32; N]) {
    numbers.iter().for_each(|number| put(out, u64::from(*number)));
}

fn put_keys(out: &mut Vec<u8>, keys: &[u32]) {
    put(out, keys.len() as u64);
    keys.iter().for_each(|key| put(out, u64::from(*key)));
}

fn put_end(out: &mut Vec<u8>, outcome: Outcome, error: i16) {
    out.push(outcome_code(outcome));
    put_signed(out, i64::from(error));
}

fn put_send(out: &mut Vec<u8>, send: &Send) {
    put(out, u64::from(send.key));
    put(out, send.value);
    out.push(send.acks as u8);
    out.push(u8::from(send.producer.is_some()) | u8::from(send.batch.is_some()) << 1);
    if let Some(sequence) = send.producer {
        put_signed(out, sequence.producer_id);
        put_signed(out, i64::from(sequence.producer_epoch));
        put_signed(out, i64::from(sequence.sequence));
    }
    if let Some(batch) = send.batch {
        put(out, u64::from(batch));
    }
}

fn put_sent(out: &mut Vec<u8>, sent: &Sent) {
    put_end(out, sent.outcome, sent.error);
    out.extend([sent.attempts, sent.node]);
    out.push(u8::from(sent.offset.is_some()) | u8::from(sent.leader_epoch.is_some()) << 1);
    sent.offset.iter().for_each(|offset| put_signed(out, *offset));
    sent.leader_epoch.iter().for_each(|epoch| put_signed(out, i64::from(*epoch)));
}

fn put_poll(out: &mut Vec<u8>, from: &From, node: u8) {
    out.push(node);
    match from {
        From::Fetch { key, position } => {
            out.push(0);
            put(out, u64::from(*key));
            put_signed(out, *position);
        }
        From::Assigned => out.push(1),
        From::Group => out.push(2),
    }
}

fn put_polled(out: &mut Vec<u8>, polled: &Polled) {
    put_end(out, polled.outcome, polled.error);
    put(out, polled.runs.len() as u64);
    for run in &polled.runs {
        put_run(out, run);
    }
}

/// A record of a run without holes costs the difference of its value to the one before.
fn put_run(out: &mut Vec<u8>, run: &Run) {
    let dense = run.records.windows(2).all(|pair| pair[0].offset.checked_add(1) == Some(pair[1].offset));
    put(out, u64::from(run.key));
    put(out, run.records.len() as u64);
    let has = |bit: u8, set: bool| u8::from(set) << bit;
    out.push(
        has(0, dense)
            | has(1, run.high_watermark.is_some())
            | has(2, run.log_start.is_some())
            | has(3, run.epoch.is_some()),
    );
    run.high_watermark.iter().chain(&run.log_start).for_each(|mark| put_signed(out, *mark));
    run.epoch.iter().for_each(|epoch| put_signed(out, i64::from(*epoch)));
    let (mut offset, mut value) = (0i64, 0u64);
    for (at, record) in run.records.iter().enumerate() {
        if at == 0 || !dense {
            put_signed(out, record.offset.wrapping_sub(offset));
        }
        put_signed(out, record.value.wrapping_sub(value) as i64);
        (offset, value) = (record.offset, record.value);
    }
}

fn put_rebalance(out: &mut Vec<u8>, rebalance: &Rebalance) {
    put_all(out, [rebalance.group, rebalance.member]);
    out.push(u8::from(rebalance.protocol == Protocol::Consumer));
    put_signed(out, i64::from(rebalance.generation));
    put_keys(out, &rebalance.revoked);
    put_keys(out, &rebalance.assigned);
}

fn put_admin(out: &mut Vec<u8>, topic: u32, call: &AdminCall) {
    put(out, u64::from(topic));
    match *call {
        AdminCall::Create { partitions, config } => {
            out.push(0);
            put(out, u64::from(partitions));
            put(out, config);
        }
        AdminCall::Delete => out.push(1),
        AdminCall::AlterConfig { config } => {
            out.push(2);
            put(out, config);
        }
        AdminCall::AddPartitions { partitions } => {
            out.push(3);
            put(out, u64::from(partitions));
        }
        AdminCall::Describe => out.push(4),
    }
}

fn put_administered(out: &mut Vec<u8>, result: &AdminResult, error: i16) {
    put_signed(out, i64::from(error));
    match *result {
        AdminResult::Done => out.push(0),
        AdminResult::AlreadyExists => out.push(1),
        AdminResult::NotFound => out.push(2),
        AdminResult::Described { partitions, config } => {
            out.push(3);
            put(out, u64::from(partitions));
            put(out, config);
        }
        AdminResult::Refused => out.push(4),
        AdminResult::Info => out.push(5),
        AdminResult::Remembered { partitions, config } => {
            out.push(6);
            put(out, u64::from(partitions));
            put(out, config);
        }
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(entry.node);
    put(out, u64::from(entry.key));
    put(out, entry.index);
    put(out, entry.term);
    out.extend(entry.hash.to_le_bytes());
    put_signed(out, entry.base_offset);
    put(out, entry.values.len() as u64);
    let mut before = 0u64;
    for value in &entry.values {
        put_signed(out, value.wrapping_sub(before) as i64);
        before = *value;
    }
}
