//! One broker leads all partitions and the metadata, and its disk stalls under load (SAFETY M14, M16). Others lead
//! soon, and nothing is dead afterwards.
//!
//! `FLOTILLA_TEST_STALL_PARTITIONS` and `FLOTILLA_TEST_STALL_SECONDS`: how many, and how long; 64 and 60 in
//! scripts/nightly.
//!
//! What would end the process after 15 s watches real threads and is no part of a simulated node: here the disk comes
//! back to the same process, with all that it had queued.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::Duration,
};

use flotilla::{
    broker::{Caller, TransferLeaderRequest},
    record::Producer,
    seam::{Clock, Rng},
    storage::SimFault,
    types::{BrokerId, PartitionId, ProducerEpoch, ProducerId, Sequence},
};
use tokio::time::{Instant, sleep};

use crate::{
    checker::check,
    load::{Known, Load, Phase, TOPIC, one_record, until},
    node::{self, NODES, Node},
    seed::{Options, TICK_MS, committed_logs, simulation},
    world::{SimTime, Trace},
};

const PARTITIONS: u64 = 8;
/// Longer than 1,024 ticks of openraft, which once filled its queue.
const STALL_SECONDS: u64 = 45;
/// Under load before and after.
const AROUND: Duration = Duration::from_secs(5);
/// From the stall on: an acknowledgement by another leader in each partition, and no gap that is longer.
const OTHERS_LEAD_WITHIN: Duration = Duration::from_secs(5);
/// Between two appends to a partition.
const PACE: Duration = Duration::from_millis(250);
const STALLED: u64 = 1;

/// What a run came to.
pub struct Outcome {
    pub faults: Vec<String>,
    partitions: usize,
    led_by_others: Duration,
    longest_gap: Duration,
    acked: usize,
    simulated_ms: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { partitions, led_by_others, longest_gap, acked, simulated_ms, .. } = self;
        write!(f, "others had acknowledged in all {partitions} partitions {led_by_others:?} after the stall began, ")?;
        write!(f, "longest gap {longest_gap:?}; {acked} acknowledged in {simulated_ms} ms")
    }
}

fn knob(name: &str, default: u64) -> u64 {
    let name = format!("FLOTILLA_TEST_{name}");
    let value = std::env::var(&name).ok();
    let number = |value: String| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number"));
    value.map_or(default, number)
}

/// Who acknowledged when, by partition.
type Acks = BTreeMap<i32, Vec<(Instant, u64)>>;

struct Run {
    load: Load,
    stall: Duration,
    acks: RefCell<Acks>,
    stalled_at: Cell<Option<Instant>>,
    is_over: Cell<bool>,
}

/// Runs one seed, in a process of its own like every other.
pub fn run(options: &Options) -> Outcome {
    let time = SimTime::default();
    let trace = Trace::new(time.clone(), options.prints);
    trace.subscribe();
    let rng = Rc::new(Rng::seeded(options.seed));
    let nodes: Vec<Rc<Node>> = (1..=NODES).map(|id| Rc::new(Node::new(id, NODES, &rng, &time, &trace))).collect();
    let known = Rc::new(RefCell::new(Known::default()));
    let mut sim = simulation(&rng, &nodes);
    let partitions = i32::try_from(knob("STALL_PARTITIONS", PARTITIONS)).expect("not as many as that");
    let stall = Duration::from_secs(knob("STALL_SECONDS", STALL_SECONDS));
    let load = Load { nodes: nodes.clone(), known: Rc::clone(&known), rng, partitions };
    let (acks, stalled_at, is_over) = Default::default();
    let run = Rc::new(Run { load, stall, acks, stalled_at, is_over });
    sim.client("load", Rc::clone(&run).stall());
    loop {
        time.advance(TICK_MS);
        node::no_store_fails(&nodes);
        match sim.step() {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => panic!("at {} ms: {error}", time.now_ms()),
        }
    }
    drop(sim);
    let mut known = known.borrow_mut();
    known.history.logs = committed_logs(&nodes, &known.groups);
    let ids: Vec<u64> = (1..=NODES).collect();
    let anomalies = check(&known.history, &ids).into_iter().map(|anomaly| anomaly.to_string());
    run.judge(anomalies.collect(), &trace, time.now_ms())
}

