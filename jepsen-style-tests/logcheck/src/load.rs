//! From a directory to facts, in one pass over each worker's file.
//!
//! Whatever the files hold: facts, or an error that names the place. A file that ends within a frame, or without its
//! end, is of a worker that died: that is told, and what its open operations came to is not known.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use crate::{
    event::{AdminResult, Body, Entry, Event, From, Outcome, Phase, Polled, Sent, Sequence},
    facts::{
        ALONE, AdminOp, Change, Changed, CommitOp, CommitRead, EntryOp, EpochEnd, Errors, Facts, Heartbeat, Init, Kind,
        Listed, Mark, NEVER, NOWHERE, PLAIN, PollOp, ReplicaEnd, RunOp, STRANGER, SendOp, Source, Step, values::Values,
    },
    files::{self, BadFile, Ended, Events},
    meta::Meta,
    payload::VALUES_END,
};

/// Everything that a directory holds, as far as the rules ask for it.
pub fn facts(dir: &Path, meta: &Meta) -> Result<Facts, BadFile> {
    let mut loader = Loader::new(meta);
    for path in files::list(dir)? {
        let mut events = Events::open(&path)?;
        if events.run() != meta.run {
            return Err(BadFile::Run { path, found: events.run(), wanted: meta.run });
        }
        loader.open.clear();
        loader.polling.clear();
        loader.file += 1;
        while let Some(event) = events.next_event()? {
            loader.add(&event).map_err(|reason| {
                let Event { at, process, op, .. } = event;
                BadFile::Order { path: path.clone(), at, process, op, reason }
            })?;
        }
        if let Some(Ended::Unfinished { torn_bytes }) = events.ended() {
            loader.facts.unfinished.push((events.worker(), torn_bytes));
        }
    }
    Ok(loader.finish())
}

/// Facts of events that are in memory, as if each list were a worker's file.
pub fn facts_of(meta: &Meta, workers: &[Vec<Event>]) -> Result<Facts, String> {
    let mut loader = Loader::new(meta);
    for events in workers {
        loader.open.clear();
        loader.polling.clear();
        loader.file += 1;
        for event in events {
            loader
                .add(event)
                .map_err(|reason| format!("process {}, operation {}: {reason}", event.process, event.op))?;
        }
    }
    Ok(loader.finish())
}

/// An operation that waits for its end: what it is, and where its beginning is kept.
#[derive(Clone, Debug)]
enum Open {
    Send(u32),
    Poll { from: From, node: u8 },
    Commit(u32),
    FetchCommit { group: u32, key: u32 },
    Heartbeat { group: u32, generation: i32, member: u32 },
    ListOffsets { key: u32, which: crate::event::Which },
    EpochEnd { key: u32, epoch: i32 },
    InitProducer,
    Admin(u32),
}

struct Loader {
    facts: Facts,
    /// By operation, of the file at hand: invocation time, process.
    open: HashMap<u64, (u64, u32, Open)>,
    /// Processes of the file at hand whose consumer is in a poll.
    polling: HashSet<u32>,
    /// Which file a process belongs to.
    home: HashMap<u32, u32>,
    file: u32,
    producers: HashMap<(i64, i16), u32>,
    last_producer: (i64, i16, u32),
    /// The values of all polled records, until all sends are known.
    polled: Vec<u64>,
    entry_values: Vec<u64>,
}

type Added = Result<(), String>;

impl Loader {
    fn new(meta: &Meta) -> Loader {
        Loader {
            facts: Facts { keys: meta.keys.len(), ..Facts::default() },
            open: HashMap::new(),
            polling: HashSet::new(),
            home: HashMap::new(),
            file: 0,
            producers: HashMap::new(),
            last_producer: (0, 0, PLAIN),
            polled: vec![],
            entry_values: vec![],
        }
    }

    fn add(&mut self, event: &Event) -> Added {
        self.facts.events += 1;
        self.facts.last_at = self.facts.last_at.max(event.at);
        // What a stopped node's directory holds is nobody's doing.
        let of_replica = matches!(event.body, Body::Entry(_) | Body::Replica(_));
        if !of_replica && *self.home.entry(event.process).or_insert(self.file) != self.file {
            return Err("the process has events in two workers' files".into());
        }
        if event.body.is_invocation() {
            self.begin(event)
        } else if event.body.is_completion() {
            let Some((invoked, process, open)) = self.open.remove(&event.op) else {
                return Err("it is completed, and no such operation is open".into());
            };
            if process != event.process {
                return Err(format!("it is completed, and process {process} began it"));
            }
            self.complete(event, invoked, open)
        } else {
            self.note(event)
        }
    }

