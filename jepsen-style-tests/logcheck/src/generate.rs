//! Makes up histories of a log that keeps its promises: clients at work at once, sends of unknown outcome, elections, a
//! group that rebalances and commits. For measuring the checker, and for tests of it: whatever the seed, the history is
//! valid.
//!
//! Every operation takes effect at a moment between its two events; which client goes next is drawn from the seed.

mod group;
mod log;
mod operator;
mod producer;
mod reader;

use std::{io, path::Path};

use fastrand::Rng;

use crate::{
    event::{Body, Event, Phase},
    meta::{Expects, Meta, Promises},
    nemesis::{Done, Fault, Line},
    recorder::Recorder,
};

use self::{group::Group, log::Log, operator::Operator, producer::Producer, reader::Reader};

/// What to make up.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub sends: u64,
    /// How many readers read everything, beside the group.
    pub reads: u32,
    pub keys: u32,
    pub producers: u32,
    /// Members of a group that reads everything once more; none: no group.
    pub members: u32,
    /// Of so many sends one has an unknown outcome; 0: none.
    pub unknown_in: u64,
    /// Of so many sends one fails without effect; 0: none.
    pub failed_in: u64,
    /// Of so many turns of the group one is a rebalance; 0: none but the first.
    pub rebalance_in: u64,
    /// Records that a poll returns at most.
    pub poll_records: u64,
    /// Whether replicas' logs are dumped.
    pub replicas: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            seed: 1,
            sends: 10_000,
            reads: 3,
            keys: 6,
            producers: 4,
            members: 3,
            unknown_in: 200,
            failed_in: 400,
            rebalance_in: 500,
            poll_records: 500,
            replicas: true,
        }
    }
}

/// A worker's number and name in the order of [`Plan::workers`], and what it recorded.
pub type Sink<'a> = dyn FnMut(usize, Event) -> io::Result<()> + 'a;

impl Plan {
    /// The names of the workers that record.
    pub fn workers(&self) -> Vec<String> {
        let numbered = |name: &'static str, count: u32| (0..count).map(move |n| format!("{name}-{n}"));
        let all = numbered("producer", self.producers).chain(numbered("reader", self.reads));
        all.chain(numbered("member", self.members)).chain(["operator".into(), "replicas".into()]).collect()
    }

    pub fn meta(&self) -> Meta {
        Meta {
            format: 1,
            run: self.run(),
            keys: (0..self.keys).map(|key| format!("made-up/{key}")).collect(),
            finished: true,
            seed: self.seed,
            command: format!("logcheck generate --seed {} --sends {}", self.seed, self.sends),
            promises: Promises { idempotent: true, linearizable_fetch: true, ..Promises::default() },
            expects: Expects { replicas: self.replicas, ..Expects::default() },
            ..Meta::default()
        }
    }

    /// Something must have been done to the cluster, or the run would prove nothing.
    pub fn nemesis(&self) -> Vec<Line> {
        let (fault, targets, led) = ("made-up".to_string(), vec!["n1".into()], vec!["made-up/0".into()]);
        vec![Line::Start(Fault { at: 1, fault, targets, outcome: Done::Installed, led })]
    }

    fn run(&self) -> u32 {
        self.seed as u32
    }

    /// Writes a history to a directory that does not exist.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let recorder = Recorder::create(dir, self.run())?;
        let workers: io::Result<Vec<_>> = self.workers().iter().map(|name| recorder.worker(name)).collect();
        let mut workers = workers?;
        self.run_into(&mut |worker, event| workers[worker].put(&event))?;
        workers.into_iter().try_for_each(|worker| worker.finish())?;
        self.nemesis().iter().try_for_each(|line| recorder.nemesis(line))?;
        recorder.finish(&self.meta())
    }

    /// Makes a history in memory: the events of each worker.
    pub fn events(&self) -> Vec<Vec<Event>> {
        let mut workers = vec![vec![]; self.workers().len()];
        let put = self.run_into(&mut |worker, event| {
            workers[worker].push(event);
            Ok(())
        });
        put.expect("memory takes everything");
        workers
    }

    fn run_into(&self, sink: &mut Sink) -> io::Result<()> {
        let mut world = World::new(self, sink);
        let mut clients = Clients::new(self);
        while world.left > 0 || clients.producers.iter().any(Producer::is_busy) {
            clients.turn(&mut world)?;
        }
        world.phase = Phase::Final;
        // Each reader reads on until it has everything, then once more; so does the group.
        while !clients.are_done(&world) {
            clients.turn(&mut world)?;
        }
        clients.finish(&mut world)?;
        if self.replicas { world.log.dump(&mut world.recording, world.last_worker) } else { Ok(()) }
    }
}

