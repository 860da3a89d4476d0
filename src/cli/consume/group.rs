//! Consuming as a member of a group.
//!
//! Promises: what is committed was written to standard output and flushed before. The client counts the records
//! of an event as processed when it is asked for the next one, or closed; so neither happens before they are
//! flushed, and where they never are, the partition is put back to where they begin. SIGINT and SIGTERM end it
//! cleanly, whatever it waits for; a second one at once. What is not read although it was to be is said
//! on standard error: topics that are not there, records that are gone, offsets beyond the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{
    args::{ConsumeArgs, ResetArg},
    printer::{Printed, Printer},
};
use crate::{
    cli::{exit::Failure, global::Global, output::closed, signals::Signals, terminal::say},
    client::{Admin, ClientError, GroupConsumer, GroupEvent, GroupOptions, GroupRecords, Offset, OffsetAt, OffsetJump},
    types::TopicPartition,
};

/// How often `--exit-at-end` looks where it stands: nothing tells of a partition that is empty.
const END_POLL: Duration = Duration::from_millis(100);
/// A member that was given nothing for so long is one too many, or its topics are not there: `--exit-at-end`
/// ends. Longer than others take to let go of a partition.
const UNASSIGNED: Duration = Duration::from_secs(5);
/// How long a write under way may take after a signal before it counts as never made.
const WRITE_GRACE: Duration = Duration::from_secs(2);
/// How long committing and leaving may take after an error. A cluster that is away costs no more than this.
const CLOSE_AFTER_ERROR: Duration = Duration::from_secs(5);

pub async fn run(name: &str, args: &ConsumeArgs, printer: Printer, global: &Global) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let admin = global.admin()?;
    tokio::select! {
        checked = check_topics(&admin, args) => checked?,
        _ = signals.next() => return Ok(()),
    }
    let consumer = GroupConsumer::open(admin.cluster(), options(name, args, global))?;
    let ends = args.exit_at_end.then(|| Ends { admin, targets: BTreeMap::new(), unassigned: Instant::now() });
    let (is_verbose, offset_reset) = (args.group.verbose, args.group.offset_reset);
    let mut member = Member { consumer, printer, ends, is_verbose, offset_reset };
    let ending = member.read(&mut signals).await;
    let closing = member.close(ending);
    tokio::select! {
        closed = closing => closed,
        signal = signals.next() => Err(Failure::failed(format!(
            "{signal} again: ended at once; what was not committed will be read again"
        ))),
    }
}

/// A topic may be created later; a name that is mistyped looks the same. So it is said at once, and who wants to end at
/// the end has nothing to wait for.
async fn check_topics(admin: &Admin, args: &ConsumeArgs) -> Result<(), Failure> {
    for topic in &args.topics {
        match admin.partition_count(topic).await {
            Ok(_) => {}
            Err(ClientError::NoTopic { .. }) if !args.exit_at_end => {
                say(&format!("flotilla: topic {topic:?} does not exist; it will be read once it is created"));
            }
            Err(error) => return Err(Failure::of_read(error)),
        }
    }
    Ok(())
}

fn options(name: &str, args: &ConsumeArgs, global: &Global) -> GroupOptions {
    let group = &args.group;
    GroupOptions {
        topics: args.topics.clone(),
        pattern: args.topics_regex.as_ref().map(|regex| regex.text.clone()),
        assignor: group.assignor.into(),
        instance_id: group.instance_id.clone(),
        client_id: format!("flotilla-consume-{}", std::process::id()),
        session_timeout: group.session_timeout,
        poll_interval_max: group.max_poll_interval,
        offset_reset: group.offset_reset.into(),
        auto_commit: (!group.no_commit).then_some(group.commit_interval),
        patience: global.timeout,
        ..GroupOptions::new(name)
    }
}

/// Why reading ended.
enum Ending {
    /// It was asked to, or all that was wanted is printed. Everything handed out is flushed.
    Done,
    /// These were not (surely) printed: nobody reads standard output, or it is stuck.
    Unprinted(GroupRecords, Option<Failure>),
    /// Everything handed out is flushed.
    Failed(Failure),
}

struct Member {
    consumer: GroupConsumer,
    printer: Printer,
    ends: Option<Ends>,
    is_verbose: bool,
    offset_reset: ResetArg,
}

