//! A producer under observation: `flotilla produce` fed with records whose values are unique, and
//! what it was told about each.
//!
//! A receipt names a range of offsets, not records. Which records these are follows from the
//! producer's promise: it sends a partition's records in order and gets its receipts in order, so
//! the receipts of a partition cover the first records sent to it. If that were broken, the checker
//! would see records moved.

use std::{
    io::{BufRead, BufReader, BufWriter, LineWriter, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    checker::{Outcome, Sent},
    command::{collect, collected, spell, wait, wait_for},
    partitioner::partition_of,
};

/// How often a paced writer hands over what is due.
const TICK: Duration = Duration::from_millis(10);

/// One acknowledged batch, and when we read of it.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub partition: u32,
    pub base_offset: i64,
    pub count: usize,
    pub epoch: u64,
    pub index: u64,
    /// Broker ids, ascending.
    pub durable_on: Vec<u64>,
    pub at: Instant,
}

impl Receipt {
    /// Panics on what is not the documented shape: the shape is an interface.
    pub fn parse(line: &str, at: Instant) -> Receipt {
        let json: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("a receipt that is no JSON ({error}): {line}"));
        let number =
            |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("a receipt without a number {name:?}: {line}"));
        let ids = json["durable_on"].as_array().unwrap_or_else(|| panic!("a receipt without durable_on: {line}"));
        let mut durable_on: Vec<u64> = ids.iter().map(|id| id.as_u64().expect("broker ids are numbers")).collect();
        durable_on.sort_unstable();
        Receipt {
            partition: number("partition") as u32,
            base_offset: number("base_offset") as i64,
            count: number("count") as usize,
            epoch: number("epoch"),
            index: number("index"),
            durable_on,
            at,
        }
    }
}

/// What to send, and how fast.
pub struct Plan {
    pub topic: String,
    pub partitions: u32,
    /// Records a second; none: as fast as the producer takes them.
    pub rate: Option<u32>,
    /// The producer's `--timeout`; none: its default.
    pub timeout: Option<Duration>,
    /// Hands each record over at once instead of in bursts.
    pub one_by_one: bool,
}

impl Plan {
    pub fn new(topic: &str, partitions: u32) -> Plan {
        Plan { topic: topic.into(), partitions, rate: None, timeout: None, one_by_one: false }
    }

    pub fn rate(self, rate: u32) -> Plan {
        Plan { rate: Some(rate), ..self }
    }

    pub fn timeout(self, timeout: Duration) -> Plan {
        Plan { timeout: Some(timeout), ..self }
    }

    pub fn one_by_one(self) -> Plan {
        Plan { one_by_one: true, ..self }
    }
}

/// Endless records with unique values: `name` must be unique in the topic.
pub fn numbered(name: &str, keys: u64) -> impl Iterator<Item = (String, String)> + Send + use<> {
    let name = name.to_string();
    // Padding makes a record of about 100 bytes.
    (0u64..).map(move |n| (format!("key-{}", n % keys), format!("{name}-{n:010}-{:.<64}", "")))
}

/// A producer at work.
pub struct Producer {
    child: Child,
    partitions: u32,
    stop: Sender<()>,
    feeding: JoinHandle<Vec<(String, String)>>,
    reading: JoinHandle<()>,
    complaining: mpsc::Receiver<String>,
    receipts: Arc<Mutex<Vec<Receipt>>>,
    line: String,
}

