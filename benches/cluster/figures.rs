//! What is measured, and what it is called.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One kind of figure. Its name in the JSON is an interface: earlier runs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    RecordsPerS,
    MbPerS,
    P50Ms,
    P99Ms,
    /// Of all three brokers, per million records.
    CpuSPerMillion,
    /// To the device, of all brokers, per byte of value and replica.
    WrittenPerByte,
    /// From the device, per byte of value: 0 if all of it came from memory.
    ReadPerByte,
    /// Of three brokers: the most so far; of idle ones what they hold now.
    RssMb,
    /// Of three idle brokers.
    Cores,
    /// Until all is well again.
    Seconds,
    Errors,
}

impl Figure {
    pub const ALL: [Figure; 11] = [
        Figure::RecordsPerS,
        Figure::MbPerS,
        Figure::P50Ms,
        Figure::P99Ms,
        Figure::CpuSPerMillion,
        Figure::WrittenPerByte,
        Figure::ReadPerByte,
        Figure::RssMb,
        Figure::Cores,
        Figure::Seconds,
        Figure::Errors,
    ];

    pub fn heading(self) -> &'static str {
        match self {
            Figure::RecordsPerS => "records/s",
            Figure::MbPerS => "MB/s",
            Figure::P50Ms => "p50 ms",
            Figure::P99Ms => "p99 ms",
            Figure::CpuSPerMillion => "CPU s/M",
            Figure::WrittenPerByte => "written B/B",
            Figure::ReadPerByte => "read B/B",
            Figure::RssMb => "RSS MB",
            Figure::Cores => "cores",
            Figure::Seconds => "s",
            Figure::Errors => "errors",
        }
    }

    pub fn digits(self) -> usize {
        match self {
            Figure::RecordsPerS | Figure::RssMb | Figure::Errors => 0,
            Figure::MbPerS | Figure::CpuSPerMillion => 1,
            Figure::P50Ms | Figure::P99Ms | Figure::WrittenPerByte | Figure::ReadPerByte => 2,
            Figure::Cores | Figure::Seconds => 3,
        }
    }

    /// How much better `this` is than `other`: above 1 is better, whatever the figure. None: there is no telling.
    pub fn ratio(self, this: f64, other: f64) -> Option<f64> {
        let ratio = match self {
            Figure::RecordsPerS | Figure::MbPerS => this / other,
            Figure::P50Ms
            | Figure::P99Ms
            | Figure::CpuSPerMillion
            | Figure::WrittenPerByte
            | Figure::ReadPerByte
            | Figure::RssMb
            | Figure::Cores
            | Figure::Seconds => other / this,
            Figure::Errors => return None,
        };
        (this > 0.0 && other > 0.0).then_some(ratio)
    }
}

/// What one measurement came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<Figure, f64>);

impl Figures {
    pub fn get(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).copied()
    }

    pub fn set(&mut self, figure: Figure, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.0.insert(figure, value);
        }
    }

    pub fn unset(&mut self, figure: Figure) {
        self.0.remove(&figure);
    }

    /// To digits that mean something.
    pub fn round(&mut self) {
        const SCALE: f64 = 10_000.0;
        self.0.values_mut().for_each(|value| *value = (*value * SCALE).round() / SCALE);
    }

    /// Of several rounds, figure by figure.
    pub fn median(rounds: &[Figures]) -> Figures {
        let median = |figure: &Figure| {
            let mut values: Vec<f64> = rounds.iter().filter_map(|round| round.get(*figure)).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            match values.len() {
                0 => None,
                odd if odd % 2 == 1 => Some((*figure, values[middle])),
                _ => Some((*figure, (values[middle - 1] + values[middle]) / 2.0)),
            }
        };
        Figures(Figure::ALL.iter().filter_map(median).collect())
    }

    pub fn ratios(&self, other: &Figures) -> Figures {
        let ratio = |figure: &Figure| Some((*figure, figure.ratio(self.get(*figure)?, other.get(*figure)?)?));
        Figures(Figure::ALL.iter().filter_map(ratio).collect())
    }
}

/// Which of the binaries that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    This,
    Other,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::This => "this",
            Side::Other => "other",
        })
    }
}

pub struct Sides {
    pub this: PathBuf,
    pub other: Option<PathBuf>,
}

impl Sides {
    /// In turn the one and the other first, so that what drifts meets both alike.
    pub fn in_round(&self, round: u64) -> Vec<Side> {
        match (&self.other, round % 2) {
            (None, _) => vec![Side::This],
            (Some(_), 0) => vec![Side::This, Side::Other],
            (Some(_), _) => vec![Side::Other, Side::This],
        }
    }

    pub fn path(&self, side: Side) -> &PathBuf {
        match side {
            Side::This => &self.this,
            Side::Other => self.other.as_ref().expect("it is measured only if it was given"),
        }
    }
}
