//! Reaching the metadata group from any broker: changing it, reading what a majority has, and raising its feature level.

pub mod access;
pub mod change;
pub mod levels;
pub mod rounds;

pub use access::{MetadataGroup, NotConfirmed};
