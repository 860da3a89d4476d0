//! `flotilla verify`: whether the replicas of each partition hold the same, once or again and again.

mod asking;
mod canary;
mod figures;
mod report;
mod watch;

pub use self::asking::VerifyArgs;
use self::{
    asking::{not_verified, verify},
    report::{HEADER, exit, findings, groups_json, row, summary, worst},
};
use super::{
    exit::Failure,
    global::Global,
    output::{OutputFormat, print_json, print_line, print_table},
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla verify                                all topics and the metadata, by what the replicas applied
  flotilla verify orders --deep                  also read their disks again, at most 64 MiB a second on each broker
  flotilla verify --format json | jq .verdict
  flotilla verify --watch --metrics 127.0.0.1:9464    every minute, with a canary; for Prometheus

Exit codes: 0 valid, 10 replicas differ or a disk is damaged, 11 unknown: somebody does not answer or is behind; 4 no such
topic.";

pub async fn run(args: VerifyArgs, global: &Global) -> Result<(), Failure> {
    if args.watch {
        return watch::run(&args, global).await;
    }
    let admin = global.admin()?;
    let groups = verify(&args, &admin).await.map_err(not_verified)?;
    match args.format.format {
        OutputFormat::Json => print_json(&groups_json(&groups, args.deep))?,
        OutputFormat::Text => {
            print_table(&HEADER, groups.iter().map(row).collect())?;
            let lines: Vec<String> = groups.iter().flat_map(findings).collect();
            print_line(&lines.into_iter().chain([summary(&groups, args.deep)]).collect::<Vec<_>>().join("\n"))?;
        }
    }
    exit(worst(&groups))
}
