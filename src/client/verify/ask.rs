//! One broker's answer about its own replica.

use std::time::Duration;

use super::compare::Sums;
use crate::{
    client::{
        admin::{Admin, ClusterDescription},
        error::ClientError,
        net::{cluster_client, unary_within},
    },
    proto::v1,
    types::{BrokerId, TopicPartition},
};

/// How long a broker may take for one answer: a step of a slow disk, behind somebody else's.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a replica is compared by.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplicaHash {
    pub group: u64,
    /// The first entry of its log.
    pub first: u64,
    pub sums: Sums,
    pub state: Option<u128>,
    pub reread: Option<Reread>,
}

/// What its disk holds of the entries `from..next`.
#[derive(Clone, Debug, Default)]
pub(super) struct Reread {
    pub from: u64,
    pub next: u64,
    pub sum: u128,
    pub bytes: u64,
    pub wrong: Vec<(u64, String)>,
    pub damage: String,
}

impl ReplicaHash {
    /// The index after the last entry that it applied.
    pub fn head(&self) -> u64 {
        self.sums.last_key_value().map_or(0, |(place, _)| *place)
    }
}

impl Admin {
    /// An error: why the broker says nothing of it.
    pub(super) async fn replica_hash(
        &self,
        view: &ClusterDescription,
        broker: BrokerId,
        partition: &Option<TopicPartition>,
        with_state: bool,
        reread: Option<(u64, u64)>,
    ) -> Result<ReplicaHash, String> {
        let known = view.brokers.iter().find(|known| known.id == broker);
        let address = known.map(|known| known.client_address.clone()).ok_or("no such broker is known")?;
        let (topic, number) = partition.as_ref().map_or((String::new(), 0), |p| (p.topic.clone(), p.partition.0));
        let (reread_from, reread_to) = reread.unzip();
        let request = v1::HashReplicaRequest { topic, partition: number, with_state, reread_from, reread_to };
        let asked = async {
            let channel = self.cluster().channel(&address)?;
            let mut client = cluster_client(channel);
            unary_within(&address, ANSWER_WITHIN.min(self.deadline()), client.hash_replica(request)).await
        };
        let answer = asked.await.map_err(|error: ClientError| error.to_string())?;
        read(answer).ok_or_else(|| "its answer makes no sense".to_string())
    }
}

fn read(answer: v1::HashReplicaResponse) -> Option<ReplicaHash> {
    let sum = |bytes: &[u8]| Some(u128::from_be_bytes(bytes.try_into().ok()?));
    let mut sums = Sums::new();
    for mark in &answer.marks {
        sums.insert(mark.next_index, sum(&mark.sum)?);
    }
    sums.last_key_value()?;
    let state = if answer.state.is_empty() { None } else { Some(sum(&answer.state)?) };
    let reread = match answer.reread {
        None => None,
        Some(reread) if !reread.damage.is_empty() => Some(Reread { damage: reread.damage, ..Reread::default() }),
        Some(v1::RereadEntries { from, next, sum: of, bytes, wrong, damage }) => {
            let wrong = wrong.into_iter().map(|wrong| (wrong.index, wrong.problem)).collect();
            Some(Reread { from, next, sum: sum(&of)?, bytes, wrong, damage })
        }
    };
    Some(ReplicaHash { group: answer.group, first: answer.first_index, sums, state, reread })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn answers_that_make_no_sense_are_none() {
        let mark = |sum: &[u8]| v1::HashMark { next_index: 5, sum: Bytes::copy_from_slice(sum) };
        let answer = |marks: Vec<v1::HashMark>| v1::HashReplicaResponse { marks, ..Default::default() };
        assert!(read(answer(vec![])).is_none());
        assert!(read(answer(vec![mark(&[1; 15])])).is_none());
        assert_eq!(read(answer(vec![mark(&[1; 16])])).map(|hash| hash.head()), Some(5));
        let short = Bytes::from_static(b"x");
        assert!(read(v1::HashReplicaResponse { state: short, ..answer(vec![mark(&[1; 16])]) }).is_none());
    }
}
