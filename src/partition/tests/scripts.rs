//! Runs the stories in `src/partition/scripts/`. `UPDATE_GOLDENFILES=1` records their output.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write;

use super::*;

/// Commands a partition script may use. Entries get the next index by themselves.
#[derive(goldenscript::Command)]
enum Command {
    /// Begins again with an empty partition and these limits.
    Limits {
        #[arg(key)]
        checkpoint_bytes: Option<u64>,
        #[arg(key)]
        segment_ms: Option<i64>,
        #[arg(key)]
        index_bytes: Option<u64>,
        #[arg(key)]
        producers: Option<u64>,
    },
    /// Proposes and applies one batch, with no questions asked.
    Append {
        /// Default: the next offset.
        #[arg(key)]
        at: Option<i64>,
        #[arg(key)]
        records: Option<u32>,
        /// Bytes of each record's value.
        #[arg(key)]
        bytes: Option<usize>,
        #[arg(key)]
        ts: Option<i64>,
        #[arg(key)]
        time: Option<i64>,
        /// `ID/EPOCH/SEQUENCE`
        #[arg(key)]
        producer: Option<String>,
    },
    /// Applies a trim.
    Trim {
        before: i64,
        #[arg(key)]
        time: Option<i64>,
    },
    /// Applies other limits of segments.
    Resize {
        #[arg(key)]
        bytes: u64,
        #[arg(key)]
        ms: i64,
        #[arg(key)]
        time: Option<i64>,
    },
    /// A blank or membership entry: takes an index. With a term, that begins.
    Blank {
        #[arg(key)]
        term: Option<u64>,
    },
    /// Asks the overlay about a batch.
    Check {
        #[arg(key)]
        records: Option<u32>,
        #[arg(key)]
        ts: Option<i64>,
        #[arg(key)]
        time: Option<i64>,
        #[arg(key)]
        producer: Option<String>,
        #[arg(key)]
        expect: Option<i64>,
        /// By how much it may be older than the clock. Default: any time.
        #[arg(key)]
        before: Option<i64>,
    },
    /// Asks, and if the answer is to append, proposes; it waits for `commit` or `refuse`.
    Propose {
        #[arg(key)]
        records: Option<u32>,
        #[arg(key)]
        time: Option<i64>,
        #[arg(key)]
        producer: Option<String>,
    },
    /// Applies the oldest proposal that waits.
    Commit,
    /// Refuses the oldest proposal that waits: it never gets an entry.
    Refuse,
    /// The overlay begins again from the partition.
    Resync,
    /// Where an epoch ends.
    EpochEnd(i32),
    /// Where retention would move the log start.
    Retention {
        #[arg(key)]
        now: Option<i64>,
        #[arg(key)]
        ms: Option<i64>,
        #[arg(key)]
        bytes: Option<u64>,
    },
    /// Encodes the state and goes on from what it decodes to.
    Reload,
    /// Shows the state.
    State,
    Producers,
}

struct Runner {
    partition: Partition,
    overlay: Overlay,
    term: u64,
    index: u64,
    proposed: VecDeque<(Ticket, Bytes)>,
    tickets: u64,
}

impl Runner {
    fn new(limits: PartitionLimits) -> Runner {
        let partition = Partition::new(limits);
        let overlay = Overlay::new(&partition);
        Runner { partition, overlay, term: 1, index: 0, proposed: VecDeque::new(), tickets: 0 }
    }

    fn batch(&self, spec: &Spec) -> Result<(Bytes, BatchHeader), Box<dyn Error>> {
        let producer = spec.producer.as_deref().map(parse_producer).transpose()?;
        let records = spec.records.unwrap_or(1);
        Ok(batch(records, spec.bytes.unwrap_or(0), WallMs(spec.ts.unwrap_or(0)), producer))
    }

