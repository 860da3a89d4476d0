//! Whether the replicas of a partition hold the same: each is asked for the hash of what it applied, and in depth for
//! what its disk holds, and their answers are compared here.
//!
//! Promises: every replica that should be there is asked, and one that does not answer in time makes the verdict
//! unknown, never valid; a difference is named with the range of entries and with who agrees with whom. Leaves out:
//! which of them is right, and mending.

mod ask;
mod compare;
mod deep;
mod found;

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use self::{
    ask::ReplicaHash,
    compare::{Sums, camps, compare},
    deep::Disks,
};
pub use self::{
    compare::Difference,
    found::{Verdict, VerifiedDisks, VerifiedGroup},
};
use super::{
    admin::{Admin, ClusterDescription},
    error::ClientError,
};
use crate::types::{BrokerId, PartitionId, TopicPartition};

/// Partitions that are asked about at once.
const GROUPS_AT_ONCE: usize = 8;
/// How long replicas that are behind, or do not answer, are asked again.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The pause before they are.
const PAUSE: Duration = Duration::from_millis(100);
/// Tries to find all replicas at one entry, so that their states can be compared: a busy partition never is.
const STATE_TRIES: usize = 5;

/// How far a verification in depth is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Partitions that are done.
    pub groups: usize,
    /// What was read again from all disks.
    pub bytes: u64,
}

/// A comparison of replicas: see [`Admin::verify`].
#[must_use = "nothing is asked for before `send`"]
pub struct Verify<'a> {
    admin: &'a Admin,
    topics: Vec<String>,
    is_deep: bool,
    wait: Duration,
    bytes_per_second: Option<u64>,
}

impl Admin {
    /// A request that compares the replicas of partitions.
    pub fn verify(&self) -> Verify<'_> {
        Verify { admin: self, topics: Vec::new(), is_deep: false, wait: WAIT_DEFAULT, bytes_per_second: None }
    }
}

