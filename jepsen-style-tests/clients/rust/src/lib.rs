//! What every client is asked to do, and how it is judged (see ../README.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

pub const PARTITIONS: i32 = 3;
pub const REPLICATION: i32 = 3;
pub const PER_CODEC: usize = 12;
pub const RESUMED: usize = 6;
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
pub const WAIT: Duration = Duration::from_secs(40);
/// One key twice: what keeps headers in a map loses one of them.
pub const HEADERS: [(&str, &str); 3] = [("trace", "a"), ("trace", "b"), ("empty", "")];

pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Clone, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

impl Record {
    fn short(&self) -> String {
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|b| String::from_utf8_lossy(&b[..b.len().min(20)]).into_owned())
        };
        format!("key {:?} value {:?} headers {:?}", text(&self.key), text(&self.value), self.headers)
    }
}

pub fn headers() -> Vec<(String, String)> {
    HEADERS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

/// The records sent with one codec: with and without key, with and without value, every byte.
pub fn records(codec: &str, count: usize) -> Vec<Record> {
    let record = |i: usize| {
        let mut value = format!("{codec} {i} ").into_bytes();
        value.extend(0..=255);
        value.extend(vec![b'x'; 100 * i]);
        Record {
            partition: i as i32 % PARTITIONS,
            key: [0, 2].contains(&(i % 4)).then(|| format!("{codec}-{i}").into_bytes()),
            value: [0, 1].contains(&(i % 4)).then_some(value),
            headers: headers(),
        }
    };
    (0..count).map(record).collect()
}

/// The offsets after the last record of each partition.
pub fn ends(sent: &[Record]) -> Vec<i64> {
    (0..PARTITIONS).map(|p| sent.iter().filter(|record| record.partition == p).count() as i64).collect()
}

/// Complains about the first difference between what was sent and what was read.
pub fn compare(sent: &[Record], got: &[Record]) -> Outcome {
    for p in 0..PARTITIONS {
        let of = |all: &[Record]| all.iter().filter(|record| record.partition == p).cloned().collect::<Vec<_>>();
        let (expected, found) = (of(sent), of(got));
        for (at, (a, b)) in expected.iter().zip(&found).enumerate() {
            if a != b {
                return Err(format!("partition {p}, record {at}: sent {}, read {}", a.short(), b.short()).into());
            }
        }
        same(&expected.len(), &found.len(), &format!("records of partition {p}"))?;
    }
    Ok(())
}

pub fn same<T: PartialEq + std::fmt::Debug>(expected: &T, found: &T, what: &str) -> Outcome {
    if expected == found { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}").into()) }
}

/// Waits until the condition is true.
pub async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> Outcome<bool>) -> Outcome {
    let until = Instant::now() + WAIT;
    while !condition().await? {
        if Instant::now() > until {
            return Err(format!("after {WAIT:?} not yet: {what}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What each step came to; after an error in one, the next one is tried.
pub struct Report {
    client: String,
    version: String,
    steps: BTreeMap<String, String>,
}

impl Report {
    pub fn new(client: &str, version: &str) -> Report {
        Report { client: client.to_owned(), version: version.to_owned(), steps: BTreeMap::new() }
    }

    pub fn step(&mut self, name: &str, came: Outcome) {
        eprintln!("{name}");
        self.steps.insert(name.to_owned(), came.map_or_else(|error| error.to_string(), |()| "ok".to_owned()));
    }

    pub fn skip(&mut self, name: &str, why: &str) {
        self.steps.insert(name.to_owned(), format!("- {why}"));
    }

    pub fn print(&self) {
        println!("{}", json!({ "client": self.client, "version": self.version, "steps": self.steps }));
    }
}

/// The long run: what was acknowledged, at which pace, and whether it came back once each.
pub struct Stream {
    pub count: usize,
    acked: BTreeSet<usize>,
    refused: Vec<String>,
    began: Instant,
    announced: bool,
    time: Duration,
}

impl Stream {
    pub fn new(count: usize) -> Stream {
        let seconds = env::var("STREAM_SECONDS").map_or(8, |text| text.parse().expect("STREAM_SECONDS is a number"));
        Stream {
            count,
            acked: BTreeSet::new(),
            refused: vec![],
            began: Instant::now(),
            announced: false,
            time: Duration::from_secs(seconds),
        }
    }

    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Holds record `i` back, so that the run takes long enough for a broker to die in it.
    pub async fn pace(&self, i: usize) {
        sleep_until(self.began + self.time * i as u32 / self.count as u32).await;
    }

    /// Record `i` is acknowledged, or the client gave it up: then it is not lost, since it said so. After a third of all
    /// the driver is told to kill.
    pub fn told(&mut self, i: usize, came: Result<(), String>) {
        match came {
            Ok(()) => drop(self.acked.insert(i)),
            Err(error) => self.refused.push(error),
        }
        if self.acked.len() >= self.count / 3 && !self.announced {
            self.announced = true;
            println!("a third is acknowledged");
        }
    }

    /// Judges the numbers that were read at the end, as often as they came.
    pub fn print(&self, client: &str, version: &str, idempotent: bool, got: &[usize]) {
        let read: BTreeSet<usize> = got.iter().copied().collect();
        let line: Value = json!({
            "client": client, "version": version, "idempotent": idempotent, "sent": self.count, "acked": self.acked.len(),
            "refused": self.refused.len(), "refusal": self.refused.first(), "missing": self.acked.difference(&read).count(),
            "duplicates": got.len() - read.len(),
        });
        println!("{line}");
    }
}

/// The number that a record of the long run carries.
pub fn number(value: &[u8]) -> Outcome<usize> {
    Ok(std::str::from_utf8(value)?.parse()?)
}

/// BOOTSTRAP TOPIC [--stream N], the same for every client.
pub fn arguments() -> (String, String, Option<usize>) {
    let asked: Vec<String> = env::args().skip(1).collect();
    let stream =
        asked.get(3).filter(|_| asked[2] == "--stream").map(|count| count.parse().expect("a number after --stream"));
    (asked[0].clone(), asked[1].clone(), stream)
}
