//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{error::ChaosError, fault::Fault, workload::Workload};

/// Breaks a cluster of its own on purpose, and says whether anything that was acknowledged was lost.
///
/// It starts brokers on this machine, writes to them and reads from them while it kills, pauses, cuts off and damages
/// them, heals everything, reads everything, compares the replicas' logs, and checks what clients were told against what
/// a replicated log promises. Nothing outside of --dir is touched; of a cluster that runs (--brokers) only topics and groups of
/// the run's own, and who leads them.
///
/// Exit codes: 0 valid, 10 invalid (a promise was broken), 11 unknown (nothing wrong was seen, but the run proves too
/// little), 2 the command line makes no sense, 1 it could not be run, 130 ended by Ctrl-C.
#[derive(Clone, Debug, Parser)]
#[command(name = "flotilla-chaos", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For how long faults are injected; starting, the final reads and the check take about another minute.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub minutes: u64,
    /// The same in seconds, for short runs.
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    pub seconds: Option<u64>,
    /// Everything that is left to chance in the schedule comes from it: equal seeds, equal schedules.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Each fault with each workload alone, on a cluster of its own, for --seconds each (60 if it is not given): a table
    /// says how each ended, and only what was not valid is kept.
    #[arg(long, conflicts_with = "minutes")]
    pub matrix: bool,
    /// Which faults, by name, with commas between; or all, or none.
    #[arg(long, default_value = "all", value_name = "NAMES", value_delimiter = ',')]
    pub faults: Vec<String>,
    /// What clients do, by name, with commas between; or all.
    #[arg(long, default_value = "all", value_name = "NAMES", value_delimiter = ',')]
    pub workload: Vec<String>,
    /// How many records are sent in a second, of 100 bytes each.
    #[arg(long, default_value_t = 6_000, value_name = "N")]
    pub rate: u32,
    /// How many brokers: 3 or 5.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub nodes: u8,
    /// Work on a cluster that runs, reached at these addresses (HOST:PORT, with commas between): in topics and groups of the
    /// run's own, with the faults that need no hand on a broker, while you do to it what you like.
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', conflicts_with_all = ["nodes", "flotilla", "matrix"])]
    pub brokers: Vec<String>,
    /// Where that cluster speaks Kafka's protocol, for k1 and k2.
    #[arg(long, value_name = "ADDRESSES", requires = "brokers")]
    pub kafka_brokers: Option<String>,
    /// How many partitions the main topic has.
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub partitions: u32,
    /// Where the history, the report and the brokers' files go [default: a new directory chaos-SEED-TIME here]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The broker's binary [default: FLOTILLA_BIN, else flotilla beside this program, else from PATH]
    #[arg(long, value_name = "FILE")]
    pub flotilla: Option<PathBuf>,
    /// Keep the brokers' files, or the topics on a cluster that runs, also if the verdict is valid.
    #[arg(long)]
    pub keep: bool,
    /// List faults and workloads, with what is not available here and why, and end.
    #[arg(long)]
    pub list: bool,
}

/// What else can be done than a run.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check a run again, and make its report again, from the files in its directory.
    Report { dir: PathBuf },
}

const SECONDS_MIN: u64 = 20;
/// How long a cell of the matrix lasts.
const CELL_SECONDS: u64 = 60;
const SECONDS_MAX: u64 = 24 * 3_600;
const PARTITIONS_MAX: u32 = 256;
const RATE_MAX: u32 = 200_000;

impl Options {
    /// How long faults are injected.
    pub fn span_seconds(&self) -> Result<u64, ChaosError> {
        let seconds = self.seconds.unwrap_or(self.minutes.saturating_mul(60));
        between("the time that faults get, in seconds", seconds, SECONDS_MIN, SECONDS_MAX)
    }

    /// Refuses what makes no sense, before anything is done.
    pub fn validate(&self) -> Result<(), ChaosError> {
        self.span_seconds()?;
        between("--partitions", u64::from(self.partitions), 1, u64::from(PARTITIONS_MAX))?;
        between("--rate", u64::from(self.rate), 10, u64::from(RATE_MAX))?;
        if ![3, 5].contains(&self.nodes) {
            return Err(ChaosError::Usage(format!("--nodes is {}: 3 and 5 are possible", self.nodes)));
        }
        self.kinds()?;
        self.workloads()?;
        Ok(())
    }

    /// The faults that were asked for, available or not.
    pub fn kinds(&self) -> Result<Vec<Fault>, ChaosError> {
        match self.faults.as_slice() {
            [all] if all == "all" => Ok(Fault::ALL.to_vec()),
            [none] if none == "none" => Ok(vec![]),
            names => names.iter().map(|name| name.parse().map_err(ChaosError::Usage)).collect(),
        }
    }

    /// Why a workload is not available, if so.
    pub fn lacks(&self, workload: Workload) -> Option<String> {
        let is_missing = workload.needs_kafka() && !self.brokers.is_empty() && self.kafka_brokers.is_none();
        is_missing.then(|| "it needs --kafka-brokers".into())
    }

    /// The workloads that were asked for, and the one that is always on.
    pub fn workloads(&self) -> Result<Vec<Workload>, ChaosError> {
        let mut wanted = match self.workload.as_slice() {
            [all] if all == "all" => Workload::ALL.iter().copied().filter(|all| self.lacks(*all).is_none()).collect(),
            names => {
                let parsed: Result<Vec<Workload>, String> = names.iter().map(|name| name.parse()).collect();
                parsed.map_err(ChaosError::Usage)?
            }
        };
        if let Some((workload, why)) = wanted.iter().find_map(|workload| Some((workload, self.lacks(*workload)?))) {
            return Err(ChaosError::Usage(format!("--workload {workload}: {why}")));
        }
        wanted.push(Workload::Records);
        wanted.sort_unstable();
        wanted.dedup();
        Ok(wanted)
    }

