//! A topic's configuration as the data path needs it.

use std::time::Duration;

use crate::{
    broker::limits,
    metadata::{TimestampType, TopicConfig},
    partition::SegmentLimits,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRules {
    pub batch_bytes_max: usize,
    pub log_append_time: bool,
    pub timestamp_after_max: Duration,
    pub timestamp_before_max: Duration,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<u64>,
    pub segment: SegmentLimits,
}

impl From<&TopicConfig> for TopicRules {
    fn from(config: &TopicConfig) -> TopicRules {
        TopicRules {
            batch_bytes_max: config.max_message_bytes as usize,
            log_append_time: match config.timestamp_type {
                TimestampType::LogAppendTime => true,
                TimestampType::CreateTime => false,
            },
            timestamp_after_max: Duration::from_millis(config.timestamp_after_max_ms),
            timestamp_before_max: Duration::from_millis(config.timestamp_before_max_ms),
            retention_ms: config.retention_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            retention_bytes: config.retention_bytes,
            segment: SegmentLimits {
                bytes: config.segment_bytes,
                ms: i64::try_from(config.segment_ms).unwrap_or(i64::MAX).max(limits::SEGMENT_MS_MIN),
            },
        }
    }
}
