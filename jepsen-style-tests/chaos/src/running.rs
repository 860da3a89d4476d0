//! The end of a run on a cluster that runs: its replicas are compared by what they tell, since nobody stops its brokers and
//! reads their disks, and what the run made is taken away.

use std::time::Duration;

use flotilla::client::{Admin, Verdict as Found, VerifiedGroup};
use logcheck::report::{Guard, Report, Verdict};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{cluster::Cluster, error::ChaosError, names::Names};

const COMPARE_MAX: Duration = Duration::from_secs(60);
const TAKE_AWAY_MAX: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);

/// What comparing the replicas of the run's topics found, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    pub differ: Vec<String>,
    pub unknown: Vec<String>,
}

impl Compared {
    fn of(groups: &[VerifiedGroup]) -> Compared {
        let mut compared = Compared::default();
        for group in groups {
            let name = group.partition.as_ref().map_or("the metadata".into(), ToString::to_string);
            match group.verdict() {
                Found::Differs => {
                    compared.differ.push(format!("the replicas of {name} differ: flotilla verify says where"))
                }
                Found::Unknown => compared.unknown.push(format!("{name}: {}", group.unknown.join("; "))),
                _ if group.compared.is_none() => {
                    compared.unknown.push(format!("{name}: no two replicas were compared"))
                }
                _ => {}
            }
        }
        compared
    }
}

/// Compares the replicas of these topics.
pub async fn compare(cluster: &Cluster, topics: &[&str]) -> Result<Compared, ChaosError> {
    let admin = Admin::new(cluster.client()?, COMPARE_MAX);
    let verify = topics.iter().fold(admin.verify(), |verify, topic| verify.topic(*topic));
    let groups = verify.send(|_| {}).await.map_err(ChaosError::client("comparing the replicas"))?;
    Ok(Compared::of(&groups))
}

/// The checker's report, which also says whether the replicas agree.
pub fn with_compared(report: Report, compared: &Compared) -> Report {
    let Report { summary, mut guards, rules, .. } = report;
    let guard = |name, fails: &[String], verdict| Guard { name, fails: fails.to_vec(), verdict };
    guards.push(guard("replicas agree, by what they applied", &compared.differ, Verdict::Invalid));
    guards.push(guard("all replicas could be compared", &compared.unknown, Verdict::Unknown));
    Report::new(summary, guards, rules)
}

/// Deletes the topics and groups of a run. What stays, and why.
pub async fn take_away(cluster: &Cluster, names: &Names) -> Result<Vec<String>, ChaosError> {
    let admin = Admin::new(cluster.client()?, TAKE_AWAY_MAX);
    let topics = admin.list_topics().await.map_err(ChaosError::client("listing the topics of the run"))?;
    let groups = admin.list_groups().await.map_err(ChaosError::client("listing the groups of the run"))?;
    let mut left = vec![];
    for topic in topics.iter().filter(|topic| names.has(&topic.name)) {
        if let Err(error) = admin.delete_topic(&topic.name).send().await {
            left.push(format!("topic {}: {error}", topic.name));
        }
    }
    let end = Instant::now() + TAKE_AWAY_MAX;
    for group in groups.iter().filter(|group| names.groups().contains(&group.group.as_str())) {
        // Members that were killed are missed when their session is over.
        while let Err(error) = admin.delete_group(&group.group).send().await {
            if Instant::now() >= end {
                left.push(format!("group {}: {error}", group.group));
                break;
            }
            sleep(AGAIN).await;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use logcheck::report::{Sheet, Summary};

    use super::*;

    #[test]
    fn replicas_that_differ_make_a_run_invalid_and_those_that_are_silent_leave_it_open() {
        let with = |compared: &Compared| {
            with_compared(Report::new(Summary::default(), vec![], Sheet::default().results()), compared).verdict
        };
        let said = || vec!["chaos-0: broker 2 does not answer".to_string()];
        assert_eq!(with(&Compared::default()), Verdict::Valid);
        assert_eq!(with(&Compared { unknown: said(), ..Compared::default() }), Verdict::Unknown);
        assert_eq!(with(&Compared { differ: said(), unknown: said() }), Verdict::Invalid);
    }

    #[test]
    fn a_partition_of_which_nothing_was_compared_is_unknown() {
        let compared = Compared::of(&[VerifiedGroup::default()]);
        assert_eq!((compared.differ.len(), compared.unknown.len()), (0, 1), "{compared:?}");
    }
}
