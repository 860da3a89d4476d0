//! The rules, each with where it comes from. `README.md` tells them in a table; this is the list that is applied.

pub mod commits;
pub mod delivery;
pub mod epochs;
pub mod errors;
pub mod loss;
pub mod marks;
pub mod members;
pub mod metadata;
pub mod offsets;
pub mod polls;
pub mod producers;
pub mod reads;
pub mod realtime;
pub mod replicas;
pub mod resume;
pub mod sends;
pub mod sweep;
pub mod wgl;
pub mod zones;

use serde::{Serialize, Serializer};

use crate::{facts::Facts, meta::Meta, nemesis::Nemesis, report::Sheet};

macro_rules! rules {
    ($($rule:ident $name:literal $of:literal $source:literal $says:literal;)+) => {
        /// Each is named as Jepsen's Kafka workload names it, where that has it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $says] $rule,)+
        }

        impl Rule {
            pub const ALL: &[Rule] = &[$(Rule::$rule),+];

            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name,)+ }
            }

            /// What [`crate::report::RuleResult::checked`] counts.
            pub fn of(self) -> &'static str {
                match self { $(Rule::$rule => $of,)+ }
            }

            /// Where the rule comes from.
            pub fn source(self) -> &'static str {
                match self { $(Rule::$rule => $source,)+ }
            }

            /// What must not be.
            pub fn says(self) -> &'static str {
                match self { $(Rule::$rule => $says,)+ }
            }
        }
    };
}

rules! {
    InconsistentOffsets "inconsistent-offsets" "offsets" "Jepsen kafka.clj; Redpanda #3003"
        "one offset of a key shows two values";
    Duplicate "duplicate" "values" "Jepsen kafka.clj; Redpanda #3039"
        "one value stands at two offsets";
    AckMismatch "ack-mismatch" "acks" "ours; Bufstream 0.1.0's zero offsets"
        "a value is not where its acknowledgement said";
    Phantom "phantom" "records" "ours; Redpanda chaos: read unknown message"
        "a record that nobody sent, or not here, not yet or not so";
    AbortedRead "G1a" "records" "Adya's G1a; Jepsen kafka.clj"
        "a record is read whose send certainly failed";
    LostWrite "lost-write" "acks" "Jepsen kafka.clj"
        "acknowledged, below what was read, and never read";
    LostTail "lost-tail" "acks" "ours; etcd robustness: the log as ground truth"
        "acknowledged, and in no replica's committed log after the run";
    Unseen "unseen" "acks" "Jepsen kafka.clj"
        "acknowledged, and not read although the final reads have ended";
    RealtimeOrder "realtime-order" "values" "Redpanda chaos; Herlihy and Wing 1990"
        "a send got an offset not above what was known when it began";
    PollSkip "poll-skip" "polls" "Jepsen kafka.clj"
        "a consumer left out visible records between two polls";
    NonmonotonicPoll "nonmonotonic-poll" "polls" "Jepsen kafka.clj"
        "a consumer went back between two polls";
    IntPollSkip "int-poll-skip" "polls" "Jepsen kafka.clj"
        "one poll left out visible records between two of its own";
    IntNonmonotonicPoll "int-nonmonotonic-poll" "polls" "Jepsen kafka.clj"
        "one poll went back";
    NonmonotonicSend "nonmonotonic-send" "sends" "Jepsen kafka.clj; KIP-98 for producers with a sequence"
        "two sends, one after the other, stand the other way round";
    IntNonmonotonicSend "int-nonmonotonic-send" "sends" "Jepsen kafka.clj"
        "two records of one batch stand the other way round";
    IntSendSkip "int-send-skip" "sends" "Jepsen kafka.clj, which allows it"
        "something stands between two records of one batch";
    DivergentSuccessor "divergent-successor" "pairs" "Redpanda chaos"
        "two reads show different records behind the same one";
    StaleFetch "stale-fetch" "fetches" "Jepsen kafka.clj's realtime-lag; KIP-207"
        "a fetch took for the end what was acknowledged before it began";
    HwRegression "hw-regression" "answers" "KIP-207, KIP-320"
        "a high watermark went back, or an acknowledged offset was out of range";
    LeoRegression "leo-regression" "answers" "KIP-207"
        "the latest offset went back";
    LogStartRegression "log-start-regression" "answers" "KIP-107"
        "the log start went back";
    EpochOrder "epoch-order" "epochs" "KIP-101, KIP-279; Raft: election safety"
        "leader epochs go back, end in two places or have two leaders";
    ReplicaDivergence "replica-divergence" "entries" "Raft: log matching, state machine safety"
        "two replicas committed different entries, or made different states of them";
    CommitRegression "commit-regression" "commits and reads of them" "Gibbons and Korach 1997; Kafka's E1, E2 of CHAOS.md"
        "what a group has committed is no linearizable register";
    ZombieCommit "zombie-commit" "commits and heartbeats" "Kafka's group protocol; KIP-848"
        "somebody's commit was taken after another had the partition";
    DoubleAssign "double-assign" "assignments" "Kafka's group protocol; KIP-848"
        "two members had a partition at once";
    BadResume "bad-resume" "assignments" "Redpanda chaos: rw_subscribe"
        "a member began where nothing was committed";
    CommitBeyondDelivery "commit-beyond-delivery" "commits" "ours: at-least-once delivery"
        "a commit covers records that no member had got";
    ConsumeCounts "consume-counts" "deliveries" "Jepsen kafka.clj"
        "how often records were delivered to a group (told, not judged)";
    PidReuse "pid-reuse" "producer ids" "KIP-98"
        "two producers were given one id and epoch";
    MetadataLinearizability "metadata-linearizability" "calls" "Wing and Gong 1993; Lowe 2017"
        "topics come and go in no order that explains the answers";
    UnexpectedError "unexpected-error" "operations" "ours"
        "an error that no fault explains, or a node that died by itself";
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Applies all of them.
pub fn apply(facts: &Facts, meta: &Meta, nemesis: &Nemesis, sheet: &mut Sheet) {
    offsets::check(facts, meta, sheet);
    reads::check(facts, meta, sheet);
    loss::check(facts, meta, sheet);
    realtime::check(facts, meta, sheet);
    polls::check(facts, meta, sheet);
    sends::check(facts, meta, sheet);
    marks::check(facts, meta, sheet);
    epochs::check(facts, meta, sheet);
    replicas::check(facts, meta, sheet);
    commits::check(facts, meta, sheet);
    members::check(facts, meta, sheet);
    resume::check(facts, meta, sheet);
    delivery::check(facts, meta, sheet);
    producers::check(facts, meta, sheet);
    metadata::check(facts, meta, sheet);
    errors::check(facts, meta, nemesis, sheet);
}
