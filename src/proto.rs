//! Code generated from `proto/`.

mod codec;
#[cfg(test)]
pub(crate) mod fuzz;

pub use codec::{BoundedCodec, GROUP_ELEMENTS_MAX, PRODUCE_ELEMENTS_MAX};

/// The public API.
#[allow(clippy::all, clippy::too_many_lines, reason = "nobody wrote it")]
pub mod v1 {
    tonic::include_proto!("flotilla.v1");
}

/// Node to node.
#[allow(clippy::all, clippy::too_many_lines, reason = "nobody wrote it")]
pub mod internal {
    tonic::include_proto!("flotilla.internal.v1");
}

/// Both files' descriptors, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flotilla.descriptors"));
