//! DescribeLogDirs: what the replicas on this broker keep. A broker has one directory.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    call::KafkaApi,
    client::{Asked, Lane},
    wire::{
        DescribeLogDirsRequest, DescribeLogDirsResponse, StrBytes,
        describe_log_dirs_request::DescribableLogDirTopic,
        describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
        message,
    },
};
use crate::broker::{DirectoryView, ReplicaSize};

/// A size that is not told.
const UNKNOWN: i64 = -1;

pub struct DescribeLogDirs;

impl KafkaApi for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const VERSIONS: (i16, i16) = (1, 4);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
        let shared = &asked.client.shared;
        let result = described(&shared.log_dir, shared.broker.directory(), request.topics.as_deref());
        message!(DescribeLogDirsResponse { results: vec![result] })
    }
}

/// `wanted`: None, all of it. What is not here is not mentioned.
fn described(path: &str, here: DirectoryView, wanted: Option<&[DescribableLogDirTopic]>) -> DescribeLogDirsResult {
    let wanted = wanted.map(|topics| {
        let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().map(|number| (&*topic.topic, *number)));
        partitions.collect::<BTreeSet<(&str, i32)>>()
    });
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for ReplicaSize { at, bytes } in here.replicas {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&(at.topic.as_str(), at.partition.0))) {
            continue;
        }
        // A replica's lag is that of the disk behind the log, and nothing is shown here before it is on disk.
        let partition = message!(DescribeLogDirsPartition {
            partition_index: at.partition.0,
            partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
        });
        topics.entry(at.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        message!(DescribeLogDirsTopic { name: StrBytes::from(name), partitions: partitions })
    });
    message!(DescribeLogDirsResult {
        log_dir: path.into(),
        topics: topics.collect(),
        total_bytes: UNKNOWN,
        usable_bytes: here.free_bytes.map_or(UNKNOWN, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionId, TopicPartition};

    #[test]
    fn only_what_is_asked_for_and_here_is_told() {
        let size = |topic: &str, partition, bytes| ReplicaSize {
            at: TopicPartition { topic: topic.into(), partition: PartitionId(partition) },
            bytes,
        };
        let here = DirectoryView {
            free_bytes: Some(7),
            replicas: vec![size("a", 0, 10), size("a", 1, 20), size("b", 0, u64::MAX)],
        };
        let all = described("/data", here.clone(), None);
        assert_eq!((&*all.log_dir, all.total_bytes, all.usable_bytes), ("/data", -1, 7));
        let sizes = |of: &DescribeLogDirsResult| -> Vec<(String, Vec<i64>)> {
            let sizes = |topic: &DescribeLogDirsTopic| topic.partitions.iter().map(|p| p.partition_size).collect();
            of.topics.iter().map(|topic| (topic.name.to_string(), sizes(topic))).collect()
        };
        assert_eq!(sizes(&all), [("a".to_string(), vec![10, 20]), ("b".to_string(), vec![i64::MAX])]);
        let wanted = [
            message!(DescribableLogDirTopic { topic: "a".into(), partitions: vec![1, 9] }),
            message!(DescribableLogDirTopic { topic: "c".into(), partitions: vec![0] }),
        ];
        let some = described("/data", DirectoryView { free_bytes: None, ..here }, Some(&wanted));
        assert_eq!((sizes(&some), some.usable_bytes), (vec![("a".to_string(), vec![20])], -1));
    }
}
