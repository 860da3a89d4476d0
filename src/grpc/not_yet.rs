//! Stands in for the coordinator until it is there: delete this file then.

use crate::{
    broker::{Broker, groups::*},
    types::TopicPartition,
};

const NONE: GroupError = GroupError::NoCoordinator { waited_ms: 0 };

impl Broker {
    pub async fn group_heartbeat(&self, _: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        Err(NONE)
    }
    pub async fn group_leave(&self, _: &str, _: Vec<Leaver>) -> Result<Vec<(Leaver, Option<GroupError>)>, GroupError> {
        Err(NONE)
    }
    pub async fn commit_offsets(&self, _: CommitRequest) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        Err(NONE)
    }
    pub async fn fetch_offsets(
        &self,
        _: &str,
        _: Option<Vec<TopicPartition>>,
    ) -> Result<Vec<CommittedOffset>, GroupError> {
        Err(NONE)
    }
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, GroupError> {
        Err(NONE)
    }
    pub async fn describe_group(&self, _: &str) -> Result<GroupDescription, GroupError> {
        Err(NONE)
    }
    pub async fn delete_group(&self, _: &str, _: bool) -> Result<(), GroupError> {
        Err(NONE)
    }
    pub async fn delete_offsets(
        &self,
        _: &str,
        _: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        Err(NONE)
    }
}
