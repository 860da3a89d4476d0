//! What `logcheck` can be told, and what it says.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, Parser, Subcommand};
use logcheck::{
    context, dump, files,
    generate::Plan,
    meta::Meta,
    mutate::{self, Mutation},
    report::{Anomaly, Report, RuleResult, Severity},
    rules::Rule,
    show,
};
use serde::Serialize;

/// Checks what clients of a replicated log were told against what such a log promises.
///
/// A harness records a history into a directory: one file for each worker (hist/*.bin), what was done to the cluster
/// (nemesis.jsonl) and what kind of run it was (meta.json). Every operation ends as ok, as a certain failure, or as
/// unknown, and what is not known to be one of the first two is unknown.
///
/// The verdict is valid, invalid (a promise was broken, or the harness erred) or unknown (nothing wrong was seen, but the
/// run does not prove what it was to prove). Only valid is a success.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Exit codes: 0 valid, 1 invalid, 2 unknown, 64 usage, 65 no history that can be read, 74 cannot write.

Try it:
  logcheck generate /tmp/h --sends 100000       a history of a log that keeps its promises
  logcheck check /tmp/h                         valid
  logcheck mutate /tmp/h /tmp/bad --kind lose-value --seed 7
  logcheck check /tmp/bad                       invalid: lost-write, with the operations around it
  logcheck dump /tmp/bad --key 0 | less
  logcheck rules                                every rule, what it says and where it comes from";

#[derive(Debug, Subcommand)]
enum Command {
    /// Applies every rule, and says what it found.
    Check(CheckArgs),
    /// Prints the events in order of time, one JSON object each.
    Dump(DumpArgs),
    /// Damages a copy of a history in one place, to see whether the check notices.
    ///
    /// Kinds: drop-record, duplicate-record, swap-records, shift-run, forge-record, lose-value, duplicate-value,
    /// swap-values, drop-poll, duplicate-poll, swap-polls, drop-send, duplicate-send, fail-send, shift-ack, swap-acks,
    /// shift-watermark, shift-commit, swap-commits, drop-commit, drop-ack, shift-entry. README.md says which rule
    /// notices each.
    Mutate(MutateArgs),
    /// Makes up a history of a log that keeps its promises.
    Generate(GenerateArgs),
    /// Lists the rules: what each says, and where it comes from.
    Rules,
}

#[derive(Debug, Args)]
struct CheckArgs {
    dir: PathBuf,
    /// The whole report as one JSON object.
    #[arg(long)]
    json: bool,
    /// How many anomalies of each rule are shown with the operations around them.
    #[arg(long, default_value_t = 2)]
    anomalies: usize,
    /// How many other operations of the key are shown around each.
    #[arg(long, default_value_t = 6)]
    context: usize,
}

#[derive(Debug, Args)]
struct DumpArgs {
    dir: PathBuf,
    #[arg(long)]
    key: Option<u32>,
    #[arg(long)]
    process: Option<u32>,
    /// Only events that name this value.
    #[arg(long)]
    value: Option<u64>,
    /// Nanoseconds of the run.
    #[arg(long)]
    from: Option<u64>,
    #[arg(long)]
    to: Option<u64>,
}

#[derive(Debug, Args)]
struct MutateArgs {
    dir: PathBuf,
    out: PathBuf,
    #[arg(long, value_parser = parse_mutation)]
    kind: Mutation,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    dir: PathBuf,
    #[arg(long, default_value_t = 100_000)]
    sends: u64,
    /// How many readers read everything.
    #[arg(long, default_value_t = 3)]
    reads: u32,
    #[arg(long, default_value_t = 12)]
    keys: u32,
    #[arg(long, default_value_t = 4)]
    producers: u32,
    /// Members of a group that reads everything once more.
    #[arg(long, default_value_t = 3)]
    members: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parse_mutation(name: &str) -> Result<Mutation, String> {
    Mutation::named(name).ok_or_else(|| "no such kind: --help lists them".into())
}

/// 2, which clap would take, is a verdict.
pub const USAGE: u8 = 64;
const NO_HISTORY: u8 = 65;
const CANNOT_WRITE: u8 = 74;

/// What went wrong, and the exit code for it.
struct Failed(u8, String);

fn unreadable(error: impl std::fmt::Display) -> Failed {
    Failed(NO_HISTORY, error.to_string())
}

fn unwritable(error: impl std::fmt::Display) -> Failed {
    Failed(CANNOT_WRITE, error.to_string())
}

pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Check(CheckArgs { dir, json, anomalies, context }) => check(&dir, json, anomalies, context),
        Command::Dump(DumpArgs { dir, key, process, value, from, to }) => {
            print_dump(&dir, &dump::Filter { key, process, value, from, to })
        }
        Command::Mutate(MutateArgs { dir, out, kind, seed }) => mutated(&dir, &out, kind, seed),
        Command::Generate(GenerateArgs { dir, sends, reads, keys, producers, members, seed }) => {
            let plan = Plan { seed, sends, reads, keys: keys.max(1), producers, members, ..Plan::default() };
            plan.write(&dir).map(|()| 0).map_err(|error| unwritable(format!("{}: {error}", dir.display())))
        }
        Command::Rules => rules(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Failed(code, error)) => {
            // A closed pipe has nobody left to tell.
            let _ = writeln!(io::stderr(), "logcheck: {error}");
            ExitCode::from(code)
        }
    }
}

