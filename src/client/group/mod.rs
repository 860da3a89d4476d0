//! A member of a consumer group: it reads the partitions that the group's coordinator gives it, and commits how far.
//!
//! Promises: records of a partition come in order from the group's committed offset on, and only while this member
//! holds the partition: it is told before a partition goes ([`GroupEvent::Revoked`]), and nobody else gets it until
//! the next call after that; what could not be told in time is reported as [`GroupEvent::Lost`], and from then on
//! not one record of it is handed out. A member that reaches no coordinator for its session timeout, counted from
//! the *sending* of its last answered heartbeat, regards all its partitions as lost, since the coordinator may. One whose
//! application does not call for [`GroupOptions::poll_interval_max`] leaves, and joins anew with the next call.
//! At least once by default: committed is what was handed out and, as the call after it says, processed.
//! Memory: [`GroupOptions::buffer_bytes_max`] and one answer of each partition beyond it.
//! Leaves out: where it stops being pure (`core` decides, `driver` calls, `reader` reads), exactly-once.

mod calls;
mod core;
#[cfg(test)]
mod core_tests;
mod driver;
#[cfg(test)]
mod fuzz;
mod reader;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::Instant,
};

use self::{
    calls::Calls,
    core::{Core, Rules},
    driver::{Command, Driver},
    reader::Permits,
};
use super::{commit::OffsetToCommit, consumer::ConsumedRecord, error::ClientError, net::Cluster};
use crate::{
    proto::v1,
    types::{Offset, TopicPartition},
};

/// The driver looks this often whether the application is in a call.
pub const POLL_INTERVAL_MAX_MIN: Duration = Duration::from_secs(1);
/// How many commands are on their way to the driver. The handle has one at a time; cancelled calls leave a few more.
const COMMANDS_MAX: usize = 4;

/// Records of a member that were read and not handed out yet, in bytes and in number, unless options say otherwise.
pub const BUFFER_BYTES_MAX_DEFAULT: usize = 32 * 1024 * 1024;
pub const BUFFER_RECORDS_MAX_DEFAULT: usize = 500_000;
/// This is Kafka's default, and so what its users reckon with: longer than most batches take, short for a partition
/// that stands.
pub const POLL_INTERVAL_MAX_DEFAULT: Duration = Duration::from_secs(300);

/// Where a partition is read from for which the group has no committed offset, or one that is not there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// It is read from the first offset that is kept.
    #[default]
    Earliest,
    /// It is read from the high watermark: what was produced before is never read.
    Latest,
    /// It is not read: [`GroupConsumer::next`] fails, and the partition waits for a [`GroupConsumer::seek`].
    Fail,
}

/// How a group's coordinator deals out partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignor {
    /// As few as possible change hands, and no member has more than one more than another.
    #[default]
    Sticky,
    /// Each topic is dealt out by itself, in ranges: partitions of one number go to the same member.
    Range,
    /// Partitions are dealt out one by one over all topics.
    RoundRobin,
}

impl Assignor {
    fn wire(self) -> v1::Assignor {
        match self {
            Assignor::Sticky => v1::Assignor::Sticky,
            Assignor::Range => v1::Assignor::Range,
            Assignor::RoundRobin => v1::Assignor::RoundRobin,
        }
    }
}

/// How a member reads. Make it with [`GroupOptions::new`].
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The group's name.
    pub group: String,
    /// The topics to read.
    pub topics: Vec<String>,
    /// A pattern in Rust's regex syntax: topics whose whole name matches are read, also those created later.
    pub pattern: Option<String>,
    /// What this member would like; the members' commonest choice is used.
    pub assignor: Assignor,
    /// The id of a static member: one of the same id that comes back within the session gets its partitions back.
    pub instance_id: Option<String>,
    /// A name that people read: `describe_group` shows it.
    pub client_id: String,
    /// The coordinator gives this member's partitions to others after so long without a heartbeat; from 1 s to 30 min.
    pub session_timeout: Duration,
    /// How long after a revocation the next call may come before the coordinator takes the partitions away.
    pub rebalance_timeout: Duration,
    /// How long the application may take between two calls of [`GroupConsumer::next`]. After that this member leaves
    /// the group, so that others read what a stuck application holds; the call that comes in the end says
    /// [`GroupEvent::Lost`] and joins anew. 5 minutes unless set (Kafka's max.poll.interval.ms).
    pub poll_interval_max: Duration,
    /// Where to begin in a partition of which the group has committed nothing.
    pub offset_reset: OffsetReset,
    /// How often processed offsets are committed, besides at revocations and at the end. None: only by
    /// [`GroupConsumer::commit`].
    pub auto_commit: Option<Duration>,
    /// How many records one event holds at most.
    pub records_max: usize,
    /// How many bytes may be read and not handed out. Reading pauses beyond.
    pub buffer_bytes_max: usize,
    /// How many records may be. Reading pauses beyond.
    pub buffer_records_max: usize,
    /// How long an error that may pass is kept from the caller while this member goes on trying.
    pub patience: Duration,
}

