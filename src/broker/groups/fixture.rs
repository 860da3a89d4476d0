//! Classic groups for the tests of the coordinator's pure parts. The group is "g".

use crate::{
    group::{CompleteClassic, GroupCommand, Groups, JoinClassic, SyncClassic},
    types::WallMs,
};

/// Every topic has six partitions.
pub fn apply(groups: &mut Groups, command: GroupCommand) {
    let applied = groups.apply(WallMs(1), command.clone(), &|_| Some(6));
    assert!(applied.is_ok(), "{command:?}: {applied:?}");
}

pub fn classic_wish(member: &str, instance: Option<&str>, is_new: bool) -> JoinClassic {
    JoinClassic {
        group: "g".into(),
        member: member.into(),
        is_new,
        instance: instance.map(str::to_string),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), vec![1])],
        ..JoinClassic::default()
    }
}

pub fn join_classic(groups: &mut Groups, member: &str, instance: Option<&str>, is_new: bool) {
    apply(groups, GroupCommand::JoinClassic(classic_wish(member, instance, is_new)));
}

/// All have joined: the join phase after this generation ends.
pub fn complete_classic(groups: &mut Groups, generation: i32) {
    let complete = CompleteClassic { group: "g".into(), generation, timed_out: false };
    apply(groups, GroupCommand::CompleteClassic(complete));
}

/// The leader assigns nothing to anybody.
pub fn sync_classic(groups: &mut Groups, generation: i32, leader: &str) {
    let sync = SyncClassic { group: "g".into(), generation, member: leader.into(), assignments: vec![] };
    apply(groups, GroupCommand::SyncClassic(sync));
}
