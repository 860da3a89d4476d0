//! What brokers ask one another, and answer.

use super::calls::{Answer, Call, decode, encode, tests::FROZEN};
use crate::{
    broker::groups::{GroupAttempt, GroupCall},
    formats::{
        frozen::literals,
        fuzz::{bounded, fuzz, linear},
    },
    types::{Offset, RaftGroupId},
};

/// A list of lists holds vectors of 24 bytes that are a byte each on the wire, and is doubled; the names that group calls
/// hold are strings, the sets nodes of trees.
const PER_BYTE: usize = 256;

fn seeds(prefix: &str) -> Vec<Vec<u8>> {
    literals(FROZEN).into_iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, bytes)| bytes).collect()
}

#[test]
fn fuzz_calls_between_brokers() {
    for seed in seeds("call-") {
        assert!(decode::<Call>(&seed).is_some(), "{seed:?}");
    }
    fuzz!(seeds("call-"), |bytes| {
        let Some(call) = bounded(bytes.len(), PER_BYTE, || decode::<Call>(bytes)) else { return };
        assert_eq!(decode(&encode(&call)).as_ref(), Some(&call));
        assert!((1..=crate::formats::FEATURE_LEVEL).contains(&call.level()));
        if let Call::Group { call, .. } = call {
            assert!(!call.what().is_empty());
            assert_eq!(call.is_repeatable(), !matches!(*call, GroupCall::Commit(_)));
        }
    });
    let readers = |bytes: usize| {
        let readers = (0..bytes as u64 / 4).map(|group| (RaftGroupId(group), Some(Offset(1)))).collect();
        encode(&Call::Lag { readers }).to_vec()
    };
    linear(readers, |bytes| assert!(decode::<Call>(&bytes).is_some()));
}

#[test]
fn fuzz_answers_of_brokers() {
    for seed in seeds("answer-") {
        assert!(decode::<Answer>(&seed).is_some(), "{seed:?}");
    }
    fuzz!(seeds("answer-"), |bytes| {
        let Some(answer) = bounded(bytes.len(), PER_BYTE, || decode::<Answer>(bytes)) else { return };
        let again = decode::<Answer>(&encode(&answer)).expect("our own bytes");
        // Not by equality: a figure may be no number.
        assert_eq!(encode(&again), encode(&answer));
        if let Answer::Group(GroupAttempt::Answered(answered)) = answer {
            let call = GroupCall::Delete { group: "g".into() };
            let _ = call.after_unknown(answered);
        }
    });
    linear(
        |bytes| encode(&Answer::Stats(vec![None; bytes])).to_vec(),
        |bytes| assert!(decode::<Answer>(&bytes).is_some()),
    );
}
