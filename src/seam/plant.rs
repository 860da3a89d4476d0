//! Seeded bugs: mistakes that somebody made in a system like this one, or nearly in this one, each planted where it
//! would be made here, so that it can be shown that the simulation and the chaos runs find them.
//!
//! Promises: no release build has one. They are compiled in with the feature `seeded-bugs` alone, which refuses to
//! build without debug assertions; without the feature [`on`] is a constant, and the compiler leaves nothing of it. With
//! the feature nothing is planted until one is chosen, once in the life of a process: by name in [`VARIABLE`], or by
//! [`choose`] in a simulation. The table below is all that there is: a plant's name, what is wrong then, and the
//! contract or the rule of Raft or Kafka that it breaks, with who made the mistake before. What finds each, and within
//! which budget, stands in `jepsen-style-tests/simulation/planted/table.rs`.

use super::{Clock, SystemClock};
use crate::types::WallMs;

#[cfg(all(feature = "seeded-bugs", not(debug_assertions)))]
compile_error!("seeded bugs are for tests: the feature `seeded-bugs` cannot be built without debug assertions");

/// The environment's variable that names the plant of a broker that is built with them.
#[cfg(feature = "internals")]
pub const VARIABLE: &str = "FLOTILLA_PLANT";

macro_rules! plants {
    ($($(#[doc = $wrong:literal])+ $plant:ident = $name:literal breaks $rule:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Plant {
            $($(#[doc = $wrong])+ $plant,)+
        }

        #[cfg(feature = "internals")]
        impl Plant {
            /// Every plant there is.
            pub const ALL: &[Plant] = &[$(Plant::$plant),+];

            /// What it is chosen by.
            pub fn name(self) -> &'static str {
                match self {
                    $(Plant::$plant => $name,)+
                }
            }

            /// What is wrong then, in one sentence.
            pub fn wrong(self) -> &'static str {
                match self {
                    $(Plant::$plant => concat!($($wrong),+).trim_ascii(),)+
                }
            }

            /// The rule that it breaks.
            pub fn rule(self) -> &'static str {
                match self {
                    $(Plant::$plant => $rule,)+
                }
            }
        }
    };
}

plants! {
    /// What the log writer commits is never fsynced, and is reported as durable.
    AckBeforeFsync = "ack-before-fsync" breaks "SAFETY M6; NATS #7564";
    /// An append is reported as durable when it is queued, and written and fsynced later.
    CompletionBeforeFsync = "completion-before-fsync" breaks "SAFETY M6";
    /// Of several writes that share a commit the last is reported as done and not written.
    CommitLeavesOneOut = "commit-leaves-one-out" breaks "SAFETY M6";
    /// A commit that fails is reported as done, and the writer goes on.
    FailedCommitIgnored = "failed-commit-ignored" breaks "SAFETY M6; PostgreSQL until 11";
    /// Applied state is written before the entries that it rests on.
    StateBeforeLog = "state-before-log" breaks "SAFETY B1; etcd #13766";
    /// A vote is written, not fsynced, and answered at once.
    VoteNotSynced = "vote-not-synced" breaks "Raft: votes are durable";
    /// A vote is answered before it is saved.
    VoteBeforeSave = "vote-before-save" breaks "Raft: votes are durable";
    /// A truncation takes entries out of memory and leaves them on the disk.
    TruncationKeepsTail = "truncation-keeps-tail" breaks "Raft: log matching";
    /// A checkpoint is saved without the applied state that it must not be ahead of.
    CheckpointBeforeState = "checkpoint-before-state" breaks "SAFETY B1";
    /// Nobody looks at start whether commits are missing that were fsynced.
    FloorNotChecked = "floor-not-checked" breaks "SAFETY B9; NATS #7549";
    /// A directory that was set back to an older copy goes on, whatever its peers remember.
    SetBackUnnoticed = "set-back-unnoticed" breaks "SAFETY B5";
    /// A cluster is founded although the brokers of its list were started with other lists.
    DifferingListsAccepted = "differing-lists-accepted" breaks "SAFETY B6";
    /// A leader serves as soon as it is elected, before it has applied what its predecessors committed.
    ReadyWhenElected = "ready-when-elected" breaks "SAFETY M1; KIP-207";
    /// A confirmed read takes answers to what was sent before it began.
    ReadByOldAnswer = "read-by-old-answer" breaks "SAFETY M17; etcd #20418";
    /// A leader that no majority answers any more takes itself for one that leads.
    LeaseNotChecked = "lease-not-checked" breaks "SAFETY M7";
    /// Readers are given what the leader has appended, committed or not.
    UncommittedReads = "uncommitted-reads" breaks "Kafka: consumers read below the high watermark; Redpanda #15330";
    /// A retry of a batch that is in the log is answered with offset 0.
    DuplicateAckedAtZero = "duplicate-acked-at-zero" breaks "SAFETY B8; Bufstream 0.1.0";
    /// An entry that does not begin at the next offset is applied like any other.
    DeadEntryApplied = "dead-entry-applied" breaks "SAFETY M2; Redpanda #3003";
    /// The blank entry with which a leader begins takes an offset.
    BlankTakesAnOffset = "blank-takes-an-offset" breaks "SAFETY M3";
    /// What is known of producers is left out of the saved state.
    ProducersNotSaved = "producers-not-saved" breaks "SAFETY M5; Redpanda #5356";
    /// A batch is appended whatever its sequence number says.
    SequenceNotChecked = "sequence-not-checked" breaks "Kafka: idempotent producers; Redpanda #3039";
    /// The log start is left out of the saved state.
    LogStartNotSaved = "log-start-not-saved" breaks "SAFETY M5";
    /// The log is purged to the newest checkpoint, wherever the log start is.
    PurgesWhatIsKept = "purges-what-is-kept" breaks "SAFETY M5";
    /// Applying an entry takes the time from the replica's own clock.
    ClockOfTheReplica = "clock-of-the-replica" breaks "SAFETY M4";
    /// The commit of a group's offsets is acknowledged before it is proposed.
    CommitAckedEarly = "commit-acked-early" breaks "SAFETY M9";
    /// A member's commit counts for a partition that it held at an epoch before, not at this one.
    CommitOfOldEpoch = "commit-of-old-epoch" breaks "SAFETY M9";
    /// A group's committed offsets are read without asking whether newer ones were committed.
    OffsetsUnconfirmed = "offsets-unconfirmed" breaks "SAFETY M9";
    /// A coordinator that was deposed without knowing it tells members that all is well.
    StaleCoordinator = "stale-coordinator" breaks "SAFETY M9";
    /// A block of producer ids is handed out again.
    ProducerIdsTwice = "producer-ids-twice" breaks "Kafka: producer ids are unique";
}

