//! Code generated from `proto/`.
#![allow(missing_docs, clippy::all)]

mod codec;

pub use codec::{BoundedCodec, GROUP_ELEMENTS_MAX, PRODUCE_ELEMENTS_MAX};

/// The public API.
pub mod v1 {
    tonic::include_proto!("flotilla.v1");
}

/// Node to node.
pub mod internal {
    tonic::include_proto!("flotilla.internal.v1");
}

/// Both files' descriptors, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flotilla.descriptors"));
