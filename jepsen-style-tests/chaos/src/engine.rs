//! A whole run: cluster, load, faults, healing, final reads, dump, check.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flotilla::client::{Admin, Gaps};
use logcheck::{
    meta::{Expects, Harness, Meta, Promises},
    nemesis::Line,
    recorder::Recorder,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    cluster::{Cluster, Settings},
    error::ChaosError,
    fault::Fault,
    finale::Finale,
    leaders::Watch,
    names::Names,
    nemesis::{Nemesis, Stretch},
    options::Options,
    probe::{self, Machine},
    progress,
    progressed::{self, Progress},
    report, retention_history,
    run::{Run, Span, Throughput, Unavailable},
    running::{self, Compared},
    schedule::{self, Schedule, Wanted},
    tally::Tally,
    verdict::{self, Outcome},
    workload::{self, Context, Stage, Workload},
};

/// For what takes seconds on an idle machine.
const HEALTHY_MAX: Duration = Duration::from_secs(120);
/// Until load is even: leaders are known, connections made.
const WARM_UP: Duration = Duration::from_secs(3);
/// Longer than any client may take to come to its end.
const CLIENTS_END_MAX: Duration = Duration::from_secs(90);
const CREATE_MAX: Duration = Duration::from_secs(60);

/// What a run is made of, decided before anything is started.
pub struct Plan {
    pub options: Options,
    pub schedule: Schedule,
    pub workloads: Vec<Workload>,
    pub unavailable: Vec<Unavailable>,
    /// None: the brokers run already.
    binary: Option<PathBuf>,
    machine: Machine,
    dir: PathBuf,
    span: Duration,
}

impl Plan {
    /// Decides what is done, and touches nothing.
    pub fn of(options: Options) -> Result<Plan, ChaosError> {
        options.validate()?;
        let machine = Machine::look(&options);
        let binary = (!machine.is_running).then(|| probe::binary(options.flotilla.as_deref())).transpose()?;
        let is_all = options.workload.iter().any(|name| name == "all");
        let wanted = Workload::ALL.iter().filter(|_| is_all);
        let lacking = wanted.filter_map(|workload| Some((workload.to_string(), options.lacks(*workload)?)));
        let mut unavailable: Vec<Unavailable> = lacking.map(|(fault, why)| Unavailable { fault, why }).collect();
        let mut kinds = options.kinds()?;
        kinds.retain(|fault| {
            let lacks = machine.lacks(*fault);
            unavailable.extend(lacks.iter().map(|why| Unavailable { fault: fault.to_string(), why: why.clone() }));
            lacks.is_none()
        });
        let span = Duration::from_secs(options.span_seconds()?);
        let schedule = schedule::draw(&Wanted { seed: options.seed, span_ms: span.as_millis() as u64, kinds });
        let no_room = |fault: &Fault| Unavailable {
            fault: fault.to_string(),
            why: "there is no time for it in so short a run".into(),
        };
        unavailable.extend(schedule.left_out.iter().map(no_room));
        let dir = dir(&options);
        if dir.join("hist").exists() || dir.join("nodes").exists() {
            return Err(ChaosError::DirTaken(dir));
        }
        let workloads = options.workloads()?;
        Ok(Plan { options, schedule, workloads, unavailable, binary, machine, dir, span })
    }

    /// How often each fault is to be installed, and to hit a leader.
    fn expects(&self) -> Expects {
        let steps = self.schedule.slots.iter().flat_map(|slot| &slot.steps);
        let faults: BTreeMap<String, u64> = steps.map(|step| (step.fault.to_string(), 1)).collect();
        Expects {
            leaders_hit: faults.clone(),
            fault_free: faults.is_empty(),
            faults,
            // Those of others are compared by what they have applied.
            replicas: !self.machine.is_running,
            ..Expects::default()
        }
    }
}