/// Whether this bug is planted. Without the feature it never is, and the branch that asks is gone.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn on(_: Plant) -> bool {
    false
}

#[cfg(feature = "seeded-bugs")]
pub use planted::{chosen, on};

/// What a planted bug takes for the time of an entry.
pub fn replica_time() -> WallMs {
    SystemClock.wall()
}

#[cfg(feature = "internals")]
mod choice {
    use std::str::FromStr;

    use super::Plant;

    /// Why a plant cannot be chosen.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    pub enum PlantError {
        /// There is none of that name.
        #[error("there is no plant {name:?}; there are {}", names())]
        Unknown { name: String },
        /// Another one was chosen, or something had asked before and found none.
        #[error("{} cannot be planted in a process that has begun {}", .plant.name(), .before.map_or("with none", Plant::name))]
        TooLate { plant: Plant, before: Option<Plant> },
        /// This build has none.
        #[error("{} cannot be planted: build with --features seeded-bugs", .plant.name())]
        NotBuilt { plant: Plant },
    }

    fn names() -> String {
        let names: Vec<&str> = Plant::ALL.iter().map(|plant| plant.name()).collect();
        names.join(", ")
    }

    impl FromStr for Plant {
        type Err = PlantError;

        fn from_str(name: &str) -> Result<Plant, PlantError> {
            let found = Plant::ALL.iter().find(|plant| plant.name() == name);
            found.copied().ok_or_else(|| PlantError::Unknown { name: name.into() })
        }
    }

    /// Plants a bug in this process, for good.
    #[cfg(not(feature = "seeded-bugs"))]
    pub fn choose(plant: Plant) -> Result<(), PlantError> {
        Err(PlantError::NotBuilt { plant })
    }

    #[cfg(feature = "seeded-bugs")]
    pub use super::planted::choose;
}

#[cfg(feature = "internals")]
pub use choice::{PlantError, choose};

#[cfg(feature = "seeded-bugs")]
mod planted {
    use std::sync::OnceLock;

    use super::{Plant, PlantError, VARIABLE};

    static CHOSEN: OnceLock<Option<Plant>> = OnceLock::new();

    /// Plants a bug in this process, for good.
    pub fn choose(plant: Plant) -> Result<(), PlantError> {
        match *CHOSEN.get_or_init(|| Some(plant)) {
            Some(chosen) if chosen == plant => Ok(()),
            before => Err(PlantError::TooLate { plant, before }),
        }
    }

    /// The bug that is planted, if one is; named by the environment if nobody has chosen before.
    pub fn chosen() -> Result<Option<Plant>, PlantError> {
        if let Some(chosen) = CHOSEN.get() {
            return Ok(*chosen);
        }
        let named = std::env::var_os(VARIABLE).map(|name| name.to_string_lossy().parse()).transpose()?;
        Ok(*CHOSEN.get_or_init(|| named))
    }

    /// Whether this bug is planted.
    ///
    /// # Panics
    /// If the environment names one that is not there.
    pub fn on(plant: Plant) -> bool {
        match chosen() {
            Ok(chosen) => chosen == Some(plant),
            Err(unknown) => panic!("{VARIABLE}: {unknown}"),
        }
    }
}

#[cfg(all(test, feature = "internals"))]
mod tests {
    use super::*;

    #[cfg(not(feature = "seeded-bugs"))]
    const _: () = assert!(!on(Plant::AckBeforeFsync), "it is a constant");

    #[test]
    fn every_plant_is_found_by_its_name_and_an_unknown_one_is_told_which_there_are() {
        for plant in Plant::ALL {
            let name = plant.name();
            assert_eq!(name.parse(), Ok(*plant));
            assert!(name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{name}");
            assert!(plant.wrong().ends_with('.') && !plant.rule().is_empty(), "{name}");
        }
        let unknown = "ack-before-sync".parse::<Plant>().expect_err("no such plant").to_string();
        assert!(Plant::ALL.iter().all(|plant| unknown.contains(plant.name())), "{unknown}");
    }

    #[cfg(not(feature = "seeded-bugs"))]
    #[test]
    fn without_the_feature_nothing_can_be_planted() {
        let refused = choose(Plant::AckBeforeFsync).expect_err("it is not built");
        assert!(refused.to_string().contains("--features seeded-bugs"), "{refused}");
    }
}
