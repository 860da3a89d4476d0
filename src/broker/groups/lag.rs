//! How far groups are behind, as the leaders of partitions see it: for `describe_group`, for metrics, and
//! for the warning that retention is about to delete what was not read.
//!
//! Every broker has all committed offsets in its metadata, so each looks after the partitions that it
//! leads. Promises: series, reads and answers are bounded; what is not known is said to be unknown.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use super::{beyond::BeyondEnd, lag_table::LagTable, limits};
use crate::{
    broker::{
        limits::CALL_WITHIN,
        node::Node,
        peers::{
            calls::{Answer, Call},
            group_calls::{PartitionLag, Unread},
        },
        replica::{Bounds, PartitionReplica, read::LookUps, rules::TopicRules},
        replicas::Replicas,
        requests::groups::GroupPartition,
    },
    metadata::Metadata,
    metrics::LagSample,
    raft::Replica,
    types::{BrokerId, GroupName, Offset, RaftGroupId, TopicPartition, WallMs},
};

/// What a partition's leader knows of what lies behind an offset.
#[derive(Clone, Copy, Debug)]
struct Behind {
    records: i64,
    age_ms: Option<u64>,
    bytes: u64,
}

/// Unread data older, or larger, than [`limits::THREAT_PERCENT`] of what retention keeps.
fn threatens(behind: &Behind, rules: &TopicRules) -> bool {
    let part = |whole: u64| u128::from(whole) * u128::from(limits::THREAT_PERCENT) / 100;
    let keeps_ms = rules.retention_ms.and_then(|ms| u64::try_from(ms).ok());
    let old = matches!((keeps_ms, behind.age_ms), (Some(keeps), Some(age)) if u128::from(age) > part(keeps));
    let large = rules.retention_bytes.is_some_and(|keeps| u128::from(behind.bytes) > part(keeps));
    behind.records > 0 && (old || large)
}

/// A broker's part in lag: of the partitions that it leads.
pub struct Lag {
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    look_ups: Arc<LookUps>,
    table: Arc<LagTable>,
}

impl Lag {
    pub fn new(node: Arc<Node>, replicas: Arc<Replicas>, look_ups: Arc<LookUps>, table: Arc<LagTable>) -> Lag {
        Lag { node, replicas, look_ups, table }
    }

    /// The figures that were taken last.
    pub fn latest(&self) -> Arc<Vec<LagSample>> {
        self.table.latest()
    }

    /// Asks the leaders, all at once, about the partitions of a group.
    pub async fn fill_in(&self, partitions: &mut [GroupPartition]) {
        let Some(metadata) = self.node.metadata() else { return };
        let groups: Vec<Option<RaftGroupId>> = metadata.read(|state| {
            partitions.iter().map(|partition| state.partition(&partition.at).map(|info| info.group)).collect()
        });
        let mut by_leader: BTreeMap<BrokerId, Vec<(usize, RaftGroupId, Option<Offset>)>> = BTreeMap::new();
        for (place, group) in groups.into_iter().enumerate() {
            let Some(group) = group else { continue };
            if let Some(leader) = self.node.raft.leader_of(group) {
                by_leader.entry(leader.broker).or_default().push((place, group, partitions[place].committed));
            }
        }
        let asked = by_leader.into_iter().map(|(leader, asked)| async move {
            let mut found = Vec::with_capacity(asked.len());
            for some in asked.chunks(limits::LAG_CALL_MAX) {
                let readers: Vec<_> = some.iter().map(|(_, group, committed)| (*group, *committed)).collect();
                let answers = self.lag_of(leader, readers).await;
                found.extend(some.iter().map(|(place, ..)| *place).zip(answers));
            }
            found
        });
        for (place, lag) in join_all(asked).await.into_iter().flatten() {
            let Some(PartitionLag { log_start, high_watermark, unread }) = lag else { continue };
            let partition = &mut partitions[place];
            partition.bounds = Some((log_start, high_watermark));
            partition.lag = unread.map(|unread| unread.records);
            partition.lag_time = unread.and_then(|unread| unread.age_ms).map(Duration::from_millis);
            partition.retention_threatens = unread.is_some_and(|unread| unread.retention_threatens);
        }
    }

