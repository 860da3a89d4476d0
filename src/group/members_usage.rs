//! What the members of a group count for against the limits.

use std::collections::BTreeMap;

use super::state::{ClassicMember, Members, ServerMember, ServerMembers};
use super::types::PartitionCounts;
use super::usage::{LENGTH_BYTES, Usage, text};

/// A member's epoch, timeouts, flags, order, last commit, tags and lengths.
const MEMBER_BYTES: usize = 90;

impl Usage {
    pub fn of_members(members: &Members, counts: PartitionCounts<'_>) -> Usage {
        match members {
            Members::None => Usage::default(),
            Members::Server(server) => {
                let fields = server.members.iter().map(|(id, m)| id.0.len() + server_member_bytes(m)).sum::<usize>();
                let patterns = server.patterns.iter().map(|(p, topics)| text(p) + texts(topics)).sum::<usize>();
                let members = server.members.len();
                let mut usage = Usage { members, bytes: fields + patterns, ..Usage::default() };
                for (topic, count) in topic_sizes(server, counts) {
                    usage = usage.plus(Usage::of_topic(topic, count, members));
                }
                usage
            }
            Members::Classic(classic) => {
                let fields = classic.members.iter().map(|(id, m)| id.0.len() + classic_member_bytes(m)).sum::<usize>();
                let names = text(&classic.protocol_type) + text(&classic.protocol) + text(&classic.leader.0);
                Usage { members: classic.members.len(), bytes: fields + names, ..Usage::default() }
            }
        }
    }
}

/// Topics that someone reads or holds, with their partitions.
fn topic_sizes<'a>(server: &'a ServerMembers, counts: PartitionCounts<'_>) -> BTreeMap<&'a str, usize> {
    let mut sizes = BTreeMap::new();
    let named = server.members.values().flat_map(|m| &m.subscription.topics);
    let matched = server.patterns.values().flatten();
    let held = server.members.values().flat_map(|m| m.assigned.keys().chain(m.revoking.keys()));
    for topic in named.chain(matched).chain(held) {
        if let Some(count) = counts(topic) {
            sizes.entry(topic.as_str()).or_insert(count as usize);
        }
    }
    sizes
}

fn server_member_bytes(member: &ServerMember) -> usize {
    let subscription = &member.subscription;
    let labels = optional(&member.instance)
        + member.replaced.as_ref().map_or(0, |id| text(&id.0))
        + optional(&subscription.pattern);
    MEMBER_BYTES + labels + text(&member.client_id) + text(&member.client_host) + texts(&subscription.topics)
}

fn classic_member_bytes(member: &ClassicMember) -> usize {
    let labels = optional(&member.instance) + member.replaced.as_ref().map_or(0, |id| text(&id.0));
    let protocols = member.protocols.iter().map(|(name, _)| text(name) + LENGTH_BYTES).sum::<usize>();
    let opaque = protocols + member.opaque_bytes();
    MEMBER_BYTES + labels + text(&member.client_id) + text(&member.client_host) + opaque
}

fn texts(texts: &[String]) -> usize {
    texts.iter().map(|t| text(t)).sum()
}

fn optional(value: &Option<String>) -> usize {
    value.as_deref().map_or(0, text)
}