impl GroupOptions {
    /// A member of `group` that subscribes to nothing yet, with the defaults.
    pub fn new(group: impl Into<String>) -> GroupOptions {
        GroupOptions {
            group: group.into(),
            topics: Vec::new(),
            pattern: None,
            assignor: Assignor::Sticky,
            instance_id: None,
            client_id: String::new(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            poll_interval_max: POLL_INTERVAL_MAX_DEFAULT,
            offset_reset: OffsetReset::Earliest,
            auto_commit: Some(Duration::from_secs(5)),
            records_max: 10_000,
            buffer_bytes_max: BUFFER_BYTES_MAX_DEFAULT,
            buffer_records_max: BUFFER_RECORDS_MAX_DEFAULT,
            patience: Duration::from_secs(30),
        }
    }
}

/// What happened next.
#[derive(Clone, Debug)]
pub enum GroupEvent {
    /// These partitions are read from now on, besides those held before. A `seek` here overrides the committed offset.
    Assigned(Vec<TopicPartition>),
    /// These partitions are not read any more, and let go of at the next call: commit, flush, or forget now.
    Revoked(Vec<TopicPartition>),
    /// Others may be reading them already: what was not committed will be read again by them.
    Lost(Vec<TopicPartition>),
    /// The topic was deleted and another one has its name. Nothing of the old one is left to be read or committed; the
    /// same partitions of the new one are [`GroupEvent::Assigned`] next, and begin where a new topic's do.
    Replaced(Vec<TopicPartition>),
    /// The place to read on at was not there, and [`GroupOptions::offset_reset`] chose another one.
    Jumped(OffsetJump),
    /// These records are to be worked on.
    Records(GroupRecords),
}

/// Where a partition is read on, and where it was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetJump {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// The next offset to be read as it was committed, sought, or reached. Below `to`: the records from here to `to`
    /// are gone, by retention or a trim, or are skipped by [`OffsetReset::Latest`]. Else it was beyond the end.
    pub from: Offset,
    /// Where it is read on.
    pub to: Offset,
}

/// Some records of one partition, in order.
#[derive(Clone, Debug)]
pub struct GroupRecords {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// The records, in the order of their offsets.
    pub records: Vec<ConsumedRecord>,
    /// The high watermark when they were read.
    pub high_watermark: Offset,
}

/// A member of a group. [`GroupConsumer::close`] it: dropped, it leaves the group without its last commit.
pub struct GroupConsumer {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    records_max: usize,
}

/// What the handle, the driver and the readers share. The lock is held for pure steps only, never across an await.
struct Shared {
    core: Mutex<Core<Permits>>,
    /// Wakes the application: there is something for it.
    ready: Notify,
    /// Wakes the driver: there is something for it.
    work: Notify,
    buffer_bytes: Arc<Semaphore>,
    buffer_records: Arc<Semaphore>,
    opened: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core<Permits>> {
        self.core.lock().expect("no holder panics")
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }
}

