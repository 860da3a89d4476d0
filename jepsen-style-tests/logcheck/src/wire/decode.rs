//! Bytes to events. Whatever the bytes are: an event, or an error that says what is wrong with them.

use super::{
    encode::Previous,
    kind,
    varint::{BadVarint, take, unzigzag},
};
use crate::event::{
    AdminCall, AdminResult, Body, Commit, Entry, Event, From, Outcome, Phase, Poll, Polled, Protocol, Rebalance,
    Record, Replica, Run, Seek, Send, Sent, Sequence, Stored, Which,
};

/// Why the bytes of a frame are no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEvent {
    #[error("it ends within its {0}")]
    Short(&'static str),
    #[error("its {what} is {found}, which is out of range")]
    Range { what: &'static str, found: String },
    #[error("{0} bytes are left over behind it")]
    Left(usize),
}

type Result<T> = std::result::Result<T, BadEvent>;

/// One event from the bytes of its frame.
pub fn event(bytes: &[u8], previous: &mut Previous) -> Result<Event> {
    let mut from = Reader { rest: bytes };
    let kind = from.byte("kind")?;
    let phase = match from.byte("phase")? {
        0 => Phase::Warm,
        1 => Phase::Main,
        2 => Phase::Final,
        other => return Err(range("phase", other)),
    };
    let after = from.number("time")?;
    let at = previous.at.checked_add(after).ok_or_else(|| range("time", after))?;
    let process = from.small("process")?;
    let op = previous.op.wrapping_add(from.signed("operation")? as u64);
    let body = body(kind, &mut from)?;
    if !from.rest.is_empty() {
        return Err(BadEvent::Left(from.rest.len()));
    }
    *previous = Previous { at, op };
    Ok(Event { at, process, op, phase, body })
}

fn range(what: &'static str, found: impl ToString) -> BadEvent {
    BadEvent::Range { what, found: found.to_string() }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    #[inline]
    fn byte(&mut self, what: &'static str) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or(BadEvent::Short(what))?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn number(&mut self, what: &'static str) -> Result<u64> {
        take(&mut self.rest).map_err(|bad| match bad {
            BadVarint::Short => BadEvent::Short(what),
            BadVarint::Long => range(what, "longer than 64 bits"),
        })
    }

    #[inline]
    fn signed(&mut self, what: &'static str) -> Result<i64> {
        Ok(unzigzag(self.number(what)?))
    }

    fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T> {
        let number = self.number(what)?;
        T::try_from(number).map_err(|_| range(what, number))
    }

    fn small_signed<T: TryFrom<i64>>(&mut self, what: &'static str) -> Result<T> {
        let number = self.signed(what)?;
        T::try_from(number).map_err(|_| range(what, number))
    }

    fn fixed(&mut self, what: &'static str) -> Result<u64> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(BadEvent::Short(what))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(range(what, other)),
        }
    }

    /// How many things of at least one byte each follow: never more than there are bytes.
    fn count(&mut self, what: &'static str) -> Result<usize> {
        let count: u64 = self.number(what)?;
        if count > self.rest.len() as u64 {
            return Err(range(what, count));
        }
        Ok(count as usize)
    }

    fn keys(&mut self, what: &'static str) -> Result<Vec<u32>> {
        let count = self.count(what)?;
        (0..count).map(|_| self.small(what)).collect()
    }

    fn outcome(&mut self) -> Result<Outcome> {
        match self.byte("outcome")? {
            0 => Ok(Outcome::Ok),
            1 => Ok(Outcome::Info),
            2 => Ok(Outcome::Fail),
            other => Err(range("outcome", other)),
        }
    }

    fn end(&mut self) -> Result<(Outcome, i16)> {
        Ok((self.outcome()?, self.small_signed("error code")?))
    }
}

