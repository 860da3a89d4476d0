//! Consuming without a group: one reader a partition, interleaved as answers arrive.
//!
//! One rule for topics that are named and for those that match a pattern: while it follows (neither `-e` nor an end
//! offset was given), partitions that appear are read too, from their first record. What could not be read is said.
//! A named topic that is replaced ends the command; of those that match, the new one is read.

use std::{collections::BTreeSet, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{
    args::ConsumeArgs,
    printer::{Printed, Printer},
    readers::{Part, Readers, Reading},
};
use crate::{
    cli::{exit::Failure, global::Global, guess, output::closed, terminal::say},
    client::{Admin, ClientError, ConsumeOptions, ErrorCode, Gaps, Notice, PartitionId, Start, TopicPartition, World},
};

/// How often to look for partitions and topics: one small question, and a new one is read well within 10 s.
const FOLLOW: Duration = Duration::from_secs(2);

pub async fn run(args: &ConsumeArgs, printer: Printer, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let options = ConsumeOptions {
        start: args.offset.start.at(World::system().clock.wall()),
        gaps: Gaps::Tell,
        end_offset: args.offset.end,
        stop_at_end: args.exit_at_end,
        patience: global.timeout,
    };
    let (mut readers, from) = Readers::new(admin.cluster().clone(), options);
    for at in named(&admin, args).await? {
        readers.start(at, options.start);
    }
    for at in matching(&admin, args).await.map_err(Failure::of_read)? {
        readers.start(at, options.start);
    }
    let reading = readers.reading();
    if let Some(regex) = &args.topics_regex
        && reading.borrow().is_empty()
    {
        say(&format!("flotilla: no topic matches {:?} yet", regex.text));
    }
    let names: BTreeSet<String> = args.topics.iter().cloned().collect();
    let until = match (args.exit_at_end, args.offset.end) {
        (true, _) => Until::End,
        (false, Some(_)) => Until::Offset,
        (false, None) => Until::Stopped,
    };
    let output = Output { printer, names, reading, until };
    if until != Until::Stopped {
        return output.print_all(from, readers.wait()).await;
    }
    let follow = async {
        loop {
            sleep(FOLLOW).await;
            // A cluster that is away shows in the readers, who know how long to be patient.
            let more = [matching(&admin, args).await, grown(&admin, args).await];
            for at in more.into_iter().flatten().flatten() {
                readers.start(at, of_later(options.start));
            }
        }
    };
    output.print_all(from, follow).await
}

/// Every partition that was named, and exists.
async fn named(admin: &Admin, args: &ConsumeArgs) -> Result<Vec<TopicPartition>, Failure> {
    let mut all = Vec::new();
    for topic in &args.topics {
        let count = match admin.partition_count(topic).await {
            Ok(count) => count as i32,
            Err(error) => return Err(guess::topic(error, topic, admin).await),
        };
        if let Some(&partition) = args.partition.iter().find(|p| !(0..count).contains(*p)) {
            let (topic, partition) = (topic.clone(), PartitionId(partition));
            return Err(ClientError::NoPartition { topic, partition, count }.into());
        }
        all.extend(wanted(topic, count, &args.partition));
    }
    Ok(all)
}

/// The partitions that named topics have now.
async fn grown(admin: &Admin, args: &ConsumeArgs) -> Result<Vec<TopicPartition>, ClientError> {
    if args.topics.is_empty() {
        return Ok(Vec::new());
    }
    let question = args.topics.iter().fold(admin.describe_cluster(), |question, topic| question.topic(topic));
    let topics = question.send().await?.topics.into_iter();
    Ok(topics.flat_map(|topic| wanted(&topic.name, topic.partitions.len() as i32, &args.partition)).collect())
}

/// The partitions of all topics that match now. None without a pattern.
async fn matching(admin: &Admin, args: &ConsumeArgs) -> Result<Vec<TopicPartition>, ClientError> {
    let Some(regex) = &args.topics_regex else { return Ok(Vec::new()) };
    let topics = admin.list_topics().await?.into_iter();
    let topics = topics.filter(|topic| regex.is_match(&topic.name));
    Ok(topics.flat_map(|topic| wanted(&topic.name, topic.partitions, &args.partition)).collect())
}

/// The partitions of a topic that are wanted: all, or those named that it has.
fn wanted(topic: &str, count: i32, only: &[i32]) -> Vec<TopicPartition> {
    let is_wanted = |p: &i32| only.is_empty() || only.contains(p);
    (0..count).filter(is_wanted).map(|p| TopicPartition::new(topic, PartitionId(p))).collect()
}

/// Where a partition begins that was not there at the start: all it has came after that. An offset or a time that
/// was asked for holds for it as for the others.
fn of_later(start: Start) -> Start {
    match start {
        Start::Earliest | Start::Latest | Start::BeforeEnd(_) => Start::Earliest,
        Start::Offset(_) | Start::Timestamp(_) => start,
    }
}

/// What the parts that readers hand over become.
struct Output {
    printer: Printer,
    /// The topics that were named.
    names: BTreeSet<String>,
    reading: Reading,
    until: Until,
}

/// When it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Reading stops at the end that each partition had.
    End,
    /// Reading stops at an offset that may have to be waited for.
    Offset,
    /// It follows.
    Stopped,
}

