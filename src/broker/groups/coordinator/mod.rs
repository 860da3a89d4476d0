//! What runs only where groups are coordinated: on the leader of the metadata group, for one of its terms.

pub mod answer;
pub mod commits;
pub mod patterns;
pub mod plan;
pub mod promises;
pub mod proposer;
pub mod sweep;
pub mod syncs;
pub mod tenure;
pub mod timers;