    /// Applies a command as the next entry.
    fn apply(&mut self, command: &Bytes) -> String {
        let last = (self.index > 0).then(|| at(self.term, self.index));
        self.index += 1;
        let position = at(self.term, self.index);
        let (applied, checkpoint) = drive(&mut self.partition, last, position, command);
        let mut out = String::new();
        if checkpoint.is_some() {
            let taken = self.partition.checkpoints().last().expect("it was just taken");
            let _ = writeln!(out, "checkpoint at {} next={}", taken.position, taken.next_offset);
        }
        let _ = writeln!(out, "{position} {:?}", response(&applied));
        if let Some(point) = applied.index_point {
            let _ = writeln!(out, "index point at {} max_ts_before={}", point.offset, point.max_timestamp_before);
        }
        out
    }

    fn check(&self, spec: &Spec) -> Result<(Verdict, BatchHeader, Bytes), Box<dyn Error>> {
        let (bytes, header) = self.batch(spec)?;
        let params = CheckParams {
            now: self.partition.append_time(WallMs(spec.time.unwrap_or(0))),
            record_now: self.partition.append_time(WallMs(spec.time.unwrap_or(0))),
            expected_offset: spec.expect.map(Offset),
            timestamps: Some(TimestampBounds {
                before_max_ms: spec.before.unwrap_or(i64::MAX),
                after_max_ms: TIMESTAMP_AFTER_MAX_MS_DEFAULT,
            }),
        };
        Ok((self.overlay.check(&self.partition, &header, &params), header, bytes))
    }

    fn propose(&mut self, spec: &Spec) -> Result<String, Box<dyn Error>> {
        let (verdict, header, bytes) = self.check(spec)?;
        if !matches!(verdict, Verdict::Append { .. }) {
            return Ok(format!("{verdict:?}\n"));
        }
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let base_offset = self.overlay.push(ticket, &header);
        let epoch = Term(self.term).epoch();
        let command = append(base_offset, epoch, WallMs(spec.time.unwrap_or(0)), &[(bytes, header)]);
        self.proposed.push_back((ticket, command));
        Ok(format!("{ticket:?} proposed at {base_offset}\n"))
    }

    fn state(&self) -> String {
        let p = &self.partition;
        let mut out = format!("log={}..{} retained={}", p.log_start(), p.next_offset(), p.retained_bytes());
        let purge = p.purge_point().map_or("none".to_owned(), |position| position.to_string());
        let _ = writeln!(out, " clock={} max_ts={} purge={purge}", p.append_time(WallMs(0)), p.max_timestamp());
        for c in p.checkpoints() {
            let (bytes, ts) = (c.bytes_before, c.segment_max_timestamp);
            let _ = writeln!(out, "checkpoint {} next={} bytes={bytes} segment_max_ts={ts}", c.position, c.next_offset);
        }
        for epoch in &p.epochs {
            let _ = writeln!(out, "epoch {} from {}", epoch.epoch, epoch.first_offset);
        }
        out
    }

    fn producers(&self) -> String {
        let mut out = format!("evicted={}\n", self.partition.producers_evicted());
        for (id, producer) in self.partition.producers.entries() {
            let _ = write!(out, "{id} epoch={} last={}:", producer.epoch, producer.last_append);
            for b in &producer.batches {
                let _ = write!(out, " {}-{}@{}", b.base_sequence, b.last_sequence, b.base_offset);
            }
            out.push('\n');
        }
        out
    }
}

/// What a script says of a batch.
#[derive(Default)]
struct Spec {
    records: Option<u32>,
    bytes: Option<usize>,
    ts: Option<i64>,
    time: Option<i64>,
    producer: Option<String>,
    expect: Option<i64>,
    before: Option<i64>,
}