    fn key(&self, key: u32) -> Result<u32, String> {
        if (key as usize) < self.facts.keys {
            Ok(key)
        } else {
            Err(format!("key {key}: meta.json names {} keys", self.facts.keys))
        }
    }

    fn begin(&mut self, event: &Event) -> Added {
        let (at, process, op) = (event.at, event.process, event.op);
        let open = match &event.body {
            Body::Send(send) => {
                self.send(event, send)?;
                Open::Send(self.facts.sends.len() as u32 - 1)
            }
            Body::Poll(poll) => {
                match poll.from {
                    From::Fetch { key, .. } => drop(self.key(key)?),
                    From::Assigned | From::Group => {
                        if !self.polling.insert(process) {
                            return Err("the process polls while a poll of its own is open".into());
                        }
                    }
                }
                Open::Poll { from: poll.from.clone(), node: poll.node }
            }
            Body::Commit(commit) => {
                let (key, group, member) = (self.key(commit.key)?, commit.group, commit.member);
                let (offset, generation, id) = (commit.offset, commit.generation, commit.id);
                let outcome = Outcome::Info;
                let ends = (at, NEVER);
                let (invoked, returned) = ends;
                self.facts.commits.push(CommitOp {
                    invoked,
                    returned,
                    op,
                    process,
                    group,
                    key,
                    offset,
                    generation,
                    member,
                    id,
                    outcome,
                });
                Open::Commit(self.facts.commits.len() as u32 - 1)
            }
            Body::FetchCommit { group, key } => Open::FetchCommit { group: *group, key: self.key(*key)? },
            Body::Heartbeat { group, generation, member } => {
                Open::Heartbeat { group: *group, generation: *generation, member: *member }
            }
            Body::ListOffsets { key, which } => Open::ListOffsets { key: self.key(*key)?, which: *which },
            Body::EpochEnd { key, epoch } => Open::EpochEnd { key: self.key(*key)?, epoch: *epoch },
            Body::InitProducer => Open::InitProducer,
            Body::Admin { topic, call } => {
                let (topic, call, result) = (*topic, *call, AdminResult::Info);
                self.facts.admins.push(AdminOp { invoked: at, returned: NEVER, op, process, topic, call, result });
                Open::Admin(self.facts.admins.len() as u32 - 1)
            }
            other => return Err(format!("no invocation: {other:?}")),
        };
        match self.open.insert(op, (at, process, open)) {
            None => Ok(()),
            Some(_) => Err("an operation of that number is open already".into()),
        }
    }

    fn send(&mut self, event: &Event, send: &crate::event::Send) -> Added {
        if send.value >= VALUES_END {
            return Err(format!("value {}: values are below {VALUES_END}", send.value));
        }
        // Half of the numbers have a meaning of their own.
        if self.facts.sends.len() >= i32::MAX as usize {
            return Err("more than 2,147,483,647 sends".into());
        }
        let producer = send.producer.map_or(PLAIN, |sequence| self.producer(sequence));
        self.facts.sends.push(SendOp {
            value: send.value,
            invoked: event.at,
            returned: NEVER,
            offset: NOWHERE,
            key: self.key(send.key)?,
            process: event.process,
            producer,
            sequence: send.producer.map_or(0, |sequence| sequence.sequence),
            batch: send.batch.unwrap_or(ALONE),
            leader_epoch: -1,
            outcome: Outcome::Info,
            acks: send.acks,
            attempts: 0,
            node: 0,
        });
        Ok(())
    }

    fn producer(&mut self, sequence: Sequence) -> u32 {
        let Sequence { producer_id, producer_epoch, .. } = sequence;
        let (id, epoch, number) = self.last_producer;
        if number != PLAIN && (id, epoch) == (producer_id, producer_epoch) {
            return number;
        }
        let number = *self.producers.entry((producer_id, producer_epoch)).or_insert_with(|| {
            self.facts.producers.push((producer_id, producer_epoch));
            self.facts.producers.len() as u32 - 1
        });
        self.last_producer = (producer_id, producer_epoch, number);
        number
    }

