//! Consumer groups behind the faces: the coordinator, its timers, commits and lag.

mod requests;

pub use requests::{
    ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, CommitRequest, CommittedOffset,
    GroupDescription, GroupError, GroupMember, GroupPartition, GroupSummary, HeartbeatAnswer, HeartbeatRequest, Leaver,
    OffsetToCommit,
};