    async fn lag_of(&self, leader: BrokerId, readers: Vec<(RaftGroupId, Option<Offset>)>) -> Vec<Option<PartitionLag>> {
        if leader == self.node.me() {
            return self.here(&readers).await;
        }
        match self.node.call(leader, &Call::Lag { readers }, CALL_WITHIN).await {
            Ok(Answer::Lag(lag)) => lag,
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Of those partitions that this broker leads. Looks up as many timestamps as half the asker's
    /// patience allows; the others' ages are unknown.
    pub async fn here(&self, readers: &[(RaftGroupId, Option<Offset>)]) -> Vec<Option<PartitionLag>> {
        let until = Instant::now() + CALL_WITHIN / 2;
        let led = self.led();
        let mut answers = Vec::with_capacity(readers.len().min(limits::LAG_CALL_MAX));
        for (group, committed) in readers.iter().take(limits::LAG_CALL_MAX) {
            let Some(hosted) = led.get(group) else {
                answers.push(None);
                continue;
            };
            let Bounds { log_start, high_watermark } = hosted.bounds();
            let unread = match committed {
                None => None,
                Some(committed) => {
                    let from = (*committed).max(log_start);
                    let timestamp = match from < high_watermark && Instant::now() < until {
                        true => timeout_at(until, self.look_ups.timestamp_at(hosted, from)).await.ok().flatten(),
                        false => None,
                    };
                    Some(self.unread(hosted, from, timestamp))
                }
            };
            answers.push(Some(PartitionLag { log_start, high_watermark, unread }));
        }
        answers
    }

    fn led(&self) -> BTreeMap<RaftGroupId, Arc<PartitionReplica>> {
        self.replicas.led().into_iter().map(|hosted| (hosted.group.id(), hosted)).collect()
    }

    /// What lies behind `from`, which is not below the log start. `timestamp`: of the first record there.
    fn unread(&self, hosted: &PartitionReplica, from: Offset, timestamp: Option<WallMs>) -> Unread {
        let (end, bytes) = hosted.group.read(|state| (state.next_offset(), state.bytes_from(from)));
        let records = (end.0 - from.0).max(0);
        let age_ms = match records {
            0 => Some(0),
            _ => timestamp
                .map(|timestamp| u64::try_from(self.node.clock.wall().0.saturating_sub(timestamp.0)).unwrap_or(0)),
        };
        let retention_threatens = threatens(&Behind { records, age_ms, bytes }, &hosted.rules());
        Unread { records, age_ms, retention_threatens }
    }
}

/// One group's place in one partition that is led here.
struct Reader {
    group: GroupName,
    at: TopicPartition,
    hosted: Arc<PartitionReplica>,
    committed: Offset,
}

/// A timestamp that was looked up, and for which offset.
type Known = BTreeMap<(GroupName, TopicPartition), (Offset, Option<WallMs>)>;

/// Keeps [`lag_table`](super::lag_table) up to date until the broker stops.
pub async fn run(lag: Arc<Lag>) {
    let mut known = Known::new();
    loop {
        let began = Instant::now();
        if lag.node.is_stopping() {
            return;
        }
        if let Some(metadata) = lag.node.metadata() {
            let readers = readers(&lag, &metadata, limits::LAG_SERIES_MAX);
            *lag.table.beyond.lock().expect("no code that holds this lock panics") = beyond(&readers);
            let samples = sample(&lag, readers, &mut known, limits::LAG_READS_MAX).await;
            *lag.table.samples.lock().expect("no code that holds this lock panics") = Arc::new(samples);
        }
        // At most a tenth of the time is spent on this.
        sleep(limits::LAG_EVERY.max(began.elapsed() * 9)).await;
    }
}

/// The places of all groups in the partitions led here, `max` at most.
fn readers(lag: &Lag, metadata: &Replica<Metadata>, max: usize) -> Vec<Reader> {
    let led: BTreeMap<TopicPartition, Arc<PartitionReplica>> =
        lag.led().into_values().map(|hosted| (hosted.name.clone(), hosted)).collect();
    let mut readers = Vec::new();
    if led.is_empty() {
        return readers;
    }
    let names: Vec<GroupName> = metadata.read(|state| state.groups().iter().map(|(name, _)| name.clone()).collect());
    for group in names {
        // One group at a time: applying must not wait for all of them.
        let offsets: Vec<(TopicPartition, Offset)> = metadata.read(|state| {
            let offsets = state.group(&group).into_iter().flat_map(|group| group.offsets());
            offsets.map(|(at, found)| (at, found.offset)).filter(|(at, _)| led.contains_key(at)).collect()
        });
        for (at, committed) in offsets {
            if readers.len() >= max {
                return readers;
            }
            let hosted = Arc::clone(&led[&at]);
            readers.push(Reader { group: group.clone(), at, hosted, committed });
        }
    }
    readers
}

/// What was committed was read before the ends are, which only grow.
fn beyond(readers: &[Reader]) -> Vec<BeyondEnd> {
    let found = readers.iter().filter_map(|Reader { group, at, hosted, committed }| {
        let end = hosted.bounds().high_watermark;
        let (group, at, committed) = (group.clone(), at.clone(), *committed);
        (committed > end).then_some(BeyondEnd { group, at, committed, end })
    });
    found.collect()
}

/// Looks up `reads_max` timestamps at most.
async fn sample(lag: &Lag, readers: Vec<Reader>, known: &mut Known, reads_max: usize) -> Vec<LagSample> {
    let mut reads = 0;
    let mut before = std::mem::take(known);
    let mut samples = Vec::with_capacity(readers.len());
    for Reader { group, at, hosted, committed } in readers {
        let Bounds { log_start, high_watermark } = hosted.bounds();
        let from = committed.max(log_start);
        let key = (group.clone(), at.clone());
        let found = match before.remove(&key) {
            _ if from >= high_watermark => None,
            Some(last) if last.0 == from => Some(last),
            // Beyond the bound the last one stands: it can only be too old.
            last if reads >= reads_max => last,
            _ => {
                reads += 1;
                Some((from, lag.look_ups.timestamp_at(&hosted, from).await))
            }
        };
        if let Some(found) = found {
            known.insert(key, found);
        }
        let timestamp = found.and_then(|(_, timestamp)| timestamp);
        let Unread { records, age_ms, retention_threatens } = lag.unread(&hosted, from, timestamp);
        let TopicPartition { topic, partition } = at;
        let partition = partition.0;
        samples.push(LagSample { group: group.0, topic, partition, records, age_ms, retention_threatens });
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{
            Caller,
            groups::{CommitRequest, OffsetToCommit},
            tests::rig::Cluster,
        },
        partition::SegmentLimits,
        types::PartitionId,
    };

    async fn commit(cluster: &Cluster, group: &str, partition: i32) {
        let at = TopicPartition { topic: "t".into(), partition: PartitionId(partition) };
        let offsets =
            vec![OffsetToCommit { at, topic_id: None, offset: Offset(0), leader_epoch: None, metadata: String::new() }];
        let request = CommitRequest { group: group.into(), offsets, ..CommitRequest::default() };
        assert_eq!(cluster.any().commit_offsets(&Caller::ANONYMOUS, request).await, Ok(vec![]));
    }

    /// With the limits as arguments: as many groups as the real ones would take minutes to make.
    #[tokio::test]
    async fn series_reads_and_answers_are_bounded_and_rounds_take_turns() {
        let cluster = Cluster::start(1, 5_900).await;
        cluster.create_on("t", 2, 1).await;
        cluster.produce("t", 0).await;
        for group in ["a", "b"] {
            commit(&cluster, group, 0).await;
            commit(&cluster, group, 1).await;
        }
        let broker = cluster.broker(1);
        let lag = &broker.parts.groups.lag;
        let metadata = lag.node.metadata().expect("it is ready");
        assert_eq!([1, 3, 4, 5].map(|max| readers(lag, &metadata, max).len()), [1, 3, 4, 4]);

        // One record is unread by both, in partition 0. Its timestamp is looked up for one of them a round.
        let mut known = Known::new();
        let mut ages = async |reads_max| {
            let samples = sample(lag, readers(lag, &metadata, 9), &mut known, reads_max).await;
            samples.iter().filter(|sample| sample.records > 0 && sample.age_ms.is_some()).count()
        };
        assert_eq!([ages(0).await, ages(1).await, ages(1).await], [0, 1, 2]);

        let asked = |count| vec![(RaftGroupId(u64::MAX), None); count];
        assert_eq!(lag.here(&asked(limits::LAG_CALL_MAX)).await.len(), limits::LAG_CALL_MAX);
        assert_eq!(lag.here(&asked(limits::LAG_CALL_MAX + 1)).await.len(), limits::LAG_CALL_MAX);
    }

    fn rules(retention_ms: Option<i64>, retention_bytes: Option<u64>) -> TopicRules {
        TopicRules {
            batch_bytes_max: 1,
            log_append_time: false,
            timestamp_after_max: Duration::ZERO,
            timestamp_before_max: Duration::ZERO,
            retention_ms,
            retention_bytes,
            segment: SegmentLimits { bytes: 1, ms: 1 },
        }
    }

    #[test]
    fn retention_threatens_beyond_four_fifths_of_what_it_keeps() {
        let behind = |age_ms, bytes| Behind { records: 1, age_ms, bytes };
        let by_time = rules(Some(1_000), None);
        assert!(!threatens(&behind(Some(800), u64::MAX), &by_time) && threatens(&behind(Some(801), 0), &by_time));
        let by_size = rules(None, Some(1_000));
        assert!(!threatens(&behind(Some(u64::MAX), 800), &by_size) && threatens(&behind(None, 801), &by_size));
        assert!(!threatens(&behind(None, 0), &by_time), "an unknown age is no alarm");
        assert!(!threatens(&Behind { records: 0, age_ms: Some(0), bytes: u64::MAX }, &by_size), "all is read");
        assert!(!threatens(&behind(Some(u64::MAX), u64::MAX), &rules(None, None)), "nothing is ever deleted");
    }
}
