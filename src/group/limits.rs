//! How much groups may hold. The state of all groups must fit beside topics in a metadata snapshot of
//! 256 MiB; each limit bounds that, or the time that one apply takes.

/// A group costs little, but each is looked at by whoever lists them.
pub const GROUPS_MAX: usize = 10_000;
/// From feature level 4 on a group that holds nothing any more stays so long, as Kafka's do until its next look at
/// expired offsets: tools delete its offsets first and then the group. Not longer, since consumers that make up a
/// name for each run leave such groups behind. Never to be changed: `apply` decides by it.
pub const EMPTY_GROUP_KEPT_MS: u64 = 10 * 60_000;
/// A name, not a document.
pub const GROUP_NAME_BYTES_MAX: usize = 255;
/// Targets are computed over all members in one apply.
pub const MEMBERS_PER_GROUP_MAX: usize = 1_000;
/// Every member beats at the coordinator, every third of its session timeout.
pub const MEMBERS_MAX: usize = 20_000;
/// Kafka's member ids are a client id and 37 more characters.
pub const MEMBER_ID_BYTES_MAX: usize = 300;
/// Instance ids, client ids and hosts.
pub const LABEL_BYTES_MAX: usize = 255;
/// Session timeouts, also Kafka's largest. Below a second a pause of the runtime would expire members.
pub const SESSION_TIMEOUT_MS_MIN: u32 = 1_000;
pub const SESSION_TIMEOUT_MS_MAX: u32 = 1_800_000;
/// A member that needs longer to let go of its partitions holds up all others.
pub const REBALANCE_TIMEOUT_MS_MAX: u32 = 3_600_000;
/// Named one by one; who wants more has a pattern.
pub const SUBSCRIBED_TOPICS_MAX: usize = 1_000;
/// A regular expression that fits a line or two.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// Distinct sets of topics that members of one group read: usually one, two while it changes. Dealing
/// looks at each for every partition; they are bits of a word there.
pub const SUBSCRIPTIONS_PER_GROUP_MAX: usize = 64;
/// Partitions of the topics that groups subscribe to, summed over all groups with assignment on the
/// server: creating one topic deals its partitions out in all of them, within one apply.
pub const ASSIGNED_MAX: usize = 500_000;
/// Every partition that a cluster may have.
pub const OFFSETS_PER_GROUP_MAX: usize = 100_000;
pub const OFFSETS_MAX: usize = 1_000_000;
/// The bytes that a commit may add to an offset: Kafka's default for `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;
/// Classic: subscriptions and assignment of one member.
pub const CLASSIC_MEMBER_BYTES_MAX: usize = 256 * 1024;
/// Classic: of all members of a group. The group leader is sent all subscriptions in one answer, and a
/// call between brokers holds 4 MiB.
pub const CLASSIC_GROUP_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Classic: protocols that one member offers.
pub const CLASSIC_PROTOCOLS_MAX: usize = 16;
/// What all groups may take in a snapshot, by an upper bound of their encoded bytes: topics, brokers
/// and tombstones at their own limits take up to about 170 MiB of the 256 MiB.
pub const GROUPS_BYTES_MAX: usize = 64 * 1024 * 1024;
