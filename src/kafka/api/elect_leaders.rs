//! ElectLeaders: gives partitions back to their preferred leaders, by a transfer of leadership (KIP-460). A replica
//! that misses records is never made leader, so an unclean election is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::Code,
        wire::{
            ElectLeadersRequest, ElectLeadersResponse, StrBytes,
            elect_leaders_response::{PartitionResult, ReplicaElectionResult},
            message,
        },
    },
    admin::{self, NotDone, Within},
};
use crate::{
    broker::{AdminError, PartitionView, TopicView, TopicsWanted, TransferLeaderRequest},
    types::PartitionId,
};

/// Kafka's word for an election of the preferred leader.
const PREFERRED: i8 = 0;
/// From this version on the answer as a whole may be an error.
const FAILS_AS_A_WHOLE: i16 = 1;

pub struct ElectLeaders;

impl KafkaApi for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: (i16, i16) = (0, 2);

    async fn answer(asked: &Asked, request: ElectLeadersRequest) -> ElectLeadersResponse {
        if request.election_type != PREFERRED {
            let mut response = ElectLeadersResponse::default();
            if asked.version >= FAILS_AS_A_WHOLE {
                response.error_code = Code::InvalidRequest.value();
            }
            return response;
        }
        let within = Within::of(request.timeout_ms);
        let mut results = Vec::new();
        for (topic, partitions) in wanted(asked, &request).await {
            let elected = admin::each(partitions, async |(number, known)| {
                (number, elect(asked, &topic, number, known, &within).await)
            });
            let elected = elected.await.into_iter();
            // Who names no partition wants to hear of those that are not as they should be.
            let told = elected.filter(|(_, elected)| request.topic_partitions.is_some() || !is_needless(elected));
            let partitions: Vec<_> = told.map(|(number, elected)| answered(number, &elected)).collect();
            if !partitions.is_empty() {
                results.push(message!(ReplicaElectionResult { topic: topic, partition_result: partitions }));
            }
        }
        message!(ElectLeadersResponse { replica_election_results: results })
    }
}

/// Each partition that is asked for, and what is known of it.
type Wanted = Vec<(StrBytes, Vec<(i32, Option<PartitionView>)>)>;

async fn wanted(asked: &Asked, request: &ElectLeadersRequest) -> Wanted {
    let broker = &asked.client.shared.broker;
    let Some(named) = &request.topic_partitions else {
        let view = broker.cluster_view(&CALLER, TopicsWanted::All).await;
        let topics = view.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|known| (known.partition.0, Some(known)));
            (StrBytes::from(topic.name), partitions.collect())
        });
        return topics.collect();
    };
    // Each once, however often it is named.
    let names: BTreeSet<String> = named.iter().map(|topic| topic.topic.to_string()).collect();
    let view = broker.cluster_view(&CALLER, TopicsWanted::Named(names.into_iter().collect())).await;
    let known: BTreeMap<&str, &TopicView> = view.topics.iter().map(|topic| (topic.name.as_str(), topic)).collect();
    let topics = named.iter().map(|topic| {
        let known = known.get(&*topic.topic);
        let partitions = topic.partitions.iter().map(|number| (*number, known.and_then(|of| partition(of, *number))));
        (topic.topic.clone(), partitions.collect())
    });
    topics.collect()
}

fn partition(topic: &TopicView, number: i32) -> Option<PartitionView> {
    usize::try_from(number).ok().and_then(|number| topic.partitions.get(number)).cloned()
}

async fn elect(
    asked: &Asked,
    topic: &StrBytes,
    number: i32,
    known: Option<PartitionView>,
    within: &Within,
) -> Result<(), NotDone> {
    let Some(known) = known else {
        return Err(NotDone::new(Code::UnknownTopicOrPartition, "there is no such partition"));
    };
    let Some(preferred) = known.replicas.first() else {
        return Err(NotDone::new(Code::PreferredLeaderNotAvailable, "it has no replicas"));
    };
    if known.leader.is_some_and(|leader| leader.broker == *preferred) {
        return Err(NotDone::new(Code::ElectionNotNeeded, format!("broker {preferred} leads it already")));
    }
    let request = TransferLeaderRequest {
        partition: Some((topic.to_string(), PartitionId(number))),
        to: Some(*preferred),
        timeout: within.left()?,
    };
    match asked.client.shared.broker.transfer_leader(&CALLER, request).await {
        Ok(_) => Ok(()),
        // Said of a broker that does not answer.
        Err(AdminError::InvalidRequest { detail }) => Err(NotDone::new(Code::PreferredLeaderNotAvailable, detail)),
        Err(error) => Err(error.into()),
    }
}

fn is_needless(elected: &Result<(), NotDone>) -> bool {
    elected.as_ref().is_err_and(|refused| refused.code == Code::ElectionNotNeeded)
}

fn answered(number: i32, elected: &Result<(), NotDone>) -> PartitionResult {
    let (error_code, error_message) = admin::said(elected);
    message!(PartitionResult { partition_id: number, error_code: error_code, error_message: error_message })
}
