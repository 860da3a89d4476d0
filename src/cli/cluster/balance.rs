//! `flotilla cluster balance`: gives leaderships back to the preferred brokers.

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::super::{
    Failure, Global,
    output::{FormatArg, OutputFormat, print_json, print_table, said},
};
use crate::client::{Admin, LeaderMove, preferred_moves, v1};

/// Transfers at once: each pauses its partition for a moment.
const MOVES_AT_ONCE: usize = 8;

#[derive(Args)]
pub struct BalanceArgs {
    /// Only show what would be moved.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

pub async fn run(args: BalanceArgs, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let request = v1::GetMetadataRequest { topics: vec![], all_topics: true };
    let view = admin.get_metadata(request).await.map_err(Failure::of_read)?;
    let moves = preferred_moves(&view);
    let done: Vec<(LeaderMove, Result<(), String>)> = match args.dry_run {
        true => moves.into_iter().map(|one| (one, Ok(()))).collect(),
        false => {
            let timeout_ms = global.timeout_ms();
            stream::iter(moves).map(|one| carry_out(&admin, one, timeout_ms)).buffered(MOVES_AT_ONCE).collect().await
        }
    };
    let failed: Vec<&String> = done.iter().filter_map(|(_, result)| result.as_ref().err()).collect();
    said(args.dry_run, &format!("{} leaderships moved to their preferred brokers", done.len() - failed.len()));
    show(&done, args.format)?;
    match failed.first() {
        None => Ok(()),
        Some(why) => Err(Failure::failed(format!("{} leaderships were not moved; the first: {why}", failed.len()))),
    }
}

async fn carry_out(admin: &Admin, one: LeaderMove, timeout_ms: u32) -> (LeaderMove, Result<(), String>) {
    let request = v1::TransferLeaderRequest {
        topic: one.topic.clone(),
        partition: one.partition,
        to_broker: Some(one.to),
        timeout_ms: Some(timeout_ms),
    };
    let result = admin.transfer_leader(request).await;
    let name = format!("{}-{}", one.topic, one.partition);
    (one, result.map(drop).map_err(|error| format!("{name}: {error}")))
}

fn show(done: &[(LeaderMove, Result<(), String>)], format: FormatArg) -> Result<(), Failure> {
    match format.format {
        OutputFormat::Json => print_json(&moves_json(done)),
        OutputFormat::Text if done.is_empty() => Ok(()),
        OutputFormat::Text => {
            let row = |(one, result): &(LeaderMove, Result<(), String>)| {
                let from = if one.from == 0 { "none".into() } else { one.from.to_string() };
                let result = if result.is_ok() { "" } else { "failed" };
                vec![one.topic.clone(), one.partition.to_string(), from, one.to.to_string(), result.into()]
            };
            print_table(&["TOPIC", "PARTITION", "FROM", "TO", ""], done.iter().map(row).collect())
        }
    }
}

/// The moves' JSON, an interface.
fn moves_json(done: &[(LeaderMove, Result<(), String>)]) -> Value {
    let moves: Vec<Value> = done
        .iter()
        .map(|(one, result)| {
            json!({
                "topic": one.topic, "partition": one.partition, "from": one.from, "to": one.to,
                "error": result.as_ref().err(),
            })
        })
        .collect();
    json!({ "moves": moves })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moves_json_is_frozen() {
        let one = LeaderMove { topic: "t".into(), partition: 3, from: 1, to: 2 };
        let want = json!({"moves":[{"topic":"t","partition":3,"from":1,"to":2,"error":null},
            {"topic":"t","partition":3,"from":1,"to":2,"error":"no"}]});
        assert_eq!(moves_json(&[(one.clone(), Ok(())), (one, Err("no".into()))]), want);
    }
}
