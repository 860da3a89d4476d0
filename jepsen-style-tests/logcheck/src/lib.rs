//! Holds the recorded history of a replicated log with Kafka's semantics against what such a log promises.
//!
//! A harness records what its clients asked and were told ([`recorder`]), what was done to the cluster
//! ([`nemesis`]) and what kind of run it was ([`meta`]). [`check()`] loads that into dense arrays ([`facts`]) and
//! applies every rule ([`rules`]). The verdict is *valid*, *invalid* or *unknown*, and only *valid* is a success.
//!
//! Nothing here knows a broker: this crate links none, and reads nothing but its files.

pub mod check;
pub mod context;
pub mod dump;
pub mod event;
pub mod facts;
pub mod files;
pub mod generate;
pub mod guards;
pub mod load;
pub mod meta;
pub mod mutate;
pub mod nemesis;
pub mod payload;
pub mod recorder;
pub mod report;
pub mod rules;
pub mod show;
pub mod wire;

#[cfg(test)]
mod tests;

pub use check::check;
