//! What Kafka clients ask, and which clients they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, RwLock},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use serde::{Deserialize, Serialize};

use super::labels::UNPOISONED;

/// Client software with series of its own; all other connections share one. It is the clients that name it.
pub const SOFTWARE_MAX: usize = 64;
/// The series that all other software shares. None is called so: names hold no brackets.
const OTHERS: &str = "(others)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    api: &'static str,
    version: i16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SoftwareLabel {
    software: String,
}

/// What a node knows of its Kafka clients. Travels between brokers for the console: it never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaClients {
    /// How many are open.
    pub connections: u64,
    pub fetch_sessions: u64,
    pub fetch_session_partitions: u64,
    /// Open connections by what the client said that it is, in order of names; those beyond `SOFTWARE_MAX` together.
    /// A connection that said nothing is in none of them.
    pub software: Vec<(String, u64)>,
    /// Requests since this node started, by API and version, in their order.
    pub requests: Vec<(String, i16, u64)>,
}

/// Counts of the listener for Kafka clients. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KafkaProbe {
    requests: Family<RequestLabel, Counter>,
    /// The same, where they can be listed.
    begun: Arc<RwLock<BTreeMap<(&'static str, i16), Counter>>>,
    connections: Gauge,
    by_software: Family<SoftwareLabel, Gauge>,
    sessions: Gauge,
    session_partitions: Gauge,
    sessions_evicted: Counter,
    sessions_refused: Counter,
    /// Open connections by what has a series of its own.
    named: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl KafkaProbe {
    /// A request began. Only those of versions that are served are counted, so that series are bounded.
    pub fn request_began(&self, api: &'static str, version: i16) {
        if let Some(begun) = self.begun.read().expect(UNPOISONED).get(&(api, version)) {
            begun.inc();
            return;
        }
        let series = self.requests.get_or_create(&RequestLabel { api, version }).clone();
        self.begun.write().expect(UNPOISONED).entry((api, version)).or_insert(series).inc();
    }

    /// What there is at this moment.
    pub fn clients(&self) -> KafkaClients {
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        let mut software: Vec<_> =
            self.named.lock().expect(UNPOISONED).iter().map(|(name, open)| (name.clone(), *open)).collect();
        let others =
            self.by_software.get(&SoftwareLabel { software: OTHERS.to_string() }).map_or(0, |open| count(&open));
        if others > 0 {
            software.push((OTHERS.to_string(), others));
        }
        let begun = self.begun.read().expect(UNPOISONED);
        KafkaClients {
            connections: count(&self.connections),
            fetch_sessions: count(&self.sessions),
            fetch_session_partitions: count(&self.session_partitions),
            software,
            requests: begun.iter().map(|((api, version), begun)| (api.to_string(), *version, begun.get())).collect(),
        }
    }

    /// So many fetch sessions are remembered, and so many partitions in them.
    pub fn fetch_sessions_are(&self, sessions: usize, partitions: usize) {
        let gauge = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.sessions.set(gauge(sessions));
        self.session_partitions.set(gauge(partitions));
    }

    /// There was no room: so many more sessions ended, and so many more clients that asked for one have none.
    pub fn fetch_sessions_lacked_room(&self, ended: u64, refused: u64) {
        self.sessions_evicted.inc_by(ended);
        self.sessions_refused.inc_by(refused);
    }

    /// A connection is open until this is dropped.
    pub fn connection(&self) -> KafkaConnection {
        self.connections.inc();
        KafkaConnection { probe: self.clone(), software: Mutex::default() }
    }

    /// Counts a connection under a name, as long as there are few. The name that it is counted under.
    fn begin(&self, software: &str) -> String {
        let mut named = self.named.lock().expect(UNPOISONED);
        let has_place = named.contains_key(software) || named.len() < SOFTWARE_MAX;
        let label = if has_place { software } else { OTHERS };
        if has_place {
            *named.entry(label.to_string()).or_default() += 1;
        }
        self.by_software.get_or_create(&SoftwareLabel { software: label.to_string() }).inc();
        label.to_string()
    }

    fn end(&self, software: String) {
        let label = SoftwareLabel { software };
        let mut named = self.named.lock().expect(UNPOISONED);
        self.by_software.get_or_create(&label).dec();
        let Some(open) = named.get_mut(&label.software) else { return };
        *open -= 1;
        if *open == 0 {
            named.remove(&label.software);
            self.by_software.remove(&label);
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests of Kafka clients that were begun, by API and version";
        registry.register("kafka_requests", help, self.requests.clone());
        registry.register("kafka_connections", "Open connections of Kafka clients", self.connections.clone());
        let help = "Open connections of Kafka clients that said what they are, by software and version";
        registry.register("kafka_software_connections", help, self.by_software.clone());
        let help = "Fetch sessions of Kafka clients that are remembered";
        registry.register("kafka_fetch_sessions", help, self.sessions.clone());
        let help = "Partitions in fetch sessions of Kafka clients";
        registry.register("kafka_fetch_session_partitions", help, self.session_partitions.clone());
        let help = "Fetch sessions that ended because there was no room for all";
        registry.register("kafka_fetch_sessions_evicted", help, self.sessions_evicted.clone());
        let help = "Fetch sessions that clients asked for and there was no room for";
        registry.register("kafka_fetch_sessions_refused", help, self.sessions_refused.clone());
    }
}

/// One open connection of a Kafka client.
#[derive(Debug)]
pub struct KafkaConnection {
    probe: KafkaProbe,
    software: Mutex<Option<String>>,
}

impl KafkaConnection {
    /// The client says what it is. Only the first time counts.
    pub fn is_of(&self, software: &str) {
        let mut known = self.software.lock().expect(UNPOISONED);
        if known.is_none() {
            *known = Some(self.probe.begin(software));
        }
    }
}

impl Drop for KafkaConnection {
    fn drop(&mut self) {
        self.probe.connections.dec();
        if let Some(software) = self.software.lock().expect(UNPOISONED).take() {
            self.probe.end(software);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn software_has_a_series_while_it_is_connected_and_only_so_many_do() {
        let metrics = Metrics::new();
        let connections: Vec<_> = (0..SOFTWARE_MAX + 2)
            .map(|number| {
                let connection = metrics.kafka().connection();
                connection.is_of(&format!("client {number}"));
                connection.is_of("somebody else");
                connection
            })
            .collect();
        let of = |software: &str| format!("flotilla_kafka_software_connections{{software=\"{software}\"}}");
        let text = metrics.encode();
        for line in [
            format!("{} 1", of("client 0")),
            format!("{} 2", of(OTHERS)),
            format!("flotilla_kafka_connections {}", SOFTWARE_MAX + 2),
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
        }
        assert!(!text.contains("somebody else"));
        let clients = metrics.kafka().clients();
        assert_eq!((clients.connections, clients.software.len()), (SOFTWARE_MAX as u64 + 2, SOFTWARE_MAX + 1));
        assert_eq!(clients.software[0], ("client 0".to_string(), 1));
        assert_eq!(clients.software[SOFTWARE_MAX], (OTHERS.to_string(), 2));
        drop(connections);
        assert_eq!(metrics.kafka().clients(), KafkaClients::default());
        let text = metrics.encode();
        assert!(!text.contains(&of("client 0")), "{text}");
        assert!(text.contains("flotilla_kafka_connections 0"), "{text}");
    }

    #[test]
    fn requests_are_counted_by_api_and_version() {
        let metrics = Metrics::new();
        for (api, version) in [("Produce", 9), ("Fetch", 12), ("Fetch", 4), ("Fetch", 12)] {
            metrics.kafka().request_began(api, version);
        }
        let listed = [("Fetch".to_string(), 4, 1), ("Fetch".to_string(), 12, 2), ("Produce".to_string(), 9, 1)];
        assert_eq!(metrics.kafka().clients().requests, listed);
        let line = "flotilla_kafka_requests_total{api=\"Fetch\",version=\"12\"} 2";
        let text = metrics.encode();
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