impl Producer {
    /// `command` is `flotilla produce` up to where the plan takes over.
    pub fn start(
        mut command: Command,
        plan: &Plan,
        records: impl Iterator<Item = (String, String)> + Send + 'static,
    ) -> Producer {
        command.args([&plan.topic, "--format", "%k:%v\\n", "--receipts", "json", "--acks", "all"]);
        command.args(["--partitioner", "key"]);
        if let Some(timeout) = plan.timeout {
            command.arg("--timeout").arg(format!("{}ms", timeout.as_millis()));
        }
        let line = spell(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let complaining = collect(child.stderr.take().expect("piped"));
        let receipts = Arc::new(Mutex::new(vec![]));
        let shared = receipts.clone();
        let reading = thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.expect("receipts are text");
                let receipt = Receipt::parse(&line, Instant::now());
                shared.lock().expect("nobody panics with it").push(receipt);
            }
        });
        let (stop, stopped) = mpsc::channel();
        let (rate, one_by_one) = (plan.rate, plan.one_by_one);
        let feeding = thread::spawn(move || match one_by_one {
            false => feed(BufWriter::with_capacity(64 << 10, stdin), records, rate, &stopped),
            // A record is one short line, so one write.
            true => feed(LineWriter::new(stdin), records, rate, &stopped),
        });
        Producer { child, partitions: plan.partitions, stop, feeding, reading, complaining, receipts, line }
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> usize {
        self.receipts.lock().expect("nobody panics with it").iter().map(|receipt| receipt.count).sum()
    }

    /// Waits until `more` further records are acknowledged.
    #[track_caller]
    pub fn wait_acked(&self, more: usize, deadline: Duration) {
        let goal = self.acked() + more;
        wait_for(&format!("{goal} acknowledged records of `{}`", self.line), deadline, || {
            let acked = self.acked();
            if acked >= goal { Ok(()) } else { Err(format!("{acked} acknowledged")) }
        });
    }

    /// Waits until each of `partitions` has a receipt from a later leader than the epoch given with
    /// it. (A receipt that merely arrives late may be the old leader's.)
    #[track_caller]
    pub fn wait_new_leaders(&self, partitions: &[(u32, u64)], deadline: Duration) {
        wait_for(
            &format!("a receipt from a new leader of each of {partitions:?} (partition, epoch)"),
            deadline,
            || {
                let receipts = self.receipts.lock().expect("nobody panics with it");
                let newer = |(p, epoch): &(u32, u64)| receipts.iter().any(|r| r.partition == *p && r.epoch > *epoch);
                let waiting: Vec<_> = partitions.iter().filter(|partition| !newer(partition)).collect();
                if waiting.is_empty() { Ok(()) } else { Err(format!("none for {waiting:?}")) }
            },
        );
    }

    /// The longest time without a receipt for `partition` that ended after `since`.
    pub fn longest_gap(&self, partition: u32, since: Instant) -> Duration {
        let receipts = self.receipts.lock().expect("nobody panics with it");
        longest_gap(receipts.iter().filter(|receipt| receipt.partition == partition).map(|receipt| receipt.at), since)
    }

    /// As [`Producer::longest_gap`], with a gap that lasts until now.
    pub fn longest_silence(&self, partition: u32, since: Instant) -> Duration {
        let last = {
            let receipts = self.receipts.lock().expect("nobody panics with it");
            receipts.iter().rev().find(|receipt| receipt.partition == partition).map_or(since, |receipt| receipt.at)
        };
        self.longest_gap(partition, since).max(last.elapsed())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Ends the input and waits until the producer has an answer for everything.
    pub fn finish(self, deadline: Duration) -> Produced {
        // Fails if the records ran out before.
        let _ = self.stop.send(());
        self.finish_all(deadline)
    }

    /// Waits until all records of the plan are answered.
    pub fn finish_all(mut self, deadline: Duration) -> Produced {
        let status = wait(&mut self.child, deadline);
        drop(self.stop);
        let sent = self.feeding.join().expect("feeding does not panic");
        self.reading.join().expect("every receipt has the documented shape");
        let stderr = collected(&self.complaining, &self.line);
        let receipts = std::mem::take(&mut *self.receipts.lock().expect("nobody panics with it"));
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Produced::new(self.partitions, sent, receipts, code, stderr, self.line)
    }
}

/// Writes records until told to stop; gives back what it wrote. What the producer did not read any
/// more counts as sent, with an unknown outcome.
fn feed(
    mut stdin: impl Write,
    mut records: impl Iterator<Item = (String, String)>,
    rate: Option<u32>,
    stopped: &mpsc::Receiver<()>,
) -> Vec<(String, String)> {
    const BURST_RECORDS_MAX: usize = 500;
    let mut sent = vec![];
    let began = Instant::now();
    loop {
        let due = match rate {
            Some(rate) => (began.elapsed().as_secs_f64() * f64::from(rate)) as usize,
            None => sent.len() + BURST_RECORDS_MAX,
        };
        while sent.len() < due {
            let Some((key, value)) = records.next() else {
                let _ = stdin.flush();
                return sent;
            };
            let written = writeln!(stdin, "{key}:{value}");
            sent.push((key, value));
            if written.is_err() {
                return sent;
            }
        }
        if rate.is_some() && stdin.flush().is_err() {
            return sent;
        }
        let pace = if rate.is_some() { TICK } else { Duration::ZERO };
        match stopped.recv_timeout(pace) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                let _ = stdin.flush();
                return sent;
            }
        }
    }
}

fn longest_gap(times: impl Iterator<Item = Instant>, since: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut before: Option<Instant> = None;
    for at in times {
        if let Some(before) = before
            && at > since
        {
            longest = longest.max(at - before);
        }
        before = Some(at);
    }
    longest
}

/// A producer that ended: its history.
#[derive(Debug)]
pub struct Produced {
    /// By partition, in the order sent.
    pub sent: Vec<Vec<Sent>>,
    pub receipts: Vec<Receipt>,
    pub code: i32,
    pub stderr: String,
    line: String,
}

