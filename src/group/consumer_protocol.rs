//! What consumers say in the bytes that Kafka's classic protocol carries without reading them: the topics that a member
//! subscribes to, and the partitions that the group leader gave it (`ConsumerProtocolSubscription`,
//! `ConsumerProtocolAssignment`). Later versions only add fields at the end, which are not looked at.
//!
//! Promises: any bytes at all are read or are none; nothing is allocated for what is not there. Other protocol types
//! than [`CONSUMER`] mean something else by their bytes.

use std::collections::BTreeMap;

use super::types::PartitionSet;
use crate::types::PartitionId;

/// The protocol type of members that read topics.
pub const CONSUMER: &str = "consumer";

/// The topics that a subscription names. None: it is none.
pub fn subscribed_topics(subscription: &[u8]) -> Option<Vec<&str>> {
    let mut rest = Bytes::after_version(subscription)?;
    let count = rest.count()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(rest.name()?);
    }
    Some(topics)
}

/// The partitions that an assignment names; none at all if it is empty, as it is before the group leader has assigned.
/// None: it is no assignment.
pub fn assigned_partitions(assignment: &[u8]) -> Option<PartitionSet> {
    if assignment.is_empty() {
        return Some(PartitionSet::new());
    }
    let mut rest = Bytes::after_version(assignment)?;
    let topics = rest.count()?;
    let mut assigned: PartitionSet = BTreeMap::new();
    for _ in 0..topics {
        let name = rest.name()?;
        let partitions = rest.count()?;
        let numbers = assigned.entry(name.to_string()).or_default();
        for _ in 0..partitions {
            numbers.push(PartitionId(u32::from_be_bytes(rest.take()?).try_into().ok()?));
        }
    }
    assigned.retain(|_, numbers| !numbers.is_empty());
    for numbers in assigned.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    Some(assigned)
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn after_version(bytes: &'a [u8]) -> Option<Bytes<'a>> {
        let mut bytes = Bytes(bytes);
        let version = i16::from_be_bytes(bytes.take()?);
        (version >= 0).then_some(bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// How many elements follow. A lie is found out where they end.
    fn count(&mut self) -> Option<u32> {
        u32::try_from(i32::from_be_bytes(self.take()?)).ok()
    }

    fn name(&mut self) -> Option<&'a str> {
        let length = usize::try_from(i16::from_be_bytes(self.take()?)).ok()?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 1 of a subscription to `t` and `uv`, with user data and one owned partition.
    pub const SUBSCRIPTION: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01t\0\x02uv\0\0\0\x03abc\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05";
    /// Version 0 of an assignment of `t` 0 and 2 and of `uv` 1, without user data.
    pub const ASSIGNMENT: &[u8] =
        b"\0\0\0\0\0\x02\0\x01t\0\0\0\x02\0\0\0\x02\0\0\0\0\0\x02uv\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff";

    #[test]
    fn topics_and_partitions_are_read_and_what_follows_is_not() {
        assert_eq!(subscribed_topics(SUBSCRIPTION), Some(vec!["t", "uv"]));
        let newer = [&[0, 9], &SUBSCRIPTION[2..], b"more"].concat();
        assert_eq!(subscribed_topics(&newer), Some(vec!["t", "uv"]));
        let numbers = |numbers: &[i32]| numbers.iter().copied().map(PartitionId).collect::<Vec<_>>();
        let assigned = PartitionSet::from([("t".into(), numbers(&[0, 2])), ("uv".into(), numbers(&[1]))]);
        assert_eq!(assigned_partitions(ASSIGNMENT), Some(assigned));
        assert_eq!(assigned_partitions(b""), Some(PartitionSet::new()));
    }

    #[test]
    fn what_is_cut_or_lies_is_none() {
        for end in 0..13 {
            assert_eq!(subscribed_topics(&SUBSCRIPTION[..end]), None, "{end} bytes");
        }
        for end in 1..ASSIGNMENT.len() - 4 {
            assert_eq!(assigned_partitions(&ASSIGNMENT[..end]), None, "{end} bytes");
        }
        for bad in [
            b"\xff\xff\0\0\0\0".as_slice(),
            b"\0\0\xff\xff\xff\xff",
            b"\0\0\x7f\xff\xff\xff\0\x01t",
            b"\0\0\0\0\0\x01\xff\xff",
            b"\0\0\0\0\0\x01\0\0",
            b"\0\0\0\0\0\x01\0\x01\xff",
        ] {
            assert_eq!(subscribed_topics(bad), None, "{bad:?}");
            assert_eq!(assigned_partitions(bad), None, "{bad:?}");
        }
        let negative = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\xff\xff\xff\xff";
        assert_eq!(assigned_partitions(negative), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_are_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (subscribed_topics(&bytes), assigned_partitions(&bytes));
            let headed = [&[0, 1, 0, 0, 0, 3, 0, 1], &bytes[..]].concat();
            let _ = (subscribed_topics(&headed), assigned_partitions(&headed));
        }
    }
}