impl GroupConsumer {
    /// Checks the options and begins to join in the background: whether that works, [`GroupConsumer::next`] says.
    pub fn open(cluster: &Cluster, options: GroupOptions) -> Result<GroupConsumer, ClientError> {
        let invalid = |detail: &str| Err(ClientError::Invalid { detail: detail.into() });
        if options.group.is_empty() {
            return invalid("the group has no name");
        }
        if options.topics.is_empty() && options.pattern.is_none() {
            return invalid("a consumer of a group needs topics or a pattern");
        }
        // On the wire 0 is the default.
        for (name, time) in [("session", options.session_timeout), ("rebalance", options.rebalance_timeout)] {
            if time < Duration::from_millis(1) {
                return invalid(&format!("a {name}_timeout of {time:?} is below a millisecond"));
            }
        }
        if options.poll_interval_max < POLL_INTERVAL_MAX_MIN {
            let asked = options.poll_interval_max;
            return invalid(&format!(
                "a poll_interval_max of {asked:?} is below a second: any pause of the process would end the membership"
            ));
        }
        let rules = Rules {
            session_timeout: options.session_timeout,
            poll_interval_max: options.poll_interval_max,
            auto_commit: options.auto_commit,
            offset_reset: options.offset_reset,
        };
        let permits = |most: usize| Arc::new(Semaphore::new(reader::budget(most)));
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(rules)),
            ready: Notify::new(),
            work: Notify::new(),
            buffer_bytes: permits(options.buffer_bytes_max),
            buffer_records: permits(options.buffer_records_max),
            opened: Instant::now(),
        });
        let (commands, from) = mpsc::channel(COMMANDS_MAX);
        let records_max = options.records_max.max(1);
        let calls = Calls::new(cluster.with_own_streams(), options);
        tokio::spawn(Driver::new(calls, shared.clone(), from).run());
        Ok(GroupConsumer { shared, commands, records_max })
    }

    /// The next event. Calling it says that the records of the last one are processed, and that what the last one
    /// revoked may go. May be dropped while it waits. After an error that [`ClientError::is_retriable`] it goes on
    /// trying: call it again.
    pub async fn next(&mut self) -> Result<GroupEvent, ClientError> {
        self.next_up_to(self.records_max).await
    }

    /// Does what [`GroupConsumer::next`] does, with at most so many records.
    pub async fn next_up_to(&mut self, records_max: usize) -> Result<GroupEvent, ClientError> {
        self.shared.lock().begin_next(self.shared.now());
        self.shared.work.notify_one();
        loop {
            let ready = self.shared.ready.notified();
            let taken = self.shared.lock().take(self.shared.now(), records_max.max(1));
            match taken {
                Some(event) => return event,
                None => ready.await,
            }
        }
    }

    /// Commits everything handed out so far, the last event's records included. Answered when it is fsynced on a
    /// majority. [`ClientError::NotAMember`] if this member was expelled, or heard nothing of its coordinator for
    /// its session, since the application last heard what it holds: then nothing was committed, and others read it
    /// again. So Ok never stands for nothing.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.shared.lock().commit_all_as_member(self.shared.now())?;
        self.commit_offsets(offsets).await
    }

    /// Commits these, with metadata if wanted. Partitions that this member does not hold are refused
    /// ([`ClientError::CommitRefused`]), all others committed.
    pub async fn commit_offsets(&mut self, offsets: Vec<OffsetToCommit>) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::Commit { offsets, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Reads on at this offset, and commits it as the position.
    pub fn seek(&mut self, at: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        self.shared.lock().seek(at, offset)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Hands out no records of this partition until it is resumed. It stays this member's.
    pub fn pause(&mut self, at: &TopicPartition) -> Result<(), ClientError> {
        self.set_paused(at, true)
    }

    /// Hands records of this partition out again.
    pub fn resume(&mut self, at: &TopicPartition) -> Result<(), ClientError> {
        self.set_paused(at, false)
    }

    fn set_paused(&mut self, at: &TopicPartition, paused: bool) -> Result<(), ClientError> {
        self.shared.lock().set_paused(at, paused)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// The offset of the next record to be handed out; None while it is not known, or the partition not held.
    pub fn position(&self, at: &TopicPartition) -> Option<Offset> {
        self.shared.lock().position(at)
    }

    /// What this member reads, as far as its events have said.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().assignment()
    }

    /// The id that the coordinator gave this member; empty while it has not.
    pub fn member_id(&self) -> String {
        self.shared.lock().member().to_string()
    }

    /// Commits what was handed out (with auto-commit: the last event's records count as processed), and leaves the
    /// group. Takes [`GroupOptions::patience`] at most.
    pub async fn close(self) -> Result<(), ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Close { reply }).await?;
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Records that were read and not handed out.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.shared.lock().buffered()
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).await.map_err(|_| self.ended())
    }

    /// The driver ends early only when the group refused this member for good.
    fn ended(&self) -> ClientError {
        self.shared.lock().fatal().unwrap_or(ClientError::Closed)
    }
}