    /// The cells of the matrix, by fault.
    pub fn cells(&self) -> Result<Vec<(Fault, Workload)>, ChaosError> {
        let (mut faults, workloads) = (self.kinds()?, self.workloads()?);
        faults.sort_unstable();
        faults.dedup();
        let of = |fault: Fault| workloads.iter().map(move |workload| (fault, *workload));
        Ok(faults.into_iter().flat_map(of).collect())
    }

    /// The run that is one cell of the matrix.
    pub fn of_cell(&self, fault: Fault, workload: Workload, dir: PathBuf) -> Options {
        Options {
            matrix: false,
            seconds: Some(self.seconds.unwrap_or(CELL_SECONDS)),
            faults: vec![fault.to_string()],
            workload: vec![workload.to_string()],
            dir: Some(dir),
            ..self.clone()
        }
    }

    /// The command that repeats the run.
    pub fn command(&self) -> String {
        let time = match self.seconds {
            Some(seconds) => format!("--seconds {seconds}"),
            None => format!("--minutes {}", self.minutes),
        };
        let cluster = match (self.brokers.join(","), &self.kafka_brokers) {
            (none, _) if none.is_empty() => format!("--nodes {}", self.nodes),
            (brokers, None) => format!("--brokers {brokers}"),
            (brokers, Some(kafka)) => format!("--brokers {brokers} --kafka-brokers {kafka}"),
        };
        format!(
            "flotilla-chaos {time} --seed {} --faults {} --workload {} --rate {} {cluster} --partitions {}",
            self.seed,
            self.faults.join(","),
            self.workload.join(","),
            self.rate,
            self.partitions
        )
    }
}

fn between(what: &str, value: u64, least: u64, most: u64) -> Result<u64, ChaosError> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(ChaosError::Usage(format!("{what}: {value} is not between {least} and {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        Options::parse_from(["flotilla-chaos"].into_iter().chain(words.split_whitespace()))
    }

    #[test]
    fn the_command_repeats_the_run() {
        let options = parse("--seconds 60 --seed 7 --faults kill,kill-all --rate 100 --nodes 5");
        let again = parse(options.command().strip_prefix("flotilla-chaos").expect("its name"));
        assert_eq!(again.command(), options.command());
        assert_eq!(again.kinds().expect("they exist"), [Fault::Kill, Fault::KillAll]);
        assert_eq!(again.span_seconds().expect("in range"), 60);
    }

    #[test]
    fn a_report_is_made_again_from_a_directory_and_nothing_else() {
        let Some(Command::Report { dir }) = parse("report chaos-1-2").command else { panic!("no report") };
        assert_eq!(dir, PathBuf::from("chaos-1-2"));
        assert!(parse("--seed 2").command.is_none());
        for words in ["report", "report a b", "--seed 2 report a", "reports a"] {
            assert!(
                Options::try_parse_from(["flotilla-chaos"].into_iter().chain(words.split(' '))).is_err(),
                "{words}"
            );
        }
    }

    #[test]
    fn each_fault_meets_each_workload_once() {
        let options = parse("--matrix --faults kill,pause,kill --workload w4,w2 --nodes 5");
        let cells = options.cells().expect("they exist");
        assert_eq!(cells.len(), 2 * 3, "w1 is always on, and comes alone too: {cells:?}");
        assert_eq!(cells[0], (Fault::Kill, Workload::Records));
        let run = options.of_cell(Fault::Pause, Workload::Offsets, "there".into());
        assert_eq!(run.kinds().expect("they exist"), [Fault::Pause]);
        assert_eq!(run.workloads().expect("they exist"), [Workload::Records, Workload::Offsets]);
        assert_eq!((run.span_seconds().expect("in range"), run.nodes, run.matrix), (60, 5, false));
        assert_eq!(
            parse(&run.command()["flotilla-chaos".len()..]).command(),
            run.command(),
            "it can be repeated alone"
        );
    }

    #[test]
    fn on_a_cluster_that_runs_kafka_clients_have_to_be_told_where() {
        let kinds = |words: &str| parse(words).workloads();
        assert!(kinds("").expect("all").contains(&Workload::KafkaGroup), "the brokers of the run's own speak it");
        assert!(!kinds("--brokers a:1").expect("all others").contains(&Workload::KafkaRecords));
        assert!(kinds("--brokers a:1 --kafka-brokers b:2").expect("all").contains(&Workload::KafkaRecords));
        let error = parse("--brokers a:1 --workload w2,k1").validate().expect_err("it cannot be done");
        assert!(error.to_string().contains("k1"), "{error}");
        let options = parse("--brokers a:1,b:2 --kafka-brokers c:3 --seconds 60");
        let again = parse(options.command().strip_prefix("flotilla-chaos").expect("its name"));
        assert_eq!((again.brokers, again.kafka_brokers), (options.brokers, options.kafka_brokers));
        for words in ["--brokers a:1 --nodes 3", "--brokers a:1 --matrix", "--kafka-brokers b:2"] {
            let parsed = Options::try_parse_from(["flotilla-chaos"].into_iter().chain(words.split(' ')));
            assert!(parsed.is_err(), "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_value() {
        for (words, value) in
            [("--nodes 4", "4"), ("--seconds 3", "3"), ("--faults kil", "\"kil\""), ("--workload w99", "\"w99\"")]
        {
            let error = parse(words).validate().expect_err(words);
            assert!(error.to_string().contains(value), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        parse("").validate().expect("the defaults make sense");
    }
}
