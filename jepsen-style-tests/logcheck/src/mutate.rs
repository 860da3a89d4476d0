//! Damages a history in one place: what a checker must notice, if it is to be believed.

use std::{io, path::Path};

use fastrand::Rng;

use crate::{
    event::{Body, Event, From, Outcome, Phase, Polled, Record},
    files::{self, BadFile, Events},
    meta::Meta,
    nemesis::Nemesis,
    recorder::Recorder,
};

/// A history in memory, as its files hold it.
#[derive(Clone, Debug)]
pub struct History {
    pub meta: Meta,
    pub nemesis: Nemesis,
    pub names: Vec<String>,
    pub workers: Vec<Vec<Event>>,
}

impl History {
    pub fn read(dir: &Path) -> Result<History, BadFile> {
        let meta = Meta::read(&files::meta_path(dir))?;
        let nemesis = Nemesis::read(&files::nemesis_path(dir))?;
        let (mut names, mut workers) = (vec![], vec![]);
        for path in files::list(dir)? {
            let mut file = Events::open(&path)?;
            let mut events = vec![];
            while let Some(event) = file.next_event()? {
                events.push(event);
            }
            names.push(file.worker());
            workers.push(events);
        }
        Ok(History { meta, nemesis, names, workers })
    }

    /// Writes it to a directory that holds no history.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let recorder = Recorder::create(dir, self.meta.run)?;
        for (name, events) in self.names.iter().zip(&self.workers) {
            let mut worker = recorder.worker(name)?;
            events.iter().try_for_each(|event| worker.put(event))?;
            worker.finish()?;
        }
        self.nemesis.lines.iter().try_for_each(|line| recorder.nemesis(line))?;
        recorder.finish(&self.meta)
    }
}

/// What to damage, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    DropRecord,
    DuplicateRecord,
    SwapRecords,
    ShiftRun,
    ForgeRecord,
    LoseValue,
    DuplicateValue,
    SwapValues,
    DropPoll,
    DuplicatePoll,
    SwapPolls,
    DropSend,
    DuplicateSend,
    FailSend,
    ShiftAck,
    SwapAcks,
    ShiftWatermark,
    ShiftCommit,
    SwapCommits,
    DropCommit,
    DropAck,
    ShiftEntry,
}

/// Which event of which worker, and what in it.
type Place = (usize, usize);