fn check(dir: &Path, json: bool, anomalies: usize, near: usize) -> Result<u8, Failed> {
    let began = Instant::now();
    let report = logcheck::check(dir).map_err(unreadable)?;
    let code = report.verdict.exit_code();
    let cost = Cost { seconds: began.elapsed().as_secs_f64(), peak_bytes: peak_bytes() };
    let text = if json {
        serde_json::to_string_pretty(&Checked { cost, report }).map_err(unwritable)? + "\n"
    } else {
        let table = show::report(&report);
        let shown = explain(dir, &report, anomalies, near)?;
        format!(
            "{table}\n{shown}checked in {:.2} s, {} MB\n{}\n",
            cost.seconds,
            cost.peak_bytes >> 20,
            show::verdict(&report)
        )
    };
    print(&text)?;
    Ok(code)
}

/// What `check --json` prints.
#[derive(Serialize)]
struct Checked {
    cost: Cost,
    report: Report,
}

#[derive(Clone, Copy, Serialize)]
struct Cost {
    seconds: f64,
    /// The most memory that the process had at once; 0 where the system does not tell.
    peak_bytes: u64,
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kb| kb << 10)
}

/// The first anomalies of each rule, those that the verdict hangs on.
fn explain(dir: &Path, report: &Report, anomalies: usize, near: usize) -> Result<String, Failed> {
    let weighs = |anomaly: &&Anomaly| anomaly.severity > Severity::Report;
    let of = |rule| -> Vec<(&RuleResult, &Anomaly)> {
        let rule: &RuleResult = rule;
        rule.anomalies.iter().filter(weighs).take(anomalies).map(|anomaly| (rule, anomaly)).collect()
    };
    let shown: Vec<(&RuleResult, &Anomaly)> = report.rules.iter().flat_map(of).collect();
    if shown.is_empty() {
        return Ok(String::new());
    }
    let meta = Meta::read(&files::meta_path(dir)).map_err(unreadable)?;
    let found: Vec<_> = shown.iter().map(|(_, anomaly)| &anomaly.found).collect();
    let around = context::around(dir, &found, near).map_err(unreadable)?;
    let told =
        shown.iter().zip(&around).map(|((rule, anomaly), seen)| show::anomaly(rule, anomaly, seen, &meta) + "\n");
    Ok(told.collect())
}

fn print(text: &str) -> Result<(), Failed> {
    quiet(io::stdout().lock().write_all(text.as_bytes()))
}

/// Who closes the pipe has seen enough.
fn quiet(written: io::Result<()>) -> Result<(), Failed> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn print_dump(dir: &Path, filter: &dump::Filter) -> Result<u8, Failed> {
    let mut out = BufWriter::new(io::stdout().lock());
    match dump::dump(dir, filter, &mut out) {
        Ok(()) => quiet(out.flush())?,
        Err(dump::DumpError::Write(error)) => quiet(Err(error))?,
        Err(dump::DumpError::File(error)) => return Err(unreadable(error)),
    }
    Ok(0)
}

fn mutated(dir: &Path, out: &Path, kind: Mutation, seed: u64) -> Result<u8, Failed> {
    let mut history = mutate::History::read(dir).map_err(unreadable)?;
    let Some(what) = kind.apply(&mut history, seed) else {
        return Err(unreadable(format!("{}: nothing in it that {} could change", dir.display(), kind.name())));
    };
    history.write(out).map_err(|error| unwritable(format!("{}: {error}", out.display())))?;
    print(&format!("{what}\n"))?;
    Ok(0)
}

fn rules() -> Result<u8, Failed> {
    let lines =
        Rule::ALL.iter().map(|rule| format!("{:<26} {}\n{:<26} [{}]\n", rule.name(), rule.says(), "", rule.source()));
    print(&lines.collect::<String>())?;
    Ok(0)
}
