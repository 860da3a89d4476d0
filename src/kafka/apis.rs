//! The list of APIs: which versions are served, and by whom. Routing and ApiVersions both go by it.

use super::{
    api,
    call::Route,
    wire::{FetchRequest, ProduceRequest},
};

/// All that is served, in order of keys.
pub(super) const ROUTES: &[Route] = &[
    // librdkafka before 2.11.1 sends uncompressed batches to whoever does not claim version 0 (KIP-896 lets it be claimed).
    Route::begun_by::<ProduceRequest>(api::produce::VERSIONS, api::produce::begin).advertised_from(0),
    Route::begun_by::<FetchRequest>(api::fetch::VERSIONS, api::fetch::begin),
    Route::of::<api::list_offsets::ListOffsets>(),
    Route::of::<api::metadata::MetadataApi>(),
    Route::of::<api::find_coordinator::FindCoordinator>(),
    Route::of::<api::api_versions::ApiVersions>(),
    Route::of::<api::init_producer_id::InitProducerId>(),
    Route::of::<api::offset_for_leader_epoch::OffsetForLeaderEpoch>(),
];
