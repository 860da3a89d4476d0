//! The keys that a topic's configuration may have: each with its rule, its default and what it does, in one table.

use std::fmt;

use super::limits::MAX_MESSAGE_BYTES_MAX;

/// A known key. The one list of them is [`KEYS`].
pub(super) struct Key {
    pub name: &'static str,
    pub default: &'static str,
    pub rule: Rule,
    pub documentation: &'static str,
}

pub(super) enum Rule {
    Integer {
        min: i64,
        max: i64,
        /// -1 is allowed and means: no bound.
        unlimited: bool,
    },
    OneOf(&'static [&'static str]),
    /// 1 to the number of replicas.
    Replicas,
}

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    Text,
    /// Of 32 bits.
    Int,
    /// Of 64 bits.
    Long,
    List,
}

/// What there is to say of a key, whatever its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAbout {
    pub kind: ConfigKind,
    /// What a topic has that does not say.
    pub default: &'static str,
    /// Sentences for people.
    pub documentation: &'static str,
}

/// Each segment costs a checkpoint of the partition's whole state, up to 10 MB with all its producers.
const SEGMENT_BYTES_MIN: i64 = 1 << 20;

pub(super) const LOG_APPEND_TIME: &str = "LogAppendTime";

/// From this feature level on there is a bound on how old records may be.
const BEFORE_MAX_LEVEL: u32 = 3;
/// From this feature level on `min.insync.replicas` goes up to the number of replicas, and not to their majority.
const ALL_REPLICAS_LEVEL: u32 = 3;

pub(super) const BEFORE_MAX: &str = "message.timestamp.before.max.ms";

/// The keys that a topic may set, in their order. Defaults are Kafka's, save the bound on timestamps and the smaller
/// segments: retention gives space back by whole segments.
pub(super) const KEYS: [Key; 11] = [
    Key {
        name: "cleanup.policy",
        default: "delete",
        rule: Rule::OneOf(&["delete"]),
        documentation: "What happens to old records: they are deleted, as retention.ms and retention.bytes say. \
                        Compaction is not supported yet.",
    },
    Key {
        name: "compression.type",
        default: "producer",
        rule: Rule::OneOf(&["producer"]),
        documentation: "How batches are compressed on disk: as their producer did it. Brokers never compress anew.",
    },
    Key {
        name: "max.message.bytes",
        default: "1048588",
        rule: Rule::Integer { min: 1, max: MAX_MESSAGE_BYTES_MAX, unlimited: false },
        documentation: "The largest record batch that is accepted, as it is compressed.",
    },
    Key {
        // One hour, where Kafka has no bound: a timestamp in 2099 would hold up retention for ever.
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        rule: Rule::Integer { min: 0, max: i64::MAX, unlimited: false },
        documentation: "How far a record's timestamp may be ahead of the leader's clock. A batch with a later one is \
                        refused. It has no effect with message.timestamp.type=LogAppendTime.",
    },
    Key {
        name: BEFORE_MAX,
        default: "9223372036854775807",
        rule: Rule::Integer { min: 0, max: i64::MAX, unlimited: false },
        documentation: "How far a record's timestamp may be behind the leader's clock. A batch whose first record is \
                        older is refused; records after its first are not looked at. It has no effect with \
                        message.timestamp.type=LogAppendTime.",
    },
    Key {
        name: "message.timestamp.type",
        default: "CreateTime",
        rule: Rule::OneOf(&["CreateTime", LOG_APPEND_TIME]),
        documentation: "Whose time a record carries: its producer's (CreateTime), or that of the leader that took it \
                        (LogAppendTime).",
    },
    Key {
        name: "min.insync.replicas",
        default: "1",
        rule: Rule::Replicas,
        documentation: "Kept for what sets it, and without effect: whatever it says, a record is acknowledged when a \
                        majority of the replicas has it on disk, and none is taken while no majority is there.",
    },
    Key {
        name: "retention.bytes",
        default: "-1",
        rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: true },
        documentation: "How many bytes one partition keeps: beyond it the oldest segments go. -1: there is no bound.",
    },
    Key {
        name: "retention.ms",
        default: "604800000",
        rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: true },
        documentation: "How long records are kept: segments whose records are all older go. -1: there is no bound.",
    },
    Key {
        name: "segment.bytes",
        default: "67108864",
        rule: Rule::Integer { min: SEGMENT_BYTES_MIN, max: i64::MAX, unlimited: false },
        documentation: "A segment of the log is closed after so many bytes. Retention deletes whole segments.",
    },
    Key {
        name: "segment.ms",
        default: "604800000",
        rule: Rule::Integer { min: 1, max: i64::MAX, unlimited: false },
        documentation: "A segment of the log is closed after so long, even if it is small, when the next record comes.",
    },
];

/// A key that a cluster of a feature level knows.
pub(super) fn key(name: &str, level: u32) -> Option<&'static Key> {
    keys(level).find(|key| key.name == name)
}

/// The keys that a cluster of a feature level knows: every broker of it must take and refuse the same.
pub(super) fn keys(level: u32) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| level >= BEFORE_MAX_LEVEL || key.name != BEFORE_MAX)
}

pub(super) fn unknown_key(level: u32) -> String {
    let names: Vec<&str> = keys(level).map(|key| key.name).collect();
    format!("is not a known key; known are {}", names.join(", "))
}

impl Key {
    pub fn about(&self) -> ConfigAbout {
        let kind = match &self.rule {
            Rule::OneOf(_) if self.name == "cleanup.policy" => ConfigKind::List,
            Rule::OneOf(_) => ConfigKind::Text,
            Rule::Replicas => ConfigKind::Int,
            Rule::Integer { max, .. } if *max <= i64::from(i32::MAX) => ConfigKind::Int,
            Rule::Integer { .. } => ConfigKind::Long,
        };
        ConfigAbout { kind, default: self.default, documentation: self.documentation }
    }

    /// Why a value is refused, by a cluster of a feature level.
    pub fn check(&self, value: &str, replication_factor: i32, level: u32) -> Result<(), String> {
        let is_fine = match &self.rule {
            Rule::Integer { min, max, unlimited } => {
                value.parse::<i64>().is_ok_and(|n| (*min..=*max).contains(&n) || (*unlimited && n == -1))
            }
            Rule::OneOf(allowed) => allowed.contains(&value),
            Rule::Replicas => value.parse::<i64>().is_ok_and(|n| (1..=most(replication_factor, level)).contains(&n)),
        };
        if is_fine {
            return Ok(());
        }
        match &self.rule {
            Rule::Replicas => Err(match most(replication_factor, level) {
                most if level >= ALL_REPLICAS_LEVEL => {
                    format!("must be an integer from 1 to {most}, the number of replicas")
                }
                most => format!("must be an integer from 1 to {most}, the majority of {replication_factor} replicas"),
            }),
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
            Rule::Replicas => f.write_str("must be an integer from 1 to the number of replicas"),
        }
    }
}

fn most(replication_factor: i32, level: u32) -> i64 {
    match level >= ALL_REPLICAS_LEVEL {
        true => i64::from(replication_factor),
        false => i64::from(replication_factor) / 2 + 1,
    }
}
