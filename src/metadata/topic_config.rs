//! Topic configs: the keys we know, their rules and defaults.
//!
//! What is stored is what the user set, as text under Kafka's names; [`TopicConfig`] is what it means.

use std::{collections::BTreeMap, fmt};

use super::limits::{MAX_MESSAGE_BYTES_MAX, clip};
use super::response::Refusal;

/// What a topic's configs mean, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Records older than this may be trimmed. None: never.
    pub retention_ms: Option<u64>,
    /// How many bytes one partition keeps. None: there is no bound.
    pub retention_bytes: Option<u64>,
    /// The largest record batch accepted.
    pub max_message_bytes: u32,
    /// A segment is closed after so many bytes; retention drops whole segments.
    pub segment_bytes: u64,
    /// A segment is also closed after so long.
    pub segment_ms: u64,
    pub timestamp_type: TimestampType,
    /// How far a client's timestamp may lie ahead of the leader's clock.
    pub timestamp_after_max_ms: u64,
    /// How many replicas must have a record: at most the majority of them. An acknowledged record is on a majority
    /// anyway (SAFETY B8).
    pub min_insync_replicas: u32,
}

/// Whose time a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// One line of a topic's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub key: &'static str,
    pub value: String,
    pub is_default: bool,
}

/// A known key. The one list of them is [`KEYS`].
struct Key {
    name: &'static str,
    default: &'static str,
    rule: Rule,
}

enum Rule {
    Integer {
        min: i64,
        max: i64,
        /// -1 is allowed and means: no bound.
        unlimited: bool,
    },
    OneOf(&'static [&'static str]),
    /// 1 to the majority of the replicas (SAFETY B8).
    Majority,
}

/// Each segment costs a checkpoint of the partition's whole state, up to 10 MB with all its producers.
const SEGMENT_BYTES_MIN: i64 = 1 << 20;

const LOG_APPEND_TIME: &str = "LogAppendTime";

/// The keys that a topic may set, in their order. Defaults are Kafka's, save the bound on timestamps and the smaller
/// segments: retention gives space back by whole segments.
const KEYS: [Key; 10] = [
    Key { name: "cleanup.policy", default: "delete", rule: Rule::OneOf(&["delete"]) },
    Key { name: "compression.type", default: "producer", rule: Rule::OneOf(&["producer"]) },
    Key {
        name: "max.message.bytes",
        default: "1048588",
        rule: Rule::Integer { min: 1, max: MAX_MESSAGE_BYTES_MAX, unlimited: false },
    },
    Key {
        // One hour, where Kafka has no bound: a timestamp in 2099 would hold up retention for ever.
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        rule: Rule::Integer { min: 0, max: i64::MAX, unlimited: false },
    },
    Key { name: "message.timestamp.type", default: "CreateTime", rule: Rule::OneOf(&["CreateTime", LOG_APPEND_TIME]) },
    Key { name: "min.insync.replicas", default: "1", rule: Rule::Majority },
    Key { name: "retention.bytes", default: "-1", rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: true } },
    Key { name: "retention.ms", default: "604800000", rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: true } },
    Key {
        name: "segment.bytes",
        default: "67108864",
        rule: Rule::Integer { min: SEGMENT_BYTES_MIN, max: i64::MAX, unlimited: false },
    },
    Key { name: "segment.ms", default: "604800000", rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: false } },
];

impl TopicConfig {
    /// Reads what the metadata holds, or what a user offers. `replication_factor` bounds
    /// `min.insync.replicas`.
    pub fn parse(configs: &BTreeMap<String, String>, replication_factor: i32) -> Result<TopicConfig, Refusal> {
        for (name, value) in configs {
            let refuse = |rule: String| Refusal::InvalidConfig { key: clip(name), value: clip(value), rule };
            let key = key(name).ok_or_else(|| refuse(unknown_key()))?;
            key.check(value, replication_factor).map_err(refuse)?;
        }
        let text = |name| configs.get(name).map_or_else(|| default_of(name), String::as_str);
        let integer = |name| -> i64 { text(name).parse().expect("the key's rule was checked above") };
        let bounded = |name| u64::try_from(integer(name)).ok();
        let required = |name| bounded(name).expect("the key's rule allows no negative value");
        let small = |name| u32::try_from(integer(name)).expect("the key's rule allows only small values");
        Ok(TopicConfig {
            retention_ms: bounded("retention.ms"),
            retention_bytes: bounded("retention.bytes"),
            max_message_bytes: small("max.message.bytes"),
            segment_bytes: required("segment.bytes"),
            segment_ms: required("segment.ms"),
            timestamp_type: match text("message.timestamp.type") {
                LOG_APPEND_TIME => TimestampType::LogAppendTime,
                // Text, not an enum of ours: the rule leaves one other value.
                _ => TimestampType::CreateTime,
            },
            timestamp_after_max_ms: required("message.timestamp.after.max.ms"),
            min_insync_replicas: small("min.insync.replicas"),
        })
    }

    /// Every known key with its value, in key order.
    pub fn entries(configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let entry = |key: &Key| ConfigEntry {
            key: key.name,
            value: configs.get(key.name).cloned().unwrap_or_else(|| key.default.to_string()),
            is_default: !configs.contains_key(key.name),
        };
        KEYS.iter().map(entry).collect()
    }

