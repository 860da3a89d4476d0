//! Small histories in few words. Each call happens after the one before it; each process is a worker.

use std::collections::BTreeMap;

use crate::{
    check::check_facts,
    event::{
        Body, Commit, Event, From, Outcome, Phase, Poll, Polled, Protocol, Rebalance, Record, Run, Seek, Send, Sent,
        Sequence, Stored,
    },
    load,
    meta::Meta,
    nemesis::{Done, Fault, Line, Nemesis},
    report::Report,
};

/// Records of one key that a poll returned: the key, the first offset, the values.
pub type Got<'a> = (u32, i64, &'a [u64]);

pub struct Tale {
    pub meta: Meta,
    pub nemesis: Nemesis,
    pub phase: Phase,
    workers: BTreeMap<u32, Vec<Event>>,
    at: u64,
    next_op: u64,
}

pub fn tale() -> Tale {
    let meta = Meta {
        format: 1,
        keys: (0..4).map(|key| format!("t/{key}")).collect(),
        finished: true,
        promises: crate::meta::Promises { idempotent: true, ..Default::default() },
        ..Meta::default()
    };
    let (fault, led) = ("kill".to_string(), vec!["t/0".to_string()]);
    let start = Line::Start(Fault { at: 1, fault, targets: vec![], outcome: Done::Installed, led });
    let nemesis = Nemesis { lines: vec![start], torn: false };
    Tale { meta, nemesis, phase: Phase::Final, workers: BTreeMap::new(), at: 0, next_op: 0 }
}

pub const OK: Sent = Sent { outcome: Outcome::Ok, offset: None, leader_epoch: None, error: 0, attempts: 1, node: 1 };

impl Tale {
    /// Puts an event without an operation, or one whose number the caller has.
    pub fn put(&mut self, process: u32, op: u64, body: Body) {
        self.at += 10;
        let event = Event { at: self.at, process, op, phase: self.phase, body };
        self.workers.entry(process).or_default().push(event);
    }

    pub fn begin(&mut self, process: u32, body: Body) -> u64 {
        self.next_op += 1;
        self.put(process, self.next_op, body);
        self.next_op
    }

    /// One operation, begun and ended.
    pub fn did(&mut self, process: u32, call: Body, answer: Body) {
        let op = self.begin(process, call);
        self.put(process, op, answer);
    }

    pub fn send(&mut self, process: u32, key: u32, value: u64) -> u64 {
        self.begin(process, Body::Send(Send { key, value, acks: -1, producer: None, batch: None }))
    }

    /// Sends of unknown outcome to key 0, each by a process of its own.
    pub fn sends(&mut self, values: std::ops::Range<u64>) {
        for value in values {
            self.send(value as u32, 0, value);
        }
    }

    pub fn sent(&mut self, process: u32, op: u64, sent: Sent) {
        self.put(process, op, Body::Sent(sent));
    }

    pub fn acked(&mut self, process: u32, key: u32, value: u64, offset: i64) {
        let op = self.send(process, key, value);
        self.sent(process, op, Sent { offset: Some(offset), ..OK });
    }

    /// Sends values to consecutive offsets.
    pub fn all_acked(&mut self, process: u32, key: u32, base: i64, values: &[u64]) {
        (base..).zip(values).for_each(|(offset, value)| self.acked(process, key, *value, offset));
    }

    pub fn failed(&mut self, process: u32, key: u32, value: u64) {
        let op = self.send(process, key, value);
        self.sent(process, op, Sent { outcome: Outcome::Fail, error: 6, attempts: 1, ..Sent::default() });
    }

    pub fn sequenced(&mut self, process: u32, key: u32, value: u64, sequence: i32) -> u64 {
        let producer = Some(Sequence { producer_id: 9, producer_epoch: 0, sequence });
        self.begin(process, Body::Send(Send { key, value, acks: -1, producer, batch: None }))
    }

    pub fn batched(&mut self, process: u32, key: u32, value: u64, batch: u32) -> u64 {
        self.begin(process, Body::Send(Send { key, value, acks: -1, producer: None, batch: Some(batch) }))
    }

    pub fn poll(&mut self, process: u32, from: From) -> u64 {
        self.begin(process, Body::Poll(Poll { from, node: 1 }))
    }

    pub fn polled(&mut self, process: u32, op: u64, runs: Vec<Run>) {
        self.put(process, op, Body::Polled(Polled { outcome: Outcome::Ok, error: 0, runs }));
    }

