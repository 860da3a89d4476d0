//! What a request of Kafka's classic protocol may say at all, told where it is asked and in Kafka's order. Pure.
//!
//! Promises: what Kafka takes is taken, with what we have no room for brought within our limits; what it refuses is
//! refused by a variant of its own, so that a face needs no text.

use std::time::Duration;

use super::limits;
use crate::{
    broker::requests::groups::{ClassicJoin, GroupError},
    group,
    types::{GroupName, ms_u64},
};

/// The join as the coordinator is asked for it.
pub fn join(join: ClassicJoin) -> Result<ClassicJoin, GroupError> {
    group_name(&join.group)?;
    session(join.session_timeout, limits::CLASSIC_SESSION_MIN)?;
    if join.protocol_type.is_empty() || join.protocols.is_empty() {
        let (group, protocols) = (join.group, join.protocols.len());
        let detail = format!("a member of type {:?} offers {protocols} protocols", join.protocol_type);
        return Err(GroupError::ProtocolMismatch { group, detail });
    }
    Ok(ClassicJoin { rebalance_timeout: rebalance_timeout(join.rebalance_timeout), ..join })
}

/// The name of a group that members may have.
pub fn group_name(name: &GroupName) -> Result<(), GroupError> {
    group::check_name(name).map_err(|refusal| GroupError::InvalidGroupName {
        group: GroupName(name.0.chars().take(group::limits::GROUP_NAME_BYTES_MAX).collect()),
        refusal,
    })
}

/// The session of a member of either protocol.
pub fn session(asked: Duration, min: Duration) -> Result<(), GroupError> {
    match (min..=limits::SESSION_MAX).contains(&asked) {
        true => Ok(()),
        false => {
            let (asked_ms, min_ms, max_ms) = (ms_u64(asked), ms_u64(min), ms_u64(limits::SESSION_MAX));
            Err(GroupError::InvalidSessionTimeout { asked_ms, min_ms, max_ms })
        }
    }
}

/// Never refused: `max.poll.interval.ms` is what an application needs between two polls, up to Java's largest int,
/// and none at all ends a join phase at once.
fn rebalance_timeout(asked: Duration) -> Duration {
    asked.clamp(Duration::from_millis(1), limits::REBALANCE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> ClassicJoin {
        ClassicJoin {
            group: "g".into(),
            session_timeout: Duration::from_secs(6),
            rebalance_timeout: Duration::from_secs(300),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), vec![])],
            ..ClassicJoin::default()
        }
    }

    #[test]
    fn rebalance_timeouts_are_brought_within_our_limits_and_sessions_are_not() {
        let taken = |ms: u64| {
            let wish = ClassicJoin { rebalance_timeout: Duration::from_millis(ms), ..asked() };
            join(wish).expect("it is never refused").rebalance_timeout.as_millis()
        };
        assert_eq!([0, 1, 300_000, i32::MAX as u64].map(taken), [1, 1, 300_000, 3_600_000]);
        for (ms, is_taken) in [(5_999, false), (6_000, true), (1_800_000, true), (1_800_001, false)] {
            let wish = ClassicJoin { session_timeout: Duration::from_millis(ms), ..asked() };
            let answered = join(wish);
            assert_eq!(answered.is_ok(), is_taken, "{ms}: {answered:?}");
            assert!(is_taken || matches!(answered, Err(GroupError::InvalidSessionTimeout { .. })));
        }
    }

    #[test]
    fn what_a_member_says_of_its_group_and_its_protocols_is_refused_by_type() {
        for name in ["", "a\nb", &"g".repeat(256)] {
            let answered = join(ClassicJoin { group: name.into(), ..asked() });
            assert!(matches!(answered, Err(GroupError::InvalidGroupName { .. })), "{answered:?}");
        }
        let typeless = ClassicJoin { protocol_type: String::new(), ..asked() };
        let speechless = ClassicJoin { protocols: vec![], ..asked() };
        for wish in [typeless, speechless] {
            let answered = join(wish);
            assert!(matches!(answered, Err(GroupError::ProtocolMismatch { .. })), "{answered:?}");
        }
    }
}