impl Mutation {
    pub const ALL: &[Mutation] = &[
        Mutation::DropRecord,
        Mutation::DuplicateRecord,
        Mutation::SwapRecords,
        Mutation::ShiftRun,
        Mutation::ForgeRecord,
        Mutation::LoseValue,
        Mutation::DuplicateValue,
        Mutation::SwapValues,
        Mutation::DropPoll,
        Mutation::DuplicatePoll,
        Mutation::SwapPolls,
        Mutation::DropSend,
        Mutation::DuplicateSend,
        Mutation::FailSend,
        Mutation::ShiftAck,
        Mutation::SwapAcks,
        Mutation::ShiftWatermark,
        Mutation::ShiftCommit,
        Mutation::SwapCommits,
        Mutation::DropCommit,
        Mutation::DropAck,
        Mutation::ShiftEntry,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Mutation::DropRecord => "drop-record",
            Mutation::DuplicateRecord => "duplicate-record",
            Mutation::SwapRecords => "swap-records",
            Mutation::ShiftRun => "shift-run",
            Mutation::ForgeRecord => "forge-record",
            Mutation::LoseValue => "lose-value",
            Mutation::DuplicateValue => "duplicate-value",
            Mutation::SwapValues => "swap-values",
            Mutation::DropPoll => "drop-poll",
            Mutation::DuplicatePoll => "duplicate-poll",
            Mutation::SwapPolls => "swap-polls",
            Mutation::DropSend => "drop-send",
            Mutation::DuplicateSend => "duplicate-send",
            Mutation::FailSend => "fail-send",
            Mutation::ShiftAck => "shift-ack",
            Mutation::SwapAcks => "swap-acks",
            Mutation::ShiftWatermark => "shift-watermark",
            Mutation::ShiftCommit => "shift-commit",
            Mutation::SwapCommits => "swap-commits",
            Mutation::DropCommit => "drop-commit",
            Mutation::DropAck => "drop-ack",
            Mutation::ShiftEntry => "shift-entry",
        }
    }

    /// The kind of that name. Not inlined, and nowhere are all names joined: a loop over all kinds, unrolled into its
    /// caller, is what LLVM's constraint elimination takes more than half an hour for.
    #[inline(never)]
    pub fn named(name: &str) -> Option<Mutation> {
        Mutation::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Damages one place that the seed draws. Gives back what was done; none, if there is no such place.
    pub fn apply(self, history: &mut History, seed: u64) -> Option<String> {
        let mut random = Rng::with_seed(seed ^ 0x6d75_7461_7465);
        let random = &mut random;
        match self {
            Mutation::DropRecord | Mutation::DuplicateRecord | Mutation::SwapRecords | Mutation::ForgeRecord => {
                self.in_run(history, random)
            }
            Mutation::ShiftRun => shift_run(history, random),
            Mutation::LoseValue | Mutation::DuplicateValue | Mutation::SwapValues => self.everywhere(history, random),
            Mutation::DropPoll | Mutation::DuplicatePoll | Mutation::SwapPolls => self.of_polls(history, random),
            Mutation::DropSend | Mutation::DuplicateSend | Mutation::FailSend | Mutation::DropAck => {
                self.of_send(history, random)
            }
            Mutation::ShiftAck | Mutation::SwapAcks => self.of_acks(history, random),
            Mutation::ShiftWatermark => shift_watermark(history, random),
            Mutation::ShiftCommit | Mutation::SwapCommits | Mutation::DropCommit => self.of_commits(history, random),
            Mutation::ShiftEntry => shift_entry(history, random),
        }
    }

    /// One record, or two neighbours, of one poll.
    fn in_run(self, history: &mut History, random: &mut Rng) -> Option<String> {
        let place =
            draw(history, random, |event| ok_poll(event).is_some_and(|p| p.runs.iter().any(|r| r.records.len() > 2)))?;
        let never = next_value(history);
        let polled = polled_mut(history, place);
        let run = polled.runs.iter_mut().find(|run| run.records.len() > 2)?;
        // Neither the first nor the last: what is missing at an end, a shorter answer does not have either.
        let at = 1 + random.u64(..run.records.len() as u64 - 2) as usize;
        let Record { offset, value } = run.records[at];
        match self {
            Mutation::DropRecord => drop(run.records.remove(at)),
            Mutation::DuplicateRecord => {
                run.records[at + 1..].iter_mut().for_each(|record| record.offset += 1);
                run.records.insert(at + 1, Record { offset: offset + 1, value });
            }
            Mutation::SwapRecords => {
                (run.records[at].value, run.records[at - 1].value) = (run.records[at - 1].value, value);
            }
            _ => run.records[at].value = never,
        }
        Some(format!("{}: key {} offset {offset} (value {value}) of one poll", self.name(), run.key))
    }

    /// A value in all polls, acknowledgements and logs.
    fn everywhere(self, history: &mut History, random: &mut Rng) -> Option<String> {
        let (((worker, _), value, key), other) = match self {
            Mutation::SwapValues => {
                let (drawn, other) = draw_two_sends(history, random)?;
                (drawn, Some(other))
            }
            _ => (draw_read_send(history, random)?, None),
        };
        for event in history.workers.iter_mut().flatten() {
            match &mut event.body {
                Body::Polled(polled) => {
                    for run in polled.runs.iter_mut().filter(|run| run.key == key) {
                        self.in_records(&mut run.records, value, other);
                    }
                }
                Body::Entry(entry) if entry.key == key => self.in_values(&mut entry.values, value, other),
                _ => {}
            }
        }
        if let Some(other) = other {
            swap_offsets(history, worker, value, other);
        }
        Some(format!("{}: value {value} of key {key}, in everything that shows it", self.name()))
    }

    fn in_records(self, records: &mut Vec<Record>, value: u64, other: Option<u64>) {
        match self {
            Mutation::LoseValue => records.retain(|record| record.value != value),
            Mutation::DuplicateValue => {
                // The record behind it shows it as well.
                if let Some(at) = records.iter().position(|record| record.value == value)
                    && let Some(next) = records.get_mut(at + 1)
                {
                    next.value = value;
                }
            }
            _ => records.iter_mut().for_each(|record| record.value = swapped(record.value, value, other)),
        }
    }

    fn in_values(self, values: &mut Vec<u64>, value: u64, other: Option<u64>) {
        match self {
            // The log lost it: the rest keeps its offsets only up to there.
            Mutation::LoseValue => values.truncate(values.iter().position(|v| *v == value).unwrap_or(values.len())),
            Mutation::DuplicateValue => {}
            _ => values.iter_mut().for_each(|found| *found = swapped(*found, value, other)),
        }
    }

    /// A whole poll of a reader that leaves its position to its consumer.
    fn of_polls(self, history: &mut History, random: &mut Rng) -> Option<String> {
        let polls = polls_of_one_key(history, random)?;
        let (worker, first, second) = polls;
        let events = &mut history.workers[worker];
        match self {
            Mutation::DropPoll => {
                let op = events[first].op;
                events.retain(|event| event.op != op);
            }
            Mutation::SwapPolls => {
                let (one, two) = events.split_at_mut(second);
                std::mem::swap(&mut one[first].body, &mut two[0].body);
            }
            _ => {
                // At the time at which it ended: nothing else of that reader lies between.
                let copy = (events[first].clone(), events[first].op);
                let fresh = 1 + events.iter().map(|event| event.op).max()?;
                let begin = events.iter().find(|event| event.op == copy.1)?.clone();
                let end = Event { op: fresh, ..copy.0 };
                events.insert(first + 1, Event { op: fresh, at: end.at, ..begin });
                events.insert(first + 2, end);
            }
        }
        Some(format!("{}: one poll of worker {}", self.name(), history.names[worker]))
    }

    fn of_send(self, history: &mut History, random: &mut Rng) -> Option<String> {
        let ((worker, at), value, key) = draw_read_send(history, random)?;
        let events = &mut history.workers[worker];
        let op = events[at].op;
        match self {
            Mutation::DropSend => events.retain(|event| event.op != op),
            Mutation::DropAck => events.retain(|event| event.op != op || event.body.is_invocation()),
            Mutation::FailSend => {
                for event in events.iter_mut().filter(|event| event.op == op) {
                    if let Body::Sent(sent) = &mut event.body {
                        (sent.outcome, sent.error) = (Outcome::Fail, crate::rules::errors::NOT_SENT);
                    }
                }
            }
            _ => {
                let fresh = 1 + events.iter().map(|event| event.op).max()?;
                let last = events.last()?.clone();
                let again = Event { op: fresh, at: last.at, ..events[at].clone() };
                events.push(again);
            }
        }
        Some(format!("{}: value {value} of key {key}", self.name()))
    }

    fn of_acks(self, history: &mut History, random: &mut Rng) -> Option<String> {
        if self == Mutation::SwapAcks {
            let (((worker, _), value, key), other) = draw_two_sends(history, random)?;
            swap_offsets(history, worker, value, other);
            return Some(format!("{}: values {value} and {other} of key {key}", self.name()));
        }
        let ((worker, at), value, key) = draw_read_send(history, random)?;
        let op = history.workers[worker][at].op;
        let up = random.bool();
        for event in history.workers[worker].iter_mut().filter(|event| event.op == op) {
            if let Body::Sent(sent) = &mut event.body {
                let shift = if up || sent.offset == Some(0) { 1 } else { -1 };
                sent.offset = sent.offset.map(|offset| offset + shift);
            }
        }
        Some(format!("{}: the acknowledged offset of value {value} of key {key}", self.name()))
    }

    fn of_commits(self, history: &mut History, random: &mut Rng) -> Option<String> {
        if self == Mutation::SwapCommits {
            return swap_commits(history, random);
        }
        let committed = |event: &Event| matches!(&event.body, Body::FetchedCommit { stored: Some(_), .. });
        let place = draw(history, random, committed)?;
        let Body::FetchedCommit { stored: Some(stored), .. } = history.workers[place.0][place.1].body else {
            return None;
        };
        let worker =
            history.workers.iter().position(|events| events.iter().any(|event| is_commit(event, stored.id)))?;
        let at = history.workers[worker].iter().position(|event| is_commit(event, stored.id))?;
        let op = history.workers[worker][at].op;
        if self == Mutation::DropCommit {
            history.workers[worker].retain(|event| event.op != op);
            return Some(format!("{}: commit {} and its answer", self.name(), stored.id));
        }
        for event in history.workers.iter_mut().flatten() {
            match &mut event.body {
                Body::Commit(commit) if commit.id == stored.id => commit.offset += COMMIT_SHIFT,
                Body::FetchedCommit { stored: Some(read), .. } if read.id == stored.id => read.offset += COMMIT_SHIFT,
                _ => {}
            }
        }
        Some(format!("{}: commit {} is {COMMIT_SHIFT} further on, everywhere", self.name(), stored.id))
    }
}

