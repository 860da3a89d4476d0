//! All groups of the cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::GroupCommand;
use super::outcome::{GroupOutcome, GroupRefusal};
use super::state::Group;
use crate::types::WallMs;

/// How many partitions a topic has; None: there is no such topic.
pub type PartitionCounts<'a> = &'a dyn Fn(&str) -> Option<i32>;

/// Every consumer group, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups {
    by_name: BTreeMap<String, Group>,
}

impl Groups {
    pub fn get(&self, name: &str) -> Option<&Group> {
        self.by_name.get(name)
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_name.iter().map(|(name, group)| (&**name, group))
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Patterns in use: group, pattern and the topics it is known to match.
    pub fn patterns(&self) -> impl Iterator<Item = (&str, &str, &[String])> {
        self.by_name.iter().filter_map(|(name, group)| Some((name, group.server()?))).flat_map(|(name, server)| {
            server.patterns.iter().map(move |(pattern, topics)| (&**name, &**pattern, &**topics))
        })
    }

    /// Groups of which [`GroupCommand::ExpireOffsets`] would drop something at `now`.
    pub fn expirable(&self, _now: WallMs, _retention_ms: u64) -> Vec<String> {
        Vec::new()
    }

    /// Decides and changes. `now` is the metadata's clock.
    pub fn apply(
        &mut self,
        _now: WallMs,
        _command: GroupCommand,
        _topics: PartitionCounts<'_>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        Err(GroupRefusal::InvalidRequest { detail: "not built yet".to_string() })
    }
}
