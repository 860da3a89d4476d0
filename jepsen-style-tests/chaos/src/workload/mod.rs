//! What clients do to the cluster while it suffers: each workload records what it asked and what it was told.

mod errors;
pub mod group;
pub mod kafka;
pub mod offsets;
pub mod produce;
pub mod read;
pub mod retention;
pub mod topics;

use std::{fmt, io, path::PathBuf, str::FromStr, sync::Arc};

use flotilla::client::Cluster as Client;
use logcheck::{
    event::Phase,
    recorder::{Recorder, Worker},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{cluster::Cluster, error::ChaosError, names::Names, progressed::Progress, tally::Tally};

macro_rules! workloads {
    ($($workload:ident $name:literal $says:literal;)+) => {
        /// What clients do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Workload { $($workload),+ }

        impl Workload {
            pub const ALL: &[Workload] = &[$(Workload::$workload),+];

            pub fn name(self) -> &'static str {
                match self { $(Workload::$workload => $name),+ }
            }

            /// What it does, in one line.
            pub fn says(self) -> &'static str {
                match self { $(Workload::$workload => $says),+ }
            }
        }
    };
}

workloads! {
    Records "w1" "idempotent producers with acks=all, by key and by partition, and readers of each partition; always on";
    Group "w2" "a group whose members come, read, commit, and leave or are killed";
    Offsets "w4" "the first and last offsets of partitions, asked for over and over";
    Topics "w5" "topics that are created, deleted and described by two at once";
    KafkaRecords "k1" "what w1 does, by librdkafka through the brokers' Kafka listeners: a producer, and a reader of all partitions";
    KafkaGroup "k2" "a group of librdkafka's consumers, whose members come, read, commit and leave";
    Retention "w8" "a topic that keeps next to nothing: its log start moves all the time; its history is in retention/";
}

impl Workload {
    pub fn needs_kafka(self) -> bool {
        matches!(self, Workload::KafkaRecords | Workload::KafkaGroup)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let found = Workload::ALL.iter().copied().find(|workload| workload.name() == text);
        found.ok_or_else(|| format!("{text:?} is no workload; --list shows them"))
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Warm,
    Main,
    /// Nothing new is begun, what is under way comes to its end.
    Ending,
}

/// What all clients of a run share.
#[derive(Clone)]
pub struct Context {
    pub cluster: Arc<Cluster>,
    pub recorder: Recorder,
    pub run: u32,
    pub names: Arc<Names>,
    /// What is sent to and read.
    pub topic: Arc<str>,
    pub tally: Arc<Tally>,
    pub progress: Arc<Progress>,
    /// What the client is one of.
    pub workload: Workload,
    pub partitions: u32,
    /// Records in a second, of all producers together.
    pub rate: u32,
    pub stage: watch::Receiver<Stage>,
    pub history: PathBuf,
    /// The history of the topic that keeps next to nothing, if there is one.
    pub short: Option<Recorder>,
}

impl Context {
    /// A worker that records, and knows which phase it is.
    pub fn worker(&self, name: &str) -> Result<Scribe, ChaosError> {
        let worker =
            self.recorder.worker(name).map_err(ChaosError::file("cannot write the history below", &self.history))?;
        let (recorder, progress) = (self.recorder.clone(), self.progress.clone());
        let (stage, history) = (self.stage.clone(), self.history.clone());
        Ok(Scribe { worker, stage, history, recorder, progress, workload: self.workload })
    }

    pub fn client(&self) -> Result<Client, ChaosError> {
        self.cluster.client()
    }

    /// Resolves when nothing new is to be begun.
    pub async fn ending(&self) {
        let mut stage = self.stage.clone();
        // A stage that is gone is over.
        let _ = stage.wait_for(|stage| *stage == Stage::Ending).await;
    }
}

/// A worker's file, in the phase that the run is in.
pub struct Scribe {
    worker: Worker,
    stage: watch::Receiver<Stage>,
    history: PathBuf,
    recorder: Recorder,
    progress: Arc<Progress>,
    workload: Workload,
}

impl Scribe {
    pub fn begin(&mut self, process: u32, body: logcheck::event::Body) -> Result<u64, ChaosError> {
        let phase = if *self.stage.borrow() == Stage::Warm { Phase::Warm } else { Phase::Main };
        self.worker.enter(phase);
        self.worker.begin(process, body).map_err(self.failed())
    }

