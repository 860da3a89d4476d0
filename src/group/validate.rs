//! What a request may say at all, whatever the group's state is.

use super::command::{Join, JoinClassic};
use super::limits::{
    CLASSIC_MEMBER_BYTES_MAX, CLASSIC_PROTOCOLS_MAX, GROUP_NAME_BYTES_MAX, LABEL_BYTES_MAX, MEMBER_ID_BYTES_MAX,
    PATTERN_BYTES_MAX, REBALANCE_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN, SUBSCRIBED_TOPICS_MAX,
};
use super::outcome::GroupRefusal;
use super::types::Subscription;
use crate::types::{GroupName, MemberId, TOPIC_NAME_BYTES_MAX};

/// The name of a group that is about to be made.
pub fn group_name(name: &GroupName) -> Result<(), GroupRefusal> {
    length("a group's name", &name.0, 1, GROUP_NAME_BYTES_MAX)?;
    printable("a group's name", &name.0)
}

/// The subscription as it is kept.
pub(super) fn join(wish: &Join) -> Result<Subscription, GroupRefusal> {
    group_name(&wish.group)?;
    member(&wish.member, wish.instance.as_deref(), &wish.client_id, &wish.client_host)?;
    timeouts(wish.session_timeout_ms, wish.rebalance_timeout_ms)?;
    subscription(&wish.subscription)
}

/// Checks a subscription and returns it as it is kept: see [`Subscription::normal`].
pub(super) fn subscription(wish: &Subscription) -> Result<Subscription, GroupRefusal> {
    if wish.topics.len() > SUBSCRIBED_TOPICS_MAX {
        let detail = format!("{} topics are named, {SUBSCRIBED_TOPICS_MAX} may be", wish.topics.len());
        return Err(GroupRefusal::LimitReached { detail });
    }
    for topic in &wish.topics {
        length("a topic's name", topic, 1, TOPIC_NAME_BYTES_MAX)?;
    }
    if let Some(pattern) = &wish.pattern {
        length("a pattern", pattern, 1, PATTERN_BYTES_MAX)?;
    } else if wish.topics.is_empty() {
        return invalid("neither topics nor a pattern are subscribed to".to_string());
    }
    Ok(wish.normal())
}

pub(super) fn join_classic(wish: &JoinClassic) -> Result<(), GroupRefusal> {
    group_name(&wish.group)?;
    member(&wish.member, wish.instance.as_deref(), &wish.client_id, &wish.client_host)?;
    timeouts(wish.session_timeout_ms, wish.rebalance_timeout_ms)?;
    length("a protocol type", &wish.protocol_type, 1, LABEL_BYTES_MAX)?;
    printable("a protocol type", &wish.protocol_type)?;
    if !(1..=CLASSIC_PROTOCOLS_MAX).contains(&wish.protocols.len()) {
        return invalid(format!(
            "{} protocols are offered, must be 1 to {CLASSIC_PROTOCOLS_MAX}",
            wish.protocols.len()
        ));
    }
    for (name, _) in &wish.protocols {
        length("a protocol's name", name, 1, LABEL_BYTES_MAX)?;
        printable("a protocol's name", name)?;
    }
    let bytes: usize = wish.protocols.iter().map(|(_, bytes)| bytes.len()).sum();
    if bytes > CLASSIC_MEMBER_BYTES_MAX {
        let detail = format!("a member's subscriptions have {bytes} bytes, {CLASSIC_MEMBER_BYTES_MAX} are allowed");
        return Err(GroupRefusal::LimitReached { detail });
    }
    Ok(())
}

fn member(id: &MemberId, instance: Option<&str>, client_id: &str, client_host: &str) -> Result<(), GroupRefusal> {
    length("a member id", &id.0, 1, MEMBER_ID_BYTES_MAX)?;
    length("an instance id", instance.unwrap_or("none"), 1, LABEL_BYTES_MAX)?;
    length("a client id", client_id, 0, LABEL_BYTES_MAX)?;
    length("a client's host", client_host, 0, LABEL_BYTES_MAX)?;
    printable("a member id", &id.0)?;
    printable("an instance id", instance.unwrap_or_default())?;
    printable("a client id", client_id)?;
    printable("a client's host", client_host)
}

fn timeouts(session_ms: u32, rebalance_ms: u32) -> Result<(), GroupRefusal> {
    if !(SESSION_TIMEOUT_MS_MIN..=SESSION_TIMEOUT_MS_MAX).contains(&session_ms) {
        let range = format!("{SESSION_TIMEOUT_MS_MIN} to {SESSION_TIMEOUT_MS_MAX}");
        return invalid(format!("a session timeout of {session_ms} ms, must be {range}"));
    }
    if !(1..=REBALANCE_TIMEOUT_MS_MAX).contains(&rebalance_ms) {
        return invalid(format!("a rebalance timeout of {rebalance_ms} ms, must be 1 to {REBALANCE_TIMEOUT_MS_MAX}"));
    }
    Ok(())
}

fn length(what: &str, value: &str, min: usize, max: usize) -> Result<(), GroupRefusal> {
    match (min..=max).contains(&value.len()) {
        true => Ok(()),
        false => invalid(format!("{what} of {} bytes, must be {min} to {max}", value.len())),
    }
}

/// People see these on their terminals: a stranger must not write there what he likes.
fn printable(what: &str, value: &str) -> Result<(), GroupRefusal> {
    match value.chars().any(char::is_control) {
        true => invalid(format!("{what} has no control characters")),
        false => Ok(()),
    }
}

fn invalid<T>(detail: String) -> Result<T, GroupRefusal> {
    Err(GroupRefusal::InvalidRequest { detail })
}
