//! What was acknowledged when: counted while it happens, for the progress line, throughput and recovery times.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::run::Span;

/// The finest span over which throughput is told.
const BUCKET_NS: u64 = 100_000_000;

/// An acknowledged batch of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub at: u64,
    pub epoch: u64,
}

/// Counts for all workloads of a run. Times are nanoseconds of the recorder's clock.
#[derive(Debug)]
pub struct Tally {
    sent: AtomicU64,
    acked: AtomicU64,
    unknown: AtomicU64,
    failed: AtomicU64,
    read: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    /// Records that were acknowledged, for each tenth of a second.
    buckets: Vec<u32>,
    /// Acknowledged batches, for each partition of the main topic.
    acks: Vec<Vec<Ack>>,
}

impl Tally {
    pub fn new(partitions: u32) -> Tally {
        let acks = (0..partitions).map(|_| vec![]).collect();
        Tally {
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            read: AtomicU64::new(0),
            counts: Mutex::new(Counts { buckets: vec![], acks }),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panics while counting")
    }

    pub fn sent(&self, records: u64) {
        self.sent.fetch_add(records, Ordering::Relaxed);
    }

    /// Records of the main topic were acknowledged, and nobody says by which leader.
    pub fn acked_by_others(&self, at: u64, records: u64) {
        self.acked.fetch_add(records, Ordering::Relaxed);
        let mut counts = self.counts();
        let bucket = (at / BUCKET_NS) as usize;
        if counts.buckets.len() <= bucket {
            counts.buckets.resize(bucket + 1, 0);
        }
        counts.buckets[bucket] += records as u32;
    }

    /// A batch of the main topic was acknowledged.
    pub fn acked(&self, partition: u32, ack: Ack, records: u64) {
        self.acked_by_others(ack.at, records);
        let mut counts = self.counts();
        if let Some(acks) = counts.acks.get_mut(partition as usize) {
            acks.push(ack);
        }
    }

    pub fn unknown(&self, records: u64) {
        self.unknown.fetch_add(records, Ordering::Relaxed);
    }

    pub fn failed(&self, records: u64) {
        self.failed.fetch_add(records, Ordering::Relaxed);
    }

    pub fn read(&self, records: u64) {
        self.read.fetch_add(records, Ordering::Relaxed);
    }

    pub fn acked_total(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Sent, acknowledged, unknown, failed, read.
    pub fn totals(&self) -> [u64; 5] {
        [&self.sent, &self.acked, &self.unknown, &self.failed, &self.read].map(|count| count.load(Ordering::Relaxed))
    }

    /// Acknowledged records in a second, over all of these spans together. None: they are no time at all.
    pub fn rate(&self, spans: &[Span]) -> Option<f64> {
        let counts = self.counts();
        let (mut records, mut buckets) = (0u64, 0u64);
        for span in spans {
            let (from, to) = (span.from.div_ceil(BUCKET_NS), span.to / BUCKET_NS);
            for bucket in from..to {
                records += u64::from(counts.buckets.get(bucket as usize).copied().unwrap_or(0));
                buckets += 1;
            }
        }
        (buckets > 0).then(|| records as f64 / (buckets as f64 * BUCKET_NS as f64 / 1e9))
    }

    /// How long the partition was without acknowledgements after something began at `at` that was over by `until`: until
    /// the first one by a later leader, if there came one; else the longest silence. From `next` on it is the silence of
    /// something else.
    pub fn recovery(&self, partition: u32, at: u64, until: u64, next: u64) -> Option<Duration> {
        let counts = self.counts();
        let acks = counts.acks.get(partition as usize)?;
        let begins = acks.partition_point(|ack| ack.at < at);
        let before = begins.checked_sub(1).map(|last| acks[last]);
        let after = &acks[begins..];
        let led_on = after.iter().take_while(|ack| ack.at <= until);
        let later = led_on.clone().find(|ack| before.is_some_and(|before| ack.epoch > before.epoch));
        if let Some(later) = later {
            return Some(Duration::from_nanos(later.at - at));
        }
        // The last one counted is the first after the span: a silence that began in it may end after it.
        let within = led_on.count();
        let mut last = at;
        let silences = after.iter().take(within + 1).map(|ack| {
            let silence = ack.at.min(next).saturating_sub(last);
            last = ack.at;
            silence
        });
        silences.max().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_rate_counts_whole_buckets_of_all_spans() {
        let tally = Tally::new(1);
        for ms in 0..1_000 {
            tally.acked(0, Ack { at: ms * MS, epoch: 1 }, if ms < 500 { 10 } else { 2 });
        }
        let span = |from, to| Span { from: from * MS, to: to * MS };
        assert_eq!(tally.rate(&[span(0, 500)]), Some(10_000.0));
        assert_eq!(tally.rate(&[span(450, 650)]), Some(2_000.0));
        assert_eq!(tally.rate(&[span(0, 500), span(500, 1_000)]), Some(6_000.0));
        assert_eq!(tally.rate(&[span(10, 90)]), None);
        assert_eq!(tally.acked_total(), 6_000);
    }

    #[test]
    fn recovery_ends_with_the_next_leader_or_is_the_longest_silence() {
        let tally = Tally::new(2);
        let ack = |partition, ms, epoch| tally.acked(partition, Ack { at: ms * MS, epoch }, 1);
        for ms in (0..1_000).step_by(10) {
            ack(0, ms, 1);
        }
        ack(0, 1_003, 1);
        ack(0, 2_500, 2);
        let took = |partition, at: u64, until: u64| tally.recovery(partition, at * MS, until * MS, u64::MAX);
        assert_eq!(took(0, 1_001, 5_000), Some(Duration::from_millis(1_499)));
        assert_eq!(took(0, 500, 900), Some(Duration::from_millis(10)));
        for ms in [0, 10, 400, 410, 900] {
            ack(1, ms, 1);
        }
        assert_eq!(took(1, 5, 420), Some(Duration::from_millis(490)));
        assert_eq!(took(1, 1_000, 2_000), None);
        assert_eq!(took(7, 0, 1), None);
    }
}
