//! Reaching the metadata group from any broker: changing it, and reading what a majority has.

pub mod access;
pub mod change;
pub mod rounds;

pub use access::{MetadataGroup, NotConfirmed};