/// Beyond everything that a group can have got by then.
const COMMIT_SHIFT: i64 = 1 << 40;

fn swapped(found: u64, value: u64, other: Option<u64>) -> u64 {
    match other {
        Some(other) if found == value => other,
        Some(other) if found == other => value,
        Some(_) | None => found,
    }
}

/// A place that the seed draws, among those that `wanted` takes.
fn draw(history: &History, random: &mut Rng, wanted: impl Fn(&Event) -> bool) -> Option<Place> {
    let mut places = vec![];
    for (worker, events) in history.workers.iter().enumerate() {
        places.extend(events.iter().enumerate().filter(|(_, e)| wanted(e)).map(|(at, _)| (worker, at)));
    }
    (!places.is_empty()).then(|| places[random.usize(..places.len())])
}

fn ok_poll(event: &Event) -> Option<&Polled> {
    match &event.body {
        Body::Polled(polled) if polled.outcome == Outcome::Ok => Some(polled),
        _ => None,
    }
}

fn polled_mut(history: &mut History, (worker, at): Place) -> &mut Polled {
    match &mut history.workers[worker][at].body {
        Body::Polled(polled) => polled,
        other => unreachable!("a poll was drawn: {other:?}"),
    }
}

fn next_value(history: &History) -> u64 {
    let values = history.workers.iter().flatten().filter_map(|event| match &event.body {
        Body::Send(send) => Some(send.value),
        _ => None,
    });
    values.max().map_or(0, |value| value + 1)
}