impl Member {
    async fn read(&mut self, signals: &mut Signals) -> Ending {
        loop {
            let event = tokio::select! {
                biased;
                _ = signals.next() => return Ending::Done,
                () = closed() => return Ending::Failed(Failure::closed_pipe()),
                event = self.consumer.next_up_to(self.printer.left()) => event,
                () = sleep(END_POLL), if self.ends.is_some() => {
                    if self.is_at_end() {
                        return Ending::Done;
                    }
                    continue;
                }
            };
            match event {
                Ok(GroupEvent::Jumped(jump)) => {
                    say(&format!("flotilla: {}", jumped(&jump, self.offset_reset)));
                    self.is_inside(&jump.at);
                }
                Ok(GroupEvent::Records(records)) => match self.print(records, signals).await {
                    Some(ending) => return ending,
                    None if self.is_at_end() => return Ending::Done,
                    None => {}
                },
                Ok(GroupEvent::Assigned(partitions)) => {
                    self.say("reading", &partitions);
                    let Some(ends) = &mut self.ends else { continue };
                    tokio::select! {
                        biased;
                        _ = signals.next() => return Ending::Done,
                        begun = ends.begin(&partitions) => if let Err(error) = begun {
                            return Ending::Failed(Failure::of_read(error));
                        },
                    }
                }
                Ok(GroupEvent::Revoked(partitions)) => self.gone("handing over", &partitions),
                Ok(GroupEvent::Replaced(partitions)) => {
                    let topics: BTreeSet<&str> = partitions.iter().map(|at| at.topic.as_str()).collect();
                    for topic in topics {
                        say(&format!("flotilla: topic {topic:?} was deleted and made anew: going on in the new one"));
                    }
                    self.gone("replaced:", &partitions);
                }
                Ok(GroupEvent::Lost(partitions)) => {
                    self.gone("lost, what was not committed is read again by others:", &partitions);
                }
                Err(error) => return Ending::Failed(Failure::of_read(error)),
            }
        }
    }

    /// Prints records. `None` says to go on.
    async fn print(&mut self, records: GroupRecords, signals: &mut Signals) -> Option<Ending> {
        self.is_inside(&records.at);
        let (printed, is_stopping) = {
            let print = self.printer.print(&records.at.topic, records.at.partition.0, &records.records);
            tokio::pin!(print);
            tokio::select! {
                printed = &mut print => (Some(printed), false),
                _ = signals.next() => (timeout(WRITE_GRACE, print).await.ok(), true),
            }
        };
        match printed {
            Some(Ok(Printed::All)) if !is_stopping => None,
            Some(Ok(Printed::All | Printed::Enough)) => Some(Ending::Done),
            Some(Ok(Printed::NoReader)) => Some(Ending::Unprinted(records, Some(Failure::closed_pipe()))),
            None => Some(Ending::Unprinted(records, None)),
            Some(Err(failure)) => Some(Ending::Unprinted(records, Some(failure))),
        }
    }

    fn is_at_end(&mut self) -> bool {
        let Some(ends) = &mut self.ends else { return false };
        let is_member = !self.consumer.member_id().is_empty();
        let is_at_end = is_member && ends.are_reached(|at| self.consumer.position(at));
        if is_at_end && ends.targets.is_empty() {
            say(&format!(
                "flotilla: no partition was given to this member for {} s: nothing to read",
                UNASSIGNED.as_secs()
            ));
        }
        is_at_end
    }

    /// The partition is read somewhere that it has.
    fn is_inside(&mut self, at: &TopicPartition) {
        if let Some(target) = self.ends.as_mut().and_then(|ends| ends.targets.get_mut(at)) {
            target.is_inside = true;
        }
    }

    fn gone(&mut self, what: &str, partitions: &[TopicPartition]) {
        self.say(what, partitions);
        if let Some(ends) = &mut self.ends {
            ends.forget(partitions);
        }
    }

    fn say(&self, what: &str, partitions: &[TopicPartition]) {
        if self.is_verbose {
            let names: Vec<String> = partitions.iter().map(TopicPartition::to_string).collect();
            say(&format!("flotilla: {what} {}", names.join(", ")));
        }
    }

    /// Commits for the last time, and says goodbye.
    async fn close(mut self, ending: Ending) -> Result<(), Failure> {
        let (result, is_quick) = match ending {
            Ending::Done => (Ok(()), false),
            Ending::Failed(failure) => (Err(failure), true),
            Ending::Unprinted(records, failure) => {
                let first = records.records.first().map_or(Offset(0), |record| record.offset);
                if self.consumer.seek(&records.at, first).is_err() {
                    // It is on its way to another member. Dropped, the client commits nothing more.
                    return failure.map_or(Ok(()), Err);
                }
                (failure.map_or(Ok(()), Err), false)
            }
        };
        let closed = match is_quick {
            false => self.consumer.close().await,
            // The failure is worth more than what closing has to say.
            true => timeout(CLOSE_AFTER_ERROR, self.consumer.close()).await.map_or(Ok(()), |_| Ok(())),
        };
        result.and(closed.map_err(last_commit_failed))
    }
}

fn last_commit_failed(error: ClientError) -> Failure {
    let failure = Failure::from(error);
    let message = format!("the last commit failed, so some of this will be read again: {}", failure.message);
    Failure { message, ..failure }
}