fn body(kind: u8, from: &mut Reader) -> Result<Body> {
    Ok(match kind {
        kind::SEND => Body::Send(send(from)?),
        kind::SENT => Body::Sent(sent(from)?),
        kind::POLL => Body::Poll(poll(from)?),
        kind::POLLED => Body::Polled(polled(from)?),
        kind::ASSIGN => assign(from)?,
        kind::SUBSCRIBE => Body::Subscribe { group: from.small("group")?, keys: from.keys("key")? },
        kind::REBALANCE => Body::Rebalance(rebalance(from)?),
        kind::LEAVE => Body::Leave { group: from.small("group")?, member: from.small("member")? },
        kind::CRASH => Body::Crash,
        kind::COMMIT => Body::Commit(commit(from)?),
        kind::COMMITTED => {
            let (outcome, error) = from.end()?;
            Body::Committed { outcome, error }
        }
        kind::FETCH_COMMIT => Body::FetchCommit { group: from.small("group")?, key: from.small("key")? },
        kind::FETCHED_COMMIT => fetched_commit(from)?,
        kind::HEARTBEAT => {
            let (group, member) = (from.small("group")?, from.small("member")?);
            Body::Heartbeat { group, member, generation: from.small_signed("generation")? }
        }
        kind::BEATEN => {
            let (outcome, error) = from.end()?;
            Body::Beaten { outcome, error }
        }
        kind::LIST_OFFSETS => {
            let key = from.small("key")?;
            let which = if from.flag("which offset")? { Which::Latest } else { Which::Earliest };
            Body::ListOffsets { key, which }
        }
        kind::LISTED => {
            let (outcome, error) = from.end()?;
            Body::Listed { outcome, error, offset: from.signed("offset")? }
        }
        kind::EPOCH_END => Body::EpochEnd { key: from.small("key")?, epoch: from.small_signed("epoch")? },
        kind::EPOCH_ENDED => {
            let (outcome, error) = from.end()?;
            Body::EpochEnded { outcome, error, end: from.signed("end")? }
        }
        kind::INIT_PRODUCER => Body::InitProducer,
        kind::INITED_PRODUCER => {
            let (outcome, error) = from.end()?;
            let producer_id = from.signed("producer id")?;
            Body::InitedProducer { outcome, error, producer_id, producer_epoch: from.small_signed("producer epoch")? }
        }
        kind::ADMIN => Body::Admin { topic: from.small("topic")?, call: admin(from)? },
        kind::ADMINISTERED => {
            let error = from.small_signed("error code")?;
            Body::Administered { result: administered(from)?, error }
        }
        kind::ENTRY => Body::Entry(entry(from)?),
        kind::REPLICA => Body::Replica(replica(from)?),
        other => return Err(range("kind", other)),
    })
}

fn send(from: &mut Reader) -> Result<Send> {
    let (key, value) = (from.small("key")?, from.number("value")?);
    let acks = from.byte("acks")? as i8;
    let has = flags(from, "what a send has", 2)?;
    let producer = match has & 1 {
        0 => None,
        _ => Some(Sequence {
            producer_id: from.signed("producer id")?,
            producer_epoch: from.small_signed("producer epoch")?,
            sequence: from.small_signed("sequence")?,
        }),
    };
    let batch = if has & 2 != 0 { Some(from.small("batch")?) } else { None };
    Ok(Send { key, value, acks, producer, batch })
}

fn flags(from: &mut Reader, what: &'static str, count: u8) -> Result<u8> {
    let has = from.byte(what)?;
    if has >> count == 0 { Ok(has) } else { Err(range(what, has)) }
}

fn sent(from: &mut Reader) -> Result<Sent> {
    let (outcome, error) = from.end()?;
    let (attempts, node) = (from.byte("attempts")?, from.byte("node")?);
    let has = flags(from, "what an answer has", 2)?;
    let offset = if has & 1 != 0 { Some(from.signed("offset")?) } else { None };
    let leader_epoch = if has & 2 != 0 { Some(from.small_signed("leader epoch")?) } else { None };
    Ok(Sent { outcome, offset, leader_epoch, error, attempts, node })
}

fn poll(from: &mut Reader) -> Result<Poll> {
    let node = from.byte("node")?;
    let from = match from.byte("where a poll reads from")? {
        0 => From::Fetch { key: from.small("key")?, position: from.signed("position")? },
        1 => From::Assigned,
        2 => From::Group,
        other => return Err(range("where a poll reads from", other)),
    };
    Ok(Poll { from, node })
}

fn polled(from: &mut Reader) -> Result<Polled> {
    let (outcome, error) = from.end()?;
    let count = from.count("runs")?;
    let runs: Result<Vec<Run>> = (0..count).map(|_| run(from)).collect();
    Ok(Polled { outcome, error, runs: runs? })
}

