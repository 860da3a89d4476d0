//! What goes in and out of each topic through this broker.
//!
//! Labels hold names of topics, so series are bounded: topics beyond [`TOPICS_MAX`] share one. A topic whose
//! last replica leaves this broker takes its series with it; counters begin again if one comes back.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};

use super::labels::UNPOISONED;

/// Topics with series of their own: 4,000 series, about half a megabyte a scrape.
pub const TOPICS_MAX: usize = 1_000;
/// The series that all other topics share. No topic may be called so.
const OTHERS: &str = "(others)";

/// One topic's counters. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct TopicTraffic(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    produced_records: AtomicU64,
    produced_bytes: AtomicU64,
    consumed_records: AtomicU64,
    consumed_bytes: AtomicU64,
}

impl TopicTraffic {
    /// Records were acknowledged.
    pub fn produced(&self, records: u64, bytes: u64) {
        self.0.produced_records.fetch_add(records, Relaxed);
        self.0.produced_bytes.fetch_add(bytes, Relaxed);
    }

    /// Records were sent to a reader.
    pub fn consumed(&self, records: u64, bytes: u64) {
        self.0.consumed_records.fetch_add(records, Relaxed);
        self.0.consumed_bytes.fetch_add(bytes, Relaxed);
    }
}

/// The counters of all topics with a replica here. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    topics: BTreeMap<String, Weak<Counts>>,
    others: TopicTraffic,
}

impl Traffic {
    /// A topic's counters, kept for as long as anybody holds them.
    pub fn of(&self, topic: &str) -> TopicTraffic {
        let mut table = self.0.lock().expect(UNPOISONED);
        if let Some(counts) = table.topics.get(topic).and_then(Weak::upgrade) {
            return TopicTraffic(counts);
        }
        if table.topics.len() >= TOPICS_MAX {
            table.topics.retain(|_, counts| counts.strong_count() > 0);
        }
        if table.topics.len() >= TOPICS_MAX {
            return table.others.clone();
        }
        let new = TopicTraffic::default();
        table.topics.insert(topic.to_string(), Arc::downgrade(&new.0));
        new
    }

    fn read(&self) -> Vec<(String, Arc<Counts>)> {
        let table = self.0.lock().expect(UNPOISONED);
        let topics = table.topics.iter().filter_map(|(name, counts)| Some((name.clone(), counts.upgrade()?)));
        let mut read: Vec<_> = topics.collect();
        if read.len() >= TOPICS_MAX {
            read.push((OTHERS.to_string(), Arc::clone(&table.others.0)));
        }
        read
    }
}

#[derive(Debug)]
pub(super) struct TrafficCollector(pub Traffic);

impl Collector for TrafficCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let topics = self.0.read();
        if topics.is_empty() {
            return Ok(());
        }
        type Read = fn(&Counts) -> &AtomicU64;
        let families: [(&str, &str, Option<&Unit>, Read); 4] = [
            ("topic_produced_records", "Records of a topic acknowledged here.", None, |c| &c.produced_records),
            ("topic_produced", "Bytes of a topic acknowledged here.", Some(&Unit::Bytes), |c| &c.produced_bytes),
            ("topic_consumed_records", "Records of a topic sent to readers.", None, |c| &c.consumed_records),
            ("topic_consumed", "Bytes of a topic sent to readers.", Some(&Unit::Bytes), |c| &c.consumed_bytes),
        ];
        for (name, help, unit, count) in families {
            let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
            for (topic, counts) in &topics {
                let labels = [("topic", topic.as_str())];
                ConstCounter::new(count(counts).load(Relaxed)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn each_topic_has_its_series_until_it_leaves() {
        let metrics = Metrics::new();
        let (orders, flights) = (metrics.requests().topic("orders"), metrics.requests().topic("flights"));
        orders.produced(3, 300);
        metrics.requests().topic("orders").consumed(1, 90);
        flights.produced(1, 10);
        let text = metrics.encode();
        for line in [
            "flotilla_topic_produced_records_total{topic=\"orders\"} 3",
            "flotilla_topic_produced_bytes_total{topic=\"orders\"} 300",
            "flotilla_topic_consumed_records_total{topic=\"orders\"} 1",
            "flotilla_topic_consumed_bytes_total{topic=\"orders\"} 90",
            "flotilla_topic_produced_records_total{topic=\"flights\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
        drop(orders);
        let text = metrics.encode();
        assert!(!text.contains("topic=\"orders\"") && text.contains("topic=\"flights\""), "{text}");
    }

    #[test]
    fn topics_beyond_the_limit_share_a_series() {
        let metrics = Metrics::new();
        let held: Vec<TopicTraffic> = (0..TOPICS_MAX + 5).map(|n| metrics.requests().topic(&format!("t{n}"))).collect();
        held.iter().for_each(|topic| topic.produced(1, 1));
        let text = metrics.encode();
        let series = text.lines().filter(|line| line.starts_with("flotilla_topic_produced_records_total{")).count();
        assert_eq!(series, TOPICS_MAX + 1);
        assert!(text.contains("flotilla_topic_produced_records_total{topic=\"(others)\"} 5"), "{text}");
    }
}
