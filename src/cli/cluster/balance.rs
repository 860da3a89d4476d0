//! `flotilla cluster balance`: gives leaderships back to the preferred brokers.

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    cli::{
        exit::Failure,
        global::Global,
        output::{FormatArg, OutputFormat, print_json, print_table, said},
    },
    client::{ClientError, Effect, LeaderMove, carry_out, preferred_moves},
};

/// How many transfers are made at once: each pauses its partition for a moment.
const MOVES_AT_ONCE: usize = 8;

#[derive(Args)]
pub struct BalanceArgs {
    /// Only show what would be moved.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// What became of a move.
type Moved = (LeaderMove, Result<(), ClientError>);

pub async fn run(args: BalanceArgs, global: &Global) -> Result<(), Failure> {
    let began = Instant::now();
    let admin = global.admin()?;
    let view = admin.describe_cluster().all_topics().send().await.map_err(Failure::of_read)?;
    let moves = preferred_moves(&view);
    let done: Vec<Moved> = match args.dry_run {
        true => moves.into_iter().map(|one| (one, Ok(()))).collect(),
        false => {
            let moved = |one: LeaderMove| {
                let (cluster, left) = (admin.cluster(), global.timeout.saturating_sub(began.elapsed()));
                async move {
                    let result = carry_out(cluster, &one, left).await;
                    (one, result)
                }
            };
            stream::iter(moves).map(moved).buffered(MOVES_AT_ONCE).collect().await
        }
    };
    let failed: Vec<(&LeaderMove, &ClientError)> =
        done.iter().filter_map(|(one, result)| Some((one, result.as_ref().err()?))).collect();
    said(args.dry_run, &format!("{} leaderships moved to their preferred brokers", done.len() - failed.len()));
    show(&done, args.format)?;
    verdict(&failed)
}

/// Some may yet move if the outcome of any is unknown.
fn verdict(failed: &[(&LeaderMove, &ClientError)]) -> Result<(), Failure> {
    let Some((one, why)) = failed.first() else { return Ok(()) };
    let message = format!("{} leaderships were not moved; the first: {}: {why}", failed.len(), one.at);
    match failed.iter().any(|(_, error)| error.effect() == Effect::Unknown) {
        true => Err(Failure::unknown(message)),
        false => Err(Failure::failed(message)),
    }
}

fn show(done: &[Moved], format: FormatArg) -> Result<(), Failure> {
    match format.format {
        OutputFormat::Json => print_json(&moves_json(done)),
        OutputFormat::Text if done.is_empty() => Ok(()),
        OutputFormat::Text => {
            let row = |(one, result): &Moved| {
                let from = one.from.map_or("none".into(), |from| from.to_string());
                let result = if result.is_ok() { "" } else { "failed" };
                vec![one.at.topic.clone(), one.at.partition.to_string(), from, one.to.to_string(), result.into()]
            };
            print_table(&["TOPIC", "PARTITION", "FROM", "TO", ""], done.iter().map(row).collect())
        }
    }
}

/// Returns the moves' JSON, which is an interface. A move from 0 says that nobody leads.
fn moves_json(done: &[Moved]) -> Value {
    let moves: Vec<Value> = done
        .iter()
        .map(|(one, result)| {
            json!({
                "topic": one.at.topic, "partition": one.at.partition, "from": one.from.unwrap_or_default(), "to": one.to,
                "error": result.as_ref().err().map(ToString::to_string),
            })
        })
        .collect();
    json!({ "moves": moves })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{BrokerId, PartitionId, TopicPartition};

    #[test]
    fn the_moves_json_is_frozen() {
        let one = LeaderMove { at: TopicPartition::new("t", PartitionId(3)), from: Some(BrokerId(1)), to: BrokerId(2) };
        let want = json!({"moves":[{"topic":"t","partition":3,"from":1,"to":2,"error":null},
            {"topic":"t","partition":3,"from":1,"to":2,"error":"topic \"t\" does not exist"}]});
        let gone = ClientError::NoTopic { topic: "t".into() };
        assert_eq!(moves_json(&[(one.clone(), Ok(())), (one, Err(gone))]), want);
    }
}
