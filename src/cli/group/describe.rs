//! `group describe`: one group, for people and for programs.

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        exit::Failure,
        output::{OutputFormat, print_json, print_line, print_table},
        terminal::say,
    },
    client::{GroupDescription, GroupMember, GroupPartition, Offset, PartitionId, TopicPartition},
};

/// How far a group is behind; `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    pub records: Option<i64>,
    pub ms: Option<i64>,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag { records: Some(0), ms: Some(0) }
    }
}

impl Lag {
    fn of(p: &GroupPartition) -> Lag {
        Lag { records: p.lag, ms: p.lag_ms }
    }

    /// The sum of the records, and the longest time. One unknown part makes the whole unknown.
    pub fn of_all(partitions: &[GroupPartition]) -> Lag {
        partitions.iter().map(Lag::of).fold(Lag::default(), |all, one| Lag {
            records: all.records.zip(one.records).map(|(a, b)| a.saturating_add(b)),
            ms: all.ms.zip(one.ms).map(|(a, b)| a.max(b)),
        })
    }

    pub fn seconds(&self) -> Option<f64> {
        self.ms.map(|ms| ms as f64 / 1000.0)
    }

    pub fn records_text(&self) -> String {
        or_unknown(self.records)
    }

    pub fn time_text(&self) -> String {
        self.seconds().map_or("?".into(), |seconds| format!("{seconds:.1}"))
    }
}

fn or_unknown(n: Option<impl ToString>) -> String {
    n.map_or("?".into(), |n| n.to_string())
}

pub fn show(name: &str, group: &GroupDescription, members: bool, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
        return print_json(&group_json(name, group));
    }
    say(&head(name, group));
    match members {
        true => print_table(
            &["MEMBER", "INSTANCE", "CLIENT", "HOST", "SUBSCRIBED", "READS", "LETS GO OF"],
            group.members.iter().map(member_row).collect(),
        )?,
        false => print_table(
            &["TOPIC", "PARTITION", "COMMITTED", "LOG START", "END", "LAG", "LAG S", "MEMBER"],
            group.partitions.iter().map(|p| partition_row(group, p)).collect(),
        )?,
    }
    for p in &group.partitions {
        for note in notes(p) {
            print_line(&format!("note: {note}"))?;
        }
    }
    Ok(())
}

/// What somebody should know of a partition.
fn notes(p: &GroupPartition) -> Vec<String> {
    let mut notes = Vec::new();
    if p.retention_threatens {
        notes.push(format!("retention is about to delete unread records of {}", p.at));
    }
    if let Some((committed, end)) = beyond_the_end(p) {
        notes.push(format!(
            "{}: what is committed, {committed}, is beyond the end, {end}: its reader begins by --offset-reset",
            p.at
        ));
    }
    notes
}

/// The committed offset and the end, if that comes first: it was set so by hand, or the records were lost.
fn beyond_the_end(p: &GroupPartition) -> Option<(Offset, Offset)> {
    p.committed.zip(p.high_watermark).filter(|(committed, end)| committed > end)
}

fn head(name: &str, group: &GroupDescription) -> String {
    let summary = &group.summary;
    let assignor = group.assignor.as_ref().map_or(String::new(), |assignor| format!(", assigned {assignor}"));
    let coordinator = match group.coordinator {
        None => "no coordinator known".into(),
        Some(broker) => format!("coordinated by broker {broker}"),
    };
    let lag = Lag::of_all(&group.partitions);
    format!(
        "group {name}: {}, {} members, epoch {}{assignor}, {coordinator}; lag {} records, {} s",
        summary.state,
        summary.members,
        group.epoch,
        lag.records_text(),
        lag.time_text()
    )
}