    /// Refuses a key that does not exist, for `unset`.
    pub(super) fn check_key(name: &str) -> Result<(), Refusal> {
        match key(name) {
            Some(_) => Ok(()),
            None => Err(Refusal::InvalidConfig { key: clip(name), value: String::new(), rule: unknown_key() }),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::parse(&BTreeMap::new(), 1).expect("defaults keep their own rules")
    }
}

impl Key {
    fn check(&self, value: &str, replication_factor: i32) -> Result<(), String> {
        let is_fine = match &self.rule {
            Rule::Integer { min, max, unlimited } => {
                value.parse::<i64>().is_ok_and(|n| (*min..=*max).contains(&n) || (*unlimited && n == -1))
            }
            Rule::OneOf(allowed) => allowed.contains(&value),
            Rule::Majority => value.parse::<i64>().is_ok_and(|n| (1..=majority(replication_factor)).contains(&n)),
        };
        if is_fine {
            return Ok(());
        }
        match &self.rule {
            Rule::Majority => Err(format!(
                "must be an integer from 1 to {}, the majority of {replication_factor} replicas",
                majority(replication_factor)
            )),
            rule @ (Rule::Integer { .. } | Rule::OneOf(_)) => Err(rule.to_string()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Integer { min, max: i64::MAX, unlimited: false } => write!(f, "must be an integer, {min} or more"),
            Rule::Integer { min, max: i64::MAX, unlimited: true } => {
                write!(f, "must be an integer, {min} or more, or -1 for no bound")
            }
            Rule::Integer { min, max, unlimited: false } => write!(f, "must be an integer from {min} to {max}"),
            Rule::Integer { min, max, unlimited: true } => {
                write!(f, "must be an integer from {min} to {max}, or -1 for no bound")
            }
            Rule::OneOf([only]) => write!(f, "must be {only}, other values are not supported yet"),
            Rule::OneOf(allowed) => write!(f, "must be one of {}", allowed.join(", ")),
            Rule::Majority => f.write_str("must be an integer from 1 to the majority of the replicas"),
        }
    }
}

fn majority(replication_factor: i32) -> i64 {
    i64::from(replication_factor) / 2 + 1
}

fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

fn default_of(name: &str) -> &'static str {
    key(name).expect("only names from the table are asked for").default
}

fn unknown_key() -> String {
    let names: Vec<&str> = KEYS.iter().map(|k| k.name).collect();
    format!("is not a known key; known are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str, replication_factor: i32) -> Result<TopicConfig, Refusal> {
        TopicConfig::parse(&BTreeMap::from([(key.to_string(), value.to_string())]), replication_factor)
    }

    #[test]
    fn defaults_are_what_the_documents_say() {
        let expected = TopicConfig {
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            max_message_bytes: 1_048_588,
            segment_bytes: 67_108_864,
            segment_ms: 604_800_000,
            timestamp_type: TimestampType::CreateTime,
            timestamp_after_max_ms: 3_600_000,
            min_insync_replicas: 1,
        };
        assert_eq!(TopicConfig::default(), expected);
        assert!(TopicConfig::entries(&BTreeMap::new()).iter().all(|e| e.is_default));
    }

    #[test]
    fn every_rule_has_edges_that_hold() {
        for (key, good, bad) in [
            (
                "retention.ms",
                &["1", "-1", "9223372036854775807"][..],
                &["0", "-2", "", "1.5", "7d", "9223372036854775808"][..],
            ),
            ("retention.bytes", &["1", "-1"], &["0", "-2"]),
            ("max.message.bytes", &["1", "8388608"], &["0", "-1", "8388609"]),
            ("segment.bytes", &["1048576", "9223372036854775807"], &["1048575", "-1"]),
            ("segment.ms", &["1"], &["0", "-1"]),
            ("cleanup.policy", &["delete"], &["compact", "delete,compact", ""]),
            ("compression.type", &["producer"], &["gzip"]),
            ("message.timestamp.type", &["CreateTime", "LogAppendTime"], &["createtime"]),
            ("message.timestamp.after.max.ms", &["0", "9223372036854775807"], &["-1"]),
            ("min.insync.replicas", &["1", "2"], &["0", "3", "-1"]),
        ] {
            for value in good {
                assert!(parse(key, value, 3).is_ok(), "{key}={value}");
            }
            for value in bad {
                let refusal = parse(key, value, 3).unwrap_err();
                let Refusal::InvalidConfig { key: k, value: v, rule } = &refusal else { panic!("{refusal}") };
                assert_eq!((k.as_str(), v.as_str()), (key, *value));
                assert!(rule.starts_with("must be "), "{rule}");
            }
        }
        assert_eq!(
            parse("message.timestamp.type", "LogAppendTime", 3).unwrap().timestamp_type,
            TimestampType::LogAppendTime
        );
    }

    /// SAFETY B8: more than the majority could only make acknowledged records wait for ever.
    #[test]
    fn min_insync_replicas_never_exceeds_the_majority() {
        for (replication_factor, most) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            assert!(parse("min.insync.replicas", &most.to_string(), replication_factor).is_ok());
            assert!(parse("min.insync.replicas", &(most + 1).to_string(), replication_factor).is_err());
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_list() {
        let refusal = parse("retention.hours", "1", 3).unwrap_err();
        assert!(refusal.to_string().contains("retention.ms"), "{refusal}");
    }
}
