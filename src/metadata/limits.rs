//! How much the metadata may hold. Every limit bounds the state, hence its snapshot and each broker's memory.

use super::response::Refusal;
use crate::types::TOPIC_NAME_BYTES_MAX;

/// One create must stay one apply of well under a heartbeat.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;
/// A Raft group costs a broker about 155 KB: this many would take a broker of a small cluster 15 GB.
pub const PARTITIONS_MAX: usize = 100_000;
/// As many topics as partitions would be pointless to forbid, more are impossible.
pub const TOPICS_MAX: usize = PARTITIONS_MAX;
/// Placement looks at every broker for every replica.
pub const BROKERS_MAX: usize = 1_000;
/// More voters only slow a commit down.
pub const REPLICATION_FACTOR_MAX: i32 = 15;
/// What is used where a request says 0.
pub const REPLICATION_FACTOR_DEFAULT: i32 = 3;
/// A host name (255 at most), a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;
/// Racks and version strings: names, not documents.
pub const LABEL_BYTES_MAX: usize = 255;
/// Tombstones kept for brokers that are away. The oldest go first: a broker that comes back later than
/// that finds groups it knows nothing about, and quarantines them instead of deleting them.
pub const DELETED_GROUPS_MAX: usize = 100_000;
/// Ids handed out at once, so that one entry serves a thousand producers.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// A frame between nodes holds 16 MiB, so one batch must stay well below.
pub const MAX_MESSAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

/// How much of an offending value an error repeats.
const CLIP_CHARS: usize = 256;

/// A user's value for an error message, cut to a length that is safe to log and to send.
pub(super) fn clip(value: &str) -> String {
    match value.char_indices().nth(CLIP_CHARS) {
        None => value.to_string(),
        Some((end, _)) => format!("{}...", &value[..end]),
    }
}

/// Kafka's rules for names of topics.
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let refuse = |rule: &str| Err(Refusal::InvalidName { name: clip(name), rule: rule.to_string() });
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse("it must be 1 to 249 characters long");
    }
    if name == "." || name == ".." {
        return refuse("it must not be \".\" or \"..\"");
    }
    if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        return refuse(&format!("{c:?} is not allowed, only letters a-z and A-Z, digits, '.', '_' and '-' are"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "orders", "A.b_c-9", "...", "_", &"x".repeat(249)] {
            assert!(check_topic_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "naïve", "a\0", "a\n", &"x".repeat(250), &"ü".repeat(100_000)] {
            let refusal = check_topic_name(bad).unwrap_err();
            assert!(refusal.to_string().len() < 2_000, "{refusal}");
        }
    }
}
