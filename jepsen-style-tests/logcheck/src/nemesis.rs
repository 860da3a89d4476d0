//! `nemesis.jsonl`: what was done to the cluster, and what became of its nodes. One JSON object a line.

use std::{fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};

use crate::files::BadFile;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    Start(Fault),
    Stop(Fault),
    /// A node ended by itself, or said that something cannot be.
    NodeFailure {
        at: u64,
        node: String,
        what: String,
        /// Whether a fault explains it.
        #[serde(default)]
        expected: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub at: u64,
    pub fault: String,
    #[serde(default)]
    pub targets: Vec<String>,
    pub outcome: Done,
    /// What the targets led at that time: partitions, metadata, groups.
    #[serde(default)]
    pub led: Vec<String>,
}

/// What became of the attempt to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    Installed,
    /// Not done: there was nothing to do it to, or it is not available here.
    Skipped,
    Indeterminate,
}

/// What stands in the file, and whether its last line was cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nemesis {
    pub lines: Vec<Line>,
    pub torn: bool,
}

impl Nemesis {
    /// A file that is not there is a run in which nothing was done.
    pub fn read(path: &Path) -> Result<Nemesis, BadFile> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Nemesis::default()),
            Err(error) => return Err(BadFile::Io { path: path.into(), error }),
        };
        let mut nemesis = Nemesis { lines: vec![], torn: !text.is_empty() && !text.ends_with('\n') };
        let count = text.lines().count();
        for (at, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(line) => nemesis.lines.push(line),
                Err(_) if nemesis.torn && at + 1 == count => {}
                Err(error) => {
                    let reason = format!("line {}: {error}", at + 1);
                    return Err(BadFile::Text { path: path.into(), reason });
                }
            }
        }
        Ok(nemesis)
    }

    /// The faults that were installed.
    pub fn installed(&self) -> impl Iterator<Item = &Fault> {
        self.lines.iter().filter_map(|line| match line {
            Line::Start(fault) if fault.outcome == Done::Installed => Some(fault),
            Line::Start(_) | Line::Stop(_) | Line::NodeFailure { .. } => None,
        })
    }
}
