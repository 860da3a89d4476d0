//! Breaks a cluster on purpose while clients use it, and holds what they were told against what a log promises.
//!
//! A run's directory is all there is of it: `logcheck`'s history (`meta.json`, `nemesis.jsonl`, `hist/`) and
//! [`run::Run`] in `run.json`. The report is made of these files alone.
//!
//! [`options`] is the command line, [`schedule`] decides when what is done (pure), [`nemesis`] does it to a [`cluster`] whose
//! links are [`proxy`]s, [`workload`] is what clients do meanwhile, [`finale`] the end, [`verdict`] what it came to, and
//! [`engine`] all of it in order.

pub mod cluster;
pub mod engine;
pub mod error;
pub mod fault;
pub mod finale;
pub mod leaders;
pub mod matrix;
pub mod names;
pub mod nemesis;
pub mod options;
pub mod probe;
pub mod progress;
pub mod progressed;
pub mod proxy;
pub mod report;
pub mod retention_history;
pub mod run;
pub mod running;
pub mod schedule;
mod strike;
pub mod tally;
pub mod verdict;
pub mod workload;