impl Produced {
    fn new(
        partitions: u32,
        records: Vec<(String, String)>,
        receipts: Vec<Receipt>,
        code: i32,
        stderr: String,
        line: String,
    ) -> Produced {
        let mut sent: Vec<Vec<Sent>> = (0..partitions).map(|_| vec![]).collect();
        for (key, value) in records {
            let partition = partition_of(key.as_bytes(), partitions) as usize;
            sent[partition].push(Sent { key, value, outcome: Outcome::Unknown });
        }
        // Exit codes 1 and 5 promise that what failed had no effect (5: something else was stored); any other failure
        // promises nothing.
        let otherwise = if [1, 5].contains(&code) { Outcome::Refused } else { Outcome::Unknown };
        for (partition, sent) in sent.iter_mut().enumerate() {
            sent.iter_mut().for_each(|sent| sent.outcome = otherwise);
            attribute(sent, receipts.iter().filter(|receipt| receipt.partition as usize == partition));
        }
        Produced { sent, receipts, code, stderr, line }
    }

    pub fn acked(&self) -> usize {
        self.receipts.iter().map(|receipt| receipt.count).sum()
    }

    pub fn sent_count(&self) -> usize {
        self.sent.iter().map(Vec::len).sum()
    }

    /// "No failed produce": exit 0, and every record has its receipt.
    #[track_caller]
    pub fn assert_all_acked(&self) {
        let (sent, acked) = (self.sent_count(), self.acked());
        assert!(
            self.code == 0 && sent == acked && sent > 0,
            "`{}`: {acked} of {sent} records acknowledged, exit code {}\n{}",
            self.line,
            self.code,
            self.stderr
        );
    }
}

/// The receipts of one partition cover the first records sent to it, in order.
fn attribute<'a>(sent: &mut [Sent], receipts: impl Iterator<Item = &'a Receipt>) {
    let mut receipts: Vec<&Receipt> = receipts.collect();
    receipts.sort_by_key(|receipt| receipt.base_offset);
    let offsets = receipts.iter().flat_map(|receipt| receipt.base_offset..receipt.base_offset + receipt.count as i64);
    let mut sent = sent.iter_mut();
    for offset in offsets {
        let sent = sent.next().unwrap_or_else(|| panic!("offset {offset} acknowledged, beyond all that was sent"));
        sent.outcome = Outcome::Acked { offset };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(partition: u32, base_offset: i64, count: usize) -> Receipt {
        let durable_on = vec![1, 2];
        Receipt { partition, base_offset, count, epoch: 1, index: 1, durable_on, at: Instant::now() }
    }

    #[test]
    fn a_receipt_is_read_as_documented() {
        let line = r#"{"topic":"t","partition":3,"base_offset":7,"count":2,"epoch":4,"index":9,"durable_on":[2,1]}"#;
        let read = Receipt::parse(line, Instant::now());
        assert_eq!((read.partition, read.base_offset, read.count, read.epoch, read.index), (3, 7, 2, 4, 9));
        assert_eq!(read.durable_on, [1, 2]);
    }

    #[test]
    fn receipts_cover_the_first_records_sent() {
        let records = (0..4).map(|n| ("k".to_string(), format!("v{n}"))).collect();
        let receipts = vec![receipt(0, 10, 2), receipt(0, 13, 1)];
        let produced = Produced::new(1, records, receipts, 3, String::new(), String::new());
        let outcomes: Vec<Outcome> = produced.sent[0].iter().map(|sent| sent.outcome).collect();
        let acked = |offset| Outcome::Acked { offset };
        assert_eq!(outcomes, [acked(10), acked(11), acked(13), Outcome::Unknown]);
        let records = vec![("k".to_string(), "v".to_string())];
        let refused = Produced::new(1, records, vec![], 1, String::new(), String::new());
        assert_eq!(refused.sent[0][0].outcome, Outcome::Refused);
    }

    #[test]
    fn a_gap_is_measured_from_the_receipt_before_the_fault() {
        let start = Instant::now();
        let at = |ms: &u64| start + Duration::from_millis(*ms);
        let gap = |times: &[u64], since: u64| longest_gap(times.iter().map(at), at(&since)).as_millis();
        assert_eq!(gap(&[0, 10, 500, 510], 100), 490);
        // A gap that was over before does not count.
        assert_eq!(gap(&[0, 900, 910, 920], 905), 10);
    }

    #[test]
    fn feeding_paces_and_stops() {
        let (stop, stopped) = mpsc::channel();
        drop(stop);
        let sent = feed(vec![], numbered("x", 3), Some(1000), &stopped);
        assert!(sent.len() < 1000, "{}", sent.len());
        let mut out = vec![];
        let (_stop, stopped) = mpsc::channel();
        let sent = feed(&mut out, numbered("x", 3).take(7), None, &stopped);
        assert_eq!(sent.len(), 7);
        assert_eq!(String::from_utf8(out).expect("text").lines().count(), 7);
    }
}
