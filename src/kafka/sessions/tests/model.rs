//! A client with a session, against one that asks for everything each time: both see the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kafka::sessions::table::NO_SESSION;

const PARTITIONS: i32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Append(i32, i64),
    Trim(i32, i64),
    /// Its leader goes, or comes back.
    Toggle(i32),
    /// The client begins to read a partition, or ends it.
    Subscribe(i32),
    Seek(i32),
    /// Has room for so many batches.
    Fetch(usize),
    /// The connection breaks, and the next one begins.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..PARTITIONS, 1..10_i64).prop_map(|(partition, records)| Step::Append(partition, records)),
        2 => (0..PARTITIONS, 1..10_i64).prop_map(|(partition, records)| Step::Trim(partition, records)),
        1 => (0..PARTITIONS).prop_map(Step::Toggle),
        2 => (0..PARTITIONS).prop_map(Step::Subscribe),
        2 => (0..PARTITIONS).prop_map(Step::Seek),
        6 => (0..4_usize).prop_map(Step::Fetch),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A partition as its leader has it. Each record is a batch.
#[derive(Clone, Copy, Default)]
struct Log {
    start: i64,
    end: i64,
    is_gone: bool,
}

/// What a client that asks for everything is told of a partition beside its records: all that it has to know.
fn told_in_full(log: &Log, position: i64) -> PartitionSeen {
    let is_refused = log.is_gone || position < log.start || position > log.end;
    match log.is_gone {
        true => refused(),
        false => PartitionSeen {
            has_records: false,
            is_refused,
            high_watermark: Offset(log.end),
            log_start: Offset(log.start),
        },
    }
}

/// A client as KIP-227 has it.
#[derive(Default)]
struct Client {
    owner: u64,
    id: i32,
    epoch: i32,
    positions: BTreeMap<i32, i64>,
    /// What the broker knows of its positions.
    sent: BTreeMap<i32, i64>,
    /// What it heard of each partition last.
    heard: BTreeMap<i32, PartitionSeen>,
}

impl Client {
    fn asking(&mut self) -> SessionAsk {
        let is_new = |(partition, offset): &(&i32, &i64)| self.sent.get(partition) != Some(offset);
        let wanted: Vec<_> =
            self.positions.iter().filter(is_new).map(|(partition, offset)| at(*partition, *offset)).collect();
        let gone = self.sent.keys().filter(|partition| !self.positions.contains_key(partition));
        let forgotten = gone.map(|partition| (named("t"), *partition)).collect();
        self.sent = self.positions.clone();
        SessionAsk { forgotten, ..ask(self.id, self.epoch, &wanted) }
    }

    fn begin_anew(&mut self) {
        (self.id, self.epoch) = (NO_SESSION, 0);
        self.sent.clear();
    }

    /// One request and its answer.
    fn fetch(&mut self, table: &mut SessionTable, logs: &[Log], mut room: usize, now: Duration) {
        let epoch = self.epoch;
        let plan = table.begin(self.owner, self.asking(), now).expect("nobody else uses the session");
        assert_eq!(plan.wanted.len(), self.positions.len(), "all that it reads is read");
        let mut seen = Vec::new();
        for wanted in &plan.wanted {
            let log = &logs[wanted.partition as usize];
            let mut told = told_in_full(log, wanted.offset.0);
            told.has_records = !told.is_refused && wanted.offset.0 < log.end && room > 0;
            room -= usize::from(told.has_records);
            seen.push(told);
        }
        let news = plan.turn.and_then(|turn| table.answer(turn, &seen).expect("the session is there"));
        for (place, (wanted, told)) in plan.wanted.iter().zip(&seen).enumerate() {
            if news.as_ref().is_some_and(|news| !news[place]) {
                continue;
            }
            let position = self.positions.get_mut(&wanted.partition).expect("it is told of what it asked for");
            assert_eq!(wanted.offset.0, *position, "it is read from where the client is");
            *position += i64::from(told.has_records);
            self.heard.insert(wanted.partition, PartitionSeen { has_records: false, ..*told });
        }
        self.heard.retain(|partition, _| self.positions.contains_key(partition));
        match plan.turn {
            Some(turn) => (self.id, self.epoch) = (turn.session, next_epoch(epoch)),
            None => self.begin_anew(),
        }
    }
}

proptest! {
    #[test]
    fn a_client_with_a_session_hears_what_it_would_hear_without(steps in steps()) {
        let mut table = SessionTable::new(LIMITS);
        let mut logs = [Log::default(); PARTITIONS as usize];
        let mut client = Client { owner: ME, ..Client::default() };
        for (moment, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(partition, records) => logs[partition as usize].end += records,
                Step::Trim(partition, records) => {
                    let log = &mut logs[partition as usize];
                    log.start = (log.start + records).min(log.end);
                }
                Step::Toggle(partition) => logs[partition as usize].is_gone ^= true,
                Step::Subscribe(partition) => {
                    let position = logs[partition as usize].start;
                    if client.positions.remove(&partition).is_none() {
                        client.positions.insert(partition, position);
                    }
                }
                Step::Seek(partition) => {
                    if let Some(position) = client.positions.get_mut(&partition) {
                        *position = logs[partition as usize].start;
                    }
                }
                Step::Fetch(room) => {
                    let before = client.positions.clone();
                    client.fetch(&mut table, &logs, room, SECOND * moment as u32);
                    for (partition, position) in &before {
                        let expected = told_in_full(&logs[*partition as usize], *position);
                        prop_assert_eq!(client.heard.get(partition), Some(&expected), "partition {}", partition);
                    }
                }
                Step::Reconnect => {
                    table.end_all_of(client.owner);
                    client.owner += 1;
                    client.begin_anew();
                }
            }
            prop_assert_eq!(table.totals(), table.counted());
        }
        // Whatever is left to read is read, and no partition waits for longer than all others take.
        let left = |client: &Client| {
            let is_left = |(partition, position): (&i32, &i64)| {
                let log = &logs[*partition as usize];
                !told_in_full(log, *position).is_refused && *position < log.end
            };
            client.positions.iter().filter(|entry| is_left(*entry)).map(|(partition, _)| *partition).collect::<Vec<_>>()
        };
        let waiting = left(&client);
        let before = client.positions.clone();
        for _ in 0..PARTITIONS {
            client.fetch(&mut table, &logs, 1, SECOND * 1_000);
        }
        for partition in waiting {
            prop_assert!(client.positions[&partition] > before[&partition], "partition {} starves", partition);
        }
    }
}
