//! What three real brokers on this machine do: produce, consume, commits, idle partitions, restarts.
//!
//! ```text
//! cargo bench --bench cluster                                    everything, about 14 minutes
//! cargo bench --bench cluster -- --list                          what there is to measure
//! cargo bench --bench cluster -- --only produce-16,one-at-a-time some of it
//! cargo bench --bench cluster -- --face kafka                    what goes through Kafka's listener
//! cargo bench --bench cluster -- --against target/bench/cluster-....json
//! cargo bench --bench cluster -- --against-binary ../old/flotilla --rounds 3 --at-least 0.97
//! cargo test --bench cluster                                     the short form: does it all still work?
//! ```
//!
//! Prints one table, and keeps every figure of every round as JSON below `target/bench`. `FLOTILLA_BIN` names the
//! binary that is measured, else it is the one that cargo builds with this bench. The client is `flotilla bench` of
//! the same binary; of Kafka's listener, one of the bench's own (`kafka`). Figures of two machines, or of two hours, say little: compare binaries in one run.

mod cold;
mod figures;
mod kafka;
mod kept;
mod options;
mod processes;
mod scenarios;
mod site;
mod table;
mod work;

use std::{env, path::PathBuf, process::ExitCode};

use figures::{Figures, Side, Sides};
use kept::Kept;
use options::{Form, Options};
use scenarios::{SCENARIOS, Scenario};
use site::Sites;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    if options.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:20} {}", scenario.name, scenario.what));
        return ExitCode::SUCCESS;
    }
    let wanted = match options.wanted() {
        Ok(wanted) => wanted,
        Err(error) => return usage(&error),
    };
    let before = match options.against.as_deref().map(Kept::read).transpose() {
        Ok(before) => before,
        Err(error) => return usage(&error),
    };
    let sides = Sides { this: binary(), other: options.against_binary.clone() };
    let mut kept = Kept::new(&options, &sides);
    let path = kept.path();
    let mut sites = Sites::new(&options, &sides);
    for round in 0..options.rounds {
        for scenario in &wanted {
            for side in sides.in_round(round) {
                let figures = measure(&mut sites, scenario, side, &options.form, round);
                kept.add(scenario.name, side, figures);
                kept.save(&path);
            }
        }
    }
    drop(sites);
    println!("{}", table::of(&wanted, &kept, before.as_ref()));
    println!("kept in {}", path.display());
    verdict(&wanted, &kept, &options)
}

fn measure(sites: &mut Sites, scenario: &Scenario, side: Side, form: &Form, round: u64) -> Figures {
    eprintln!("round {} {} ({side})", round + 1, scenario.name);
    let mut figures = sites.with(side, scenario.name, |cluster| scenario.work.measure(cluster, form));
    figures.round();
    figures
}

/// What is measured: `FLOTILLA_BIN`, or what cargo has built beside this.
fn binary() -> PathBuf {
    env::var_os("FLOTILLA_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_flotilla")), PathBuf::from)
}

fn usage(error: &str) -> ExitCode {
    eprintln!("cluster: {error}");
    ExitCode::from(2)
}

/// Fails on an error of any record, and on a ratio of the two binaries below what was asked for.
fn verdict(wanted: &[&Scenario], kept: &Kept, options: &Options) -> ExitCode {
    let mut is_good = true;
    for scenario in wanted {
        let errors = kept.errors(scenario.name);
        if errors > 0.0 {
            eprintln!("cluster: {}: {errors} errors", scenario.name);
            is_good = false;
        }
        let ratio = kept.ratios(scenario.name).get(scenario.judged_by);
        if let (Some(least), Some(ratio)) = (options.at_least, ratio)
            && ratio < least
        {
            let figure = scenario.judged_by.heading();
            eprintln!("cluster: {}: {figure}: {ratio:.3} is below {least}", scenario.name);
            is_good = false;
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
