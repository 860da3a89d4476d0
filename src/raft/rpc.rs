//! What a request to a peer comes to, in openraft's words.

use std::sync::{Arc, atomic::AtomicU32};

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, Unreachable};

use super::{
    link::LinkError,
    types::Types,
    wire::{Frame, Kind},
};

pub(super) type RpcResult<T> = Result<T, RPCError<Types>>;

/// Counted by exchanges, read before the next one.
pub(super) type Refusals = Arc<AtomicU32>;

pub(super) fn unreachable(reason: impl ToString) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

pub(super) fn broken(reason: impl ToString) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(reason))
}

pub(super) fn failed(error: LinkError) -> RPCError<Types> {
    match error {
        LinkError::NotSent => unreachable("no link"),
        LinkError::NoAnswer => broken("no answer"),
    }
}

/// The reply of the kind asked for, or what went wrong.
pub(super) fn expect(frame: Frame, kind: Kind) -> RpcResult<Bytes> {
    if frame.kind == kind {
        return Ok(frame.body);
    }
    Err(unreachable(format!("{:?}: {}", frame.kind, String::from_utf8_lossy(&frame.body))))
}