/// Where events go, and what time it is.
pub(crate) struct Recording<'a> {
    sink: &'a mut Sink<'a>,
    at: u64,
}

impl Recording<'_> {
    pub fn put(&mut self, worker: usize, process: u32, op: u64, phase: Phase, body: Body) -> io::Result<()> {
        (self.sink)(worker, Event { at: self.at, process, op, phase, body })
    }
}

/// What all clients share.
pub(crate) struct World<'a> {
    pub recording: Recording<'a>,
    pub random: Rng,
    pub log: Log,
    pub phase: Phase,
    /// Sends that are not begun yet.
    pub left: u64,
    /// Of how many, one.
    pub unknown_in: u64,
    pub failed_in: u64,
    pub rebalance_in: u64,
    pub poll_records: u64,
    next_value: u64,
    next_op: u64,
    last_worker: usize,
}

impl<'a> World<'a> {
    fn new(plan: &Plan, sink: &'a mut Sink<'a>) -> World<'a> {
        World {
            recording: Recording { sink, at: 1_000 },
            random: Rng::with_seed(plan.seed),
            log: Log::new(plan.keys),
            phase: Phase::Main,
            left: plan.sends,
            unknown_in: plan.unknown_in,
            failed_in: plan.failed_in,
            rebalance_in: plan.rebalance_in,
            poll_records: plan.poll_records.max(1),
            next_value: 0,
            next_op: 0,
            last_worker: plan.workers().len() - 1,
        }
    }

    /// Once in `times`; never if that is 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.random.u64(..times) == 0
    }

    /// A moment later.
    pub fn tick(&mut self) {
        self.recording.at += 1 + self.random.u64(..2_000);
    }

    pub fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value - 1
    }

    pub fn op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    pub fn put(&mut self, worker: usize, process: u32, op: u64, body: Body) -> io::Result<()> {
        self.recording.put(worker, process, op, self.phase, body)
    }
}

struct Clients {
    producers: Vec<Producer>,
    readers: Vec<Reader>,
    group: Option<Group>,
    operator: Operator,
}

impl Clients {
    fn new(plan: &Plan) -> Clients {
        let mut worker = 0;
        let mut next = || {
            worker += 1;
            worker - 1
        };
        let producers = (0..plan.producers.max(1)).map(|_| Producer::new(next(), plan.keys)).collect();
        // Every other one names the positions that it fetches from.
        let readers = (0..plan.reads).map(|n| Reader::new(next(), plan.keys, n % 2 == 1)).collect();
        let members: Vec<usize> = (0..plan.members).map(|_| next()).collect();
        let group = (!members.is_empty()).then(|| Group::new(members, plan.keys));
        Clients { producers, readers, group, operator: Operator::new(next()) }
    }

    /// Somebody does something.
    fn turn(&mut self, world: &mut World) -> io::Result<()> {
        world.tick();
        match world.random.u64(..64) {
            0..40 => {
                let at = world.random.usize(..self.producers.len());
                self.producers[at].turn(world)
            }
            40..54 if !self.readers.is_empty() => {
                let at = world.random.usize(..self.readers.len());
                self.readers[at].turn(world)
            }
            54..63 => self.group.as_mut().map_or(Ok(()), |group| group.turn(world)),
            63 => self.operator.turn(world),
            _ => Ok(()),
        }
    }

    fn are_done(&self, world: &World) -> bool {
        self.readers.iter().all(|reader| reader.is_done(world)) && self.group.as_ref().is_none_or(|g| g.is_done(world))
    }

    fn finish(&mut self, world: &mut World) -> io::Result<()> {
        self.readers.iter_mut().try_for_each(|reader| reader.finish(world))?;
        self.group.iter_mut().try_for_each(|group| group.finish(world))?;
        self.operator.finish(world)
    }
}
