//! Consumer groups, and one group.

use askama::Template;
use futures_util::{StreamExt, stream};

use super::{Pager, Section, Shell, is_found, records_href, rendered, window};
use crate::{
    broker::groups::{GroupDescription, GroupError, GroupMember, GroupPartition},
    group::PartitionSet,
    http::backend::CALLER,
    http::{
        backend::Backend,
        limits,
        problem::Problem,
        query::{Query, encoded},
        shapes, units,
    },
    types::GroupName,
};

#[derive(Template)]
#[template(path = "groups.html", config = "src/http/askama.toml")]
struct Groups {
    shell: Shell,
    find: String,
    groups: Vec<GroupRow>,
    pager: Pager,
}

struct GroupRow {
    name: String,
    state: &'static str,
    protocol: String,
    members: u32,
    lag: Lag,
}

/// Lag of a whole group, for people.
#[derive(Debug, PartialEq, Eq)]
struct Lag {
    records: String,
    time: String,
    /// Partitions whose unread records retention is about to delete.
    threatened: usize,
}

impl Lag {
    fn of(partitions: &[GroupPartition]) -> Lag {
        // What was never committed may have nothing to lag behind.
        let counted: Vec<&GroupPartition> =
            partitions.iter().filter(|p| p.committed.is_some() || p.lag.is_some()).collect();
        let known: Vec<i64> = counted.iter().filter_map(|p| p.lag).collect();
        let prefix = if known.len() < counted.len() { "≥ " } else { "" };
        let records = known.iter().fold(0i64, |sum, lag| sum.saturating_add(*lag));
        let time = counted.iter().filter_map(|p| p.lag_time).max();
        Lag {
            records: if counted.is_empty() { "–".into() } else { format!("{prefix}{}", units::count(records)) },
            time: time.map_or("–".into(), |time| format!("{prefix}{}", units::span(time.as_secs_f64()))),
            threatened: partitions.iter().filter(|p| p.retention_threatens).count(),
        }
    }

    fn unknown() -> Lag {
        Lag { records: "?".into(), time: "?".into(), threatened: 0 }
    }
}

pub async fn groups<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let find = query.text("find").unwrap_or_default().to_string();
    let mut found = backend.list_groups(&CALLER).await?;
    found.retain(|group| is_found(&group.group.0, &find));
    found.sort_by(|a, b| a.group.cmp(&b.group));
    let (first, shown) = window(&found, query.first()?, limits::GROUPS_MAX);
    let names: Vec<GroupName> = shown.iter().map(|group| group.group.clone()).collect();
    let described = stream::iter(names).map(|name| async move { backend.describe_group(&CALLER, &name).await });
    let described: Vec<Result<GroupDescription, GroupError>> =
        described.buffered(limits::GROUPS_AT_ONCE).collect().await;
    let rows = shown.iter().zip(described).map(|(group, described)| GroupRow {
        name: group.group.0.clone(),
        state: shapes::state(group.phase),
        protocol: or_dash(&group.protocol),
        members: group.members,
        // Gone meanwhile, or its coordinator is: the list is still true.
        lag: described.map_or_else(|_| Lag::unknown(), |group| Lag::of(&group.partitions)),
    });
    rendered(Groups {
        shell: Shell::new(backend, Section::Groups, "Consumer groups", 15),
        groups: rows.collect(),
        pager: Pager::new(&format!("/groups?find={}", encoded(&find)), first, shown.len(), found.len()),
        find,
    })
}

#[derive(Template)]
#[template(path = "group.html", config = "src/http/askama.toml")]
struct GroupPage {
    shell: Shell,
    name: String,
    state: &'static str,
    protocol: String,
    assignor: String,
    epoch: i32,
    coordinator: String,
    lag: Lag,
    members: Vec<Member>,
    members_total: usize,
    partitions: Vec<Partition>,
    pager: Pager,
}

struct Member {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    subscription: String,
    assigned: String,
    revoking: String,
}

struct Partition {
    href: String,
    topic: String,
    number: i32,
    member: String,
    committed: String,
    log_start: String,
    high_watermark: String,
    lag: String,
    lag_time: String,
    threatened: bool,
}