impl Verify<'_> {
    /// Compares the partitions of this topic; may be called again for others. Without it those of all topics are
    /// compared, and the metadata.
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// Whether each replica also reads its log again from disk. A replica whose disk is damaged stops.
    pub fn deep(mut self, deep: bool) -> Self {
        self.is_deep = deep;
        self
    }

    /// How long replicas that are behind, or do not answer, are waited for.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How much of each broker's disk is read in a second at most; brokers have a bound of their own.
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes.max(1));
        self
    }

    /// Asks and compares. `progress` is told of each step.
    pub async fn send(self, mut progress: impl FnMut(VerifyProgress)) -> Result<Vec<VerifiedGroup>, ClientError> {
        let view = self.view().await?;
        let groups = groups(&view, self.topics.is_empty());
        let mut done = VerifyProgress::default();
        if !self.is_deep {
            let quick = groups.into_iter().map(|group| self.quick(&view, group));
            let mut running = stream::iter(quick).buffered(GROUPS_AT_ONCE);
            let mut verified = Vec::new();
            while let Some((group, _)) = running.next().await {
                verified.push(group);
                done.groups += 1;
                progress(done);
            }
            return Ok(verified);
        }
        let mut verified = Vec::new();
        for group in groups {
            let (mut group, hashes) = self.quick(&view, group).await;
            let read = |bytes: u64| {
                done.bytes += bytes;
                progress(done);
            };
            let disks = Disks { admin: self.admin, view: &view, bytes_per_second: self.bytes_per_second };
            let (disks, unknown) = disks.read(&group, &hashes, read).await;
            group.disks = Some(disks);
            group.unknown.extend(unknown);
            verified.push(group);
            done.groups += 1;
            progress(done);
        }
        Ok(verified)
    }

    /// Where the replicas are.
    async fn view(&self) -> Result<ClusterDescription, ClientError> {
        let describe = self.admin.describe_cluster();
        if self.topics.is_empty() {
            return describe.all_topics().send().await;
        }
        let view = self.topics.iter().fold(describe, |describe, topic| describe.topic(topic)).send().await?;
        match view.topics.iter().find(|topic| topic.partitions.is_empty()) {
            Some(unknown) => Err(ClientError::NoTopic { topic: unknown.name.clone() }),
            None => Ok(view),
        }
    }

    async fn quick(
        &self,
        view: &ClusterDescription,
        (partition, replicas): (Option<TopicPartition>, Vec<BrokerId>),
    ) -> (VerifiedGroup, BTreeMap<BrokerId, ReplicaHash>) {
        let mut group = VerifiedGroup { partition, replicas, ..VerifiedGroup::default() };
        let (hashes, unknown) = self.caught_up(view, &group).await;
        group.group = hashes.values().next().map_or(0, |hash| hash.group);
        group.unknown = unknown;
        let sums: BTreeMap<BrokerId, Sums> = hashes.iter().map(|(broker, hash)| (*broker, hash.sums.clone())).collect();
        let compared = compare(&sums);
        group.compared = compared.range;
        group.differences = compared.differences;
        if hashes.len() > 1 {
            let lonely = hashes.keys().filter(|broker| !compared.since.contains_key(broker));
            group.unknown.extend(lonely.map(|broker| {
                format!("broker {broker} began where it is, with a snapshot: there is nothing to compare it by yet")
            }));
            let states = self.states(view, &group).await;
            group.is_state_compared = !states.is_empty();
            group.states = if states.len() > 1 { states } else { Vec::new() };
        }
        (group, hashes)
    }

    /// Asks all replicas until each is where the first was that answered, or for as long as is waited.
    async fn caught_up(
        &self,
        view: &ClusterDescription,
        group: &VerifiedGroup,
    ) -> (BTreeMap<BrokerId, ReplicaHash>, Vec<String>) {
        let end = Instant::now() + self.wait;
        let mut goal = None;
        loop {
            let answers = self.ask_all(view, group, false).await;
            let heads = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).map(ReplicaHash::head);
            let goal = *goal.get_or_insert(heads.max().unwrap_or(0));
            let lagging = |answer: &Result<ReplicaHash, String>| answer.as_ref().is_ok_and(|hash| hash.head() < goal);
            let is_late = answers.iter().any(|(_, answer)| answer.is_err() || lagging(answer));
            if is_late && Instant::now() + PAUSE < end {
                sleep(PAUSE).await;
                continue;
            }
            let (mut hashes, mut unknown) = (BTreeMap::new(), Vec::new());
            for (broker, answer) in answers {
                match answer {
                    Ok(hash) => {
                        if hash.head() < goal {
                            unknown.push(format!("broker {broker} is {} entries behind", goal - hash.head()));
                        }
                        hashes.insert(broker, hash);
                    }
                    Err(why) => unknown.push(format!("broker {broker} does not say what it holds: {why}")),
                }
            }
            return (hashes, unknown);
        }
    }

    /// Who has the same state as whom. Empty: they were not to be found at one entry.
    async fn states(&self, view: &ClusterDescription, group: &VerifiedGroup) -> Vec<Vec<BrokerId>> {
        let (mut found, mut differed) = (Vec::new(), 0);
        for _ in 0..STATE_TRIES {
            let answers = self.ask_all(view, group, true).await;
            let said: Vec<(BrokerId, u64, u128)> = answers
                .into_iter()
                .filter_map(|(broker, answer)| answer.ok().and_then(|hash| Some((broker, hash.head(), hash.state?))))
                .collect();
            let heads: Vec<u64> = said.iter().map(|(_, head, _)| *head).collect();
            if said.len() > 1 && heads.windows(2).all(|pair| pair[0] == pair[1]) {
                found = camps(said.into_iter().map(|(broker, _, state)| (broker, state)));
                if found.len() == 1 {
                    return found;
                }
                differed += 1;
            }
            sleep(PAUSE).await;
        }
        // A replica that is about to apply an entry may have begun with it: what differs must go on to.
        if differed == STATE_TRIES { found } else { Vec::new() }
    }

    async fn ask_all(
        &self,
        view: &ClusterDescription,
        group: &VerifiedGroup,
        with_state: bool,
    ) -> Vec<(BrokerId, Result<ReplicaHash, String>)> {
        let asked = group.replicas.iter().map(|broker| async move {
            (*broker, self.admin.replica_hash(view, *broker, &group.partition, with_state, None).await)
        });
        stream::iter(asked).buffered(group.replicas.len().max(1)).collect().await
    }
}

/// The groups of the topics, and who holds each; the metadata first.
fn groups(view: &ClusterDescription, with_metadata: bool) -> Vec<(Option<TopicPartition>, Vec<BrokerId>)> {
    let all_brokers = view.brokers.iter().map(|broker| broker.id).collect();
    let metadata = with_metadata.then_some((None, all_brokers));
    let partitions = view.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let at = TopicPartition::new(&topic.name, PartitionId(partition.partition.0));
            (Some(at), partition.replicas.clone())
        })
    });
    metadata.into_iter().chain(partitions).collect()
}
