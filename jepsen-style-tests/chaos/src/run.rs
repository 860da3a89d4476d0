//! `run.json`: what a run says of itself beyond its history. Times are nanoseconds of the history's clock.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::running::Compared;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub seed: u64,
    /// How to repeat it.
    pub command: String,
    pub version: String,
    /// Wall clock, milliseconds since 1970.
    pub began_ms: i64,
    /// When load began and ended, the warm-up and the final reads apart.
    pub main: Span,
    pub nodes: Vec<String>,
    pub workloads: Vec<String>,
    /// Asked for and not available here, with the reason.
    pub unavailable: Vec<Unavailable>,
    /// From each fault's start or end to the next acknowledgement of what it had stopped.
    pub recoveries: Vec<Recovery>,
    /// Stretches of the main phase without any fault, settling apart.
    pub calm: Vec<Span>,
    /// Stretches with faults that left a majority alone; if a run does not say, a report goes by whom they hit.
    #[serde(default)]
    pub one_hit: Vec<Span>,
    #[serde(default)]
    pub throughput: Throughput,
    /// For how many milliseconds nothing of what clients do ended well, at most, while a majority was left alone.
    #[serde(default)]
    pub silences_ms: BTreeMap<String, u64>,
    /// Of what clients did, that which never ended well.
    #[serde(default)]
    pub never: Vec<String>,
    /// On a cluster that runs: what comparing its replicas found.
    #[serde(default)]
    pub compared: Compared,
}

/// Acknowledged records in a second, with and without faults. None: there was no such time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    pub calm: Option<f64>,
    /// While at most a minority was hit.
    pub one_hit: Option<f64>,
    /// The run had such faults, so both must have been measured.
    pub is_expected: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    pub fault: String,
    pub why: String,
}

impl Unavailable {
    /// The names that share a reason, with commas between, and the reason.
    pub fn by_reason(all: &[Unavailable]) -> Vec<(String, &str)> {
        let mut reasons: Vec<(String, &str)> = vec![];
        for Unavailable { fault, why } in all {
            match reasons.iter_mut().find(|(_, known)| known == why) {
                Some((names, _)) => *names += &format!(", {fault}"),
                None => reasons.push((fault.clone(), why)),
            }
        }
        reasons
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub fault: String,
    pub at: u64,
    pub took_ms: u64,
}

impl Run {
    pub fn read(dir: &Path) -> io::Result<Run> {
        serde_json::from_slice(&fs::read(dir.join("run.json"))?).map_err(io::Error::other)
    }

    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join("run.json"), serde_json::to_string_pretty(self).map_err(io::Error::other)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_many_share_is_said_once() {
        let lacks = |fault: &str, why: &str| Unavailable { fault: fault.into(), why: why.into() };
        let all = [lacks("kill", "no brokers"), lacks("power-cut", "no FUSE"), lacks("pause", "no brokers")];
        let reasons = Unavailable::by_reason(&all);
        assert_eq!(reasons, [("kill, pause".to_string(), "no brokers"), ("power-cut".to_string(), "no FUSE")]);
    }
}
