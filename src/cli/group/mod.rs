//! `flotilla group ...`: who reads what, how far, and putting a group elsewhere.

mod absent;
mod describe;
mod place;

use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{
    exit::Failure,
    global::Global,
    output::{FormatArg, OutputFormat, print_json, print_table, said},
};
use crate::client::{Admin, ClientError, GroupSummary};
use absent::{no_group, no_member};
use describe::Lag;

pub const EXAMPLES: &str = "\
Examples:
  flotilla group list --lag
  flotilla group describe billing                 each partition: how far, and how far behind in records and seconds
  flotilla group describe billing --members       who reads what
  flotilla group describe billing --format json
  flotilla group seek billing --to latest --dry-run
  flotilla group seek billing --to @2026-11-24T12:00:00Z --topic orders
  flotilla group seek billing --to -100 --topic orders:0 --topic orders:1
  flotilla group reset billing                    as if it had read nothing: --offset-reset decides again
  flotilla group delete billing
  flotilla group remove-member billing --instance-id billing-1   its partitions go to the others at once

A group is moved while nobody is in it: stop its members first. Its members join with `flotilla consume TOPIC -g GROUP`.";

/// How many groups `list --lag` asks at a time: enough to hide the round trips, no burden for a broker.
const ASKED_AT_ONCE: usize = 8;

#[derive(Subcommand)]
pub enum GroupCommand {
    /// List all groups.
    List(ListArgs),
    /// Show a group: committed offsets, lag, members.
    Describe {
        /// The group.
        name: String,
        /// The members instead of the partitions (JSON has both).
        #[arg(long)]
        members: bool,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Set where an empty group goes on.
    #[command(after_help = place::SEEK_EXAMPLES)]
    Seek(place::SeekArgs),
    /// Forget where an empty group was, or set where it begins.
    #[command(after_help = place::RESET_EXAMPLES)]
    Reset(place::ResetArgs),
    /// Take a member that crashed out of a group, before its session is over. One that still runs joins again.
    RemoveMember {
        /// The group.
        name: String,
        /// The member's id, as `group describe --members` shows it.
        #[arg(required_unless_present = "instance_id")]
        member: Option<String>,
        /// The member with this instance id.
        #[arg(long, value_name = "ID")]
        instance_id: Option<String>,
    },
    /// Delete an empty group and its committed offsets.
    Delete {
        /// The group.
        name: String,
        /// Only check.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub struct ListArgs {
    /// Also how far behind each one is: records of all partitions together, and the oldest unread one in seconds.
    #[arg(long)]
    lag: bool,
    #[command(flatten)]
    format: FormatArg,
}

pub async fn run(command: GroupCommand, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    match command {
        GroupCommand::List(args) => list(args, &admin).await,
        GroupCommand::Describe { name, members, format } => {
            let answer = admin.describe_group(&name).await.map_err(|error| no_group(Failure::of_read, error))?;
            describe::show(&name, &answer, members, format.format)
        }
        GroupCommand::Seek(args) => place::seek(args, &admin).await,
        GroupCommand::Reset(args) => place::reset(args, &admin).await,
        GroupCommand::RemoveMember { name, member, instance_id } => {
            let mut request = admin.remove_member(&name);
            if let Some(id) = &member {
                request = request.member_id(id);
            }
            if let Some(id) = &instance_id {
                request = request.instance_id(id);
            }
            request.send().await.map_err(|error| no_member(&name, error))?;
            let who = member.or(instance_id).unwrap_or_default();
            said(false, &format!("member {who} removed from group {name}"));
            Ok(())
        }
        GroupCommand::Delete { name, dry_run } => {
            let request = admin.delete_group(&name).dry_run(dry_run);
            request.send().await.map_err(|error| no_group(Failure::from, error))?;
            said(dry_run, &format!("group {name} deleted"));
            Ok(())
        }
    }
}

async fn list(args: ListArgs, admin: &Admin) -> Result<(), Failure> {
    let mut groups = admin.list_groups().await.map_err(Failure::of_read)?;
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    let lags: Vec<Option<Lag>> = match args.lag {
        false => vec![None; groups.len()],
        true => {
            let lags = stream::iter(&groups).map(|group| lag_of(admin, &group.group)).buffered(ASKED_AT_ONCE);
            lags.try_collect().await.map_err(Failure::of_read)?
        }
    };
    let rows = groups.iter().zip(&lags);
    match args.format.format {
        OutputFormat::Json => {
            let groups: Vec<Value> = rows.map(|(group, lag)| summary_json(group, lag.as_ref())).collect();
            print_json(&json!({ "groups": groups }))
        }
        OutputFormat::Text => {
            let mut header = vec!["GROUP", "STATE", "PROTOCOL", "MEMBERS"];
            header.extend(["LAG", "LAG S"].into_iter().filter(|_| args.lag));
            let row = |(group, lag): (&GroupSummary, &Option<Lag>)| {
                let GroupSummary { group, state, protocol, members, .. } = group;
                let mut row = vec![group.clone(), state.to_string(), protocol.to_string(), members.to_string()];
                row.extend(lag.iter().flat_map(|lag| [lag.records_text(), lag.time_text()]));
                row
            };
            print_table(&header, rows.map(row).collect())
        }
    }
}

/// Returns how far a group is behind, for `list`; one that has gone meanwhile lags behind nothing.
async fn lag_of(admin: &Admin, group: &str) -> Result<Option<Lag>, ClientError> {
    match admin.describe_group(group).await {
        Ok(answer) => Ok(Some(Lag::of_all(&answer.partitions))),
        Err(error) if error.is_not_found() => Ok(Some(Lag::default())),
        Err(error) => Err(error),
    }
}

/// Returns a line of `group list`, which is an interface. With `--lag` it has two fields more.
fn summary_json(group: &GroupSummary, lag: Option<&Lag>) -> Value {
    let GroupSummary { group, state, protocol, members, .. } = group;
    let (state, protocol) = (state.as_str(), protocol.as_str());
    let mut json = json!({"group": group, "state": state, "protocol": protocol, "members": members});
    if let Some(lag) = lag {
        json["lag"] = json!(lag.records);
        json["lag_seconds"] = json!(lag.seconds());
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{GroupProtocol, GroupState};

    #[test]
    fn the_lists_json_is_frozen() {
        let group = GroupSummary {
            group: "g".into(),
            state: GroupState::Stable,
            protocol: GroupProtocol::Flotilla,
            members: 2,
        };
        let want = json!({"group":"g","state":"stable","protocol":"flotilla","members":2});
        assert_eq!(summary_json(&group, None), want);
        let lag = Lag { records: Some(5), ms: None };
        let want = json!({"group":"g","state":"stable","protocol":"flotilla","members":2,"lag":5,"lag_seconds":null});
        assert_eq!(summary_json(&group, Some(&lag)), want);
    }
}