fn partition_row(group: &GroupDescription, p: &GroupPartition) -> Vec<String> {
    let lag = Lag::of(p);
    let known = group.members.iter().find(|member| Some(&member.member_id) == p.member_id.as_ref());
    let member = known.map(shown_as).or(p.member_id.as_deref());
    vec![
        p.at.topic.clone(),
        p.at.partition.to_string(),
        p.committed.map_or("-".into(), |offset| offset.to_string()),
        or_unknown(p.log_start),
        or_unknown(p.high_watermark),
        lag.records_text(),
        lag.time_text(),
        member.unwrap_or("-").to_string(),
    ]
}

/// The name that says most to people.
fn shown_as(member: &GroupMember) -> &str {
    member.instance_id.as_ref().unwrap_or(&member.member_id)
}

fn member_row(member: &GroupMember) -> Vec<String> {
    let mut subscribed = member.topics.clone();
    subscribed.extend(member.pattern.iter().map(|pattern| format!("/{pattern}/")));
    let or_none = |text: String| if text.is_empty() { "-".to_string() } else { text };
    vec![
        member.member_id.clone(),
        or_none(member.instance_id.clone().unwrap_or_default()),
        or_none(member.client_id.clone()),
        or_none(member.client_host.clone()),
        or_none(subscribed.join(",")),
        or_none(sets_text(&member.assigned)),
        or_none(sets_text(&member.revoking)),
    ]
}

/// Writes partitions by topic: `orders:0,1 payments:3`, for example.
fn sets_text(partitions: &[TopicPartition]) -> String {
    let one = |of_topic: &[TopicPartition]| {
        let numbers: Vec<String> = of_topic.iter().map(|at| at.partition.to_string()).collect();
        format!("{}:{}", of_topic[0].topic, numbers.join(","))
    };
    by_topic(partitions).map(one).collect::<Vec<_>>().join(" ")
}

/// Splits partitions by topic. None of the parts is empty.
fn by_topic(partitions: &[TopicPartition]) -> impl Iterator<Item = &[TopicPartition]> {
    partitions.chunk_by(|a, b| a.topic == b.topic)
}

/// Returns the description's JSON, which is an interface. What is not known, or not there, is null.
fn group_json(name: &str, group: &GroupDescription) -> Value {
    let summary = &group.summary;
    let members: Vec<Value> = group.members.iter().map(member_json).collect();
    let partitions: Vec<Value> = group.partitions.iter().map(partition_json).collect();
    json!({
        "group": name, "state": summary.state.as_str(), "protocol": summary.protocol.as_str(), "epoch": group.epoch,
        "assignor": group.assignor, "coordinator": group.coordinator,
        "members": members, "partitions": partitions,
    })
}

fn member_json(member: &GroupMember) -> Value {
    json!({
        "member": member.member_id, "instance": member.instance_id, "client_id": member.client_id,
        "host": member.client_host, "topics": member.topics, "pattern": member.pattern,
        "assigned": sets_json(&member.assigned), "revoking": sets_json(&member.revoking),
    })
}

fn partition_json(p: &GroupPartition) -> Value {
    let lag = Lag::of(p);
    json!({
        "topic": p.at.topic, "partition": p.at.partition, "member": p.member_id, "committed": p.committed,
        "metadata": p.metadata, "log_start": p.log_start, "high_watermark": p.high_watermark,
        "lag": lag.records, "lag_seconds": lag.seconds(), "retention_threatens": p.retention_threatens,
    })
}

