//! One file for each API: what its request means to the broker, and what its answer says.

pub mod api_versions;
pub mod delete_groups;
pub mod describe_groups;
pub mod fetch;
pub mod fetch_answer;
pub mod find_coordinator;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