fn parse_producer(text: &str) -> Result<Producer, Box<dyn Error>> {
    let parts: Vec<&str> = text.split('/').collect();
    let [id, epoch, base_sequence] = parts[..] else {
        return Err(format!("{text} is not ID/EPOCH/SEQUENCE").into());
    };
    let (id, epoch) = (ProducerId(id.parse()?), ProducerEpoch(epoch.parse()?));
    Ok(Producer { id, epoch, base_sequence: Sequence(base_sequence.parse()?) })
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    #[expect(clippy::too_many_lines, reason = "an arm for each command")]
    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        Ok(match command {
            Command::Limits { checkpoint_bytes, segment_ms, index_bytes, producers } => {
                let default = PartitionLimits::default();
                *self = Runner::new(PartitionLimits {
                    checkpoint_bytes: checkpoint_bytes.unwrap_or(default.checkpoint_bytes),
                    segment_ms: segment_ms.unwrap_or(default.segment_ms),
                    index_bytes: index_bytes.unwrap_or(default.index_bytes),
                    producers_max: producers.unwrap_or(default.producers_max),
                    producer_expiry_ms: default.producer_expiry_ms,
                });
                String::new()
            }
            Command::Append { at, records, bytes, ts, time, producer } => {
                let spec =
                    Spec { records: *records, bytes: *bytes, ts: *ts, producer: producer.clone(), ..Spec::default() };
                let batch = self.batch(&spec)?;
                let base_offset = at.map_or(self.partition.next_offset(), Offset);
                let epoch = Term(self.term).epoch();
                let out = self.apply(&append(base_offset, epoch, WallMs(time.unwrap_or(0)), &[batch]));
                self.overlay.resync(&self.partition);
                out
            }
            Command::Trim { before, time } => self.apply(&encode_trim(WallMs(time.unwrap_or(0)), Offset(*before))),
            Command::Resize { bytes, ms, time } => {
                let segment = SegmentLimits { bytes: *bytes, ms: *ms };
                self.apply(&encode_resize(WallMs(time.unwrap_or(0)), segment))
            }
            Command::Blank { term } => {
                self.index += 1;
                self.term = term.unwrap_or(self.term);
                format!("{} blank\n", super::at(self.term, self.index))
            }
            Command::Check { records, ts, time, producer, expect, before } => {
                let spec = Spec {
                    records: *records,
                    ts: *ts,
                    time: *time,
                    producer: producer.clone(),
                    expect: *expect,
                    before: *before,
                    ..Spec::default()
                };
                format!("{:?}\n", self.check(&spec)?.0)
            }
            Command::Propose { records, time, producer } => {
                self.propose(&Spec { records: *records, time: *time, producer: producer.clone(), ..Spec::default() })?
            }
            Command::Commit => {
                let (ticket, command) = self.proposed.pop_front().ok_or("nothing waits")?;
                let out = self.apply(&command);
                self.overlay.settle(ticket);
                out
            }
            Command::Refuse => {
                let (ticket, _) = self.proposed.pop_front().ok_or("nothing waits")?;
                self.overlay.settle(ticket);
                String::new()
            }
            Command::Resync => {
                self.overlay.resync(&self.partition);
                format!("next={}\n", self.overlay.next_offset())
            }
            Command::EpochEnd(epoch) => {
                format!(
                    "{:?}\n",
                    self.partition.end_offset_for_epoch(LeaderEpoch(*epoch), self.partition.next_offset())
                )
            }
            Command::Retention { now, ms, bytes } => {
                format!("{:?}\n", self.partition.retention_offset(WallMs(now.unwrap_or(0)), *ms, *bytes))
            }
            Command::Reload => {
                let encoded = self.partition.encode();
                self.partition = Partition::decode(&encoded)?;
                assert_eq!(self.partition.encode(), encoded);
                String::new()
            }
            Command::State => self.state(),
            Command::Producers => self.producers(),
        })
    }
}

fn run(script: &str) {
    let path = format!("src/partition/scripts/{script}");
    goldenscript::run(&mut Runner::new(PartitionLimits::default()), path).expect("script passes");
}

#[test]
fn appends_and_dead_entries() {
    run("appends_and_dead_entries");
}

#[test]
fn trims_and_checkpoints() {
    run("trims_and_checkpoints");
}

#[test]
fn retention() {
    run("retention");
}

#[test]
fn idempotence() {
    run("idempotence");
}

#[test]
fn pipeline() {
    run("pipeline");
}

#[test]
fn producer_expiry_and_eviction() {
    run("producer_expiry_and_eviction");
}

#[test]
fn epochs() {
    run("epochs");
}
