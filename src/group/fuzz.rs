//! What Kafka's consumers put into bytes that the classic protocol carries unread.

use super::consumer_protocol::{assigned_partitions, subscribed_topics, tests::*};
use crate::formats::fuzz::{bounded, fuzz, linear};

/// A partition is four bytes on the wire and in memory; a topic of one letter and no partition is seven, and then a
/// string, a vector and its part of a map. Vectors are doubled.
const PER_BYTE: usize = 64;

/// The subscription to these topics, in version 0 and without user data.
fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as u32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes
}

/// The assignment of these partitions, in version 0 and without user data.
fn assignment<'a>(topics: impl IntoIterator<Item = (&'a str, Vec<i32>)>) -> Vec<u8> {
    let topics: Vec<_> = topics.into_iter().collect();
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as u32).to_be_bytes());
    for (topic, partitions) in topics {
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend((partitions.len() as u32).to_be_bytes());
        partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
    }
    bytes
}

#[test]
fn fuzz_subscriptions() {
    fuzz!([SUBSCRIPTION.to_vec(), subscription(&[]), subscription(&["a", "a", "ü"])], |bytes| {
        let Some(topics) = bounded(bytes.len(), PER_BYTE, || subscribed_topics(bytes)) else { return };
        let again = subscription(&topics);
        assert_eq!(subscribed_topics(&again).as_ref(), Some(&topics));
        assert!(bytes[2..].starts_with(&again[2..]), "nothing was passed over");
    });
    linear(|bytes| subscription(&vec!["a"; bytes / 3]), |bytes| assert!(subscribed_topics(&bytes).is_some()));
}

#[test]
fn fuzz_assignments() {
    let twice = assignment([("t", vec![3, 1, 3]), ("u", vec![]), ("t", vec![0])]);
    fuzz!([ASSIGNMENT.to_vec(), assignment([]), twice], |bytes| {
        let Some(set) = bounded(bytes.len(), PER_BYTE, || assigned_partitions(bytes)) else { return };
        let plain = set.iter().map(|(topic, partitions)| (topic.as_str(), partitions.iter().map(|p| p.0).collect()));
        assert_eq!(assigned_partitions(&assignment(plain)).as_ref(), Some(&set));
        for partitions in set.values() {
            assert!(!partitions.is_empty() && partitions.windows(2).all(|pair| pair[0] < pair[1]));
        }
    });
    linear(
        |bytes| assignment(vec![("t", vec![1]); bytes / 11]),
        |bytes| assert!(assigned_partitions(&bytes).is_some()),
    );
    linear(
        |bytes| assignment([("t", (0..bytes as i32 / 4).rev().collect())]),
        |bytes| assert!(assigned_partitions(&bytes).is_some()),
    );
}
