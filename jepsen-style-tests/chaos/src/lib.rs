//! Breaks a cluster on purpose while clients use it, and holds what they were told against what a log promises.
//!
//! A run's directory is all there is of it: `logcheck`'s history (`meta.json`, `nemesis.jsonl`, `hist/`) and
//! [`run::Run`] in `run.json`. The report is made of these files alone.

pub mod report;
pub mod run;
