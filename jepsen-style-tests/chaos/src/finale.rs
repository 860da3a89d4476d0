//! The end of a run: everything healed and started, every partition read to its end, every replica's log dumped.

use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};

use flotilla::client::{ConsumeOptions, Consumer, Gaps, PartitionId, TopicPartition};
use logcheck::{
    event::{Body, Entry, From, Outcome, Phase, Poll, Polled, Replica},
    recorder::{Recorder, Worker},
    rules::polls::OUT_OF_RANGE,
};
use serde::Deserialize;

use crate::{
    cluster::Cluster,
    error::ChaosError,
    workload::{process, read},
};

/// How long a partition may take to find a leader that serves it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The values of a partition by offset, as the final reads saw them.
pub type Seen = BTreeMap<i64, u64>;

/// Records the end of a run.
pub struct Finale {
    pub cluster: Arc<Cluster>,
    pub recorder: Recorder,
    pub run: u32,
    pub topic: Arc<str>,
    /// What is read may be trimmed at that moment.
    pub gaps: Gaps,
    pub history: std::path::PathBuf,
}

impl Finale {
    fn worker(&self, name: &str) -> Result<Worker, ChaosError> {
        let mut worker =
            self.recorder.worker(name).map_err(ChaosError::file("cannot write the history below", &self.history))?;
        worker.enter(Phase::Final);
        Ok(worker)
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> ChaosError + '_ {
        |error| ChaosError::file("cannot write the history below", &self.history)(error)
    }