    pub fn complete(&mut self, process: u32, op: u64, body: logcheck::event::Body) -> Result<(), ChaosError> {
        self.progress.ended(self.workload, &body, self.recorder.now());
        self.worker.complete(process, op, body).map_err(self.failed())
    }

    pub fn note(&mut self, process: u32, body: logcheck::event::Body) -> Result<(), ChaosError> {
        self.begin(process, body).map(drop)
    }

    pub fn finish(self) -> Result<(), ChaosError> {
        let failed = self.failed();
        self.worker.finish().map_err(failed)
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> ChaosError + use<> {
        let path = self.history.clone();
        move |error| ChaosError::File { what: "cannot write the history below", path, error }
    }
}

/// Starts the clients of these workloads.
pub fn start(context: &Context, workloads: &[Workload], tasks: &mut JoinSet<Result<(), ChaosError>>) {
    for workload in workloads {
        let context = &Context { workload: *workload, ..context.clone() };
        match workload {
            Workload::Records => {
                for number in 0..produce::PRODUCERS {
                    tasks.spawn(produce::run(context.clone(), number));
                }
                for partition in 0..context.partitions {
                    tasks.spawn(read::run(context.clone(), partition));
                }
            }
            Workload::Group => {
                let numbers = Arc::new(group::Numbers::default());
                for place in 0..group::MEMBERS {
                    tasks.spawn(group::run(context.clone(), place, numbers.clone()));
                }
                tasks.spawn(group::ask(context.clone(), context.names.group.clone(), group::NUMBER));
            }
            Workload::KafkaRecords => {
                tasks.spawn(kafka::produce::run(context.clone()));
                tasks.spawn(kafka::read::run(context.clone()));
            }
            Workload::KafkaGroup => {
                let numbers = Arc::new(group::Numbers::default());
                for place in 0..kafka::group::MEMBERS {
                    tasks.spawn(kafka::group::run(context.clone(), place, numbers.clone()));
                }
                // By the other protocol: what one commits, the other tells.
                tasks.spawn(group::ask(context.clone(), context.names.kafka_group.clone(), kafka::group::NUMBER));
            }
            Workload::Offsets => {
                for number in 0..offsets::ASKERS {
                    tasks.spawn(offsets::run(context.clone(), number));
                }
            }
            Workload::Topics => {
                let began = Instant::now();
                for number in 0..topics::OPERATORS {
                    tasks.spawn(topics::run(context.clone(), number, began));
                }
            }
            Workload::Retention => {
                if let Some(recorder) = &context.short {
                    retention::start(&retention::context(context, recorder), tasks);
                }
            }
        }
    }
}

/// The groups that these workloads have.
pub fn groups(workloads: &[Workload], names: &Names) -> Vec<String> {
    let all = [(Workload::Group, &names.group), (Workload::KafkaGroup, &names.kafka_group)];
    all.iter().filter(|(workload, _)| workloads.contains(workload)).map(|(_, group)| group.to_string()).collect()
}

/// Processes of histories, apart for each kind of client.
pub mod process {
    pub const PRODUCERS: u32 = 100;
    pub const READERS: u32 = 1_000;
    pub const OFFSETS: u32 = 2_000;
    pub const OPERATORS: u32 = 3_000;
    pub const COMMITS: u32 = 4_000;
    pub const TRIMMER: u32 = 5_000;
    pub const KAFKA_PRODUCER: u32 = 6_000;
    pub const KAFKA_READER: u32 = 6_001;
    pub const KAFKA_MEMBERS: u32 = 200_000;
    pub const MEMBERS: u32 = 100_000;
    pub const FINAL: u32 = 9_000;
    pub const DUMPS: u32 = 9_500;
}

/// Errors that a run may see beside those that the checker takes for granted.
pub fn modelled_errors() -> Vec<i16> {
    vec![errors::REFUSED, errors::DISK_FULL, errors::KAFKA_CLIENT]
}
