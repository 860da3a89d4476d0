//! Consuming without a group: one reader a partition, interleaved as answers arrive. With a pattern, topics
//! created later are read too, from their first record.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::sleep};

use super::{ConsumeArgs, Failure, Global, Printed, Printer};
use crate::client::{Admin, Chunk, ClientError, Cluster, ConsumeOptions, Consumer, Start, World, v1};

/// Answers of all partitions that wait to be printed. Each is at most 1 MiB or one batch.
const CHUNKS_MAX: usize = 16;

/// How often to look for topics that match: one small question, and a new topic is read well within 10 s.
const FOLLOW: Duration = Duration::from_secs(2);

/// What a partition's task hands to the printer.
struct Part {
    topic: String,
    partition: i32,
    chunk: Result<Chunk, ClientError>,
}

pub async fn run(args: &ConsumeArgs, printer: Printer, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let options = ConsumeOptions {
        start: args.offset.start.at(World::system().clock.wall().0),
        end_offset: args.offset.end,
        stop_at_end: args.exit_at_end,
        patience: global.timeout,
    };
    let (to, from) = mpsc::channel(CHUNKS_MAX);
    let mut readers =
        Readers { cluster: admin.cluster().clone(), options, to, reading: Reading::default(), tasks: JoinSet::new() };
    for (topic, partition) in named(&admin, args).await? {
        readers.start(topic, partition, options.start);
    }
    let Some(regex) = &args.topics_regex else {
        return print_all(printer, from, None, readers.wait()).await;
    };
    let matching = |topics: v1::ListTopicsResponse| {
        let topics = topics.topics.into_iter().filter(|topic| regex.is_match(&topic.name));
        topics.flat_map(|topic| wanted(&topic.name, topic.partitions, &args.partition)).collect::<Vec<_>>()
    };
    for (topic, partition) in matching(admin.list_topics(v1::ListTopicsRequest {}).await.map_err(Failure::of_read)?) {
        readers.start(topic, partition, options.start);
    }
    if readers.reading.borrow().is_empty() {
        eprintln!("flotilla: no topic matches {:?} yet", regex.text);
    }
    if args.exit_at_end {
        return print_all(printer, from, None, readers.wait()).await;
    }
    let reading = readers.reading.clone();
    let follow = async {
        loop {
            sleep(FOLLOW).await;
            // A cluster that is away shows in the readers, who know how long to be patient.
            if let Ok(topics) = admin.list_topics(v1::ListTopicsRequest {}).await {
                for (topic, partition) in matching(topics) {
                    readers.start(topic, partition, of_later(options.start));
                }
            }
        }
    };
    print_all(printer, from, Some(reading), follow).await
}

/// Every (topic, partition) that was named, and exists.
async fn named(admin: &Admin, args: &ConsumeArgs) -> Result<Vec<(String, i32)>, Failure> {
    let mut all = Vec::new();
    for topic in &args.topics {
        let count = admin.partition_count(topic).await.map_err(Failure::of_read)? as i32;
        if let Some(&partition) = args.partition.iter().find(|p| !(0..count).contains(*p)) {
            return Err(ClientError::NoPartition { topic: topic.clone(), partition, count }.into());
        }
        all.extend(wanted(topic, count, &args.partition));
    }
    Ok(all)
}

/// The partitions of a topic that are wanted: all, or those named that it has.
fn wanted(topic: &str, count: i32, only: &[i32]) -> Vec<(String, i32)> {
    let is_wanted = |p: &i32| only.is_empty() || only.contains(p);
    (0..count).filter(is_wanted).map(|p| (topic.to_string(), p)).collect()
}

/// Where a partition begins that was not there at the start: all it has came after that.
fn of_later(start: Start) -> Start {
    match start {
        Start::Earliest | Start::Latest | Start::BeforeEnd(_) => Start::Earliest,
        Start::Offset(_) | Start::Timestamp(_) => start,
    }
}

/// The partitions that are read. Shared within this command's one task.
type Reading = Rc<RefCell<BTreeSet<(String, i32)>>>;

struct Readers {
    cluster: Cluster,
    options: ConsumeOptions,
    to: mpsc::Sender<Part>,
    reading: Reading,
    tasks: JoinSet<()>,
}

impl Readers {
    fn start(&mut self, topic: String, partition: i32, start: Start) {
        if self.reading.borrow_mut().insert((topic.clone(), partition)) {
            let options = ConsumeOptions { start, ..self.options };
            self.tasks.spawn(read(self.cluster.clone(), topic, partition, options, self.to.clone()));
        }
    }

    /// Until all have ended.
    async fn wait(self) {
        let Readers { mut tasks, to, .. } = self;
        drop(to);
        while tasks.join_next().await.is_some() {}
    }
}

async fn read(cluster: Cluster, topic: String, partition: i32, options: ConsumeOptions, to: mpsc::Sender<Part>) {
    let part = |chunk| Part { topic: topic.clone(), partition, chunk };
    let mut consumer = match Consumer::open(&cluster, &topic, partition, options).await {
        Ok(consumer) => consumer,
        Err(error) => return drop(to.send(part(Err(error))).await),
    };
    loop {
        let chunk = match consumer.next().await {
            Ok(None) => return,
            Ok(Some(chunk)) if chunk.records.is_empty() => continue,
            Ok(Some(chunk)) => Ok(chunk),
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        // The printer has enough, or this was the end.
        if to.send(part(chunk)).await.is_err() || is_last {
            return;
        }
    }
}

/// Prints what arrives until nothing can arrive any more. `beside` runs along, and may end before. With `following`
/// a topic may go: one of the same name that comes later is read anew.
async fn print_all(
    mut printer: Printer,
    mut from: mpsc::Receiver<Part>,
    following: Option<Reading>,
    beside: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let print = async {
        while let Some(Part { topic, partition, chunk }) = from.recv().await {
            let chunk = match (chunk, &following) {
                (Ok(chunk), _) => chunk,
                (Err(error), Some(reading)) if error.is_not_found() => {
                    eprintln!("flotilla: {topic}-{partition} is gone");
                    reading.borrow_mut().remove(&(topic, partition));
                    continue;
                }
                (Err(error), _) => {
                    let failure = Failure::of_read(error);
                    let message = format!("{topic}-{partition}: {}", failure.message);
                    return Err(Failure { message, ..failure });
                }
            };
            match printer.print(&topic, partition, &chunk.records).await? {
                Printed::All => {}
                Printed::Enough | Printed::NoReader => break,
            }
        }
        Ok(())
    };
    tokio::pin!(print, beside);
    tokio::select! {
        printed = &mut print => printed,
        () = &mut beside => print.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partitions_that_are_there() {
        let names = |only: &[i32]| wanted("t", 3, only).into_iter().map(|(_, p)| p).collect::<Vec<_>>();
        assert_eq!(names(&[]), [0, 1, 2]);
        assert_eq!(names(&[2, 7]), [2]);
    }

    #[test]
    fn what_comes_later_is_read_from_its_beginning() {
        assert_eq!(of_later(Start::Latest), Start::Earliest);
        assert_eq!(of_later(Start::BeforeEnd(5)), Start::Earliest);
        assert_eq!(of_later(Start::Timestamp(7)), Start::Timestamp(7));
    }
}
