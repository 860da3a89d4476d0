//! One file for each API: what its request means to the broker, and what its answer says.

pub mod api_versions;
pub mod fetch;
pub mod fetch_answer;
pub mod find_coordinator;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
