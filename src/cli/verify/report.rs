//! What was found, for people and for programs.

use serde_json::{Value, json};

use crate::{
    cli::{
        exit::Failure,
        output::{ids, or_none},
        units,
    },
    client::{BrokerId, Difference, Verdict, VerifiedGroup},
};

pub fn exit(verdict: Verdict) -> Result<(), Failure> {
    match verdict {
        Verdict::Valid => Ok(()),
        // What there is to say was printed.
        Verdict::Unknown => Err(Failure::verdict_unknown("")),
        Verdict::Differs => Err(Failure::unhealthy("")),
    }
}

pub fn worst(groups: &[VerifiedGroup]) -> Verdict {
    groups.iter().map(VerifiedGroup::verdict).max().unwrap_or(Verdict::Valid)
}

pub const HEADER: [&str; 6] = ["PARTITION", "REPLICAS", "COMPARED", "STATE", "DISK", "VERDICT"];

pub fn row(group: &VerifiedGroup) -> Vec<String> {
    let state = match (group.states.is_empty(), group.is_state_compared) {
        (false, _) => "differs",
        (true, true) => "same",
        (true, false) => "-",
    };
    let disk = group.disks.as_ref().map_or_else(
        || "not read".to_string(),
        |disks| units::human_bytes(i64::try_from(disks.bytes).unwrap_or(i64::MAX)),
    );
    vec![
        group.name(),
        or_none(&ids(&group.replicas)),
        or_none(&group.compared.map(entries).unwrap_or_default()),
        state.to_string(),
        disk,
        group.verdict().name().to_string(),
    ]
}

/// The indexes of the first and the last entry.
fn entries((from, to): (u64, u64)) -> String {
    format!("{from} to {}", to.saturating_sub(1))
}

/// One line for each thing that is wrong with a group, or not known of it.
pub fn findings(group: &VerifiedGroup) -> Vec<String> {
    let name = format!("{} (raft group {})", group.name(), group.group);
    let of_disks = |difference: &Difference| {
        let range = entries((difference.from, difference.to));
        format!("{name}: on disk, entries {range} differ: {}", camps(&difference.camps))
    };
    let mut lines = Vec::new();
    for difference in &group.differences {
        let range = entries((difference.from, difference.to));
        lines.push(format!("{name}: entries {range} differ: {}", camps(&difference.camps)));
    }
    if !group.states.is_empty() {
        lines.push(format!("{name}: the states that the entries made differ: {}", camps(&group.states)));
    }
    if let Some(disks) = &group.disks {
        lines.extend(disks.differences.iter().map(of_disks));
        lines.extend(disks.damage.iter().map(|what| format!("{name}: {what}")));
    }
    lines.extend(group.unknown.iter().map(|what| format!("{name}: {what}")));
    lines
}

/// Who agrees with whom.
fn camps(camps: &[Vec<BrokerId>]) -> String {
    let camp = |camp: &Vec<BrokerId>| match &camp[..] {
        [one] => format!("broker {one} stands alone"),
        several => format!("brokers {} agree", ids(several)),
    };
    camps.iter().map(camp).collect::<Vec<_>>().join(", ")
}

pub fn summary(groups: &[VerifiedGroup], is_deep: bool) -> String {
    let count = |verdict| groups.iter().filter(|group| group.verdict() == verdict).count();
    let verdict = worst(groups).name();
    let (valid, differs, unknown) = (count(Verdict::Valid), count(Verdict::Differs), count(Verdict::Unknown));
    let how = match is_deep {
        true => "compared by what the replicas applied and by what their disks hold",
        false => "compared by what the replicas applied; no disk was read: --deep does that",
    };
    let alone = groups.iter().filter(|group| group.replicas.len() == 1).count();
    let alone =
        if alone > 0 { format!("; {alone} have one replica and nothing to be compared with") } else { String::new() };
    format!("{verdict}: {valid} valid, {differs} differ, {unknown} unknown; {how}{alone}")
}

