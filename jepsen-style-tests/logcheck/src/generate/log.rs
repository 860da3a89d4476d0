//! The log that is made up: a list of values for each key, with the epochs in which they were appended.

use std::io;

use super::Recording;
use crate::event::{Body, Entry, Phase, Record, Replica, Run};

pub struct Log {
    keys: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    values: Vec<u64>,
    /// (first offset, epoch) of each epoch, ascending.
    epochs: Vec<(i64, i32)>,
}

/// Nodes of the made-up cluster.
const NODES: u8 = 3;
/// Records of an entry of a replica's log.
const ENTRY_RECORDS: usize = 100;

impl Log {
    pub fn new(keys: u32) -> Log {
        Log { keys: (0..keys).map(|_| Partition { values: vec![], epochs: vec![(0, 1)] }).collect() }
    }

    /// Appends a value. Gives back its offset.
    pub fn append(&mut self, key: u32, value: u64) -> i64 {
        let partition = &mut self.keys[key as usize];
        partition.values.push(value);
        partition.values.len() as i64 - 1
    }

    pub fn end(&self, key: u32) -> i64 {
        self.keys[key as usize].values.len() as i64
    }

    pub fn epoch(&self, key: u32) -> i32 {
        self.keys[key as usize].epochs.last().map_or(0, |(_, epoch)| *epoch)
    }

    /// Who leads a key.
    pub fn leader(&self, key: u32) -> u8 {
        (self.epoch(key) as u32 + key) as u8 % NODES + 1
    }

    /// A new leader.
    pub fn elect(&mut self, key: u32) {
        let (end, epoch) = (self.end(key), self.epoch(key));
        self.keys[key as usize].epochs.push((end, epoch + 1));
    }

    /// Where an epoch that has begun ends.
    pub fn epoch_end(&self, key: u32, epoch: i32) -> i64 {
        let next = self.keys[key as usize].epochs.iter().find(|(_, found)| *found > epoch);
        next.map_or_else(|| self.end(key), |(first, _)| *first)
    }

    /// Up to so many records from `position` on: a run for each epoch. One without records, if there are none.
    pub fn read(&self, key: u32, position: i64, count: u64) -> Vec<Run> {
        let partition = &self.keys[key as usize];
        let end = self.end(key).min(position + count as i64);
        let ends = (Some(self.end(key)), Some(0));
        let run = |records, epoch| Run { key, records, high_watermark: ends.0, log_start: ends.1, epoch };
        if position >= end {
            return vec![run(vec![], None)];
        }
        let mut runs: Vec<Run> = vec![];
        let mut epoch = partition.epochs.partition_point(|(first, _)| *first <= position) - 1;
        let mut records = vec![];
        for offset in position..end {
            while partition.epochs.get(epoch + 1).is_some_and(|(first, _)| *first <= offset) {
                if !records.is_empty() {
                    runs.push(run(std::mem::take(&mut records), Some(partition.epochs[epoch].1)));
                }
                epoch += 1;
            }
            records.push(Record { offset, value: partition.values[offset as usize] });
        }
        runs.push(run(records, Some(partition.epochs[epoch].1)));
        runs
    }

    /// What all replicas' directories hold after the run.
    pub fn dump(&self, recording: &mut Recording, worker: usize) -> io::Result<()> {
        for node in 1..=NODES {
            for (key, partition) in (0u32..).zip(&self.keys) {
                let mut index = 0;
                for (at, values) in (0..).zip(partition.values.chunks(ENTRY_RECORDS)) {
                    let base_offset = at * ENTRY_RECORDS as i64;
                    let term = partition.epochs.iter().rev().find(|(first, _)| *first <= base_offset);
                    let term = term.map_or(0, |(_, epoch)| *epoch as u64);
                    let hash = values.iter().fold(term, |hash, value| hash.wrapping_mul(31).wrapping_add(*value));
                    index += 1;
                    let values = values.to_vec();
                    let entry = Body::Entry(Entry { node, key, index, term, hash, base_offset, values });
                    recording.put(worker, 0, 0, Phase::Final, entry)?;
                }
                let state_hash = Some(partition.values.len() as u64);
                let end = Replica { node, key, committed_index: index, log_start: 0, state_hash };
                recording.put(worker, 0, 0, Phase::Final, Body::Replica(end))?;
            }
        }
        Ok(())
    }
}