    /// One poll of what the process has assigned itself.
    pub fn read(&mut self, process: u32, got: &[Got]) {
        let op = self.poll(process, From::Assigned);
        self.polled(process, op, got.iter().map(run).collect());
    }

    pub fn fetch(&mut self, process: u32, key: u32, position: i64, runs: Vec<Run>) {
        let op = self.poll(process, From::Fetch { key, position });
        self.polled(process, op, runs);
    }

    /// One poll of what the group gave.
    pub fn group_read(&mut self, process: u32, got: &[Got]) {
        let op = self.poll(process, From::Group);
        self.polled(process, op, got.iter().map(run).collect());
    }

    pub fn assign(&mut self, process: u32, keys: &[u32], seek: Seek) {
        self.begin(process, Body::Assign { keys: keys.to_vec(), seek });
    }

    pub fn subscribe(&mut self, process: u32) {
        self.begin(process, Body::Subscribe { group: 0, keys: vec![0, 1, 2, 3] });
    }

    /// The member's number is the process's.
    pub fn rebalance(&mut self, process: u32, generation: i32, revoked: &[u32], assigned: &[u32]) {
        self.rebalance_by(Protocol::Classic, process, generation, revoked, assigned);
    }

    pub fn rebalance_by(&mut self, by: Protocol, process: u32, generation: i32, revoked: &[u32], assigned: &[u32]) {
        let (revoked, assigned) = (revoked.to_vec(), assigned.to_vec());
        let rebalance = Rebalance { group: 0, protocol: by, generation, member: process, revoked, assigned };
        self.begin(process, Body::Rebalance(rebalance));
    }

    pub fn commit(&mut self, process: u32, generation: i32, key: u32, offset: i64, id: u64) -> u64 {
        let commit = Commit { group: 0, key, offset, generation, member: process, id };
        self.begin(process, Body::Commit(commit))
    }

    pub fn committed(&mut self, process: u32, op: u64, outcome: Outcome) {
        self.put(process, op, Body::Committed { outcome, error: 0 });
    }

    pub fn commits(&mut self, process: u32, generation: i32, key: u32, offset: i64, id: u64) {
        let op = self.commit(process, generation, key, offset, id);
        self.committed(process, op, Outcome::Ok);
    }

    pub fn commit_read(&mut self, process: u32, key: u32, stored: Option<(i64, u64)>) {
        let stored = stored.map(|(offset, id)| Stored { offset, id });
        let answer = Body::FetchedCommit { outcome: Outcome::Ok, error: 0, stored };
        self.did(process, Body::FetchCommit { group: 0, key }, answer);
    }

    pub fn heartbeat(&mut self, process: u32, generation: i32) {
        let call = Body::Heartbeat { group: 0, generation, member: process };
        self.did(process, call, Body::Beaten { outcome: Outcome::Ok, error: 0 });
    }

    pub fn report(&self) -> Report {
        let workers: Vec<Vec<Event>> = self.workers.values().cloned().collect();
        let facts = load::facts_of(&self.meta, &workers).unwrap_or_else(|error| panic!("{error}"));
        check_facts(&facts, &self.meta, &self.nemesis)
    }

    /// The rules that the history breaks.
    pub fn broken(&self) -> Vec<&'static str> {
        self.report().broken()
    }

    /// The rules that have something to tell that is allowed.
    pub fn told(&self) -> Vec<&'static str> {
        self.report().rules.iter().filter(|rule| rule.reported > 0).map(|rule| rule.rule.name()).collect()
    }

    #[track_caller]
    pub fn is_fine(&self) {
        assert_eq!(self.broken(), [] as [&str; 0]);
    }

    /// The rule is broken; others may be as well.
    #[track_caller]
    pub fn breaks(&self, rule: &str) {
        assert!(self.broken().contains(&rule), "{rule} is not among {:?}", self.broken());
    }
}

/// A run without marks.
pub fn run(&(key, base, values): &Got) -> Run {
    let records = (base..).zip(values).map(|(offset, value)| Record { offset, value: *value }).collect();
    Run { key, records, ..Run::default() }
}

/// A run that names its ends.
pub fn marked(got: Got, high_watermark: i64, log_start: i64) -> Run {
    Run { high_watermark: Some(high_watermark), log_start: Some(log_start), ..run(&got) }
}