/// Where a run's files go: a new directory, if none was named.
pub fn dir(options: &Options) -> PathBuf {
    let new = || PathBuf::from(format!("chaos-{}-{}", options.seed, now_ms() / 1_000));
    options.dir.clone().unwrap_or_else(new)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// What is left of a run when it is over.
pub struct Done {
    pub exit_code: u8,
    pub table: String,
    pub dir: PathBuf,
}

/// Runs it. Dropped, it ends its processes and takes its mounts away.
pub async fn run(plan: Plan) -> Result<Done, ChaosError> {
    fs::create_dir_all(&plan.dir).map_err(ChaosError::file("cannot make", &plan.dir))?;
    let began_ms = now_ms();
    let number = began_ms as u32;
    let recorder =
        Recorder::create(&plan.dir, number).map_err(ChaosError::file("cannot write the history below", &plan.dir))?;
    let brokers = match &plan.binary {
        Some(binary) => format!("{} nodes of {}", plan.options.nodes, binary.display()),
        None => format!("the cluster at {}", plan.options.brokers.join(", ")),
    };
    eprintln!("{brokers}, seed {}, files in {}", plan.options.seed, plan.dir.display());
    for (names, why) in Unavailable::by_reason(&plan.unavailable) {
        eprintln!("not available: {names}: {why}");
    }
    let (cluster, names) = open(&plan, number).await?;
    cluster.wait_healthy(HEALTHY_MAX).await?;
    create(&cluster, &names, &plan).await?;

    let live = Live::new(&plan, cluster, recorder, (number, names))?;
    let (stretches, main) = live.load(&plan).await?;
    eprintln!("healing, reading everything, comparing the replicas' logs");
    let compared = live.finale(&plan).await?;
    live.conclude(&plan, stretches, (main, compared), began_ms).await
}

/// The cluster that is worked on, and what things are called on it.
async fn open(plan: &Plan, number: u32) -> Result<(Arc<Cluster>, Names), ChaosError> {
    let (options, dir) = (&plan.options, plan.dir.join("nodes"));
    let Some(binary) = plan.binary.clone() else {
        let kafka = options.kafka_brokers.as_deref().unwrap_or_default();
        let cluster = Cluster::running(&options.brokers, kafka, dir).await?;
        let names = Names::on_running_cluster(options.seed, number);
        eprintln!(
            "topics and groups of this run begin with {}: delete them if it does not come to its end",
            names.topic
        );
        return Ok((Arc::new(cluster), names));
    };
    let settings = Settings { nodes: options.nodes, binary, dir, has_disks: plan.machine.no_disks.is_none() };
    Ok((Arc::new(Cluster::start(settings).await?), Names::on_own_cluster()))
}

async fn create(cluster: &Cluster, names: &Names, plan: &Plan) -> Result<(), ChaosError> {
    let (partitions, replicas) = (plan.options.partitions as i32, cluster.replicas());
    let admin = Admin::new(cluster.client()?, CREATE_MAX);
    // The log is the ground truth: nothing of it may go.
    let create = admin.create_topic(&*names.topic).partitions(partitions).replicas(replicas).wait(true);
    create.send().await.map_err(ChaosError::client("creating the main topic"))?;
    match plan.workloads.contains(&Workload::Retention) {
        true => workload::retention::create(&admin, &names.short, replicas).await,
        false => Ok(()),
    }
}

/// A run that goes on.
struct Live {
    cluster: Arc<Cluster>,
    recorder: Recorder,
    /// Of the topic that keeps next to nothing.
    short: Option<Recorder>,
    number: u32,
    names: Arc<Names>,
    tally: Arc<Tally>,
    progress: Arc<Progress>,
    nemesis: Nemesis,
}

impl Live {
    fn new(
        plan: &Plan,
        cluster: Arc<Cluster>,
        recorder: Recorder,
        (number, names): (u32, Names),
    ) -> Result<Live, ChaosError> {
        let has_short = plan.workloads.contains(&Workload::Retention);
        let short = has_short.then(|| retention_history::create(&recorder, &plan.dir)).transpose()?;
        let nemesis = Nemesis {
            cluster: cluster.clone(),
            topic: names.topic.clone(),
            recorder: recorder.clone(),
            leaders: Watch::default(),
            current: Arc::new(Mutex::new(vec![])),
            history: plan.dir.clone(),
        };
        let tally = Arc::new(Tally::new(plan.options.partitions));
        let (names, progress) = (Arc::new(names), Arc::default());
        Ok(Live { cluster, recorder, short, number, names, tally, progress, nemesis })
    }

    /// Clients and faults, until the time is over and all clients have come to their end.
    async fn load(&self, plan: &Plan) -> Result<(Vec<Stretch>, Span), ChaosError> {
        let (stage, watched) = watch::channel(Stage::Warm);
        let context = Context {
            cluster: self.cluster.clone(),
            recorder: self.recorder.clone(),
            run: self.number,
            names: self.names.clone(),
            topic: self.names.topic.clone(),
            tally: self.tally.clone(),
            progress: self.progress.clone(),
            workload: Workload::Records,
            partitions: plan.options.partitions,
            rate: plan.options.rate,
            stage: watched,
            history: plan.dir.clone(),
            short: self.short.clone(),
        };
        let mut clients = JoinSet::new();
        workload::start(&context, &plan.workloads, &mut clients);
        self.nemesis.leaders.groups(workload::groups(&plan.workloads, &self.names));
        let mut helpers = JoinSet::new();
        helpers.spawn(self.nemesis.leaders.clone().run(self.cluster.clone(), self.names.topic.to_string()));
        helpers.spawn(progress::show(self.tally.clone(), self.nemesis.current.clone(), plan.span));

        sleep(WARM_UP).await;
        let from = self.recorder.now();
        // Clients ask for it.
        let _ = stage.send(Stage::Main);
        let stretches = tokio::select! {
            stretches = self.nemesis.run(&plan.schedule, plan.span) => stretches?,
            ended = self.nemesis.watch_processes() => return Err(ended.err().unwrap_or_else(|| ChaosError::Broken("the watch over processes".into()))),
            Some(ended) = clients.join_next() => return Err(early(ended)),
        };
        let main = Span { from, to: self.recorder.now() };
        let _ = stage.send(Stage::Ending);
        drop(helpers);
        progress::end_line();
        let end = Instant::now() + CLIENTS_END_MAX;
        let finish = async {
            while let Some(ended) = clients.join_next().await {
                ended.map_err(|error| ChaosError::Broken(error.to_string()))??;
            }
            Ok(())
        };
        let finished = tokio::select! {
            finished = timeout_at(end, finish) => finished,
            ended = self.nemesis.watch_processes() => return Err(ended.err().unwrap_or_else(|| ChaosError::Broken("the watch over processes".into()))),
        };
        finished.unwrap_or_else(|_| Err(ChaosError::Broken("clients that did not come to their end".into())))?;
        Ok((stretches, main))
    }

    /// Everything is healed, started, read and stopped, and the logs are dumped.
    async fn finale(&self, plan: &Plan) -> Result<Compared, ChaosError> {
        let finale = Finale {
            cluster: self.cluster.clone(),
            recorder: self.recorder.clone(),
            run: self.number,
            topic: self.names.topic.clone(),
            gaps: Gaps::Fail,
            history: plan.dir.clone(),
        };
        let short = self.short.as_ref().map(|recorder| retention_history::finale(&finale, recorder, &self.names));
        let reading = async {
            // With a node out for good it never would be; why it is out is written down, and the others must have everything.
            if !self.cluster.has_given_up() {
                self.cluster.wait_healthy(HEALTHY_MAX).await?;
            }
            let seen = finale.read_all(plan.options.partitions).await?;
            let of_short = match &short {
                Some(short) => short.read_all(workload::retention::PARTITIONS).await?,
                None => vec![],
            };
            Ok((seen, of_short))
        };
        let (seen, of_short) = tokio::select! {
            seen = reading => self.or_noted(seen)?.unwrap_or_default(),
            ended = self.nemesis.watch_processes() => return Err(ended.err().unwrap_or_else(|| ChaosError::Broken("the watch over processes".into()))),
        };
        if !self.cluster.is_own() {
            let topics: Vec<&str> =
                [&*self.names.topic].into_iter().chain(self.short.as_ref().map(|_| &*self.names.short)).collect();
            let compared = running::compare(&self.cluster, &topics).await;
            return Ok(self.or_noted(compared)?.unwrap_or_default());
        }
        self.stop_all().await?;
        self.note_panics()?;
        let dumping = async {
            finale.dump_all(seen).await?;
            match &short {
                Some(short) => short.dump_all(of_short).await,
                None => Ok(()),
            }
        };
        self.or_noted(dumping.await)?;
        Ok(Compared::default())
    }

    async fn stop_all(&self) -> Result<(), ChaosError> {
        let mut stops = JoinSet::new();
        for node in self.cluster.nodes().iter().cloned() {
            stops.spawn_blocking(move || (node.stop(), node));
        }
        while let Some(stopped) = stops.join_next().await {
            let (in_time, node) = stopped.map_err(|error| ChaosError::Broken(error.to_string()))?;
            if !in_time {
                let what = "did not stop in time after SIGTERM".to_string();
                self.nemesis.note(&Line::NodeFailure {
                    at: self.recorder.now(),
                    node: node.name(),
                    what,
                    expected: false,
                })?;
            }
        }
        Ok(())
    }

    /// A cluster that does not come back once everything is healed, or does not tell what it has, is no fault of the harness:
    /// it is written down as what the run found.
    fn or_noted<T>(&self, ended: Result<T, ChaosError>) -> Result<Option<T>, ChaosError> {
        match ended {
            Ok(ended) => Ok(Some(ended)),
            Err(error) if error.is_of_the_cluster() => {
                let (at, node, what) = (self.recorder.now(), "cluster".to_string(), error.to_string());
                self.nemesis.note(&Line::NodeFailure { at, node, what, expected: false })?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A panic is never explained by a fault.
    fn note_panics(&self) -> Result<(), ChaosError> {
        for node in self.cluster.nodes() {
            let bytes = fs::read(node.log()).map_err(ChaosError::file("cannot read", node.log()))?;
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines().filter(|line| line.contains("panicked at")) {
                let (at, node, what) = (self.recorder.now(), node.name(), format!("panicked: {line}"));
                self.nemesis.note(&Line::NodeFailure { at, node, what, expected: false })?;
            }
        }
        Ok(())
    }

    async fn conclude(
        self,
        plan: &Plan,
        stretches: Vec<Stretch>,
        (main, compared): (Span, Compared),
        began_ms: i64,
    ) -> Result<Done, ChaosError> {
        let calm = verdict::calm(main, &stretches);
        let throughput = Throughput::of(&self.tally, &calm, &stretches);
        let run = Run {
            seed: plan.options.seed,
            command: plan.options.command(),
            version: env!("CARGO_PKG_VERSION").into(),
            began_ms,
            main,
            nodes: self.cluster.ids().iter().map(|id| format!("n{id}")).collect(),
            workloads: plan.workloads.iter().map(|workload| workload.to_string()).collect(),
            unavailable: plan.unavailable.clone(),
            recoveries: verdict::recoveries(&self.tally, &stretches),
            calm: calm.clone(),
            one_hit: stretches
                .iter()
                .filter(|stretch| stretch.spares_majority())
                .map(|stretch| Span { from: stretch.from, to: stretch.to })
                .collect(),
            throughput,
            // What else is done to a cluster that is not ours nobody tells.
            silences_ms: match self.cluster.is_own() {
                true => self.progress.silences(&plan.workloads, &stretches),
                false => BTreeMap::new(),
            },
            never: self.progress.never(&plan.workloads),
            compared,
        };
        run.write(&plan.dir).map_err(ChaosError::file("cannot write run.json in", &plan.dir))?;
        let meta = self.meta(plan);
        self.recorder.finish(&meta).map_err(ChaosError::file("cannot write meta.json in", &plan.dir))?;
        eprintln!("checking");
        let mut report = verdict::with_throughput(logcheck::check(&plan.dir)?, throughput);
        report = progressed::with_progress(report, &run.silences_ms, &run.never);
        if !self.cluster.is_own() {
            report = running::with_compared(report, &run.compared);
        }
        let short = self
            .short
            .as_ref()
            .map(|recorder| retention_history::conclude(recorder, &meta, &run, &self.names, &plan.dir))
            .transpose()?;
        if let Some(short) = &short {
            report = retention_history::with_short(report, short);
        }
        // A run without a page is still a run.
        let page = report::write(&plan.dir, &report);
        let page = page.map_or_else(|error| format!("none: {error}"), |path| path.display().to_string());
        let short = short.map(|short| ("the history of w8".to_string(), short));
        let reports: Vec<_> = [("the history".to_string(), report)].into_iter().chain(short).collect();
        let nemesis = logcheck::nemesis::Nemesis::read(&logcheck::files::nemesis_path(&plan.dir))?;
        let trims = self.short.as_ref().map(|_| retention_history::trims(&plan.dir)).transpose()?;
        let (tally, dir, snapshots) = (self.tally.as_ref(), plan.dir.as_path(), self.cluster.snapshots());
        let outcome = Outcome { run: &run, reports: &reports, nemesis: &nemesis, page, tally, dir, trims, snapshots };
        let done = Done { exit_code: outcome.exit_code(), table: outcome.table(), dir: plan.dir.clone() };
        let is_kept = plan.options.keep || done.exit_code != 0;
        if !self.cluster.is_own() && !is_kept {
            self.take_away().await;
        }
        tidy(self, &plan.dir, is_kept);
        Ok(done)
    }

    /// Who cannot be freed of the run's topics is told, and it changes nothing of what was found.
    async fn take_away(&self) {
        match running::take_away(&self.cluster, &self.names).await {
            Ok(left) => left.iter().for_each(|left| eprintln!("not deleted: {left}")),
            Err(error) => {
                eprintln!("the run's topics and groups, which begin with {}, stay: {error}", self.names.topic)
            }
        }
    }

    fn meta(&self, plan: &Plan) -> Meta {
        let keys = (0..plan.options.partitions).map(|partition| format!("{}-{partition}", self.names.topic)).collect();
        Meta {
            format: 1,
            run: self.number,
            keys,
            finished: true,
            seed: plan.options.seed,
            command: plan.options.command(),
            promises: Promises { idempotent: true, client_retries: true, ..Promises::default() },
            expects: plan.expects(),
            harness: Harness::default(),
            modelled_errors: workload::modelled_errors(),
            ..Meta::default()
        }
    }
}

fn early(ended: Result<Result<(), ChaosError>, tokio::task::JoinError>) -> ChaosError {
    match ended {
        Ok(Ok(())) => ChaosError::Broken("a client".into()),
        Ok(Err(error)) => error,
        Err(error) => ChaosError::Broken(error.to_string()),
    }
}

/// Logs and configurations stay; data stays if it is to be looked at.
fn tidy(live: Live, dir: &Path, is_kept: bool) {
    if is_kept {
        for node in live.cluster.nodes() {
            // Disks of our own are in memory: what is on them is copied beside.
            let kept = node.data_dir().with_extension("kept");
            let _ = std::process::Command::new("cp").arg("-a").arg(node.data_dir()).arg(kept).status();
        }
    }
    let data: Vec<PathBuf> = live.cluster.nodes().iter().map(|node| node.data_dir()).collect();
    drop(live);
    if !is_kept {
        for data in data {
            let _ = fs::remove_dir_all(data);
        }
        let _ = fs::remove_dir(dir.join("nodes"));
    }
}