impl Output {
    /// Prints what arrives until nothing can arrive any more. `beside` runs along, and may end before.
    async fn print_all(
        mut self,
        mut from: mpsc::Receiver<Part>,
        beside: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let print = async {
            let mut failed = None;
            while let Some(part) = from.recv().await {
                if let Some(failure) = self.judge(&part) {
                    // One partition's end takes nothing from the others: what they have delivered is printed, all
                    // that they have if they come to an end themselves.
                    if self.until == Until::Stopped {
                        from.close();
                    }
                    failed = failed.or(Some(failure));
                    continue;
                }
                let Ok(chunk) = &part.chunk else { continue };
                match self.printer.print(&part.at.topic, part.at.partition.0, &chunk.records).await? {
                    Printed::All => {}
                    Printed::Enough => break,
                    Printed::NoReader => return Err(Failure::closed_pipe()),
                }
            }
            failed.map_or(Ok(()), Err)
        };
        tokio::pin!(print, beside);
        tokio::select! {
            printed = &mut print => printed,
            () = &mut beside => print.await,
            () = closed() => Err(Failure::closed_pipe()),
        }
    }

    /// Says what is worth a word. Some: the partition's reader ended as it should not.
    fn judge(&self, part: &Part) -> Option<Failure> {
        let at = &part.at;
        let error = match &part.chunk {
            Ok(chunk) => {
                if let Some(notice) = chunk.notice {
                    say(&format!("flotilla: {at}: {}", in_words(notice, self.until)));
                }
                return None;
            }
            Err(error) => error,
        };
        let is_replaced = error.code() == Some(ErrorCode::TopicReplaced);
        if self.until == Until::Stopped && error.is_not_found() && !self.names.contains(&at.topic) {
            let what = if is_replaced { "was replaced; its new topic is read from the start" } else { "is gone" };
            say(&format!("flotilla: {at} {what}"));
            self.reading.borrow_mut().remove(at);
            return None;
        }
        let failure = Failure::of_read(error.clone());
        let message = match is_replaced {
            true => format!(
                "topic {:?} was deleted while it was read, and another one has its name: run this again to read that",
                at.topic
            ),
            false => format!("{at}: {}", failure.message),
        };
        Some(Failure { message, ..failure })
    }
}

fn in_words(notice: Notice, until: Until) -> String {
    match (notice, until) {
        (Notice::Skipped { from, to }, _) => {
            format!("skipped from offset {from} to {to} (excluded): deleted before it was read")
        }
        (Notice::BeyondEnd { start, end }, Until::End) => {
            format!("offset {start} is beyond its end, which is {end}: nothing to read")
        }
        (Notice::BeyondEnd { start, end }, Until::Offset | Until::Stopped) => {
            format!("offset {start} is beyond its end, which is {end}: waiting for it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Offset, WallMs};

    #[test]
    fn only_partitions_that_are_there() {
        let names = |only: &[i32]| wanted("t", 3, only).into_iter().map(|at| at.partition.0).collect::<Vec<_>>();
        assert_eq!(names(&[]), [0, 1, 2]);
        assert_eq!(names(&[2, 7]), [2]);
    }

    #[test]
    fn what_comes_later_is_read_from_its_beginning() {
        assert_eq!(of_later(Start::Latest), Start::Earliest);
        assert_eq!(of_later(Start::BeforeEnd(5)), Start::Earliest);
        assert_eq!(of_later(Start::Timestamp(WallMs(7))), Start::Timestamp(WallMs(7)));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_offsets() {
        let skipped = in_words(Notice::Skipped { from: Offset(5), to: Offset(9) }, Until::Stopped);
        assert_eq!(skipped, "skipped from offset 5 to 9 (excluded): deleted before it was read");
        let beyond = Notice::BeyondEnd { start: Offset(100), end: Offset(40) };
        assert!(in_words(beyond, Until::End).ends_with("offset 100 is beyond its end, which is 40: nothing to read"));
        assert!(in_words(beyond, Until::Stopped).ends_with("waiting for it"));
    }
}
