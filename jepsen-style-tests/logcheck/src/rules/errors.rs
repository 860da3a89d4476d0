//! Only what faults explain goes wrong.
//!
//! `unexpected-error`: an operation met an error that is neither in [`MODELLED`] nor in the run's `modelled_errors`, or a
//! node ended by itself or said that something cannot be, and no fault explains it.

use super::Rule;
use crate::{
    facts::{Facts, Kind},
    meta::Meta,
    nemesis::{Line, Nemesis},
    report::{Found, Severity, Sheet},
};

/// From here on codes are the client's own: timeouts, lost connections.
pub const CLIENT_ERRORS: i16 = 10_000;

/// Kafka's codes that faults, rebalances and races explain. UNKNOWN_SERVER_ERROR (-1) is never one of them.
pub const MODELLED: &[(i16, &str)] = &[
    (1, "OFFSET_OUT_OF_RANGE"),
    (3, "UNKNOWN_TOPIC_OR_PARTITION"),
    (5, "LEADER_NOT_AVAILABLE"),
    (6, "NOT_LEADER_OR_FOLLOWER"),
    (7, "REQUEST_TIMED_OUT"),
    (13, "NETWORK_EXCEPTION"),
    (14, "COORDINATOR_LOAD_IN_PROGRESS"),
    (15, "COORDINATOR_NOT_AVAILABLE"),
    (16, "NOT_COORDINATOR"),
    (19, "NOT_ENOUGH_REPLICAS"),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
    (22, "ILLEGAL_GENERATION"),
    (25, "UNKNOWN_MEMBER_ID"),
    (27, "REBALANCE_IN_PROGRESS"),
    (36, "TOPIC_ALREADY_EXISTS"),
    (41, "NOT_CONTROLLER"),
    (74, "FENCED_LEADER_EPOCH"),
    (75, "UNKNOWN_LEADER_EPOCH"),
    (78, "OFFSET_NOT_AVAILABLE"),
    (79, "MEMBER_ID_REQUIRED"),
    (82, "FENCED_INSTANCE_ID"),
    (110, "FENCED_MEMBER_EPOCH"),
    (113, "STALE_MEMBER_EPOCH"),
];

/// Errors that promise that a send was appended by none of its attempts: the only ones that may end as a failure.
pub const SURE_FAILURES: &[i16] = &[
    2,  // CORRUPT_MESSAGE
    3,  // UNKNOWN_TOPIC_OR_PARTITION
    6,  // NOT_LEADER_OR_FOLLOWER: refused before it was proposed
    10, // MESSAGE_TOO_LARGE
    17, // INVALID_TOPIC_EXCEPTION
    18, // RECORD_LIST_TOO_LARGE
    19, // NOT_ENOUGH_REPLICAS: the one before the append
    21, // INVALID_REQUIRED_ACKS
    29, // TOPIC_AUTHORIZATION_FAILED
    35, // UNSUPPORTED_VERSION
    42, // INVALID_REQUEST
    43, // UNSUPPORTED_FOR_MESSAGE_FORMAT
    47, // INVALID_PRODUCER_EPOCH
    76, // UNSUPPORTED_COMPRESSION_TYPE
    87, // INVALID_RECORD
    NOT_SENT,
];

/// The client's own: no attempt left it.
pub const NOT_SENT: i16 = CLIENT_ERRORS;

pub fn check(facts: &Facts, meta: &Meta, nemesis: &Nemesis, sheet: &mut Sheet) {
    let completed: u64 = facts.ok.values().sum();
    let failed: u64 = facts.errors.values().map(|errors| errors.count).sum();
    sheet.checked(Rule::UnexpectedError, completed + failed);
    for (&(kind, error), met) in &facts.errors {
        if is_modelled(meta, error) {
            continue;
        }
        sheet.add(Rule::UnexpectedError, Severity::Fatal, || {
            told(kind, error, met.count, met.at, (met.process, met.op))
        });
    }
    for line in &nemesis.lines {
        if let Line::NodeFailure { at, node, what, expected: false } = line {
            sheet.add(Rule::UnexpectedError, Severity::Fatal, || Found::new(*at, format!("node {node}: {what}")));
        }
    }
}

fn is_modelled(meta: &Meta, error: i16) -> bool {
    error >= CLIENT_ERRORS || MODELLED.iter().any(|(code, _)| *code == error) || meta.modelled_errors.contains(&error)
}

fn told(kind: Kind, error: i16, count: u64, at: u64, op: (u32, u64)) -> Found {
    Found::new(at, format!("{count} operations of kind {} met error {error}, first at {at} ns", kind.name())).ops([op])
}