fn run(from: &mut Reader) -> Result<Run> {
    let key = from.small("key")?;
    let count = from.number("records")?;
    let has = flags(from, "what a run has", 4)?;
    let high_watermark = if has & 2 != 0 { Some(from.signed("high watermark")?) } else { None };
    let log_start = if has & 4 != 0 { Some(from.signed("log start")?) } else { None };
    let epoch = if has & 8 != 0 { Some(from.small_signed("epoch")?) } else { None };
    if count > from.rest.len() as u64 {
        return Err(range("records", count));
    }
    let mut records = Vec::with_capacity(count as usize);
    let (mut offset, mut value) = (0i64, 0u64);
    for at in 0..count {
        let step = if at == 0 || has & 1 == 0 { from.signed("offset")? } else { 1 };
        offset = offset.checked_add(step).ok_or_else(|| range("offset", step))?;
        value = value.wrapping_add(from.signed("value")? as u64);
        records.push(Record { offset, value });
    }
    Ok(Run { key, records, high_watermark, log_start, epoch })
}

fn assign(from: &mut Reader) -> Result<Body> {
    let seek = match from.byte("seek")? {
        0 => Seek::Keep,
        1 => Seek::Beginning,
        2 => Seek::Elsewhere,
        other => return Err(range("seek", other)),
    };
    Ok(Body::Assign { keys: from.keys("key")?, seek })
}

fn rebalance(from: &mut Reader) -> Result<Rebalance> {
    let (group, member) = (from.small("group")?, from.small("member")?);
    let protocol = if from.flag("protocol")? { Protocol::Consumer } else { Protocol::Classic };
    let generation = from.small_signed("generation")?;
    let (revoked, assigned) = (from.keys("revoked key")?, from.keys("assigned key")?);
    Ok(Rebalance { group, protocol, generation, member, revoked, assigned })
}

fn commit(from: &mut Reader) -> Result<Commit> {
    let (group, key, member) = (from.small("group")?, from.small("key")?, from.small("member")?);
    let offset = from.signed("offset")?;
    let generation = from.small_signed("generation")?;
    Ok(Commit { group, key, offset, generation, member, id: from.number("commit id")? })
}

fn fetched_commit(from: &mut Reader) -> Result<Body> {
    let (outcome, error) = from.end()?;
    let stored = match from.flag("whether something is committed")? {
        true => Some(Stored { offset: from.signed("offset")?, id: from.number("commit id")? }),
        false => None,
    };
    Ok(Body::FetchedCommit { outcome, error, stored })
}

fn admin(from: &mut Reader) -> Result<AdminCall> {
    Ok(match from.byte("admin call")? {
        0 => AdminCall::Create { partitions: from.small("partitions")?, config: from.number("config")? },
        1 => AdminCall::Delete,
        2 => AdminCall::AlterConfig { config: from.number("config")? },
        3 => AdminCall::AddPartitions { partitions: from.small("partitions")? },
        4 => AdminCall::Describe,
        other => return Err(range("admin call", other)),
    })
}

fn administered(from: &mut Reader) -> Result<AdminResult> {
    Ok(match from.byte("admin result")? {
        0 => AdminResult::Done,
        1 => AdminResult::AlreadyExists,
        2 => AdminResult::NotFound,
        3 => AdminResult::Described { partitions: from.small("partitions")?, config: from.number("config")? },
        4 => AdminResult::Refused,
        5 => AdminResult::Info,
        6 => AdminResult::Remembered { partitions: from.small("partitions")?, config: from.number("config")? },
        other => return Err(range("admin result", other)),
    })
}

fn entry(from: &mut Reader) -> Result<Entry> {
    let node = from.byte("node")?;
    let (key, index, term) = (from.small("key")?, from.number("index")?, from.number("term")?);
    let (hash, base_offset) = (from.fixed("hash")?, from.signed("base offset")?);
    let count = from.count("values")?;
    let mut values = Vec::with_capacity(count);
    let mut value = 0u64;
    for _ in 0..count {
        value = value.wrapping_add(from.signed("value")? as u64);
        values.push(value);
    }
    Ok(Entry { node, key, index, term, hash, base_offset, values })
}

fn replica(from: &mut Reader) -> Result<Replica> {
    let node = from.byte("node")?;
    let (key, committed_index) = (from.small("key")?, from.number("index")?);
    let log_start = from.signed("log start")?;
    let state_hash = if from.flag("whether there is a hash")? { Some(from.fixed("hash")?) } else { None };
    Ok(Replica { node, key, committed_index, log_start, state_hash })
}
