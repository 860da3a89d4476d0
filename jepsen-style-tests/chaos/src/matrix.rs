//! Every fault with every workload, alone, each on a cluster of its own: what hides in the crowd of a random schedule shows
//! there.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use crate::{
    engine::{self, Plan},
    error::ChaosError,
    fault::Fault,
    options::Options,
    run::Unavailable,
    workload::Workload,
};

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Valid,
    Unknown,
    Invalid,
    /// It could not be run to its end.
    Broken,
}

impl Ended {
    fn of(run: &Result<engine::Done, ChaosError>) -> Ended {
        match run.as_ref().map(|done| done.exit_code) {
            Ok(0) => Ended::Valid,
            Ok(10) => Ended::Invalid,
            Ok(_) => Ended::Unknown,
            Err(_) => Ended::Broken,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Ended::Valid => "valid",
            Ended::Unknown => "UNKNOWN",
            Ended::Invalid => "INVALID",
            Ended::Broken => "NOT RUN",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Ended::Valid => 0,
            Ended::Unknown => 11,
            Ended::Invalid => 10,
            Ended::Broken => 1,
        }
    }
}

/// What a matrix came to.
#[derive(Debug, Default)]
pub struct Outcome {
    ended: BTreeMap<(Fault, Workload), Ended>,
    unavailable: Vec<Unavailable>,
}

/// Runs all cells, one after the other, and goes on after one that failed.
pub async fn run(options: Options, dir: &Path) -> Result<Outcome, ChaosError> {
    options.validate()?;
    let cells = options.cells()?;
    let mut outcome = Outcome::default();
    for (at, (fault, workload)) in cells.iter().copied().enumerate() {
        let name = format!("{fault}-{workload}");
        let plan = match Plan::of(options.of_cell(fault, workload, dir.join(&name))) {
            Ok(plan) => plan,
            Err(error @ ChaosError::DirTaken(_)) => {
                eprintln!("flotilla-chaos: {error}");
                outcome.ended.insert((fault, workload), Ended::Broken);
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(lacks) = plan.unavailable.first() {
            outcome.lacks(lacks);
            continue;
        }
        let run = engine::run(plan).await;
        let ended = Ended::of(&run);
        eprintln!("cell {} of {}: {fault} with {workload}: {}", at + 1, cells.len(), ended.word());
        match run {
            Ok(_) if ended == Ended::Valid && !options.keep => drop(fs::remove_dir_all(dir.join(&name))),
            Ok(done) => eprintln!("{}", done.table),
            Err(error) => eprintln!("flotilla-chaos: {error}"),
        }
        outcome.ended.insert((fault, workload), ended);
    }
    // If all were valid, nothing is in it.
    let _ = fs::remove_dir(dir);
    Ok(outcome)
}

impl Outcome {
    fn lacks(&mut self, lacks: &Unavailable) {
        if !self.unavailable.contains(lacks) {
            self.unavailable.push(lacks.clone());
        }
    }

    /// That of the worst cell. Where no cell could be run, nothing is proven.
    pub fn exit_code(&self) -> u8 {
        let has = |ended: Ended| self.ended.values().any(|found| *found == ended);
        let worst = [Ended::Invalid, Ended::Broken, Ended::Unknown].into_iter().find(|ended| has(*ended));
        let none = if self.ended.is_empty() { Ended::Unknown } else { Ended::Valid };
        worst.unwrap_or(none).exit_code()
    }

    /// A row for each fault, a column for each workload, and what is to be looked at.
    pub fn table(&self, dir: &Path) -> String {
        let mut workloads: Vec<Workload> = self.ended.keys().map(|(_, workload)| *workload).collect();
        workloads.sort_unstable();
        workloads.dedup();
        let mut faults: Vec<Fault> = self.ended.keys().map(|(fault, _)| *fault).collect();
        faults.dedup();
        let mut out = format!("{:<18}", "fault");
        for workload in &workloads {
            let _ = write!(out, " {workload:<8}");
        }
        for fault in faults {
            let _ = write!(out, "\n{fault:<18}");
            for workload in &workloads {
                let ended = self.ended.get(&(fault, *workload)).map_or("-", |ended| ended.word());
                let _ = write!(out, " {ended:<8}");
            }
        }
        for (names, why) in Unavailable::by_reason(&self.unavailable) {
            let _ = write!(out, "\nnot done: {names}: {why}");
        }
        let valid = self.ended.values().filter(|ended| **ended == Ended::Valid).count();
        let _ = writeln!(out, "\n\n{valid} of {} cells valid", self.ended.len());
        if valid < self.ended.len() {
            let _ = writeln!(out, "reports   of the others are below {}", dir.display());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(cells: &[(Fault, Workload, Ended)]) -> Outcome {
        let ended = cells.iter().map(|(fault, workload, ended)| ((*fault, *workload), *ended));
        Outcome { ended: ended.collect(), unavailable: vec![] }
    }

    #[test]
    fn the_worst_cell_is_what_a_matrix_ends_with() {
        let valid = (Fault::Kill, Workload::Records, Ended::Valid);
        let unknown = (Fault::Pause, Workload::Group, Ended::Unknown);
        let broken = (Fault::Pause, Workload::Topics, Ended::Broken);
        let invalid = (Fault::Kill, Workload::Group, Ended::Invalid);
        assert_eq!(outcome(&[valid]).exit_code(), 0);
        assert_eq!(outcome(&[valid, unknown]).exit_code(), 11);
        assert_eq!(outcome(&[valid, unknown, broken]).exit_code(), 1);
        assert_eq!(outcome(&[invalid, valid, broken]).exit_code(), 10);
        assert_eq!(outcome(&[]).exit_code(), 11, "nothing was proven");
    }

    #[test]
    fn the_table_has_a_row_for_each_fault() {
        let mut outcome = outcome(&[
            (Fault::Kill, Workload::Records, Ended::Valid),
            (Fault::Kill, Workload::Group, Ended::Invalid),
            (Fault::Pause, Workload::Records, Ended::Valid),
        ]);
        let lacks = Unavailable { fault: "power-cut".into(), why: "there is no FUSE here".into() };
        outcome.lacks(&lacks);
        outcome.lacks(&lacks);
        let table = outcome.table(Path::new("there"));
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(
            lines[..3],
            ["fault              w1       w2", "kill               valid    INVALID", "pause              valid    -"]
        );
        assert_eq!(
            lines[3..],
            [
                "not done: power-cut: there is no FUSE here",
                "",
                "2 of 3 cells valid",
                "reports   of the others are below there"
            ]
        );
    }
}
