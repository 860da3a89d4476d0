//! A run as JSON: every figure of every round, and what it was measured on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{
    figures::{Figure, Figures, Side, Sides},
    options::Options,
};

#[derive(Serialize, Deserialize)]
pub struct Kept {
    /// Of the sources that this was built from; a binary may be of another one.
    commit: String,
    /// UTC.
    date: String,
    machine: Machine,
    is_short: bool,
    measured_s: f64,
    binaries: BTreeMap<Side, PathBuf>,
    /// By scenario: of each round.
    scenarios: BTreeMap<String, BTreeMap<Side, Vec<Figures>>>,
}

#[derive(Serialize, Deserialize)]
struct Machine {
    cpu: String,
    cores: usize,
    memory: String,
    kernel: String,
}

impl Kept {
    pub fn new(options: &Options, sides: &Sides) -> Kept {
        let this = (Side::This, sides.this.clone());
        let other = sides.other.clone().map(|path| (Side::Other, path));
        Kept {
            commit: said("git", &["describe", "--always", "--dirty"]),
            date: said("date", &["--utc", "+%Y-%m-%dT%H-%M-%SZ"]),
            machine: Machine::this(),
            is_short: options.form.is_short,
            measured_s: options.form.measured.as_secs_f64(),
            binaries: [this].into_iter().chain(other).collect(),
            scenarios: BTreeMap::new(),
        }
    }

    pub fn read(path: &Path) -> Result<Kept, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{} is no run of this bench: {error}", path.display()))
    }

    /// Where this run is kept.
    pub fn path(&self) -> PathBuf {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory");
        target.join("bench").join(format!("cluster-{}-{}.json", self.date, self.commit))
    }

    /// After each measurement: a run that is broken off has measured something.
    pub fn save(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).expect("numbers and names are JSON");
        let saved = fs::create_dir_all(path.parent().expect("it has a directory")).and_then(|()| fs::write(path, text));
        saved.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pub fn add(&mut self, scenario: &str, side: Side, figures: Figures) {
        self.scenarios.entry(scenario.into()).or_default().entry(side).or_default().push(figures);
    }

    fn rounds(&self, scenario: &str, side: Side) -> &[Figures] {
        self.scenarios.get(scenario).and_then(|sides| sides.get(&side)).map_or(&[], Vec::as_slice)
    }

    /// Over the rounds. None: it was not measured.
    pub fn median(&self, scenario: &str, side: Side) -> Option<Figures> {
        let rounds = self.rounds(scenario, side);
        (!rounds.is_empty()).then(|| Figures::median(rounds))
    }

    /// Of this binary to the other: the median of each round's, since a round's two measurements are neighbours.
    pub fn ratios(&self, scenario: &str) -> Figures {
        Figures::median(&self.ratios_by_round(scenario))
    }

    pub fn ratios_by_round(&self, scenario: &str) -> Vec<Figures> {
        let pairs = self.rounds(scenario, Side::This).iter().zip(self.rounds(scenario, Side::Other));
        pairs.map(|(this, other)| this.ratios(other)).collect()
    }

    pub fn errors(&self, scenario: &str) -> f64 {
        let sides = self.scenarios.get(scenario).into_iter().flat_map(BTreeMap::values);
        sides.flatten().filter_map(|figures| figures.get(Figure::Errors)).sum()
    }

    /// What the table was measured on, in a line.
    pub fn headline(&self) -> String {
        let Kept { commit, date, machine: Machine { cpu, cores, memory, kernel }, measured_s, .. } = self;
        let form = if self.is_short { "SHORT FORM: no figures to compare" } else { "three brokers, three replicas" };
        let binaries = self.binaries.iter().map(|(side, path)| format!(", {side}: {}", path.display()));
        let binaries: String = binaries.collect();
        format!(
            "{form}, {measured_s} s a load; {cores} x {cpu}, {memory}, Linux {kernel}; {date}, sources {commit}{binaries}"
        )
    }
}

impl Machine {
    fn this() -> Machine {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value));
            value.map_or_else(|| "unknown".into(), |value| value.trim().to_string())
        };
        Machine {
            cpu: first("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory: first("/proc/meminfo", "MemTotal"),
            kernel: said("uname", &["-r"]),
        }
    }
}

/// What a command says, or that it is unknown: a tree without git can be measured, too.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".into(), |text| String::from_utf8_lossy(&text).trim().to_string())
}