/// What was to be read and is not, or the other way round.
fn jumped(jump: &OffsetJump, reset: ResetArg) -> String {
    let OffsetJump { at, from, to } = jump;
    if from >= to {
        return format!("{at}: offset {from} is beyond the end; reading on at {to}");
    }
    let (last, count) = (to.0 - 1, to.0 - from.0);
    match reset {
        ResetArg::Latest => format!(
            "{at}: offset {from} is gone (retention or a trim); reading on at the end, {to}: {count} records skipped"
        ),
        ResetArg::Earliest | ResetArg::Fail => format!(
            "{at}: the records from offset {from} to {last} are gone (retention or a trim); reading on at {to}: \
             {count} records skipped"
        ),
    }
}

/// Where `--exit-at-end` ends in a partition.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// The end that the partition had when it was assigned.
    end: Offset,
    /// Where reading begins was seen to be no later than that, or something was read. What the group has committed
    /// may lie beyond any end: that is not the end reached.
    is_inside: bool,
}

/// Where `--exit-at-end` ends: what each partition's end was when it was assigned.
struct Ends {
    admin: Admin,
    targets: BTreeMap<TopicPartition, Target>,
    /// The time since when nothing is assigned.
    unassigned: Instant,
}

impl Ends {
    async fn begin(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let admin = &self.admin;
        let ends = partitions.iter().map(|at| async move {
            let end = admin.offset_at(at, OffsetAt::Latest).await?;
            Ok::<_, ClientError>((at.clone(), Target { end, is_inside: false }))
        });
        let ends = try_join_all(ends).await?;
        self.targets.extend(ends);
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.targets.retain(|at, _| !partitions.contains(at));
        if self.targets.is_empty() {
            self.unassigned = Instant::now();
        }
    }

    fn are_reached(&mut self, position: impl Fn(&TopicPartition) -> Option<Offset>) -> bool {
        if self.targets.is_empty() {
            return self.unassigned.elapsed() >= UNASSIGNED;
        }
        let mut are_reached = true;
        for (at, target) in &mut self.targets {
            let position = position(at);
            target.is_inside |= position.is_some_and(|position| position <= target.end);
            are_reached &= target.is_inside && position.is_some_and(|position| position >= target.end);
        }
        are_reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Cluster, types::PartitionId};

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: PartitionId(partition) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_where_every_assigned_partition_ended() {
        let cluster = Cluster::new(vec!["nowhere:1".into()]).expect("an address");
        let admin = Admin::new(cluster, Duration::from_secs(1));
        let target = |end| Target { end: Offset(end), is_inside: false };
        let targets = [(at(0), target(5)), (at(1), target(0))].into();
        let mut ends = Ends { admin, targets, unassigned: Instant::now() };
        assert!(!ends.are_reached(|_| None), "where a partition begins is not known yet");
        assert!(!ends.are_reached(|at| Some(Offset(if at.partition.0 == 0 { 4 } else { 0 }))));
        assert!(ends.are_reached(|at| Some(Offset(if at.partition.0 == 0 { 5 } else { 0 }))));
        ends.forget(&[at(0)]);
        assert!(ends.are_reached(|_| Some(Offset(0))));
        // Committed beyond the end: whatever the reset makes of it, nothing has been reached yet.
        ends.targets.insert(at(2), target(7));
        assert!(!ends.are_reached(|at| Some(Offset(if at.partition.0 == 2 { 1_000_000_000_000 } else { 0 }))));
        assert!(ends.are_reached(|at| Some(Offset(if at.partition.0 == 2 { 7 } else { 0 }))));
        assert!(ends.are_reached(|at| Some(Offset(if at.partition.0 == 2 { 9 } else { 0 }))), "more came meanwhile");
        ends.forget(&[at(1), at(2)]);
        assert!(!ends.are_reached(|_| None), "more may be assigned");
        tokio::time::advance(UNASSIGNED).await;
        assert!(ends.are_reached(|_| None));
    }

    #[test]
    fn what_is_skipped_is_said_with_from_and_to() {
        let said = |from, to, reset| jumped(&OffsetJump { at: at(0), from: Offset(from), to: Offset(to) }, reset);
        let gone = "t-0: the records from offset 3 to 9 are gone (retention or a trim); reading on at 10: \
                    7 records skipped";
        assert_eq!(said(3, 10, ResetArg::Earliest), gone);
        let beyond = "t-0: offset 99 is beyond the end; reading on at 10";
        assert_eq!(said(99, 10, ResetArg::Latest), beyond);
        assert!(said(3, 10, ResetArg::Latest).contains("reading on at the end, 10: 7 records skipped"));
    }

    #[test]
    fn a_last_commit_of_unknown_outcome_says_so() {
        let error = ClientError::Lost { address: "a:1".into(), detail: "x".into() };
        let failure = last_commit_failed(error);
        assert_eq!(failure.code, 3);
        assert!(failure.message.starts_with("the last commit failed"), "{}", failure.message);
    }
}