fn sets_json(partitions: &[TopicPartition]) -> Value {
    let one = |of_topic: &[TopicPartition]| {
        let numbers: Vec<PartitionId> = of_topic.iter().map(|at| at.partition).collect();
        (of_topic[0].topic.clone(), json!(numbers))
    };
    Value::Object(by_topic(partitions).map(one).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{BrokerId, GroupProtocol, GroupState, GroupSummary};

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("t", PartitionId(partition))
    }

    fn partition(partition: i32, lag: i64, lag_ms: i64) -> GroupPartition {
        let known = |n: i64| Some(n).filter(|n| *n >= 0);
        GroupPartition {
            at: at(partition),
            member_id: Some("m-1".into()),
            committed: Some(Offset(7)),
            metadata: "note".into(),
            log_start: Some(Offset(2)),
            high_watermark: Some(Offset(7 + lag)),
            lag: known(lag),
            lag_ms: known(lag_ms),
            retention_threatens: false,
        }
    }

    fn group() -> GroupDescription {
        let idle = GroupPartition {
            member_id: None,
            committed: None,
            metadata: String::new(),
            log_start: None,
            high_watermark: None,
            retention_threatens: true,
            ..partition(1, -1, -1)
        };
        let member = GroupMember {
            member_id: "m-1".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "h".into(),
            topics: vec!["t".into()],
            pattern: None,
            assigned: vec![at(0)],
            revoking: vec![],
        };
        GroupDescription {
            summary: GroupSummary {
                group: "g".into(),
                state: GroupState::Stable,
                protocol: GroupProtocol::Flotilla,
                members: 1,
            },
            epoch: 3,
            assignor: Some("sticky".into()),
            coordinator: Some(BrokerId(2)),
            members: vec![member],
            partitions: vec![partition(0, 5, 1500), idle],
        }
    }

    #[test]
    fn a_descriptions_json_is_frozen() {
        let want = json!({"group":"g","state":"stable","protocol":"flotilla","epoch":3,"assignor":"sticky","coordinator":2,
            "members":[{"member":"m-1","instance":null,"client_id":"c","host":"h","topics":["t"],"pattern":null,
                "assigned":{"t":[0]},"revoking":{}}],
            "partitions":[
                {"topic":"t","partition":0,"member":"m-1","committed":7,"metadata":"note","log_start":2,"high_watermark":12,
                    "lag":5,"lag_seconds":1.5,"retention_threatens":false},
                {"topic":"t","partition":1,"member":null,"committed":null,"metadata":"","log_start":null,
                    "high_watermark":null,"lag":null,"lag_seconds":null,"retention_threatens":true}]});
        assert_eq!(group_json("g", &group()), want);
    }

    #[test]
    fn the_lag_of_all_is_the_sum_and_the_oldest() {
        let all = Lag::of_all(&[partition(0, 5, 1500), partition(1, 2, 9000), partition(2, 0, 0)]);
        assert_eq!(all, Lag { records: Some(7), ms: Some(9000) });
        assert_eq!(Lag::of_all(&[partition(0, 5, 1500), partition(1, -1, -1)]), Lag { records: None, ms: None });
        assert_eq!(Lag::of_all(&[]), Lag::default());
    }

    #[test]
    fn people_see_what_is_unknown_or_absent() {
        let group = group();
        let rows: Vec<_> = group.partitions.iter().map(|p| partition_row(&group, p)).collect();
        assert_eq!(rows[0], ["t", "0", "7", "2", "12", "5", "1.5", "m-1"]);
        assert_eq!(rows[1], ["t", "1", "-", "?", "?", "?", "?", "-"]);
        assert!(head("g", &group).contains("lag ? records"), "{}", head("g", &group));
        assert_eq!(member_row(&group.members[0])[5], "t:0");
    }

    #[test]
    fn a_committed_offset_beyond_the_end_is_named() {
        let beyond = GroupPartition { committed: Some(Offset(1_000_000_000_000)), ..partition(0, 0, 0) };
        let want = "t-0: what is committed, 1000000000000, is beyond the end, 7: its reader begins by --offset-reset";
        assert_eq!(notes(&beyond), [want]);
        let at_the_end = GroupPartition { committed: Some(Offset(7)), ..beyond.clone() };
        assert_eq!(notes(&at_the_end), [""; 0]);
        let unknown = GroupPartition { high_watermark: None, ..beyond };
        assert_eq!(notes(&unknown), [""; 0], "nobody knows the end");
    }
}