/// An acknowledged send that stands neither first nor last among what is read: its place, value and key.
fn draw_read_send(history: &History, random: &mut Rng) -> Option<(Place, u64, u32)> {
    let place =
        draw(history, random, |event| ok_poll(event).is_some_and(|p| p.runs.iter().any(|run| run.records.len() > 4)))?;
    let polled = ok_poll(&history.workers[place.0][place.1])?;
    let run = polled.runs.iter().find(|run| run.records.len() > 4)?;
    let inner = &run.records[1..run.records.len() - 2];
    let from = random.usize(..inner.len());
    let key = run.key;
    inner.iter().cycle().skip(from).take(inner.len()).find_map(|record| {
        let (worker, at) = send_of(history, record.value)?;
        let op = history.workers[worker][at].op;
        let answer = history.workers[worker][at..].iter().find(|e| e.op == op && e.body.is_completion())?;
        let acked = matches!(&answer.body, Body::Sent(sent) if sent.outcome == Outcome::Ok);
        acked.then_some(((worker, at), record.value, key))
    })
}

fn send_of(history: &History, value: u64) -> Option<Place> {
    let of = |event: &Event| matches!(&event.body, Body::Send(send) if send.value == value);
    history.workers.iter().enumerate().find_map(|(worker, events)| Some((worker, events.iter().position(of)?)))
}

/// As [`draw_read_send`], with the value of [`later_send`]; several draws, since not every send has one.
fn draw_two_sends(history: &History, random: &mut Rng) -> Option<((Place, u64, u32), u64)> {
    const DRAWS_MAX: u32 = 64;
    (0..DRAWS_MAX).find_map(|_| {
        let drawn = draw_read_send(history, random)?;
        let other = later_send(history, drawn.0.0, drawn.0.1, drawn.2)?;
        Some((drawn, other))
    })
}

/// The value of an acknowledged send of the same worker and key that began after the one at `at` had ended.
fn later_send(history: &History, worker: usize, at: usize, key: u32) -> Option<u64> {
    let events = &history.workers[worker];
    let op = events[at].op;
    let end = at + events[at..].iter().position(|event| event.op == op && event.body.is_completion())?;
    events[end..].iter().find_map(|event| match &event.body {
        Body::Send(send) if send.key == key => {
            let acked = |e: &Event| e.op == event.op && matches!(&e.body, Body::Sent(s) if s.outcome == Outcome::Ok);
            events.iter().any(acked).then_some(send.value)
        }
        _ => None,
    })
}

fn swap_offsets(history: &mut History, worker: usize, value: u64, other: u64) {
    let events = &mut history.workers[worker];
    let answer = |events: &[Event], value: u64| {
        let op = events.iter().find(|e| matches!(&e.body, Body::Send(send) if send.value == value))?.op;
        events.iter().position(|e| e.op == op && e.body.is_completion())
    };
    let (Some(one), Some(two)) = (answer(events, value), answer(events, other)) else { return };
    let offset = |events: &[Event], at: usize| match &events[at].body {
        Body::Sent(sent) => sent.offset,
        _ => None,
    };
    let offsets = (offset(events, one), offset(events, two));
    for (at, offset) in [(one, offsets.1), (two, offsets.0)] {
        if let Body::Sent(sent) = &mut events[at].body {
            sent.offset = offset;
        }
    }
}

fn shift_run(history: &mut History, random: &mut Rng) -> Option<String> {
    let place =
        draw(history, random, |event| ok_poll(event).is_some_and(|p| p.runs.iter().any(|r| r.records.len() > 1)))?;
    let run = polled_mut(history, place).runs.iter_mut().find(|run| run.records.len() > 1)?;
    let by = if random.bool() || run.records[0].offset == 0 { 1 } else { -1 };
    run.records.iter_mut().for_each(|record| record.offset += by);
    Some(format!("shift-run: key {} offset {}, all by {by}", run.key, run.records[0].offset - by))
}

