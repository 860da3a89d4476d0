//! `group describe`: one group, for people and for programs.

use serde_json::{Map, Value, json};

use crate::{
    cli::{
        exit::Failure,
        output::{OutputFormat, print_json, print_line, print_table},
        terminal::say,
    },
    client::v1,
};

/// How far behind: None where it is not known.
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
    fn of(p: &v1::GroupPartition) -> Lag {
        Lag { records: known(p.lag), ms: known(p.lag_ms) }
    }

    /// The sum of the records, and the longest time. One unknown part makes the whole unknown.
    pub fn of_all(partitions: &[v1::GroupPartition]) -> Lag {
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

/// -1 is the wire's word for "not known".
fn known(n: i64) -> Option<i64> {
    Some(n).filter(|n| *n >= 0)
}

fn or_unknown(n: Option<i64>) -> String {
    n.map_or("?".into(), |n| n.to_string())
}

pub fn show(name: &str, group: &v1::DescribeGroupResponse, members: bool, format: OutputFormat) -> Result<(), Failure> {
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
fn notes(p: &v1::GroupPartition) -> Vec<String> {
    let mut notes = Vec::new();
    if p.retention_threatens {
        notes.push(format!("retention is about to delete unread records of {}-{}", p.topic, p.partition));
    }
    if let Some((committed, end)) = beyond_the_end(p) {
        notes.push(format!(
            "{}-{}: what is committed, {committed}, is beyond the end, {end}: its reader begins by --offset-reset",
            p.topic, p.partition
        ));
    }
    notes
}

/// The committed offset and the end, if that comes first: it was set so by hand, or the records were lost.
fn beyond_the_end(p: &v1::GroupPartition) -> Option<(i64, i64)> {
    p.committed.zip(known(p.high_watermark)).filter(|(committed, end)| committed > end)
}

fn head(name: &str, group: &v1::DescribeGroupResponse) -> String {
    let summary = group.summary.clone().unwrap_or_default();
    let assignor = match group.assignor.as_str() {
        "" => String::new(),
        assignor => format!(", assigned {assignor}"),
    };
    let coordinator = match group.coordinator {
        0 => "no coordinator known".into(),
        broker => format!("coordinated by broker {broker}"),
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

fn partition_row(group: &v1::DescribeGroupResponse, p: &v1::GroupPartition) -> Vec<String> {
    let lag = Lag::of(p);
    let member = group.members.iter().find(|member| member.member_id == p.member_id);
    let member = member.filter(|_| !p.member_id.is_empty()).map_or(p.member_id.as_str(), shown_as);
    vec![
        p.topic.clone(),
        p.partition.to_string(),
        p.committed.map_or("-".into(), |offset| offset.to_string()),
        or_unknown(known(p.log_start)),
        or_unknown(known(p.high_watermark)),
        lag.records_text(),
        lag.time_text(),
        if member.is_empty() { "-".into() } else { member.to_string() },
    ]
}

/// The name that says most to people.
fn shown_as(member: &v1::GroupMember) -> &str {
    if member.instance_id.is_empty() { &member.member_id } else { &member.instance_id }
}

fn member_row(member: &v1::GroupMember) -> Vec<String> {
    let mut subscribed = member.topics.clone();
    if !member.pattern.is_empty() {
        subscribed.push(format!("/{}/", member.pattern));
    }
    let or_none = |text: String| if text.is_empty() { "-".to_string() } else { text };
    vec![
        member.member_id.clone(),
        or_none(member.instance_id.clone()),
        or_none(member.client_id.clone()),
        or_none(member.client_host.clone()),
        or_none(subscribed.join(",")),
        or_none(sets_text(&member.assigned)),
        or_none(sets_text(&member.revoking)),
    ]
}

/// `orders:0,1 payments:3`.
fn sets_text(sets: &[v1::PartitionSet]) -> String {
    let one = |set: &v1::PartitionSet| {
        let partitions: Vec<String> = set.partitions.iter().map(i32::to_string).collect();
        format!("{}:{}", set.topic, partitions.join(","))
    };
    sets.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The description's JSON, an interface. What is not known, or not there, is null.
fn group_json(name: &str, group: &v1::DescribeGroupResponse) -> Value {
    let summary = group.summary.clone().unwrap_or_default();
    let members: Vec<Value> = group.members.iter().map(member_json).collect();
    let partitions: Vec<Value> = group.partitions.iter().map(partition_json).collect();
    json!({
        "group": name, "state": summary.state, "protocol": summary.protocol, "epoch": group.epoch,
        "assignor": text_or_null(&group.assignor),
        "coordinator": Some(group.coordinator).filter(|broker| *broker != 0),
        "members": members, "partitions": partitions,
    })
}

fn member_json(member: &v1::GroupMember) -> Value {
    json!({
        "member": member.member_id, "instance": text_or_null(&member.instance_id), "client_id": member.client_id,
        "host": member.client_host, "topics": member.topics, "pattern": text_or_null(&member.pattern),
        "assigned": sets_json(&member.assigned), "revoking": sets_json(&member.revoking),
    })
}

fn partition_json(p: &v1::GroupPartition) -> Value {
    let lag = Lag::of(p);
    json!({
        "topic": p.topic, "partition": p.partition, "member": text_or_null(&p.member_id), "committed": p.committed,
        "metadata": p.metadata, "log_start": known(p.log_start), "high_watermark": known(p.high_watermark),
        "lag": lag.records, "lag_seconds": lag.seconds(), "retention_threatens": p.retention_threatens,
    })
}

fn sets_json(sets: &[v1::PartitionSet]) -> Value {
    let by_topic: Map<String, Value> = sets.iter().map(|set| (set.topic.clone(), json!(set.partitions))).collect();
    Value::Object(by_topic)
}

fn text_or_null(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32, lag: i64, lag_ms: i64) -> v1::GroupPartition {
        v1::GroupPartition {
            topic: "t".into(),
            partition,
            member_id: "m-1".into(),
            committed: Some(7),
            metadata: "note".into(),
            log_start: 2,
            high_watermark: 7 + lag,
            lag,
            lag_ms,
            retention_threatens: false,
        }
    }

    fn group() -> v1::DescribeGroupResponse {
        let idle = v1::GroupPartition {
            member_id: String::new(),
            committed: None,
            metadata: String::new(),
            log_start: -1,
            high_watermark: -1,
            retention_threatens: true,
            ..partition(1, -1, -1)
        };
        let member = v1::GroupMember {
            member_id: "m-1".into(),
            instance_id: String::new(),
            client_id: "c".into(),
            client_host: "h".into(),
            topics: vec!["t".into()],
            pattern: String::new(),
            assigned: vec![v1::PartitionSet { topic: "t".into(), partitions: vec![0] }],
            revoking: vec![],
        };
        v1::DescribeGroupResponse {
            summary: Some(v1::GroupSummary {
                group: "g".into(),
                state: "stable".into(),
                protocol: "flotilla".into(),
                members: 1,
            }),
            epoch: 3,
            assignor: "sticky".into(),
            coordinator: 2,
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
        let beyond = v1::GroupPartition { committed: Some(1_000_000_000_000), ..partition(0, 0, 0) };
        let want = "t-0: what is committed, 1000000000000, is beyond the end, 7: its reader begins by --offset-reset";
        assert_eq!(notes(&beyond), [want]);
        let at_the_end = v1::GroupPartition { committed: Some(7), ..beyond.clone() };
        assert_eq!(notes(&at_the_end), [""; 0]);
        let unknown = v1::GroupPartition { high_watermark: -1, ..beyond };
        assert_eq!(notes(&unknown), [""; 0], "nobody knows the end");
    }
}
