//! The words every layer shares: ids and positions, each its own type so that a swapped argument
//! does not compile. Nothing here decides anything.

use std::{borrow::Borrow, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Kafka's rule for names of topics.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// What any request may take: nobody keeps anything for it for longer. Brokers refuse more, clients ask for no more.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(300);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node's identity in the cluster, given by its operator; 0 is never one.
    BrokerId(u64)
}
id! {
    /// openraft's node id: one placement of one Raft group on one broker, allocated by the
    /// metadata group and never used again (SAFETY B5).
    ReplicaId(u64)
}
id! {
    /// One consensus group. Allocated like replica ids, never derived from a topic's name.
    RaftGroupId(u64)
}
id! {
    /// The number of a partition within its topic, from 0.
    PartitionId(i32)
}
id! {
    /// Position of a record in a partition, from 0, dense, seen by clients. Not a Raft index.
    Offset(i64)
}
id! {
    /// Position of an entry in a Raft log, from 0, never used by clients as an offset.
    LogIndex(u64)
}
id! {
    /// Raft's term: a number that has one leader at most.
    Term(u64)
}
id! {
    /// A term where clients see it.
    LeaderEpoch(i32)
}
id! {
    /// The identity of an idempotent producer. The metadata group gives each out once; negative ones are nobody's.
    ProducerId(i64)
}
id! {
    /// The life of a producer that a batch comes from: a later one fences those before it.
    ProducerEpoch(i16)
}
id! {
    /// The number that a producer gives to a record of one partition: from 0 in each epoch, and after 2^31-1 comes 0.
    Sequence(i32)
}
id! {
    /// Milliseconds since the Unix epoch.
    WallMs(i64)
}

impl Sequence {
    /// The sequence of the last of `count` records, the first of which has this one.
    pub fn last_of(self, count: i32) -> Sequence {
        let last = i64::from(self.0) + i64::from(count) - 1;
        // Below 2^31 the mask changes nothing, above it is the wrap.
        Sequence((last & i64::from(i32::MAX)) as i32)
    }

    /// The sequence that follows this one.
    pub fn next(self) -> Sequence {
        self.last_of(2)
    }

    /// Whether this sequence comes before another: of two, that one from which the other is nearer going up.
    pub fn is_before(self, other: Sequence) -> bool {
        const HALF: i32 = 1 << 30;
        let ahead = other.0.wrapping_sub(self.0) & i32::MAX;
        ahead != 0 && ahead < HALF
    }
}

/// The metadata group's id on every cluster.
pub const METADATA_GROUP: RaftGroupId = RaftGroupId(0);

/// Ids below this are the founders' broker ids in the metadata group; allocation starts here.
pub const ALLOCATED_REPLICA_MIN: u64 = 65_536;

/// The largest term we accept: it must fit a leader epoch (SAFETY M12).
pub const TERM_MAX: u64 = i32::MAX as u64 - 1;

/// No log ever comes near; whoever names more makes the arithmetic of others overflow.
pub const LOG_INDEX_MAX: u64 = 1 << 62;

impl Term {
    /// The one conversion from terms to what clients see.
    ///
    /// # Panics
    /// If the term is above [`TERM_MAX`], which votes are refused for long before.
    pub fn epoch(self) -> LeaderEpoch {
        assert!(self.0 <= TERM_MAX, "term {} does not fit a leader epoch", self.0);
        LeaderEpoch(self.0 as i32)
    }
}

/// Ids that are drawn at random, shown as 32 hexadecimal digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

random_id! {
    /// A topic's identity over the life of the cluster: a new topic of an old name has a new one.
    TopicId
}
random_id! {
    /// A cluster's identity, drawn when it is founded. Nodes of different clusters never talk.
    ClusterId
}
random_id! {
    /// A data directory's identity, drawn before anything else is written to it. A broker is registered with one,
    /// so that an emptied or copied directory is noticed.
    StorageId
}

/// Names that people or clients chose. They are shown as their text, also where that is quoted. Any text is one: what a
/// name may look like is checked by whoever takes it from a client.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> $name {
                $name(name.to_string())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> $name {
                $name(name)
            }
        }

        /// So that a map by names is asked for a literal one.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }
    };
}

name! {
    /// What a consumer group is called. The same name again, after the group is gone, is another group.
    GroupName
}
name! {
    /// Who a member of a consumer group is, in its group. Empty where a request speaks of no member.
    MemberId
}

impl MemberId {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A partition as clients name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Partition number `partition` of the topic `topic`.
    pub fn new(topic: impl Into<String>, partition: PartitionId) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where an entry stands in a Raft log. Ordered as Raft orders log ids: term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryPosition {
    pub term: Term,
    pub index: LogIndex,
}

impl EntryPosition {
    /// Whether an entry can ever stand here. Of bytes from a disk or a peer that must be asked: a term that is too large
    /// fits no leader epoch, and behind the largest index there is no next one.
    pub fn is_possible(self) -> bool {
        self.term.0 <= TERM_MAX && self.index.0 <= LOG_INDEX_MAX
    }

    /// Whether it stands in one log with `other`, and not behind it: there both grow together.
    pub fn is_up_to(self, other: EntryPosition) -> bool {
        self.term <= other.term && self.index <= other.index
    }
}

impl fmt::Display for EntryPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-{}", self.term, self.index)
    }
}

/// Whole milliseconds of a duration; the largest number for one that is longer.
pub fn ms_u64(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds, as [`ms_u64`] has it.
pub fn ms_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// A duration in milliseconds, as [`ms_u64`] has it.
pub fn ms_i64(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Errors quote them, and an error's text does not change because a name has a type.
#[test]
fn names_are_shown_as_their_text() {
    let (group, member) = (GroupName::from("the \"g\""), MemberId::from("m\n"));
    assert_eq!(format!("{group} {group:?}, {member} {member:?}"), "the \"g\" \"the \\\"g\\\"\", m\n \"m\\n\"");
}

#[test]
fn sequences_wrap_after_the_largest() {
    let [zero, last] = [Sequence(0), Sequence(i32::MAX)];
    assert_eq!((zero.last_of(1), zero.next()), (zero, Sequence(1)));
    assert_eq!((Sequence(i32::MAX - 1).last_of(2), last.last_of(2), last.next()), (last, zero, zero));
    assert_eq!(Sequence(i32::MAX - 1).last_of(4), Sequence(1));
    assert!(last.is_before(zero) && zero.is_before(Sequence(1)) && !zero.is_before(last) && !zero.is_before(zero));
}