fn shift_watermark(history: &mut History, random: &mut Rng) -> Option<String> {
    // In the final phase it has risen, so that going back by all of it shows.
    let marked = |event: &Event| {
        event.phase == Phase::Final
            && ok_poll(event).is_some_and(|p| p.runs.iter().any(|run| run.high_watermark > Some(0)))
    };
    let place = draw(history, random, marked)?;
    let run = polled_mut(history, place).runs.iter_mut().find(|run| run.high_watermark > Some(0))?;
    let was = run.high_watermark.replace(0)?;
    Some(format!("shift-watermark: key {}: {was} is 0", run.key))
}

fn shift_entry(history: &mut History, random: &mut Rng) -> Option<String> {
    let place = draw(history, random, |event| matches!(event.body, Body::Entry(_)))?;
    let Body::Entry(entry) = &mut history.workers[place.0][place.1].body else { return None };
    entry.term += 1;
    Some(format!("shift-entry: node {} key {} index {} is of the next term", entry.node, entry.key, entry.index))
}

fn is_commit(event: &Event, id: u64) -> bool {
    matches!(&event.body, Body::Commit(commit) if commit.id == id)
}

/// Two reads of one key that gave different commits, the later one's begun after the earlier one's had been read: each
/// gives the other's.
fn swap_commits(history: &mut History, random: &mut Rng) -> Option<String> {
    let reads = commit_reads(history);
    let from = random.usize(..reads.len().max(1));
    let begun = |id: u64| history.workers.iter().flatten().find(|event| is_commit(event, id)).map(|event| event.at);
    let ((one, first), (two, second)) =
        reads.iter().enumerate().cycle().skip(from).take(reads.len()).find_map(|(at, (place, read, key))| {
            let ended = history.workers[place.0][place.1].at;
            let later = reads[at..].iter().find(|(_, other, of)| {
                of == key && other.id != read.id && begun(other.id).is_some_and(|begun| begun > ended)
            })?;
            Some(((*place, *read), (later.0, later.1)))
        })?;
    for (place, stored) in [(one, second), (two, first)] {
        if let Body::FetchedCommit { stored: read, .. } = &mut history.workers[place.0][place.1].body {
            *read = Some(stored);
        }
    }
    Some(format!("swap-commits: the reads of commits {} and {}", first.id, second.id))
}

/// Reads that found a commit: the place of the answer, what it gave, the key; in order of time.
fn commit_reads(history: &History) -> Vec<(Place, crate::event::Stored, u32)> {
    let mut reads = vec![];
    for (worker, events) in history.workers.iter().enumerate() {
        let mut open = std::collections::HashMap::new();
        for (at, event) in events.iter().enumerate() {
            match event.body {
                Body::FetchCommit { key, .. } => drop(open.insert(event.op, key)),
                Body::FetchedCommit { stored: Some(stored), .. } => {
                    reads.extend(open.get(&event.op).map(|key| ((worker, at), stored, *key)));
                }
                _ => {}
            }
        }
    }
    reads.sort_by_key(|((worker, at), _, _)| history.workers[*worker][*at].at);
    reads
}

/// A worker whose polls name no position, and two of its answers with records of one key, one after the other.
fn polls_of_one_key(history: &History, random: &mut Rng) -> Option<(usize, usize, usize)> {
    let assigned = |event: &Event| matches!(&event.body, Body::Poll(poll) if poll.from == From::Assigned);
    let workers: Vec<usize> =
        (0..history.workers.len()).filter(|worker| history.workers[*worker].iter().any(assigned)).collect();
    let worker = *workers.get(random.usize(..workers.len().max(1)))?;
    let events = &history.workers[worker];
    let key = |event: &Event| ok_poll(event)?.runs.iter().find(|run| !run.records.is_empty()).map(|run| run.key);
    let answers: Vec<(usize, u32)> =
        events.iter().enumerate().filter_map(|(at, event)| Some((at, key(event)?))).collect();
    let from = random.usize(..answers.len().max(1));
    answers.iter().enumerate().cycle().skip(from).take(answers.len()).find_map(|(n, (at, key))| {
        // One before, so that what is missing is missing between two.
        answers[..n].iter().find(|(_, other)| other == key)?;
        let next = answers[n + 1..].iter().find(|(_, other)| other == key)?;
        Some((worker, *at, next.0))
    })
}
