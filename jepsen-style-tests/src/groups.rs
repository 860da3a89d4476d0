//! Consumer groups as `flotilla group describe --format json` shows them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    cluster::{Cli, QUICK},
    command::{run, wait_for},
};

/// A described group.
#[derive(Clone, Debug)]
pub struct Group {
    pub state: String,
    pub epoch: i64,
    pub members: Vec<Member>,
    pub partitions: Vec<GroupPartition>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub member: String,
    /// Of the `flotilla consume` behind it.
    pub pid: Option<u32>,
    /// (topic, partition), ascending.
    pub reads: Vec<(String, u32)>,
    pub lets_go: Vec<(String, u32)>,
}

#[derive(Clone, Debug)]
pub struct GroupPartition {
    pub topic: String,
    pub partition: u32,
    pub member: Option<String>,
    pub committed: Option<i64>,
    pub lag: Option<i64>,
    pub lag_seconds: Option<f64>,
}

impl Group {
    /// Panics on what is not the documented shape: the shape is an interface.
    fn parse(json: &Value) -> Group {
        let list = |name: &str| json[name].as_array().unwrap_or_else(|| panic!("no list {name:?}: {json}"));
        Group {
            state: text(json, "state"),
            epoch: number(json, "epoch").unwrap_or_else(|| panic!("no epoch: {json}")),
            members: list("members").iter().map(Member::parse).collect(),
            partitions: list("partitions").iter().map(GroupPartition::parse).collect(),
        }
    }

    /// How many partitions each member reads, ascending, if all partitions are settled with their readers.
    pub fn loads(&self) -> Result<Vec<usize>, String> {
        if self.state != "stable" || self.members.iter().any(|member| !member.lets_go.is_empty()) {
            return Err(format!("{} {:?}", self.state, self.members));
        }
        let mut loads: Vec<usize> = self.members.iter().map(|member| member.reads.len()).collect();
        loads.sort_unstable();
        Ok(loads)
    }

    /// What the consumer of this process reads.
    pub fn reads(&self, pid: u32) -> Option<Vec<(String, u32)>> {
        self.members.iter().find(|member| member.pid == Some(pid)).map(|member| member.reads.clone())
    }

    /// By (topic, partition); partitions without a commit are absent.
    pub fn committed(&self) -> BTreeMap<(String, u32), i64> {
        let committed = self.partitions.iter();
        committed.filter_map(|p| Some(((p.topic.clone(), p.partition), p.committed?))).collect()
    }

    /// Records not committed yet, of all partitions; none if any is not known.
    pub fn lag(&self) -> Option<i64> {
        self.partitions.iter().map(|partition| partition.lag).sum()
    }
}

impl Member {
    fn parse(json: &Value) -> Member {
        let client_id = text(json, "client_id");
        let pid = client_id.rsplit('-').next().and_then(|pid| pid.parse().ok());
        Member {
            member: text(json, "member"),
            pid,
            reads: partitions(&json["assigned"]),
            lets_go: partitions(&json["revoking"]),
        }
    }
}

impl GroupPartition {
    fn parse(json: &Value) -> GroupPartition {
        GroupPartition {
            topic: text(json, "topic"),
            partition: number(json, "partition").unwrap_or_else(|| panic!("no partition: {json}")) as u32,
            member: json["member"].as_str().map(str::to_string),
            committed: number(json, "committed"),
            lag: number(json, "lag"),
            lag_seconds: json["lag_seconds"].as_f64(),
        }
    }
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("no text {name:?}: {json}")).to_string()
}

fn number(json: &Value, name: &str) -> Option<i64> {
    let value = &json[name];
    assert!(value.is_null() || value.is_i64(), "{name:?} is neither a whole number nor null: {json}");
    value.as_i64()
}

/// `{"topic":[0,1]}`.
fn partitions(json: &Value) -> Vec<(String, u32)> {
    let topics = json.as_object().unwrap_or_else(|| panic!("no partitions by topic: {json}"));
    let mut all = vec![];
    for (topic, numbers) in topics {
        let numbers = numbers.as_array().unwrap_or_else(|| panic!("no list of partitions: {json}"));
        all.extend(numbers.iter().map(|n| (topic.clone(), n.as_u64().expect("partitions are numbers") as u32)));
    }
    all.sort();
    all
}

impl Cli {
    pub fn group(&self, name: &str) -> Result<Group, String> {
        let finished = run(self.brokered(&["group", "describe", name]).args(["--format", "json"]), b"", QUICK);
        if finished.code != 0 {
            return Err(format!("exit code {}: {}", finished.code, finished.stderr));
        }
        let json = serde_json::from_str(&finished.stdout);
        Ok(Group::parse(&json.unwrap_or_else(|error| panic!("no JSON ({error}): {}", finished.stdout))))
    }

    /// Waits until the group's members read so many partitions each (ascending), with nothing under way.
    #[track_caller]
    pub fn wait_loads(&self, name: &str, loads: &[usize], deadline: Duration) -> Group {
        wait_for(&format!("members of {name} that read {loads:?} partitions"), deadline, || {
            let group = self.group(name)?;
            let seen = group.loads()?;
            if seen == loads { Ok(group) } else { Err(format!("{seen:?}")) }
        })
    }

    /// Waits until the group has committed everything there is.
    #[track_caller]
    pub fn wait_no_lag(&self, name: &str, deadline: Duration) -> Group {
        wait_for(&format!("group {name} without lag"), deadline, || {
            let group = self.group(name)?;
            if group.lag() == Some(0) {
                Ok(group)
            } else {
                Err(format!("lag {:?}: {:?}", group.lag(), group.partitions))
            }
        })
    }
}

#[test]
fn a_group_is_read_as_documented() {
    let json = serde_json::json!({"group":"g","state":"stable","protocol":"flotilla","epoch":3,"assignor":"sticky",
        "coordinator":2,"members":[{"member":"m-1","instance":null,"client_id":"flotilla-consume-77","host":"h",
        "topics":["t"],"pattern":null,"assigned":{"t":[0,2]},"revoking":{}}],
        "partitions":[{"topic":"t","partition":0,"member":"m-1","committed":7,"metadata":"","log_start":2,
        "high_watermark":12,"lag":5,"lag_seconds":1.5,"retention_threatens":false},
        {"topic":"t","partition":2,"member":"m-1","committed":null,"metadata":"","log_start":null,
        "high_watermark":null,"lag":null,"lag_seconds":null,"retention_threatens":true}]});
    let group = Group::parse(&json);
    assert_eq!(group.loads(), Ok(vec![2]));
    assert_eq!(group.reads(77), Some(vec![("t".into(), 0), ("t".into(), 2)]));
    assert_eq!(group.committed(), BTreeMap::from([(("t".into(), 0), 7)]));
    assert_eq!(group.lag(), None);
    assert_eq!(group.partitions[0].lag_seconds, Some(1.5));
}
