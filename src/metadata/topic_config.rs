//! Topic configs: what is stored is what the user set, as text under Kafka's names; [`TopicConfig`] is what it means.

use std::collections::BTreeMap;

use super::config_keys::{self, BEFORE_MAX, ConfigAbout, KEYS, LOG_APPEND_TIME};
use super::limits::clip;
use super::response::Refusal;
use crate::formats::FEATURE_LEVEL;

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
    /// How far it may lie behind that clock.
    pub timestamp_before_max_ms: u64,
    /// Of no effect: an acknowledged record is on a majority of the replicas, whatever this says (SAFETY B8).
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

impl TopicConfig {
    /// Reads what the metadata holds. `replication_factor` bounds `min.insync.replicas`.
    pub fn parse(configs: &BTreeMap<String, String>, replication_factor: i32) -> Result<TopicConfig, Refusal> {
        TopicConfig::parse_at(FEATURE_LEVEL, configs, replication_factor)
    }

    /// Reads what a user offers to a cluster of a feature level: all its brokers must refuse the same.
    pub(super) fn parse_at(
        level: u32,
        configs: &BTreeMap<String, String>,
        replication_factor: i32,
    ) -> Result<TopicConfig, Refusal> {
        for (name, value) in configs {
            let refuse = |rule: String| Refusal::InvalidConfig { key: clip(name), value: clip(value), rule };
            let key = config_keys::key(name, level).ok_or_else(|| refuse(config_keys::unknown_key(level)))?;
            key.check(value, replication_factor, level).map_err(refuse)?;
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
            timestamp_before_max_ms: required(BEFORE_MAX),
            min_insync_replicas: small("min.insync.replicas"),
        })
    }

    /// Every known key with its value, in key order.
    pub fn entries(configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let entry = |key: &config_keys::Key| ConfigEntry {
            key: key.name,
            value: configs.get(key.name).cloned().unwrap_or_else(|| key.default.to_string()),
            is_default: !configs.contains_key(key.name),
        };
        KEYS.iter().map(entry).collect()
    }

    /// What a key does. None: it is not known.
    pub fn about(name: &str) -> Option<ConfigAbout> {
        config_keys::key(name, FEATURE_LEVEL).map(config_keys::Key::about)
    }

    /// The keys that a cluster of a feature level knows.
    pub(super) fn keys(level: u32) -> Vec<String> {
        config_keys::keys(level).map(|key| key.name.to_string()).collect()
    }

    /// Refuses a key that a cluster of a feature level does not know, for `unset`.
    pub(super) fn check_key(level: u32, name: &str) -> Result<(), Refusal> {
        match config_keys::key(name, level) {
            Some(_) => Ok(()),
            None => {
                let rule = config_keys::unknown_key(level);
                Err(Refusal::InvalidConfig { key: clip(name), value: String::new(), rule })
            }
        }
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::parse(&BTreeMap::new(), 1).expect("defaults keep their own rules")
    }
}

fn default_of(name: &str) -> &'static str {
    config_keys::key(name, FEATURE_LEVEL).expect("only names from the table are asked for").default
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
            timestamp_before_max_ms: i64::MAX as u64,
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
            ("message.timestamp.before.max.ms", &["0", "9223372036854775807"], &["-1", "9223372036854775808"]),
            ("min.insync.replicas", &["1", "2", "3"], &["0", "4", "-1"]),
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

    /// What a broker of an older version refuses is refused by all until the cluster's level says that none is left.
    #[test]
    fn a_level_takes_what_all_brokers_of_it_take() {
        let parse_at = |level, key: &str, value: &str, replication_factor| {
            let configs = BTreeMap::from([(key.to_string(), value.to_string())]);
            TopicConfig::parse_at(level, &configs, replication_factor)
        };
        for (replication_factor, most) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            assert!(parse_at(2, "min.insync.replicas", &most.to_string(), replication_factor).is_ok());
            let refusal = parse_at(2, "min.insync.replicas", &(most + 1).to_string(), replication_factor).unwrap_err();
            assert!(refusal.to_string().contains("majority"), "{refusal}");
            let all = replication_factor.to_string();
            assert!(parse_at(3, "min.insync.replicas", &all, replication_factor).is_ok());
        }
        let refusal = parse_at(2, BEFORE_MAX, "1", 3).unwrap_err();
        assert!(
            refusal.to_string().contains("not a known key") && refusal.to_string().matches(BEFORE_MAX).count() == 1
        );
        assert_eq!(parse_at(3, BEFORE_MAX, "1", 3).unwrap().timestamp_before_max_ms, 1);
        assert!(TopicConfig::check_key(2, BEFORE_MAX).is_err() && TopicConfig::check_key(3, BEFORE_MAX).is_ok());
        assert_eq!((TopicConfig::keys(2).len(), TopicConfig::keys(3).len()), (10, 11));
    }

    #[test]
    fn every_key_says_what_it_does() {
        for key in TopicConfig::keys(FEATURE_LEVEL) {
            let about = TopicConfig::about(&key).expect("it is known");
            assert!(about.documentation.ends_with('.'), "{key}: {}", about.documentation);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_list() {
        let refusal = parse("retention.hours", "1", 3).unwrap_err();
        assert!(refusal.to_string().contains("retention.ms"), "{refusal}");
    }
}