    fn complete(&mut self, event: &Event, invoked: u64, open: Open) -> Added {
        let (process, op, returned) = (event.process, event.op, event.at);
        match (open, &event.body) {
            (Open::Send(send), Body::Sent(sent)) => {
                complete_send(&mut self.facts.sends[send as usize], returned, sent);
                self.ended(event, Kind::Send, sent.outcome, sent.error);
            }
            (Open::Poll { from, node }, Body::Polled(polled)) => {
                self.poll(event, invoked, &from, node, polled)?;
                self.ended(event, Kind::Poll, polled.outcome, polled.error);
            }
            (Open::Commit(commit), Body::Committed { outcome, error }) => {
                let commit = &mut self.facts.commits[commit as usize];
                (commit.returned, commit.outcome) = (known_end(*outcome, returned), *outcome);
                self.ended(event, Kind::Commit, *outcome, *error);
            }
            (Open::FetchCommit { group, key }, Body::FetchedCommit { outcome, error, stored }) => {
                if *outcome == Outcome::Ok {
                    let stored = *stored;
                    self.facts.commit_reads.push(CommitRead { invoked, returned, op, process, group, key, stored });
                }
                self.ended(event, Kind::FetchCommit, *outcome, *error);
            }
            (Open::Heartbeat { group, generation, member }, Body::Beaten { outcome, error }) => {
                if *outcome == Outcome::Ok {
                    self.facts.heartbeats.push(Heartbeat { invoked, op, process, group, generation, member });
                }
                self.ended(event, Kind::Heartbeat, *outcome, *error);
            }
            (Open::ListOffsets { key, which }, Body::Listed { outcome, error, offset }) => {
                if *outcome == Outcome::Ok {
                    let offset = *offset;
                    self.facts.listed.push(Listed { invoked, returned, op, process, key, which, offset });
                }
                self.ended(event, Kind::ListOffsets, *outcome, *error);
            }
            (Open::EpochEnd { key, epoch }, Body::EpochEnded { outcome, error, end }) => {
                if *outcome == Outcome::Ok {
                    let end = *end;
                    self.facts.epoch_ends.push(EpochEnd { invoked, returned, op, process, key, epoch, end });
                }
                self.ended(event, Kind::EpochEnd, *outcome, *error);
            }
            (Open::InitProducer, Body::InitedProducer { outcome, error, producer_id, producer_epoch }) => {
                if *outcome == Outcome::Ok {
                    let (producer_id, producer_epoch) = (*producer_id, *producer_epoch);
                    self.facts.inits.push(Init { op, process, at: returned, producer_id, producer_epoch });
                }
                self.ended(event, Kind::InitProducer, *outcome, *error);
            }
            (Open::Admin(admin), Body::Administered { result, error }) => {
                let admin = &mut self.facts.admins[admin as usize];
                let outcome = if *result == AdminResult::Info { Outcome::Info } else { Outcome::Ok };
                (admin.returned, admin.result) = (known_end(outcome, returned), *result);
                self.ended(event, Kind::Admin, outcome, *error);
            }
            (open, other) => return Err(format!("it began as {open:?} and is completed as {other:?}")),
        }
        Ok(())
    }

    fn ended(&mut self, event: &Event, kind: Kind, outcome: Outcome, error: i16) {
        if outcome == Outcome::Ok {
            *self.facts.ok.entry((event.phase, kind)).or_default() += 1;
        }
        if error != 0 {
            let (at, process, op) = (event.at, event.process, event.op);
            let errors = self.facts.errors.entry((kind, error)).or_insert(Errors { count: 0, at, process, op });
            errors.count += 1;
            if outcome == Outcome::Fail && kind == Kind::Send {
                *self.facts.failed_sends.entry(error).or_default() += 1;
            }
        }
    }

    fn poll(&mut self, event: &Event, invoked: u64, from: &From, node: u8, polled: &Polled) -> Added {
        let number = self.facts.polls.len() as u32;
        let (runs, marks) = (self.facts.runs.len() as u32, self.facts.marks.len() as u32);
        let source = match from {
            From::Fetch { key, position } => Source::Fetch { key: *key, position: *position },
            From::Assigned => Source::Assigned,
            From::Group => Source::Group,
        };
        if !matches!(source, Source::Fetch { .. }) {
            self.polling.remove(&event.process);
        }
        for run in &polled.runs {
            let key = self.key(run.key)?;
            if run.high_watermark.is_some() || run.log_start.is_some() {
                let high_watermark = run.high_watermark.unwrap_or(NOWHERE);
                let log_start = run.log_start.unwrap_or(NOWHERE);
                self.facts.marks.push(Mark { poll: number, key, high_watermark, log_start });
            }
            self.pieces(number, run)?;
        }
        self.facts.polls.push(PollOp {
            op: event.op,
            invoked,
            returned: event.at,
            process: event.process,
            source,
            outcome: polled.outcome,
            error: polled.error,
            node,
            phase: event.phase,
            runs: (runs, self.facts.runs.len() as u32),
            marks: (marks, self.facts.marks.len() as u32),
        });
        self.facts.steps.push(Step::Poll(number));
        Ok(())
    }

