//! `meta.json`: what kind of run it was, what the cluster promised in it, and what the run must have shown.
//!
//! Fields that are not known are refused: a misspelt promise must not be taken for none.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::files::BadFile;

/// More keys than that are no run of ours, and would cost memory for each.
pub const KEYS_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The version of this file: 1.
    pub format: u32,
    pub run: u32,
    /// What each key number stands for: topic and partition, and which of its incarnations if it has several.
    pub keys: Vec<String>,
    /// Whether the harness came to its end. If not, nothing is proved.
    #[serde(default)]
    pub finished: bool,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub git: String,
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// How to repeat the run.
    #[serde(default)]
    pub command: String,
    /// The run's settings, for whoever reads the report.
    #[serde(default)]
    pub config: serde_json::Value,
    #[serde(default)]
    pub promises: Promises,
    #[serde(default)]
    pub expects: Expects,
    #[serde(default)]
    pub harness: Harness,
    /// Error codes that a run may see, beside [`crate::rules::errors::MODELLED`].
    #[serde(default)]
    pub modelled_errors: Vec<i16>,
}

/// What the cluster and its clients were set to promise: the severity of some rules hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promises {
    /// All producers are idempotent, also those whose sends carry no sequence.
    pub idempotent: bool,
    /// Clients send again what they do not know to be appended. If not, even a plain producer makes no duplicates.
    pub client_retries: bool,
    /// A fetch sees everything that was acknowledged before it began.
    pub linearizable_fetch: bool,
    /// Records may go at the front of the log: by age, by size or because somebody asked.
    pub retention: bool,
    /// Where a group begins that has committed nothing.
    pub reset: Reset,
}

impl Default for Promises {
    fn default() -> Promises {
        Promises {
            idempotent: false,
            client_retries: true,
            linearizable_fetch: false,
            retention: false,
            reset: Reset::Earliest,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    Earliest,
    Latest,
}

/// What a run must have shown, or it has proved nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expects {
    /// By phase (`warm`, `main`, `final`) and operation (`send`, `poll`, `commit`, ...): how many must have been ok.
    pub ok: BTreeMap<String, BTreeMap<String, u64>>,
    /// By fault: how often it must have been installed.
    pub faults: BTreeMap<String, u64>,
    /// By fault: how often it must have hit whoever led something.
    pub leaders_hit: BTreeMap<String, u64>,
    /// The run was meant to be free of faults. Otherwise at least one must have been installed.
    pub fault_free: bool,
    /// Every replica's log was to be dumped after the run.
    pub replicas: bool,
    /// How often the log start must have been seen to move, over all keys.
    pub trims: u64,
    /// Not every key is read to its end in the final phase. Then nothing is said of what was not read.
    pub no_final_reads: bool,
}

/// What the harness says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Harness {
    /// What went wrong in it: any of it makes the run invalid.
    pub errors: Vec<String>,
    /// Workers that the run killed on purpose: their files need no end.
    pub crashed_workers: Vec<String>,
}

impl Meta {
    pub fn read(path: &Path) -> Result<Meta, BadFile> {
        let text = fs::read_to_string(path).map_err(|error| BadFile::Io { path: path.into(), error })?;
        let bad = |reason: String| BadFile::Text { path: path.into(), reason };
        let meta: Meta = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if meta.format != 1 {
            return Err(bad(format!("format {}: this program reads format 1", meta.format)));
        }
        if meta.keys.len() > KEYS_MAX {
            return Err(bad(format!("{} keys, more than {KEYS_MAX}", meta.keys.len())));
        }
        Ok(meta)
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self).map_err(io::Error::other)? + "\n")
    }

    /// What a key is called in a report.
    pub fn key(&self, key: u32) -> String {
        self.keys.get(key as usize).map_or_else(|| format!("key {key}"), |name| format!("{name} (key {key})"))
    }
}
