//! What clients were refused, or closed for, to protect the others.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::labels::{ConnectionRefusal, HeldUp, ReasonLabel};

/// A limit at which requests are refused while it lasts: how often, a metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Batches that wait for a partition's appender.
    ProduceQueue,
    /// How long a batch waits while the leadership of its partition is moved.
    LeadershipMove,
    /// Fetches that read from disk at once.
    FetchReads,
    /// Look-ups by time at once.
    TimeLookUps,
    /// Requests of other brokers that are worked on at once.
    BrokerCalls,
    /// Pages of records that the console reads at once.
    ConsolePages,
    ConsoleRequests,
    /// Calls with one request that are worked on at once.
    Calls,
    ProduceStreams,
    ConsumeStreams,
    /// Bytes of messages that arrive in pieces.
    SmallMessages,
    LargeMessages,
    /// How long a call's one request may take to arrive.
    LateMessages,
    /// Bytes of answers that are not taken.
    Answers,
    /// Bytes of decompressed batches.
    Decoded,
    /// Bytes of Kafka's Produce requests that arrive.
    KafkaProduces,
    /// Bytes of Kafka's other requests, until they are answered.
    KafkaRequests,
}

impl Limit {
    pub const ALL: [Limit; 17] = [
        Limit::ProduceQueue,
        Limit::LeadershipMove,
        Limit::FetchReads,
        Limit::TimeLookUps,
        Limit::BrokerCalls,
        Limit::ConsolePages,
        Limit::ConsoleRequests,
        Limit::Calls,
        Limit::ProduceStreams,
        Limit::ConsumeStreams,
        Limit::SmallMessages,
        Limit::LargeMessages,
        Limit::LateMessages,
        Limit::Answers,
        Limit::Decoded,
        Limit::KafkaProduces,
        Limit::KafkaRequests,
    ];

    /// The limit's name in the metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Limit::ProduceQueue => "produce_queue",
            Limit::LeadershipMove => "leadership_move",
            Limit::FetchReads => "fetch_reads",
            Limit::TimeLookUps => "time_look_ups",
            Limit::BrokerCalls => "broker_calls",
            Limit::ConsolePages => "console_pages",
            Limit::ConsoleRequests => "console_requests",
            Limit::Calls => "calls",
            Limit::ProduceStreams => "produce_streams",
            Limit::ConsumeStreams => "consume_streams",
            Limit::SmallMessages => "small_messages",
            Limit::LargeMessages => "large_messages",
            Limit::LateMessages => "late_messages",
            Limit::Answers => "answers",
            Limit::Decoded => "decoded",
            Limit::KafkaProduces => "kafka_produces",
            Limit::KafkaRequests => "kafka_requests",
        }
    }
}

/// Counts of the listeners. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct IntakeProbe {
    connections_refused: Family<ReasonLabel, Counter>,
    slow_peers_closed: Family<ReasonLabel, Counter>,
    refused: Family<LimitLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

impl IntakeProbe {
    /// A connection was closed as soon as it was accepted, or could not be accepted.
    pub fn connection_refused(&self, why: ConnectionRefusal) {
        self.connections_refused.get_or_create(&ReasonLabel { reason: why.name() }).inc();
    }

    /// Connections were closed because others waited for what their peers held up.
    pub fn slow_peers_closed(&self, what: HeldUp, count: u64) {
        self.slow_peers_closed.get_or_create(&ReasonLabel { reason: what.name() }).inc_by(count);
    }

    /// A request was refused with an error that says to come again.
    pub fn refused_at(&self, limit: Limit) {
        self.refused.get_or_create(&LimitLabel { limit: limit.name() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Connections closed at once, or not accepted, by reason";
        registry.register("connections_refused", help, self.connections_refused.clone());
        let help = "Connections closed because others waited for what their peers held up, by what was held";
        registry.register("slow_peers_closed", help, self.slow_peers_closed.clone());
        // There from the start, so that the first refusal is an increase.
        for limit in Limit::ALL {
            drop(self.refused.get_or_create(&LimitLabel { limit: limit.name() }));
        }
        registry.register("limit_refusals", "Requests refused at a limit, by limit", self.refused.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn every_limit_has_a_series_before_it_is_reached_and_a_line_in_the_table() {
        let metrics = Metrics::new();
        metrics.intake().refused_at(Limit::FetchReads);
        let text = metrics.encode();
        let table = include_str!("../limits.md");
        for limit in Limit::ALL {
            let (name, count) = (limit.name(), u32::from(limit == Limit::FetchReads));
            let line = format!("flotilla_limit_refusals_total{{limit=\"{name}\"}} {count}");
            assert!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
            assert!(table.contains(&format!("`{name}`")), "limits.md does not say what {name} is");
        }
        let names: BTreeSet<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}
