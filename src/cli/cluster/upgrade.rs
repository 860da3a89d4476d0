//! `flotilla cluster upgrade`: raises the cluster's feature level, once every broker supports the new one.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        exit::Failure,
        global::Global,
        output::{FormatArg, OutputFormat, print_json, print_line},
    },
    client::RaisedLevel,
};

/// The feature level says what the brokers may write to one another and to disk. A new version can read more than it
/// writes, so that brokers of both versions work together while one after the other is restarted. Once all run the new
/// one, this lets them write it too. There is no way back: older versions cannot join after that.
#[derive(Args)]
pub struct UpgradeArgs {
    /// The new feature level [default: the highest that the asked broker supports].
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Only ask whether every broker supports it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

pub async fn run(args: UpgradeArgs, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let mut raise = admin.raise_feature_level().dry_run(args.dry_run);
    if let Some(level) = args.to {
        raise = raise.to(level);
    }
    let raised = raise.send().await?;
    match args.format.format {
        OutputFormat::Json => print_json(&json(&raised, args.dry_run)),
        OutputFormat::Text => print_line(&line(&raised, args.dry_run)),
    }
}

fn line(raised: &RaisedLevel, dry_run: bool) -> String {
    let RaisedLevel { from, to } = *raised;
    match (from == to, dry_run) {
        (true, _) => format!("the cluster is at feature level {to} already"),
        (false, true) => format!("every broker supports feature level {to}; the cluster is at {from}, and stays there"),
        (false, false) => format!("the cluster is at feature level {to} now; it was at {from}"),
    }
}

fn json(raised: &RaisedLevel, dry_run: bool) -> Value {
    json!({"from": raised.from, "to": raised.to, "raised": !dry_run && raised.from != raised.to})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_says_what_it_did() {
        let raised = |from, to| RaisedLevel { from, to };
        assert_eq!(line(&raised(1, 2), false), "the cluster is at feature level 2 now; it was at 1");
        assert_eq!(line(&raised(2, 2), false), "the cluster is at feature level 2 already");
        assert_eq!(line(&raised(2, 2), true), "the cluster is at feature level 2 already");
        assert!(line(&raised(1, 2), true).contains("stays there"), "a dry run changes nothing");
        assert_eq!(json(&raised(1, 2), false), json!({"from": 1, "to": 2, "raised": true}));
        assert_eq!(json(&raised(1, 2), true)["raised"], false);
        assert_eq!(json(&raised(2, 2), false)["raised"], false);
    }
}
