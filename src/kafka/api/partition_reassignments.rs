//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455): replicas cannot be moved yet, and so none is
//! being moved.

use super::super::{
    call::KafkaApi,
    client::{Asked, Lane},
    codes::Code,
    wire::{
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ListPartitionReassignmentsRequest,
        ListPartitionReassignmentsResponse,
        alter_partition_reassignments_request::ReassignablePartition,
        alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse},
        message,
    },
};

pub struct AlterPartitionReassignments;

impl KafkaApi for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const VERSIONS: (i16, i16) = (0, 0);

    async fn answer(_: &Asked, request: AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse {
        let responses = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(refused).collect();
            message!(ReassignableTopicResponse { name: topic.name, partitions: partitions })
        });
        message!(AlterPartitionReassignmentsResponse { responses: responses.collect() })
    }
}

fn refused(partition: &ReassignablePartition) -> ReassignablePartitionResponse {
    let (code, words) = match partition.replicas {
        Some(_) => (Code::InvalidReplicaAssignment, "replicas cannot be moved to other brokers yet"),
        // To end what was begun.
        None => (Code::NoReassignmentInProgress, "no replica is being moved"),
    };
    message!(ReassignablePartitionResponse {
        partition_index: partition.partition_index,
        error_code: code.value(),
        error_message: Some(words.into()),
    })
}

pub struct ListPartitionReassignments;

impl KafkaApi for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: (i16, i16) = (0, 0);
    const LANE: Lane = Lane::Free;

    async fn answer(_: &Asked, _: ListPartitionReassignmentsRequest) -> ListPartitionReassignmentsResponse {
        ListPartitionReassignmentsResponse::default()
    }
}
