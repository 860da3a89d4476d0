//! What the storage module promises, held on the simulated disk and on RocksDB.

pub(super) mod bed;
mod conformance;
mod crash;
mod damage;
mod life;
mod queue;
mod read_only;
mod rules;
mod space;
mod starts;
