//! What the command line asks for.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

use crate::scenarios::{KAFKA_PREFIX, SCENARIOS, Scenario};

/// Measures a cluster of three real brokers on this machine.
#[derive(Parser)]
pub struct Options {
    /// Only these scenarios: names, or parts of names.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Which listeners are measured. A binary from before there was Kafka's has only the other.
    #[arg(long, value_enum, default_value_t)]
    pub face: FaceArg,
    /// List the scenarios and measure nothing.
    #[arg(long)]
    pub list: bool,
    /// Half a second each: to see that everything works. So it is under `cargo test`, too.
    #[arg(long)]
    short: bool,
    /// How long to measure a load [default: 15].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// How long to load before measuring [default: 3].
    #[arg(long, value_name = "SECONDS")]
    warmup: Option<f64>,
    /// How often everything is measured; the table has medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub rounds: u64,
    /// The JSON of an earlier run: print the ratios to it.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Another binary, measured in turn with this one: print the ratios of the two.
    #[arg(long, value_name = "PATH")]
    pub against_binary: Option<PathBuf>,
    /// Fail if the figure that a scenario is judged by has a lower ratio to the other binary's.
    #[arg(long, value_name = "RATIO", requires = "against_binary")]
    pub at_least: Option<f64>,
    /// `cargo bench` says so, `cargo test` does not.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(skip)]
    pub form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FaceArg {
    Grpc,
    Kafka,
    #[default]
    Both,
}

impl FaceArg {
    fn has(self, scenario: &Scenario) -> bool {
        match self {
            FaceArg::Grpc => !scenario.name.starts_with(KAFKA_PREFIX),
            FaceArg::Kafka => scenario.name.starts_with(KAFKA_PREFIX),
            FaceArg::Both => true,
        }
    }
}

/// How much is measured of each scenario.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pub is_short: bool,
    /// Making a thousand takes long on a machine that does other things, too.
    pub partitions_max: u32,
    pub warmup: Duration,
    pub measured: Duration,
    /// How long a cluster is left alone before it counts as idle, and then.
    pub settle: Duration,
    pub idle: Duration,
    /// Records of 1 KiB that a topic is filled with.
    pub filled_records: u64,
    pub read_records: u64,
    pub groups: u32,
}

impl Form {
    fn short() -> Form {
        Form {
            is_short: true,
            partitions_max: 64,
            warmup: Duration::from_millis(200),
            measured: Duration::from_millis(500),
            settle: Duration::from_millis(500),
            idle: Duration::from_secs(1),
            filled_records: 20_000,
            read_records: 20_000,
            groups: 10,
        }
    }

    fn full() -> Form {
        Form {
            is_short: false,
            partitions_max: u32::MAX,
            warmup: Duration::from_secs(3),
            measured: Duration::from_secs(15),
            settle: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            filled_records: 1_000_000,
            read_records: 1_000_000,
            groups: 200,
        }
    }
}

impl Options {
    pub fn from_command_line() -> Options {
        let mut options = Options::parse();
        let mut form = if options.short || !options.bench { Form::short() } else { Form::full() };
        form.measured = options.seconds.map_or(form.measured, Duration::from_secs_f64);
        form.warmup = options.warmup.map_or(form.warmup, Duration::from_secs_f64);
        options.form = form;
        options
    }

    /// The scenarios asked for, in the faces asked for. A whole name means that one alone, through each of them.
    pub fn wanted(&self) -> Result<Vec<&'static Scenario>, String> {
        let offered: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| self.face.has(scenario)).collect();
        let mut wanted: Vec<&Scenario> = vec![];
        for part in &self.only {
            let is_whole = |name: &str| name == part || name.strip_prefix(KAFKA_PREFIX) == Some(part);
            let whole = offered.iter().copied().filter(|scenario| is_whole(scenario.name));
            let found: Vec<&Scenario> = whole.collect();
            let parts = || offered.iter().copied().filter(|scenario| scenario.name.contains(part.as_str())).collect();
            let found = if found.is_empty() { parts() } else { found };
            if found.is_empty() {
                return Err(format!("no scenario has {part:?} in its name; --list shows them"));
            }
            wanted.extend(found);
        }
        let all = self.only.is_empty();
        Ok(offered.into_iter().filter(|s| all || wanted.iter().any(|wanted| wanted.name == s.name)).collect())
    }
}