    /// Reads every partition from its beginning to its end.
    pub async fn read_all(&self, partitions: u32) -> Result<Vec<Seen>, ChaosError> {
        let client = self.cluster.client()?;
        let mut worker = self.worker("final")?;
        let mut all = vec![];
        for key in 0..partitions {
            let at = TopicPartition::new(&*self.topic, PartitionId(key as i32));
            let options =
                ConsumeOptions { stop_at_end: true, patience: PATIENCE, gaps: self.gaps, ..ConsumeOptions::default() };
            let what = || format!("the final read of {at}");
            let mut consumer =
                Consumer::open(&client, at.clone(), options).await.map_err(ChaosError::client(what()))?;
            let (process, mut seen) = (process::FINAL + key, Seen::new());
            loop {
                let from = From::Fetch { key, position: consumer.position().0 };
                let op = worker.begin(process, Body::Poll(Poll { from, node: 0 })).map_err(self.failed())?;
                let chunk = match consumer.next().await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) => {
                        let polled = Polled { outcome: Outcome::Ok, ..Polled::default() };
                        worker.complete(process, op, Body::Polled(polled)).map_err(self.failed())?;
                        break;
                    }
                    Err(error) => return Err(ChaosError::Client { what: what(), error }),
                };
                if chunk.notice.is_some() {
                    let polled = Polled { outcome: Outcome::Fail, error: OUT_OF_RANGE, runs: vec![] };
                    worker.complete(process, op, Body::Polled(polled)).map_err(self.failed())?;
                    continue;
                }
                let runs = read::runs(self.run, key, &chunk, Some((chunk.high_watermark.0, chunk.log_start.0)));
                let records = runs.iter().flat_map(|run| &run.records);
                seen.extend(records.map(|record| (record.offset, record.value)));
                let polled = Polled { outcome: Outcome::Ok, error: 0, runs };
                worker.complete(process, op, Body::Polled(polled)).map_err(self.failed())?;
            }
            all.push(seen);
        }
        worker.finish().map_err(self.failed())?;
        Ok(all)
    }

    /// Dumps the committed log of every replica of the stopped cluster into the history. A log does not name the values
    /// of its records, so those are taken that the final reads saw at its offsets.
    pub async fn dump_all(&self, seen: Vec<Seen>) -> Result<(), ChaosError> {
        let mut worker = self.worker("dump")?;
        // What one that was given up has is not what it had last.
        for node in self.cluster.nodes().iter().filter(|node| !node.is_given_up()) {
            let text = self.dump(node.id).await?;
            let mut logs: BTreeMap<u32, Vec<Dumped>> = BTreeMap::new();
            for line in text.lines() {
                let dumped: Dumped = serde_json::from_str(line)
                    .map_err(|error| ChaosError::Broken(format!("dump-log of {}: {error}: {line}", node.name())))?;
                if dumped.topic == *self.topic {
                    logs.entry(dumped.partition).or_default().push(dumped);
                }
            }
            for (key, log) in logs {
                let nothing = Seen::new();
                let seen = seen.get(key as usize).unwrap_or(&nothing);
                let process = process::DUMPS + u32::from(node.id);
                for body in replica(node.id, key, &log, seen) {
                    worker.begin(process, body).map_err(self.failed())?;
                }
            }
        }
        worker.finish().map_err(self.failed())
    }

    async fn dump(&self, id: u8) -> Result<String, ChaosError> {
        let mut command = Command::new(self.cluster.binary());
        command.args(["dump-log", "--format", "json", "--dir"]).arg(self.cluster.node(id).data_dir());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.map_err(|error| ChaosError::Broken(error.to_string()))?;
        let program = || format!("{} dump-log", self.cluster.binary().display());
        let output = output.map_err(|error| ChaosError::Program { program: program(), error })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(ChaosError::Dump { node: self.cluster.node(id).name(), said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A line of `flotilla dump-log --format json`.
#[derive(Debug, Deserialize)]
struct Dumped {
    topic: String,
    partition: u32,
    index: u64,
    term: u64,
    kind: String,
    base_offset: Option<i64>,
    count: Option<u32>,
    crc: String,
}

/// What a replica's log is in a history: its entries, and its end.
fn replica(node: u8, key: u32, log: &[Dumped], seen: &Seen) -> Vec<Body> {
    let (mut next, mut log_start) = (None, 0);
    let mut bodies = vec![];
    for entry in log {
        let offsets = match (entry.kind.as_str(), entry.base_offset, entry.count) {
            // One whose offset is not the next is dead: it took an index, and no offsets.
            ("append", Some(base), Some(count)) if next.is_none_or(|next| next == base) => {
                next = Some(base + i64::from(count));
                base..base + i64::from(count)
            }
            ("trim", Some(before), _) => {
                log_start = log_start.max(before);
                0..0
            }
            _ => 0..0,
        };
        // Of an entry that the log start lies in, the rest is left: it begins there.
        let base_offset = seen.range(offsets.clone()).next().map(|(offset, _)| *offset).or(entry.base_offset);
        let values = seen.range(offsets).map(|(_, value)| *value).collect();
        let crc = u64::from_str_radix(&entry.crc, 16).unwrap_or(u64::MAX);
        let kind: u64 = entry.kind.bytes().map(u64::from).sum();
        bodies.push(Body::Entry(Entry {
            node,
            key,
            index: entry.index,
            term: entry.term,
            hash: kind << 32 | crc,
            base_offset: base_offset.unwrap_or(-1),
            values,
        }));
    }
    let committed_index = log.iter().map(|entry| entry.index).max().unwrap_or(0);
    bodies.push(Body::Replica(Replica { node, key, committed_index, log_start, state_hash: None }));
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(line: &str) -> Dumped {
        serde_json::from_str(line).expect("a line of dump-log")
    }

    #[test]
    fn an_entry_that_the_log_start_lies_in_has_what_is_left_of_it() {
        let log = [dumped(
            r#"{"topic":"t","partition":0,"group":3,"index":9,"term":2,"kind":"append","base_offset":5,"count":3,"crc":"0000000a"}"#,
        )];
        let seen = [(6, 16), (7, 17), (8, 18)].into_iter().collect();
        let bodies = replica(1, 0, &log, &seen);
        let Some(Body::Entry(entry)) = bodies.first() else { panic!("no entry: {bodies:?}") };
        assert_eq!((entry.base_offset, &entry.values[..]), (6, &[16, 17][..]));
    }

    #[test]
    fn a_dead_entry_has_no_values() {
        let log = [
            dumped(r#"{"topic":"t","partition":0,"group":3,"index":0,"term":1,"kind":"blank","crc":"00000000"}"#),
            dumped(
                r#"{"topic":"t","partition":0,"group":3,"index":1,"term":1,"kind":"append","base_offset":0,"count":2,"crc":"0000000a"}"#,
            ),
            dumped(
                r#"{"topic":"t","partition":0,"group":3,"index":2,"term":1,"kind":"append","base_offset":7,"count":1,"crc":"0000000b"}"#,
            ),
            dumped(
                r#"{"topic":"t","partition":0,"group":3,"index":3,"term":2,"kind":"append","base_offset":2,"count":1,"crc":"0000000c"}"#,
            ),
        ];
        let seen = [(0, 10), (1, 11), (2, 12), (7, 13)].into_iter().collect();
        let values: Vec<Vec<u64>> = replica(1, 0, &log, &seen)
            .into_iter()
            .filter_map(|body| match body {
                Body::Entry(entry) => Some(entry.values),
                _ => None,
            })
            .collect();
        assert_eq!(values, [vec![], vec![10, 11], vec![], vec![12]]);
    }
}