pub async fn group<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let name = query.required("name")?;
    let group = backend.describe_group(&CALLER, &name.into()).await?;
    let (first, partitions) = window(&group.partitions, query.first()?, limits::ROWS_MAX);
    let base = format!("/group?name={}", encoded(name));
    rendered(GroupPage {
        shell: Shell::new(backend, Section::Groups, name, 5),
        name: name.to_string(),
        state: shapes::state(group.summary.phase),
        protocol: or_dash(&group.summary.protocol),
        assignor: or_dash(&group.assignor),
        epoch: group.epoch,
        coordinator: group.coordinator.map_or("?".into(), |broker| format!("broker {broker}")),
        lag: Lag::of(&group.partitions),
        members: group.members.iter().take(limits::MEMBERS_MAX).map(member).collect(),
        members_total: group.members.len(),
        partitions: partitions.iter().map(partition).collect(),
        pager: Pager::new(&base, first, partitions.len(), group.partitions.len()),
    })
}

fn member(member: &GroupMember) -> Member {
    let subscription = &member.subscription;
    let pattern = subscription.pattern.iter().map(|pattern| format!("/{pattern}/"));
    let wanted: Vec<String> = subscription.topics.iter().cloned().chain(pattern).collect();
    Member {
        member: member.member.0.clone(),
        instance: member.instance.clone(),
        client: or_dash(&member.client_id),
        host: or_dash(&member.client_host),
        subscription: if wanted.is_empty() { "–".into() } else { wanted.join(", ") },
        assigned: if member.assigned.is_empty() { "none".into() } else { set(&member.assigned) },
        revoking: set(&member.revoking),
    }
}

/// `orders 0, 2; clicks 1`.
fn set(partitions: &PartitionSet) -> String {
    let topics = partitions.iter().map(|(topic, numbers)| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        format!("{topic} {}", numbers.join(", "))
    });
    topics.collect::<Vec<_>>().join("; ")
}

fn partition(p: &GroupPartition) -> Partition {
    let unknown = || "?".to_string();
    // Without a commit nothing is missing.
    let absent = || if p.committed.is_some() { "?" } else { "–" }.to_string();
    let number = p.at.partition.0;
    // From where the group goes on; without a commit, from the start.
    let from = p.committed.map_or("from=start".into(), |committed| format!("offset={committed}"));
    Partition {
        href: format!("{}&{from}", records_href(&p.at.topic, number)),
        topic: p.at.topic.clone(),
        number,
        member: p.member.as_ref().map_or("–".into(), |member| member.0.clone()),
        committed: p.committed.map_or("–".into(), |committed| committed.to_string()),
        log_start: p.bounds.map_or_else(unknown, |(log_start, _)| log_start.to_string()),
        high_watermark: p.bounds.map_or_else(unknown, |(_, high_watermark)| high_watermark.to_string()),
        lag: p.lag.map_or_else(absent, units::count),
        lag_time: p.lag_time.map_or_else(absent, |time| units::span(time.as_secs_f64())),
        threatened: p.retention_threatens,
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".into() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::{Offset, PartitionId, TopicPartition};

    fn of(committed: Option<i64>, lag: Option<i64>, seconds: Option<u64>) -> GroupPartition {
        GroupPartition {
            at: TopicPartition { topic: "t".into(), partition: PartitionId(0) },
            member: None,
            committed: committed.map(Offset),
            metadata: String::new(),
            bounds: None,
            lag,
            lag_time: seconds.map(Duration::from_secs),
            retention_threatens: false,
        }
    }

    #[test]
    fn lag_is_summed_and_says_when_it_is_not_whole() {
        let lag = |partitions: &[GroupPartition]| {
            let lag = Lag::of(partitions);
            (lag.records, lag.time)
        };
        let both = [of(Some(1), Some(1_500), Some(90)), of(Some(2), Some(20), Some(3))];
        assert_eq!(lag(&both), ("1,520".into(), "1 min 30 s".into()));
        let partly = [of(Some(1), Some(7), Some(2)), of(Some(2), None, None), of(None, None, None)];
        assert_eq!(lag(&partly), ("≥ 7".into(), "≥ 2.0 s".into()));
        assert_eq!(lag(&[of(None, None, None)]), ("–".into(), "–".into()));
        assert_eq!(lag(&[of(None, Some(9), None)]), ("9".into(), "–".into()));
    }
}