impl Run {
    async fn stall(self: Rc<Self>) -> turmoil::Result {
        let load = &self.load;
        load.all_ready().await;
        load.create_topic().await;
        self.lead_all().await;
        load.enter(Phase::Appending);
        let appending = |partition| tokio::task::spawn_local(Rc::clone(&self).append_all(partition));
        let workers: Vec<_> = (0..load.partitions).map(appending).collect();
        sleep(AROUND).await; // Under load, before the fault.
        let disk = &load.node(STALLED).disk;
        disk.plant(SimFault::StallsCommits);
        self.stalled_at.set(Some(Instant::now()));
        load.note(format_args!("the disk of {STALLED} stalls"));
        sleep(self.stall).await; // The fault itself.
        disk.heal();
        load.note(format_args!("the disk of {STALLED} is back"));
        // All its replicas can lead, so they have all that was acknowledged; and it is under load again.
        self.lead_all().await;
        sleep(AROUND).await; // Under load, after the fault.
        self.is_over.set(true);
        for worker in workers {
            worker.await?;
        }
        load.settle().await;
        Ok(())
    }

    /// Everything is led by the broker whose disk stalls next, or has stalled.
    async fn lead_all(&self) {
        let partitions = (0..self.load.partitions).map(|partition| Some((TOPIC.to_string(), PartitionId(partition))));
        for partition in partitions.chain([None]) {
            let moved = || async {
                let to = Some(BrokerId(STALLED));
                let request = TransferLeaderRequest { partition: partition.clone(), to, timeout: Duration::ZERO };
                let moved = self
                    .load
                    .node(STALLED)
                    .face
                    .ask(|broker| async move { broker.transfer_leader(&Caller::ANONYMOUS, request).await });
                moved.await.is_some_and(|moved| moved.is_ok_and(|leader| Some(leader.broker) == to))
            };
            until("a leadership moves", moved).await;
        }
    }

    /// One idempotent producer: one append at a time, tried again until it is acknowledged.
    async fn append_all(self: Rc<Self>, partition: i32) {
        let load = &self.load;
        let mut producer = Producer {
            id: ProducerId(i64::from(partition) + 1_000),
            epoch: ProducerEpoch(0),
            base_sequence: Sequence(0),
        };
        let mut at = STALLED;
        for value in 0.. {
            if self.is_over.get() {
                break;
            }
            load.known.borrow_mut().history.sent.insert((partition, value));
            let batch = one_record(producer, value, load.node(STALLED).time.wall());
            assert!(load.append(partition, value, batch, &mut at).await, "{partition}: {value} is refused");
            producer.base_sequence = producer.base_sequence.next();
            self.acks.borrow_mut().entry(partition).or_default().push((Instant::now(), at));
            sleep(PACE).await; // A user's pace.
        }
    }

    fn judge(&self, mut faults: Vec<String>, trace: &Trace, simulated_ms: u64) -> Outcome {
        let began = self.stalled_at.get().expect("it came to the stall");
        let acks = self.acks.borrow();
        let by_others = |acks: &Vec<(Instant, u64)>| {
            let mut later = acks.iter().filter(|(at, by)| *at > began && *by != STALLED);
            later.next().map_or(Duration::MAX, |(at, _)| *at - began)
        };
        let gap = |acks: &Vec<(Instant, u64)>| acks.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
        let led_by_others = acks.values().map(by_others).max().unwrap_or(Duration::MAX);
        let longest_gap = acks.values().filter_map(gap).max().unwrap_or_default();
        if acks.len() != self.load.partitions as usize
            || led_by_others > OTHERS_LEAD_WITHIN
            || longest_gap > OTHERS_LEAD_WITHIN
        {
            faults.push(format!("{} partitions acknowledged, not in time", acks.len()));
        }
        // The stall itself is one, and nothing else is.
        let (stalls, errors): (Vec<String>, Vec<String>) =
            trace.errors().into_iter().partition(|error| error.contains("the disk has been busy"));
        if stalls.is_empty() {
            faults.push("the broker did not notice that its disk stalls".into());
        }
        faults.extend(errors.into_iter().map(|error| format!("a node logged an error: {error}")));
        let acked = acks.values().map(Vec::len).sum();
        Outcome { faults, partitions: acks.len(), led_by_others, longest_gap, acked, simulated_ms }
    }
}