    /// Takes a run apart where its offsets have holes.
    fn pieces(&mut self, poll: u32, run: &crate::event::Run) -> Added {
        if self.polled.len() + run.records.len() > u32::MAX as usize {
            return Err("more than 4,294,967,295 polled records".into());
        }
        let mut records = &run.records[..];
        while let Some(first) = records.first() {
            let holes = records.windows(2).position(|pair| pair[0].offset.checked_add(1) != Some(pair[1].offset));
            let count = holes.map_or(records.len(), |at| at + 1);
            let last = records[count - 1].offset;
            if first.offset < 0 || last == i64::MAX {
                return Err(format!(
                    "offsets {} to {last}: an offset is at least 0 and less than 2^63 - 1",
                    first.offset
                ));
            }
            self.facts.runs.push(RunOp {
                base: first.offset,
                poll,
                key: run.key,
                first: self.polled.len() as u32,
                count: count as u32,
                epoch: run.epoch.unwrap_or(-1),
            });
            self.polled.extend(records[..count].iter().map(|record| record.value));
            records = &records[count..];
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) -> Added {
        let what = match &event.body {
            Body::Assign { keys, seek } => Changed::Assign { keys: keys.clone(), seek: *seek },
            Body::Subscribe { group, keys } => Changed::Subscribe { group: *group, keys: keys.clone() },
            Body::Rebalance(rebalance) => Changed::Rebalance {
                group: rebalance.group,
                protocol: rebalance.protocol,
                generation: rebalance.generation,
                member: rebalance.member,
                revoked: rebalance.revoked.clone(),
                assigned: rebalance.assigned.clone(),
            },
            Body::Leave { group, member } => Changed::Leave { group: *group, member: *member },
            Body::Crash => {
                self.polling.remove(&event.process);
                Changed::Crash
            }
            Body::Entry(entry) => return self.entry(entry),
            Body::Replica(replica) => {
                self.facts.replicas.push(ReplicaEnd {
                    key: self.key(replica.key)?,
                    node: replica.node,
                    committed_index: replica.committed_index,
                    log_start: replica.log_start,
                    state_hash: replica.state_hash,
                });
                return Ok(());
            }
            other => return Err(format!("neither begins nor ends an operation: {other:?}")),
        };
        event.body.keys().into_iter().try_for_each(|key| self.key(key).map(drop))?;
        self.facts.changes.push(Change { at: event.at, process: event.process, what });
        self.facts.steps.push(Step::Change(self.facts.changes.len() as u32 - 1));
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Added {
        let end = entry.base_offset.checked_add(entry.values.len() as i64);
        if !entry.values.is_empty() && (entry.base_offset < 0 || end.is_none()) {
            return Err(format!("an entry with base offset {}", entry.base_offset));
        }
        self.facts.entries.push(EntryOp {
            index: entry.index,
            term: entry.term,
            hash: entry.hash,
            base: entry.base_offset,
            key: self.key(entry.key)?,
            first: self.entry_values.len() as u32,
            count: entry.values.len() as u32,
            node: entry.node,
        });
        self.entry_values.extend(&entry.values);
        Ok(())
    }

    fn finish(mut self) -> Facts {
        let (values, resent) = Values::of(&self.facts.sends);
        self.facts.resent = resent;
        let mut records = Vec::with_capacity(self.polled.len());
        for (at, value) in self.polled.iter().enumerate() {
            records.push(values.send_of(*value).unwrap_or_else(|| {
                self.facts.strangers.push((at as u32, *value));
                STRANGER
            }));
        }
        self.polled = vec![];
        self.facts.records = records;
        self.facts.entry_records =
            self.entry_values.iter().map(|value| values.send_of(*value).unwrap_or(STRANGER)).collect();
        self.facts.derive();
        self.facts
    }
}

fn complete_send(send: &mut SendOp, returned: u64, sent: &Sent) {
    send.outcome = sent.outcome;
    send.returned = known_end(sent.outcome, returned);
    // Kafka's answer to a produce with acks=0 says -1.
    send.offset = sent.offset.filter(|offset| (0..i64::MAX).contains(offset)).unwrap_or(NOWHERE);
    send.leader_epoch = sent.leader_epoch.unwrap_or(-1);
    (send.attempts, send.node) = (sent.attempts, sent.node);
}

/// What is not known to have ended may take effect for ever.
fn known_end(outcome: Outcome, returned: u64) -> u64 {
    match outcome {
        Outcome::Ok | Outcome::Fail => returned,
        Outcome::Info => NEVER,
    }
}

/// The phases by the names that `meta.json` has for them.
pub fn phase(name: &str) -> Option<Phase> {
    match name {
        "warm" => Some(Phase::Warm),
        "main" => Some(Phase::Main),
        "final" => Some(Phase::Final),
        _ => None,
    }
}