/// The JSON, which is an interface.
pub fn groups_json(groups: &[VerifiedGroup], is_deep: bool) -> Value {
    json!({
        "verdict": worst(groups).name(), "disks_read": is_deep,
        "groups": groups.iter().map(group_json).collect::<Vec<_>>(),
    })
}

fn group_json(group: &VerifiedGroup) -> Value {
    let difference = |d: &Difference| json!({"from_index": d.from, "to_index": d.to, "agree": d.camps});
    let differences = |all: &[Difference]| all.iter().map(difference).collect::<Vec<_>>();
    json!({
        "topic": group.partition.as_ref().map(|at| &at.topic),
        "partition": group.partition.as_ref().map(|at| at.partition),
        "raft_group": group.group, "replicas": group.replicas, "verdict": group.verdict().name(),
        "compared": group.compared.map(|(from, to)| json!({"from_index": from, "to_index": to})),
        "states_compared": group.is_state_compared, "states_agree": group.states,
        "differences": differences(&group.differences), "unknown": group.unknown,
        "disks": group.disks.as_ref().map(|disks| json!({
            "read": disks.entries.map(|(from, to)| json!({"from_index": from, "to_index": to})),
            "bytes": disks.bytes, "differences": differences(&disks.differences), "damage": disks.damage,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{PartitionId, TopicPartition, VerifiedDisks};

    fn group() -> VerifiedGroup {
        VerifiedGroup {
            partition: Some(TopicPartition::new("t", PartitionId(3))),
            group: 7,
            replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
            compared: Some((0, 95)),
            is_state_compared: true,
            ..VerifiedGroup::default()
        }
    }

    fn camps_of_three() -> Vec<Vec<BrokerId>> {
        vec![vec![BrokerId(1), BrokerId(3)], vec![BrokerId(2)]]
    }

    #[test]
    fn the_json_is_frozen() {
        let mut group = group();
        let want = json!({"verdict":"valid","disks_read":false,"groups":[{"topic":"t","partition":3,"raft_group":7,
            "replicas":[1,2,3],"verdict":"valid","compared":{"from_index":0,"to_index":95},"states_compared":true,
            "states_agree":[],"differences":[],"unknown":[],"disks":null}]});
        assert_eq!(groups_json(&[group.clone()], false), want);
        group.differences = vec![Difference { from: 40, to: 50, camps: camps_of_three() }];
        group.unknown = vec!["broker 3 is 4 entries behind".into()];
        let mut disks = VerifiedDisks::default();
        (disks.entries, disks.bytes, disks.damage) = (Some((1, 95)), 9, vec!["broker 2: entry 5: its CRC".into()]);
        group.disks = Some(disks);
        let json = groups_json(&[group], true);
        assert_eq!(json["verdict"], "differs");
        let want = json!([{"from_index":40,"to_index":50,"agree":[[1,3],[2]]}]);
        assert_eq!(json["groups"][0]["differences"], want);
        let want = json!({"read":{"from_index":1,"to_index":95},"bytes":9,"differences":[],
            "damage":["broker 2: entry 5: its CRC"]});
        assert_eq!(json["groups"][0]["disks"], want);
    }

    #[test]
    fn what_is_wrong_is_named_with_range_and_brokers() {
        let group = group();
        assert_eq!(row(&group), ["t-3", "1,2,3", "0 to 94", "same", "not read", "valid"]);
        assert!(findings(&group).is_empty());
        let summary = summary(&[group], false);
        assert!(summary.contains("no disk was read"), "{summary}");
        let mut group = self::group();
        group.differences = vec![Difference { from: 40, to: 50, camps: camps_of_three() }];
        group.states = camps_of_three();
        let lines = findings(&group);
        let agree = "brokers 1,3 agree, broker 2 stands alone";
        assert_eq!(lines[0], format!("t-3 (raft group 7): entries 40 to 49 differ: {agree}"));
        assert!(lines[1].ends_with(agree), "{lines:?}");
        assert_eq!(exit(worst(&[group.clone()])).expect_err("it differs").code, 10);
        group = self::group();
        group.unknown = vec!["broker 3 does not say".into()];
        assert_eq!(exit(worst(&[group])).expect_err("it is unknown").code, 11);
    }
}
