//! The list of APIs: which versions are served, and by whom. Routing and ApiVersions both go by it.

use super::{
    api,
    call::Route,
    wire::{FetchRequest, OffsetCommitRequest, ProduceRequest},
};

/// All that is served, in order of keys.
pub(super) const ROUTES: &[Route] = &[
    // librdkafka before 2.11.1 sends uncompressed batches to whoever does not claim version 0 (KIP-896 lets it be claimed).
    Route::begun_by::<ProduceRequest>(api::produce::VERSIONS, api::produce::begin).advertised_from(0),
    Route::begun_by::<FetchRequest>(api::fetch::VERSIONS, api::fetch::begin),
    Route::of::<api::list_offsets::ListOffsets>(),
    Route::of::<api::metadata::MetadataApi>(),
    Route::begun_by::<OffsetCommitRequest>(api::offset_commit::VERSIONS, api::offset_commit::begin),
    Route::of::<api::offset_fetch::OffsetFetch>(),
    Route::of::<api::find_coordinator::FindCoordinator>(),
    Route::waiting::<api::join_group::JoinGroup>(),
    Route::of::<api::heartbeat::Heartbeat>(),
    Route::of::<api::leave_group::LeaveGroup>(),
    Route::waiting::<api::sync_group::SyncGroup>(),
    Route::of::<api::describe_groups::DescribeGroups>(),
    Route::of::<api::list_groups::ListGroups>(),
    Route::of::<api::api_versions::ApiVersions>(),
    Route::of::<api::create_topics::CreateTopics>(),
    Route::of::<api::delete_topics::DeleteTopics>(),
    Route::of::<api::delete_records::DeleteRecords>(),
    Route::of::<api::init_producer_id::InitProducerId>(),
    Route::of::<api::offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    Route::of::<api::describe_configs::DescribeConfigs>(),
    Route::of::<api::alter_configs::AlterConfigs>(),
    Route::of::<api::describe_log_dirs::DescribeLogDirs>(),
    Route::of::<api::create_partitions::CreatePartitions>(),
    Route::of::<api::delete_groups::DeleteGroups>(),
    Route::of::<api::elect_leaders::ElectLeaders>(),
    Route::of::<api::alter_configs::IncrementalAlterConfigs>(),
    Route::of::<api::partition_reassignments::AlterPartitionReassignments>(),
    Route::of::<api::partition_reassignments::ListPartitionReassignments>(),
    Route::of::<api::offset_delete::OffsetDelete>(),
    Route::of::<api::describe_cluster::DescribeCluster>(),
    Route::of::<api::describe_producers::DescribeProducers>(),
    Route::of::<api::describe_topic_partitions::DescribeTopicPartitions>(),
];
