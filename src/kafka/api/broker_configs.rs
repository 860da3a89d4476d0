//! What of a broker's settings has a name of Kafka's and means the same. All of it is read-only here: it stands in the
//! broker's configuration file, or cannot be changed at all.

use std::time::Duration;

use super::{
    super::{
        client::{Asked, Shared},
        codes::Code,
        limits,
    },
    admin::NotDone,
};
use crate::{
    broker::FETCH_BYTES_MAX,
    metadata::{REPLICATION_FACTOR_DEFAULT, TopicConfig},
    types::ms_u64,
};

/// One line of a broker's description.
pub struct BrokerConfig {
    pub name: &'static str,
    pub value: String,
    pub kind: BrokerConfigKind,
    /// The configuration file says it, or may.
    pub is_set: bool,
    pub documentation: &'static str,
}

/// Kafka's kinds of values, as far as they occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum BrokerConfigKind {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

impl BrokerConfigKind {
    pub fn value(self) -> i8 {
        self as i8
    }
}

use BrokerConfigKind::{Boolean, Int, List, Long, Text};

/// Whether a resource's name means this broker. False: it means all brokers at once.
pub fn is_here(asked: &Asked, name: &str) -> Result<bool, NotDone> {
    let me = asked.client.shared.broker.id().to_string();
    match name {
        "" => Ok(false),
        name if name == me => Ok(true),
        other => {
            let words = format!("this is broker {me}, and broker {other:?} was asked for: ask that one");
            Err(NotDone::new(Code::InvalidRequest, words))
        }
    }
}

/// All of them, in order of their names.
pub fn of(shared: &Shared) -> Vec<BrokerConfig> {
    let mut configs = settings(shared);
    configs.extend(fixed());
    configs.extend(defaults_of_topics());
    configs.sort_unstable_by_key(|config| config.name);
    configs
}

/// What this broker's configuration says.
fn settings(shared: &Shared) -> Vec<BrokerConfig> {
    let settings = shared.broker.settings();
    let set =
        |name, kind, value: String, documentation| BrokerConfig { name, value, kind, is_set: true, documentation };
    let minutes = |time: Duration| (time.as_secs() / 60).to_string();
    let mut configs = vec![
        set("broker.id", Int, settings.broker.to_string(), "The number of this broker."),
        set("node.id", Int, settings.broker.to_string(), "The number of this broker."),
        set(
            "auto.create.topics.enable",
            Boolean,
            shared.auto_create.is_some().to_string(),
            "Whether a topic is made because a client asks where it is.",
        ),
        set("log.dirs", List, shared.log_dir.clone(), "Where this broker keeps its data."),
        set(
            "num.partitions",
            Int,
            shared.auto_create.unwrap_or(1).to_string(),
            "How many partitions a topic has whose client does not say.",
        ),
        set(
            "group.initial.rebalance.delay.ms",
            Int,
            ms_u64(settings.groups.initial_rebalance_delay).to_string(),
            "How long an empty consumer group waits for more members before its first assignment.",
        ),
        set(
            "offsets.retention.minutes",
            Int,
            minutes(settings.groups.offsets_retention),
            "How long the committed offsets of a group without members are kept.",
        ),
    ];
    if !settings.kafka_address.is_empty() {
        let listener = format!("PLAINTEXT://{}", settings.kafka_address);
        configs.push(set("advertised.listeners", List, listener, "Where Kafka clients reach this broker."));
    }
    if let Some(rack) = &settings.rack {
        configs.push(set("broker.rack", Text, rack.clone(), "Where this broker stands."));
    }
    configs
}

/// What no configuration changes.
fn fixed() -> Vec<BrokerConfig> {
    let fixed =
        |name, kind, value: String, documentation| BrokerConfig { name, value, kind, is_set: false, documentation };
    vec![
        fixed(
            "default.replication.factor",
            Int,
            REPLICATION_FACTOR_DEFAULT.to_string(),
            "How many replicas a partition has whose topic does not say; all brokers, if there are fewer.",
        ),
        fixed("delete.topic.enable", Boolean, true.to_string(), "Topics can be deleted."),
        fixed(
            "unclean.leader.election.enable",
            Boolean,
            false.to_string(),
            "A replica that misses acknowledged records is never elected.",
        ),
        fixed(
            "connections.max.idle.ms",
            Long,
            ms_u64(limits::IDLE_MAX).to_string(),
            "A connection without a byte in either direction is closed after so long.",
        ),
        fixed(
            "socket.request.max.bytes",
            Int,
            limits::PRODUCE_BYTES_MAX.to_string(),
            "The largest request that is read; one that is no Produce may have 3 MiB.",
        ),
        fixed("fetch.max.bytes", Int, FETCH_BYTES_MAX.to_string(), "The most that one Fetch is answered with."),
    ]
}

/// Configs of topics, their names in Kafka's brokers, and their kinds.
const NAMES: &[(&str, &str, BrokerConfigKind)] = &[
    ("cleanup.policy", "log.cleanup.policy", List),
    ("compression.type", "compression.type", Text),
    ("max.message.bytes", "message.max.bytes", Int),
    ("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", Long),
    ("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", Long),
    ("message.timestamp.type", "log.message.timestamp.type", Text),
    ("min.insync.replicas", "min.insync.replicas", Int),
    ("retention.bytes", "log.retention.bytes", Long),
    ("retention.ms", "log.retention.ms", Long),
    ("segment.bytes", "log.segment.bytes", Long),
    ("segment.ms", "log.roll.ms", Long),
];

/// Kafka's brokers' name for the default of a topic's config.
pub fn name_of_default(key: &str) -> Option<&'static str> {
    NAMES.iter().find(|(of_topic, _, _)| *of_topic == key).map(|(_, name, _)| *name)
}

/// What topics have that do not say otherwise, under the names that Kafka's brokers have for them.
fn defaults_of_topics() -> Vec<BrokerConfig> {
    let entries = TopicConfig::entries(&Default::default());
    let named = entries.into_iter().filter_map(|entry| {
        let (_, name, kind) = NAMES.iter().find(|(key, _, _)| *key == entry.key)?;
        let documentation = TopicConfig::about(entry.key)?.documentation;
        Some(BrokerConfig { name, value: entry.value, kind: *kind, is_set: false, documentation })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_of_topics_has_a_name_of_kafkas() {
        assert_eq!(defaults_of_topics().len(), TopicConfig::entries(&Default::default()).len());
    }
}
